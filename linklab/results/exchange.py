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

from linklab.results.comparison import EXACT

Array = NDArray[np.float64]
Units = NDArray[np.intp]

_MOST_EACH = 1000  # values whose differences are all looked at
_DIGITS = 12  # of a difference, as a share of the largest: the rest is rounding
_TIED = 1e-9  # of a sum of ranks


class Shift:
    """Two subjects' values on a scale on which an effect is added, and each value's unit.

    A unit has values of both.
    """

    def __init__(self, a: Array, b: Array, units_a: Units, units_b: Units) -> None:
        self._a, self._b = a, b
        self._units = units_a, units_b
        some_a, some_b = (np.sort(values)[:: len(values) // _MOST_EACH + 1] for values in (a, b))
        every = (some_b[:, None] - some_a[None, :]).ravel()
        self._scale = float(np.max(np.abs(every))) or 1.0
        self._every = np.round(every / self._scale, _DIGITS)
        self.effect = float(np.median(self._every)) * self._scale

    def p_value(self) -> float:
        """Return how often chance gives an effect as large, either way."""
        return max(self._chance(nudge * 10.0**-_DIGITS) for nudge in (-1, 0, 1))

    def interval(self, risk: float) -> tuple[float, float] | None:
        """Return the interval of the effect; None where so few units have none at this risk."""
        steps = np.unique(self._every)
        # A shift is rejected or not between two differences, wherever it lies.
        between = np.concatenate(([steps[0] - 1], (steps[1:] + steps[:-1]) / 2, [steps[-1] + 1]))
        middle = int(np.searchsorted(steps, self.effect / self._scale))
        if max(self._chance(between[0]), self._chance(between[-1])) > risk:
            return None

        def end(inside: int, outside: int) -> float:
            while abs(outside - inside) > 1:
                half = (inside + outside) // 2
                if self._chance(between[half]) > risk:
                    inside = half
                else:
                    outside = half
            return float(steps[min(inside, outside)]) * self._scale

        return min(end(middle, 0), self.effect), max(end(middle, len(steps)), self.effect)

    def _chance(self, shift: float) -> float:
        """Return the p value of a shift, in units of the scale."""
        a, b = self._a / self._scale, self._b / self._scale - shift
        sorted_a, sorted_b = np.sort(a), np.sort(b)

        def scores(values: Array) -> Array:
            """Return the share of A, and that of B, that is below each value, together."""
            found: Array = np.full(len(values), -2.0)
            for of in (sorted_a, sorted_b):
                left, right = np.searchsorted(of, values), np.searchsorted(of, values, "right")
                found += (left + right) / len(of)
            return np.asarray(found)

        each = np.bincount(self._units[1], scores(b) / len(b))
        each -= np.bincount(self._units[0], scores(a) / len(a))
        seen = abs(float(each.sum()))
        if len(each) <= EXACT:
            return float(np.mean(np.abs(_signs(len(each)) @ each) >= seen - _TIED))
        size = sqrt(float(each @ each))
        return erfc(seen / size / sqrt(2)) if size else 1.0


@cache
def _signs(units: int) -> Array:
    """Return all ways to exchange, but for those that exchange all the others instead."""
    return 1.0 - 2 * (np.arange(2 ** (units - 1))[:, None] >> np.arange(units) & 1)


def dealt(count: int, units: int, seed: int) -> Units:
    """Return a unit for each of some values that belong to none, as evenly as it goes."""
    return np.random.default_rng(seed).permutation(np.arange(count) % units)


def numbered(units: Sequence[int]) -> Units:
    """Return the units' numbers, from 0 on."""
    return np.asarray(np.unique(np.asarray(units), return_inverse=True)[1])
