"""A run over kernels and set-ups, with guests that are fake: what is kept, in what order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest
from experiments import plan_of
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from fake_lab import FakeLab, lab_of, subject

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import GuestHung, KernelCrashed, LabError, MachineLost, Verdict, WrongState
from linklab.events import Event, Note, StepAdvanced, StepFinished, StepStarted, ignore
from linklab.host.accel import Accel
from linklab.lab.kernel_reports import file_reports
from linklab.machine.spec import Boot, Clock
from linklab.results.store import RunFolder, read_run
from linklab.trials import engine as engine_module
from linklab.trials.engine import STEP, Engine
from linklab.trials.plan import Plan, schedule

SYSFS, NOSYSFS = subject("sysfs"), subject("nosysfs")
PLAN = plan_of(counts=(2, 3))
ONE_COUNT = plan_of(counts=(2,))


@pytest.fixture
def folder(tmp_path: Any) -> RunFolder:
    return RunFolder(tmp_path, {"kernels": []})


@pytest.fixture(autouse=True)
def plenty_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "host_memory_available", lambda: 8000)


def engine(
    lab: FakeLab, folder: RunFolder, plan: Plan = PLAN, events: list[Event] | None = None
) -> Engine:
    return Engine(lab, plan, folder, ignore if events is None else events.append)


def ran(
    lab: FakeLab, folder: RunFolder, plan: Plan = PLAN, events: list[Event] | None = None
) -> Engine:
    """The engine after a run of both kernels."""
    made = engine(lab, folder, plan, events)
    made.run([NOSYSFS, SYSFS])
    return made


def lines_of(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.path / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def begun_with(kernel: str, plan: Plan) -> Plan:
    """The plan with a seed by which the run begins with a kernel."""
    for seed in numbers():
        seeded = replace(plan, seed=seed)
        if schedule(seeded, ["nosysfs", "sysfs"], 64)[0].slot.kernel == kernel:
            return seeded
    raise AssertionError


def raising(operation: str, error: BaseException) -> FakeGuest:
    """A guest in which the agent's operation ends so."""

    def before(doing: str) -> None:
        if doing == operation:
            raise error

    return FakeGuest(before=before)


def hanging() -> FakeGuest:
    return raising("run-each", GuestHung("no answer"))


# A run that goes well


def test_every_kernel_and_every_count_gets_a_guest_of_its_own(folder: RunFolder) -> None:
    lab = lab_of()
    found = ran(lab, folder)
    assert found.faults == []
    wanted = [(kernel, count) for kernel in ("nosysfs", "sysfs") for count in (2, 3)]
    assert sorted(lab.booted) == sorted(lab.ended) == wanted
    boots = read_run(folder.path).boots
    assert sorted((b.kernel, b.cell["interfaces"]) for b in boots) == wanted
    told = {(b.seconds, b.clocksource, b.clock_resolution) for b in boots}
    assert told == {(0.456789, "tsc", 1e-9)}


def test_each_guests_console_goes_to_a_log_of_its_own(folder: RunFolder) -> None:
    lab = lab_of()
    ran(lab, folder)
    assert len(set(lab.logs)) == 4
    assert all(name.startswith("console-") and name.endswith(".log") for name in lab.logs)


def test_samples_say_everything_that_is_needed_to_interpret_them(folder: RunFolder) -> None:
    engine(lab_of(accel=Accel.KVM, boot=Boot.ISO), folder).run([SYSFS])
    lines = lines_of(folder)
    tried = Counter((s["operation"], s["arm"], s["interfaces"], s["trial"]) for s in lines)
    assert tried == Counter(
        work
        for count in (2, 3)
        for work in (
            ("create", "netlink", count, 0),
            ("mtu", "group", count, 1),
            ("mtu", "process", count, 1),
        )
    )
    assert {(s["scenario"], s["kernel"], s["boot"], s["accel"], s["verified"]) for s in lines} == {
        ("grouping", "sysfs", "iso", "kvm", True)
    }
    (by_process,) = (s for s in lines if (s["arm"], s["interfaces"]) == ("process", 3))
    assert (by_process["processes"], by_process["messages"]) == (3, 3)
    assert by_process["seconds"] == pytest.approx(0.06)


@pytest.mark.parametrize("clock", [Clock.REAL, Clock.VIRTUAL])
def test_samples_say_what_their_seconds_are(folder: RunFolder, clock: Clock) -> None:
    engine(replace(lab_of(), clock=clock), folder).run([SYSFS])
    assert {line["clock"] for line in lines_of(folder)} == {clock.value}


def test_a_guest_begins_with_the_creation_of_its_interfaces(folder: RunFolder) -> None:
    engine(lab_of(), folder).run([SYSFS])
    for at in (0, 3):
        first = lines_of(folder)[at]
        assert (first["operation"], first["trial"]) == ("create", 0)


def test_order_counts_over_all_kernels_as_samples_were_taken(folder: RunFolder) -> None:
    ran(lab_of(), folder)
    assert [s["order"] for s in lines_of(folder)] == list(range(12))


def test_each_sample_is_on_disk_before_the_next_trial_begins(folder: RunFolder) -> None:
    """So a run that is killed in a trial has all that was measured before."""
    on_disk: list[int] = []

    def note(operation: str) -> None:
        if operation in ("run", "run-each"):
            on_disk.append(len(lines_of(folder)))

    engine(lab_of(lambda kernel, count: FakeGuest(before=note)), folder).run([SYSFS])
    assert on_disk == [1, 1, 2, 4, 4, 5], "first of each guest's starts is none of a trial"


@pytest.mark.parametrize(
    ("changes", "starts"),
    [({}, 3), ({"warmup_rounds": 1}, 4), ({"warmup_trials": 1}, 4), ({"fresh_guest": True}, 2)],
)
def test_ip_is_in_memory_before_the_first_trial_that_is_kept(
    changes: dict[str, Any], starts: int, folder: RunFolder
) -> None:
    """Twice, for two arms, and once more for whom else; a fresh guest is to be fresh."""
    started: list[str] = []

    def note(operation: str) -> None:
        if operation in ("run", "run-each"):
            started.append(operation)

    lab = lab_of(lambda *_: FakeGuest(before=note, traces=False))
    engine(lab, folder, replace(ONE_COUNT, **changes)).run([SYSFS])
    assert len(started) == starts


def test_a_boot_is_on_disk_before_the_first_trial(folder: RunFolder) -> None:
    seen: list[int] = []

    def note(operation: str) -> None:
        if operation in ("run", "run-each"):
            seen.append(len(read_run(folder.path).boots))

    engine(lab_of(lambda *_: FakeGuest(before=note)), folder, ONE_COUNT).run([SYSFS])
    assert seen == [1, 1, 1]


# Repeats


def test_each_trial_is_repeated_and_those_for_warming_up_are_not_kept(folder: RunFolder) -> None:
    ran(lab_of(), folder, replace(PLAN, repeat=3, warmup_rounds=2))
    trials = Counter(
        (s["kernel"], s["interfaces"], s["arm"]) for s in lines_of(folder) if s["trial"] > 0
    )
    assert len(trials) == 8
    assert set(trials.values()) == {3}
    assert {s["trial"] for s in lines_of(folder)} == {0, 1, 2, 3}


def test_repeats_are_interleaved_over_guests_that_are_there_at_the_same_time(
    folder: RunFolder,
) -> None:
    lab = lab_of()
    ran(lab, folder, replace(PLAN, repeat=3))
    assert len(lab.booted) == 4
    kernels = [s["kernel"] for s in lines_of(folder) if s["trial"] == 2]
    assert set(kernels) == {"nosysfs", "sysfs"}


def test_there_are_no_more_guests_at_a_time_than_the_host_has_memory_for(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "host_memory_available", lambda: 900)  # for two
    most: list[int] = []
    lab = lab_of(lambda *_: FakeGuest(before=lambda _: most.append(lab.running)))
    events: list[Event] = []
    ran(lab, folder, replace(PLAN, repeat=2), events)
    assert max(most) == 2
    assert len(lab.booted) == len(lab.ended) == 4
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("room for 2 of the 4 guests" in text for text in notes)


def test_a_fresh_guest_for_each_trial_is_booted_for_each(folder: RunFolder) -> None:
    most: list[int] = []
    lab = lab_of(lambda *_: FakeGuest(before=lambda _: most.append(lab.running)))
    engine(lab, folder, replace(ONE_COUNT, repeat=2, fresh_guest=True)).run([SYSFS])
    assert len(lab.booted) == 4
    assert max(most) == 1
    trials = [s["trial"] for s in lines_of(folder)]
    assert trials == [0, 1, 0, 1, 0, 2, 0, 2]


def test_what_listeners_heard_is_in_the_samples_of_the_trials(folder: RunFolder) -> None:
    engine(lab_of(), folder, plan_of(counts=(2,), listeners=3)).run([SYSFS])
    heard = {(s["trial"], s["notifications"]) for s in lines_of(folder)}
    assert heard == {(0, 0), (1, 6)}


# Kernels that fail


def test_a_kernel_that_fails_ends_its_own_part_and_not_the_run(folder: RunFolder) -> None:
    lab = lab_of(lambda kernel, count: hanging() if kernel == "nosysfs" else FakeGuest())
    found = ran(lab, folder)
    booted = Counter(kernel for kernel, _ in lab.booted)
    assert booted == {"nosysfs": 1, "sysfs": 2}
    assert lab.running == 0
    (fault,) = found.faults
    assert fault.verdict is Verdict.HANG
    assert "nosysfs" in fault.message
    kept = Counter(s["kernel"] for s in lines_of(folder))
    assert kept["sysfs"] == 6
    assert kept["nosysfs"] >= 1, "what was measured before is kept"


def test_a_kernel_that_does_not_boot_ends_its_own_part_and_not_the_run(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        if kernel == "nosysfs":
            raise KernelCrashed("the kernel reports a panic: Kernel panic - not syncing", "tail")
        return FakeGuest()

    lab = lab_of(make)
    found = ran(lab, folder)
    assert [fault.verdict for fault in found.faults] == [Verdict.CRASH]
    assert found.faults[0].evidence == "tail"
    assert {s["kernel"] for s in lines_of(folder)} == {"sysfs"}
    assert lab.running == 0


def test_every_kernels_fault_is_told_and_noted(folder: RunFolder) -> None:
    found = ran(lab_of(lambda *_: hanging()), folder)
    assert len(found.faults) == 2
    told = {f.message.partition(":")[0] for f in found.faults}
    assert told == {"kernel nosysfs", "kernel sysfs"}
    noted = read_run(folder.path).faults
    assert [entry["message"] for entry in noted] == [f.message for f in found.faults]


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_wrong_state_is_kept_as_not_verified_and_ends_that_kernels_part(
    warmup: int, folder: RunFolder
) -> None:
    """Also where the trial was for warming up: it says what the kernel did."""
    wrong = Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))
    lab = lab_of(lambda kernel, count: FakeGuest(wrong if count == 3 else None))
    plan = replace(PLAN, warmup_rounds=warmup, repeat=3)
    begun = engine(lab, folder, plan)
    begun.run([SYSFS])
    (fault,) = begun.faults
    assert isinstance(fault, WrongState)
    assert "kernel sysfs" in fault.message
    assert "ll10001" in fault.message
    *fine, last = lines_of(folder)
    assert (last["interfaces"], last["verified"]) == (3, False)
    assert last["trial"] == 1 - warmup
    assert all(sample["verified"] for sample in fine)
    assert lab.running == 0


# A lab that fails, a user who has enough


@pytest.mark.parametrize(
    "error", [LabError("disk full"), MachineLost("QEMU was killed"), KeyboardInterrupt()]
)
def test_a_run_that_is_ended_has_its_samples_and_no_guest_left(
    error: BaseException, folder: RunFolder
) -> None:
    lab = lab_of(lambda *_: raising("run-each", error))
    plan = replace(PLAN, repeat=2)
    with pytest.raises(type(error)) as caught:
        ran(lab, folder, plan)
    assert caught.value is error
    assert lab.running == 0
    samples = read_run(folder.path).samples
    assert samples
    assert "process" not in {sample.cell["arm"] for sample in samples}


def test_what_a_kernel_did_is_on_disk_also_when_the_lab_fails_later(folder: RunFolder) -> None:
    def make(kernel: str, count: int) -> FakeGuest:
        if kernel == "sysfs":
            raise MachineLost("QEMU was killed")
        return hanging()

    begun = engine(lab_of(make), folder, begun_with("nosysfs", PLAN))
    with pytest.raises(MachineLost):
        begun.run([NOSYSFS, SYSFS])
    (noted,) = read_run(folder.path).faults
    assert (noted["kernel"], noted["verdict"]) == ("nosysfs", "hang")
    assert (noted["during"], noted["operation"]) == ("trial", "mtu")
    assert noted["interfaces"] in (2, 3)
    assert [fault.verdict for fault in begun.faults] == [Verdict.HANG]


def test_a_full_disk_ends_the_run_as_the_labs_fault(folder: RunFolder) -> None:
    (folder.path / "samples.jsonl").symlink_to("/dev/full")
    lab = lab_of()
    with pytest.raises(LabError, match="No space left on device"):
        engine(lab, folder).run([SYSFS])
    assert lab.running == 0


# Progress


def progress_of(events: list[Event]) -> tuple[int, list[StepAdvanced]]:
    started = [event for event in events if isinstance(event, StepStarted)]
    assert [step.step for step in started] == [STEP]
    assert started[0].total is not None
    assert isinstance(events[-1], StepFinished)
    return started[0].total, [event for event in events if isinstance(event, StepAdvanced)]


@pytest.mark.parametrize(
    "make",
    [
        lambda kernel, count: FakeGuest(),
        lambda kernel, count: hanging() if kernel == "nosysfs" else FakeGuest(),
        lambda kernel, count: hanging(),
    ],
    ids=["all well", "one kernel fails", "all fail"],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_progress_never_goes_back_or_over_its_total(
    fresh: bool, make: Callable[[str, int], FakeGuest], folder: RunFolder
) -> None:
    events: list[Event] = []
    plan = replace(PLAN, repeat=2, warmup_rounds=1, fresh_guest=fresh)
    begun = engine(lab_of(make), folder, plan, events)
    begun.run([NOSYSFS, SYSFS])
    total, advanced = progress_of(events)
    done = [event.done for event in advanced]
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] <= total


@pytest.mark.parametrize("ends", ["well", "with a fault"])
def test_known_noise_is_noted_in_each_guest_and_said_once(
    ends: str, folder: RunFolder, tmp_path: Path
) -> None:
    report = Report(Fault.WARNING, "WARNING in old_driver", "old_driver", (), "the text")
    known = file_reports([report], tmp_path / "console.log", None, known=True)
    events: list[Event] = []
    lab = lab_of(lambda _kernel, _count: FakeGuest() if ends == "well" else hanging())
    plan = plan_of(arms=("process",), counts=(2, 3))
    engine(replace(lab, ignored=known), folder, plan, events).run([SYSFS])
    noted = read_run(folder.path).lines["ignored"]
    assert [entry["interfaces"] for entry in noted] == ([2, 3] if ends == "well" else [2])
    said = [event.text for event in events if isinstance(event, Note)]
    assert [text for text in said if "WARNING in old_driver: known noise" in text] == said
    assert len(said) == 1


def test_progress_says_what_runs(folder: RunFolder) -> None:
    events: list[Event] = []
    plan = replace(PLAN, repeat=2, warmup_rounds=1)
    ran(lab_of(), folder, plan, events)
    details = {event.detail for event in progress_of(events)[1]}
    for detail in (
        "nosysfs, 2 interfaces: booting",
        "sysfs: mtu by process, 3 interfaces, trial 2",
        "sysfs: mtu by group, 3 interfaces, warming up",
        "sysfs: mtu by group, 3 interfaces, counting system calls",
        "sysfs, 3 interfaces: ending",
    ):
        assert detail in details


def test_progress_after_a_kernel_that_failed_goes_on_where_its_part_would_have_ended(
    folder: RunFolder,
) -> None:
    events: list[Event] = []
    lab = lab_of(lambda kernel, count: hanging() if kernel == "nosysfs" else FakeGuest())
    plan = begun_with("nosysfs", ONE_COUNT)
    ran(lab, folder, plan, events)
    total, advanced = progress_of(events)
    second = next(event for event in advanced if event.detail.startswith("sysfs"))
    assert second.done == total // 2
