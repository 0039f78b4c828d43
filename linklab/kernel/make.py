"""make as a process: run to its end or ended in order, its output kept and counted."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from linklab.errors import BuildSkipped
from linklab.events import Listener, StepAdvanced, step
from linklab.host.run import shown, start
from linklab.kernel.diagnosis import STEP_LINE, ToolMissing, failure_of
from linklab.kernel.kbuild import Work, build_environment

_TICK = 0.2  # s between looks at whether a silent make still lives
_PAUSE = 0.02  # s between looks at whether it has ended
_END_WAIT = 20.0  # s for make to end its children and remove what is half-written


def run_make(
    work: Work,
    targets: Sequence[str],
    log: Path,
    each_line: Callable[[str], None] = lambda _line: None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Run make to its end, its output added to `log` and given out line by line.

    `extra` is added to its environment, which otherwise holds next to nothing.

    Raises `BuildSkipped` when the kernel does not build, `LabError` when that
    is this machine's fault.
    """
    argv = work.slot.make(*targets)
    lines: list[str] = []
    work.orderly = False
    with log.open("ab", buffering=0) as out:  # whole even if we are killed
        out.write(f"+ {shown(argv)}\n".encode())
        process = start(
            argv,
            env={**build_environment(), **(extra or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(work.lock,),
            # A session of its own: Ctrl-C reaches us alone, and we end make in order.
            new_session=True,
            death_signal=signal.SIGTERM,
        )
        try:
            for raw in _output(process):
                out.write(raw + b"\n")
                lines.append(raw.decode(errors="replace"))
                each_line(lines[-1])
            process.wait()
        finally:
            # Make that is asked to end removes what is unfinished before it does.
            work.orderly = _end(process)
    if process.returncode != 0:
        fault = failure_of(f"make {' '.join(targets)}", process.returncode, lines, log)
        work.orderly = isinstance(fault, BuildSkipped | ToolMissing)
        raise fault


def _output(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what make prints, line by line, until it ends.

    Not until the pipe ends: a compiler whose make was killed still holds that.
    """
    assert process.stdout is not None
    rest = b""
    while True:
        gone = process.poll() is not None
        if select.select([process.stdout], [], [], 0 if gone else _TICK)[0]:
            data = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if not data:
                break
        elif gone:
            break
    if rest:
        yield rest


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End make and all it started; tell whether that came to its end by itself."""
    try:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            if _ends(process):
                return True
        elif process.returncode >= 0:
            return True
        _signal(process, signal.SIGKILL)  # also the children of a make that was killed
        process.wait()
        return False
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal make and all it started; tell whether there was anybody left."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Wait for make to clean up; read what it says of it, which it would otherwise die of."""
    assert process.stdout is not None
    deadline = time.monotonic() + _END_WAIT
    while time.monotonic() < deadline:
        if process.poll() is not None and not _signal(process, 0):
            return True
        said = select.select([process.stdout], [], [], _PAUSE)[0]
        if said and not os.read(process.stdout.fileno(), 1 << 16):
            time.sleep(_PAUSE)
    return False


class Progress:
    """Counts what make says it does; never says more than all of it."""

    def __init__(self, name: str, total: int, listener: Listener) -> None:
        self._name = name
        self._total = total
        self._listener = listener
        self.lines = 0

    def __call__(self, line: str) -> None:
        """Take one line of make's output."""
        match = STEP_LINE.match(line)
        if match is None:
            return
        self.lines += 1
        done = min(self.lines, self._total - 1)
        self._listener(StepAdvanced(self._name, done, f"{match[1]} {match[2]}"))


@contextmanager
def counted(name: str, total: int, listener: Listener) -> Iterator[Progress]:
    """Report a build of about `total` lines as a step that ends full when it ends well."""
    with step(listener, name, total=total):
        progress = Progress(name, total, listener)
        yield progress
        listener(StepAdvanced(name, total))
