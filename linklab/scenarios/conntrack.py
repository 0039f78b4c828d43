"""conntrack: what a connection costs who tracks it, and a table that is full.

`b` forwards from `a` to `c`, and tracks. Connections are of UDP, each from a port and an
address of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape, Value
from linklab.scenarios.drop.flood import (
    PACKETS,
    Flooded,
    Hook,
    guest_of,
    polls,
    rate_metrics,
    rate_of,
    took,
)
from linklab.scenarios.drop.programs import Stream, answering, dropping_all, passing_all
from linklab.scenarios.drop.rungs import tracks
from linklab.scenarios.scenario import Claim, Finding, Host, Hosts, Metrics, Said

__all__ = ["Conntrack"]

NONE, KNOWN, NEW, FULL, EVICTING = ARMS = ("none", "known", "new", "full", "evicting")
_LEAST, _MOST = 2000, 500_000
_PORTS = 59_999  # a prime: of fewer addresses, each packet has a pair of its own
_ALL = "/proc/sys/net/netfilter"
_COUNTERS = "/proc/net/stat/nf_conntrack"
_MAX = 1 << 20  # where the table is not to be full
_TIMEOUTS = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
_STREAM = 2.1  # s: UDP that is answered for longer than two is assured (nf_conntrack_proto_udp.c)
_EACH = 10  # connections for a bucket: of chains from 50 on none is made (nf_conntrack_core.c)
_SEARCHED = 8  # buckets for one to evict (NF_CT_EVICTION_RANGE in nf_conntrack_core.c)
_SAME = 1.1


class Conntrack(Flooded):
    """See above. A trial finds a new table of so many entries."""

    name = "conntrack"
    about = "connection tracking: new connections a second, a full table, the cost by its size"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ARMS,
                among=ARMS,
                help="none: no tracking; known: packets of the entries in turns; new: each is the "
                "first of a connection; full: the same, but the table is at nf_conntrack_max, all "
                "assured; evicting: it is, and none is",
            ),
            Axis(
                "entries", (2000, 20_000, 100_000), "entries", least=_LEAST, most=_MOST,
                help="connections in the table when packets begin to be sent",
            ),
            Axis(
                "buckets", (16_384, 65_536), "buckets", least=512, most=1 << 20,
                help="of the table's hash; each connection is in it twice, for both directions",
            ),
        ),
        metrics=(
            *rate_metrics("`none`"),
            Metric("sent", better=Better.NEITHER, short="sent"),
            Metric("passed", better=Better.NEITHER, zero=True, short="passed"),
            Metric("dropped", better=Better.NEITHER, zero=True, short="dropped"),
            Metric("evicted", better=Better.NEITHER, zero=True, short="evicted"),
            Metric("tracked", better=Better.NEITHER, zero=True, short="entries at the end"),
        ),
        rows="entries",
        columns="arm",
        text="{arm}, {entries} entries, {buckets} buckets",
    )  # fmt: skip
    parameters = (PACKETS,)
    needs = IMAGES / "drop" / "conntrack.toml"
    compared: ClassVar = {"arm": (KNOWN, NEW), "entries": (20_000,), "buckets": (65_536,)}
    judged: ClassVar = {"entries": (2000,), "buckets": (4096,)}
    profiled: ClassVar = {"arm": (NEW,), "entries": (20_000,), "buckets": (65_536,)}

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return why the table would be full where it is not to be, or its chains too long."""
        held = int(cell.number("entries")) + (int(given["packets"]) if cell["arm"] == NEW else 0)
        if held > _MAX / 2:
            return f"with the entries there would be more than {_MAX // 2} connections"
        if cell["arm"] != NONE and held > _EACH * cell.number("buckets"):
            return f"{held} connections need {-(-held // _EACH)} buckets: chains have a limit"
        if cell["arm"] == EVICTING and 2 * held * _SEARCHED < cell.number("buckets"):
            return f"one to evict is looked for in {_SEARCHED} buckets, and most have none"
        return ""

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB: an entry takes a third of a KiB, and twice as many come as packets."""
        return 512 + int(cell.number("entries")) // 1000

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: each entry is made by packets, three at most."""
        return super().limit(cell, emulated=emulated) + float(cell.get("entries", 0)) * 0.01

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Measure the unit."""
        super().set_up(hosts, setup)
        self.lay(hosts)
        stream = Stream(polls(self.given), 1, _LEAST)
        self.unit = took(self._send(hosts, Cell(), stream), stream)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Fill a new table."""
        middle, guest, arm = self.lay(hosts), guest_of(hosts[self.b]), str(cell["arm"])
        if arm == NONE:
            return
        self.tell(middle, tracks("ip"), cell)
        entries = int(cell["entries"])
        _set(guest, {"nf_conntrack_buckets": int(cell["buckets"]), "nf_conntrack_max": _MAX})
        _set(middle, dict.fromkeys(_TIMEOUTS, 100_000))
        filling = Stream.of(entries, *self._pairs(cell))
        for _ in range(2 if arm == FULL else 1):
            self._send(hosts, cell, filling, answered=arm == FULL)
            # Meanwhile the kernel is done with the namespaces of the trial before.
            guest.run(["/bin/sleep", str(_STREAM)])
        if arm in (FULL, EVICTING):
            # Not before: of a table that is full to 95 % the kernel evicts by itself
            # (`gc_worker` in net/netfilter/nf_conntrack_core.c).
            _set(guest, {"nf_conntrack_max": entries})

    def _pairs(self, cell: Cell) -> tuple[int, int]:
        """Return from how many addresses and ports as many pairs come as a trial needs."""
        needed = int(cell["entries"]) + Stream(polls(self.given)).packets
        return (1, needed) if needed <= _PORTS else (needed // _PORTS + 1, _PORTS)

    def _send(self, hosts: Hosts, cell: Cell, stream: Stream, *, answered: bool = False) -> Said:
        program = answering() if answered else dropping_all()
        hooks = [Hook("xdp", self.c, self.last.interface, program)]
        if answered:  # a veth takes what XDP sends back where it has XDP itself
            hooks.append(Hook("xdp", self.b, self.place.far, passing_all()))
        return self.flood(hosts, cell, stream, hooks, beyond=True, others=0)

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and have tracking say what it did."""
        middle, entries = hosts[self.b], int(cell["entries"])
        addresses, flows = self._pairs(cell)
        again = cell["arm"] in (KNOWN, NONE)
        stream = Stream(
            polls(self.given), addresses, flows,
            first=0 if again else entries, period=entries if again else 0,
        )  # fmt: skip
        self.before = _counted(middle)
        said = self._send(hosts, cell, stream)
        self.after = _counted(middle)
        self.sent, self.passed = said.number("sent"), said.number("hook0")
        self.dropped, self.evicted = (
            self.after[name] - self.before[name] for name in ("drop", "early_drop")
        )
        ns = took(said, stream)
        return {
            **rate_of(ns, self.unit),
            "sent": self.sent,
            "passed": self.passed,
            "dropped": self.dropped,
            "evicted": self.evicted,
            "tracked": self.after["tracked"],
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what tracking counted against what was sent, and the table against its limit."""
        arm, entries = cell["arm"], cell.number("entries")
        before, after = self.before["tracked"], self.after["tracked"]
        made = 0 if arm in (NONE, KNOWN) else self.passed
        holds = {
            f"{self.sent:.0f} packets are sent": self.sent == self.passed + self.dropped,
            f"{entries:.0f} entries were there": before == (entries if arm != NONE else 0),
            f"{before + made - self.evicted:.0f} entries are left": (
                after == before + made - self.evicted
            ),
            "none is dropped": arm in (FULL, EVICTING) or not self.dropped + self.evicted,
            "all are dropped": arm != FULL or self.dropped == self.sent,
            "old entries make room": arm != EVICTING or self.evicted > 0,
            "the table is no larger than its limit": (
                arm not in (FULL, EVICTING) or after <= entries
            ),
        }
        if broken := [text for text, held in holds.items() if not held]:
            raise WrongState(
                f"{arm}: {', '.join(broken)}: expected, but {self.passed:.0f} passed, "
                f"{self.dropped:.0f} were dropped for want of an entry, {self.evicted:.0f} "
                f"entries made room, and of {before:.0f} entries there are {after:.0f}"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what is said of the table, each with our figures."""
        from linklab.results.figures import Figures  # brings numpy

        figures = Figures(run)
        return [_limit(figures), _flat(figures), _longer(figures)]


def _set(host: Host, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        host.run(["/bin/sh", "-c", f"echo {value} > {_ALL}/{name}"])


def _counted(host: Host) -> dict[str, float]:
    """Return what tracking counts on a host, by the names of the kernel, and `tracked` entries.

    Nothing was counted where there is no tracking. Raises `LabError`.
    """
    said = host.printed(["/bin/cat", f"{_ALL}/nf_conntrack_count", _COUNTERS]).splitlines()
    try:
        (tracked,), names, *of_cpus = (line.split() for line in said)
        sums = [sum(int(row[at], 16) for row in of_cpus) for at in range(len(names))]
        return {**dict(zip(names, sums, strict=True)), "tracked": float(tracked)}
    except (ValueError, IndexError) as error:
        raise LabError(f"{_COUNTERS} is not as expected: {said}") from error


_DOCUMENTED = "nf_conntrack-sysctl.rst"


def _cells(figures: Any) -> tuple[list[float], list[float]]:
    """Return the entries and the buckets that a run has, each from the least."""
    cells = [sample.cell for sample in figures.run.samples]
    entries, buckets = ({cell.number(name) for cell in cells} for name in ("entries", "buckets"))
    return sorted(entries), sorted(buckets)


def _found(figures: Any, arm: str, entries: float, buckets: float, metric: str) -> dict[str, float]:
    cell = Cell({"arm": arm, "entries": entries, "buckets": buckets})
    found: dict[str, float] = figures.by_kernel(cell, metric)
    return found


def _limit(figures: Any) -> Claim:
    text = "nf_conntrack_max is the number of connections at most: a new one more is dropped"
    theirs = f"the maximum number of entries ({_DOCUMENTED})"
    entries, buckets = _cells(figures)
    parts, holds = [], []
    for at in ((e, b) for e in entries for b in buckets):
        tracked, dropped, sent = (
            _found(figures, FULL, *at, name) for name in ("tracked", "dropped", "sent")
        )
        for kernel, count in tracked.items():
            holds.append(count == at[0] and dropped[kernel] == sent[kernel])
            parts.append(
                f"{kernel}: {count:.0f} of {at[0]:.0f} entries, "
                f"{dropped[kernel]:.0f} of {sent[kernel]:.0f} dropped"
            )
    if not parts:
        return Claim.unmeasured(text, theirs, f"needs {FULL}")
    return Claim(text, theirs, "; ".join(dict.fromkeys(parts)), Finding.of(holds))


def _flat(figures: Any) -> Claim:
    text = "with as many buckets as entries a known connection costs the same in any table"
    theirs = f"the hash is sized by that ({_DOCUMENTED}); the same: within 10 %"
    entries, buckets = _cells(figures)
    wide = buckets[-1] if buckets else 0
    fitting = [count for count in entries if count <= wide]
    few, many = [*fitting, 0][0], [0, *fitting][-1]
    return _compared(figures, text, theirs, (few, wide), (many, wide), lambda ratio: ratio < _SAME)


def _longer(figures: Any) -> Claim:
    text = "with more entries than buckets it costs more: chains are gone through"
    theirs = f"a chain's mean length is 2 by default ({_DOCUMENTED}); more: by 10 %"
    entries, buckets = _cells(figures)
    most = [0, *entries][-1]
    narrow, wide = [*buckets, 0][0], [0, *buckets][-1]
    if most <= narrow:
        return Claim.unmeasured(text, theirs, f"needs {KNOWN} with more entries than buckets")
    return _compared(
        figures, text, theirs, (most, wide), (most, narrow), lambda ratio: ratio > _SAME
    )


def _compared(
    figures: Any, text: str, theirs: str, base: tuple[float, float], other: tuple[float, float],
    holds: Any,
) -> Claim:  # fmt: skip
    costs = [_found(figures, KNOWN, *at, "instructions") for at in (base, other)]
    kernels = [kernel for kernel in costs[0] if kernel in costs[1]]
    if base == other or not kernels:
        return Claim.unmeasured(text, theirs, f"needs {KNOWN} with several entries and buckets")
    ours = "; ".join(
        f"{kernel}: {costs[1][kernel]:.0f} ns above none at {other[0]:.0f} entries in "
        f"{other[1]:.0f} buckets, {costs[0][kernel]:.0f} at {base[0]:.0f} in {base[1]:.0f}"
        for kernel in kernels
    )
    return Claim(text, theirs, ours, Finding.of(holds(costs[1][k] / costs[0][k]) for k in kernels))
