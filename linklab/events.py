"""Steps as typed events: what long work tells whoever shows it.

Nothing below the commands prints. Work that takes long takes a `Listener`
and tells it what it does; the progress bar, the log and the table of timings
are listeners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StepStarted:
    """A step began; `total` is how many units it has, where that is known."""

    step: str
    total: int | None = None


@dataclass(frozen=True)
class StepAdvanced:
    """`done` units of the step are done; `detail` is what is in hand now."""

    step: str
    done: int
    detail: str = ""


@dataclass(frozen=True)
class StepFinished:
    """The step ended, well or not, after `seconds` on the host's clock."""

    step: str
    seconds: float


@dataclass(frozen=True)
class Note:
    """Something that the user should know: why it fell back, what it threw away."""

    text: str


@dataclass(frozen=True)
class TerminalLent:
    """Somebody else writes on the terminal from now on: nothing may be drawn over it."""


@dataclass(frozen=True)
class TerminalReturned:
    """The terminal is ours again."""


Event = StepStarted | StepAdvanced | StepFinished | Note | TerminalLent | TerminalReturned
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Take events and do nothing."""


@contextmanager
def timed(listener: Listener, name: str) -> Iterator[None]:
    """Tell `listener` how long something short took; it has no bar of its own."""
    began = time.monotonic()
    try:
        yield
    finally:
        listener(StepFinished(name, time.monotonic() - began))


class Timings:
    """A listener that adds up what each step took, in seconds, and passes events on."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, StepFinished):
            self.seconds[event.step] = self.seconds.get(event.step, 0.0) + event.seconds
        self._listener(event)


@contextmanager
def step(listener: Listener, name: str, total: int | None = None) -> Iterator[None]:
    """Tell `listener` that a step begins and, on every way out, that it ended."""
    began = time.monotonic()
    listener(StepStarted(name, total))
    try:
        yield
    finally:
        listener(StepFinished(name, time.monotonic() - began))
