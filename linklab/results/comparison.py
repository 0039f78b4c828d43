"""Whether B takes longer than A: what measurements in blocks say, and how surely.

A block measures each subject once, one right after the other, in random order.
What disturbs the host for longer than a block disturbs both alike. So blocks,
and never single values, are what is drawn again (bootstrap) and what is
permuted.

- The effect is the ratio of the medians, B over A. Medians, since a disturbance
  lengthens some measurements by any amount and shortens none.
- Its interval is the percentile bootstrap over blocks (Efron and Tibshirani,
  "An Introduction to the Bootstrap", chapter 13): the pairs stay together, so
  a drift that both share does not widen it for nothing. Of few blocks it is
  too narrow, so its tails are chosen as Student's t has them (Hesterberg, "What
  Teachers Should Know About the Bootstrap", The American Statistician 69, 2015,
  pages 371 to 386, section 4.3).
- The test is a permutation test of the same ratio. If B is as A, it is chance
  which value of a block belongs to whom, so exchanging them within blocks gives
  what chance gives (Good, "Permutation, Parametric and Bootstrap Tests of
  Hypotheses", 3rd ed., chapter 3). That is exact for any distribution and any
  drift from block to block.
- Several operations are several chances of a false alarm: Holm's correction
  (Scandinavian Journal of Statistics 6, 1979, pages 65 to 70), which needs no
  independence. Operations of one guest are not independent.

Pure: the same values and seed give the same result.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, exp, log, sqrt
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from linklab.results.fit import student_quantile

Key = TypeVar("Key", bound=Hashable)
Array = NDArray[np.float64]

DEFAULT_THRESHOLD = 0.03
ALPHA = 0.05
MOST_MORE = 100_000  # blocks; whoever needs more should not be told a number
DRAWS = 10_000
_MOST_DRAWS = 400_000
_DRAWS_BEYOND = 20  # draws beyond a critical value that it takes to know where that lies
_LEAST_TAIL = _DRAWS_BEYOND / _MOST_DRAWS
_CHUNK = 1 << 20  # values drawn at once
_EXACT = 12  # blocks whose 2**blocks exchanges are all tried
_TIED = 1e-12
_TIE_BREAK = 1e-6


class Effect(StrEnum):
    """What is known of B against A."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Pair:
    """What two subjects took in the same blocks, in seconds: one value each for a block."""

    a: Sequence[float]
    b: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.a) != len(self.b) or len(self.a) < 2:
            raise ValueError("a comparison needs two blocks at least, and both subjects in each")
        if min(*self.a, *self.b) <= 0:
            raise ValueError("a comparison needs values above 0")


@dataclass(frozen=True)
class Rule:
    """When something is faster, slower or the same.

    `threshold` is the smallest effect that matters, as a share: 0.03 stands
    for ratios from 1/1.03 to 1.03. `alpha` is the risk of a false alarm over
    all operations together, `seed` that of the bootstrap and the permutations,
    `draws` how many of each there are at least.
    """

    threshold: float = DEFAULT_THRESHOLD
    alpha: float = ALPHA
    seed: int = 0
    draws: int = DRAWS

    def at_look(self, look: int) -> Rule:
        """Return the rule for the `look`-th time (from 1) that growing data are looked at.

        Who looks again and again until something shows finds something in the
        end. So each look spends a part of the risk, 1/2, 1/6, 1/12 ..., and
        all of them together no more than the whole: 1/(k(k+1)) sums to 1. By
        Bonferroni's inequality that holds for any number of looks, whatever
        one look has to do with the next, and for the intervals as for the test
        (alpha spending; Lan and DeMets, Biometrika 70, 1983, pages 659 to 663).
        """
        return replace(self, alpha=self.alpha / (look * (look + 1)))


@dataclass(frozen=True)
class Comparison:
    """What the blocks say of B against A in one operation.

    `ratio` is the median of B over that of A, `low` to `high` its interval at
    `level`; `p_value` is corrected over the operations compared with it.
    `more_blocks_needed` estimates how many more blocks would settle it: 0 where
    it is settled, None where no number of blocks within reason would.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    verdict: Effect
    more_blocks_needed: int | None
    blocks: int
    median_a: float
    median_b: float
    level: float

    @property
    def conclusive(self) -> bool:
        """Whether it is known what B is."""
        return self.verdict is not Effect.INCONCLUSIVE


def compare(pairs: Mapping[Key, Pair], rule: Rule) -> dict[Key, Comparison]:
    """Return what the blocks say of each operation; their p values are corrected together."""
    raw = [_p_value(pair, rule, len(pairs)) for pair in pairs.values()]
    corrected = holm(raw)
    return {
        key: _comparison(pair, p_value, rule, len(pairs))
        for (key, pair), p_value in zip(pairs.items(), corrected, strict=True)
    }


def compare_one(pair: Pair, rule: Rule) -> Comparison:
    """Return what the blocks say where there is one operation only."""
    return compare({"": pair}, rule)[""]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for being several: below alpha is below alpha for all."""
    count = len(p_values)
    corrected = [1.0] * count
    least = 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def fewest_blocks(rule: Rule, operations: int = 1) -> int:
    """Return the blocks below which no difference, however large, can be significant.

    Of n blocks there are 2**n exchanges, and two of them are as extreme as it
    gets. Fewer are not taken for a proof that two subjects are the same, either.
    """
    blocks = 2
    while 2.0 ** (1 - blocks) * operations > rule.alpha:
        blocks += 1
    return blocks


def _comparison(pair: Pair, p_value: float, rule: Rule, operations: int) -> Comparison:
    a, b = _arrays(pair)
    median_a, median_b = float(np.median(a)), float(np.median(b))
    effect = log(median_b / median_a)
    low, high = _interval(a, b, rule)
    low, high = min(low, effect), max(high, effect)
    verdict = Effect.INCONCLUSIVE
    if len(a) >= fewest_blocks(rule):
        verdict = _verdict(effect, low, high, p_value, rule)
    more: int | None = 0
    if verdict is Effect.INCONCLUSIVE:
        more = _more_blocks(len(a), effect, low, high, rule, operations)
    return Comparison(
        ratio=exp(effect),
        low=exp(low),
        high=exp(high),
        p_value=p_value,
        verdict=verdict,
        more_blocks_needed=more,
        blocks=len(a),
        median_a=median_a,
        median_b=median_b,
        level=1 - rule.alpha,
    )


def _verdict(effect: float, low: float, high: float, p_value: float, rule: Rule) -> Effect:
    """Return what is known, from logarithms of ratios.

    A difference needs both: test and interval rule out that there is none, and
    it is large enough to matter. A smaller effect is never reported as one,
    however sure; it is `same` once the interval rules out a larger one.
    """
    limit = log(1 + rule.threshold)
    if -limit < low and high < limit:
        return Effect.SAME
    if p_value <= rule.alpha and low > 0 and effect >= limit:
        return Effect.SLOWER
    if p_value <= rule.alpha and high < 0 and effect <= -limit:
        return Effect.FASTER
    return Effect.INCONCLUSIVE


def _more_blocks(
    blocks: int, effect: float, low: float, high: float, rule: Rule, operations: int
) -> int | None:
    """Return how many more blocks would settle it, if the effect is what it seems to be.

    An interval shrinks with the square root of the blocks. It must come to
    exclude 0 where the effect matters, and to lie within the threshold where
    it does not.
    """
    limit = log(1 + rule.threshold)
    room = abs(effect) if abs(effect) >= limit else limit - abs(effect)
    reach = (high - low) / 2
    if room <= 0 or reach <= 0:
        return None if room <= 0 else max(1, fewest_blocks(rule, operations) - blocks)
    needed = blocks * (reach / room) ** 2
    if needed - blocks > MOST_MORE:
        return None
    return max(1, ceil(needed) - blocks, fewest_blocks(rule, operations) - blocks)


def _arrays(pair: Pair) -> tuple[Array, Array]:
    return np.asarray(pair.a, dtype=np.float64), np.asarray(pair.b, dtype=np.float64)


def _draws(tail: float, rule: Rule) -> int:
    """Return how many draws it takes to know a tail of this probability."""
    return max(rule.draws, min(_MOST_DRAWS, ceil(_DRAWS_BEYOND / tail)))


def _interval(a: Array, b: Array, rule: Rule) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the logarithm of the ratio."""
    random = np.random.default_rng([rule.seed, 1])
    blocks = len(a)
    tail = _tail(rule.alpha, blocks)
    found: list[Array] = []
    for part in _parts(_draws(tail, rule), blocks):
        drawn = random.integers(0, blocks, (part, blocks))
        found.append(_effects(a[drawn], b[drawn]))
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return float(low), float(high)


def _tail(alpha: float, blocks: int) -> float:
    """Return what to leave out on each side of the bootstrap's distribution."""
    t = student_quantile(1 - alpha, blocks - 1)
    return max(_LEAST_TAIL, NormalDist().cdf(-t * sqrt(blocks / (blocks - 1))))


def _p_value(pair: Pair, rule: Rule, operations: int) -> float:
    """Return how often chance gives a ratio as far from 1, exchanging within blocks."""
    a, b = _arrays(pair)
    blocks = len(a)
    seen = _extremes(a, b, np.zeros((1, blocks), np.bool_))[0] - _TIED
    if blocks <= _EXACT:
        every = np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1
        return float(np.mean(_extremes(a, b, every == 1) >= seen))
    random = np.random.default_rng([rule.seed, 2])
    draws, beyond = _draws(rule.alpha / operations, rule), 0
    for part in _parts(draws, blocks):
        exchanged = random.random((part, blocks)) < 0.5
        beyond += int(np.sum(_extremes(a, b, exchanged) >= seen))
    # What was seen is one of the exchanges (Phipson and Smyth, 2010): never 0.
    return (beyond + 1) / (draws + 1)


def _extremes(a: Array, b: Array, exchanged: NDArray[np.bool_]) -> Array:
    """Return how far from equality each row of exchanges takes the two subjects.

    The ratio of the medians; where that is the same, as it often is of values
    with little or no spread, the mean of the blocks' ratios.
    """
    effects = _effects(np.where(exchanged, b, a), np.where(exchanged, a, b))
    means = np.where(exchanged, -1.0, 1.0) @ np.log(b / a) / len(a)
    return np.asarray(np.abs(effects) + _TIE_BREAK * np.abs(means))


def _effects(a: Array, b: Array) -> Array:
    """Return the logarithm of the ratio of medians of each row."""
    return np.asarray(np.log(_medians(b) / _medians(a)))


def _medians(rows: Array) -> Array:
    """Return the median of each row; several times as fast as `numpy.median`."""
    count = rows.shape[1]
    middle = count // 2
    if count % 2:
        return np.asarray(np.partition(rows, middle, axis=1)[:, middle])
    sides = np.partition(rows, (middle - 1, middle), axis=1)
    return np.asarray((sides[:, middle - 1] + sides[:, middle]) / 2)


def _parts(draws: int, blocks: int) -> list[int]:
    """Return how many draws to do at once, so that memory stays bounded."""
    size = max(1, _CHUNK // blocks)
    return [size] * (draws // size) + ([draws % size] if draws % size else [])
