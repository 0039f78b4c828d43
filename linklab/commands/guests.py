"""Guests that run, and their consoles on this terminal: visited, or held when one fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from linklab.commands.exit_status import print_document, show_fault
from linklab.errors import LabError, LinklabError, UsageError
from linklab.events import Listener, TerminalLent, TerminalReturned
from linklab.options import JSON, option

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from linklab.host.guests import RunningGuest
    from linklab.lab.console_access import Hold


@dataclass(frozen=True)
class GuestsOptions:
    """The options of `invoke guests`, as typed."""

    as_json: bool = option(False, JSON, "json")


def list_guests(options: GuestsOptions) -> None:
    """Print which guests of this user run."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from linklab.host.guests import running_guests

    guests = running_guests()
    if options.as_json:
        print_document([{**asdict(guest), "folder": str(guest.folder)} for guest in guests])
        return
    if not guests:
        print("no guest runs")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("guest", "seconds", "lab's process", "console's log"):
        is_number = title in {"seconds", "lab's process"}
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for guest in guests:
        up = f"{time.time() - guest.since:.0f}"
        table.add_row(escape(guest.name), up, str(guest.pid), escape(guest.log))
    Console(highlight=False, soft_wrap=True).print(table)


def visit_guest(word: str) -> None:
    """Put the console of a guest that runs on this terminal; return when the person leaves."""
    from linklab.host.guests import find_guest
    from linklab.lab.console_access import visit

    guest = find_guest(word)
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal on standard input")
    sys.stdout.flush()
    try:
        left = visit(guest.console, sys.stdin.fileno(), sys.stdout.fileno())
    except OSError as error:
        raise LabError(f"the guest {guest.name} has just ended ({error})") from error
    said = "left" if left else "the guest has ended"
    print(f"\n{guest.name}: {said}; its console's log: {guest.log}", file=sys.stderr)


def check_keep(jobs: int) -> None:
    """Raise `UsageError` where nobody could look at a guest that is kept (`--keep`)."""
    if not sys.stdin.isatty():
        raise UsageError("--keep needs a terminal on standard input")
    if jobs > 1:
        raise UsageError(f"--keep looks at one guest at a time: it does not go with --jobs {jobs}")


def hold_here(listener: Listener) -> Hold:
    """Return what puts a failed guest's console on this terminal, the bars out of the way."""
    from linklab.host.run import start
    from linklab.lab.console_access import lent_terminal, visit

    @contextmanager
    def hold(guest: RunningGuest, verdict: LinklabError) -> Iterator[subprocess.Popen[bytes]]:
        listener(TerminalLent())
        show_fault(verdict)
        print(f"\nthe guest {guest.name} is kept; its console follows", file=sys.stderr, flush=True)
        # A process of its own: this one has the guest to look after.
        argv = [sys.executable, "-m", visit.__module__, str(guest.console)]
        try:
            with lent_terminal():
                visitor = start(
                    argv, stdin=None, stdout=None, stderr=None, death_signal=signal.SIGTERM
                )
                try:
                    yield visitor
                except BaseException:
                    visitor.kill()  # nobody sends it away any more
                    raise
                finally:
                    visitor.wait()
        finally:
            print(f"\nthe guest {guest.name} is given up", file=sys.stderr, flush=True)
            listener(TerminalReturned())

    return hold
