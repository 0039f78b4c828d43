"""What a command prints in the end, and the exit status that its exceptions become."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from linklab.errors import Interrupted, LabError, LinklabError, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

_ABORT = 255


def step_status(verdict: Verdict) -> int:
    """Return the status of a verdict for `git bisect run`.

    That takes any status below 128 but 0 and 125 for "this commit is bad", and
    stops for one above. A wrong option and a fault of the lab must stop it:
    neither says anything of a commit (git-bisect(1), "Bisect run").
    """
    return _ABORT if verdict in (Verdict.USAGE, Verdict.ERROR) else verdict.status


def plain_status(verdict: Verdict) -> int:
    """Return the status of a verdict for anybody else."""
    return verdict.status


def status_of(
    work: Callable[[], Verdict | int | None],
    status: Callable[[Verdict], int] = plain_status,
    *,
    as_json: bool = False,
) -> int:
    """Do a command's work and return the exit status; None for a verdict is a pass.

    A number is a status that is not the lab's: that of a program in a guest.
    A `LinklabError` is shown as its message and its evidence, without a
    traceback. Whatever else is raised says nothing of a kernel: Python and
    Invoke would end with 1 for it.
    """
    _take_signals()
    try:
        verdict = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ended_by(Interrupted("interrupted"), status, as_json=as_json)
    except LinklabError as error:
        return ended_by(error, status, as_json=as_json)
    except (Exception, SystemExit) as error:
        if has_lost_its_reader(error):
            raise BrokenPipeError from error  # see `end_as_unix_tools_do`
        if isinstance(error, SystemExit):
            raise
        return ended_by(_unforeseen(error), status, as_json=as_json)
    return verdict if isinstance(verdict, int) else status(verdict or Verdict.PASS)


def _take_signals() -> None:
    """Let what ends a program end it as Ctrl-C does; nohup's SIGHUP stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _as_interrupt)


def _unforeseen(error: Exception) -> LinklabError:
    """Return what an exception that nobody expected says: the lab or its host failed."""
    if isinstance(error, OSError):
        return LabError(str(error))
    return LabError(f"the lab itself has a fault: {error!r}", traceback.format_exc().rstrip())


def show_fault(error: LinklabError) -> None:
    """Print what went wrong, and the evidence below it, to standard error."""
    name = error.verdict.value
    lines = [f"{name}: {error.message}"] if error.message != name else [name]
    if error.evidence:
        lines.append(error.evidence)
    with suppress(OSError):  # nobody reads it, or the disk is full: the status still counts
        print("\n".join(lines), file=sys.stderr, flush=True)


def print_document(document: Any) -> None:
    """Print one JSON document, for a script."""
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def print_shown(shown: RenderableType) -> None:
    """Print a table, or what else rich renders, for a person."""
    from rich.console import Console

    Console(highlight=False).print(shown)


def ended_by(error: LinklabError, status: Callable[[Verdict], int], *, as_json: bool) -> int:
    """Show what ends a command, as a document too where a script asked for one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end is decided; the status must get out
    show_fault(error)
    if as_json:
        document: dict[str, Any] = {
            "verdict": error.verdict.value,
            "status": status(error.verdict),
            "message": error.message,
            "evidence": error.evidence,
        }
        _print_to_the_end(json.dumps(document, indent=1))
    _print_to_the_end("")
    return status(error.verdict)


def _print_to_the_end(text: str) -> None:
    """Print what fits; a standard output that takes no more must not change the status.

    Python would try once more when it ends, and end with 120 if that fails.
    """
    try:
        print(text, end="\n" if text else "", flush=True)
    except OSError:
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


def end_as_unix_tools_do() -> None:
    """Let SIGPIPE end the program, without a word, once nobody reads what it prints.

    Only at the very end: what was started is ended by then, and a socket of the
    lab's own that breaks before is an error to report. This holds for what
    Invoke itself prints, too.
    """
    others = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if has_lost_its_reader(error):
            _end_by_sigpipe()
        others(kind, error, trace)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _end_by_sigpipe()

    sys.excepthook = hook
    atexit.register(flush)  # Python's own attempt would complain and end with 120


def has_lost_its_reader(error: BaseException) -> bool:
    """Tell whether an exception says that nobody reads our output any more, as behind `| head`."""
    if isinstance(error, SystemExit):  # what rich makes of it (Console.on_broken_pipe)
        return isinstance(error.__context__, BrokenPipeError)
    if not isinstance(error, BrokenPipeError):
        return False
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            poll.register(stream.fileno(), 0)  # POLLERR is told unasked
    said_before = isinstance(error.__cause__, (BrokenPipeError, SystemExit))
    return said_before or any(event & select.POLLERR for _, event in poll.poll(0))


def _end_by_sigpipe() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.raise_signal(signal.SIGPIPE)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
