"""What a kernel keeps of work that is done: found at a guest's end, behind its last trial.

There nothing of it can reach a figure. A cell's work is repeated, untimed, and
after each time the guest's counters of memory and of objects are read from
/proc. What grows by the same amount from time to time, while all that is
measured begins and ends in the same state, is a leak: caches fill up and
stop, and what comes and goes has no direction. On a kernel with kmemleak that
is asked as well, when all is deleted: it knows who allocated what is lost.

How growth is judged. After some times (`_LOOKS`) the readings are looked at: a
quarter of them, the first ones, is for warming up, the others are parted into
six, and from the mean of each part to the next there is a step. Where the five
steps may as well be none (`_DOUBT`), that was it; otherwise the work is
repeated to the next look. At the last look growth is a leak where

- the steps are beyond zero with a chance of `_CHANCE` by Student's t: there
  are seven counters and, in a long run, hundreds of cells;
- each of them is half to twice their mean: a cache fills ever more slowly, and
  stops;
- it comes to three pages, or three objects: what is less may be the first use
  of something;
- it is still there 130 s later, when nobody has done anything: what a closed
  connection leaves behind, and what waits for its turn to be freed, is gone.

What comes to 400 bytes a trial is found so where nothing else comes and goes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.console.watch import reports_in
from linklab.errors import GuestIncomplete, LabError, Leaked
from linklab.events import ignore
from linklab.host.cache import Cache, hash_file, key_of
from linklab.results.fit import student_outside
from linklab.results.shape import Cell
from linklab.scenarios.scenario import GUEST, Host, Hosts, Scenario
from linklab.trials.plan import Leaks
from linklab.trials.teardown import tear_down

_LOOKS = (16, 32, 64)  # times that a cell's work has been done
_DOUBT = 0.2  # growth with a larger chance than this is none
_CHANCE = 2e-4
_ROOM = 0.25  # of the memory that was available must stay so, or what there is has to do
_PARTS = 6
_STEPS = 3  # pages, or objects
_EXACT = 1e-9  # of a step: an error that is rounding alone
_PAGE = 4096

_CHEAP = 100  # of `Scenario.cost`: twice what a trial costs that is not said to cost anything
_BUSIEST = 0.2  # s that the guest may be busy with one repetition: some 2 s of a host under TCG

_CLEAN = "clean"
"""What the cache calls that a kernel keeps nothing of a cell's work."""

_LIFE = 130  # s: a closed connection is known for 60 s (TCP_TIMEWAIT_LEN), to conntrack for 120 s
_FORGOTTEN = 0.25  # of its growth may a leak give back meanwhile

_SLABS = "/proc/slabinfo"
_STAT = "/proc/stat"
_TICKS = 100  # a second: USER_HZ
_DEBUGFS = "/tmp/linklab.debugfs"
_KMEMLEAK = f"{_DEBUGFS}/kmemleak"
_KMEMLEAK_AGE = 6  # s: what is younger than 5 s is not reported (MSECS_MIN_AGE, mm/kmemleak.c)
_KMEMLEAK_BYTES = 1 << 18  # of what it says; a report takes some 700


@dataclass(frozen=True)
class Counter:
    """Something that the kernel counts: where it stands, and what it adds at a time."""

    words: str  # in a sentence, behind a number
    path: str
    pattern: str
    base: int = 10
    unit: int = 1  # bytes in one of it
    step: int = 1

    def in_text(self, text: str) -> int | None:
        """Return its value in what the file says; None where it is not in it."""
        found = re.search(self.pattern, text, re.MULTILINE)
        return int(found[1], self.base) * self.unit if found else None


def _memory(name: str, what: str) -> Counter:
    return Counter(what, "/proc/meminfo", rf"^{name}: +(\d+) kB$", unit=1024, step=_PAGE)


def _neighbours(table: str, what: str) -> Counter:
    """The first column, `entries`, is in hexadecimal."""
    return Counter(what, f"/proc/net/stat/{table}", r"^([0-9a-f]{8}) ", base=16)


_AVAILABLE = _memory("MemAvailable", "bytes of memory")
_COUNTERS = (
    Counter("sockets", "/proc/net/sockstat", r"^sockets: used (\d+)$"),
    Counter("tracked connections", "/proc/sys/net/netfilter/nf_conntrack_count", r"^(\d+)$"),
    _neighbours("arp_cache", "IPv4 neighbours"),
    _neighbours("ndisc_cache", "IPv6 neighbours"),
    _memory("SUnreclaim", "bytes of slab memory"),
    _memory("VmallocUsed", "bytes of vmalloc memory"),
    _memory("Percpu", "bytes of per-CPU memory"),
)
_ALL = (*_COUNTERS, _AVAILABLE)

Reading = Mapping[Counter, int]


def _text(host: Host, path: str) -> str:
    """Return a file of the guest's, empty where it has none."""
    with suppress(GuestIncomplete):
        return host.agent.read_file(path, host.until()).decode(errors="replace")
    return ""


def _read(host: Host, counters: Sequence[Counter]) -> Reading:
    """Return the values of the counters that the guest has."""
    texts = {path: _text(host, path) for path in dict.fromkeys(each.path for each in counters)}
    values = {each: each.in_text(texts[each.path]) for each in counters}
    return {each: value for each, value in values.items() if value is not None}


def _busy(host: Host) -> float:
    """Return the seconds since boot in which the guest's CPUs were not idle; 0 if untold."""
    ticks = [int(word) for word in _text(host, _STAT).partition("\n")[0].split()[1:9]]
    return (sum(ticks) - sum(ticks[3:5])) / _TICKS  # user nice system idle iowait ...


def _slabs(host: Host) -> dict[str, float]:
    """Return the bytes of each slab cache, where the kernel tells: active objects alone."""
    rows = (line.split() for line in _text(host, _SLABS).splitlines()[2:])
    return {row[0]: int(row[1]) * float(row[3]) for row in rows}


@dataclass(frozen=True)
class Growth:
    """How a counter grows from reading to reading; `chance` is that it does not."""

    slope: float
    chance: float
    is_steady: bool
    total: float

    @property
    def is_doubtful(self) -> bool:
        """Whether more readings are worth while."""
        return self.chance <= _DOUBT

    def is_leak(self, step: float) -> bool:
        """Whether it is significant, of a counter with such steps."""
        return self.chance <= _CHANCE and self.is_steady and self.total >= _STEPS * step


def growth_of(readings: Sequence[float]) -> Growth:
    """Return how a row of readings grows, the first quarter of them left out."""
    length = len(readings) * 3 // 4 // _PARTS
    values = readings[-length * _PARTS :]
    means = [fmean(values[at : at + length]) for at in range(0, len(values), length)]
    steps = [later - earlier for earlier, later in pairwise(means)]
    mean, error = fmean(steps), stdev(steps) / sqrt(len(steps))
    t = mean / max(error, _EXACT * mean) if mean > 0 else 0.0
    chance = student_outside(t, len(steps) - 1) / 2
    is_steady = all(mean / 2 <= step <= mean * 2 for step in steps)
    return Growth(mean / length, chance, is_steady, values[-1] - values[0])


def cells_to_repeat(
    kind: type[Scenario], done: Sequence[Cell], planned: Sequence[Cell], leaks: Leaks
) -> list[Cell]:
    """Return what of a guest's work is repeated: each kind of it once, with the fewest things.

    The same functions of the kernel work on many things as on few, so of the
    table's rows the first one does. Work that costs much is left out, unless
    all is to be repeated; so is work between hosts, which takes seconds and leaves
    connections that the kernel forgets after a minute.
    """
    if kind.topology and leaks is not Leaks.ALL:
        return []
    found = (_smallest(kind, cell, planned) for cell in done)
    return [
        cell
        for cell in dict.fromkeys(filter(None, found))
        if not kind.refusal(cell) and (leaks is Leaks.ALL or kind.cost(cell) <= _CHEAP)
    ]


def _smallest(kind: type[Scenario], cell: Cell, planned: Sequence[Cell]) -> Cell | None:
    """Return a cell with the fewest things; None where that is another guest's."""
    rows = kind.shape.axis(kind.shape.rows)
    if not rows.is_numeric:
        return cell
    others = [axis.name for axis in kind.shape.axes if axis is not rows]
    alike = [each for each in planned if each.of(others) == cell.of(others)]
    fewest = min((each.number(rows.name) for each in alike), default=cell.number(rows.name))
    if rows.per_guest:
        return cell if cell.number(rows.name) == fewest else None
    return cell.with_(**{rows.name: min([cell[rows.name], *rows.values], key=float)})


def end_work(
    scenario: Scenario,
    hosts: Hosts,
    repeated: Sequence[Cell],
    kernel: Mapping[str, Any],
    *,
    every: bool,
) -> None:
    """End a guest's work: see what it leaves behind, and delete what it made.

    `kernel` is all of a guest that decides what it keeps of the work. Where it
    was seen to keep nothing, that is not looked at again, unless it is `every`
    time. Raises `Leaked`. What is lost for good has a function to blame, and
    comes before what only grows.
    """
    code, found = _code_of(type(scenario)), []
    for cell in repeated:
        known = _Clean(key_of({**kernel, **code, "cell": dict(cell)}))
        if every or not known:
            leaked = repeat(scenario, hosts, cell, every=every)
            if leaked is None:
                known.remember()
            found.append(leaked)
    scenario.tear_down(hosts)
    growing = next(filter(None, found), None)
    for host in _guests(hosts):
        tear_down(host)
        if lost := lost_memory(host):
            lost.evidence = growing.message if growing else ""
            raise lost
    if growing:
        raise growing


@dataclass(frozen=True)
class _Clean:
    """That a kernel keeps nothing of some work. A cache that does not work knows nothing of it."""

    key: str

    def __bool__(self) -> bool:
        with suppress(LabError):
            return Cache().find(_CLEAN, self.key, ignore) is not None
        return False

    def remember(self) -> None:
        with suppress(LabError):
            Cache().get(_CLEAN, self.key, lambda _folder: {}, ignore, "what a kernel keeps")


def _code_of(kind: type[Scenario]) -> Mapping[str, Any]:
    """Return what stands for the code that does the work, and that judges what it leaves."""
    file = Path(inspect.getfile(kind))
    files = file.parent.glob("*.py") if file.name == "__init__.py" else [file]
    return {"code": {path.name: hash_file(path) for path in (*files, Path(__file__))}}


def _guests(hosts: Hosts) -> list[Host]:
    """Return the hosts that are guests of their own: of namespaces, the guest that has them."""
    return [hosts[GUEST]] if GUEST in hosts else list(hosts.values())


def repeat(scenario: Scenario, hosts: Hosts, cell: Cell, *, every: bool = False) -> Leaked | None:
    """Repeat a cell's work; return what it leaves behind in the first guest, if it does."""
    host = _guests(hosts)[0]
    readings: list[Reading] = []
    rows: dict[Counter, list[int]] = {}
    slabs: dict[str, float] = {}
    began = _busy(host)
    for look in _LOOKS:
        while len(readings) < look and not _is_tight(readings):
            scenario.prepare(hosts, cell)
            scenario.trial(hosts, cell)
            scenario.check(hosts, cell)
            readings.append(_read(host, tuple(readings[0]) if readings else _ALL))
            if len(readings) == 1 and not every and _busy(host) - began > _BUSIEST:
                return None
        rows = {c: [each[c] for each in readings] for c in _COUNTERS if c in readings[0]}
        if not any(growth_of(row).is_doubtful for row in rows.values()):
            return None
        slabs = slabs or _slabs(host)
    leaks = {c: growth for c, row in rows.items() if (growth := growth_of(row)).is_leak(c.step)}
    if not leaks:
        return None
    host.agent.run(["/bin/sleep", str(_LIFE)], host.until() + _LIFE)
    now = _read(host, tuple(leaks))
    kept = {
        counter: growth
        for counter, growth in leaks.items()
        if now[counter] - rows[counter][-1] >= -_FORGOTTEN * growth.total
    }
    caches = _grown(slabs, _slabs(host))
    return _leak(type(scenario), cell, kept, {c: rows[c] for c in kept}, caches) if kept else None


def _is_tight(readings: Sequence[Reading]) -> bool:
    """Whether a guest would run out of memory before the last look, with enough to judge by."""
    if len(readings) < _LOOKS[0]:
        return False
    return readings[-1].get(_AVAILABLE, 0) < _ROOM * readings[0].get(_AVAILABLE, 0)


def _grown(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return the slab caches that grew most, in words."""
    grown = {name: size - before[name] for name, size in after.items() if name in before}
    most = sorted(grown, key=lambda name: -grown[name])[:3]
    return [f"{name} (+{grown[name]:.0f} bytes)" for name in most if grown[name] >= _PAGE]


def _leak(
    kind: type[Scenario],
    cell: Cell,
    leaks: Mapping[Counter, Growth],
    rows: Mapping[Counter, Sequence[int]],
    caches: Sequence[str],
) -> Leaked:
    """Return the fault: what each trial leaves behind, and of how many things."""
    what, axis = kind.shape.in_words(cell), kind.shape.axis(kind.shape.rows)
    things = cell.number(axis.name) if axis.is_numeric else 1
    said = [f"{_amount(growth.slope)} {counter.words}" for counter, growth in leaks.items()]
    each = [_amount(growth.slope / things) for growth in leaks.values()]
    shared = f", {' and '.join(each)} for each of the {things:g}" if things > 1 else ""
    times = len(next(iter(rows.values())))
    evidence = [
        f"The trial, with what prepares it, was done {times} times more, of which the last "
        f"{times - times // 4} count. After each:",
        *(f"{c.words}: {' '.join(f'{value:.0f}' for value in row)}" for c, row in rows.items()),
        *([f"slab caches that grew: {', '.join(caches)}"] if caches else []),
    ]
    fault = Leaked(f"each trial of {what} leaves {' and '.join(said)} behind{shared}")
    title = f"memory leak: {said[0]} a trial in {what}"
    fault.reports = (Report(Fault.LEAK, title, None, (), "\n".join(evidence)),)
    return fault


def _amount(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def lost_memory(host: Host) -> Leaked | None:
    """Return what kmemleak has to say of a guest at its end, on a kernel that has it.

    It scans twice: what was only on its way at the first time is reported and
    found again at the second.
    """
    if not _has_kmemleak(host):
        return None
    host.run(["/bin/sleep", str(_KMEMLEAK_AGE)])
    try:
        for _ in range(2):
            host.agent.write_file(_KMEMLEAK, b"scan", host.until())
    except LabError:  # it is there, and switched off
        return None
    shown = f"{_DEBUGFS}.said"
    host.run(["/bin/sh", "-c", f"head -c {_KMEMLEAK_BYTES} {_KMEMLEAK} > {shown}"])
    reports = reports_in(_text(host, shown))
    if not reports:
        return None
    fault = Leaked(f"the kernel reports: {reports[0].title}")
    fault.reports = reports
    return fault


def _has_kmemleak(host: Host) -> bool:
    """Mount debugfs where the kernel has one, also without sysfs; return whether that has it."""
    if "debugfs" not in _text(host, "/proc/filesystems").split():
        return False
    mount = f"mkdir -p {_DEBUGFS} && mount -t debugfs none {_DEBUGFS}; test -e {_KMEMLEAK}"
    with suppress(GuestIncomplete):
        return host.agent.run(["/bin/sh", "-c", mount], host.until()).exit_code == 0
    return False
