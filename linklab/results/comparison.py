"""Whether B is worse than A: what measurements in blocks say, and how surely.

A block measures each subject once, one right after the other, in random order.
What disturbs the host for longer than a block disturbs both alike. So blocks,
and never single values, are what is drawn again (bootstrap) and what is
permuted.

- The effect is what one more of the blocks is likely to show, B over A: the median of all
  ratios of a value of B to one of A, or of a metric that may be 0 of all differences. A
  disturbance lengthens some measurements by any amount, and moves it little.
- Its p value and its interval come of one test, which exchanges the two within blocks; see
  `exchange.py`. It is exact for any distribution and any drift from block to block.
- Where guests go on from saved ones, the blocks whose guests go on from the same have what
  those had in common. So all of them are exchanged at once, as one unit. Of values from
  different times each is a unit, dealt to one of the other side.
- Several cells are several chances of a false alarm: Holm's correction
  (Scandinavian Journal of Statistics 6, 1979, pages 65 to 70), which needs no
  independence. Cells of one guest are not independent.

Pure: the same values and seed give the same result; the seed is for dealing alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import exp, inf, isfinite, log, sqrt
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any, Self, TypeVar

from linklab.results.codec import from_json
from linklab.results.figures import VIRTUAL
from linklab.results.model import Run, Sample
from linklab.results.shape import Better, Cell, Metric
from linklab.results.statistics import least_p_value

if TYPE_CHECKING:
    from linklab.results.exchange import Shift

Key = TypeVar("Key", bound=Hashable)

DEFAULT_THRESHOLD = 0.03
VIRTUAL_THRESHOLD = 0.0025
"""The smallest effect that matters in virtual time, where half a per cent is found in seconds."""
VIRTUAL_NOISE = 0.001
"""What chance leaves in virtual time, as a share: fresh guests of one kernel were at most half
as far apart (docs/virtual-time.md). What is farther from a limit needs no second measurement."""
ALPHA = 0.05
MOST_MORE = 100_000  # blocks; for more than these no number is given
_POWER = 0.8


SECONDS = Metric("seconds", "s")


class Effect(StrEnum):
    """What is known of B against A, in the direction of the metric.

    `DIFFERENT` is a difference in a metric of which neither way is better, `MINOR` one that is
    sure and, as it seems, less than matters.
    """

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"
    MINOR = "minor"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"

    def word(self, metric: Metric) -> str:
        """Return it as the metric's reader says it: `slower` of a time."""
        worse, better = metric.words
        return {Effect.WORSE: worse, Effect.BETTER: better}.get(self, self.value)


_FIRST_WORDS = {"slower": Effect.WORSE, "faster": Effect.BETTER}
"""What results of the first release have for an effect."""


@dataclass(frozen=True)
class Pair:
    """What two subjects gave in a metric: one value each for a block.

    Not `paired` are values from different times, such as two runs: one for each guest that
    was drawn independently. What changed between those times counts as an effect. `boots`
    says of each block which saved guests its guests go on from; without it each block has its
    own.
    """

    a: Sequence[float]
    b: Sequence[float]
    paired: bool = True
    metric: Metric = SECONDS
    boots: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.blocks < (2 if self.paired else 1) or (self.paired and len(self.a) != len(self.b)):
            raise ValueError("a comparison needs two blocks at least, and both subjects in each")
        if not all(map(isfinite, (*self.a, *self.b))):
            raise ValueError(f"a value of {self.metric.name} is no finite number")
        if self.by_ratio and min(*self.a, *self.b) <= 0:
            raise ValueError(f"a ratio of {self.metric.name} needs values above 0")

    @property
    def blocks(self) -> int:
        """How many values there are of the one that has fewer."""
        return min(len(self.a), len(self.b))

    @property
    def units(self) -> int:
        """How many of its blocks, or of what they go on from, were drawn independently."""
        return len(set(self.boots)) or self.blocks

    @property
    def by_ratio(self) -> bool:
        """Whether the effect is a ratio, and not a difference."""
        return not self.metric.zero


@dataclass(frozen=True)
class Rule:
    """When something is faster, slower or the same.

    `threshold` is the smallest effect that matters, as a share: 0.03 stands
    for ratios from 1/1.03 to 1.03. `alpha` is the risk of a false alarm over
    all operations together, `seed` that of dealing values from different times to each
    other. `alpha_share` is the part of the risk that may be spent now, see `after_look`.
    """

    threshold: float = DEFAULT_THRESHOLD
    alpha: float = ALPHA
    seed: int = 0
    alpha_share: float = 1.0

    @property
    def risk(self) -> float:
        """The risk that may be taken now."""
        return self.alpha * self.alpha_share

    def after_look(self, look: int, *, last: bool = False) -> Rule:
        """Return the rule for the `look`-th time (from 1) that growing data are looked at.

        Testing growing data again and again raises a false alarm sooner or
        later. So each look spends a part of the risk, 1/2, 1/6, 1/12 ..., and
        all of them together no more than the whole: 1/(k(k+1)) sums to 1. By
        Bonferroni's inequality that holds for any number of looks, whatever
        one look has to do with the next, and for the intervals as for the test
        (alpha spending; Lan and DeMets, Biometrika 70, 1983, pages 659 to 663). One of
        which it is known beforehand that it is the `last` spends all that is left: 1/k.
        """
        return replace(self, alpha_share=1 / look if last else 1 / (look * (look + 1)))


@dataclass(frozen=True)
class Comparison:
    """What the blocks say of B against A in one cell.

    `change` is the ratio of B to A, or their difference (not `by_ratio`), `low` to `high` its
    interval at `level`, by itself: it is without ends where so few blocks have none. `p_value` is
    corrected over the cells compared with it and, as the interval, over the
    looks at growing data. `more_blocks_needed` estimates how many more blocks
    would settle it: 0 where it is settled, None where no number of blocks
    within reason would.
    """

    change: float
    low: float
    high: float
    p_value: float
    verdict: Effect
    more_blocks_needed: int | None
    blocks: int
    median_a: float
    median_b: float
    level: float
    by_ratio: bool = True

    @property
    def conclusive(self) -> bool:
        """Whether it is known what B is."""
        return self.verdict is not Effect.INCONCLUSIVE

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return isfinite(self.high)

    @property
    def percent(self) -> tuple[float, float, float]:
        """By how many per cent B is more than A, and the interval of that; by ratio only."""
        return (self.change - 1) * 100, (self.low - 1) * 100, (self.high - 1) * 100

    def to_json(self, metric: Metric) -> dict[str, Any]:
        """Return it as JSON takes it, its verdict in the metric's words."""
        own = asdict(self)
        if not self.bounded:
            own |= {"low": None, "high": None}
        name = "ratio" if own.pop("by_ratio") else "difference"
        return {name: own.pop("change"), **own, "verdict": self.verdict.word(metric),
                "effect": self.verdict.value}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return a stored comparison; what is not known is ignored."""
        by_ratio, said = "ratio" in data, str(data.get("effect") or data["verdict"])
        change = data["ratio" if by_ratio else "difference"]
        own = {"change": change, "verdict": _FIRST_WORDS.get(said, said), "by_ratio": by_ratio}
        if data["high"] is None:
            own |= {"low": 0.0 if by_ratio else -inf, "high": inf}
        return from_json(cls, {**data, **own}, "a comparison")


Values = dict[Cell, dict[str, dict[int, float]]]


def block_of(sample: Sample) -> int:
    """Return the block of a sample; in runs from before blocks, it is the trial."""
    return sample.block or sample.trial


def unit_of(run: Run) -> Callable[[Sample], int]:
    """Return what says of a run's samples what was drawn independently, by a number.

    The guest, and where several go on from a saved one, that; in virtual time boots do not
    differ (docs/certainty.md). Runs from before several were saved went on from one.
    """
    if not run.plan.get("fresh_guest") and not run.about.get("kind"):
        return lambda _: 0
    if run.about.get("boot") == "resume" and run.about.get("clock") != VIRTUAL:
        return lambda sample: sample.saved
    return block_of


def values_of(
    samples: Iterable[Sample], metric: Metric, unit: Callable[[Sample], int] = block_of
) -> Values:
    """Return a metric's value for each cell, kernel and block: the median of a guest's trials.

    The unit is the guest. Its trials have in common how its memory lies, what
    is in its caches and which second of the host it had, so they are not as
    many measurements. Set-up, and trials that left a wrong state, are left out.
    """
    trials: dict[tuple[Cell, str, int], list[float]] = {}
    for sample in samples:
        value = sample.metrics.get(metric.name)
        if sample.trial > 0 and sample.verified and value is not None:
            trials.setdefault((sample.cell, sample.kernel, unit(sample)), []).append(value)
    found: Values = {}
    for (cell, kernel, block), values in trials.items():
        found.setdefault(cell, {}).setdefault(kernel, {})[block] = median(values)
    return found


def pairs_of(samples: Iterable[Sample], metric: Metric, a: str, b: str) -> dict[Cell, Pair]:
    """Return what kernels A and B gave in the blocks that have both.

    A cell with fewer than two such blocks, as a run that was ended early may
    have, is left out: it says nothing.
    """
    pairs: dict[Cell, Pair] = {}
    samples = list(samples)
    saved = {block_of(sample): sample.saved for sample in samples if sample.saved}
    for cell, kernels in values_of(samples, metric).items():
        each = [kernels.get(name, {}) for name in (a, b)]
        both = sorted(each[0].keys() & each[1].keys())
        if len(both) >= 2:
            values = [[one[block] for block in both] for one in each]
            boots = [saved[block] for block in both] if saved.keys() >= set(both) else []
            pairs[cell] = Pair(values[0], values[1], metric=metric, boots=boots)
    return pairs


def compare(pairs: Mapping[Key, Pair], rule: Rule, family: int = 0) -> dict[Key, Comparison]:
    """Return what the blocks say of each cell; their p values are corrected together.

    `family` is how many cells there are where some are no longer among
    `pairs`, as they were settled at an earlier look.
    """
    family = max(family, len(pairs))
    shifts = [_shift(pair, rule) for pair in pairs.values()]
    corrected = holm([shift.p_value() for shift in shifts], family)
    return {
        key: _comparison(pair, shift, min(1.0, p_value / rule.alpha_share), rule, family)
        for (key, pair), shift, p_value in zip(pairs.items(), shifts, corrected, strict=True)
    }


def compare_one(pair: Pair, rule: Rule) -> Comparison:
    """Return what the blocks say where there is one operation only."""
    return compare({"": pair}, rule)[""]


def holm(p_values: Sequence[float], family: int = 0) -> list[float]:
    """Return p values corrected for being several: below alpha is below alpha for all.

    Of a `family` some may not be tested any more. What is rejected ahead of the
    first true null hypothesis is false, so as many of the family are not true,
    and Holm's argument holds whichever are left.
    """
    family = max(family, len(p_values))
    corrected, least = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (family - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def fewest_blocks(rule: Rule, family: int = 1) -> int:
    """Return the blocks below which no difference, however large, can be significant.

    Of n blocks there are 2**n exchanges, and two of them are as extreme as it
    gets. Fewer have no interval, either, so they do not prove that two subjects are the same.
    """
    blocks = 2
    while least_p_value(blocks) * family > rule.risk:
        blocks += 1
    return blocks


def _comparison(pair: Pair, shift: Shift, p_value: float, rule: Rule, family: int) -> Comparison:
    low, high = shift.interval(rule.risk) or (-inf, inf)
    effect, limit = shift.effect, log(1 + rule.threshold) if pair.by_ratio else pair.metric.matters
    verdict = _verdict(effect, low, high, limit, p_value <= rule.alpha, pair.metric.better)
    is_open = verdict is Effect.INCONCLUSIVE
    needed = _more_blocks(pair, effect, high - low, limit, rule, family) if is_open else 0
    change, low, high = map(exp if pair.by_ratio else float, (effect, low, high))
    return Comparison(
        change=change,
        low=low,
        high=high,
        p_value=p_value,
        verdict=verdict,
        more_blocks_needed=needed,
        blocks=pair.blocks,
        median_a=median(pair.a),
        median_b=median(pair.b),
        level=1 - rule.alpha,
        by_ratio=pair.by_ratio,
    )


def _verdict(
    effect: float, low: float, high: float, limit: float, sure: bool, better: Better
) -> Effect:
    """Return what is known, from differences or logarithms of ratios.

    An effect that matters is one that is sure and, as it seems, as large as that. It is `same`
    once the interval rules out a larger one.
    """
    if -limit <= low and high <= limit:
        return Effect.SAME
    if not sure:
        return Effect.INCONCLUSIVE
    if abs(effect) < limit:
        return Effect.MINOR
    if better is Better.NEITHER:
        return Effect.DIFFERENT
    return Effect.WORSE if (effect > 0) is (better is Better.LESS) else Effect.BETTER


def _more_blocks(
    pair: Pair, effect: float, width: float, limit: float, rule: Rule, family: int
) -> int | None:
    """Return how many more blocks would settle it, if the effect is what it seems to be.

    An interval shrinks with the square root of the blocks. It is settled once the interval,
    at the risk that the correction leaves to one operation, excludes 0, or, at all of it,
    lies within the threshold. So many blocks that it does with a probability of 80 %, as the
    effect seen then is another one, about normally so.
    """
    fewest = fewest_blocks(rule, family) - pair.units
    if not isfinite(width) or not width:
        return max(1, fewest)
    normal = NormalDist()
    one, all_ = (normal.inv_cdf(1 - rule.risk / share / 2) for share in (family, 1))
    deviation = width / 2 / all_ * sqrt(pair.blocks)  # of one block

    def settles(blocks: int) -> bool:
        size = deviation / sqrt(blocks)
        at, room = abs(effect) / size, max(0.0, limit / size - all_)
        outside = normal.cdf(at - one) + normal.cdf(-at - one)
        within = normal.cdf(min(room, one) - at) - normal.cdf(-min(room, one) - at)
        return outside + within >= _POWER

    step = 1
    while not settles(pair.blocks + step):
        step *= 2
        if step > MOST_MORE:
            return None
    below = step // 2
    while step - below > 1:
        half = (below + step) // 2
        below, step = (below, half) if settles(pair.blocks + half) else (half, step)
    return max(step, fewest)


def _shift(pair: Pair, rule: Rule) -> Shift:
    # numpy takes longer to import than a command takes that compares nothing.
    import numpy as np

    from linklab.results.exchange import Shift, dealt, numbered

    a, b = (np.asarray(values, dtype=float) for values in (pair.a, pair.b))
    size = float(max(np.max(np.abs(a)), np.max(np.abs(b)))) or 1.0
    if pair.by_ratio:
        a, b, size = np.log(a), np.log(b), 1.0
    if pair.paired:
        units = numbered(pair.boots or range(pair.blocks))
        return Shift(a, b, units, units, size)
    units_a, units_b = (dealt(len(v), pair.blocks, rule.seed + n) for n, v in enumerate((a, b)))
    return Shift(a, b, units_a, units_b, size)
