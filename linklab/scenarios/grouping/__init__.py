"""grouping: one change to many network interfaces, one by one and as a group.

The experiment of "Network Interface Grouping in the Linux Kernel" (Dogaru,
Purdila, Tapus, ICNS 2011).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.agent.replies import Measure, NotificationCount, SyscallCount
from linklab.errors import GuestIncomplete, WrongState
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.grouping.change import CHANGES, FIRST_NUMBER, Change, Operation
from linklab.scenarios.scenario import (
    GUEST,
    IP,
    Claim,
    Hosts,
    Metrics,
    Parameter,
    Reference,
    Scenario,
    Slower,
    measured,
)

if TYPE_CHECKING:
    from linklab.scenarios.grouping.links import Links

__all__ = ["Grouping"]

ARMS = {
    "group": "one `ip link set group` for all: one process, one request (the paper's Group)",
    "netlink": "one process and one socket, a netlink message for each interface",
    "batch": "one `ip -batch`, a line for each interface",
    "process": "one `ip link set` process for each interface (the paper's No group)",
    "dump": "as `process`, each dumping all links first, as `ip` did in 2011",
}
_IMPOSSIBLE = {
    ("group", "create"): "a group has no members before they are created",
    ("group", "group"): (
        "in a request IFLA_GROUP selects the group, so it cannot also be what changes"
    ),
}

# Memory, measured with Linux 6.12 and sysfs: 37 KiB for an interface that is
# down, 41 for one that is up (53 with Debian's config), of which some are per
# CPU; the kernel and the image take less than 64 MiB (Debian's 80).  Rounded
# up: too little ends in an OOM kill.
_BASE_MIB = 96
_LINK_KIB = 56
_LINK_KIB_PER_CPU = 4

# A bound on one interface's share of an operation, in seconds, several times
# what a loaded host took: for deadlines only, never for results.
_BASE_LIMIT = 60.0
_PER_LINK, _PER_PROCESS, _PER_DUMPED_LINK = 0.02, 0.1, 0.0001
_EMULATED = 5  # times

LISTENER_BUFFER = 1 << 20
"""The receive buffer that a listener asks for, in bytes, as `ip monitor` does
(rcvbuf in iproute2's lib/libnetlink.c); net.core.rmem_max bounds what it gets."""
_MOST_LISTENERS = 256  # what the agent takes
WATCHED_ROW = 9  # processes
_WATCHED_LIMIT = 10  # times the limit of the same work when nobody watches
_NO_GROUP = 0xFFFF_FFFE  # one that no interface is in
_NO_NOTIFICATIONS = NotificationCount(0, 0)
_MESSAGES = Metric("messages", zero=True, short="netlink messages")


class Grouping(Scenario):
    """See above. A guest has its interfaces for all of its trials."""

    name = "grouping"
    about = "one change to many network interfaces: by their group, one by one, and between"
    shape = Shape(
        axes=(
            Axis("operation", ("mtu",), among=tuple(map(str, Operation)), alias="operations"),
            Axis(
                "arm",
                ("process", "group"),
                among=("group", "process", "netlink", "batch", "dump"),
                alias="arms",
                help="; ".join(f"{arm}: {text}" for arm, text in ARMS.items()),
            ),
            Axis(
                "interfaces",
                (128, 256, 512, 1024, 2048),
                title="interfaces",
                most=32768,
                per_guest=True,
                alias="counts",
            ),
        ),
        metrics=(
            Metric("seconds", "s", title="seconds in the guest", short="time"),
            Metric("user_seconds", "s", zero=True, short="user"),
            Metric("system_seconds", "s", zero=True, short="system"),
            Metric("context_switches", zero=True, short="context switches"),
            Metric("processes", short="processes"),
            _MESSAGES,
            Metric("notifications", better=Better.NEITHER, zero=True, short="messages heard"),
            Metric("notifications_lost", zero=True, short="lost"),
        ),
        rows="interfaces",
        columns="arm",
        text="{operation} by {arm}, {interfaces} interfaces",
        versus=("process", "group"),
        counted=(_MESSAGES, Metric("system_calls", zero=True, short="system calls")),
        kernels=(("nosysfs", "without sysfs"), ("sysfs", "with sysfs")),
    )
    parameters = (
        Parameter(
            "listeners",
            0,
            "processes in the guest that listen for link changes during the operation",
            most=_MOST_LISTENERS,
        ),
    )
    compared = {"operation": ("mtu",), "arm": ("group",), "interfaces": (512,)}
    judged = {"operation": tuple(Operation), "arm": ("group",), "interfaces": (128,)}
    profiled = {"operation": ("mtu",), "arm": ("process",), "interfaces": (1024,)}
    weighs_iso = True
    needs = Path(__file__).with_name("needs.toml")
    slower = Slower(
        Path(__file__).with_name("slow-group.patch"),
        "linklab_group_loops",
        Cell({"operation": "mtu", "arm": "group", "interfaces": 512}),
    )

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why an arm cannot do an operation."""
        return _IMPOSSIBLE.get((str(cell["arm"]), str(cell["operation"])), "")

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for so many interfaces."""
        kib = int(cell["interfaces"]) * (_LINK_KIB + _LINK_KIB_PER_CPU * cpus)
        return _BASE_MIB - (-kib // 1024)

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for one operation, or for a step of upkeep."""
        count, arm = int(cell["interfaces"]), cell.get("arm")
        limit = count * _PER_LINK
        if arm in ("process", "dump"):
            limit += count * _PER_PROCESS
        if arm == "dump":
            limit += count * count * _PER_DUMPED_LINK
        return _BASE_LIMIT + limit * (_EMULATED if emulated else 1)

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """A process for each interface takes some fifty times as long as a message."""
        count = int(cell["interfaces"])
        return 50 + (count if cell.get("arm") in ("process", "dump") else count // 50)

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        from linklab.scenarios.grouping import links  # noqa: F401

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Make the interfaces. They are needed anyway, and the paper compares what that takes."""
        from linklab.scenarios.grouping.links import Links

        host = hosts[GUEST]
        self.links: Links = Links(host, int(setup["interfaces"]))
        made = self.links.bring_to(CHANGES[Operation.MTU].before)
        assert made is not None
        cell = Cell({"operation": "create", "arm": "netlink", **setup})
        yield cell, self._metrics(made)

    def warm_up(self, hosts: Hosts) -> None:
        """Start `ip` for a change of no interface: the first start reads it into memory.

        That takes several times as long as a change of 128 interfaces by their
        group, and would be charged to whichever arm happens to come first. What
        the kernel answers is no trial's business.
        """
        host = hosts[GUEST]
        words = [IP, "link", "set", "group", str(_NO_GROUP), "mtu", "1500"]
        with suppress(GuestIncomplete):  # the arm `netlink` needs no program
            host.agent.run(words, host.until())

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Bring the interfaces into the state before the operation."""
        self._prepare(self.links, cell)

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Do one operation by one arm, while the listeners listen."""
        listeners = int(self.given["listeners"])
        if not listeners:
            return self._metrics(_perform(self.links, cell))
        from linklab.scenarios.grouping.messages import RTNLGRP_LINK

        host = hosts[GUEST]
        host.agent.listen(listeners, RTNLGRP_LINK, host.until(), buffer=LISTENER_BUFFER)
        measure = _perform(self.links, cell)
        counts = host.agent.notification_counts(host.until())
        heard = NotificationCount(
            sum(count.received for count in counts), sum(count.lost for count in counts)
        )
        return self._metrics(measure, heard)

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Read every interface back."""
        try:
            self._check(self.links, cell)
        except WrongState as wrong:
            wrong.message = f"after `{cell['operation']}` with arm `{cell['arm']}`: {wrong.message}"
            raise

    def count(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Count what one operation by one arm asks of the kernel.

        The work is done once more, watched, which takes several times as long.
        Of a long row of processes, one for each interface, the first few are
        watched, and all others taken to do what those behind the first did on
        average: where a program's memory happens to lie makes a difference of
        a few system calls.
        """
        count = self.links.count
        if cell["arm"] not in ("process", "dump") or count <= WATCHED_ROW:
            counted = self._watched(cell, count)
        else:
            one, row = (self._watched(cell, each) for each in (1, WATCHED_ROW))
            counted = one + (row - one) * (count - 1) // (WATCHED_ROW - 1)
        return {"system_calls": counted.system_calls, "messages": counted.messages}

    def _watched(self, cell: Cell, count: int) -> SyscallCount:
        self._prepare(self.links, cell)
        with self.links.host.traced() as (host, counted):
            _perform(self.links.seen_by(host, count, _WATCHED_LIMIT), cell)
            found = counted()
        if count == self.links.count:
            self._check(self.links, cell)
        else:
            self.links.scrap()
        return found

    @staticmethod
    def _prepare(links: Links, cell: Cell) -> None:
        change = _change(cell)
        links.bring_to(change.before)
        if cell["arm"] == "batch":
            words = " ".join(change.ip_words())
            numbers = range(FIRST_NUMBER, FIRST_NUMBER + links.count)
            links.host.write_batch(words.replace("{}", str(number)) for number in numbers)

    @staticmethod
    def _check(links: Links, cell: Cell) -> None:
        change = _change(cell)
        links.check(change.after, names=change.operation is Operation.CREATE)

    @staticmethod
    def _metrics(measure: Measure, heard: NotificationCount = _NO_NOTIFICATIONS) -> Metrics:
        told = {"notifications": heard.received, "notifications_lost": heard.lost}
        return {**measured(measure), **told}

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return the paper's claims, each with our figure."""
        from linklab.scenarios.grouping.paper import claims

        return claims(run)

    @classmethod
    def reference(cls) -> Reference:
        """Return the paper's table."""
        from linklab.scenarios.grouping.paper import REFERENCE

        return REFERENCE


def _change(cell: Cell) -> Change:
    return CHANGES[Operation(str(cell["operation"]))]


def _perform(links: Links, cell: Cell) -> Measure:
    """Do the change of a cell. The state afterwards is not checked here."""
    host, change, arm = links.host, _change(cell), cell["arm"]
    match arm:
        case "group":
            return _of(host.ip(" ".join(change.ip_group_words()), cell), 1)
        case "netlink":
            return links.each(change, host.until(cell))
        case "batch":
            return _of(host.ip_batch(cell), links.count)
        case _:
            dumps = arm == "dump"
            words = change.ip_words()
            took = host.ip_each(words, FIRST_NUMBER, links.count, cell, dump_first=dumps)
            return _of(took, links.count * (2 if dumps else 1))


def _of(measure: Measure, messages: int) -> Measure:
    """Return the measure of programs, with the netlink messages that they were asked for."""
    return replace(measure, messages=messages)
