"""The median of trials and the interval that holds it."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.results.statistics import (
    LEVEL,
    Interval,
    median_interval,
    share_interval,
)

VALUES = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=60)


def test_one_trial_says_nothing_of_its_spread() -> None:
    assert median_interval([1.0]) is None


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Conover, "Practical Nonparametric Statistics", 3rd ed., table A3 with p = 0.5.
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (15, 4, 12), (17, 5, 13), (20, 6, 15)],
)
def test_the_interval_lies_between_the_ranks_of_the_tables(count: int, low: int, high: int) -> None:
    values = [float(rank) for rank in range(count, 0, -1)]
    interval = median_interval(values)
    assert interval is not None
    assert (interval.low, interval.high) == (low, high)
    assert interval.level >= LEVEL


@pytest.mark.parametrize(("count", "level"), [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375)])
def test_too_few_trials_give_all_they_have_and_say_what_it_is_worth(
    count: int, level: float
) -> None:
    values = [float(number) for number in range(count)]
    assert median_interval(values) == Interval(0.0, count - 1.0, level)


@given(VALUES)
def test_the_median_lies_in_its_interval(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval is not None
    assert min(values) <= interval.low <= median(values) <= interval.high <= max(values)


@pytest.mark.parametrize("count", [6, 9, 20])
def test_the_true_median_is_in_it_as_often_as_is_said(count: int) -> None:
    """Of a skewed distribution, as timings are; 1.0 is its median."""
    draw = random.Random(1)
    level, rounds, held = 0.0, 4000, 0
    for _ in range(rounds):
        interval = median_interval([draw.lognormvariate(0, 1) for _ in range(count)])
        assert interval is not None
        level = interval.level
        held += interval.low <= 1.0 <= interval.high
    assert held / rounds == pytest.approx(level, abs=0.015)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # As scipy.stats.binomtest(hits, trials).proportion_ci("exact") gives them.
    [
        (0, 40, 0.0, 0.0880973),
        (2, 40, 0.006113647, 0.1691969),
        (38, 40, 0.8308031, 0.9938864),
        (40, 40, 0.9119027, 1.0),
        (1, 2, 0.01257912, 0.9874209),
    ],
)
def test_the_interval_of_a_share_is_that_of_the_exact_test(
    hits: int, trials: int, low: float, high: float
) -> None:
    assert share_interval(hits, trials) == pytest.approx((low, high), abs=1e-6)
