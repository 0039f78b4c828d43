"""A guest that failed, kept for whoever sits at this terminal (`invoke run --keep`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from linklab.commands.boundary import show_fault
from linklab.errors import LinklabError, UsageError
from linklab.events import Listener, TerminalLent, TerminalReturned
from linklab.host.guests import RunningGuest
from linklab.host.run import start
from linklab.lab.console_access import Keeper

_VISITOR = "linklab.lab.terminal"


def check_keep(jobs: int) -> None:
    """Raise `UsageError` where nobody could look at a guest that is kept."""
    if not sys.stdin.isatty():
        raise UsageError("--keep needs a terminal on standard input")
    if jobs > 1:
        raise UsageError(f"--keep looks at one guest at a time: it does not go with --jobs {jobs}")


def keeper(listener: Listener) -> Keeper:
    """Return what puts a guest's console on this terminal, the progress bar out of the way."""

    @contextmanager
    def at_this_terminal(
        guest: RunningGuest, verdict: LinklabError
    ) -> Iterator[subprocess.Popen[bytes]]:
        listener(TerminalLent())
        show_fault(verdict)
        print(f"\nthe guest {guest.name} is kept; its console follows", file=sys.stderr, flush=True)
        # A process of its own: this one has the guest to look after.
        argv = [sys.executable, "-m", _VISITOR, str(guest.console)]
        visitor = start(argv, stdin=None, stdout=None, stderr=None)
        try:
            yield visitor
        finally:
            visitor.wait()
            print(f"\nthe guest {guest.name} is given up", file=sys.stderr, flush=True)
            listener(TerminalReturned())

    return at_this_terminal
