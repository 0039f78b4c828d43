"""The first moment of a command: its standard streams are open, and a signal ends it with 130.

`tasks.py` imports this before anything else, so it stands on next to nothing.
Until then Invoke decides, which ends with 1 for Ctrl-C, and where there is no
`tasks.py`: the status of a kernel that is at fault. So this package installs a
program `invoke` of its own, in the place of Invoke's: `main` is Invoke, and ends
with other statuses.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from pathlib import Path, PurePath
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The signals with which a person, or what a person closed, ends a program."""

_NEW_OBJECTS = 100_000  # imports make some ten thousands, which stay
_INTERRUPTED = 130
_USAGE = 2
_ABORT = 255  # `git bisect run` takes 2 for a bad commit


def is_invoke(name: str) -> bool:
    """Tell whether the program that was started, by its path, is Invoke."""
    program = PurePath(name)
    if program.name == "__main__.py":  # python -m invoke
        return program.parent.name == "invoke"
    return program.name in {"invoke", "inv"}


def begin(program: str) -> None:
    """Make the start of a command safe, if it is Invoke that was started."""
    if is_invoke(program):
        # Python keeps what it compiles, unless it was told not to; Invoke tells it without asking,
        # and to compile the lab anew takes longer than all else of its start.
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
        spare_collections()
        leave_at_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # see `hold_signals`
        open_streams()


def spare_collections() -> None:
    """Let Python look for cycles of objects where it may find some.

    Not while it imports, where all that is new stays: a fifth of that time. Nor when it
    ends, where it looks several times through all that is about to go, for 0.1 s and more.
    """
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)


def main() -> NoReturn:
    """Be Invoke, which says where the checkout is where there is none, and ends with 2."""
    begin(sys.argv[0])
    from invoke import __version__
    from invoke.exceptions import CollectionNotFound, Exit
    from invoke.program import Program

    class Here(Program):
        def load_collection(self) -> None:
            try:
                super().load_collection()
            except Exit as error:
                if not isinstance(error.__context__, CollectionNotFound):
                    raise
                raise Exit(_nothing_here(), _ABORT if "verdict" in sys.argv else _USAGE) from None

    program = Here(
        version=__version__, name="Invoke", binary="inv[oke]", binary_names=["invoke", "inv"]
    )
    program.run()
    sys.exit()


def _nothing_here() -> str:
    checkout = Path(__file__).resolve().parent.parent
    found = (checkout / "tasks.py").exists()
    where = f"`cd {checkout}` first, or `invoke --search-root {checkout} COMMAND`"
    do = where if found else "`cd` to the checkout of linklab first"
    return f"usage: there is no tasks.py in {Path.cwd()}, nor in a folder above it: {do}"


def hold_signals() -> None:
    """Keep the signals that end us for `begin`: this process is about to start anew."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def leave_at_signals() -> None:
    """Let a signal end the program at once: nothing is started, or all of it has ended."""
    take_signals(_leave)


def take_signals(handler: signal._HANDLER) -> None:
    """Set what the signals that end us do; those that are ignored (nohup) stay so."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


def open_streams() -> None:
    """Open /dev/null for each standard stream that is closed, as cron and `>&-` leave them.

    Otherwise the next file that is opened, a guest's, would be what we print to.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)  # what we start inherits it
            if opened != number:
                os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
