"""Seconds as a function of interfaces, held against numpy and against known curves."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.results.fit import Fit, Power, fit, student_outside, student_quantile
from linklab.scenarios.grouping.paper import TABLE_I

COUNTS = (128, 256, 512, 1024, 2048)
A, B, C = Power.FIXED, Power.LINEAR, Power.QUADRATIC


def noisy(curve: Callable[[int], float], error: float = 0.01, seed: int = 1) -> dict[int, float]:
    """Return the figures of a curve, each off by a factor."""
    draw = random.Random(seed)
    return {count: curve(count) * (1 + draw.gauss(0, error)) for count in COUNTS}


def fitted(points: Mapping[int, float] | Mapping[float, float]) -> Fit:
    found = fit(points)
    assert found is not None
    return found


def test_a_curve_without_errors_is_found_again() -> None:
    found = fitted({n: 0.02 + 0.003 * n + 2e-6 * n * n for n in COUNTS})
    values = {power: term.value for power, term in found.terms.items()}
    assert values == pytest.approx({A: 0.02, B: 0.003, C: 2e-6})
    assert found.growth == "faster than linear"
    assert found.error < 1e-9
    assert found.at(300) == pytest.approx(0.02 + 0.9 + 0.18)


@pytest.mark.parametrize(
    ("curve", "terms"),
    [
        (lambda n: 0.003 * n, {B}),
        (lambda n: 0.5, {A}),
        (lambda n: 0.5 + 0.003 * n, {A, B}),
        (lambda n: 1e-6 * n * n, {C}),
    ],
)
def test_what_is_not_there_is_seldom_found_and_what_is_there_always(
    curve: Callable[[int], float], terms: set[Power]
) -> None:
    """A term that is not there looks significant once in twenty times, by definition."""
    found = [set(fitted(noisy(curve, 0.01, seed)).terms) for seed in range(200)]
    assert all(each >= terms for each in found)
    assert sum(each == terms for each in found) >= 0.8 * len(found)
    assert set(fitted(noisy(curve, 0.0)).terms) == terms


def test_the_papers_process_column_grows_with_the_square() -> None:
    """3.4 ms N + 3.5 us N^2: `ip` dumped all links before each change."""
    found = fitted({count: process for count, (_, process) in TABLE_I["nosysfs"].items()})
    assert set(found.terms) == {B, C}
    assert found.terms[B].value == pytest.approx(3.4e-3, rel=0.02)
    assert found.terms[C].value == pytest.approx(3.5e-6, rel=0.02)
    assert found.growth == "faster than linear"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_counts_are_no_curve(count: int) -> None:
    assert fit({n: 0.1 * n for n in COUNTS[:count]}) is None


def test_three_counts_tell_a_line_and_not_whether_it_bends() -> None:
    found = fitted({n: 0.02 + 0.003 * n for n in COUNTS[:3]})
    assert found.tried == (A, B)
    assert found.growth == "not known: needs 4 counts"


def test_a_time_of_zero_is_left_out() -> None:
    assert fit({1: 0.0, 2: 1.0, 3: 2.0}) is None


@pytest.mark.parametrize(
    ("curve", "growth"),
    [
        (lambda n: 0.001 * n, "linear"),
        (lambda n: 0.5, "none found"),
        (lambda n: 0.01 * n - 2e-6 * n * n, "slower than linear"),
    ],
)
def test_growth_in_words(curve: Callable[[int], float], growth: str) -> None:
    assert fitted({n: curve(n) for n in COUNTS}).growth == growth


def test_no_cost_is_negative_however_well_it_would_fit() -> None:
    """Figures of a host that was busy with other things meanwhile."""
    found = fitted({64: 0.308, 128: 0.179, 256: 0.0658, 512: 0.332})
    assert all(term.value > 0 for term in found.terms.values())


@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5))
def test_no_fit_falls_between_the_counts(seconds: list[float]) -> None:
    found = fitted(dict(zip(COUNTS, seconds, strict=True)))
    curve = [found.at(count) for count in range(128, 2049, 64)]
    falls = [b - a for a, b in itertools.pairwise(curve)]
    assert min(falls) >= -1e-9 * max(curve)


def test_the_margin_holds_the_truth_as_often_as_it_says() -> None:
    held = tried = 0
    for seed in range(400):
        found = fitted(noisy(lambda n: 0.003 * n, 0.03, seed))
        if set(found.terms) == {B}:
            tried += 1
            held += abs(found.terms[B].value - 0.003) <= found.terms[B].margin
    assert tried > 300
    assert held / tried == pytest.approx(0.95, abs=0.04)


def test_terms_and_margins_are_those_of_numpy() -> None:
    points = noisy(lambda n: 0.3 + 0.003 * n + 4e-6 * n * n, 0.01)
    found = fitted(points)
    counts, seconds = numpy.array(list(points)), numpy.array(list(points.values()))
    columns = numpy.column_stack([counts**power.value / seconds for power in Power])
    solution, (left,), _, _ = numpy.linalg.lstsq(columns, numpy.ones(len(points)), rcond=None)
    deviations = numpy.sqrt(numpy.diag(numpy.linalg.inv(columns.T @ columns)) * left / 2)
    assert set(found.terms) == set(Power)
    assert found.error == pytest.approx((left / 2) ** 0.5)
    for place, power in enumerate(Power):
        assert found.terms[power].value == pytest.approx(solution[place])
        # 6.2053: Student's t, 98.75 %, 2 degrees of freedom, from any table: the terms were
        # chosen by the same points, which takes the other half of the risk.
        assert found.terms[power].margin == pytest.approx(6.2053 * deviations[place], rel=1e-4)


@pytest.mark.parametrize("fixed", [0.0, 0.1])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.15])
def test_a_square_that_is_not_there_is_seen_once_in_twenty_at_most(
    fixed: float, error: float
) -> None:
    square = held = 0
    for seed in range(400):
        found = fitted(noisy(lambda n: fixed + 0.003 * n, error, seed))
        square += C in found.terms
        held += B in found.terms and abs(found.terms[B].value - 0.003) <= found.terms[B].margin
    assert square <= 400 * 0.05
    assert held >= 400 * 0.92 - 400 * error


def test_numbers_that_lie_hardly_apart_are_fitted_all_the_same() -> None:
    """Two pairs of numbers, of times that differ a million-fold: singular by rounding."""
    found = fitted({953.0: 0.001, 0.5: 3.0, 959.0: 473.0, 1.0: 46.0})
    assert found.growth == "not known: too noisy"


@given(st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4, unique=True), st.data())
def test_every_term_that_is_kept_is_numpys_whatever_the_counts(
    counts: list[float], data: st.DataObject
) -> None:
    """Also where the numbers are far apart, or hardly."""
    points = {n: data.draw(st.floats(1e-3, 1e3)) for n in counts}
    found = fit(points)
    assert found is not None
    powers = [power for power in Power if power in found.terms]
    numbers, seconds = numpy.array(list(points)), numpy.array(list(points.values()))
    columns = numpy.column_stack([numbers**power.value / seconds for power in powers])
    size = numpy.linalg.norm(columns, axis=0)
    if numpy.linalg.cond(columns / size) < 1e4:
        solution = numpy.linalg.lstsq(columns / size, numpy.ones(4), rcond=None)[0] / size
        assert [found.terms[power].value for power in powers] == pytest.approx(solution, rel=1e-4)


@pytest.mark.parametrize(
    ("free", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (10, 2.2281), (31, 2.0395)],
)
def test_students_t_is_that_of_the_tables(free: int, quantile: float) -> None:
    assert student_quantile(0.95, free) == pytest.approx(quantile, abs=1e-4)
    assert student_outside(quantile, free) == pytest.approx(0.05, abs=1e-5)
    assert student_outside(0, free) == 1


def test_of_noise_alone_no_growth_is_claimed() -> None:
    """The last term is kept, but it says nothing where its interval holds 0."""
    found = fitted({16: 0.001, 32: 8.0, 64: 0.002, 128: 0.02})
    assert not found.is_significant
    assert found.growth == "not known: too noisy"
