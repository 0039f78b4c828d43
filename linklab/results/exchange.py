"""What chance gives: the two subjects exchanged within units, and what that says of a shift.

One procedure gives the effect, its p value and its interval, so that they never disagree:
0 lies within the interval of 1 - p and of no narrower one.

- The effect is the median of all differences, b - a (Hodges and Lehmann, Annals of Mathematical
  Statistics 34, 1963, pages 598 to 611).
- The statistic is the sum of the units' differences of ranks among all values, that of Wilcoxon
  and Mann and Whitney. If there is no effect, it is chance which of a unit's two subjects gave
  which of its values. Exchanging them changes a unit's sign and nothing else, so the signs alone
  are drawn again. That is exact whatever the distribution and however the host drifts from
  one unit to the next, and where the two spread differently it still holds nearly, as what the
  sum is held against are its own terms (a studentised statistic; Janssen, Statistics and
  Probability Letters 36, 1997, pages 9 to 21).
- The interval holds what shifts of b are not rejected.

A unit is what was drawn independently: a block, or all blocks whose guests go on from the same
saved ones. All ways are tried for up to 12 units; of more the sum is as good as normal.

Pure, and nothing is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from linklab.results.statistics import EXACT

Array = NDArray[np.float64]
Units = NDArray[np.intp]

_MOST_EACH = 1000  # values whose differences are all looked at
_DIGITS = 12  # of a value, as a share of how large values are: the rest is rounding
_TIED = 1e-9  # of a sum of ranks


class Shift:
    """Two subjects' values on a scale on which an effect is added, and each value's unit.

    A unit has values of both. `size` is how large values are: smaller than it by so many digits
    is rounding.
    """

    def __init__(self, a: Array, b: Array, units_a: Units, units_b: Units, size: float) -> None:
        self._a, self._b = a / size, b / size
        self._units = units_a, units_b
        self._count = int(max(units_a)) + 1
        self._size = size
        step = max(len(a), len(b)) // _MOST_EACH + 1
        some_a, some_b = (np.sort(values)[::step] for values in (self._a, self._b))
        every = (some_b[:, None] - some_a[None, :]).ravel()
        self._effect = float(np.median(every))
        self._steps, first = np.unique(np.round(every, _DIGITS), return_index=True)
        self._exact = every[first]

    @property
    def effect(self) -> float:
        """The median of all differences."""
        return self._effect * self._size

    def p_value(self) -> float:
        """Return how often chance gives an effect as large, either way."""
        return max(self._chance(nudge * 10.0**-_DIGITS) for nudge in (-1, 0, 1))

    def interval(self, risk: float) -> tuple[float, float] | None:
        """Return the interval of the effect; None where so few units have none at this risk."""
        steps = self._steps
        # A shift is rejected or not between two differences, wherever it lies, or at one of them.
        shifts = np.empty(2 * len(steps) + 1)
        shifts[1::2], shifts[2:-1:2] = steps, (steps[1:] + steps[:-1]) / 2
        shifts[0], shifts[-1] = steps[0] - 1, steps[-1] + 1
        if max(self._chance(shifts[0]), self._chance(shifts[-1])) > risk:
            return None

        def last_inside(outside: int) -> int:
            inside = int(np.searchsorted(shifts, round(self._effect, _DIGITS)))
            while abs(outside - inside) > 1:
                half = (inside + outside) // 2
                if self._chance(shifts[half]) > risk:
                    inside = half
                else:
                    outside = half
            return inside

        low = self._exact[(last_inside(0) - 1) // 2]
        high = self._exact[last_inside(len(shifts) - 1) // 2]
        return (
            min(float(low), self._effect) * self._size,
            max(float(high), self._effect) * self._size,
        )

    def _chance(self, shift: float) -> float:
        """Return the p value of a shift."""
        values = np.round(self._a, _DIGITS), np.round(self._b - shift, _DIGITS)
        ordered = [np.sort(each) for each in values]
        sums, apart = np.zeros(self._count), np.zeros(self._count)
        for units, own, sign in ((self._units[0], 0, -1), (self._units[1], 1, 1)):
            shares = [_below(of, values[own]) for of in ordered]
            weight = sign / len(values[own])
            sums += np.bincount(units, weight * (shares[0] + shares[1] - 1))
            other = shares[1 - own] - np.mean(shares[1 - own])
            apart += np.bincount(units, weight * other)
        seen = abs(float(sums.sum()))
        if self._count <= EXACT:
            return float(np.mean(np.abs(_signs(self._count) @ sums) >= seen - _TIED))
        # Where they spread differently their places among each other vary by more.
        size = sqrt(max(sums @ sums, 4 * (apart @ apart)))
        return erfc(seen / size / sqrt(2)) if size else 1.0


def _below(ordered: Array, values: Array) -> Array:
    """Return the share of the ordered ones that is below each value; of equals it is half."""
    left, right = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    return np.asarray((left + right) / (2 * len(ordered)))


@cache
def _signs(units: int) -> Array:
    """Return all ways to exchange, but for those that exchange all the others instead."""
    exchanged = np.arange(2 ** (units - 1))[:, None] >> np.arange(units) & 1
    return np.asarray(1 - 2 * exchanged, dtype=np.float64)


def dealt(count: int, units: int, seed: int) -> Units:
    """Return a unit for each of some values that belong to none, as evenly as it goes."""
    return np.random.default_rng(seed).permutation(np.arange(count) % units)


def numbered(units: Sequence[int]) -> Units:
    """Return the units' numbers, from 0 on."""
    return np.asarray(np.unique(np.asarray(units), return_inverse=True)[1])
