"""tree: a change to all devices below a tree of groups, by a request for each leaf group.

The 2011 paper thought of groups that contain groups, and feared that the kernel would need
a structure for them. Here the tree is a file of the grouping agent's, and a group stays a
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from linklab.agent.replies import Measure
from linklab.numbers import ratio_text
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.grouping.change import CHANGES, NEW, Operation
from linklab.scenarios.grouping.interfaces import OnInterfaces
from linklab.scenarios.scenario import (
    GROUPS,
    GUEST,
    Claim,
    Finding,
    Host,
    Hosts,
    Metrics,
    measured,
)

if TYPE_CHECKING:
    from linklab.scenarios.grouping.links import Links

__all__ = ["Tree"]

_ROOT, _FIRST_LEAF, _FLAT = 999, 1000, 42
_TREE = "/tmp/tree"
_MTU = CHANGES[Operation.MTU]
_CHEAP = 2.0  # times one flat group: a tree that costs no more needs no place in the kernel
_WATCHED_LIMIT = 10  # times the limit of the same work when nobody watches


class Tree(OnInterfaces):
    """See above. A guest has its interfaces for all of its trials, in groups anew for each."""

    name = "tree"
    about = "one change to a tree of groups: against one flat group, and one by one"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ("each", "flat", "tree"),
                among=("tree", "flat", "each"),
                help="tree: linklab-group sets the root of the tree; flat: it sets one group "
                "that has all devices; each: a netlink message for each device",
            ),
            Axis("leaves", (1, 4, 16, 64), "leaf groups", most=1024),
            Axis("interfaces", (2048,), "interfaces", most=32768, per_guest=True),
        ),
        metrics=(
            Metric("seconds", "s", title="seconds in the guest", short="time"),
            Metric("user_seconds", "s", zero=True, short="user"),
            Metric("system_seconds", "s", zero=True, short="system"),
        ),
        rows="leaves",
        columns="arm",
        text="{arm}, {leaves} leaf groups, {interfaces} interfaces",
        versus=("each", "tree"),
        counted=(
            Metric("messages", zero=True, short="netlink messages"),
            Metric("system_calls", zero=True, short="system calls"),
        ),
        kernels=Grouping.shape.kernels,
    )
    compared: ClassVar = {"arm": ("tree",), "leaves": (16,), "interfaces": (512,)}
    judged: ClassVar = {"arm": ("tree",), "leaves": (4,), "interfaces": (128,)}
    profiled: ClassVar = {"arm": ("tree",), "leaves": (64,), "interfaces": (2048,)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why some leaves would be empty."""
        return "a leaf has no device" if cell.number("leaves") > cell.number("interfaces") else ""

    def warm_up(self, hosts: Hosts) -> None:
        """Start the program for a group that has nobody: the first start reads it into memory."""
        hosts[GUEST].run([GROUPS, "set", str(_ROOT), "mtu", "1500"])

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Put the interfaces into the arm's groups, and have the MTU be what it was."""
        leaves = int(cell["leaves"])
        groups = _groups(cell)
        self.links.each(replace(_MTU, before=_MTU.after, after=_MTU.before), hosts[GUEST].until())
        self.links.regroup(groups)
        names = " ".join(str(_FIRST_LEAF + number) for number in range(leaves))
        hosts[GUEST].write(_TREE, f"{_ROOT}: {names}\n".encode())
        self.links.check_parts([replace(NEW, group=group) for group in groups])

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Change the MTU of all."""
        metrics = measured(self._perform(hosts[GUEST], self.links, cell))
        return {name: metrics[name] for name in ("seconds", "user_seconds", "system_seconds")}

    @staticmethod
    def _perform(host: Host, links: Links, cell: Cell) -> Measure:
        if cell["arm"] == "each":
            return links.each(_MTU, host.until(cell))
        group = _ROOT if cell["arm"] == "tree" else _FLAT
        return host.run([GROUPS, "--tree", _TREE, "set", str(group), "mtu", "1400"], cell)

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Read every interface back."""
        self.links.check_parts([replace(NEW, mtu=1400, group=group) for group in _groups(cell)])

    def count(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Count what the change asks of the kernel, in one that is watched."""
        self.prepare(hosts, cell)
        with self.links.host.traced() as (host, counted):
            seen = self.links.seen_by(host, self.links.count, _WATCHED_LIMIT)
            self._perform(seen.host, seen, cell)
            found = counted()
        return {"messages": found.messages, "system_calls": found.system_calls}

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the paper says of trees, with our figures."""
        from linklab.results.figures import Figures

        text = "groups that contain groups would need a structure of their own in the kernel"
        theirs = "a structure in place of a field of the device (section VII)"
        figures, found = Figures(run), {}
        most = max((int(sample.cell["leaves"]) for sample in run.samples), default=0)
        for kernel in figures.kernels:
            times = [
                figures.figure(kernel, sample.cell.with_(arm=arm, leaves=most)).value
                for sample in run.samples[:1]
                for arm in ("tree", "flat")
            ]
            if len(times) == 2 and times[0] and times[1]:
                found[kernel] = times[0] / times[1]
        if not found:
            return [Claim.unmeasured(text, theirs, "needs the arms tree and flat")]
        ours = "; ".join(
            f"{kernel}: {most} leaf groups by a file cost {ratio_text(ratio)} one flat group"
            for kernel, ratio in found.items()
        )
        finding = Finding.of(ratio > _CHEAP for ratio in found.values())
        return [Claim(text, theirs, ours, finding)]


def _groups(cell: Cell) -> list[int]:
    """Return the groups that equal parts of the interfaces are in."""
    leaves = int(cell["leaves"])
    return [_FLAT if cell["arm"] != "tree" else _FIRST_LEAF + n for n in range(leaves)]
