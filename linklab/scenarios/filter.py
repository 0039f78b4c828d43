"""filter: packets through rules that ask for the group of an interface.

One rule of nftables for a group, one masked rule for a tree of groups (`linklab-group mask`),
also of iptables, or one rule for each interface. The place, the sender, and how a packet's
cost is told from the sender's are those of `drop`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.drop import Drop
from linklab.scenarios.drop.flood import Flooded, rate_metrics, rate_of
from linklab.scenarios.drop.rungs import RUNGS
from linklab.scenarios.scenario import GROUPS, Claim, Host, Hosts, Metrics

__all__ = ["Filter"]

_RULES, _TREE = "/tmp/rules", "/tmp/tree"
_GROUP, _ROOT, _LEAVES = 42, "customers", 16
_SENDING = {"addresses": 1, "held": "rules", "conntrack": "off"}
_EMPTY = Cell({"arm": "empty"} | _SENDING)
_MASKED = {"tree": "nft", "iptables-tree": "iptables"}  # as `linklab-group mask` calls its rules
_OTHER = "other"  # a group beside the tree, which the mask must not fit


class Filter(Drop):
    """See above. Of the interfaces one receives, and its rule is in the middle of the row."""

    name = "filter"
    about = "packets through a filter: a rule for a group, for a tree, for each interface"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ("each", "iptables-tree", "tree", "group"),
                among=("group", "tree", "iptables-tree", "each"),
                help="group: `iifgroup 42`; tree: `iifgroup & mask == value`; iptables-tree: "
                "`-m devgroup --src-group value/mask`; each: `iif` of each interface in a rule "
                "of its own",
            ),
            Axis("interfaces", (16, 64, 256, 1024), "interfaces", least=_LEAVES, most=4096),
        ),
        metrics=(
            *rate_metrics("`drop`'s `empty`"),
            Metric("rules", better=Better.NEITHER, short="rules"),
        ),
        rows="interfaces",
        columns="arm",
        text="{arm}, {interfaces} interfaces",
        versus=("group", "each"),
    )  # fmt: skip
    fragment = (*Flooded.fragment, IMAGES / "drop" / "filter.config")
    needs = IMAGES / "drop" / "filter.toml"
    compared: ClassVar = {"arm": ("group",), "interfaces": (64,)}
    judged: ClassVar = {"interfaces": (16,)}
    profiled: ClassVar = {"arm": ("each",), "interfaces": (1024,)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """All cells can be measured."""
        return ""

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the interfaces."""
        return 512 + int(cell["interfaces"]) // 10

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: each packet may be held against each rule."""
        return 600 + float(cell.get("interfaces", 0)) * 0.5

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """Interfaces and rules are made anew for each trial."""
        return 50 + int(cell.get("interfaces", 0)) // 2

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Make the hosts anew, the interfaces on the one in the middle, and the rules."""
        super().prepare(hosts, _EMPTY)
        middle, count = hosts[self.b], int(cell["interfaces"])
        self.names = [f"d{n}" for n in range(count - 1)]
        self.names.insert(count // 2, self.place.near)
        groups = self._groups(middle)
        self.groups = [
            groups[f"leaf{n * _LEAVES // count}"] if cell["arm"] in _MASKED else _GROUP
            for n in range(count)
        ]
        middle.write_batch(self._lines(groups[_OTHER]))
        middle.ip_batch()
        self.rules = list(self._matches(middle, cell))
        if cell["arm"] == "iptables-tree":
            lines = ["*raw", *(f"-A PREROUTING {match} -j DROP" for match in self.rules), "COMMIT"]
            command = ["/bin/iptables-legacy-restore", _RULES]
        else:
            rules = (f"{match} counter drop" for match in self.rules)
            chain = "type filter hook prerouting priority -300;"
            lines = ["table ip ladder {", "chain drops {", chain, *rules, "}", "}"]
            command = ["/bin/nft", "-f", _RULES]
        middle.write(_RULES, "".join(f"{line}\n" for line in lines).encode())
        middle.run(command, cell)

    def _groups(self, middle: Host) -> dict[str, int]:
        """Let the grouping agent number the groups of a tree, and write down their names."""
        leaves = [f"leaf{n}" for n in range(_LEAVES)]
        middle.write(_TREE, f"{_ROOT}: {' '.join(leaves)}\n{_OTHER}:\n".encode())
        lines = middle.printed([GROUPS, "--tree", _TREE, "encode"])
        middle.run(["/bin/mkdir", "-p", "/etc/iproute2/group.d"])
        middle.write("/etc/iproute2/group.d/filter.conf", lines.encode())
        pairs = (line.split() for line in lines.splitlines())
        return {name: int(number, 16) for number, name in pairs}

    def _lines(self, other: int) -> Iterator[str]:
        for name, group in zip(self.names, self.groups, strict=True):
            if name == self.place.near:
                yield f"link set dev {name} group {group}"
            else:
                yield f"link add {name} group {group} type dummy"
        yield f"link add beside group {other} type dummy"

    def _matches(self, middle: Host, cell: Cell) -> Iterator[str]:
        if cell["arm"] == "each":
            yield from (f'meta iif "{name}"' for name in self.names)
        elif cell["arm"] == "group":
            yield f"meta iifgroup {_GROUP}"
        else:
            said = middle.printed([GROUPS, "--tree", _TREE, "mask", _ROOT])
            found = re.search(rf"^{_MASKED[str(cell['arm'])]}: (.*)$", said, re.MULTILINE)
            if found is None:
                raise LabError(f"linklab-group mask said no rule: {said}")
            yield found[1]

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and count what became of it."""
        took = self._flood(hosts, Cell({"arm": _rung(cell)} | _SENDING))
        return {
            **rate_of(took, self.empty),
            "rules": len(self.rules),
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """See that one rule dropped all, and that each interface is in its group."""
        middle = hosts[self.b]
        (tool,) = RUNGS[_rung(cell)].tools
        counts = re.findall(tool.pattern, middle.printed(tool.asked.split()))
        hit = len(counts) // 2
        wanted = [f"{self.sent:.0f}" if n == hit else "0" for n in range(len(self.rules))]
        if counts != wanted or self.passed:
            raise WrongState(
                f"of {self.sent:.0f} packets the rule in the middle dropped {counts[hit]}, all "
                f"{self.dropped:.0f}; {self.passed:.0f} passed"
            )
        said = middle.printed([GROUPS, "--json", "list"]).splitlines()
        known = {link["ifname"]: link["number"] for link in map(json.loads, said)}
        for name, group in zip(self.names, self.groups, strict=True):
            if known.get(name) != group:
                raise WrongState(f"{name} has group {known.get(name)} instead of {group}")

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Nobody claims anything of these."""
        return ()


def _rung(cell: Cell) -> str:
    """Return the rung of `drop` that is at the same place."""
    return "iptables-raw" if cell["arm"] == "iptables-tree" else "nft-raw"
