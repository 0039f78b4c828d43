"""What repeated trials say: the median, and how far it can be trusted.

Timings are not normal: a host disturbs one trial and lengthens it, and never
shortens one. So the middle is the median, and the interval around it is made
of the trials' own ranks, which holds whatever the distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, erfc, sqrt

LEVEL = 0.95
EXACT = 12  # units whose exchanges are all tried; of more their sum is as good as normal


@dataclass(frozen=True)
class Interval:
    """An interval that holds the true median with a probability of at least `level`."""

    low: float
    high: float
    level: float


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return the narrowest interval between two of the values that holds the median.

    Between the k-th smallest and the k-th largest of n values lies the median
    of what they were drawn from with probability 1 - 2 P(B < k), B binomial
    with n and 1/2 (David and Nagaraja, "Order Statistics", 3rd ed., 7.1). Of
    fewer than six values even the smallest and the largest do not reach 95 %:
    they are returned all the same, with the level that they do reach. None of
    a single value, which says nothing of its own spread.
    """
    count = len(values)
    if count < 2:
        return None
    rank, reached = _rank(count, level)
    ordered = sorted(values)
    return Interval(ordered[rank - 1], ordered[count - rank], reached)


@cache
def _rank(count: int, level: float) -> tuple[int, float]:
    """Return the largest k that reaches the level, at least 1, and the level that it reaches."""
    outside, rank = 2, 1  # 2 P(B < k) in units of 2**-count
    while rank < count // 2:
        more = outside + 2 * comb(count, rank)
        if more > (1 - level) * 2**count:
            break
        outside, rank = more, rank + 1
    return rank, 1 - outside / 2**count


def share_interval(hits: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a share of which `hits` of `trials` were seen.

    Exact (Clopper and Pearson, Biometrika 26, 1934, pages 404 to 413): it ends
    where as many or more, or as many or fewer, would be seen with half of what
    is left out.
    """
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _at_most(hits - 1, trials, p) > tail)
    high = 1.0 if hits == trials else _solve(lambda p: _at_most(hits, trials, p) <= tail)
    return low, high


def _at_most(hits: int, trials: int, share: float) -> float:
    return sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits + 1))


def _solve(beyond: Callable[[float], bool]) -> float:
    """Return the share from which on `beyond` holds."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def least_p_value(units: int) -> float:
    """Return the p value where so many units agree as well as they can."""
    return 2.0 ** (1 - units) if units <= EXACT else erfc(sqrt(units / 2))
