"""What kernels took in the same blocks, from stored samples.

The unit is the guest. Its trials have in common how its memory lies, what is in
its caches and which second of the host it had, so they are not as many
measurements, and the median of them is one value. A block has one guest of
each kernel, one right after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from linklab.results.comparison import Pair
from linklab.results.model import Sample
from linklab.results.work import Work

Values = dict[Work, dict[str, dict[int, float]]]


def values_of(samples: Iterable[Sample]) -> Values:
    """Return the seconds of each work, kernel and block: the median of a guest's trials.

    Set-up, and trials that left a wrong state, are left out.
    """
    trials: dict[tuple[Work, str, int], list[float]] = {}
    for sample in samples:
        if sample.trial > 0 and sample.verified:
            work = Work(sample.operation, sample.arm, sample.interfaces)
            block = sample.block or sample.trial  # in runs from before blocks, they are the same
            trials.setdefault((work, sample.kernel, block), []).append(sample.seconds)
    found: Values = {}
    for (work, kernel, block), seconds in trials.items():
        found.setdefault(work, {}).setdefault(kernel, {})[block] = median(seconds)
    return found


def pairs_of(samples: Iterable[Sample], a: str, b: str) -> dict[Work, Pair]:
    """Return what kernels A and B took in the blocks that have both.

    A work with fewer than two such blocks, as a run that was ended early may
    have, is left out: it says nothing.
    """
    pairs: dict[Work, Pair] = {}
    for work, kernels in values_of(samples).items():
        one, other = kernels.get(a, {}), kernels.get(b, {})
        both = sorted(one.keys() & other.keys())
        if len(both) >= 2:
            pairs[work] = Pair([one[block] for block in both], [other[block] for block in both])
    return pairs
