"""`--resume`: what was interrupted goes on from what is there, in whichever command it was."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of, subject

from linklab.commands import compare, run, workflow
from linklab.commands.compare import CompareOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.run import RunOptions
from linklab.errors import MachineLost, UsageError, Verdict
from linklab.lab import lab as lab_module
from linklab.lab.lab import Subject
from linklab.machine.spec import Clock
from linklab.results.model import Run
from linklab.results.store import read_run

RUN = RunOptions(
    kernels=KernelOptions("sysfs,nosysfs"),
    machine=MachineOptions(clock="real"),
    counts="2,3",
    operations="mtu",
    arms="group",
    repeat="3",
    fresh_guest=True,
)
COMPARE = CompareOptions(
    a="nosysfs",
    b="sysfs",
    kernels=KernelOptions(""),
    machine=MachineOptions(boot="direct", clock="real"),
    counts="2",
    operations="mtu",
    arms="group",
    blocks="8",
    trials="1",
)
Command = Callable[..., Verdict]
Key = tuple[str, Any, int]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLab:
    """A lab whose guest of the number in the file `loses` is lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)

    def make(_kernel: str, _count: int) -> FakeGuest:
        if len(made.booted) == int(os.environ.get("LOSES", "0")):
            raise MachineLost("QEMU was killed")
        return FakeGuest()

    made = lab_of(make)
    monkeypatch.setattr(workflow, "set_up_lab", lambda *_: made)

    def prepared(options: KernelOptions, *_: object) -> list[Subject]:
        return [subject(name) for name in options.names.split(",")]

    monkeypatch.setattr(workflow, "prepare_subjects", prepared)
    return made


def do(kind: str, **changes: Any) -> Verdict:
    if kind == "run":
        return run.main(replace(RUN, **changes), ["invoke", "run"])
    return compare.main(replace(COMPARE, **changes), ["invoke", "compare", "nosysfs", "sysfs"])


def keys(found: Run) -> Counter[Key]:
    """The trials of a run; what was measured beside them has no block."""
    trials = (each for each in found.samples if each.block)
    return Counter((each.kernel, each.cell, each.block) for each in trials)


def as_if_killed(folder: str) -> None:
    """Let a record look as that of a command that was killed: its end was not written."""
    file = Path(folder) / "run.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "verdict": None, "end": None, "message": None}))


@pytest.mark.parametrize("lost", [6, 7])
@pytest.mark.parametrize("kind", ["run", "compare"])
def test_what_was_lost_or_killed_goes_on_and_is_as_if_it_never_was(
    kind: str, lost: int, lab: FakeLab, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LOSES", str(lost))
    assert do(kind, output="out") is Verdict.ERROR
    assert f"invoke {kind}" in (said := " ".join(capsys.readouterr().err.split()))
    assert "--resume out` goes on" in said
    before = read_run(Path("out"))
    assert 0 < keys(before).total() < 7
    as_if_killed("out")
    lab.booted.clear()
    monkeypatch.setenv("LOSES", "0")
    assert do(kind, resume="out") is Verdict.PASS
    after = read_run(Path("out"))
    assert after.samples[: len(before.samples)] == before.samples
    assert [each.order for each in after.samples] == list(range(len(after.samples)))
    assert len(after.about["resumed"]) == 1
    assert after.about["verdict"] == "pass"
    assert set(keys(after).values()) == {1}
    again = len(lab.booted)
    lab.booted.clear()
    assert do(kind, output="whole", seed=str(before.plan["seed"])) is Verdict.PASS
    whole = read_run(Path("whole"))
    halves = [key for key in keys(whole) if key not in keys(after)]
    assert set(keys(after)) <= set(keys(whole))
    # Both kernels of a block are measured beside each other, or the block does not count.
    assert len(halves) == (kind == "compare" and keys(before).total() % 2)
    assert again < len(lab.booted)


def test_in_virtual_time_half_a_block_is_completed(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual = replace(lab, clock=Clock.VIRTUAL)
    monkeypatch.setattr(workflow, "set_up_lab", lambda *_: virtual)
    machine = MachineOptions(boot="direct", clock="virtual")
    monkeypatch.setenv("LOSES", "6")
    assert do("compare", output="out", machine=machine, jobs="1") is Verdict.ERROR
    assert keys(read_run(Path("out"))).total() % 2 == 1
    monkeypatch.setenv("LOSES", "0")
    assert do("compare", resume="out", machine=machine, jobs="1") is Verdict.PASS
    assert len(keys(read_run(Path("out")))) == 16


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_another_command_does_not_go_on(
    kind: str, lab: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSES", "6")
    do(kind, output="out")
    lines = Path("out/samples.jsonl").read_text()
    with pytest.raises(UsageError, match="not all is as it was") as caught:
        do(kind, resume="out", operations="up")
    assert "plan, axes: " in caught.value.evidence
    other = "compare" if kind == "run" else "run"
    with pytest.raises(
        UsageError, match=f"out holds no {'comparison' if kind == 'run' else 'run'}"
    ):
        do(other, resume="out")
    with pytest.raises(UsageError, match="--resume and --output"):
        do(kind, resume="out", output="other")
    assert Path("out/samples.jsonl").read_text() == lines
    monkeypatch.setenv("LOSES", "0")
    assert do(kind, resume="out") is Verdict.PASS
    with pytest.raises(UsageError, match=r"come to its end \(pass\)"):
        do(kind, resume="out")
