"""What chance gives: the bootstrap and the permutations behind a comparison.

Each works on the logarithm of the ratio of two medians, B over A, or on their
difference; see `comparison.py` for what is made of it. Pure: the same seed gives the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from linklab.results.fit import student_quantile

Array = NDArray[np.float64]

_MOST_DRAWS = 400_000
_DRAWS_BEYOND = 20  # draws beyond a critical value that it takes to know where that lies
_LEAST_TAIL = _DRAWS_BEYOND / _MOST_DRAWS
_CHUNK = 1 << 20  # values drawn at once
_EXACT = 12  # blocks whose 2**blocks exchanges are all tried
_TIED = 1e-12
_TIE_BREAK = 1e-6


@dataclass(frozen=True)
class Chance:
    """Two subjects' values, and how to draw from them.

    `paired` values are those of the same blocks and stay together. `risk` is
    what may be left outside, `draws` how many draws there are at least.
    `by_ratio` tells ratios, of values above 0, from differences.
    """

    a: Array
    b: Array
    paired: bool
    risk: float
    seed: int
    draws: int
    by_ratio: bool = True

    @property
    def effect(self) -> float:
        """The logarithm of the ratio of the medians, or their difference."""
        return float(self._effects(self.a[None, :], self.b[None, :])[0])

    def interval(self) -> tuple[float, float]:
        """Return the percentile bootstrap interval of the effect."""
        random = np.random.default_rng([self.seed, 1])
        a, b = self.a, self.b
        tail = _tail(self.risk, min(len(a), len(b)))
        found: list[Array] = []
        for part in _batches(self._draws(tail), max(len(a), len(b))):
            drawn = random.integers(0, len(a), (part, len(a)))
            other = drawn if self.paired else random.integers(0, len(b), (part, len(b)))
            found.append(self._effects(a[drawn], b[other]))
        low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
        return min(float(low), self.effect), max(float(high), self.effect)

    def p_value(self, operations: int) -> float:
        """Return how often chance gives an effect as large, either way.

        `operations` is how many such values are to be told from chance
        together: the more, the smaller they must be, and the more draws it takes.
        """
        a, b = self.a, self.b
        seen = self._extremes(a[None, :], b[None, :])[0] - self._tied
        if self.paired and len(a) <= _EXACT:
            every = np.arange(2 ** len(a))[:, None] >> np.arange(len(a)) & 1
            return float(np.mean(self._extremes(*_exchanged(a, b, every == 1)) >= seen))
        random = np.random.default_rng([self.seed, 2])
        draws, beyond = self._draws(self.risk / operations), 0
        for part in _batches(draws, len(a) + len(b)):
            if self.paired:
                one, other = _exchanged(a, b, random.random((part, len(a))) < 0.5)
            else:
                mixed = random.permuted(np.tile(np.concatenate((a, b)), (part, 1)), axis=1)
                one, other = mixed[:, : len(a)], mixed[:, len(a) :]
            beyond += int(np.sum(self._extremes(one, other) >= seen))
        # What was seen is one of the exchanges (Phipson and Smyth, 2010): never 0.
        return (beyond + 1) / (draws + 1)

    def _extremes(self, a: Array, b: Array) -> Array:
        """Return how far from equality the two subjects are in each row.

        The effect; where that is the same, as it often is of values with little
        or no spread, the means tell.
        """
        one, other = (np.mean(np.log(v) if self.by_ratio else v, axis=1) for v in (a, b))
        return np.asarray(np.abs(self._effects(a, b)) + _TIE_BREAK * np.abs(other - one))

    def _effects(self, a: Array, b: Array) -> Array:
        """Return the effect of each row."""
        one, other = _medians(a), _medians(b)
        return np.asarray(np.log(other / one) if self.by_ratio else other - one)

    @property
    def _tied(self) -> float:
        """What rounding makes of equal effects."""
        size = 1.0 if self.by_ratio else np.max(np.abs(np.concatenate((self.a, self.b))))
        return _TIED * float(size)

    def _draws(self, tail: float) -> int:
        """Return how many draws it takes to know a tail of this probability."""
        return max(self.draws, min(_MOST_DRAWS, ceil(_DRAWS_BEYOND / tail)))


def _tail(alpha: float, blocks: int) -> float:
    """Return what to leave out on each side of the bootstrap's distribution."""
    t = student_quantile(1 - alpha, blocks - 1)
    return max(_LEAST_TAIL, NormalDist().cdf(-t * sqrt(blocks / (blocks - 1))))


def _exchanged(a: Array, b: Array, which: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return both subjects' values, in each row with other blocks exchanged."""
    return np.where(which, b, a), np.where(which, a, b)


def _medians(rows: Array) -> Array:
    """Return the median of each row; several times as fast as `numpy.median`."""
    last, middle = (rows.shape[1] - 1) // 2, rows.shape[1] // 2
    sides = np.partition(rows, sorted({last, middle}), axis=1)
    return np.asarray((sides[:, last] + sides[:, middle]) / 2)


def _batches(draws: int, blocks: int) -> list[int]:
    """Return how many draws to do at once, so that memory stays bounded."""
    size = max(1, _CHUNK // blocks)
    return [size] * (draws // size) + ([draws % size] if draws % size else [])
