"""What a comparison is worth: of kernels that are the same, and of ones slowed by known amounts.

Each block has a guest of the kernel, of the same kernel once more, and of each
slowed one. So one series of blocks gives a comparison of each kind. What a
kernel is slowed by is set from a measurement, and measured again.

Resumed guests are saved anew for each comparison: what one boot happened to
have in common with no other is chance, and must be able to cause a false alarm
here as it is in a comparison of two kernels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from linklab.errors import LabError
from linklab.events import Listener, Note, StepAdvanced, ignore, step
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Snapshot
from linklab.machine.spec import Boot
from linklab.results.comparison import Comparison, Pair, Rule, compare_one, pairs_of
from linklab.results.shape import Better, Metric
from linklab.results.store import RunFolder
from linklab.scenarios.scenario import Slower
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan

STEP_NAME = "calibrating"
_PILOT_BLOCKS = 4
_STEP = 4  # times as many loops, while they do not show
_CLEARLY = 1.5
"""The ratio from which on the loops' cost is measured: well above what chance
gives in a few blocks."""
_MOST_LOOPS = 1 << 30  # it is an unsigned int


@dataclass
class Slowed:
    """A kernel slowed by a share: `loops` for each piece of work, and what was said of it."""

    slowdown: float
    loops: int
    comparisons: list[Comparison] = field(default_factory=list)
    measured: Comparison | None = None  # over all blocks


@dataclass
class Outcome:
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


class Calibration:
    """Compares a kernel with itself and with a slowed one, as often as asked.

    The plan has one cell; its `repeat` are the blocks of a comparison.
    """

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        folder: RunFolder,
        rule: Rule,
        metric: Metric,
        listener: Listener,
    ) -> None:
        self.outcome = Outcome()
        self._lab = lab
        self._plan = plan
        self._folder = folder
        self._rule = rule
        self._metric = metric
        self._listener = listener
        (self._cell,) = plan.cells
        assert plan.kind.slower is not None
        self._slower: Slower = plan.kind.slower
        self._engine = Engine(lab, plan, folder, listener)
        self._first = 1  # of the blocks measured last
        self._block = 0

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
            self._listener(Note(f"{text} {100 * share:g} % more"))

    def run(self, base: Subject, patched: Subject, comparisons: int) -> Outcome:
        """Compare so often. Raises whatever ends the measuring; what was done by then is kept."""
        twin = replace(base, name=f"{base.name}#2")
        slower = [
            (
                self._slowed(
                    patched, one.loops, f"{base.name}, slowed by {100 * one.slowdown:g} %"
                ),
                one,
            )
            for one in self.outcome.slowed
        ]
        subjects = [base, twin, *(subject for subject, _ in slower)]
        every: dict[str, list[Pair]] = {subject.name: [] for subject, _ in slower}
        with step(self._listener, STEP_NAME, comparisons):
            for number in range(comparisons):
                self._listener(StepAdvanced(STEP_NAME, number, f"comparison {number + 1}"))
                began = time.monotonic()
                self._measure(subjects, self._plan.repeat)
                took = time.monotonic() - began
                self.outcome.seconds.append(took * 2 / len(subjects))
                rule = replace(self._rule, seed=self._rule.seed + number)
                self.outcome.same.append(compare_one(self._pair(base, twin), rule))
                for subject, one in slower:
                    pairs = every[subject.name]
                    pairs.append(self._pair(base, subject))
                    one.comparisons.append(compare_one(pairs[-1], rule))
                    one.measured = compare_one(_joined(pairs), self._rule)
        return self.outcome

    def _clear_ratio(self, base: Subject, slow: Subject) -> float | None:
        """Return how many times as long it takes, or None if that is not far beyond chance."""
        if self._ratio(base, slow, _PILOT_BLOCKS) < _CLEARLY:
            return None
        ratio = self._ratio(base, slow, self._plan.repeat)
        return ratio if ratio >= _CLEARLY else None

    def _ratio(self, base: Subject, other: Subject, count: int) -> float:
        """Return how many times as slow another kernel is."""
        self._measure([base, other], count)
        pair = self._pair(base, other)
        a, b = median(pair.a), median(pair.b)
        if not a or not b:
            raise LabError(f"{self._metric.name} is 0 here, and a slowdown is a share of it")
        return a / b if self._metric.better is Better.MORE else b / a

    def _measure(self, subjects: Sequence[Subject], count: int) -> None:
        """Measure some kernels in so many further blocks."""
        numbers = range(self._block + 1, self._block + count + 1)
        with self._saved(subjects) as lab:
            self._engine.lab = lab
            self._engine.measure(subjects, [self._cell], numbers)
        self._first, self._block = numbers.start, numbers[-1]
        self._folder.drop_logs()  # thousands of guests that ended well

    def _pair(self, a: Subject, b: Subject) -> Pair:
        """Return what two kernels took in the blocks measured last."""
        last = (sample for sample in self._engine.samples if sample.block >= self._first)
        return pairs_of(last, self._metric, a.name, b.name)[self._cell]

    @contextmanager
    def _saved(self, subjects: Sequence[Subject]) -> Iterator[Lab]:
        """Yield the lab, with a guest of each kernel saved for these blocks alone."""
        if self._lab.boot is not Boot.RESUME:
            yield self._lab
            return
        with TemporaryDirectory(prefix=".saved-", dir=self._folder.path) as folder:
            saved: dict[str, Snapshot] = {}
            for number, subject in enumerate(subjects):
                own = Cache(Path(folder) / str(number))
                draw = self._plan.seed + self._block + number
                saved |= self._lab.with_snapshots([subject], own, ignore, draw).snapshots
            yield replace(self._lab, snapshots=saved)


def _joined(pairs: Sequence[Pair]) -> Pair:
    a, b = ([v for pair in pairs for v in getattr(pair, side)] for side in "ab")
    return replace(pairs[0], a=a, b=b)
