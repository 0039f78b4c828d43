"""Kernels measured in blocks until something is known, or until the time or the blocks are over.

The one procedure behind `compare`, `series`, bisection by a figure and
`calibrate`: so many blocks, a look at all that there is, more blocks, another
look. What each look may risk is the rule's (`Rule.after_look`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from linklab.errors import LinklabError
from linklab.events import Listener, Note
from linklab.lab.lab import Subject
from linklab.results.comparison import Comparison, Rule, compare, pairs_of
from linklab.results.model import Sample
from linklab.results.shape import Cell, Metric
from linklab.trials.engine import Engine

MOST_BLOCKS = 10_000
_FEWEST = 2  # blocks that say anything at all
GROWTH = 1.5
"""By how much the blocks grow from one look to the next. Every look costs some
of the risk (`Rule.after_look`): with slower growth it is spent before there are
blocks enough, with faster growth blocks are measured that were not needed."""


@dataclass(frozen=True)
class Budget:
    """How many blocks. With `seconds`, ever more of them until it is known or those are over.

    From look to look they grow by a share of what there is, or by `step` blocks.
    """

    blocks: int
    seconds: float | None = None
    most: int = MOST_BLOCKS
    growth: float = GROWTH
    step: int = 0

    def after(self, done: int) -> int:
        """Return how many blocks there are to be at the next look."""
        return min(done + self.step if self.step else ceil(done * self.growth), self.most)


@dataclass
class Blocks:
    """Some kernels beside each other, block after block. See `Engine.measure` for `together`."""

    engine: Engine
    subjects: Sequence[Subject]
    cells: Sequence[Cell]  # that are still measured
    together: bool = True
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._first = max((sample.block for sample in self.engine.samples), default=0) + 1

    @property
    def next(self) -> int:
        """The number of the next block: no other of the run has it."""
        return self._first + self.done

    def samples(self, last: int | None = None) -> Sequence[Sample]:
        """Return what was measured in these blocks, or in the `last` of them."""
        first = self._first if last is None else self.next - last
        return [sample for sample in self.engine.samples if sample.block >= first]

    def measure(self, count: int) -> None:
        """Measure so many more. Raises the lab's own fault, and, `together`, a kernel's."""
        numbers = range(self.next, self.next + count)
        self.engine.measure(self.subjects, self.cells, numbers, together=self.together)
        self.done += count


Look = Callable[[int, bool], bool]
"""Looks at what was measured, for the so-manieth time, and says whether all is known.

It is told whether this is the last time whatever it sees."""


def until_known(blocks: Blocks, budget: Budget, look: Look, listener: Listener) -> bool:
    """Measure and look, until all is known. Says whether that was so, or the budget was spent.

    Raises whatever ends the measuring, after a last look at what there is.
    """
    ends = None if budget.seconds is None else time.monotonic() + budget.seconds
    pace, looks, target = 0.0, 0, budget.blocks

    def is_over() -> bool:
        return ends is not None and time.monotonic() + pace > ends

    while True:
        try:
            while blocks.done < target and not (blocks.done >= _FEWEST and is_over()):
                count = min(target - blocks.done, _fitting(ends, pace))
                began = time.monotonic()
                blocks.measure(count)
                pace = (time.monotonic() - began) / count
        except BaseException:
            with suppress(LinklabError):
                look(looks + 1, True)
            raise
        looks += 1
        is_last = is_over() or blocks.done >= budget.most
        if look(looks, is_last):
            return True
        if is_last:
            return False
        target = budget.after(blocks.done)
        listener(Note(f"{blocks.done} blocks leave it unsettled: going on to {target}"))


def _fitting(ends: float | None, pace: float) -> int:
    """Return how many blocks to measure at once within the time that is left."""
    if ends is None:
        return MOST_BLOCKS
    return max(1, int((ends - time.monotonic()) / pace)) if pace else _FEWEST


@dataclass
class SequentialResult:
    """What is known. Also where an exception ended it: what was known by then.

    `looks` are those at the data: after how many blocks, with what risk.
    """

    found: dict[Cell, Comparison] = field(default_factory=dict)
    looks: list[tuple[int, float]] = field(default_factory=list)
    in_time: bool = True

    @property
    def settled(self) -> bool:
        """Whether everything is known that was asked."""
        return all(one.conclusive for one in self.found.values())


class SequentialTest:
    """Two kernels compared in some cells: what is settled at one look is not measured further."""

    def __init__(self, blocks: Blocks, rule: Rule, metric: Metric, listener: Listener) -> None:
        self.outcome = SequentialResult()
        self._blocks = blocks
        self._rule = rule
        self._metric = metric
        self._listener = listener
        self._family = len(blocks.cells)
        self._grows = False

    def run(self, budget: Budget) -> SequentialResult:
        """Measure and compare. Raises whatever ends the measuring, a kernel's fault, too."""
        self._grows = budget.seconds is not None
        known = until_known(self._blocks, budget, self._look, self._listener)
        self.outcome.in_time = known or not self._grows
        return self.outcome

    def _look(self, number: int, is_last: bool) -> bool:
        blocks, found = self._blocks, self.outcome.found
        rule = self._rule.after_look(number, last=is_last) if self._grows else self._rule
        a, b = (subject.name for subject in blocks.subjects)
        pairs = pairs_of(blocks.samples(), self._metric, a, b)
        wanted = {cell: pair for cell, pair in pairs.items() if cell in blocks.cells}
        found.update(compare(wanted, rule, family=self._family))
        self.outcome.looks.append((blocks.done, rule.risk))
        blocks.cells = [c for c in blocks.cells if c not in found or not found[c].conclusive]
        return not blocks.cells or not self._grows

    def stored(self) -> dict[str, Any]:
        """Return what run.json keeps of it."""
        a, b = (subject.name for subject in self._blocks.subjects)
        return {
            "a": a,
            "b": b,
            "metric": self._metric.name,
            "threshold": self._rule.threshold,
            "alpha": self._rule.alpha,
            "looks": [{"blocks": blocks, "risk": risk} for blocks, risk in self.outcome.looks],
            "in_time": self.outcome.in_time,
            "results": [
                {**cell, **one.to_json(self._metric)}
                for cell, one in sorted(self.outcome.found.items(), key=lambda each: each[0])
            ],
        }
