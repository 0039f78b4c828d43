"""A contest: two kernels measured in blocks, until it is known what they are or time is up."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from random import Random

from linklab.errors import LinklabError
from linklab.events import Listener, Note
from linklab.lab.lab import Lab, Subject
from linklab.results.blocks import pairs_of
from linklab.results.comparison import Comparison, Rule, compare
from linklab.results.store import RunFolder, read_run
from linklab.results.work import Work
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.runner import Runner
from linklab.scenarios.grouping.schedule import blocks, cells

MOST_BLOCKS = 10_000
_FEWEST = 2  # blocks that say anything at all
GROWTH = 1.5
"""By how much the blocks grow from one look to the next. Every look costs some
of the risk (`Rule.at_look`): with slower growth it is spent before there are
blocks enough, with faster growth blocks are measured that were not needed."""


@dataclass(frozen=True)
class Effort:
    """How many blocks. With `seconds`, ever more of them until it is known or those are over."""

    blocks: int
    seconds: float | None = None


@dataclass(frozen=True)
class Look:
    """One time that the data were looked at: after how many blocks, with what risk."""

    blocks: int
    risk: float


@dataclass
class Outcome:
    """What is known. Also of a contest that an exception ended: what was known by then."""

    found: dict[Work, Comparison] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    in_time: bool = True

    @property
    def settled(self) -> bool:
        """Whether everything is known that was asked."""
        return all(one.conclusive for one in self.found.values())


class Contest:
    """Two kernels, what they are compared in, and where the samples go."""

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        subjects: tuple[Subject, Subject],
        folder: RunFolder,
        rule: Rule,
        listener: Listener,
    ) -> None:
        self.outcome = Outcome()
        self._plan = plan
        self._subjects = subjects
        self._names = [subject.name for subject in subjects]
        self._folder = folder
        self._rule = rule
        self._listener = listener
        self._runner = Runner(lab, plan, folder, listener)
        self._random = Random(plan.seed)
        self._left = cells(plan)
        self._done = 0  # blocks
        self._pace = 0.0  # s for a block, as the last ones took
        self._ends: float | None = None

    def run(self, effort: Effort) -> Outcome:
        """Measure and compare. Raises whatever ends the measuring, a kernel's fault, too.

        What is settled at one look is not measured any further, and its result
        stays as it was then.
        """
        if effort.seconds is not None:
            self._ends = time.monotonic() + effort.seconds
        try:
            self._go_on(effort.blocks)
        except BaseException:
            with suppress(LinklabError):
                self._look()
            raise
        return self.outcome

    def _go_on(self, target: int) -> None:
        while True:
            self._measure_up_to(target)
            self._look()
            if not self._left or self._ends is None:
                return
            if self._is_over():
                self.outcome.in_time = False
                return
            target = ceil(self._done * GROWTH)
            text = f"{self._done} blocks leave {len(self._left)} unsettled"
            self._listener(Note(f"{text}: going on to {target}"))

    def _measure_up_to(self, target: int) -> None:
        while self._done < target and not (self._done >= _FEWEST and self._is_over()):
            upto = min(target, self._done + self._fitting())
            numbers = range(self._done + 1, upto + 1)
            turns = blocks(self._left, self._names, numbers, self._random)
            began = time.monotonic()
            self._runner.measure(self._subjects, turns)
            self._pace = (time.monotonic() - began) / len(numbers)
            self._done = upto

    def _is_over(self) -> bool:
        return self._ends is not None and time.monotonic() + self._pace > self._ends

    def _fitting(self) -> int:
        """Return how many blocks to measure in one go, so that the time is kept."""
        if self._ends is None:
            return MOST_BLOCKS
        if not self._pace:
            return _FEWEST
        return max(1, int((self._ends - time.monotonic()) / self._pace))

    def _look(self) -> None:
        """Compare what is not settled yet."""
        looks, found = self.outcome.looks, self.outcome.found
        rule = self._rule if self._ends is None else self._rule.at_look(len(looks) + 1)
        wanted = {cell.work for cell in self._left}
        samples = read_run(self._folder.path).samples
        pairs = {w: p for w, p in pairs_of(samples, *self._names).items() if w in wanted}
        found.update(compare(pairs, rule, family=len(cells(self._plan))))
        looks.append(Look(self._done, rule.risk))
        self._left = [c for c in self._left if c.work not in found or not found[c.work].conclusive]
