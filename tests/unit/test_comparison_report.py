"""A comparison as a person reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hand_made import cell, run_of, sample, sample_in

from linklab.errors import UsageError
from linklab.report.comparison import (
    Compared,
    ComparedCell,
    comparison_of_runs,
    p_text,
    render,
    stored_comparison,
)
from linklab.report.grid import plain_text
from linklab.results.comparison import (
    SECONDS,
    Comparison,
    Effect,
    Rule,
    compare,
    pairs_of,
)
from linklab.results.model import Run, first_shape
from linklab.results.outcomes import Status
from linklab.results.result_kinds import has_comparison
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.results.suites import suite_of_runs, suites_of

SLOWER = Comparison(1.098, 1.071, 1.126, 0.0004, Effect.WORSE, 0, 20, 0.036, 0.0395, 0.95)
FASTER = replace(SLOWER, change=0.88, low=0.85, high=0.9, verdict=Effect.BETTER)
SAME = replace(SLOWER, change=1.002, low=0.991, high=1.013, p_value=0.7, verdict=Effect.SAME)
OPEN = replace(
    SAME, low=0.96, high=1.09, verdict=Effect.INCONCLUSIVE, more_blocks_needed=35, blocks=14
)
CELL = cell("mtu", "group", 1024)
FIRST = first_shape()
TCG = "TCG (software emulation: compare ratios, not seconds)"


def versus(*comparisons: Comparison) -> Compared:
    rows = [ComparedCell(CELL.with_(interfaces=n), one) for n, one in enumerate(comparisons, 1024)]
    setting, metric = "TCG, resume boot", FIRST.metric
    return Compared("nosysfs", "nosysfs+fix.patch", rows, 0.03, TCG, setting, FIRST, metric)


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (
            SLOWER,
            "nosysfs+fix.patch takes 9.8 % longer than nosysfs in mtu by group, 1024 interfaces: "
            "95 % interval +7.1 to +12.6 %, p = 0.0004, 20 blocks (TCG, resume boot).",
        ),
        (
            FASTER,
            "nosysfs+fix.patch takes 12.0 % less time than nosysfs in mtu by group, "
            "1024 interfaces: 95 % interval -15.0 to -10.0 %, p = 0.0004, 20 blocks "
            "(TCG, resume boot).",
        ),
        (
            SAME,
            "nosysfs+fix.patch takes as long as nosysfs in mtu by group, 1024 interfaces, "
            "within 3 %: 95 % interval -0.9 to +1.3 %, p = 0.7, 20 blocks (TCG, resume boot).",
        ),
        (
            OPEN,
            "Whether nosysfs+fix.patch takes longer than nosysfs in mtu by group, "
            "1024 interfaces is not known: 95 % interval -4.0 to +9.0 %, p = 0.7, 14 blocks; "
            "about 35 more blocks would settle it (TCG, resume boot).",
        ),
    ],
)
def test_one_comparison_is_one_sentence(comparison: Comparison, sentence: str) -> None:
    assert versus(comparison).sentence() == sentence


def test_several_comparisons_are_one_sentence_too() -> None:
    assert versus(SLOWER, FASTER, SAME, SAME, OPEN).sentence() == (
        "nosysfs+fix.patch against nosysfs in 5 comparisons: "
        "slower in mtu by group, 1024 interfaces (9.8 % longer, 95 % interval +7.1 to +12.6 %), "
        "faster in mtu by group, 1025 interfaces (12.0 % less time, "
        "95 % interval -15.0 to -10.0 %), the same within 3 % in 2, inconclusive in 1 "
        "(TCG, resume boot)."
    )


def test_in_a_list_of_runs_it_is_a_few_words() -> None:
    assert versus(SLOWER).summary() == "slower, +9.8 % in mtu by group, 1024 interfaces"
    assert versus(SAME, OPEN, SAME).summary() == "2 same, 1 inconclusive"


def test_nothing_measured_is_not_taken_for_the_same() -> None:
    shown = plain_text(render(versus()))
    assert "Nothing was measured of both nosysfs and nosysfs+fix.patch." in shown
    assert "same" not in shown


def test_the_table_has_what_a_reviewer_asks_for() -> None:
    shown = plain_text(render(versus(SLOWER)), width=80)
    assert TCG in shown
    assert "medians of 20 blocks" in shown
    for part in ("36.0 ms", "39.5 ms", "1.098 [1.071, 1.126]", "0.0004", "slower"):
        assert part in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_what_is_sure_and_little_says_both() -> None:
    little = replace(SLOWER, change=1.024, low=1.01, high=1.038, verdict=Effect.MINOR)
    assert versus(little).sentence() == (
        "nosysfs+fix.patch takes 2.4 % longer than nosysfs in mtu by group, 1024 interfaces, as it "
        "seems less than the 3 % that matter: 95 % interval +1.0 to +3.8 %, p = 0.0004, 20 blocks "
        "(TCG, resume boot)."
    )
    assert "minor in" in versus(little, SAME).sentence()


def test_so_few_blocks_have_no_interval_in_words_either() -> None:
    few = replace(OPEN, low=0.0, high=inf, blocks=3)
    assert "is not known: no 95 % interval of so few, p = 0.7, 3 blocks" in versus(few).sentence()
    assert "(no interval)" in plain_text(render(versus(few)))


def test_several_intervals_say_what_they_are_worth_together() -> None:
    text = "that one of 3 does not is more likely, up to 15 times in 100"
    assert text in " ".join(plain_text(render(versus(SLOWER, SAME, OPEN)), 200).split())
    assert "times in 100" not in plain_text(render(versus(SLOWER)), 200)


def test_what_is_open_says_below_the_table_what_would_settle_it() -> None:
    shown = plain_text(render(versus(SLOWER, OPEN, replace(OPEN, more_blocks_needed=None))), 200)
    assert "medians of 14 to 20 blocks" in shown
    assert "mtu by group, 1025 interfaces: about 35 more blocks would settle it" in shown
    assert "1026 interfaces: the effect is too near the threshold to be settled" in shown


def test_kernels_have_a_column_where_runs_are_compared() -> None:
    rows = [ComparedCell(CELL, SAME, "sysfs"), ComparedCell(CELL, SLOWER, "nosysfs[x]")]
    found = Compared("one", "other", rows, 0.03, "KVM", "KVM", FIRST, FIRST.metric)
    shown = plain_text(render(found), 200)
    assert "nosysfs[x]" in shown
    assert "mtu by group, 1024 interfaces, kernel nosysfs[x] (9.8 % longer" in shown


def test_a_p_value_that_cannot_be_told_from_0_is_a_bound() -> None:
    assert p_text(0.00005) == "< 0.0001"
    assert p_text(0.0312) == "0.031"


def comparison_of(*results: dict[str, Any], **more: Any) -> Run:
    """A run as `invoke compare` stores it."""
    return Run(
        {
            "kind": "compare",
            "accel": "tcg",
            "boot": "resume",
            "kernels": [],
            "plan": {"trials": 5},
            "comparison": {
                "a": "nosysfs",
                "b": "nosysfs+fix.patch",
                "threshold": 0.03,
                "results": list(results),
                **more,
            },
        },
        (),
    )


def test_a_stored_comparison_is_read_back_as_it_was() -> None:
    run = comparison_of({**CELL, **SLOWER.to_json(SECONDS)})
    found = stored_comparison(run)
    assert found == replace(
        versus(SLOWER), setting="TCG, resume boot, 5 trials in each guest", rows=found.rows
    )
    assert list(found.rows) == [ComparedCell(CELL, SLOWER)]
    assert has_comparison(run.about)
    assert not has_comparison({})


def test_a_comparison_of_the_first_release_is_read_back_too() -> None:
    stored_then = {
        "operation": "mtu", "arm": "group", "interfaces": 1024, "ratio": 1.098, "low": 1.071,
        "high": 1.126, "p_value": 0.0004, "verdict": "slower", "more_blocks_needed": 0,
        "blocks": 20, "median_a": 0.036, "median_b": 0.0395, "level": 0.95,
    }  # fmt: skip
    assert list(stored_comparison(comparison_of(stored_then)).rows) == [ComparedCell(CELL, SLOWER)]


# Stored runs


def stored(kernels: dict[str, float], **about: Any) -> Run:
    """A run in which each kernel took so many seconds, a little more or less."""
    samples = [
        sample(kernel, "group", 128, seconds * (1 + 0.001 * (trial % 5)), trial=trial)
        for kernel, seconds in kernels.items()
        for trial in range(1, 13)
    ]
    given = {"scenario": "grouping", "plan": {"fresh_guest": True}, **about}
    return run_of(list(kernels), samples, **given)


def against(one: Run, other: Run) -> Compared:
    return comparison_of_runs((Path("then"), one), (Path("now"), other), Rule())


def test_two_runs_are_compared_kernel_by_kernel() -> None:
    found = against(
        stored({"sysfs": 0.02, "nosysfs": 0.01}), stored({"nosysfs": 0.01, "sysfs": 0.024})
    )
    assert (found.a, found.b) == ("then", "now")
    verdicts = {row.kernel: row.comparison.verdict for row in found.rows}
    assert verdicts == {"sysfs": Effect.WORSE, "nosysfs": Effect.SAME}
    assert "at different times" in found.sentence()


def test_kernels_that_are_left_over_stand_for_each_other() -> None:
    (row,) = against(stored({"nosysfs": 0.02}), stored({"nosysfs+fix.patch": 0.01})).rows
    assert row.comparison.verdict is Effect.BETTER
    assert row.comparison.change == pytest.approx(0.5)


def test_one_guest_or_one_boot_on_a_side_settles_nothing() -> None:
    """Its trials have in common what is odd about it: 30 to 48 % of them were false alarms."""
    shared = {"plan": {"fresh_guest": False}}
    resumed = {"plan": {"fresh_guest": True}, "boot": "resume"}
    for about in (shared, resumed):
        found = against(stored({"sysfs": 0.02}, **about), stored({"sysfs": 0.03}, **about))
        (row,) = found.rows
        assert (row.comparison.verdict, row.comparison.blocks) == (Effect.INCONCLUSIVE, 1)
        assert "settles nothing: --fresh-guest makes more" in found.sentence()
        assert "no 95 % interval of so few" in found.sentence()
    virtual = {**resumed, "clock": "virtual"}
    found = against(stored({"sysfs": 0.02}, **virtual), stored({"sysfs": 0.03}, **virtual))
    assert found.rows[0].comparison.verdict is Effect.WORSE, "there boots do not differ"


def test_of_a_run_from_several_saved_guests_each_is_a_unit() -> None:
    run = stored({"sysfs": 0.02}, plan={"fresh_guest": True}, boot="resume")
    spread = replace(run, samples=[replace(s, saved=1 + s.trial % 6) for s in run.samples])
    (row,) = against(spread, spread).rows
    assert (row.comparison.blocks, row.comparison.verdict) == (6, Effect.SAME)


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("accelerator", {"accel": "kvm"}),
        ("boot", {"boot": "resume"}),
        ("QEMU version", {"qemu": {"version": "10.0.0"}}),
        ("image: initramfs", {"image": {"initramfs": "12"}}),
        ("host CPU", {"host": {"cpu": "another"}}),
        ("guest for each trial", {"plan": {"fresh_guest": False}}),
        ("trials in each guest", {"plan": {"fresh_guest": True, "trials": 5}}),
    ],
)
def test_runs_that_differ_in_what_makes_the_seconds_are_refused(
    what: str, about: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="must not be compared") as caught:
        against(stored({"sysfs": 0.02}), stored({"sysfs": 0.02}, **about))
    assert what in caught.value.evidence


def test_runs_that_have_nothing_in_common_say_so() -> None:
    empty = run_of(["sysfs"], [], scenario="grouping", plan={"fresh_guest": True})
    found = against(stored({"sysfs": 0.02}), empty)
    assert found.sentence() == "Nothing was measured of both then and now."


# Other metrics than a time


GOODPUT = Metric("goodput", "Mbit/s", Better.MORE)
LOSS = Metric("loss", "%", zero=True, short="lost frames", matters=0.5)
HEARD = Metric("heard", "", Better.NEITHER, zero=True, short="notifications", matters=1)
RATES = Shape(
    axes=(Axis("mode", among=("plain", "fast")), Axis("size", title="bytes")),
    metrics=(GOODPUT, LOSS, HEARD),
    rows="size",
    columns="mode",
)
PLACE = Cell({"mode": "fast", "size": 1500})
A_LITTLE = [0.01 * (block % 5) for block in range(12)]


def rates(metric: Metric, a: Sequence[float], b: Sequence[float]) -> Compared:
    """Two kernels in one metric, read back as a comparison that was stored."""
    run = stored_rates(metric, a, b)
    return stored_comparison(run)


def stored_rates(metric: Metric, a: Sequence[float], b: Sequence[float]) -> Run:
    samples = [
        sample_in(kernel, PLACE, {**dict.fromkeys(("goodput", "loss", "heard"), 1.0),
                                  metric.name: value}, block=block)
        for kernel, values in (("a", a), ("b", b))
        for block, value in enumerate(values, 1)
    ]  # fmt: skip
    found = compare(pairs_of(samples, metric, "a", "b"), Rule())
    results = [{**cell, **one.to_json(metric)} for cell, one in found.items()]
    entry = {"a": "a", "b": "b", "threshold": 0.03, "metric": metric.name, "results": results}
    return run_of(["a", "b"], samples, scenario="another", kind="compare", comparison=entry,
                  plan={"trials": 1}, shape=RATES.to_json())  # fmt: skip


def by(base: float, *, factor: float = 1.0, more: float = 0.0) -> list[float]:
    return [factor * (base + little) + more for little in A_LITTLE]


@pytest.mark.parametrize(
    ("metric", "a", "b", "sentence", "summary"),
    [
        (
            GOODPUT, by(9.0), by(9.0, factor=0.5),
            r"b has 50\.0 % less goodput than a in fast, 1500 bytes: "
            r"95 % interval -50\.[01] to -(50\.0|49\.9) %, p = [\d.]+, 12 blocks "
            r"\(TCG, direct boot, 1 trial in each guest\)\.",
            r"less goodput, -50\.0 % in fast, 1500 bytes",
        ),
        (
            GOODPUT, by(9.0), by(9.0, factor=2.0),
            r"b has 100\.0 % more goodput than a in .*",
            r"more goodput, \+100\.0 % in fast, 1500 bytes",
        ),
        (
            GOODPUT, by(9.0), by(9.0),
            r"b has the same goodput as a in fast, 1500 bytes, within 3 %: 95 % interval .*",
            r"same, \+0\.0 % in .*",
        ),
        (
            LOSS, by(0.0), by(0.0, more=2.0),
            r"b has 2\.00 % more lost frames than a in fast, 1500 bytes: "
            r"95 % interval \+(1\.99|2\.00) % to \+2\.0[01] %, p = [\d.]+, 12 blocks .*",
            r"more lost frames, \+2\.00 % in fast, 1500 bytes",
        ),
        (
            LOSS, by(0.0), by(0.0, more=0.7),
            r"b has 0\.700 % more lost frames than a in .*: 95 % interval \+0\.[67]\d0 % to .*",
            r"more lost frames, \+0\.700 % in .*",
        ),
        (
            LOSS, by(0.0, more=2.0), by(0.0),
            r"b has 2\.00 % less lost frames than a in .*: 95 % interval -2\.0\d % to -2\.00 %, .*",
            r"less lost frames, -2\.00 % in .*",
        ),
        (
            LOSS, [0.0] * 12, [0.0] * 12,
            r"b has the same lost frames as a in fast, 1500 bytes, within 0\.500 %: "
            r"95 % interval 0 % to 0 %, p = 1, 12 blocks .*",
            r"same, 0 % in .*",
        ),
        (
            HEARD, [5.0] * 12, [8.0] * 12,
            r"b has 3\.00 more notifications than a in .*: 95 % interval \+3\.00 to \+3\.00, .*",
            r"different, \+3\.00 in .*",
        ),
    ],
)  # fmt: skip
def test_a_metric_is_told_in_its_own_words_and_unit(
    metric: Metric, a: list[float], b: list[float], sentence: str, summary: str
) -> None:
    found = rates(metric, a, b)
    assert re.fullmatch(sentence, found.sentence()), found.sentence()
    assert re.fullmatch(summary, found.summary()), found.summary()


def test_what_is_open_of_a_difference_says_what_would_settle_it() -> None:
    found = rates(LOSS, [0.0, 0.0, 0.0], [0.0, 5.0, 2.0])
    assert re.match(
        r"Whether b has more or less lost frames than a in fast, 1500 bytes is not known: "
        r"no 95 % interval of so few, .*; about \d+ more blocks would settle it ",
        found.sentence(),
    ), found.sentence()


def test_the_table_says_that_it_is_a_difference() -> None:
    shown = plain_text(render(rates(LOSS, [0.0] * 12, by(2.0))), 120)
    assert "loss, %, medians of 12 blocks" in shown
    assert "B - A [95 % interval]" in shown
    assert re.search(r"0 +2\.0\d +\+2\.0\d % \[2\.0\d %, 2\.0\d %\]", shown)
    assert "more lost frames" in shown
    ratio = plain_text(render(rates(GOODPUT, by(9.0), by(18.0))), 120)
    assert "goodput, Mbit/s, medians" in ratio and "B / A [95 % interval]" in ratio
    assert re.search(r" 9\.02 +18\.0 +[12]\.\d+ ", ratio) and "more goodput" in ratio


def test_several_comparisons_in_another_metric() -> None:
    found = rates(LOSS, by(0.0), by(0.0, more=2.0))
    (row,) = found.rows
    same = replace(row.comparison, verdict=Effect.SAME)
    several = replace(found, rows=[row, ComparedCell(PLACE.with_(size=64), same)])
    assert several.summary() == "1 more lost frames, 1 same"
    assert "more lost frames in fast, 1500 bytes (2.00 % more lost frames" in several.sentence()
    assert "the same within 0.500 % in 1" in several.sentence()


def test_two_runs_are_compared_in_their_first_metric() -> None:
    def run(goodput: float) -> Run:
        samples = [
            sample_in("k", PLACE, {"goodput": goodput + little}, trial=n)
            for n, little in enumerate(A_LITTLE, 1)
        ]
        fresh = {"fresh_guest": True}
        return run_of(["k"], samples, shape=RATES.to_json(), scenario="another", plan=fresh)

    (row,) = against(run(9.0), run(6.0)).rows
    assert (row.cell, row.comparison.verdict) == (PLACE, Effect.WORSE), "less is worse"
    (row,) = against(run(6.0), run(9.0)).rows
    assert row.comparison.verdict is Effect.BETTER
    suite = suite_of_runs([("k", row.cell, row.comparison)], GOODPUT, "then", "now")
    ((outcome,),) = ([*family.children] for family in suite.outcomes)
    assert (outcome.name, outcome.status) == ("k/fast/1500", Status.PASS)
    assert outcome.message.startswith("more goodput: 1.5x [")


@pytest.mark.parametrize(
    ("metric", "a", "b", "status", "message", "unit"),
    [
        (GOODPUT, by(9.0), by(9.0, factor=0.5), Status.FAIL, r"less goodput: 0\.5x \[", "x"),
        (GOODPUT, by(9.0), by(9.0, factor=2.0), Status.PASS, r"more goodput: 2x \[", "x"),
        (LOSS, [0.0] * 12, by(2.0), Status.FAIL, r"more lost frames: 2\.01 \[2(\.01)?, 2\.0", "%"),
        (LOSS, [0.0] * 12, [0.0] * 12, Status.PASS, r"same: 0 \[0, 0\] of a, p = 1, 12", "%"),
        (LOSS, [0.0] * 3, [0.0, 5.0, 2.0], Status.SKIP, r"inconclusive: 2 ", "%"),
        (HEARD, [5.0] * 12, [8.0] * 12, Status.PASS, r"different: 3 \[3, 3\] of a", ""),
    ],
)
def test_other_tools_get_the_same_by_the_metrics_direction(
    metric: Metric, a: list[float], b: list[float], status: Status, message: str, unit: str
) -> None:
    run = stored_rates(metric, a, b)
    suite = next(s for s in suites_of(run) if s.kernel and s.kernel.name == "b")
    (outcome,) = next(o for o in suite.outcomes if o.name == "compare").children
    assert (outcome.name, outcome.status) == ("fast/1500", status)
    assert re.match(message, outcome.message), outcome.message
    assert outcome.figure is not None and outcome.figure.unit == unit
