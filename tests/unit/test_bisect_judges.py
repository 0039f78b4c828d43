"""Good, bad or skip: what faults say of a revision, and what figures say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_lab import subject
from hand_made import cell, sample
from revisions import journal_of

from linklab.bisect.criterion import FaultKind, FaultRule, parse_threshold, symptoms
from linklab.bisect.figures import FigureClassifier, by_ratio, by_value
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal, Step
from linklab.bisect.search import Mark
from linklab.bisect.tester import Criterion
from linklab.bisect.verdicts import Tries, VerdictClassifier, of_kernel
from linklab.commands.judging import CriterionOptions, check_criterion
from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import (
    BuildSkipped,
    GuestHung,
    KernelCrashed,
    KernelFault,
    LabError,
    LinklabError,
    UsageError,
    WrongState,
)
from linklab.lab.lab import Subject
from linklab.results.comparison import Pair, Rule
from linklab.results.model import Sample
from linklab.results.shape import Better, Cell, Metric
from linklab.scenarios.grouping import Grouping
from linklab.trials.sequential import Blocks

ONE = Revision("a" * 40, "aaaa", "net: one")
GOOD = Revision("b" * 40, "bbbb", "net: good")
CELL = cell("mtu", "group", 1024)
SECONDS = Grouping.shape.metric
FIRST = Rule().after_look(1)
RATE = Metric("rate", "Mbit/s", Better.MORE)
LOST = Metric("lost", "packets", zero=True)


def reported(fault: Fault, title: str, text: str) -> KernelCrashed:
    """Return a crash with the report that the kernel made of it."""
    error = KernelCrashed(f"the kernel reports: {title}", f"the console\n{text}")
    error.reports = (Report(fault, title, None, (), text),)
    return error


WARNING = reported(Fault.WARNING, "WARNING in dev_set_mtu", "[1.0] WARNING: it")
OTHER = reported(Fault.WARNING, "WARNING in dev_open", "[1.0] WARNING: other")
BUG = reported(Fault.PAGE_FAULT, "page fault in f", "[1.0] BUG: it")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return journal_of(tmp_path / "out", "g", "b")


def built(revision: Revision) -> Subject:
    """Return a kernel that no other revision gives."""
    return replace(subject(revision.short), sha256=revision.name)


def not_compiling(revision: Revision) -> Subject:
    evidence = "x/tree/net/a.c: In function 'f':\nx/tree/net/a.c:7:1: error: no 'x'\nnote: more"
    raise BuildSkipped("the kernel does not build", evidence)


# --- faults ------------------------------------------------------------------


def judge_of(
    journal: Journal, *runs: Sequence[LinklabError], rule: FaultRule | None = None
) -> VerdictClassifier:
    """Return a judge whose runs find these faults, one after the other."""
    left = list(runs)

    def run(kernel: Subject, folder: Path, attempt: int) -> Sequence[LinklabError]:
        assert folder.is_dir()
        assert attempt == len(runs) - len(left) + 1
        return left.pop(0)

    return VerdictClassifier(built, run, Tries(rule or FaultRule(), len(runs), journal))


def test_a_kernel_without_a_fault_is_good(journal: Journal) -> None:
    judged = judge_of(journal, []).classify(ONE, 1)
    assert (judged.judgement, judged.verdict) == (Mark.GOOD, "pass")
    assert judged.folder == "steps/01-aaaa"


def test_a_fault_is_bad_with_its_evidence(journal: Journal) -> None:
    judged = judge_of(journal, [BUG]).classify(ONE, 1)
    assert (judged.judgement, judged.verdict) == (Mark.BAD, "crash")
    assert "page fault" in judged.why
    assert judged.evidence == "the console\n[1.0] BUG: it"


def test_a_fault_that_is_not_looked_for_is_a_skip(journal: Journal) -> None:
    rule = FaultRule((FaultKind.WARNING,))
    judged = judge_of(journal, [BUG], rule=rule).classify(ONE, 1)
    assert judged.judgement is Mark.SKIP
    assert judged.why.startswith("another fault than the one looked for: ")


def test_the_fault_looked_for_counts_whatever_came_before_it(journal: Journal) -> None:
    rule = FaultRule((FaultKind.WARNING,))
    assert judge_of(journal, [BUG, WARNING], rule=rule).classify(ONE, 1).judgement is Mark.BAD


def test_a_title_tells_one_crash_from_another(journal: Journal) -> None:
    rule = FaultRule(title="DEV_set_mtu")
    assert judge_of(journal, [WARNING], rule=rule).classify(ONE, 1).judgement is Mark.BAD
    assert judge_of(journal, [BUG], rule=rule).classify(ONE, 2).judgement is Mark.SKIP
    assert rule.text == 'any fault with "DEV_set_mtu"'
    assert FaultRule((FaultKind.CRASH, FaultKind.HANG)).text == "crash or hang"


def test_a_fingerprint_names_a_report(journal: Journal) -> None:
    rule = FaultRule(title=OTHER.reports[0].fingerprint)
    assert judge_of(journal, [OTHER], rule=rule).classify(ONE, 1).judgement is Mark.BAD
    assert judge_of(journal, [WARNING], rule=rule).classify(ONE, 2).judgement is Mark.SKIP


def test_a_report_behind_another_one_is_its_own_evidence(journal: Journal) -> None:
    both = reported(Fault.WARNING, "WARNING in f", "[1.0] WARNING: f")
    both.reports = (*both.reports, *BUG.reports)
    rule = FaultRule((FaultKind.CRASH,))
    assert judge_of(journal, [both], rule=rule).classify(ONE, 1).evidence == "[1.0] BUG: it"


def test_only_the_fault_of_the_bad_revision_may_be_wanted(journal: Journal) -> None:
    rule = FaultRule(same=True)
    assert rule.text == "any fault, the same as --bad has"
    bad = judge_of(journal, [WARNING], rule=rule).classify(ONE, 1)
    assert bad.judgement is Mark.BAD
    fingerprint = bad.fingerprint
    assert fingerprint == WARNING.reports[0].fingerprint
    journal.add(Step(1, "b", "b", "", Mark.BAD, "crash", "", 1.0, fingerprint=fingerprint))
    assert judge_of(journal, [OTHER], rule=rule).classify(ONE, 2).judgement is Mark.SKIP
    assert judge_of(journal, [WARNING], rule=rule).classify(ONE, 3).judgement is Mark.BAD


def test_a_fault_that_comes_and_goes_is_found_by_trying_again(journal: Journal) -> None:
    assert judge_of(journal, [], [], [BUG]).classify(ONE, 1).judgement is Mark.BAD
    judged = judge_of(journal, [], [], []).classify(ONE, 2)
    assert (judged.judgement, judged.why) == (
        Mark.GOOD,
        "every operation done and verified in 3 tries",
    )


def test_another_fault_in_one_of_the_tries_is_a_skip(journal: Journal) -> None:
    rule = FaultRule((FaultKind.HANG,))
    assert judge_of(journal, [], [BUG], [], rule=rule).classify(ONE, 1).judgement is Mark.SKIP


def test_what_does_not_compile_is_a_skip_with_the_compilers_words(journal: Journal) -> None:
    judge = replace(judge_of(journal, []), build=not_compiling)
    judged = judge.classify(ONE, 1)
    assert (judged.judgement, judged.verdict) == (Mark.SKIP, "skip")
    assert judged.why == "it does not compile: net/a.c:7:1: error: no 'x'"
    assert judged.evidence.endswith("note: more")


def test_a_patch_that_does_not_apply_is_a_skip_too(journal: Journal) -> None:
    def stale(revision: Revision) -> Subject:
        raise BuildSkipped("patch 2/5 does not apply: a.c, hunk 1", "error: patch failed: a.c:7")

    judged = replace(judge_of(journal, []), build=stale).classify(ONE, 1)
    assert judged.why == "patch 2/5 does not apply: a.c, hunk 1"


def test_the_same_kernel_is_not_tested_twice(journal: Journal) -> None:
    journal.add(Step(4, "x", "x", "", Mark.BAD, "crash", "why", 1.0, kernel=ONE.name))
    judged = judge_of(journal).classify(ONE, 5)
    assert (judged.judgement, judged.why) == (Mark.BAD, "why (the same kernel as step 4)")


def test_only_what_a_kernel_did_counts_as_its_fault() -> None:
    assert of_kernel([BUG]) == [BUG]
    with pytest.raises(LabError):
        of_kernel([BUG, LabError("disk full")])


def test_each_kind_of_fault_is_known() -> None:
    faults = [WARNING, BUG, GuestHung("h"), WrongState("w"), LabError("l")]
    assert [each.kind for each in symptoms(faults)] == [
        FaultKind.WARNING,
        FaultKind.CRASH,
        FaultKind.HANG,
        FaultKind.FAIL,
    ]


# --- options -----------------------------------------------------------------


def figure(cell: str, metric: str = "", above: str = "1s") -> Criterion:
    return check_criterion(CriterionOptions(cell=cell, metric=metric, above=above))


EIGHT = "operation=mtu,arm=group,interfaces=8"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("operation=mtu,arm=group", "one interfaces is expected here, not 5: --cell interfaces="),
        ("operation=frob", "--cell operation frob: unknown"),
        ("arm=frob", "--cell arm frob: unknown"),
        ("interfaces=many", "whole number"),
        ("interfaces=1,2", "--cell 2: AXIS=VALUE,AXIS=VALUE is expected"),
        ("frob=2", "--cell frob=2: AXIS=VALUE,AXIS=VALUE is expected; axes of grouping are"),
        ("operation=mtu,arm=all,interfaces=1", "one arm is expected here"),
        ("operation=mtu,arm=group,arm=process", "--cell arm is given twice"),
        ("operation=create,arm=group,interfaces=1", "by group, 1 interfaces: a group has no"),
    ],
)
def test_a_cell_that_cannot_be_measured_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        figure(text)


def test_a_figure_may_be_of_another_metric_than_the_first() -> None:
    first = figure(EIGHT)
    assert (first.cell, first.metric) == (cell("mtu", "group", 8), SECONDS)
    assert first.text == "mtu/group/8 above 1s"
    other = figure(EIGHT, "messages", "20")
    assert other.metric is not None and other.threshold is not None
    assert (other.metric.name, other.threshold.value) == ("messages", 20)
    with pytest.raises(UsageError, match="--metric frob: unknown; valid are seconds, "):
        figure(EIGHT, "frob", "20")


def test_a_cell_that_stands_in_the_metric_as_it_once_did_is_understood() -> None:
    assert figure("", "mtu/group/8") == figure(EIGHT)
    assert figure("", "messages:mtu/group/8", "20") == figure(EIGHT, "messages", "20")


@pytest.mark.parametrize(
    ("metric", "cell"), [("mtu/group", ""), ("seconds:8", ""), ("mtu/group/8", EIGHT)]
)
def test_a_cell_in_the_metric_that_is_none_is_answered_with_how_it_is_typed(
    metric: str, cell: str
) -> None:
    with pytest.raises(UsageError) as caught:
        figure(cell, metric)
    assert caught.value.message == (
        f"--metric {metric}: the name of a metric is expected, and the cell by itself: "
        "--cell operation=mtu,arm=process,interfaces=128"
    )


@pytest.mark.parametrize(
    ("text", "ratio", "seconds"),
    [
        ("10%", 1.1, None),
        ("1.5x", 1.5, None),
        ("0.2s", None, 0.2),
        ("200ms", None, 0.2),
        (" 50 us", None, 0.00005),
    ],
)
def test_a_threshold_is_a_share_a_ratio_or_a_time(
    text: str, ratio: float | None, seconds: float | None
) -> None:
    found = parse_threshold(text, SECONDS)
    assert found.ratio == pytest.approx(ratio)
    assert found.value == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "-5%", "0%", "1x", "0.5x", "much", "1e3s"])
def test_a_threshold_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--above"):
        parse_threshold(text, SECONDS)


def test_a_threshold_has_the_unit_of_its_metric() -> None:
    assert parse_threshold("940Mbit/s", RATE).value == 940
    assert parse_threshold("10%", RATE).ratio == pytest.approx(1.1)
    assert parse_threshold("3 packets", LOST).value == 3
    for text in ("1s", "940"):
        with pytest.raises(UsageError, match=r"a value \(20Mbit/s\)"):
            parse_threshold(text, RATE)
    neither = replace(RATE, better=Better.NEITHER)
    for metric in (LOST, neither):
        with pytest.raises(UsageError, match=f"{metric.name} is compared by no ratio"):
            parse_threshold("10%", metric)


# --- figures -----------------------------------------------------------------


def around(middle: float, spread: float, count: int, seed: int = 0) -> list[float]:
    random = Random(seed)
    return [middle * random.uniform(1 - spread, 1 + spread) for _ in range(count)]


def test_what_is_surely_slower_by_the_threshold_is_bad_and_what_surely_is_not_is_good() -> None:
    base = around(1.0, 0.02, 16)
    slow = by_ratio(Pair(base, around(1.5, 0.02, 16, 1)), lambda _: 1.2, FIRST)
    assert slow.judgement is Mark.BAD
    assert slow.figure is not None
    assert slow.figure["ratio"] == pytest.approx(1.5, abs=0.1)
    same = by_ratio(Pair(base, around(1.0, 0.02, 16, 2)), lambda _: 1.2, FIRST)
    assert same.judgement is Mark.GOOD
    faster = by_ratio(Pair(base, around(0.9, 0.3, 16, 2)), lambda _: 1.5, FIRST)
    assert faster.judgement is Mark.GOOD
    assert (
        by_ratio(Pair(base, around(0.5, 0.02, 16, 3)), lambda _: 1.2, FIRST).judgement is Mark.GOOD
    )


def test_of_the_middle_between_two_ends_the_whole_interval_lies_on_one_side() -> None:
    """A tenth slower, at 5 % noise: the middle is 4.9 %; what is on neither side is not told."""
    random, marks = Random(6), []
    for ratio in (1.0, 1.1):
        for _ in range(40):
            a, b = ([k * random.lognormvariate(0, 0.05) for _ in range(64)] for k in (1, ratio))
            found = by_ratio(Pair(a, b), lambda _: 1.1**0.5, FIRST, is_middle=True)
            marks.append(found.judgement)
    assert Mark.BAD not in marks[:40]
    assert Mark.GOOD not in marks[40:]
    assert marks[:40].count(Mark.GOOD) + marks[40:].count(Mark.BAD) >= 72


def test_what_blocks_do_not_tell_is_a_skip() -> None:
    noise = by_ratio(Pair(around(1.0, 0.9, 8), around(1.2, 0.9, 8, 1)), lambda _: 1.2, FIRST)
    assert noise.judgement is Mark.SKIP
    assert noise.why.startswith("8 blocks do not tell: ")


def test_a_time_is_compared_with_a_limit() -> None:
    values = around(0.2, 0.1, 16)
    assert by_value(values, 0.1, FIRST, SECONDS).judgement is Mark.BAD
    assert by_value(values, 0.3, FIRST, SECONDS).judgement is Mark.GOOD
    assert by_value(values, 0.2, FIRST, SECONDS).judgement is Mark.SKIP
    assert by_value(values[:4], 0.1, FIRST, SECONDS).judgement is Mark.SKIP  # too few to be sure
    assert by_value([], 0.1, FIRST, SECONDS).judgement is Mark.SKIP


def test_of_a_metric_of_which_more_is_better_less_is_bad() -> None:
    values = around(200, 0.1, 16)
    assert by_value(values, 100, FIRST, RATE).judgement is Mark.GOOD
    assert by_value(values, 300, FIRST, RATE).judgement is Mark.BAD
    assert by_value(values, 200, FIRST, RATE).judgement is Mark.SKIP
    base = around(100, 0.02, 16)
    for factor, judgement in ((0.6, Mark.BAD), (1.0, Mark.GOOD), (1.5, Mark.GOOD)):
        pair = Pair(base, around(100 * factor, 0.02, 16, 1), metric=RATE)
        judged = by_ratio(pair, lambda _: 1.2, FIRST)
        assert judged.judgement is judgement
        assert judged.figure is not None
        assert judged.figure["rate"] == pytest.approx(100 * factor, rel=0.05)
        assert "Mbit/s against" in judged.why


@dataclass
class FakeMeter:
    """Gives each kernel its seconds, with some noise; to the blocks it is their engine."""

    seconds: dict[str, float]
    names: Sequence[str] = ()
    noise: float = 0.02
    fault: KernelFault | None = None
    culprit: str = ""
    asked: list[int] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    metric: str = "seconds"
    ended: list[LinklabError | None] = field(default_factory=list)

    def __call__(self, subjects: Sequence[Subject], folder: str) -> Blocks:
        self.names = [each.name for each in subjects]
        engine: Any = self
        return Blocks(engine, subjects, [CELL])

    @property
    def failed(self) -> str:
        return self.culprit

    def measure(
        self, subjects: Sequence[Subject], cells: Sequence[Cell], numbers: range, *, together: bool
    ) -> None:
        assert together, "a revision alone would say nothing"
        assert [each.name for each in subjects] == list(self.names)
        assert list(cells) == [CELL]
        self.asked.append(len(numbers))
        if self.fault is not None:
            raise self.fault
        random = Random(sum(self.asked))
        for block in numbers:
            for name in self.names:
                value = self.seconds[name] * random.uniform(1 - self.noise, 1 + self.noise)
                one = sample(name, "group", 1024, value)
                self.samples.append(replace(one, block=block, metrics={self.metric: value}))

    def end(self, error: LinklabError | None = None) -> None:
        self.ended.append(error)


def figures(
    journal: Journal, meter: FakeMeter, above: str = "10%", noise: float = 0.0
) -> FigureClassifier:
    return FigureClassifier(
        build=built,
        blocks=meter,
        cell=CELL,
        metric=SECONDS,
        threshold=parse_threshold(above, SECONDS),
        good=GOOD,
        most=64,
        seed=0,
        journal=journal,
        noise=noise,
    )


@pytest.mark.parametrize(
    ("seconds", "judgement"),
    [(1.0, Mark.GOOD), (1.3, Mark.BAD), (0.7, Mark.GOOD)],
)
def test_a_revision_is_measured_beside_the_good_one(
    journal: Journal, seconds: float, judgement: Mark
) -> None:
    meter = FakeMeter({"bbbb": 1.0, "aaaa": seconds})
    judged = figures(journal, meter).classify(ONE, 3)
    assert (judged.judgement, judged.folder) == (judgement, "steps/03-aaaa")
    assert meter.names == ["bbbb", "aaaa"]
    assert meter.ended == [None], "its folder says that it came to its end"


@pytest.mark.parametrize("noise", [0.0, 0.001])
@pytest.mark.parametrize(("rate", "judgement"), [(1.3, Mark.GOOD), (0.7, Mark.BAD)])
def test_less_of_what_more_is_better_of_is_bad(
    journal: Journal, rate: float, judgement: Mark, noise: float
) -> None:
    meter = FakeMeter({"bbbb": 1.0, "aaaa": rate}, noise=noise, metric="rate")
    for above in ("10%", "0.9Mbit/s"):
        judge = replace(figures(journal, meter, noise=noise), metric=RATE)
        judge = replace(judge, threshold=parse_threshold(above, RATE))
        judged = judge.classify(ONE, 3)
        assert judged.judgement is judgement
        assert judged.figure is not None
        assert judged.figure["rate"] == pytest.approx(rate, rel=0.01)
        meter.samples.clear()


def test_what_is_not_clear_is_measured_again_until_it_is_or_there_is_enough(
    journal: Journal,
) -> None:
    meter = FakeMeter({"bbbb": 1.0, "aaaa": 1.1}, noise=0.6)
    judged = figures(journal, meter).classify(ONE, 1)
    assert meter.asked == [8, 8, 16, 32]
    assert judged.judgement is Mark.SKIP
    assert "64 blocks do not tell" in judged.why


def test_against_a_time_nothing_is_measured_beside_it(journal: Journal) -> None:
    meter = FakeMeter({"aaaa": 1.0, "bbbb": 0.1})
    judge = figures(journal, meter, "500ms")
    assert judge.classify(ONE, 1).judgement is Mark.BAD
    assert meter.names == ["aaaa"]
    meter.samples.clear()
    meter.asked.clear()
    assert judge.classify(GOOD, 2).judgement is Mark.GOOD
    assert meter.names == ["bbbb"]


def test_the_good_one_is_what_the_others_are_measured_by(journal: Journal) -> None:
    meter = FakeMeter({})
    assert figures(journal, meter).classify(GOOD, 2).judgement is Mark.GOOD
    assert meter.asked == []


def test_the_good_kernel_under_another_name_need_not_be_measured(journal: Journal) -> None:
    judge = figures(journal, FakeMeter({}))
    judge = replace(judge, build=lambda revision: subject(revision.short))
    judged = judge.classify(ONE, 1)
    assert (judged.judgement, judged.why) == (Mark.GOOD, "the same kernel as the good one")


def test_a_kernel_that_crashes_cannot_be_measured_and_is_a_skip(journal: Journal) -> None:
    meter = FakeMeter({}, fault=BUG, culprit="aaaa")
    judged = figures(journal, meter).classify(ONE, 1)
    assert (judged.judgement, judged.verdict) == (Mark.SKIP, "crash")
    assert meter.ended == [BUG]
    with pytest.raises(KernelCrashed):
        figures(journal, FakeMeter({}, fault=BUG, culprit="bbbb")).classify(ONE, 2)


def test_what_does_not_compile_is_not_measured(journal: Journal) -> None:
    judge = replace(figures(journal, FakeMeter({})), build=not_compiling)
    assert judge.classify(ONE, 1).judgement is Mark.SKIP


def test_a_kernel_that_was_measured_is_not_measured_again(journal: Journal) -> None:
    known = Step(2, "x", "x", "", Mark.GOOD, "pass", "y", 1.0, kernel=ONE.name)
    journal.add(replace(known, figure={"ratio": 1.0}))
    judged = figures(journal, FakeMeter({})).classify(ONE, 3)
    assert (judged.judgement, judged.figure) == (Mark.GOOD, {"ratio": 1.0})


class TestInVirtualTime:
    """Where chance leaves nothing but `NOISE`, one block tells."""

    NOISE = 0.001

    def exact(self, **seconds: float) -> FakeMeter:
        return FakeMeter(seconds, noise=0.0)

    @pytest.mark.parametrize(
        ("seconds", "judgement"),
        [
            (0.5, Mark.GOOD),
            (1.0, Mark.GOOD),
            (1.0085, Mark.GOOD),
            (1.0115, Mark.BAD),
            (3.0, Mark.BAD),
        ],
    )
    def test_a_ratio_is_told_by_one_block(
        self, journal: Journal, seconds: float, judgement: Mark
    ) -> None:
        meter = self.exact(bbbb=1.0, aaaa=seconds)
        judged = figures(journal, meter, "1%", self.NOISE).classify(ONE, 1)
        assert meter.asked == [1]
        assert judged.judgement is judgement
        assert judged.figure == {
            "seconds": seconds,
            "good_seconds": 1.0,
            "ratio": seconds,
            "blocks": 1,
        }
        assert judged.why.endswith(f"{seconds:.4f}x, in virtual time")

    @pytest.mark.parametrize(
        ("seconds", "judgement"),
        [(0.1, Mark.GOOD), (0.4994, Mark.GOOD), (0.5006, Mark.BAD)],
    )
    def test_a_time_is_told_by_one_block(
        self, journal: Journal, seconds: float, judgement: Mark
    ) -> None:
        meter = self.exact(aaaa=seconds)
        judged = figures(journal, meter, "500ms", self.NOISE).classify(ONE, 1)
        assert (meter.asked, meter.names) == ([1], ["aaaa"])
        assert judged.judgement is judgement
        assert judged.figure == {"seconds": seconds, "blocks": 1}

    @pytest.mark.parametrize("side", [-1, 0, 1])
    @pytest.mark.parametrize(
        ("above", "limit", "names"), [("10%", 1.1, ["bbbb", "aaaa"]), ("500ms", 0.5, ["aaaa"])]
    )
    def test_what_is_right_at_the_limit_gets_as_many_blocks_as_in_real_time(
        self, journal: Journal, side: int, above: str, limit: float, names: list[str]
    ) -> None:
        meter = FakeMeter({"bbbb": 1.0, "aaaa": limit * (1 + 0.0004 * side)}, noise=0.0004)
        judged = figures(journal, meter, above, self.NOISE).classify(ONE, 1)
        assert meter.names == names
        assert meter.asked[:2] == [1, 7], "eight are the fewest that are compared"
        assert judged.figure is not None
        assert judged.figure["blocks"] == sum(meter.asked) > 1
        assert "low" in judged.figure

    def test_what_stays_at_the_limit_is_a_skip_after_the_most_blocks(
        self, journal: Journal
    ) -> None:
        class Alternating(FakeMeter):
            def measure(self, *asked: Any, **how: Any) -> None:
                super().measure(*asked, **how)
                for number, one in enumerate(self.samples):
                    if one.kernel == "aaaa":
                        seconds = 1.1 * (1.0004 if one.block % 2 else 0.9995)
                        self.samples[number] = replace(one, metrics={"seconds": seconds})

        meter = Alternating({"bbbb": 1.0, "aaaa": 1.1}, noise=0.0)
        judge = replace(figures(journal, meter, "10%", self.NOISE), most=16)
        judged = judge.classify(ONE, 1)
        assert meter.asked == [1, 7, 8]
        assert judged.judgement is Mark.SKIP

    def test_one_block_at_most_that_does_not_tell_is_a_skip(self, journal: Journal) -> None:
        judge = figures(journal, self.exact(aaaa=0.5), "500ms", self.NOISE)
        judged = replace(judge, most=1).classify(ONE, 1)
        assert judged.judgement is Mark.SKIP
        assert judged.why.startswith("one block does not tell: ")

    def test_a_block_without_the_kernel_does_not_tell(self, journal: Journal) -> None:
        class Forgetful(FakeMeter):
            def measure(self, *asked: Any, **how: Any) -> None:
                super().measure(*asked, **how)
                self.samples[:] = [s for s in self.samples if s.kernel != "aaaa"]

        meter = Forgetful({"bbbb": 1.0, "aaaa": 1.0})
        judged = figures(journal, meter, "10%", self.NOISE).classify(ONE, 1)
        assert judged.judgement is Mark.SKIP

    def test_a_kernel_that_crashes_cannot_be_measured_either(self, journal: Journal) -> None:
        meter = FakeMeter({}, fault=BUG, culprit="aaaa")
        judged = figures(journal, meter, noise=self.NOISE).classify(ONE, 1)
        assert (judged.judgement, judged.verdict) == (Mark.SKIP, "crash")
