"""A run of the grouping scenario over kernels and counts, with guests that are fake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish

from linklab.errors import (
    GuestHung,
    KernelCrashed,
    LabError,
    MachineLost,
    Verdict,
    WrongState,
)
from linklab.events import Event, StepAdvanced, StepFinished, StepStarted
from linklab.host.accel import Accel
from linklab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.results.store import RunFolder, read_run
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.runner import STEP, Runner
from linklab.scenarios.grouping.ways import Arm

MakeGuest = Callable[[str, int], FakeGuest]


@dataclass
class FakeLab:
    """Boots a `FakeGuest` for each session, as `make` gives it for a kernel and a turn."""

    make: MakeGuest = lambda kernel, turn: FakeGuest()
    accel: Accel = Accel.TCG
    boot: Boot = Boot.DIRECT
    logs: list[str] = field(default_factory=list)
    booted: list[str] = field(default_factory=list)
    ended: int = 0

    @contextmanager
    def session(self, subject: Subject, console_log: Path) -> Iterator[SimpleNamespace]:
        self.booted.append(subject.name)
        self.logs.append(console_log.name)
        console_log.write_text("booting\n")
        guest = self.make(subject.name, self.booted.count(subject.name))
        hello = SimpleNamespace(clocksource="tsc", clock_resolution=1e-9)
        try:
            yield SimpleNamespace(agent=guest, hello=hello, boot_seconds=0.4567891)
        finally:
            self.ended += 1


def subject(name: str) -> Subject:
    return Subject(name, "6.12.0", "0" * 64, Path("vmlinux"), known=True)


SYSFS, NOSYSFS = subject("sysfs"), subject("nosysfs")
PLAN = Plan((2, 3), (Operation.MTU,), (Arm.GROUP, Arm.PROCESS))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, {"kernels": []})


def runner(
    lab: FakeLab, folder: RunFolder, plan: Plan = PLAN, events: list[Event] | None = None
) -> Runner:
    listener = (lambda event: None) if events is None else events.append
    return Runner(cast(Lab, lab), plan, folder, listener)


def lines_of(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.path / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_kernel_and_every_count_gets_a_guest_of_its_own(folder: RunFolder) -> None:
    lab = FakeLab()
    outcome = runner(lab, folder).run([NOSYSFS, SYSFS])
    assert outcome.faults == []
    assert lab.booted == ["nosysfs", "nosysfs", "sysfs", "sysfs"]
    assert lab.ended == 4
    boots = read_run(folder.path).boots
    assert [(b.kernel, b.interfaces) for b in boots] == [
        ("nosysfs", 2),
        ("nosysfs", 3),
        ("sysfs", 2),
        ("sysfs", 3),
    ]
    assert {(b.seconds, b.clocksource, b.clock_resolution) for b in boots} == {
        (0.456789, "tsc", 1e-9)
    }


def test_each_guests_console_goes_to_a_log_of_its_own(folder: RunFolder) -> None:
    lab = FakeLab()
    runner(lab, folder).run([NOSYSFS, SYSFS])
    assert len(set(lab.logs)) == 4
    assert all(name.startswith("console-") and name.endswith(".log") for name in lab.logs)


def test_samples_say_everything_that_is_needed_to_interpret_them(folder: RunFolder) -> None:
    lab = FakeLab(accel=Accel.KVM, boot=Boot.ISO)
    runner(lab, folder).run([SYSFS])
    lines = lines_of(folder)
    of_three = [(s["operation"], s["arm"], s["interfaces"], s["trial"]) for s in lines[3:]]
    assert of_three == [
        ("create", "netlink", 3, 0),
        ("mtu", "group", 3, 1),
        ("mtu", "process", 3, 1),
    ]
    assert {(s["scenario"], s["kernel"], s["boot"], s["accel"], s["verified"]) for s in lines} == {
        ("grouping", "sysfs", "iso", "kvm", True)
    }
    assert [s["order"] for s in lines] == list(range(6))
    by_process = lines[-1]
    assert (by_process["processes"], by_process["messages"]) == (3, 3)
    assert by_process["seconds"] == pytest.approx(0.06)


def test_order_counts_over_all_kernels(folder: RunFolder) -> None:
    runner(FakeLab(), folder).run([NOSYSFS, SYSFS])
    assert [s["order"] for s in lines_of(folder)] == list(range(12))


def test_each_sample_is_on_disk_before_the_next_trial_begins(folder: RunFolder) -> None:
    """So a run that is killed in a trial has all that was measured before."""
    on_disk: list[int] = []

    def note(operation: str) -> None:
        if operation in ("run", "run-each"):
            on_disk.append(len(lines_of(folder)))

    runner(FakeLab(lambda kernel, turn: FakeGuest(before=note)), folder).run([SYSFS])
    assert on_disk == [1, 2, 4, 5]


def test_a_boot_is_on_disk_before_anything_is_measured(folder: RunFolder) -> None:
    seen: list[int] = []
    guest = FakeGuest(before=lambda operation: seen.append(len(read_run(folder.path).boots)))
    runner(FakeLab(lambda *_: guest), folder, Plan((2,))).run([SYSFS])
    assert set(seen) == {1}


def hangs_at(operation: str) -> FakeGuest:
    def before(doing: str) -> None:
        if doing == operation:
            raise GuestHung("no answer")

    return FakeGuest(before=before)


def test_a_kernel_that_fails_ends_its_own_part_and_not_the_run(folder: RunFolder) -> None:
    def make(kernel: str, turn: int) -> FakeGuest:
        return hangs_at("run-each") if kernel == "nosysfs" else FakeGuest()

    lab = FakeLab(make)
    outcome = runner(lab, folder).run([NOSYSFS, SYSFS])
    assert lab.booted == ["nosysfs", "sysfs", "sysfs"]
    assert lab.ended == 3
    (fault,) = outcome.faults
    assert fault.verdict is Verdict.HANG
    assert "nosysfs" in fault.message
    kernels = [s["kernel"] for s in lines_of(folder)]
    assert kernels == ["nosysfs"] * 2 + ["sysfs"] * 6, "what was measured before is kept"


def test_a_kernel_that_does_not_boot_ends_its_own_part_and_not_the_run(folder: RunFolder) -> None:
    def make(kernel: str, turn: int) -> FakeGuest:
        if kernel == "nosysfs":
            raise KernelCrashed("the kernel reports a panic: Kernel panic - not syncing", "tail")
        return FakeGuest()

    outcome = runner(FakeLab(make), folder).run([NOSYSFS, SYSFS])
    assert [fault.verdict for fault in outcome.faults] == [Verdict.CRASH]
    assert outcome.faults[0].evidence == "tail"
    assert {s["kernel"] for s in lines_of(folder)} == {"sysfs"}


def test_every_kernels_fault_is_told_in_order(folder: RunFolder) -> None:
    outcome = runner(FakeLab(lambda *_: hangs_at("run")), folder).run([NOSYSFS, SYSFS])
    assert ["nosysfs" in f.message for f in outcome.faults] == [True, False]
    assert ["kernel sysfs" in f.message for f in outcome.faults] == [False, True]


def test_a_wrong_state_is_kept_as_not_verified_and_ends_that_kernels_part(
    folder: RunFolder,
) -> None:
    wrong = Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))
    lab = FakeLab(lambda kernel, turn: FakeGuest(wrong if turn == 2 else None))
    outcome = runner(lab, folder).run([SYSFS])
    (fault,) = outcome.faults
    assert isinstance(fault, WrongState)
    assert "kernel sysfs" in fault.message
    assert "ll10001" in fault.message
    lines = lines_of(folder)
    assert [(s["interfaces"], s["arm"], s["verified"]) for s in lines] == [
        (2, "netlink", True),
        (2, "group", True),
        (2, "process", True),
        (3, "netlink", True),
        (3, "group", False),
    ]
    assert lab.ended == 2


@pytest.mark.parametrize("error", [LabError("disk full"), MachineLost("QEMU was killed")])
def test_a_fault_of_the_lab_ends_the_run_with_the_samples_kept(
    error: LabError, folder: RunFolder
) -> None:
    def before(operation: str) -> None:
        if operation == "run-each":
            raise error

    lab = FakeLab(lambda *_: FakeGuest(before=before))
    with pytest.raises(LabError) as caught:
        runner(lab, folder).run([NOSYSFS, SYSFS])
    assert caught.value is error
    assert lab.booted == ["nosysfs"]
    assert lab.ended == 1
    assert [s.arm for s in read_run(folder.path).samples] == ["netlink", "group"]


def test_what_a_kernel_did_is_on_disk_also_when_the_lab_fails_later(folder: RunFolder) -> None:
    def make(kernel: str, turn: int) -> FakeGuest:
        if kernel == "sysfs":
            raise MachineLost("QEMU was killed")
        return hangs_at("run")

    with pytest.raises(MachineLost):
        runner(FakeLab(make), folder).run([NOSYSFS, SYSFS])
    (fault,) = read_run(folder.path).about["faults"]
    assert fault["verdict"] == "hang"
    assert "nosysfs" in fault["message"]


def test_an_interrupt_ends_the_run_with_the_samples_kept(folder: RunFolder) -> None:
    def before(operation: str) -> None:
        if operation == "run-each":
            raise KeyboardInterrupt

    lab = FakeLab(lambda *_: FakeGuest(before=before))
    with pytest.raises(KeyboardInterrupt):
        runner(lab, folder).run([NOSYSFS, SYSFS])
    assert lab.ended == 1
    assert [s.arm for s in read_run(folder.path).samples] == ["netlink", "group"]


def test_a_full_disk_ends_the_run_as_the_labs_fault(folder: RunFolder) -> None:
    (folder.path / "samples.jsonl").symlink_to("/dev/full")
    lab = FakeLab()
    with pytest.raises(LabError, match="No space left on device"):
        runner(lab, folder).run([SYSFS])
    assert lab.ended == 1


def test_progress_tells_what_runs_and_never_goes_back_or_over_its_total(
    folder: RunFolder,
) -> None:
    events: list[Event] = []
    plan = Plan((2, 3), (Operation.MTU,), (Arm.GROUP, Arm.PROCESS), repeat=2)
    runner(FakeLab(), folder, plan, events).run([NOSYSFS, SYSFS])
    started = events[0]
    assert isinstance(started, StepStarted)
    assert started.step == STEP
    assert started.total is not None
    assert isinstance(events[-1], StepFinished)
    advanced = [event for event in events if isinstance(event, StepAdvanced)]
    done = [event.done for event in advanced]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] < started.total
    details = [event.detail for event in advanced]
    assert "nosysfs, 2 interfaces: booting" in details
    assert "sysfs, 3 interfaces: mtu by process, trial 2" in details
    assert "sysfs, 3 interfaces: create by netlink" in details


def test_progress_after_a_kernel_that_failed_begins_where_its_part_would_have_ended(
    folder: RunFolder,
) -> None:
    events: list[Event] = []

    def make(kernel: str, turn: int) -> FakeGuest:
        return hangs_at("run") if kernel == "nosysfs" else FakeGuest()

    runner(FakeLab(make), folder, PLAN, events).run([NOSYSFS, SYSFS])
    (total,) = [event.total for event in events if isinstance(event, StepStarted)]
    assert total
    second = next(e for e in events if isinstance(e, StepAdvanced) and e.detail.startswith("sysfs"))
    assert second.done == total // 2
