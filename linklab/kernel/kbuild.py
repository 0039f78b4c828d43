"""Where and with what the kernel's own build system works.

A slot is a folder of objects that stays from one build to the next; while make
runs in it, a marker tells so, to whoever comes after a build that was killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from linklab.errors import LabError
from linklab.host.packages import NEEDS, unmet

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
