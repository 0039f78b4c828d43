"""`invoke sweep`: its plan, its checks, and going on after an interruption."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from fake_lab import lab_of, subject
from fake_sweep import (
    AXIS,
    CHECK,
    FILE,
    PATH,
    SUBJECTS,
    checking,
    here,  # noqa: F401
    stored,
    swept,
    with_line,
)

from linklab.commands import workflow
from linklab.commands.cli import COMMANDS, completions
from linklab.commands.history import ShowOptions, show
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.sweep import Sweeping, SweepOptions
from linklab.commands.sweepfile import read
from linklab.errors import UsageError, Verdict
from linklab.events import ignore
from linklab.lab.lab import Lab, Subject
from linklab.report.page import page
from linklab.results.model import Run
from linklab.results.outcomes import Status
from linklab.results.shape import Cell, Metric
from linklab.results.store import RunFolder, held
from linklab.results.suites import suites_of
from linklab.results.sweep import Check, Checked, Place, checked, summary
from linklab.trials.engine import Batch, Engine
from linklab.trials.plan import GuestSlot, Turn, left_of, schedule


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake guests, and nothing built."""

    def lab(_options: MachineOptions, memory: int, *_: object) -> Lab:
        return replace(lab_of(), memory=memory)

    def subjects(options: KernelOptions, *_: object) -> list[Subject]:
        names = options.names.split(",")
        return [subject(name) for name in names]

    monkeypatch.setattr(workflow, "set_up_lab", lab)
    monkeypatch.setattr(workflow, "prepare_subjects", subjects)


# The plan


def test_the_plan_is_the_cross_product_of_parameters_and_axes() -> None:
    plan = checking(FILE).plan
    assert [axis.name for axis in plan.shape.axes] == ["pace", "size", "protocol"]
    assert {cell.text for cell in plan.cells} == {
        f"{pace}/{size}/{protocol}"
        for pace in (1.0, 2.5)
        for size in (100, 200)
        for protocol in ("tcp", "udp")
    }
    assert [setup.text for setup in plan.setups] == ["1.0", "2.5"]
    assert plan.given == {"queue": "fq", "seconds": 5}
    assert plan.given_in(plan.setups[1]) == {"queue": "fq", "seconds": 5, "pace": 2.5}
    assert plan.shape.in_words(plan.cells[0]) == "tcp of 100 bytes, pace 1"


def test_its_trials_are_interleaved_over_kernels_and_parameters() -> None:
    plan = checking(with_line(FILE, AXIS, "repeat = 3")).plan
    turns = [t for t in schedule(plan, ["a", "b"], 64) if t.number > 0]
    for number in (1, 2, 3):
        block = turns[(number - 1) * 16 : number * 16]
        assert Counter((t.slot.kernel, t.cell) for t in block) == Counter(
            (kernel, cell) for kernel in "ab" for cell in plan.cells
        )
    guests = [(turn.slot.kernel, turn.slot.setup.text) for turn in turns]
    assert guests != sorted(guests)
    assert len(set(guests)) == 4


def test_a_parameter_whose_name_a_line_has_already_gets_another_one() -> None:
    text = FILE.replace("pace = [1, 2.5]", "seconds = [1, 2]")
    plan = checking(text + CHECK + "where = {seconds = 2}\n").plan
    assert [axis.name for axis in plan.shape.axes] == ["seconds_given", "size", "protocol"]
    assert plan.given_in(plan.setups[0])["seconds"] == 1
    assert plan.shape.in_words(plan.cells[0]) == "tcp of 100 bytes, seconds 1"


@pytest.mark.parametrize(
    ("line", "rows", "columns"),
    [("", "size", "protocol"), ('rows = "pace"', "pace", "protocol"),
     ('rows = "protocol"', "protocol", "size")],
)  # fmt: skip
def test_what_stands_down_and_along_is_chosen(line: str, rows: str, columns: str) -> None:
    shape = checking(with_line(FILE, AXIS, line)).plan.shape
    assert (shape.rows, shape.columns) == (rows, columns)


def test_a_parameter_stands_along_where_the_scenarios_axis_has_one_value() -> None:
    shape = checking(FILE.replace("[100, 200]", "100")).plan.shape
    assert (shape.rows, shape.columns) == ("pace", "protocol")


def test_a_plan_can_be_sent_and_cut_into_batches() -> None:
    plan = checking(FILE).plan
    sent = pickle.loads(pickle.dumps(plan))
    assert sent == plan
    turns = schedule(sent, ["nosysfs"], 64)
    for setup in sent.setups:
        part = [turn for turn in turns if turn.slot.setup == setup]
        consoles = {part[0].slot: "console.log"}
        batch = Batch(lab_of(), sent, {"nosysfs": SUBJECTS[0]}, part, {}, consoles)
        assert len(part) == 4
        assert batch.total_cost(part) > 0


def test_what_is_left_leaves_out_what_is_done_and_guests_without_work() -> None:
    setups = [Cell({"size": size}) for size in (1, 2)]
    slots = [GuestSlot(n, kernel, setups[n % 2]) for n, kernel in enumerate("aabb")]
    turns = [Turn(slot, slot.setup, number) for number in (0, 1, 2) for slot in slots]
    done = {("a", setups[0], 1), ("a", setups[0], 2), ("a", setups[1], 1)}
    left = left_of(turns, done, {"b"})
    assert left == [Turn(slots[1], setups[1], 0), Turn(slots[1], setups[1], 2)]


# At work


def test_a_sweep_measures_every_cell_with_its_parameters(
    prepared: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept() is Verdict.PASS
    run = stored()
    assert len(run.samples) == 8
    for sample in run.samples:
        half = 0.5 if sample.cell["protocol"] == "udp" else 1
        pace, size = sample.cell.number("pace"), sample.cell.number("size")
        assert sample.metrics["rate"] == pace * size * half
    line = json.loads((Path("out") / "samples.jsonl").read_text().splitlines()[0])
    assert {"pace", "size", "protocol", "rate", "kernel", "block"} <= line.keys()
    assert not any(isinstance(value, (dict, list)) for value in line.values())
    shown = capsys.readouterr().out
    assert "verdict: pass" in shown
    rows = [line.split() for line in shown.splitlines() if line.split()[:1] in (["1"], ["2.5"])]
    assert ["2.5", "200", "500", "250"] in rows


def test_what_is_stored_is_read_by_the_commands_that_read_runs(
    prepared: None, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(FILE + CHECK)
    first = capsys.readouterr().out.split("verdict:")[0].strip()
    show(ShowOptions(run="out"))
    assert first in capsys.readouterr().out
    text = page([(Path("out"), stored())])
    assert text.count('<svg class="plot"') == 2  # one for each pace
    assert "pace 2.5" in text
    both = page([(Path("out"), stored()), (Path("again"), stored())])
    assert both.count('<svg class="plot"') == 2
    assert "tcp A" in both


def test_a_shell_completes_the_file() -> None:
    PATH.touch()
    (sweep,) = (each for each in COMMANDS if each.name == "sweep")
    assert completions(sweep, ["invoke", "sweep", "s"]) == ["sweep.toml"]
    assert "--resume" in completions(sweep, ["invoke", "sweep", "sweep.toml", "--"])


def test_a_check_that_does_not_hold_is_a_fail_that_names_it(
    prepared: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(FILE + CHECK + "where = {protocol = 'udp'}\n") is Verdict.FAIL
    about = stored().about
    assert about["verdict"] == "fail"
    assert about["message"] == (
        "udp of 100 bytes, pace 1 on nosysfs: rate 50.0 Mbit/s, at least 100 Mbit/s expected"
    )
    shown = capsys.readouterr().out
    assert about["message"] in shown
    assert "checks, 3 of 4 hold" in shown
    (suite,) = suites_of(stored())
    leaves = [one for each in suite.outcomes for _, one in each.leaves()]
    assert [one.message for one in leaves if one.status is Status.FAIL] == [about["message"]]


@pytest.mark.parametrize(
    ("words", "verdict", "values"),
    [
        ("at-least = 100\nwhere = {protocol = 'tcp'}", Verdict.PASS, {100, 200, 250, 500}),
        ("at-most = 250\nwhere = {pace = [1, 2.5], protocol = 'tcp', size = 100}",
         Verdict.PASS, {100, 250}),
        ("at-least = 2\nwhere = {protocol = 'tcp'}\nagainst = {protocol = 'udp'}",
         Verdict.PASS, {2}),
        ("at-least = 2.5\nat-most = 2.5\nagainst = {pace = 1}", Verdict.PASS, {2.5}),
        ("at-least = 2.6\nagainst = {pace = 1}", Verdict.FAIL, {2.5}),
        ("metric = 'lost'\nat-most = 0", Verdict.PASS, {0}),
        ("at-least = 100\nwhere = {kernel = 'nosysfs', queue = 'fq'}", Verdict.FAIL,
         {50, 100, 125, 200, 250, 500}),
    ],
)  # fmt: skip
def test_checks_are_of_medians_and_ratios(
    prepared: None, words: str, verdict: Verdict, values: set[float]
) -> None:
    assert swept(f"{FILE}\n[[check]]\n{words}\n") is verdict
    assert {each.value for each in checked(stored())} == values


def test_kernels_are_compared_by_a_check(prepared: None) -> None:
    text = FILE.replace('["nosysfs"]', '["nosysfs", "sysfs"]') + CHECK.replace("100", "1")
    text += "where = {kernel = 'nosysfs'}\nagainst = {kernel = 'sysfs'}\n"
    assert swept(text) is Verdict.PASS
    found = checked(stored())
    assert len(found) == 8
    assert {each.place.kernel for each in found} == {"nosysfs"}
    assert {each.value for each in found} == {1.0}


def test_a_kernel_with_a_patch_of_its_own_stands_beside_the_one_without(prepared: None) -> None:
    Path("fix.patch").write_text("--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-a\n+b\n")
    text = FILE.replace('["nosysfs"]', '["nosysfs", "+fix.patch"]') + CHECK.replace("100", "0.9")
    text += "where = {kernel = 'nosysfs+fix.patch'}\nagainst = {kernel = 'nosysfs'}\n"
    assert swept(text) is Verdict.PASS
    run = stored()
    assert [kernel.name for kernel in run.kernels] == ["nosysfs", "nosysfs+fix.patch"]
    assert Counter(sample.kernel for sample in run.samples) == {
        "nosysfs": 8, "nosysfs+fix.patch": 8,
    }  # fmt: skip
    patches = [[Path(each).name for each in side["patches"]] for side in run.about["sides"]]
    assert patches == [[], ["fix.patch"]]
    assert {each.value for each in checked(run)} == {1.0}


def test_two_kernels_of_one_name_are_refused() -> None:
    Path("fix.patch").write_text("--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-a\n+b\n")
    kernels = '["nosysfs", "+fix.patch", "nosysfs+fix.patch"]'
    with pytest.raises(UsageError, match=r"would be called nosysfs\+fix\.patch"):
        checking(FILE.replace('["nosysfs"]', kernels))


def test_a_check_of_what_was_not_measured_is_known_neither_way() -> None:
    check = Check("rate", at_least=1.0)
    assert Check.from_json(check.to_json()) == check
    run = Run({"kernels": [{"name": "k", "release": "", "sha256": "", "inputs": {},
                            "image_bytes": None}],
               "kind": "sweep", "sweep": {"checks": [check.to_json()]},
               "shape": SHAPE, "plan": {"cells": [[1]]}}, ())  # fmt: skip
    (one,) = checked(run)
    assert one.value is None
    assert not one.holds
    assert summary(run) == "0 of 1 cells measured, 0 of 1 checks hold"


SHAPE = {"axes": [{"name": "size", "values": [1]}], "metrics": [{"name": "rate"}], "rows": "size"}


def test_zero_and_zero_are_the_same(prepared: None) -> None:
    text = f"{FILE}\n[[check]]\nmetric = 'lost'\nat-most = 2\nagainst = {{pace = 1}}\n"
    assert swept(text) is Verdict.PASS
    assert {each.value for each in checked(stored())} == {1}


def test_anything_is_more_than_any_factor_of_zero() -> None:
    limits: list[tuple[float | None, float | None]] = [(2, None), (None, 9)]
    checks = [Check("lost", *limit, against={"a": 1}) for limit in limits]
    found = [Checked(each, Place("k", Cell()), Metric("lost"), inf) for each in checks]
    assert [each.holds for each in found] == [True, False]
    assert {each.number_text for each in found} == {"more than 0"}


# Going on


def measured() -> list[str]:
    return Path("trials").read_text().splitlines()


@pytest.fixture
def interrupted(prepared: None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """A sweep that is interrupted in its fourth trial: its lines of samples."""
    Path("stop").touch()
    assert swept() is Verdict.INTERRUPTED
    assert "`invoke sweep sweep.toml --resume out` goes on" in capsys.readouterr().err
    Path("stop").unlink()
    return (Path("out") / "samples.jsonl").read_text().splitlines()


def test_nothing_that_was_measured_is_measured_again(
    interrupted: list[str],
) -> None:
    assert len(interrupted) == 3
    assert stored().about["verdict"] == "interrupted"
    logs = {path.name for path in Path("out").glob("console-*.log")}
    assert swept() is Verdict.PASS
    lines = (Path("out") / "samples.jsonl").read_text().splitlines()
    assert lines[:3] == interrupted
    assert [json.loads(line)["order"] for line in lines] == list(range(8))
    assert Counter(measured()) == Counter(dict.fromkeys(measured(), 1) | {measured()[3]: 2})
    assert len({sample.cell for sample in stored().samples}) == 8
    assert stored().about["verdict"] == "pass"
    assert len(stored().about["resumed"]) == 1
    assert {path.name for path in Path("out").glob("console-*.log")} > logs


def test_where_all_is_measured_no_guest_is_made(prepared: None) -> None:
    swept()
    about = json.loads((Path("out") / "run.json").read_text())
    (Path("out") / "run.json").write_text(json.dumps({**about, "verdict": None, "end": None}))
    before = len(measured()), len(stored().boots)
    assert swept() is Verdict.PASS
    assert (len(measured()), len(stored().boots)) == before
    assert stored().about["verdict"] == "pass"


def test_it_goes_on_by_the_name_of_its_folder(interrupted: list[str]) -> None:
    assert swept(output="", resume="out") is Verdict.PASS
    assert len(stored().samples) == 8


def test_the_order_is_the_one_it_began_with(prepared: None) -> None:
    text = FILE.replace("seed = 7\n", "")  # drawn anew in real time
    Path("stop").touch()
    swept(text)
    seed = stored().plan["seed"]
    Path("stop").unlink()
    assert swept(text) is Verdict.PASS
    assert stored().plan["seed"] == seed


def test_a_line_that_a_kill_cut_short_is_measured_again(interrupted: list[str]) -> None:
    samples = Path("out") / "samples.jsonl"
    samples.write_text("\n".join(interrupted)[:-20])
    about = json.loads((Path("out") / "run.json").read_text())
    (Path("out") / "run.json").write_text(json.dumps({**about, "verdict": None}))
    assert swept() is Verdict.PASS
    lines = samples.read_text().splitlines()
    assert len(lines) == 8
    assert lines[:2] == interrupted[:2]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"kernels": [], "shape": SHAPE})
    fault = '{"kernel": "k", "verdict": "fail"}'
    (tmp_path / "faults.jsonl").write_text(fault)
    RunFolder.continued(tmp_path)
    assert (tmp_path / "faults.jsonl").read_text() == fault + "\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: FILE.replace("200]", "300]"), "another content of sweep.toml"),
        (lambda: FILE + CHECK, "another content of sweep.toml"),
    ],
)
def test_another_sweep_does_not_go_on_in_its_folder(
    interrupted: list[str], change: Callable[[], str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        swept(change())
    assert (Path("out") / "samples.jsonl").read_text().splitlines() == interrupted


def test_other_kernels_or_another_plan_do_not_go_on(
    interrupted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = replace(SweepOptions().trials, repeat="2")
    with pytest.raises(UsageError, match="not all is as it was") as caught:
        swept(FILE, "--repeat=2", trials=trials)
    assert "plan, repeat: 1 then, 2 now" in caught.value.evidence
    other = replace(SUBJECTS[0], sha256="1" * 64)
    monkeypatch.setattr(workflow, "prepare_subjects", lambda *_: [other])
    with pytest.raises(UsageError, match="not all is as it was") as caught:
        swept()
    assert "kernel nosysfs is another one" in caught.value.evidence
    assert (Path("out") / "samples.jsonl").read_text().splitlines() == interrupted


def test_a_sweep_that_came_to_its_end_is_not_gone_on_with(prepared: None) -> None:
    swept()
    with pytest.raises(UsageError, match=r"come to its end \(pass\)"):
        swept()
    with pytest.raises(UsageError, match=r"come to its end \(pass\)"):
        swept(output="", resume="out")


def test_what_is_no_sweep_is_not_gone_on_with(prepared: None) -> None:
    Path("out").mkdir()
    RunFolder(Path("out"), {"kernels": []})
    with pytest.raises(UsageError, match="out holds no sweep"):
        swept()
    with pytest.raises(UsageError, match="--resume and --output"):
        swept(resume="out")


def test_two_processes_do_not_go_on_with_the_same_sweep(interrupted: list[str]) -> None:
    with held(Path("out"), "sweep"), pytest.raises(UsageError, match="another process is at"):
        swept()
    assert swept() is Verdict.PASS


def test_a_kernel_that_failed_before_is_not_tried_again_and_counts(prepared: None) -> None:
    text = FILE.replace('["nosysfs"]', '["nosysfs", "sysfs"]')
    Path("crash").touch()
    PATH.write_text(text)

    class Stopped(Engine):
        """Is interrupted once a kernel has failed."""

        def _take(self, event: Any) -> None:
            super()._take(event)
            if self.faults:
                raise KeyboardInterrupt

    sweeping = Sweeping(read(PATH, {"output": "out"}), "", ["invoke"], ignore)
    sweeping.request = sweeping.check()
    sweeping.prepare()
    sweeping.folder = sweeping.begun(about_of(sweeping))
    sweeping.__dict__["_engine"] = Stopped(
        sweeping.lab, sweeping.request.plan, sweeping.folder, ignore
    )
    sweeping.finish(workflow.stopped_by(sweeping.measure))
    assert stored().about["verdict"] == "interrupted"
    (failed,) = {fault["kernel"] for fault in stored().faults}
    Path("crash").unlink()
    before = Counter(sample.kernel for sample in stored().samples)
    assert swept(text) is Verdict.CRASH
    after = Counter(sample.kernel for sample in stored().samples)
    assert after[failed] == before[failed]
    assert max(after.values()) == 8
    assert "Oops" in stored().about["message"]


def about_of(sweeping: Sweeping) -> Mapping[str, Any]:
    from linklab.trials.subjects import tested_on

    tested = tested_on(sweeping.lab, sweeping.subjects)
    return {"kind": "sweep", "command": "", **tested, **sweeping.about()}
