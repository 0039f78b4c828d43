"""Events as a person sees them: bars and notes on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from linklab.errors import printable
from linklab.events import (
    Event,
    Listener,
    Note,
    StepAdvanced,
    StepFinished,
    StepStarted,
    TerminalLent,
    TerminalReturned,
)

_QUIET_SECONDS = 0.5  # a step that is over by then never shows


@contextmanager
def progress() -> Iterator[Listener]:
    """Yield a listener that shows events while the context lasts.

    On a terminal as bars; elsewhere (a log, a pipe) each step that takes a
    while leaves one line when it ends, and each note a line.
    """
    if sys.stderr.isatty():
        with _bars() as listener:
            yield listener
    else:
        yield _PlainLog()


class _PlainLog:
    """Notes, and long steps when they end, as lines."""

    def __call__(self, event: Event) -> None:
        match event:
            case Note(text):
                print(f"note: {printable(text)}", file=sys.stderr, flush=True)
            case StepFinished(step, seconds) if seconds >= _QUIET_SECONDS:
                print(f"{printable(step)}: {seconds:.1f} s", file=sys.stderr, flush=True)
            case _:
                pass


@contextmanager
def _bars() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}", markup=False),  # a name may look like markup
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        Remaining(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def listen(event: Event) -> None:
        match event:
            case Note(text):
                bars.console.print(Text(f"note: {printable(text)}"))
            case StepStarted(step, total):
                tasks[step] = bars.add_task(printable(step), total=total, detail="")
            case StepAdvanced(step, done, detail) if step in tasks:
                bars.update(tasks[step], completed=done, detail=printable(detail))
            case StepFinished(step, seconds) if step in tasks:
                bars.remove_task(tasks.pop(step))
                if seconds >= _QUIET_SECONDS and not tasks:
                    bars.console.print(Text(f"{printable(step)}: {seconds:.1f} s"))
            case TerminalLent():
                bars.stop()
            case TerminalReturned():
                bars.start()
            case _:
                pass

    with bars:
        yield listen
