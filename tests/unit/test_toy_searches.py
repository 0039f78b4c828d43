"""The toy scenario in what goes on for longer: series, bisect, verdict, calibrate, profile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_perf import install_host_perf
from fake_tree import make_tree
from gittree import git
from revisions import linear_tree
from test_command_bisect import World
from test_series_run import chain
from toy_guest import LOOP, RATE, REAL, TOY, Bench, plain, said, toy_lab

from linklab.bisect import tester
from linklab.bisect.journal import Journal
from linklab.commands import bisect, calibrate, judging, profile, series, verdict
from linklab.commands.calibrate import CalibrateOptions
from linklab.commands.exports import ExportOptions
from linklab.commands.history import ShowOptions, show
from linklab.commands.judging import CriterionOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.profile import ProfileOptions
from linklab.commands.series import SeriesOptions
from linklab.errors import UsageError, Verdict
from linklab.kernel import make as make_module
from linklab.lab.lab import Lab
from linklab.profile.store import read_profile
from linklab.report.by_kind import headline
from linklab.results.comparison import Effect
from linklab.results.series import Findings, find
from linklab.results.shape import Cell
from linklab.results.store import read_run

CELL = Cell({"program": "cat", "reads": 10})
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


# Series


@pytest.fixture
def tested(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Verdict, Findings]]:
    """Test a series of two patches, of whose kernels the second is as `made` says."""
    monkeypatch.setattr(make_module, "_NEEDED", frozenset(("gcc", "make")))
    make_tree(tmp_path / "linux")
    Path("s.mbox").write_text(chain("// one", "// two"))

    def do(made: dict[str, Any], **changes: Any) -> tuple[Verdict, Findings]:
        bench.made = made
        options = SeriesOptions(
            kernels=KernelOptions("nosysfs", "linux", ("s.mbox",)),
            machine=REAL,
            scenario=TOY,
            blocks="8",
            trials="1",
            fail_above="" if "metric" in changes else "5",
            seed="1",
            output="out",
        )
        ended = series.main(replace(options, **changes), ["invoke", "series"])
        return ended, find(read_run(Path("out")))

    return do


def of_second(value: Any, other: Any) -> Callable[[str], Any]:
    return lambda name: value if name == "nosysfs@2" else other


Tested = Callable[..., tuple[Verdict, Findings]]


def test_a_series_that_lowers_the_rate_fails(tested: Tested, capsys: Captured) -> None:
    exports = ExportOptions("junit.xml", "out.ktap", "kcidb.json")
    ended, found = tested({"speed": of_second(0.8, 1.0)}, exports=exports)
    assert (ended, ended.status) == (Verdict.FAIL, 1)
    one, two = found.rows["nosysfs"][1:]
    assert one.before[CELL].comparison.verdict is Effect.SAME
    assert two.before[CELL].comparison.verdict is Effect.WORSE
    assert two.values[CELL] == pytest.approx(0.8 * RATE, rel=0.02)
    assert one.values[CELL] == pytest.approx(RATE, rel=0.02)
    out = said(capsys)
    assert "cat, 10 reads: rate, reads/s, median of 8 guests; change [95 %]" in out
    assert re.search(r"less rate -(19|20)\.\d %", out)
    assert re.search(r"patch 2/2 worsens cat, 10 reads on nosysfs by (19|20)\.\d % \[", out)
    assert "patch 2/2 worsens" in headline(read_run(Path("out")))
    suites = ElementTree.parse("junit.xml").getroot()
    failed = [
        case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None
    ]
    assert failed == ["cat/10"]
    assert re.search(r"# [78]\d\.\d+ reads/s\n +# less rate: -\d+\.\d % .*\n +not ok", _ktap())
    tests = json.loads(Path("kcidb.json").read_text())["tests"]
    numbers = [test["number"] for test in tests if test["path"].endswith("cat_10")]
    assert [number["unit"] for number in numbers] == ["reads/s"] * 3
    assert numbers[-1]["value"] == pytest.approx(0.8 * RATE, rel=0.02)


def _ktap() -> str:
    text = Path("out.ktap").read_text()
    plain(text)
    return text


def test_a_series_that_raises_the_rate_passes(tested: Tested, capsys: Captured) -> None:
    ended, found = tested({"speed": of_second(1.5, 1.0)})
    assert ended is Verdict.PASS
    assert found.rows["nosysfs"][2].before[CELL].comparison.verdict is Effect.BETTER
    out = said(capsys)
    assert re.search(r"patch 2/2 improves cat, 10 reads on nosysfs by (49|50)\.\d % \[", out)


def test_a_series_that_does_nothing_to_the_rate_says_what_is_sure(
    tested: Tested, capsys: Captured
) -> None:
    assert tested({"spread": 0.001})[0] is Verdict.PASS
    out = said(capsys)
    assert "all 2 patches build, boot and pass cat, 10 reads on nosysfs; none of them " in out
    assert out.endswith("changes that by 3 %")


def test_a_series_of_which_nothing_is_sure_asks_for_blocks(
    tested: Tested, capsys: Captured
) -> None:
    tested({"spread": 0.2, "speed": of_second(0.1, 1.0)})
    assert "; what 1/2 does to the rate is unclear (" in said(capsys)


def test_a_series_is_judged_by_what_it_loses(tested: Tested, capsys: Captured) -> None:
    ended, found = tested({"lost": of_second(2, 0)}, metric="lost")
    assert ended is Verdict.FAIL
    assert found.rows["nosysfs"][1].before[CELL].comparison.verdict is Effect.SAME
    out = said(capsys)
    assert "patch 2/2 worsens cat, 10 reads on nosysfs by +2.00 to +2.00" in out
    assert "more lost reads +2.00 to +2.00" in out


def test_a_series_that_loses_nothing_changes_nothing_at_all(
    tested: Tested, capsys: Captured
) -> None:
    assert tested({}, metric="lost")[0] is Verdict.PASS
    assert said(capsys).endswith("none of them changes that at all")


# Bisection: what a commit's kernel does is said by the letter in its tree


class ToyWorld(World):
    """A tree whose bad commits read at four fifths of the pace, and lose two reads."""

    def prepare(self, options: MachineOptions, memory: int, *_: object) -> Lab:
        def is_bad(name: str) -> bool:
            return self.state_of_kernel(name)[0] == "B"

        return toy_lab(
            memory=memory,
            speed=lambda name: 0.8 if is_bad(name) else 1.0,
            lost=lambda name: 2 * is_bad(name),
        )


@pytest.fixture
def world(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyWorld:
    made = ToyWorld(tmp_path / "linux", linear_tree(tmp_path / "linux", "GGGSGBBB"))
    monkeypatch.setattr(judging, "set_up_lab", made.prepare)
    monkeypatch.setattr(tester, "resolve_kernel", made.resolve)
    return made


def criterion(above: str, metric: str = "", cell: str = "program=cat,reads=10") -> CriterionOptions:
    return CriterionOptions(scenario=TOY, cell=cell, metric=metric, above=above, max_blocks="16")


@pytest.mark.parametrize(
    ("metric", "above", "looks_for", "why"),
    [
        (
            "",
            "10%",
            "cat/10 worse by 10%",
            r"\d\d\.\d reads/s against \d+(\.\d)? reads/s: 0\.",
        ),
        ("rate", "", "cat/10 worse than the middle of good and bad", r"\d\d\.\d reads/s against"),
        ("", "auto", "cat/10 worse than the middle of good and bad", r"\d\d\.\d reads/s against"),
        ("rate", "1.1x", "cat/10 worse by 1.1x", r"\d\d\.\d reads/s against"),
        ("", "90reads/s", "cat/10 below 90reads/s", r"\d\d\.\d reads/s \[\d\d\.\d reads/s, "),
        ("lost", "1", "lost of cat/10 above 1", r"2\.00 \[2\.00, 2\.00\]"),
        ("lost", "0", "lost of cat/10 above 0", r"2\.00 \[2\.00, 2\.00\]"),
    ],
)
def test_the_first_commit_with_too_low_a_rate_is_found(
    world: ToyWorld, capsys: Captured, metric: str, above: str, looks_for: str, why: str
) -> None:
    options = world.options(machine=REAL, criterion=criterion(above, metric))
    assert bisect.main(options, ["invoke", "bisect"]) is Verdict.PASS
    out = said(capsys)
    assert f"first bad: {world.commits[5]}" in out
    assert f"kernel nosysfs: {looks_for}" in out
    journal = Journal.read(Path("out"))
    assert journal.about["outcome"] == {"first_bad": world.commits[5]}
    (step,) = (step for step in journal.steps if step.revision == world.commits[5])
    assert step.judgement == "bad"
    assert re.match(why, step.why), step.why
    assert step.figure is not None
    assert step.figure[metric or "rate"] == pytest.approx(
        2 if metric == "lost" else 0.8 * RATE, rel=0.02
    )


def test_a_kernel_is_judged_by_its_rate(world: ToyWorld, capsys: Captured) -> None:
    for commit, ended, word in ((1, Verdict.PASS, "good"), (6, Verdict.FAIL, "bad")):
        git(world.tree, "checkout", "--quiet", world.commits[commit])
        options = world.verdict(machine=REAL, criterion=criterion("10%"), against="main~7")
        assert verdict.main(options, ["invoke", "verdict"]) is ended
        assert re.match(rf"{word}: [\d.]+ reads/s against ", said(capsys))
        alone = world.verdict(machine=REAL, criterion=criterion("90 reads/s"))
        assert verdict.main(alone, ["invoke", "verdict"]) is ended
        assert capsys.readouterr().out.startswith(f"{word}: ")
    middle = world.verdict(machine=REAL, criterion=criterion("auto"), against="main~7")
    with pytest.raises(UsageError, match="here is one alone"):
        verdict.main(middle, ["invoke", "verdict"])


def test_without_a_figure_a_kernel_is_good_that_does_it(world: ToyWorld, capsys: Captured) -> None:
    git(world.tree, "checkout", "--quiet", world.commits[1])
    options = world.verdict(machine=REAL, criterion=CriterionOptions(scenario=TOY))
    assert verdict.main(options, ["invoke", "verdict"]) is Verdict.PASS
    assert "good: " in said(capsys)


@pytest.mark.parametrize(
    ("metric", "above", "says"),
    [
        ("", "20s", "a ratio (1.5x) or a value (20reads/s)"),
        ("rate", "0", "expected a share"),
        ("lost", "10%", "lost is compared by no ratio: name a value in numbers"),
        ("rate:cat", "10%", "the cell by itself: --cell program=cat,reads=10"),
        ("frob", "10%", "frob: unknown; valid are rate, lost"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(
    world: ToyWorld, metric: str, above: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        bisect.main(world.options(criterion=criterion(above, metric)), ["invoke", "bisect"])
    assert says in plain(caught.value.message)


# Calibration


CALIBRATE = CalibrateOptions(
    scenario=TOY,
    machine=REAL,
    comparisons="3",
    blocks="8",
    trials="1",
    seed="3",
    output="out",
)


def test_a_calibration_counts_in_the_words_of_a_rate(bench: Bench, capsys: Captured) -> None:
    assert calibrate.main(CALIBRATE, ["invoke", "calibrate"]) is Verdict.PASS
    out = said(capsys)
    for part in (
        "comparisons more rate less rate same inconclusive",
        "with itself 3 0 0 3 0",
        "False alarms: 0 of 3",
        "10 % found: 3 of 3",
        "to be 10 % worse in rate) was ",
    ):
        assert part in out, part
    stored = read_run(Path("out")).about["calibration"]
    (slow,) = stored["slowed"]
    assert slow["loops"] * LOOP == pytest.approx(0.1, rel=0.05)
    assert slow["measured"]["ratio"] == pytest.approx(1 / 1.1, rel=0.01)
    told = re.search(r"was (\S+) % worse in rate \[(\S+), (\S+)\] over all 24 blocks", out)
    assert told
    middle, low, high = map(float, told.groups())
    assert low < middle < high
    assert middle == pytest.approx(10, abs=1)
    show(ShowOptions("out", "."))
    assert "worse in rate" in said(capsys)
    assert headline(read_run(Path("out"))) == "False alarms: 0 of 3, 10 % found: 3 of 3"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": "lost"}, "it may be 0"),
        ({"axis": ("reads=10,100",)}, "one cell is calibrated at a time, not 2"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    bench: Bench, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        calibrate.Calibrating(replace(CALIBRATE, **changes)).check()


# Profiles


PROFILE = ProfileOptions(
    scenario=TOY,
    kernels=KernelOptions("sysfs"),
    machine=REAL,
    samples="1000",
    output="out",
)


@pytest.mark.parametrize("against", ["", "nosysfs"])
def test_work_that_tells_no_seconds_is_profiled(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, against: str
) -> None:
    install_host_perf(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    options = replace(PROFILE, against=against)
    assert profile.main(options, ["invoke", "profile"]) is Verdict.PASS
    out = said(capsys)
    assert ("Difference in" if against else "Profile of") + " cat, 10 reads" in out
    assert "getrusage" not in out and "start to end" not in out
    about = read_profile(Path("out/a" if against else "out")).about
    assert {axis: about[axis] for axis in about["axes"]} == dict(CELL)
    assert about["work"] == "cat, 10 reads"
    assert about["unsampled"][0]["rate"] == pytest.approx(RATE, rel=0.03)
    show(ShowOptions("out", "."))
    assert "cat, 10 reads" in said(capsys)
    if against:
        told = json.loads(Path("out/difference.json").read_text())["unsampled"]
        assert told == {"a": None, "b": None, "difference": None}


@pytest.mark.parametrize("against", ["", "nosysfs"])
def test_work_that_tells_its_seconds_alone_is_profiled(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, against: str
) -> None:
    """As `routes` does: what sampling cost is known then, and what getrusage(2) says is not."""
    install_host_perf(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    lost = '"lost": count - end.done'
    source = Path(TOY).read_text().replace(lost, f'{lost}, "seconds": end.measure.seconds')
    source = source.replace('Metric("lost"', 'Metric("seconds", "s"), Metric("lost"')
    Path("mine.py").write_text(source)
    options = replace(PROFILE, scenario="mine.py", against=against)
    assert profile.main(options, ["invoke", "profile"]) is Verdict.PASS
    out = said(capsys)
    assert ("from start to end: A " if against else "one repetition, median: 0.1") in out
    assert "getrusage" not in out
