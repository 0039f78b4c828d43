"""Comparisons in other metrics than a time: directions, differences, words, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isclose
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_comparison import (
    DIFFERENT,
    GOODPUT,
    LOSS,
    QUICK,
    ROUNDS,
    Draw,
    disturbed,
    heavy_tailed,
    skewed,
)

from linklab.results.comparison import SECONDS, Comparison, Effect, Pair, compare_one
from linklab.results.shape import Better, Metric

HEARD = Metric("notifications", "", Better.NEITHER, zero=True, matters=1)
ANY = st.floats(-1e3, 1e3)
DIFFERENCES = st.lists(st.tuples(ANY, ANY), min_size=2, max_size=20).map(
    lambda both: Pair([a for a, _ in both], [b for _, b in both], metric=LOSS)
)
LINE = [10 + 0.001 * number for number in range(10)]
ZEROS = [0.0] * 10


@pytest.mark.parametrize(
    ("better", "more", "less"),
    [
        (Better.LESS, Effect.WORSE, Effect.BETTER),
        (Better.MORE, Effect.BETTER, Effect.WORSE),
        (Better.NEITHER, Effect.DIFFERENT, Effect.DIFFERENT),
    ],
)
@pytest.mark.parametrize("zero", [False, True], ids=["by ratio", "by difference"])
def test_whether_more_is_worse_is_the_metrics_to_say(
    better: Better, more: Effect, less: Effect, zero: bool
) -> None:
    metric = Metric("count", "", better, zero, matters=0.5)
    higher = [1.2 * value for value in LINE]
    there = compare_one(Pair(LINE, higher, metric=metric), QUICK)
    back = compare_one(Pair(higher, LINE, metric=metric), QUICK)
    assert (there.verdict, back.verdict) == (more, less)
    assert (there.by_ratio, back.by_ratio) == (not zero, not zero)
    assert there.change == pytest.approx(0.2 * median(LINE) if zero else 1.2)
    assert compare_one(Pair(LINE, list(LINE), metric=metric), QUICK).verdict is Effect.SAME


@pytest.mark.parametrize("matters", [0.0, 0.5])
def test_zeros_on_both_sides_are_the_same(matters: float) -> None:
    found = compare_one(Pair(ZEROS, ZEROS, metric=replace(LOSS, matters=matters)), QUICK)
    assert found.verdict is Effect.SAME
    assert (found.change, found.low, found.high) == (0, 0, 0)
    assert found.p_value == 1
    assert found.more_blocks_needed == 0
    few = compare_one(Pair([0.0] * 5, [0.0] * 5, metric=LOSS), QUICK)
    assert few.verdict is Effect.INCONCLUSIVE, "however exact they are"


def test_what_was_never_there_and_now_is_has_a_difference_and_its_interval() -> None:
    lost = [2 + 0.01 * number for number in range(10)]
    found = compare_one(Pair(ZEROS, lost, metric=LOSS), QUICK)
    assert found.verdict is Effect.WORSE
    assert found.change == pytest.approx(2.045)
    assert 2 <= found.low < found.change < found.high <= 2.09
    assert found.median_a == 0
    assert found.median_b == pytest.approx(2.045)
    gone = compare_one(Pair(lost, ZEROS, metric=LOSS), QUICK)
    assert gone.verdict is Effect.BETTER
    assert (gone.change, gone.low, gone.high) == pytest.approx(
        (-found.change, -found.high, -found.low)
    )


def test_a_difference_that_is_sure_and_does_not_matter_is_the_same() -> None:
    little = [0.4 + 0.001 * number for number in range(10)]
    found = compare_one(Pair(ZEROS, little, metric=LOSS), QUICK)
    assert found.p_value < 0.05
    assert found.verdict is Effect.SAME
    finer = Pair(ZEROS, little, metric=replace(LOSS, matters=0.3))
    assert compare_one(finer, QUICK).verdict is Effect.WORSE


def test_a_ratio_that_would_matter_is_not_asked_of_a_difference() -> None:
    """The rule's threshold is a share, of which nothing can be had where there may be 0."""
    twice = Pair([0.1] * 10, [0.2] * 10, metric=LOSS)
    assert compare_one(twice, QUICK).verdict is Effect.SAME
    assert compare_one(twice, replace(QUICK, threshold=9.0)).verdict is Effect.SAME


def test_few_blocks_of_a_difference_prove_nothing_and_those_that_would_are_told() -> None:
    found = compare_one(Pair([0.0, 0.0, 0.0], [5.0, 5.0, 5.0], metric=LOSS), QUICK)
    assert (found.verdict, found.more_blocks_needed) == (Effect.INCONCLUSIVE, 3)


def by_amount(
    draw: Draw, blocks: int, amount: float, rounds: int, *, paired: bool = True
) -> list[Comparison]:
    """Compare what is as large as a loss, some of it 0, and the same with an amount more."""
    random = np.random.default_rng(21)
    metric, found = replace(LOSS, matters=0.01), []
    for number in range(rounds):
        a, b = (np.maximum(0, values - 0.9) for values in draw(random, blocks))
        pair = Pair(a.tolist(), (b + amount).tolist(), paired, metric)
        found.append(compare_one(pair, replace(QUICK, seed=number)))
    return found


@pytest.mark.parametrize("draw", [skewed, heavy_tailed, disturbed])
@pytest.mark.parametrize("blocks", [8, 20])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(
    draw: Draw, blocks: int
) -> None:
    for paired in (True, False):
        found = by_amount(draw, blocks, 0.3, ROUNDS, paired=paired)
        held = sum(one.low <= 0.3 <= one.high for one in found)
        assert held >= ROUNDS * 0.95 - 2.6 * (ROUNDS * 0.95 * 0.05) ** 0.5
        assert not any(one.by_ratio for one in found)


@pytest.mark.parametrize("draw", [skewed, heavy_tailed, disturbed])
@pytest.mark.parametrize("blocks", [8, 20])
def test_equal_amounts_are_taken_for_different_once_in_twenty_at_most(
    draw: Draw, blocks: int
) -> None:
    found = by_amount(draw, blocks, 0.0, ROUNDS)
    significant = sum(one.p_value <= 0.05 for one in found)
    alarms = sum(one.verdict in DIFFERENT for one in found)
    assert alarms <= significant <= ROUNDS * 0.05 + 2.6 * (ROUNDS * 0.05 * 0.95) ** 0.5


def test_a_drift_that_both_share_does_not_hide_an_amount() -> None:
    host = [float(block % 7) for block in range(20)]
    found = compare_one(Pair(host, [value + 1 for value in host], metric=LOSS), QUICK)
    assert (found.verdict, found.low, found.high) == (Effect.WORSE, 1, 1)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_the_difference_lies_in_its_interval_and_p_is_a_probability(pair: Pair) -> None:
    found = compare_one(pair, QUICK)
    assert found.low <= found.change <= found.high
    assert 0 < found.p_value <= 1
    every = median(b - a for b in pair.b for a in pair.a)
    assert isclose(found.change, every, abs_tol=1e-9 * max(map(abs, (*pair.a, *pair.b, 1.0))))
    assert found.conclusive == (found.more_blocks_needed == 0)


@settings(max_examples=40, deadline=None)
@given(DIFFERENCES, st.floats(-100, 100))
def test_the_other_way_round_a_difference_is_the_opposite_wherever_0_is(
    pair: Pair, amount: float
) -> None:
    there, back = compare_one(pair, QUICK), compare_one(replace(pair, a=pair.b, b=pair.a), QUICK)
    assert there.change == pytest.approx(-back.change)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)
    moved = replace(pair, a=[v + amount for v in pair.a], b=[v + amount for v in pair.b])
    assert compare_one(moved, QUICK).change == pytest.approx(there.change, abs=1e-9)


TIES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9)


@settings(max_examples=60, deadline=None)
@given(TIES, st.sampled_from([0.1, 0.3, 1 / 3, 1e-6, 1e6 / 7]), st.booleans())
def test_rounding_does_not_tell_equal_differences_apart(
    both: list[tuple[int, int]], unit: float, paired: bool
) -> None:
    """Counts, and the same in another unit, in which equal steps differ in their last digits."""
    one = Pair([a for a, _ in both], [b for _, b in both], paired, LOSS)
    other = replace(one, a=[a * unit for a in one.a], b=[b * unit for b in one.b])
    found, scaled = compare_one(one, QUICK), compare_one(other, QUICK)
    assert scaled.p_value == found.p_value
    assert scaled.change == pytest.approx(found.change * unit)


# What is stored


@pytest.mark.parametrize(
    ("metric", "more", "less"),
    [
        (SECONDS, "slower", "faster"),
        (GOODPUT, "less goodput", "more goodput"),
        (replace(LOSS, short="loss rate"), "more loss rate", "less loss rate"),
    ],
    ids=["seconds", "goodput", "loss"],
)
def test_an_effect_is_told_in_the_metrics_words(metric: Metric, more: str, less: str) -> None:
    assert (Effect.WORSE.word(metric), Effect.BETTER.word(metric)) == (more, less)
    rest = (Effect.SAME, Effect.DIFFERENT, Effect.INCONCLUSIVE)
    assert [effect.word(metric) for effect in rest] == ["same", "different", "inconclusive"]


@pytest.mark.parametrize("metric", [SECONDS, GOODPUT, LOSS, HEARD], ids=lambda m: m.name)
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_a_comparison_survives_json(metric: Metric, factor: float) -> None:
    pair = Pair(LINE, [factor * value for value in LINE], metric=metric)
    found = compare_one(pair, QUICK)
    data = json.loads(json.dumps(found.to_json(metric)))
    assert Comparison.from_json(data) == found
    assert Comparison.from_json({**data, "later": 1}) == found
    assert ("ratio" in data, "difference" in data) == (not metric.zero, metric.zero)


@pytest.mark.parametrize(
    ("word", "effect"),
    [
        ("slower", Effect.WORSE),
        ("faster", Effect.BETTER),
        ("same", Effect.SAME),
        ("inconclusive", Effect.INCONCLUSIVE),
    ],
)
def test_a_comparison_of_the_first_release_is_read(word: str, effect: Effect) -> None:
    data = {
        "ratio": 1.1, "low": 1.0, "high": 1.2, "p_value": 0.01, "verdict": word,
        "more_blocks_needed": 0, "blocks": 9, "median_a": 1.0, "median_b": 1.1, "level": 0.95,
    }  # fmt: skip
    found = Comparison.from_json(data)
    assert (found.verdict, found.change, found.by_ratio) == (effect, 1.1, True)
    assert {**data, "effect": effect.value} == found.to_json(SECONDS), "and written the same"
