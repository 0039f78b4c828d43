"""Judging a revision by a figure: is it above what the good kernel gives?

The revision and the good kernel are measured in blocks, one right after the
other, and compared as `linklab/results/comparison.py` does it: bad is what is
surely worse, and by the threshold at least; good is what is surely not above
it. Of the middle between good and bad, bad is what is surely above it. While
neither is sure there are more blocks, each look at them spending its part of the
risk. In virtual time chance leaves so little that one block tells, unless it
comes out right at the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, sqrt
from statistics import median
from typing import Any

from linklab.bisect.criterion import Threshold
from linklab.bisect.driver import Classified
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.search import Mark
from linklab.bisect.verdicts import Build, not_built, reused, same_kernel
from linklab.errors import BuildSkipped, KernelFault, LinklabError, Verdict
from linklab.events import ignore
from linklab.lab.lab import Subject
from linklab.numbers import amount_text
from linklab.results.comparison import (
    Comparison,
    Pair,
    Rule,
    compare_one,
    pairs_of,
    values_of,
)
from linklab.results.model import Sample
from linklab.results.shape import Better, Cell, Metric
from linklab.results.statistics import Interval, median_interval
from linklab.trials.sequential import Blocks, Budget, until_known

FIRST_BLOCKS = 8


_GROWTH = 2.0  # times as many at each look: a search can wait, and each look costs risk


@dataclass(frozen=True)
class FigureClassifier:
    """Bad is a revision whose figure is above the threshold.

    `good` is what a ratio refers to. `most` blocks are taken for one revision;
    if they do not tell, it is a skip. `noise` is the share that one value may
    be off by, where that is known (virtual time), else 0.
    """

    build: Build
    blocks: Callable[[Sequence[Subject], str], Blocks]
    cell: Cell
    metric: Metric
    threshold: Threshold
    good: Revision | None
    most: int
    seed: int
    journal: Journal
    noise: float = 0.0

    def classify(self, revision: Revision, number: int) -> Classified:
        """See `Classifier`."""
        good = self.good if self.threshold.is_relative else None
        if good is not None and revision.name == good.name:
            return Classified(Mark.GOOD, Verdict.PASS.value, "what the others are measured by")
        try:
            subject = self.build(revision)
        except BuildSkipped as error:
            return not_built(error)
        if known := same_kernel(self.journal.steps, subject.sha256):
            return reused(known)
        subjects = [subject]
        if good is not None:
            reference = self.build(good)
            if reference.sha256 == subject.sha256:
                why = "the same kernel as the good one"
                return Classified(Mark.GOOD, Verdict.PASS.value, why, kernel=subject.sha256)
            subjects = [reference, subject]
        folder = self.journal.step_folder(number, revision.short)
        classified = self._measured(self.blocks(subjects, str(folder)))
        name = str(folder.relative_to(self.journal.path))
        return replace(classified, folder=name, kernel=subject.sha256)

    def _measured(self, blocks: Blocks) -> Classified:
        names = [subject.name for subject in blocks.subjects]
        classified = Classified(Mark.SKIP, Verdict.PASS.value, "it was not measured")

        def look(number: int, is_last: bool) -> bool:
            nonlocal classified
            if blocks.done == 1:  # which costs no risk
                classified = self._at_once(blocks.samples(), names)
            else:
                rule = Rule(seed=self.seed).after_look(number, last=is_last)
                classified = self._in_blocks(blocks.samples(), names, rule)
            return classified.judgement is not Mark.SKIP

        budget = Budget(min(FIRST_BLOCKS, self.most), most=self.most, growth=_GROWTH)
        try:
            if self.noise:
                blocks.measure(1)
            if not self.noise or not look(1, False):
                until_known(blocks, budget, look, ignore)
        except LinklabError as error:
            blocks.engine.end(error)
            if not isinstance(error, KernelFault) or blocks.engine.failed != names[-1]:
                raise
            why = f"it cannot be measured: {error.message}"
            return Classified(Mark.SKIP, error.verdict.value, why, evidence=error.evidence)
        blocks.engine.end()
        return classified

    def _at_once(self, samples: Sequence[Sample], names: Sequence[str]) -> Classified:
        """Return what one block says, where its values are off by no more than `noise`."""
        found = values_of(samples, self.metric).get(self.cell, {})
        medians = [median(found[name].values()) for name in names if name in found]
        if len(medians) < len(names):
            return _unsure("the block does not have every kernel", {})
        name, text = self.metric.name, partial(amount_text, unit=self.metric.unit)
        why, figure = text(medians[-1]), {name: medians[-1], "blocks": 1}
        limit, is_more = self.threshold.value, self.metric.better is Better.MORE
        if self.threshold.is_relative:
            ratio = medians[-1] / medians[0]
            why += f" against {text(medians[0])}: {ratio:.4f}x, in virtual time"
            figure |= {f"good_{name}": medians[0], "ratio": ratio}
            factor = self._factor(ratio)
            limit = medians[0] / factor if is_more else medians[0] * factor
        assert limit is not None
        if limit and abs(medians[-1] / limit - 1) <= self.noise:
            return _unsure(f"one block does not tell: {why}", figure)
        is_bad = medians[-1] < limit if is_more else medians[-1] > limit
        judgement = Mark.BAD if is_bad else Mark.GOOD
        return Classified(judgement, Verdict.PASS.value, why, figure=figure)

    def _factor(self, seen: float) -> float:
        """Return how many times worse than the good kernel is bad.

        Of the middle between good and bad it is the root of what the bad end gave, or, while
        that is what is measured, of the ratio `seen`.
        """
        if self.threshold.ratio is not None:
            return self.threshold.ratio
        end = self.journal.about.get("bad")
        figures = (step.figure for step in self.journal.steps if step.revision == end)
        ratio = next((figure["ratio"] for figure in figures if figure), seen)
        return sqrt(1 / ratio if self.metric.better is Better.MORE else ratio)

    def _in_blocks(self, samples: Sequence[Sample], names: Sequence[str], rule: Rule) -> Classified:
        if self.threshold.is_relative:
            pair = pairs_of(samples, self.metric, *names).get(self.cell)
            if pair is None:
                return _unsure("fewer than two blocks have both kernels", {})
            is_middle = self.threshold.is_middle
            return by_ratio(pair, self._factor, rule, is_middle=is_middle)
        found = values_of(samples, self.metric).get(self.cell, {})
        values = list(found.get(names[0], {}).values())
        assert self.threshold.value is not None
        return by_value(values, self.threshold.value, rule, self.metric)


def by_ratio(
    pair: Pair, factor: Callable[[float], float], rule: Rule, *, is_middle: bool = False
) -> Classified:
    """Return what blocks of the good kernel and another say of the other one.

    `factor` is how many times worse is bad, where this ratio is seen. Is it the middle between
    good and bad, the whole interval must lie on one side of it.
    """
    found = compare_one(pair, rule)
    ratio = factor(found.change)
    name, text = pair.metric.name, partial(amount_text, unit=pair.metric.unit)
    figure = _ratio_figure(found, name)
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.bounded else ""
    why = f"{text(found.median_b)} against {text(found.median_a)}: {found.change:.2f}x{interval}"
    low, worse, high = found.low, found.change, found.high
    if pair.metric.better is Better.MORE:
        low, worse, high = 1 / high, 1 / worse, 1 / low if low else inf
    is_bad = low > ratio if is_middle else worse >= ratio and low > 1
    if is_bad or high < ratio:
        judgement = Mark.BAD if is_bad else Mark.GOOD
        return Classified(judgement, Verdict.PASS.value, why, figure=figure)
    return _unsure(f"{found.blocks} blocks do not tell: {why}", figure)


def _ratio_figure(found: Comparison, name: str) -> dict[str, Any]:
    return {
        name: found.median_b,
        f"good_{name}": found.median_a,
        "ratio": found.change,
        "low": found.low if found.bounded else None,
        "high": found.high if found.bounded else None,
        "p_value": found.p_value,
        "blocks": found.blocks,
    }


def by_value(values: Sequence[float], limit: float, rule: Rule, metric: Metric) -> Classified:
    """Return what the values of some blocks say against a limit."""
    level = 1 - rule.risk
    interval = median_interval(values, level) if values else None
    if interval is None:
        return _unsure("there are too few values", {})
    figure = {
        metric.name: median(values),
        "low": interval.low,
        "high": interval.high,
        "blocks": len(values),
    }
    text = partial(amount_text, unit=metric.unit)
    why = f"{text(median(values))} [{text(interval.low)}, {text(interval.high)}]"
    if (judgement := _against(interval, limit, level, metric)) is None:
        return _unsure(f"{len(values)} blocks do not tell: {why}", figure)
    return Classified(judgement, Verdict.PASS.value, why, figure=figure)


def _against(interval: Interval, limit: float, level: float, metric: Metric) -> Mark | None:
    """Return on which side of the limit the median is, None while that is not sure."""
    if interval.level < level:
        return None
    if metric.better is Better.MORE:
        is_bad, is_good = interval.high < limit, interval.low >= limit
    else:
        is_bad, is_good = interval.low > limit, interval.high <= limit
    if is_bad:
        return Mark.BAD
    return Mark.GOOD if is_good else None


def _unsure(why: str, figure: dict[str, Any]) -> Classified:
    return Classified(Mark.SKIP, Verdict.PASS.value, why, figure=figure or None)
