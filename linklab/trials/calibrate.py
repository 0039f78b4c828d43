"""What a comparison is worth: of kernels that are the same, and of ones slowed by known amounts.

Each block has a guest of the kernel, of the same kernel once more, and of each
slowed one. So one series of blocks gives a comparison of each kind. What a
kernel is slowed by is set from a measurement, and measured again.

In real time resumed guests are saved anew for each comparison: what one boot
happened to have in common with no other is chance, and must be able to cause a
false alarm here as it is in a comparison of two kernels.  In virtual time a boot
differs from another by what it drew as random numbers alone, so comparisons take
turns at guests saved after a few draws.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from linklab.errors import LabError
from linklab.events import Listener, Note, StepAdvanced, ignore, step
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Snapshot
from linklab.machine.spec import Boot, Clock
from linklab.results.comparison import Comparison, Pair, Rule, compare_one, pairs_of
from linklab.results.shape import Better, Metric
from linklab.results.store import RunFolder
from linklab.scenarios.scenario import Slower
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan
from linklab.trials.sequential import Blocks, Budget, until_known

STEP_NAME = "calibrating"
_PILOT_BLOCKS = 4
_STEP = 4  # times as many loops, while they do not show
_CLEARLY = 1.5
"""The ratio from which on the loops' cost is measured: well above what chance
gives in a few blocks."""
_MOST_LOOPS = 1 << 30  # it is an unsigned int
_DRAWS = 8  # of a saved guest's random numbers, in virtual time


@dataclass
class Slowed:
    """A kernel slowed by a share: `loops` for each piece of work, and what was said of it."""

    slowdown: float
    loops: int
    comparisons: list[Comparison] = field(default_factory=list)
    measured: Comparison | None = None  # over all blocks


@dataclass
class CalibrationResult:
    """What came of a calibration, also of one that was ended early."""

    same: list[Comparison] = field(default_factory=list)  # a kernel with itself
    slowed: list[Slowed] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # the host's, of two kernels' blocks

    def stored(self, metric: Metric) -> dict[str, Any]:
        """Return what run.json keeps of it."""
        return {
            "seconds": self.seconds,
            "same": [one.to_json(metric) for one in self.same],
            "slowed": [
                {
                    "slowdown": each.slowdown,
                    "loops": each.loops,
                    "comparisons": [one.to_json(metric) for one in each.comparisons],
                    "measured": each.measured.to_json(metric) if each.measured else None,
                }
                for each in self.slowed
            ],
        }


@dataclass
class Calibration:
    """Compares a kernel with itself and with a slowed one, as often as asked.

    The plan has one cell; its `repeat` are the blocks of a comparison.
    """

    lab: Lab
    plan: Plan
    folder: RunFolder
    rule: Rule
    metric: Metric
    listener: Listener
    outcome: CalibrationResult = field(default_factory=CalibrationResult)

    def __post_init__(self) -> None:
        assert self.plan.kind.slower is not None
        self._slower: Slower = self.plan.kind.slower
        self.engine = Engine(self.lab, self.plan, self.folder, self.listener)

    def _slowed(self, subject: Subject, loops: int, name: str = "") -> Subject:
        """Return the patched kernel, told to loop so often for each piece of work."""
        parameters = (f"{self._slower.parameter}={loops}",)
        named = name or f"{subject.name} ({loops} loops)"
        return replace(subject, parameters=parameters, name=named)

    def tune(self, base: Subject, patched: Subject, slowdowns: Sequence[float]) -> None:
        """Find out how many loops make the patched kernel slower by each of these shares.

        The loops' cost is taken from a ratio that is far beyond chance, and is
        linear: half of the loops take half of the time. Raises `LabError` when
        no number of loops does it.
        """
        if not slowdowns:
            return
        loops = self._slower.first
        while (ratio := self._clear_ratio(base, self._slowed(patched, loops))) is None:
            if loops > _MOST_LOOPS // _STEP:
                raise LabError(f"{loops} loops for each piece of work do not slow the kernel down")
            loops *= _STEP
        for share in slowdowns:
            found = Slowed(share, max(1, round(loops * share / (ratio - 1))))
            self.outcome.slowed.append(found)
            text = f"{loops} loops take {ratio:.3f} times as long: {found.loops} for"
            self.listener(Note(f"{text} {100 * share:g} % more"))

    def run(self, base: Subject, patched: Subject, comparisons: int) -> CalibrationResult:
        """Compare so often. Raises whatever ends the measuring; what was done by then is kept."""
        twin = replace(base, name=f"{base.name}#2")
        slower = {
            f"{base.name}, slowed by {100 * one.slowdown:g} %": one for one in self.outcome.slowed
        }
        others = [self._slowed(patched, one.loops, name) for name, one in slower.items()]
        every: dict[str, list[Pair]] = {name: [] for name in slower}
        blocks = _FreshBlocks(self, [base, twin, *others])

        def compared(number: int, _is_last: bool) -> bool:
            if blocks.took is None:
                return False
            self.outcome.seconds.append(blocks.took * 2 / len(blocks.subjects))
            rule = replace(self.rule, seed=self.rule.seed + number - 1)
            self.outcome.same.append(compare_one(blocks.pair(twin.name), rule))
            for name, one in slower.items():
                every[name].append(blocks.pair(name))
                one.comparisons.append(compare_one(every[name][-1], rule))
                one.measured = compare_one(_joined(every[name]), self.rule)
            self.listener(StepAdvanced(STEP_NAME, number, f"comparison {number + 1}"))
            return False

        count = self.plan.repeat
        with step(self.listener, STEP_NAME, comparisons):
            self.listener(StepAdvanced(STEP_NAME, 0, "comparison 1"))
            budget = Budget(count, most=comparisons * count, step=count)
            until_known(blocks, budget, compared, ignore)
        return self.outcome

    def _clear_ratio(self, base: Subject, slow: Subject) -> float | None:
        """Return how many times as long it takes, or None if that is not far beyond chance."""
        blocks, count, ratio = _FreshBlocks(self, [base, slow]), self.plan.repeat, 0.0

        def is_unclear(*_: object) -> bool:
            nonlocal ratio
            ratio = self._ratio(blocks) if blocks.took is not None else 0.0
            return ratio < _CLEARLY

        budget = Budget(_PILOT_BLOCKS, most=_PILOT_BLOCKS + count, step=count)
        return None if until_known(blocks, budget, is_unclear, ignore) else ratio

    def _ratio(self, blocks: _FreshBlocks) -> float:
        """Return how many times as slow the last kernel is as the first."""
        pair = blocks.pair(blocks.subjects[-1].name)
        a, b = median(pair.a), median(pair.b)
        if not a or not b:
            raise LabError(f"{self.metric.name} is 0 here, and a slowdown is a share of it")
        return a / b if self.metric.better is Better.MORE else b / a


class _FreshBlocks(Blocks):
    """A kernel beside others; guests that are resumed are others in each measuring.

    `took` is the host's seconds of the last one, None while it is not at its end.
    """

    def __init__(self, calibration: Calibration, subjects: Sequence[Subject]) -> None:
        super().__init__(calibration.engine, subjects, calibration.plan.cells)
        self.took: float | None = None
        self._of = calibration
        self._count = 0  # blocks of the last measuring

    def measure(self, count: int) -> None:
        """Measure so many more, and drop the logs of guests that ended well: they are thousands."""
        self.took, self._count, began = None, count, time.monotonic()
        with self._saved(self._of.lab) as self.engine.lab:
            super().measure(count)
        self._of.folder.drop_logs()
        self.took = time.monotonic() - began

    def pair(self, other: str) -> Pair:
        """Return what the first kernel and another took in the last measuring."""
        last = self.samples(self._count)
        return pairs_of(last, self._of.metric, self.subjects[0].name, other)[self.cells[0]]

    @contextmanager
    def _saved(self, lab: Lab) -> Iterator[Lab]:
        """Yield the lab with saved guests of each kernel, which in real time are for now alone."""
        if lab.boot is not Boot.RESUME:
            yield lab
            return
        lab = replace(lab, boots=min(lab.boots, self._count))
        with Cache().scratch() as folder:
            saved: dict[str, Snapshot] = {}
            turn = self.next - 1
            for number, subject in enumerate(self.subjects):
                own = Cache(folder / str(number))
                if lab.clock is Clock.VIRTUAL:
                    own, turn = Cache(), (self.next - 1) // self._count % _DRAWS
                draw = self._of.plan.seed + turn + number
                saved |= lab.with_snapshots([subject], own, ignore, draw).snapshots
            yield replace(lab, snapshots=saved)


def _joined(pairs: Sequence[Pair]) -> Pair:
    """Return all of them as one; each has saved guests of its own."""
    a, b = ([v for pair in pairs for v in getattr(pair, side)] for side in "ab")
    boots, first = [], 0
    for pair in pairs:
        boots += [first + number for number in pair.boots]
        first += max(pair.boots, default=0)
    return replace(pairs[0], a=a, b=b, boots=boots)
