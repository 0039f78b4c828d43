"""make, as the kernel's build runs it: where, with what, to its end, and what a failure means.

A slot is a folder of objects that stays from one build to the next; while make
runs in it, a marker tells so, to whoever comes after a build that was killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from linklab.errors import BuildSkipped, LabError
from linklab.host.packages import NEEDS, unmet
from linklab.host.run import lines_of, shown, start

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

MARKER = "building"
"""The file that says that make runs in a slot, or ran when it was killed."""

STATE = "built.json"
"""The file in which a slot remembers its last build that came to its end."""

_SETTLE = 60.0  # s for what is left of a build that was killed to be gone
_PAUSE = 0.02  # s between looks at whether it has ended
_END_WAIT = 20.0  # s for make to end its children and remove what is half-written

STEP_LINE = re.compile(r"^  ([A-Z][A-Z0-9_]*) +(\S.*)$")
"""How kbuild says what it does: `  CC      net/core/dev.o`."""

_ERROR_LINE = re.compile(
    r"(?:\berror|\bError|ERROR: modpost|undefined reference to|multiple definition of|\*\*\*)[: `]"
    r"|fatal error"
)
_CONTEXT_LINE = re.compile(r"^In file included from |^ +from |: In function |: warning: |[:,]$")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_KILLED = re.compile(
    r"signal terminated program|\] (?:Killed|Terminated)$|Cannot allocate memory|"
    r"virtual memory exhausted|out of memory allocating"
)
_NO_PROGRAM = re.compile(r"(?:^|[\s/:])([\w.+-]+): (?:command )?not found$")
_NO_HEADER = re.compile(r"fatal error: ((?:gelf|libelf|openssl/\w+)\.h): No such file")
_EVIDENCE_LINES = 12
_CONTEXT_LINES = 4


class ToolMissing(LabError):
    """The build needs a program or a header that this machine lacks."""


@dataclass(frozen=True)
class Slot:
    """A folder of objects that belongs to one flavour of one family of sources."""

    folder: Path
    tree: Path

    def make(self, *words: str) -> list[str]:
        """Return the command that makes something in this slot."""
        return ["make", "-C", str(self.tree), f"O={self.folder}", f"CC={COMPILER}", *words]


@dataclass
class Work:
    """A slot in use. `lock` is for every process of the build to inherit.

    `orderly` is false while a file may be half-written.
    """

    slot: Slot
    lock: int
    orderly: bool = True


def check_tools(*more: str) -> None:
    """Raise `LabError` naming every program and package that a build lacks."""
    wanted = _NEEDED | set(more)
    lacking = unmet([need for need in NEEDS if need.name in wanted])
    if lacking:
        names = ", ".join(f"{need.name} (package {need.packages[0]})" for need in lacking)
        raise LabError(f"a kernel cannot be built without {names}: run `invoke setup`")


def check_place(folder: Path) -> None:
    """Raise `LabError` for a folder that the kernel's make refuses to work in."""
    if any(character.isspace() or character == ":" for character in str(folder)):
        raise LabError(
            f"a kernel cannot be built in {folder}: its make takes no folder with spaces or "
            "colons in its name (LINKLAB_CACHE names another cache)"
        )


def jobs() -> int:
    """Return how many compilers to run at once: one for each CPU we may use."""
    return len(os.sched_getaffinity(0))


def build_environment() -> dict[str, str | None]:
    """Return what to change in the environment for make."""
    env: dict[str, str | None] = {name: None for name in os.environ if name not in _INHERITED}
    env.update(IDENTITY)
    return env


@contextmanager
def working_in(slot: Slot) -> Iterator[Work]:
    """Prepare a slot for make.

    A marker lies in the slot while make runs, locked by every process of the
    build.  A marker found here was left by a build that was killed: what is
    newer than it may be cut short, and kbuild, which goes by times, would take
    it for good, so it is deleted.
    """
    slot.folder.mkdir(parents=True, exist_ok=True)
    marker = slot.folder / MARKER
    left_over = marker.exists()
    with marker.open("a+b") as file:
        if left_over:
            _wait_for(file, slot)
            _delete_newer(slot.folder, marker)
            (slot.folder / STATE).unlink(missing_ok=True)
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
            for raw in lines_of(process):
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


def failure_of(
    what: str, status: int, lines: Sequence[str], log: Path, made: str = "the kernel"
) -> LabError | BuildSkipped:
    """Return the error for a make that failed, from what it printed.

    `BuildSkipped` where the source of what was `made` is at fault, `LabError`
    where this machine is.
    """
    evidence = _first_errors(lines)
    where = f"the whole log: {log}"
    if any(_NO_SPACE.search(line) for line in lines):
        return LabError(f"the disk is full: {what} could not go on ({where})", evidence)
    if status < 0 or any(_KILLED.search(line) for line in lines):
        return LabError(
            f"{what} was killed, perhaps by lack of memory: that says nothing of the kernel "
            f"({where})",
            evidence,
        )
    if missing := _missing(lines):
        return ToolMissing(
            f"{missing} is missing, which {what} needs: `invoke setup` installs what the lab's "
            f"own kernels need ({where})",
            evidence,
        )
    return BuildSkipped(f"{made} does not build: {what} failed ({where})", evidence)


def _missing(lines: Sequence[str]) -> str | None:
    """Return the header, or the program, that the build did not find."""
    for line in lines:
        if match := _NO_HEADER.search(line):
            return match[1]
    if any("Error 127" in line for line in lines):  # a shell's status for "not found"
        for line in lines:
            if match := _NO_PROGRAM.search(line):
                return match[1]
    return None


def _first_errors(lines: Sequence[str]) -> str:
    """Return where the first error stands in a build's output, with what leads up to it.

    Other compilers go on for a while after the first error, so the end of the
    output seldom shows it.
    """
    for number, line in enumerate(lines):
        if _ERROR_LINE.search(line) and not STEP_LINE.match(line):
            begin = number
            while (
                begin > max(0, number - _CONTEXT_LINES)
                and _CONTEXT_LINE.search(lines[begin - 1])
                and not STEP_LINE.match(lines[begin - 1])
            ):
                begin -= 1
            block = lines[begin : begin + _EVIDENCE_LINES]
            return "\n".join(entry for entry in block if not STEP_LINE.match(entry))
    return "\n".join(lines[-_EVIDENCE_LINES:])
