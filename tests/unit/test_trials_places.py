"""Runs with guests side by side: real processes, with guests that are fake."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from experiments import plan_of
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of, subject

from linklab.errors import GuestHung, LabError, MachineLost
from linklab.events import Event, Listener, Note, ignore
from linklab.results.store import RunFolder, read_run
from linklab.trials import engine as engine_module
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan

PLAN = plan_of(counts=(2, 3), repeat=2, warmup_rounds=1, jobs=2)
KERNELS = [subject("nosysfs"), subject("sysfs")]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, {"kernels": []})


def run(
    lab: FakeLab, folder: RunFolder, plan: Plan = PLAN, events: list[Event] | None = None
) -> Engine:
    listener: Listener = ignore if events is None else events.append
    engine = Engine(lab, plan, folder, listener)
    engine.run(KERNELS)
    return engine


def children() -> set[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return {int(pid) for pid in path.read_text().split()}


@pytest.fixture(autouse=True)
def nobody_stays_behind() -> object:
    before = children()
    yield
    assert children() <= before


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("jobs", [2, 9])
def test_all_trials_are_kept_as_they_would_be_one_by_one(
    jobs: int, fresh: bool, folder: RunFolder, tmp_path: Path
) -> None:
    plan = replace(PLAN, jobs=jobs, fresh_guest=fresh)
    run(lab_of(), folder, plan)
    alone = RunFolder(_made(tmp_path / "alone"), {"kernels": []})
    run(lab_of(), alone, replace(plan, jobs=1))
    here, there = read_run(folder.path), read_run(alone.path)
    assert sorted(map(_what, here.samples)) == sorted(map(_what, there.samples))
    assert [s.order for s in here.samples] == list(range(len(here.samples)))
    assert len(here.boots) == len(there.boots) == (24 if fresh else 4)
    assert len(list(folder.path.glob("console-*.log"))) == len(here.boots)
    assert sorted(map(str, here.tallies)) == sorted(map(str, there.tallies))
    assert here.tallies


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _what(sample: object) -> str:
    return str(replace(sample, order=0))  # type: ignore[type-var]


def test_guests_work_at_the_same_time(folder: RunFolder, tmp_path: Path) -> None:
    """Each waits for the other to have begun, and would wait for ever were it alone."""

    def make(kernel: str, count: int) -> FakeGuest:
        def meet(operation: str) -> None:
            if operation == "run-each":
                (tmp_path / f"{kernel}-{count}").touch()
                until = time.monotonic() + 20
                while len(list(tmp_path.glob("*sysfs-*"))) < 2:
                    assert time.monotonic() < until, "nobody came"
                    time.sleep(0.005)

        return FakeGuest(before=meet)

    run(
        lab_of(make),
        folder,
        plan_of(arms=("process",), counts=(2,), repeat=2, warmup_rounds=1, jobs=2),
    )


def test_a_kernel_that_fails_ends_its_own_part_alone(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        def hang(operation: str) -> None:
            if operation == "run-each":
                raise GuestHung("no answer", "the console's last lines")

        return FakeGuest(before=hang) if kernel == "nosysfs" else FakeGuest()

    faults = run(lab_of(make), folder).faults
    assert [type(fault) for fault in faults] == [GuestHung]
    assert faults[0].message == "kernel nosysfs: no answer"
    assert faults[0].evidence == "the console's last lines"
    trials = [s for s in read_run(folder.path).samples if s.kernel == "sysfs" and s.trial]
    assert len(trials) == 2 * 2 * 2


def test_a_fault_of_the_lab_ends_the_run(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        raise MachineLost("QEMU was killed by signal 9")

    with pytest.raises(MachineLost, match="signal 9"):
        run(lab_of(make), folder)


def test_a_mistake_of_ours_is_told_with_its_traceback(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        raise ZeroDivisionError("our own")

    with pytest.raises(LabError, match="lab itself, has a fault: ZeroDivisionError") as caught:
        run(lab_of(make), folder)
    assert "our own" in caught.value.evidence


def test_a_worker_that_is_killed_is_the_labs_fault_and_all_others_end(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        def die(operation: str) -> None:
            if operation == "run-each":
                os.kill(os.getpid(), signal.SIGKILL)

        return FakeGuest(before=die)

    says = r"drives n?o?sysfs, interfaces [23], was killed \(exit status -9\)"
    with pytest.raises(MachineLost, match=says):
        run(lab_of(make), folder)
    assert {s.trial for s in read_run(folder.path).samples} >= {0}


def test_an_interrupt_ends_all_and_keeps_what_there_is(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        def stall(operation: str) -> None:
            if operation == "run-each":
                for _ in range(12):  # one that comes in the middle of a fork gets lost
                    os.kill(os.getppid(), signal.SIGINT)
                    time.sleep(5)

        return FakeGuest(before=stall)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(lab_of(make), folder)
    assert time.monotonic() - began < 30
    assert {s.cell["operation"] for s in read_run(folder.path).samples} >= {"create"}


def test_guests_on_cores_of_their_own_do_without_a_warning(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("this host has one CPU")
    monkeypatch.setattr(engine_module, "own_cores", lambda: [frozenset({c}) for c in cpus])
    seen = _made(tmp_path / "seen")

    def make(kernel: str, count: int) -> FakeGuest:
        def look(operation: str) -> None:
            if operation == "run-each":
                (seen / "-".join(map(str, sorted(os.sched_getaffinity(0))))).touch()

        return FakeGuest(before=look)

    events: list[Event] = []
    run(lab_of(make), folder, events=events)
    assert {path.name for path in seen.iterdir()} <= {str(cpu) for cpu in cpus}
    assert not [event for event in events if isinstance(event, Note)]


def test_too_few_cores_are_warned_of(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "own_cores", lambda: [frozenset({0})])
    events: list[Event] = []
    run(lab_of(), folder, events=events)
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert "--jobs 2" in note
    assert "disturb each other" in note
