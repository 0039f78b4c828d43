"""Judging a revision by a figure: is it above what the good kernel gives?

The revision and the good kernel are measured in blocks, one right after the
other, and compared as `linklab/results/comparison.py` does it: bad is what is
surely slower, and by the threshold at least; good is what is surely not above
it. While neither is sure there are more blocks, each look at them spending its
part of the risk. In virtual time chance leaves so little that one block tells,
unless it comes out right at the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

from linklab.bisect.criterion import Metric, Threshold
from linklab.bisect.driver import Judged
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.search import Judgement
from linklab.bisect.verdicts import Build, not_built, reused, same_kernel
from linklab.errors import BuildSkipped, KernelFault, Verdict
from linklab.lab.lab import Subject
from linklab.report.figures import duration_text
from linklab.results.blocks import pairs_of, values_of
from linklab.results.comparison import Comparison, Effect, Pair, Rule, compare_one, fewest_blocks
from linklab.results.model import Sample
from linklab.results.statistics import Interval, median_interval
from linklab.results.work import Work

FIRST_BLOCKS = 8


class Meter(Protocol):
    """Measures some kernels in blocks, into a folder of its own."""

    def more(self, blocks: int) -> Sequence[Sample]:
        """Measure so many more blocks and return all samples so far.

        Raises `KernelFault` with the kernel's name in `culprit` of the meter,
        and what is the lab's own fault.
        """

    @property
    def culprit(self) -> str:
        """The name of the kernel that was at fault, if one was."""


@dataclass(frozen=True)
class FigureJudge:
    """Bad is a revision whose figure is above the threshold.

    `good` is what a ratio refers to. `most` blocks are taken for one revision;
    if they do not tell, it is a skip. `noise` is the share that one value may
    be off by, where that is known (virtual time), else 0.
    """

    build: Build
    meter: Callable[[Sequence[Subject], str], Meter]
    metric: Metric
    threshold: Threshold
    good: Revision | None
    most: int
    seed: int
    journal: Journal
    noise: float = 0.0

    def judge(self, revision: Revision, number: int) -> Judged:
        """See `Judge`."""
        good = self.good if self.threshold.ratio is not None else None
        if good is not None and revision.name == good.name:
            return Judged(Judgement.GOOD, Verdict.PASS.value, "what the others are measured by")
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
                return Judged(Judgement.GOOD, Verdict.PASS.value, why, kernel=subject.sha256)
            subjects = [reference, subject]
        folder = self.journal.step_folder(number, revision.short)
        judged = self._measured(subjects, self.meter(subjects, str(folder)))
        name = str(folder.relative_to(self.journal.path))
        return replace(judged, folder=name, kernel=subject.sha256)

    def _measured(self, subjects: Sequence[Subject], meter: Meter) -> Judged:
        blocks, look = 1 if self.noise else FIRST_BLOCKS, 1
        judged = Judged(Judgement.SKIP, Verdict.PASS.value, "it was not measured")
        done = 0
        while done < self.most:
            try:
                samples = meter.more(min(blocks, self.most - done))
            except KernelFault as fault:
                if meter.culprit != subjects[-1].name:
                    raise
                why = f"it cannot be measured: {fault.message}"
                return Judged(Judgement.SKIP, fault.verdict.value, why, evidence=fault.evidence)
            done += blocks
            names = [subject.name for subject in subjects]
            if done == 1:
                judged, blocks = self._at_once(samples, names), FIRST_BLOCKS - 1
            else:
                judged = self._said(samples, names, look)
                blocks, look = done, look + 1  # twice as many at each look
            if judged.judgement is not Judgement.SKIP:
                return judged
        return judged

    def _at_once(self, samples: Sequence[Sample], names: Sequence[str]) -> Judged:
        """Return what one block says, where its values are off by no more than `noise`."""
        work = Work(self.metric.operation, self.metric.arm, self.metric.interfaces)
        found = values_of(samples).get(work, {})
        medians = [median(found[name].values()) for name in names if name in found]
        if len(medians) < len(names):
            return _unsure("the block does not have every kernel", {})
        why, figure = duration_text(medians[-1]), {"seconds": medians[-1], "blocks": 1}
        limit = self.threshold.seconds
        if self.threshold.ratio is not None:
            ratio = medians[-1] / medians[0]
            why += f" against {duration_text(medians[0])}: {ratio:.4f}x, in virtual time"
            figure |= {"good_seconds": medians[0], "ratio": ratio}
            limit = self.threshold.ratio * medians[0]
        assert limit is not None
        if abs(medians[-1] / limit - 1) <= self.noise:
            return _unsure(f"one block does not tell: {why}", figure)
        judgement = Judgement.BAD if medians[-1] > limit else Judgement.GOOD
        return Judged(judgement, Verdict.PASS.value, why, figure=figure)

    def _said(self, samples: Sequence[Sample], names: Sequence[str], look: int) -> Judged:
        work = Work(self.metric.operation, self.metric.arm, self.metric.interfaces)
        if self.threshold.ratio is not None:
            pair = pairs_of(samples, *names).get(work)
            if pair is None:
                return _unsure("fewer than two blocks have both kernels", {})
            return by_ratio(pair, self.threshold.ratio, look, self.seed)
        values = list(values_of(samples).get(work, {}).get(names[0], {}).values())
        assert self.threshold.seconds is not None
        return by_seconds(values, self.threshold.seconds, look)


def by_ratio(pair: Pair, ratio: float, look: int, seed: int) -> Judged:
    """Return what blocks of the good kernel and another say of the other one."""
    rule = Rule(threshold=ratio - 1, seed=seed).at_look(look)
    found = compare_one(pair, rule)
    figure = _ratio_figure(found)
    why = (
        f"{duration_text(found.median_b)} against {duration_text(found.median_a)}: "
        f"{found.ratio:.2f}x [{found.low:.2f}, {found.high:.2f}]"
    )
    match found.verdict:
        case Effect.SLOWER:
            return Judged(Judgement.BAD, Verdict.PASS.value, why, figure=figure)
        case Effect.SAME | Effect.FASTER:
            return Judged(Judgement.GOOD, Verdict.PASS.value, why, figure=figure)
        case _ if found.high < ratio and found.blocks >= fewest_blocks(rule):
            return Judged(Judgement.GOOD, Verdict.PASS.value, why, figure=figure)
        case _:
            return _unsure(f"{found.blocks} blocks do not tell: {why}", figure)


def _ratio_figure(found: Comparison) -> dict[str, Any]:
    return {
        "seconds": found.median_b,
        "good_seconds": found.median_a,
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "blocks": found.blocks,
    }


def by_seconds(values: Sequence[float], limit: float, look: int) -> Judged:
    """Return what the values of some blocks, in seconds, say against a limit."""
    level = 1 - Rule().at_look(look).alpha
    interval = median_interval(values, level) if values else None
    if interval is None:
        return _unsure("there are too few values", {})
    figure = {
        "seconds": median(values),
        "low": interval.low,
        "high": interval.high,
        "blocks": len(values),
    }
    why = (
        f"{duration_text(median(values))} "
        f"[{duration_text(interval.low)}, {duration_text(interval.high)}]"
    )
    if (judgement := _against(interval, limit, level)) is None:
        return _unsure(f"{len(values)} blocks do not tell: {why}", figure)
    return Judged(judgement, Verdict.PASS.value, why, figure=figure)


def _against(interval: Interval, limit: float, level: float) -> Judgement | None:
    """Return on which side of the limit the median is, None while that is not sure."""
    if interval.level < level:
        return None
    if interval.low > limit:
        return Judgement.BAD
    return Judgement.GOOD if interval.high <= limit else None


def _unsure(why: str, figure: dict[str, Any]) -> Judged:
    return Judged(Judgement.SKIP, Verdict.PASS.value, why, figure=figure or None)
