"""The kernel's own build system, driven: a folder for objects, make, its progress, its errors."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from linklab.errors import BuildSkipped, LabError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.packages import NEEDS, unmet
from linklab.host.run import shown, start

COMPILER = "gcc"
LINKER = "ld"

# What makes the same inputs give the same kernel, wherever and by whom it is built.
IDENTITY: Mapping[str, str] = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "linklab",
    "KBUILD_BUILD_HOST": "linklab",
    "KBUILD_BUILD_VERSION": "1",
}

_NEEDED = frozenset(
    ("gcc", "binutils", "make", "C library headers", "flex", "bison", "bc", "libelf headers")
)
# What a build may inherit.  Everything else (ARCH, LLVM, KCFLAGS, MAKEFLAGS, ...)
# would change the kernel behind the back of its key.
_INHERITED = frozenset(("PATH", "HOME", "TMPDIR", "USER", "LOGNAME"))

_MARKER = "building"
_TICK = 0.2  # s between looks at whether a silent make still lives
_SETTLE = 30.0  # s for the processes of a build that was killed to be gone
_END_WAIT = 20.0  # s for make to end its children and remove what is half-written

_STEP_LINE = re.compile(r"^  ([A-Z][A-Z0-9_]*) +(\S.*)$")
_ERROR_LINE = re.compile(r"(?:error|Error|undefined reference|\*\*\*)[: ]|fatal error")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_KILLED = re.compile(
    r"Killed signal terminated program|signal terminated program|\] (?:Killed|Terminated)$|"
    r"cannot allocate memory|out of memory",
    re.IGNORECASE,
)
_NO_PROGRAM = re.compile(
    r"(?:^|[:/\s])([\w.+-]+): (?:command )?not found$|\b(\S+): No such file or directory$"
)
_NO_HEADER = re.compile(r"fatal error: ((?:gelf|libelf|openssl/\w+|ncurses)\.h): No such file")
_EVIDENCE_LINES = 12


@dataclass(frozen=True)
class Slot:
    """A folder of objects that belongs to one flavour of one family."""

    folder: Path
    tree: Path

    def make(self, *words: str) -> list[str]:
        """Return the command that makes something in this slot."""
        return ["make", "-C", str(self.tree), f"O={self.folder}", f"CC={COMPILER}", *words]


def check_tools(*more: str) -> None:
    """Raise `LabError` naming every program and package that a build lacks."""
    wanted = _NEEDED | set(more)
    lacking = unmet([need for need in NEEDS if need.name in wanted])
    if lacking:
        names = ", ".join(f"{need.name} (package {need.packages[0]})" for need in lacking)
        raise LabError(f"a kernel cannot be built without {names}: run `invoke setup`")


def jobs() -> int:
    """Return how many compilers to run at once: one for each CPU we may use."""
    return len(os.sched_getaffinity(0))


def build_environment() -> dict[str, str | None]:
    """Return what to change in the environment for make."""
    env: dict[str, str | None] = {name: None for name in os.environ if name not in _INHERITED}
    env.update(IDENTITY)
    return env


@dataclass
class Work:
    """A slot in use. `lock` is for every process of the build to inherit.

    `orderly` is false while a file may be half-written.
    """

    slot: Slot
    lock: int
    orderly: bool = True


@contextmanager
def working_in(slot: Slot) -> Iterator[Work]:
    """Prepare a slot for make.

    A marker lies in the slot while make runs, locked by every process of the
    build.  A marker found here was left by a build that was killed: what is
    newer than it may be cut short, and kbuild, which goes by times, would take
    it for good, so it is deleted.
    """
    slot.folder.mkdir(parents=True, exist_ok=True)
    marker = slot.folder / _MARKER
    left_over = marker.exists()
    with marker.open("a+b") as file:
        if left_over:
            _wait_for(file, slot)
            _delete_newer(slot.folder, marker)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.utime(file.fileno())
        work = Work(slot, file.fileno())
        try:
            yield work
        finally:
            if work.orderly:
                marker.unlink()


def _wait_for(file: IO[bytes], slot: Slot) -> None:
    deadline = time.monotonic() + _SETTLE
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise LabError(f"processes of an earlier build still work in {slot.folder}: end them")
        time.sleep(0.05)


def _delete_newer(folder: Path, marker: Path) -> None:
    since = marker.stat().st_mtime_ns
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)  # noqa: PTH118 - thousands of them
            if path != str(marker) and os.lstat(path).st_mtime_ns >= since:
                os.unlink(path)  # noqa: PTH108


def run_make(
    work: Work,
    targets: Sequence[str],
    log: Path,
    each_line: Callable[[str], None] = lambda _line: None,
) -> None:
    """Run make to its end, its output added to `log` and given out line by line.

    Raises `BuildSkipped` when the kernel does not build, `LabError` when that
    is this machine's fault.
    """
    argv = work.slot.make(*targets)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"+ {shown(argv)}\n".encode())
        work.orderly = False
        process = start(
            argv,
            env=build_environment(),
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
                each_line(raw.decode(errors="replace"))
            process.wait()
        finally:
            # Make that is asked to end removes what is unfinished before it does.
            work.orderly = _end(process)
    if process.returncode != 0:
        fault = _failure(process.returncode, log, targets)
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
            if data:
                continue
            break
        if gone:
            break
    if rest:
        yield rest


class ToolMissing(LabError):
    """The build needs a program or a header that this machine lacks."""


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End make and all it started; tell whether it came to its end by itself."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children of a make that was killed
        return True
    for number, patience in ((signal.SIGTERM, _END_WAIT), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return number == signal.SIGTERM
    return False


def _failure(status: int, log: Path, targets: Sequence[str]) -> LabError | BuildSkipped:
    """Return the error for a make that failed: whose fault it is stands in its log."""
    lines = _last_run(log)
    text = "\n".join(lines)
    what = f"make {' '.join(targets)}"
    evidence = first_errors(lines)
    where = f"the whole log: {log}"
    if _NO_SPACE.search(text):
        return LabError(f"the disk is full: {what} could not go on ({where})", evidence)
    if status < 0 or any(_KILLED.search(line) for line in lines):
        return LabError(
            f"{what} was killed, perhaps for want of memory: nothing is said of the kernel "
            f"({where})",
            evidence,
        )
    if header := _NO_HEADER.search(text):
        return ToolMissing(
            f"{header[1]} is missing: `invoke setup` installs it ({where})", evidence
        )
    if program := _missing_program(lines):
        return ToolMissing(
            f"{program} is not installed, which {what} needs: `invoke setup` installs what the "
            f"lab's own kernels need ({where})",
            evidence,
        )
    return BuildSkipped(f"the kernel does not build: {what} failed ({where})", evidence)


def _missing_program(lines: Sequence[str]) -> str | None:
    """Return the program that a shell did not find: make then says status 127."""
    if not any("Error 127" in line for line in lines):
        return None
    for line in lines:
        if match := _NO_PROGRAM.search(line):
            return match[1] or match[2]
    return None


def _last_run(log: Path) -> list[str]:
    """Return the lines of the last command in a log."""
    lines = log.read_text(errors="replace").splitlines()
    begin = max((n for n, line in enumerate(lines) if line.startswith("+ make ")), default=-1)
    return lines[begin + 1 :]


def first_errors(lines: Sequence[str]) -> str:
    """Return where the first error stands in a build's output, with what follows it.

    Other compilers go on for a while after the first error, so the end of the
    log seldom shows it.
    """
    for number, line in enumerate(lines):
        if _ERROR_LINE.search(line) and not _STEP_LINE.match(line):
            begin = number
            while begin and lines[begin - 1].endswith((":", ",")) and number - begin < 3:
                begin -= 1  # "In file included from", "In function"
            shown_lines = lines[begin : begin + _EVIDENCE_LINES]
            return "\n".join(li for li in shown_lines if not _STEP_LINE.match(li))
    return "\n".join(deque(lines, maxlen=_EVIDENCE_LINES))


class Progress:
    """Counts what make says it does; never says more than all of it."""

    def __init__(self, name: str, total: int, listener: Listener) -> None:
        self._name = name
        self._total = total
        self._listener = listener
        self.lines = 0

    def __call__(self, line: str) -> None:
        """Take one line of make's output."""
        match = _STEP_LINE.match(line)
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
