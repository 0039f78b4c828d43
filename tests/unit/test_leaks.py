"""What a kernel keeps of work that is done: told from what only comes and goes, and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from experiments import hosts_of, plan_of
from fake_guest import FakeGuest
from fake_lab import lab_of, subject
from hand_made import cell

from linklab.errors import Leaked, Verdict, WrongState
from linklab.events import ignore
from linklab.lab.lab import Subject
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, read_run
from linklab.scenarios.aliases import Aliases
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.routes import Routes
from linklab.scenarios.scenario import GUEST
from linklab.trials.engine import Engine
from linklab.trials.leaks import cells_to_repeat, growth_of, lost_memory, repeat
from linklab.trials.plan import Leaks

PAGE = 4096
LOOKS = (16, 32, 64)
LAST = LOOKS[-1]
MTU = cell("mtu", "group", 5)
SYSFS = subject("sysfs")

# SUnreclaim in KiB after each of 40 trials of `mtu` by 128 processes, on Linux 6.12.
COMES_AND_GOES = [
    13060, 13060, 13052, 13060, 13072, 13064, 13056, 13052, 13052, 13052, 13056, 13052, 13072,
    13056, 13076, 13060, 13076, 13072, 13056, 13056, 13076, 13056, 13072, 13060, 13068, 13056,
    13056, 13056, 13056, 13056, 13064, 13076, 13060, 13072, 13084, 13072, 13068, 13056, 13068,
    13056,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found about a kernel is remembered there."""
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))


def verdict_on(values: list[float]) -> float | None:
    """Return the slope of a leak where a row of readings is taken for one, as `repeat` looks."""
    for look in LOOKS:
        growth = growth_of(values[:look])
        if not growth.is_doubtful:
            return None
    return growth.slope if growth.is_leak(PAGE) else None


def pages(values: list[float]) -> list[float]:
    """Return readings of bytes as a kernel tells them, which counts in pages."""
    return [value // PAGE * PAGE for value in values]


# What is growth


@pytest.mark.parametrize("each", [400, 1024, 1500, 2048, 4096, 5000, 100_000])
def test_what_each_trial_leaves_behind_is_found_and_measured(each: int) -> None:
    found = verdict_on(pages([1_000_000 + each * number for number in range(LAST)]))
    assert found == pytest.approx(each, rel=0.1)


def test_a_leak_is_found_in_what_comes_and_goes() -> None:
    noise = [kib * 1024 for kib in COMES_AND_GOES * 2]
    found = verdict_on([noise[at] + 8192 * at for at in range(LAST)])
    assert found == pytest.approx(8192, rel=0.1)


def test_what_comes_and_goes_is_none() -> None:
    assert verdict_on([kib * 1024.0 for kib in COMES_AND_GOES * 2][:LAST]) is None


@pytest.mark.parametrize("fills", [3, 5, 8, 20, 40])
def test_a_cache_that_fills_up_is_none(fills: int) -> None:
    assert verdict_on([PAGE * min(number, fills) for number in range(LAST)]) is None


@pytest.mark.parametrize("rest", [0.8, 0.9, 0.95, 0.98])
def test_a_cache_that_fills_ever_more_slowly_is_none(rest: float) -> None:
    assert verdict_on(pages([200_000 * (1 - rest**number) for number in range(LAST)])) is None


def test_what_is_freed_is_none() -> None:
    assert verdict_on([1e6 - PAGE * number for number in range(LAST)]) is None


def test_a_single_page_is_none() -> None:
    for at in range(LAST):
        assert verdict_on([0.0] * at + [float(PAGE)] * (LAST - at)) is None


def test_noise_is_none_whatever_it_is() -> None:
    """A thousand rows each of independent steps, of walks, and of what returns to its mean."""
    random = Random(1)
    for _ in range(1000):
        steps = [PAGE * random.choice((-2, -1, 0, 0, 0, 1, 2)) for _ in range(LAST)]
        returning = list(accumulate(steps, lambda at, step: at // 2 // PAGE * PAGE + step))
        for row in (steps, list(accumulate(steps)), returning):
            assert verdict_on([float(value) for value in row]) is None


# What is repeated


def test_each_kind_of_work_is_repeated_in_the_guest_with_the_fewest_things() -> None:
    plan = plan_of(("mtu", "up"), ("group",), (2, 8))
    kind, cells = plan.kind, plan.cells
    few, many = ([c for c in cells if c["interfaces"] == number] for number in (2, 8))
    assert cells_to_repeat(kind, few, cells, Leaks.CHEAP) == few
    assert cells_to_repeat(kind, many, cells, Leaks.CHEAP) == []


def test_where_a_guest_takes_any_number_it_is_repeated_with_the_first_of_the_axis() -> None:
    done = [Cell({"operation": "get", "arm": "netlink", "routes": n}) for n in (1000, 10_000)]
    (found,) = cells_to_repeat(Routes, done, done, Leaks.CHEAP)
    assert found["routes"] == 100


def test_what_costs_much_is_repeated_where_all_is_asked_for() -> None:
    costly = [cell("mtu", "process", 128)]
    assert cells_to_repeat(Grouping, costly, costly, Leaks.CHEAP) == []
    assert cells_to_repeat(Grouping, costly, costly, Leaks.ALL) == costly


def test_work_between_hosts_is_repeated_only_where_all_is_asked_for() -> None:
    done = [Cell({"arm": "aliases", "addresses": 1})]
    assert cells_to_repeat(Aliases, done, done, Leaks.CHEAP) == []
    assert cells_to_repeat(Aliases, done, done, Leaks.ALL) == done


# What comes of it


class LeakyGuest(FakeGuest):
    """Counts the trials by what reads its memory, which grows by so many bytes each time."""

    def __init__(self, each: int = 0, path: str = "/proc/meminfo", **more: Any) -> None:
        super().__init__(**more)
        self.each, self.path, self.reads = each, path, 0
        self.programs |= {"/bin/sleep"}
        self.slept = 0
        self.kept = 1.0  # of what grew, after a sleep

    def _run_one(self, argv: list[str]) -> tuple[int, bytes, int]:
        if argv[0] == "/bin/sleep":
            self.slept += int(argv[1])
            return 0, b"", 0
        return super()._run_one(argv)

    def _do_read_file(self, reader: Any) -> list[Any]:
        now = self.each * self.reads
        now = round(now * self.kept) if self.slept else now
        self.files["/proc/meminfo"] = f"SUnreclaim:  {(1 << 20) + now // 1024} kB\n".encode()
        self.files["/proc/net/stat/arp_cache"] = f"entries allocs\n{now:08x} 0\n".encode()
        path = "" if self.path == "/proc/meminfo" else "/proc/meminfo"
        self.files.pop(path, None)
        if self.path != "/proc/net/stat/arp_cache":
            self.files.pop("/proc/net/stat/arp_cache", None)
        before = self.calls[-1].fields[0]
        self.reads += before == self.path and not self.slept
        return list(super()._do_read_file(reader))


def repeated(guest: FakeGuest, what: Cell = MTU) -> Leaked | None:
    """Repeat the work of a cell in a guest."""
    hosts = hosts_of(guest)
    scenario = Grouping({"listeners": 0})
    list(scenario.set_up(hosts, Cell({"interfaces": 5})))
    return repeat(scenario, hosts, what)


def test_a_kernel_that_keeps_nothing_is_looked_at_no_longer_than_needed() -> None:
    guest = LeakyGuest()
    assert repeated(guest) is None
    assert guest.reads == LOOKS[0]
    assert guest.slept == 0


def test_what_is_left_behind_is_told_for_each_trial_and_for_each_thing() -> None:
    fault = repeated(LeakyGuest(5 * 4096))
    assert fault is not None
    assert fault.verdict is Verdict.FAIL
    assert "mtu by group, 5 interfaces leaves 20480 bytes of slab memory behind" in fault.message
    assert fault.message.endswith("4096 for each of the 5")
    (report,) = fault.reports
    assert report.title == (
        "memory leak: 20480 bytes of slab memory a trial in mtu by group, 5 interfaces"
    )
    assert "1073741824 1073762304" in report.text


def test_objects_are_counted_as_well_as_bytes() -> None:
    fault = repeated(LeakyGuest(1, "/proc/net/stat/arp_cache"))
    assert fault is not None
    assert "leaves 1 IPv4 neighbours behind" in fault.message


def test_what_is_gone_after_a_while_was_no_leak() -> None:
    guest = LeakyGuest(20480)
    guest.kept = 0.5
    assert repeated(guest) is None
    assert guest.slept >= 120, "conntrack knows a closed connection for so long"


def test_a_trial_that_goes_wrong_when_it_is_repeated_is_the_kernels_fault() -> None:
    turns = count()

    def before(operation: str) -> None:
        if operation == "run" and next(turns) == 3:
            raise WrongState("not what it says")

    with pytest.raises(WrongState):
        repeated(FakeGuest(before=before))


def ran(
    folder: Path,
    make: Callable[[str, int], FakeGuest],
    kernel: Subject = SYSFS,
    leaks: Leaks = Leaks.CHEAP,
    **more: Any,
) -> RunFolder:
    """Return the folder of a run of one kernel."""
    folder.mkdir(exist_ok=True)
    book = RunFolder(folder, {"kernels": []})
    plan = plan_of(arms=("group",), leaks=leaks, **more)
    Engine(lab_of(make), plan, book, ignore).run([kernel])
    return book


def test_a_leak_is_in_the_runs_folder_with_its_guest_and_behind_all_samples(
    tmp_path: Path,
) -> None:
    stored = read_run(ran(tmp_path, lambda *_: LeakyGuest(20480), counts=(5,)).path)
    (fault,) = stored.faults
    assert (fault["verdict"], fault["guest"], fault["during"]) == ("fail", "guest", "end")
    assert fault["message"].startswith("kernel sysfs: each trial of mtu by group")
    assert [sample.trial for sample in stored.samples] == [0, 1]
    assert all(sample.verified for sample in stored.samples)


def test_work_is_repeated_once_for_each_kernel_and_not_in_every_guest(tmp_path: Path) -> None:
    guests: list[LeakyGuest] = []

    def make(_kernel: str, _count: int) -> FakeGuest:
        guests.append(LeakyGuest())
        return guests[-1]

    ran(tmp_path, make, counts=(2, 5), fresh_guest=True, repeat=3)
    assert sorted(guest.reads for guest in guests) == [0] * 5 + [LOOKS[0]]


def test_what_a_kernel_keeps_nothing_of_is_not_repeated_in_the_next_run(tmp_path: Path) -> None:
    def reads(kernel: Subject, leaks: Leaks = Leaks.CHEAP) -> int:
        guest = LeakyGuest()
        ran(tmp_path / f"{next(runs)}", lambda *_: guest, kernel, leaks, counts=(5,))
        return guest.reads

    runs = count()
    assert reads(SYSFS) == LOOKS[0]
    assert reads(SYSFS) == 0
    assert reads(replace(SYSFS, sha256="another")) == LOOKS[0]
    assert reads(replace(SYSFS, parameters=("slub_debug=P",))) == LOOKS[0]
    assert reads(SYSFS, Leaks.ALL) == LOOKS[0], "all is repeated each time"


def test_what_leaks_is_found_in_every_run(tmp_path: Path) -> None:
    for run in ("first", "second"):
        stored = read_run(ran(tmp_path / run, lambda *_: LeakyGuest(20480), counts=(5,)).path)
        assert [fault["verdict"] for fault in stored.faults] == ["fail"]


def test_a_cache_that_takes_nothing_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "file/cache"))
    guest = LeakyGuest()
    assert read_run(ran(tmp_path / "run", lambda *_: guest, counts=(5,)).path).faults == []
    assert guest.reads == LOOKS[0]


def test_where_nobody_looks_for_leaks_a_guest_just_ends(tmp_path: Path) -> None:
    guest = LeakyGuest(20480)
    book = RunFolder(tmp_path, {"kernels": []})
    plan = plan_of(arms=("group",), counts=(5,))
    Engine(lab_of(lambda *_: guest), plan, book, ignore).run([SYSFS])
    assert guest.reads == 0
    assert len(guest.kernel.links) == 2 + 5, "lo, dummy0, and those of the trials"


# kmemleak

SAID = b"""unreferenced object 0xffff888004a1b2c0 (size 16):
  comm "ip", pid 35, jiffies 4294893121
  hex dump (first 16 bytes):
    01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 1b2c3d4e):
    [<0000000012345678>] __kmalloc_cache_noprof+0x1b6/0x250
    [<0000000012345678>] rtnl_note_mtu+0x17/0x30
    [<0000000012345678>] do_setlink+0x3a1/0x1050
"""


class KmemleakGuest(FakeGuest):
    """Has kmemleak in debugfs, which says so much after each scan."""

    def __init__(self, said: bytes, *, has_it: bool = True) -> None:
        super().__init__(programs=frozenset({"/bin/sh", "/bin/sleep"}))
        self.said, self.has_it = said, has_it
        self.scans = 0
        self.files["/proc/filesystems"] = b"nodev\tproc\nnodev\tdebugfs\n"

    def _run_one(self, argv: list[str]) -> tuple[int, bytes, int]:
        words = argv[-1]
        if words.startswith("mkdir"):
            return 0 if self.has_it else 256, b"", 0
        if words.startswith("head"):
            assert self.scans == 2
            self.files[words.split()[-1]] = self.said
        return 0, b"", 0

    def _do_write_file(self, reader: Any) -> list[Any]:
        path, _, _, content = (
            reader.take_text(),
            reader.take_int(),
            reader.take_int(),
            reader.take_bytes(),
        )
        assert path.endswith("/kmemleak") and content == b"scan"
        self.scans += 1
        return []


def test_kmemleaks_reports_have_the_titles_of_the_consoles() -> None:
    fault = lost_memory(hosts_of(KmemleakGuest(SAID))[GUEST])
    assert fault is not None
    assert fault.message == "the kernel reports: memory leak in rtnl_note_mtu"
    (report,) = fault.reports
    assert (report.title, report.function) == ("memory leak in rtnl_note_mtu", "rtnl_note_mtu")


def test_a_kernel_whose_kmemleak_says_nothing_has_no_leak() -> None:
    assert lost_memory(hosts_of(KmemleakGuest(b""))[GUEST]) is None


def test_a_kernel_without_kmemleak_is_not_scanned() -> None:
    guest = KmemleakGuest(SAID, has_it=False)
    assert lost_memory(hosts_of(guest)[GUEST]) is None
    assert guest.scans == 0
    del guest.files["/proc/filesystems"]
    assert lost_memory(hosts_of(guest)[GUEST]) is None
