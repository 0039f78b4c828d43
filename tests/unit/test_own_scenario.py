"""A scenario of one's own through the engine: in what order it is called, and what is kept."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from experiments import plan_of
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from fake_lab import FakeLab, lab_of, subject

from linklab.agent.replies import Hello
from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import GuestHung, LinklabError, WrongState
from linklab.events import ignore
from linklab.host.cache import Cached
from linklab.lab.kernel_reports import file_reports
from linklab.lab.lab import Lab
from linklab.lab.session import Snapshot
from linklab.results.model import BootRecord, Sample, TallyRecord
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, read_run
from linklab.scenarios import scenario_named
from linklab.trials.engine import Batch, Engine
from linklab.trials.plan import CountSyscalls, GuestSlot, Plan, Turn, cells_of
from linklab.trials.subjects import experiment

OWN = str(Path(__file__).with_name("own_scenario.py"))
GIVEN: dict[str, Any] = {"depth": 4, "pause": 0.5, "disk": "ram", "title": "", "wrong": 0}
SYSFS, NOSYSFS = subject("sysfs"), subject("nosysfs")


def plan_of_own(wrong: int = 0, ways: tuple[str, ...] = ("whole", "twice"), **more: Any) -> Plan:
    values = {"size": (1, 10), "way": ways}
    return Plan(OWN, cells_of(scenario_named(OWN), values), {**GIVEN, "wrong": wrong}, **more)


class Book(RunFolder):
    """The folder of a run, which notes in what order it is filled."""

    def __init__(self, path: Path, plan: Plan) -> None:
        path.mkdir(exist_ok=True)
        super().__init__(path, {"kernels": [], **experiment(plan, lab_of())})
        self.kept: list[str] = []

    def add_sample(self, sample: Sample) -> None:
        verified = "" if sample.verified else " not verified"
        self.kept.append(f"sample {sample.cell.text} #{sample.trial}{verified}")
        super().add_sample(sample)

    def add_boot(self, boot: BootRecord) -> None:
        self.kept.append(f"boot {boot.kernel}")
        super().add_boot(boot)

    def add_tally(self, tally: TallyRecord) -> None:
        self.kept.append(f"tally {tally.cell.text}")
        super().add_tally(tally)

    def add_fault(self, kernel: str, fault: LinklabError, **at: Any) -> None:
        self.kept.append(f"fault {kernel} during {at['during']}")
        super().add_fault(kernel, fault, **at)

    def add_ignored(self, kernel: str, report: Mapping[str, Any], **at: Any) -> None:
        self.kept.append(f"ignored {kernel}")
        super().add_ignored(kernel, report, **at)


def with_noise(lab: FakeLab, folder: Path) -> FakeLab:
    """A lab whose guests' kernels report something that is known."""
    report = Report(Fault.WARNING, "WARNING in old_driver", "old_driver", (), "the text")
    return replace(lab, ignored=file_reports([report], folder / "c.log", None, known=True))


# The order of events


def test_what_comes_of_a_guest_is_kept_in_the_order_in_which_it_comes(tmp_path: Path) -> None:
    plan = plan_of(arms=("netlink", "batch"), counts=(3,), repeat=2, warmup_rounds=1)
    book = Book(tmp_path, plan)
    Engine(with_noise(lab_of(), tmp_path), plan, book, ignore).run([SYSFS])
    boot, made, *rest = book.kept
    assert (boot, made) == ("boot sysfs", "sample create/netlink/3 #0")
    rounds, tallies, ignored = [set(rest[:2]), set(rest[2:4])], set(rest[4:6]), rest[6:]
    assert rounds == [{f"sample mtu/{a}/3 #{n}" for a in ("netlink", "batch")} for n in (1, 2)]
    assert tallies == {f"tally mtu/{a}/3" for a in ("netlink", "batch")}
    assert ignored == ["ignored sysfs"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_comes_after_all_that_was_measured_before_it(tmp_path: Path, jobs: int) -> None:
    wrong = Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))
    plan = plan_of(arms=("group",), counts=(3,), repeat=2, jobs=jobs)
    book = Book(tmp_path / "run", plan)
    lab = with_noise(lab_of(lambda *_: FakeGuest(wrong)), tmp_path)
    Engine(lab, plan, book, ignore).run([SYSFS])
    assert book.kept == [
        "boot sysfs",
        "sample create/netlink/3 #0",
        "ignored sysfs",
        "sample mtu/group/3 #1 not verified",
        "fault sysfs during trial",
    ]


def test_a_guest_that_does_not_come_up_has_no_boot_and_no_sample(tmp_path: Path) -> None:
    def make(_kernel: str, _count: int) -> FakeGuest:
        raise GuestHung("no hello")

    plan = plan_of_own()
    book = Book(tmp_path, plan)
    Engine(lab_of(make), plan, book, ignore).run([SYSFS])
    assert book.kept == ["fault sysfs during boot"]
    (fault,) = read_run(tmp_path).faults
    assert fault["guest"] == "guest"


# What a scenario is asked for


def test_a_scenario_is_called_in_order_and_what_it_returns_is_kept(tmp_path: Path) -> None:
    kind: Any = scenario_named(OWN)
    kind.log.clear()
    plan = plan_of_own(ways=("whole",))
    engine = Engine(lab_of(), plan, Book(tmp_path, plan), ignore)
    engine.run([SYSFS])
    first, second = (sample.cell.text for sample in engine.samples)
    assert {first, second} == {"1/whole", "10/whole"}
    assert kind.log == [
        *("load", "set up", "warm up"),
        *(f"prepare {first}", f"trial {first}", f"check {first}"),
        *(f"prepare {second}", f"trial {second}", f"check {second}"),
    ]
    stored = read_run(tmp_path)
    assert stored.samples == engine.samples
    assert stored.shape == kind.shape
    assert stored.cells == list(plan.cells)
    found = {sample.cell: dict(sample.metrics) for sample in stored.samples}
    assert found == {
        Cell({"size": size, "way": "whole"}): {"rate": 100.0 * size, "misses": 4}
        for size in (1, 10)
    }
    assert {sample.scenario for sample in stored.samples} == {"writing"}
    assert [boot.cell for boot in stored.boots] == [Cell()]
    assert stored.plan["given"] == GIVEN


def test_the_columns_are_counted_at_the_last_row_where_there_are_several(tmp_path: Path) -> None:
    plan = plan_of_own(repeat=2)
    Engine(lab_of(), plan, Book(tmp_path, plan), ignore).run([SYSFS])
    tallies = read_run(tmp_path).tallies
    assert {(each.cell.text, each.metrics["calls"]) for each in tallies} == {
        ("10/whole", 3),
        ("10/twice", 3),
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_check_that_fails_keeps_the_sample_and_ends_its_kernels_part(
    tmp_path: Path, jobs: int
) -> None:
    """The second kernel does everything that it has to until it fails, too."""
    plan = plan_of_own(wrong=10, repeat=5, jobs=jobs)
    book = Book(tmp_path, plan)
    engine = Engine(lab_of(), plan, book, ignore)
    engine.run([NOSYSFS, SYSFS])
    assert {type(fault) for fault in engine.faults} == {WrongState}
    assert len(engine.faults) == 2
    for kernel in ("sysfs", "nosysfs"):
        *fine, last = (s for s in engine.samples if s.kernel == kernel)
        assert (last.cell["size"], last.verified) == (10, False)
        assert last.metrics["rate"] == 1000.0, "what it took is told, and that it does not count"
        assert all(s.verified and s.cell["size"] == 1 for s in fine)
        (fault,) = (f for f in read_run(tmp_path).faults if f["kernel"] == kernel)
        assert (fault["size"], fault["way"]) == (10, last.cell["way"])
        assert (fault["trial"], fault["guest"]) == (last.trial, "guest")
        assert fault["message"] == f"kernel {kernel}: 10 bytes are not what they were"
    assert read_run(tmp_path).samples == engine.samples


def test_the_other_kernel_goes_on_to_its_end(tmp_path: Path) -> None:
    wrong = Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))
    plan = plan_of(arms=("group",), counts=(3,), repeat=4)
    lab = lab_of(lambda kernel, _count: FakeGuest(wrong if kernel == "sysfs" else None))
    engine = Engine(lab, plan, Book(tmp_path, plan), ignore)
    engine.run([NOSYSFS, SYSFS])
    trials = [(s.kernel, s.trial, s.verified) for s in engine.samples if s.trial]
    assert sorted(trials) == [*(("nosysfs", n, True) for n in range(1, 5)), ("sysfs", 1, False)]
    assert engine.failed == "sysfs"


def test_a_guest_without_ip_does_what_needs_none(tmp_path: Path) -> None:
    """Also its first trial, before which `ip` is started where it is there."""
    plan = plan_of(arms=("netlink",), counts=(3,))
    lab = lab_of(lambda *_: FakeGuest(programs=frozenset()))
    engine = Engine(lab, plan, Book(tmp_path, plan), ignore)
    engine.run([SYSFS])
    assert engine.faults == []
    assert [s.cell.text for s in engine.samples] == ["create/netlink/3", "mtu/netlink/3"]


# What goes from one process to another


@pytest.mark.parametrize(
    "value",
    [
        plan_of(counts=(2, 3), seed=7, listeners=3),
        plan_of_own(jobs=2),
        GuestSlot(3, "sysfs", Cell({"interfaces": 128}), 2),
        Turn(GuestSlot(3, "sysfs", Cell()), Cell({"size": 1, "way": "whole"}), -1),
        CountSyscalls(Cell({"size": 1, "way": "whole"})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_worker_is_told_can_be_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_slot_is_still_known_by_after_the_way_through_a_pickle() -> None:
    slot = GuestSlot(3, "sysfs", Cell({"interfaces": 128}), 2)
    assert {slot: "known"}[pickle.loads(pickle.dumps(slot))] == "known"


_DOES_A_BATCH = """
import pickle, sys
from pathlib import Path
from linklab.results.model import Sample
batch = pickle.load(open(sys.argv[1], "rb"))
for event in batch.events(Path(sys.argv[2])):
    assert pickle.loads(pickle.dumps(event)) == event
    told = (event.cell.text, event.trial, event.verified) if isinstance(event, Sample) else ()
    print(type(event).__name__, *told)
spec = batch.lab.spec_for(batch.subjects["sysfs"])
print(spec.boot.kernel, spec.boot.initramfs, batch.lab.qemu.path, sep="\\n")
"""
Elsewhere = Callable[..., list[str]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    """Let another process, with a cache and a QEMU of its own, do a batch that it is sent."""
    qemu = tmp_path / "bin" / "qemu-system-x86_64"
    qemu.parent.mkdir()

    def done(batch: Batch, version: str = "7.2.22") -> list[str]:
        qemu.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
        qemu.chmod(0o755)
        (tmp_path / "sent").write_bytes(pickle.dumps(batch))
        environment = {
            **os.environ,
            "LINKLAB_CACHE": str(tmp_path / "other"),
            "PATH": f"{qemu.parent}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(sys.path),
        }
        argv = [sys.executable, "-c", _DOES_A_BATCH, str(tmp_path / "sent"), str(tmp_path)]
        ended = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        return (ended.stdout + ended.stderr).splitlines()

    return done


def batch_of(lab: Lab) -> Batch:
    plan = replace(plan_of_own(), cells=plan_of_own().cells[:1])
    slot = GuestSlot(0, "sysfs", Cell())
    turns = [Turn(slot, plan.cells[0], 1)]
    return Batch(lab, plan, {"sysfs": SYSFS}, turns, {}, {slot: "console-001-sysfs.log"})


def test_a_batch_is_done_on_another_host_with_the_same_artefacts(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    *events, kernel, initramfs, qemu = elsewhere(batch_of(lab_of()))
    assert events == ["Begun", "BootRecord", "Begun", "Sample 1/whole 1 True", "Begun"]
    assert (tmp_path / "console-001-sysfs.log").is_file(), "whoever stores it names it"
    assert kernel == f"{tmp_path}/other/{SYSFS.kernel.name}"
    assert initramfs == f"{tmp_path}/other/{lab_of().initramfs.name}"
    assert qemu == f"{tmp_path}/bin/qemu-system-x86_64"


def test_a_host_without_an_artefact_says_which(elsewhere: Elsewhere, tmp_path: Path) -> None:
    fake = lab_of()
    lab = Lab(**{name: getattr(fake, name) for name in Lab.__dataclass_fields__})
    said = elsewhere(batch_of(lab))[-1]
    assert said.startswith("linklab.errors.LabError: ")
    assert f"{tmp_path}/other lacks {SYSFS.kernel.name}: " in said
    for file in (SYSFS.kernel, lab.initramfs):
        (tmp_path / "other" / file.name).parent.mkdir(parents=True)
        (tmp_path / "other" / file.name).touch()
    saved = Snapshot(Cached("snapshot/cd"), Hello(1, "", "", "", "", 1e-9, 1, 1, 1.0, 7))
    said = elsewhere(batch_of(replace(lab, snapshots={"sysfs": saved})))[-1]
    assert f"{tmp_path}/other lacks snapshot/cd: " in said


def test_a_host_with_another_qemu_does_not_take_a_batch(elsewhere: Elsewhere) -> None:
    said = elsewhere(batch_of(lab_of()), "10.0.2")[-1]
    assert said == "linklab.errors.LabError: QEMU 7.2.22 is expected, and this host has 10.0.2"


def test_another_process_finds_a_scenario_that_has_a_path(tmp_path: Path) -> None:
    """It has nothing of ours but the pickle."""
    sent = tmp_path / "plan"
    sent.write_bytes(pickle.dumps(plan_of_own(repeat=3)))
    program = (
        "import pickle, sys; plan = pickle.load(open(sys.argv[1], 'rb')); "
        "print(plan.kind.name, plan.repeat, *(cell.text for cell in plan.cells))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["writing", "3", "1/whole", "1/twice", "10/whole", "10/twice"]
