"""Guests whose kernels differ in how long they take, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from fake_guest import FakeGuest

from linklab.agent.replies import ProgramEnd


class SlowGuest(FakeGuest):
    """A guest in which `ip` takes the seconds that `draw` gives."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self._draw = draw

    def run(self, argv: Sequence[str], deadline: float) -> ProgramEnd:
        """Run a program as the agent does; it takes as long as it is told to."""
        end = super().run(argv, deadline)
        return replace(end, measure=replace(end.measure, seconds=self._draw()))


def guests(factors: dict[str, float], spread: float = 0.02) -> Callable[[str, int], FakeGuest]:
    """Return what makes guests whose kernels take so many times as long, with some chance."""
    random = Random(3)

    def make(kernel: str, _count: int) -> FakeGuest:
        return SlowGuest(lambda: 0.02 * factors[kernel] * random.lognormvariate(0, spread))

    return make
