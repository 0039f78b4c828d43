"""tc: what filters cost by their number, and queues by their classes and flows.

`b` sends on to `c` what comes from `a`. Filters are gone through where packets come in. Queues
are filled first, behind a qdisc that lets nothing out, and then emptied, so that all classes
and flows are there at once: a packet's cost is that of both ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from linklab.errors import WrongState
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape, Value
from linklab.scenarios.drop.flood import (
    OTHERS,
    PACKETS,
    Flooded,
    Hook,
    number_of,
    polls,
    rate_metrics,
    rate_of,
    took,
)
from linklab.scenarios.drop.programs import Stream, address_at, classifying, dropping_timed
from linklab.scenarios.drop.rungs import Place, batched
from linklab.scenarios.scenario import Claim, Finding, Hosts, Metrics, Parameter

if TYPE_CHECKING:
    from linklab.results.figures import Figures

__all__ = ["Tc"]

Lines = Callable[[Place, int], Iterator[str]]
_MOST = 10_000
_HELD = 50_000  # packets in a queue: 200 MiB
_QUEUE = 2  # the handle of what is below the gate
_SHUT = "rate 8bit burst 1600 limit 1g"  # some packets come through, then one in a minute
_OPEN = "rate 100gbit burst 100m limit 1g"
_ROOM = 10_000_000  # packets: no queue is ever full


def _each(count: int) -> Iterator[tuple[int, str]]:
    return ((number + 1, str(address_at(number))) for number in range(count))


def _filters(words: str, *, apart: bool = False) -> Lines:
    """Return the filters of addresses: of one priority, or one behind the other."""

    def lines(place: Place, count: int) -> Iterator[str]:
        for number, address in _each(count):
            yield _filter(place, number if apart else 1, words.replace("ADDRESS", address))

    return lines


def _filter(place: Place, priority: int, words: str, action: bool = True) -> str:
    onward = f" action mirred egress redirect dev {place.far}" if action else ""
    return f"filter add dev {place.near} ingress pref {priority} protocol ip {words}{onward}"


def _u32_in_a_hash(place: Place, count: int) -> Iterator[str]:
    """Yield the filters below a table of 256 by the last byte of the source, and what leads there.

    As the Linux Advanced Routing & Traffic Control HOWTO, 12.4, has it.
    """
    yield _filter(place, 1, "handle 1: u32 divisor 256", action=False)
    for _, address in _each(count):
        last = int(address.rpartition(".")[2])
        yield _filter(place, 1, f"u32 ht 1:{last:x}: match ip src {address}")
    to = "u32 ht 800:: match u32 0 0 hashkey mask 0x000000ff at 12 link 1:"
    yield _filter(place, 1, to, action=False)


def _programs(place: Place, count: int) -> Iterator[str]:
    """Yield a filter with a program of its own for each address: classic BPF, from Ethernet on."""
    for number in range(count):
        code = f"4,32 0 0 26,21 0 1 {int(address_at(number))},6 0 0 4294967295,6 0 0 0"
        yield _filter(place, 1, f"bpf bytecode '{code}'")


def _all_match(place: Place, count: int) -> Iterator[str]:
    for number in range(1, count):
        yield _filter(place, number, "matchall action continue", action=False)
    yield _filter(place, count, "matchall")


def _htb(place: Place, count: int) -> Iterator[str]:
    yield _queue(place, "htb")
    for number in range(1, count + 1):
        of = f"dev {place.far} parent {_QUEUE}:"
        yield f"class add {of} classid {_QUEUE}:{number:x} htb rate 100gbit quantum 1514"
        yield f"qdisc add {of}{number:x} pfifo limit {_ROOM}"


def _queue(place: Place, words: str) -> str:
    return f"qdisc add dev {place.far} parent 1:1 handle {_QUEUE}: {words}"


def _one(words: str) -> Lines:
    return lambda place, _count: iter([_queue(place, words)])


NONE = "none"
FILTERS: Mapping[str, Lines] = {
    "matchall": _all_match,
    "flower": _filters("flower src_ip ADDRESS"),
    "flower-list": _filters("flower src_ip ADDRESS", apart=True),
    "u32": _filters("u32 match ip src ADDRESS"),
    "u32-hash": _u32_in_a_hash,
    "bpf": _programs,
}
QUEUES: Mapping[str, Lines] = {
    "pfifo": _one(f"pfifo limit {_ROOM}"),
    "htb": _htb,
    # Nothing waits too long: CoDel would drop.
    "fq_codel": _one(f"fq_codel limit {_ROOM} memory_limit 1g target 10s interval 100s"),
    "cake": _one("cake unlimited memlimit 1g rtt 1000s"),
}
ARMS = (NONE, *FILTERS, *QUEUES)


class Tc(Flooded):
    """See above."""

    name = "tc"
    about = "filters of tc by their number; htb, fq_codel and cake by their classes and flows"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ARMS,
                among=ARMS,
                help="none: packets are sent on, and nothing else; filters: matchall (each goes "
                "on to the next), flower and u32 in a hash and in a list, bpf; queues: pfifo, a "
                "class of htb for each address, fq_codel, cake",
            ),
            Axis(
                "number", (1, 10, 100, 1000), most=_MOST,
                help="of filters, or of addresses whose packets wait in a queue",
            ),
        ),
        metrics=(
            *rate_metrics("`none`"),
            Metric("emptying", "ns", zero=True, short="of it, emptying"),
            Metric("sent", better=Better.NEITHER, short="sent"),
            Metric("passed", better=Better.NEITHER, short="passed"),
        ),
        rows="arm",
        columns="number",
        text="{arm}, {number}",
    )  # fmt: skip
    parameters = (
        PACKETS,
        Parameter("flows", 1, "from how many ports each address sends", 1, 60_000),
    )
    needs = IMAGES / "drop" / "tc.toml"
    compared: ClassVar = {"arm": ("flower", "u32-hash", "htb", "fq_codel"), "number": (100,)}
    judged: ClassVar = {"number": (10,)}
    profiled: ClassVar = {"arm": ("fq_codel",), "number": (100,)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why there is no number of nothing."""
        alone = cell["arm"] != NONE or cell.number("number") == 1
        return "" if alone else f"{NONE} has neither filters nor classes: number=1"

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return why a queue cannot hold all packets: each takes a page."""
        held = cell["arm"] not in QUEUES or int(given["packets"]) <= _HELD
        return "" if held else f"a queue holds {_HELD} packets at most"

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: each packet may be held against each filter."""
        return super().limit(cell, emulated=emulated) + float(cell.get("number", 0)) * 0.1

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Measure the unit."""
        super().set_up(hosts, setup)
        unit = Cell({"arm": NONE, "number": 1})
        self.prepare(hosts, unit)
        self.unit = self._flood(hosts, unit)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Make the hosts anew, with the filters or the queue on the one in the middle."""
        middle, arm, count = self.lay(hosts), str(cell["arm"]), int(cell["number"])
        lines = [f"qdisc add dev {self.place.near} clsact"]
        if arm in QUEUES:
            lines.append(f"qdisc add dev {self.place.far} root handle 1: tbf {_SHUT}")
        made = {**FILTERS, **QUEUES}.get(arm)
        lines += made(self.place, count) if made else ()
        self.tell(middle, batched(lines), cell)

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and empty the queue."""
        ns = self._flood(hosts, cell)
        return {
            **rate_of(ns, self.unit),
            "emptying": self.emptying,
            "sent": self.sent,
            "passed": self.passed,
        }

    def _flood(self, hosts: Hosts, cell: Cell) -> float:
        """Return the ns that a packet took behind the one who sends it."""
        middle, arm = hosts[self.b], str(cell["arm"])
        stream = Stream(polls(self.given), int(cell["number"]), int(self.given["flows"]))
        program = dropping_timed(stream.window)
        hooks = [Hook("xdp", self.c, self.last.interface, program)]
        words: list[str] = []
        if arm not in FILTERS:
            onward = classifying(number_of(middle, self.place.far), _QUEUE)
            hooks.append(Hook("tc", self.b, self.place.near, onward))
        if arm in QUEUES:
            gate = f"/bin/tc qdisc change dev {self.place.far} root handle 1: tbf {_OPEN}\n"
            words = ["then", self.write(middle, "then", gate.encode())]
        said = self.flood(hosts, cell, stream, hooks, beyond=True, words=words)
        self.sent, self.passed = said.number("sent"), said.number("hook0")
        self.emptying = said.number("hook0_ns") / stream.timed if arm in QUEUES else 0.0
        asked = {
            **dict.fromkeys(FILTERS, (f"filter show dev {self.place.near} ingress",)),
            **dict.fromkeys(QUEUES, (f"qdisc show dev {self.place.far}",)),
            # A long list of these filters lacks some: `mall_walk` in net/sched/cls_matchall.c
            # takes one that did not fit into a message for told.
            "matchall": ("actions list action gact", "actions list action mirred"),
        }.get(arm, ())
        told = (middle.printed(["/bin/tc", "-s", *words.split()], cell) for words in asked)
        self.said = "".join(told)
        return took(said, stream) + self.emptying

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what passed, and what filters and queues say of it, against what was sent."""
        arm, by = str(cell["arm"]), self.sent
        met = [int(each) for each in re.findall(r"Sent \d+ bytes (\d+) pkt", self.said)]
        lost = sum(int(each) for each in re.findall(r"\(dropped (\d+)", self.said))
        if arm in FILTERS:  # others are on no list, and each of matchall meets all
            others = OTHERS if arm != "matchall" else 0
            by = (self.sent - others) * (cell.number("number") if arm == "matchall" else 1)
        counted = sum(met) if arm in FILTERS else met[0] if met else self.sent
        if self.passed != self.sent or counted != by or lost:
            raise WrongState(
                f"{arm}: of {self.sent:.0f} packets {self.passed:.0f} came to {self.c}; "
                f"{counted:.0f} were counted in between, {by:.0f} expected, and {lost} were lost"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what is said of filters and queues, each with our figures."""
        from linklab.results.figures import Figures  # brings numpy

        figures = Figures(run)
        return [_growth(figures, *each) for each in _CLAIMS]


# What is said to grow with the number, and what not: at most by a half from the least to the
# most, or at least by half as much as the number. Written before the first run.
_LARTC = "LARTC HOWTO, 12.4"
_CLAIMS = (
    ("u32 in one list costs the more the more filters there are", _LARTC, "u32", True),
    ("u32 in a hash does not", _LARTC, "u32-hash", False),
    ("flower does not, of one mask: a hash", "tc-flower, cls_flower.c", "flower", False),
    ("programs of BPF do, one for each address", "cls_bpf.c: a list", "bpf", True),
    ("fq_codel costs the same for any number of flows", "RFC 8290, 1.3: O(1)", "fq_codel", False),
    ("cake does, too", "Piece of CAKE, 2018: eight-way hashing", "cake", False),
    ("htb finds a class by its number in a hash", "sch_htb.c: qdisc_class_hash", "htb", False),
)


def _growth(figures: Figures, text: str, theirs: str, arm: str, grows: bool) -> Claim:
    numbers = sorted({s.cell.number("number") for s in figures.run.samples if s.cell["arm"] == arm})
    few, many = (numbers[0], numbers[-1]) if numbers else (1, 1)
    costs = [
        figures.by_kernel(Cell({"arm": arm, "number": number}), "instructions")
        for number in (few, many)
    ]
    kernels = [kernel for kernel in costs[0] if kernel in costs[1] and costs[0][kernel] > 0]
    if many < 10 * few or not kernels:
        why = f"needs {arm} with numbers of which one is ten times the other"
        return Claim.unmeasured(text, theirs, why)
    ratios = {kernel: costs[1][kernel] / costs[0][kernel] for kernel in kernels}
    ours = "; ".join(
        f"{kernel}: {costs[0][kernel]:.0f} ns above none with {few:.0f}, "
        f"{costs[1][kernel]:.0f} with {many:.0f}"
        for kernel in kernels
    )
    holds = [ratio > 1.5 if grows else ratio <= 1.5 for ratio in ratios.values()]
    return Claim(text, theirs, ours, Finding.of(holds))
