"""What a command prints in the end, and the exit status that its exceptions become."""

from __future__ import annotations

import atexit
import io
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

from linklab.entry import ENDING, take_signals
from linklab.errors import Interrupted, LabError, LinklabError, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

_ABORT = 255
_OUTPUT = "standard output"
_PROC = Path("/proc/self")


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
    before = {number: signal.getsignal(number) for number in ENDING}
    take_signals(_as_interrupt)
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
    code = verdict if isinstance(verdict, int) else status(verdict or Verdict.PASS)
    for number, handler in before.items():
        signal.signal(number, signal.SIG_IGN if code else handler)
    return code


def _unforeseen(error: Exception) -> LinklabError:
    """Return what an exception that nobody expected says: the lab or its host failed."""
    if isinstance(error, OSError) and error.filename == _OUTPUT:
        return LabError(f"{_OUTPUT} cannot be written: {error.strerror}")
    if isinstance(error, OSError) and not _PROC.exists():
        return LabError(
            f"/proc is not mounted here, where the lab reads what this machine is ({error}): "
            "as root, type `mount -t proc proc /proc`"
        )
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

    from linklab.report.grid import Printable

    Console(highlight=False).print(Printable(shown))


def ended_by(error: LinklabError, status: Callable[[Verdict], int], *, as_json: bool) -> int:
    """Show what ends a command, as a document too where a script asked for one."""
    for number in ENDING:
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


class _Output(io.FileIO):
    """Standard output, which says of itself that it cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, _OUTPUT) from error


class _Errors(io.FileIO):
    """Standard error: what it does not take, a full disk, is lost and stops no work."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return len(data)


def _name_streams() -> None:
    for name, kind in (("stdout", _Output), ("stderr", _Errors)):
        before = getattr(sys, name)
        if before is not getattr(sys, f"__{name}__"):
            continue  # it was closed, or is not a program's own
        raw = kind(before.fileno(), "wb", closefd=False)
        encoding, errors = before.encoding, before.errors
        named = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, errors, line_buffering=before.line_buffering
        )
        setattr(sys, name, named)


def end_as_unix_tools_do(status: Callable[[Verdict], int] = plain_status) -> None:
    """Let SIGPIPE end the program, without a word, once nobody reads what it prints.

    Only at the very end: what was started is ended by then, and a socket of the
    lab's own that breaks before is an error to report. A standard output that
    takes no more for another reason is an error of the host, named. All this
    holds for what Invoke itself prints, too.
    """
    _name_streams()
    others = sys.excepthook

    def end(error: BaseException) -> None:
        if has_lost_its_reader(error):
            _end_by_sigpipe()
        if isinstance(error, OSError) and error.filename == _OUTPUT:
            os._exit(ended_by(_unforeseen(error), status, as_json=False))

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        end(error)
        others(kind, error, trace)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            end(error)

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
