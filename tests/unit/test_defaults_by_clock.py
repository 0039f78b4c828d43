"""What commands take where nothing else is asked for: it depends on what the seconds are."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_lab import lab_of
from hand_made import cell
from test_series_run import chain

from linklab.bisect.tester import KernelTester
from linklab.commands.calibrate import CalibrateOptions, Calibrating
from linklab.commands.compare import CompareOptions, Comparing
from linklab.commands.judging import CriterionOptions, check_criterion
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.run import Running, RunOptions
from linklab.commands.scenarios import MAX_JOBS, jobs_of, seed_of
from linklab.commands.series import SeriesOptions, SeriesWork
from linklab.errors import UsageError
from linklab.events import ignore
from linklab.host.accel import Accel, Decision
from linklab.host.cache import Cache
from linklab.host.qemu import Qemu
from linklab.lab import lab as lab_module
from linklab.machine.spec import Clock
from linklab.results.store import read_about

REAL, VIRTUAL = MachineOptions(clock="real"), MachineOptions(clock="virtual")
CPUS = 3


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with so many CPUs, on which KVM does not run a guest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(CPUS)))
    found = Qemu(Path("/usr/bin/qemu"), "7.2.22")
    monkeypatch.setattr("linklab.host.qemu.find_qemu", lambda *_: found)
    monkeypatch.setattr("linklab.host.accel.decide", lambda *_: Decision(Accel.TCG, "because"))


@pytest.mark.parametrize("machine", [VIRTUAL, MachineOptions()])
class TestInVirtualTime:
    """Also by `auto`, where there is no KVM."""

    def test_a_comparison(self, machine: MachineOptions) -> None:
        found = Comparing(CompareOptions(a="sysfs", b="nosysfs", machine=machine)).check()
        plan = found.plan
        assert (plan.repeat, plan.trials, plan.warmup_trials) == (10, 3, 1)
        assert (plan.seed, plan.jobs) == (0, CPUS)
        assert found.rule.threshold == 0.0025

    def test_a_calibration(self, machine: MachineOptions) -> None:
        found = Calibrating(CalibrateOptions(machine=machine)).check()
        plan = found.plan
        assert (found.comparisons, found.slowdowns) == (80, (0.005, 0.01, 0.1))
        assert (plan.cells, plan.repeat, plan.trials) == ((cell("mtu", "group", 512),), 10, 3)
        assert (plan.seed, plan.jobs) == (0, CPUS)
        assert found.rule.threshold == 0.0025

    def test_a_series(self, machine: MachineOptions) -> None:
        plan = SeriesWork(series_options(machine)).check().plan
        assert (plan.measure.trials, plan.measure.repeat) == (3, 10)
        assert (plan.measure.seed, plan.measure.jobs) == (0, CPUS)
        assert plan.fail_above == 0.5

    def test_a_run(self, machine: MachineOptions) -> None:
        plan = Running(run_options(machine)).check().plan
        assert (plan.seed, plan.jobs, plan.repeat) == (0, CPUS, 1)

    def test_a_run_whose_guest_is_kept_has_one_at_a_time(
        self, machine: MachineOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        kept = replace(run_options(machine), keep=True)
        assert Running(kept).check().plan.jobs == 1


class TestInRealTime:
    def test_a_comparison(self) -> None:
        found = Comparing(CompareOptions(a="sysfs", b="nosysfs", machine=REAL)).check()
        plan = found.plan
        assert (plan.repeat, plan.trials, plan.warmup_trials, plan.jobs) == (20, 5, 1, 1)
        assert found.rule.threshold == 0.03

    def test_a_calibration(self) -> None:
        found = Calibrating(CalibrateOptions(machine=REAL)).check()
        plan = found.plan
        assert (found.comparisons, found.slowdowns) == (80, (0.1,))
        assert plan.cells == (cell("mtu", "group", 512),)
        assert (plan.repeat, plan.trials, plan.jobs) == (20, 5, 1)
        assert found.rule.threshold == 0.03

    def test_a_series(self) -> None:
        plan = SeriesWork(series_options(REAL)).check().plan
        assert (plan.measure.trials, plan.measure.repeat, plan.measure.jobs) == (5, 20, 1)
        assert plan.fail_above == 3.0

    def test_as_many_guests_are_saved_as_it_takes_to_show_something(self) -> None:
        options = CompareOptions(a="sysfs", b="nosysfs", machine=REAL)
        assert [options.saved_guests(Clock.REAL, n) for n in (1, 90, 2000)] == [12, 12, 18]
        assert options.saved_guests(Clock.VIRTUAL, 2000) == 1
        assert replace(options, boots="7").saved_guests(Clock.REAL, 2000) == 7

    def test_a_run(self) -> None:
        assert Running(run_options(REAL)).check().plan.jobs == 1

    def test_each_time_the_order_is_another_one(self) -> None:
        seeds = set()
        for number in range(4):
            seeds.add(Running(replace(run_options(REAL), output=f"out{number}")).check().plan.seed)
        assert len(seeds) > 1


@pytest.mark.parametrize("machine", [REAL, VIRTUAL])
class TestWhatIsAskedForIsTaken:
    def test_by_a_comparison(self, machine: MachineOptions) -> None:
        options = CompareOptions(a="sysfs", b="nosysfs", machine=machine)
        asked = replace(options, blocks="7", trials="4", threshold="1", seed="9", jobs="2")
        found = Comparing(asked).check()
        plan = found.plan
        assert (plan.repeat, plan.trials, plan.seed, plan.jobs) == (7, 4, 9, 2)
        assert found.rule.threshold == 0.01

    def test_by_a_calibration(self, machine: MachineOptions) -> None:
        asked = CalibrateOptions(
            machine=machine,
            comparisons="5",
            slowdown="2,0.3",
            counts="64",
            blocks="7",
            trials="4",
            threshold="1",
            seed="9",
            jobs="2",
        )
        found = Calibrating(asked).check()
        plan = found.plan
        assert (found.comparisons, found.slowdowns) == (5, (0.02, 0.003))
        assert (plan.cells, plan.repeat, plan.trials) == ((cell("mtu", "group", 64),), 7, 4)
        assert (plan.seed, plan.jobs, found.rule.threshold) == (9, 2, 0.01)

    def test_by_a_series(self, machine: MachineOptions) -> None:
        asked = replace(series_options(machine), blocks="7", trials="4", fail_above="2", seed="9")
        plan = SeriesWork(asked).check().plan
        assert (plan.measure.repeat, plan.measure.trials, plan.measure.seed) == (7, 4, 9)
        assert plan.fail_above == 2.0

    def test_by_a_run(self, machine: MachineOptions) -> None:
        plan = Running(replace(run_options(machine), seed="9", jobs="2")).check().plan
        assert (plan.seed, plan.jobs) == (9, 2)


def test_without_a_slowdown_a_kernel_is_compared_with_itself_alone() -> None:
    assert Calibrating(CalibrateOptions(machine=VIRTUAL, slowdown="none")).check().slowdowns == ()


@pytest.mark.parametrize("text", ["0", "1,,0", "much", "1,1", "none,1"])
def test_a_slowdown_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--slowdown"):
        Calibrating(CalibrateOptions(machine=VIRTUAL, slowdown=text)).check()


def test_a_seed_is_asked_for_or_drawn_or_0() -> None:
    assert seed_of("", Clock.VIRTUAL) == 0
    assert len({seed_of("", Clock.REAL) for _ in range(4)}) > 1
    for clock in (Clock.REAL, Clock.VIRTUAL):
        assert seed_of("7", clock) == 7
        with pytest.raises(UsageError, match="--seed dice"):
            seed_of("dice", clock)


def test_guests_side_by_side_are_asked_for_or_as_many_as_do_not_disturb_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (jobs_of("", Clock.VIRTUAL), jobs_of("", Clock.REAL)) == (CPUS, 1)
    assert (jobs_of("5", Clock.VIRTUAL), jobs_of("5", Clock.REAL)) == (5, 5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(5000)))
    assert jobs_of("", Clock.VIRTUAL) == MAX_JOBS
    with pytest.raises(UsageError, match="--jobs 0"):
        jobs_of("0", Clock.VIRTUAL)


@pytest.mark.parametrize(("clock", "noise"), [(Clock.REAL, 0.0), (Clock.VIRTUAL, 0.001)])
def test_a_figure_is_judged_by_one_block_where_chance_leaves_little(
    clock: Clock, noise: float, tmp_path: Path
) -> None:
    criterion = check_criterion(CriterionOptions(counts="1024", arms="group", above="1%"))
    lab = replace(lab_of(), clock=clock)
    bench = KernelTester("nosysfs", lab, Cache(tmp_path), criterion, ignore)
    judge = bench.classifier(lambda revision: None, None, None)  # type: ignore[arg-type, return-value]
    assert getattr(judge, "noise") == noise  # noqa: B009 - a judge by verdicts has none


def test_what_a_kernel_is_judged_by_is_drawn_alike_in_virtual_time(tmp_path: Path) -> None:
    criterion = check_criterion(CriterionOptions(counts="8", arms="group", above="1%"))
    seeds: dict[Clock, set[int]] = {}
    for clock in (Clock.REAL, Clock.VIRTUAL):
        for number in range(4):
            lab = replace(lab_of(), clock=clock)
            bench = KernelTester("nosysfs", lab, Cache(tmp_path), criterion, ignore)
            folder = tmp_path / f"{clock}-{number}"
            folder.mkdir()
            bench.blocks([], str(folder))
            seeds.setdefault(clock, set()).add(read_about(folder)["plan"]["seed"])
    assert seeds[Clock.VIRTUAL] == {0}
    assert len(seeds[Clock.REAL]) > 1


def series_options(machine: MachineOptions) -> SeriesOptions:
    Path("s.mbox").write_text(chain("// 1"))
    kernels = KernelOptions("sysfs", patches=("s.mbox",))
    machine = replace(machine, boot="resume")
    return SeriesOptions(kernels=kernels, machine=machine, output="out")


def run_options(machine: MachineOptions) -> RunOptions:
    return RunOptions(
        kernels=KernelOptions("sysfs"), machine=machine, counts="2", arms="group", output="out"
    )
