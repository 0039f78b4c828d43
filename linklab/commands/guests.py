"""`invoke guests` and `invoke shell --guest`: the guests that run now."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from linklab.commands.outcome import print_document
from linklab.errors import LabError, UsageError
from linklab.host.guests import find_guest, running_guests
from linklab.lab.terminal import visit
from linklab.options import JSON, option


@dataclass(frozen=True)
class GuestsOptions:
    """The options of `invoke guests`, as typed."""

    as_json: bool = option(False, JSON, "json")


def list_guests(options: GuestsOptions) -> None:
    """Print which guests of this user run."""
    guests = running_guests()
    if options.as_json:
        entries = [{**asdict(guest), "folder": str(guest.folder)} for guest in guests]
        print_document(entries)
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
