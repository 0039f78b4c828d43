"""The outcome of a patch, of its files and hunks, as values for tables and port.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class PatchStatus(StrEnum):
    """The outcome of a patch or of a part of it, from the best to the worst."""

    CLEAN = "clean"
    OFFSET = "offset"
    PARTLY = "partly there"
    MOVED = "moved"
    MERGED = "merged"
    FUZZ = "fuzz"
    THERE = "already there"
    EMPTY = "empty"
    DEPENDS = "depends"
    CONFLICT = "conflict"

    @property
    def applies(self) -> bool:
        """Whether it is part of the new series."""
        return self in _APPLYING

    @property
    def failed(self) -> bool:
        """Whether a person has to apply it."""
        return self in {PatchStatus.CONFLICT, PatchStatus.DEPENDS}

    @property
    def needs_look(self) -> bool:
        """Whether it applies in a way that a person should look at."""
        return self in {PatchStatus.PARTLY, PatchStatus.MOVED, PatchStatus.MERGED, PatchStatus.FUZZ}


_APPLYING = tuple(PatchStatus)[: tuple(PatchStatus).index(PatchStatus.THERE)]

MEANING = {
    PatchStatus.CLEAN: "at the same lines",
    PatchStatus.OFFSET: "at other lines",
    PatchStatus.PARTLY: "some of it is there already, the rest applies",
    PatchStatus.MOVED: "in a file that has another path in this source",
    PatchStatus.MERGED: "by a three-way merge with the file that the patch was made for",
    PatchStatus.FUZZ: "with less context than the patch has",
    PatchStatus.THERE: "its result is in this source already",
    PatchStatus.EMPTY: "changes no file",
    PatchStatus.DEPENDS: "on patches that did not apply",
    PatchStatus.CONFLICT: "does not apply",
}


class Fault(StrEnum):
    """Why a part of a patch does not apply."""

    TEXT = "other text"
    UNSURE = "several places"
    ELSEWHERE = "another function"
    NO_FILE = "no such file"
    EXISTS = "file exists"
    DIFFERS = "file differs"
    NO_CONTENT = "no binary content"
    KIND = "another kind of file"
    TORN = "torn diff"


@dataclass(frozen=True)
class Conflict:
    """A place at which a patch does not apply.

    `hunk` counts from 1 and is 0 where the whole file is meant; `line`, from
    1, is where the difference begins in the source. `expected` are the lines
    that the patch looks for and `found` the ones there instead. `needs` are
    the failed patches that this place is about.
    """

    file: str
    fault: Fault
    why: str
    hunk: int = 0
    hunks: int = 0
    line: int = 0
    expected: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """Where it is: `net/core/dev.c:210, hunk 2 of 3`."""
        at = f":{self.line}" if self.line else ""
        which = f", hunk {self.hunk} of {self.hunks}" if self.hunk else ""
        return f"{self.file}{at}{which}"


@dataclass(frozen=True)
class HunkOutcome:
    """Where a hunk went. `line` counts from 1; `offset` is from the patch's own line number.

    `later` is the patch of the series in whose form it is there already.
    """

    hunk: int
    status: PatchStatus
    line: int = 0
    offset: int = 0
    fuzz: int = 0
    rivals: int = 0
    later: int = 0


@dataclass(frozen=True)
class FileOutcome:
    """The outcome of a file's part. `target` is its path in the source where that differs."""

    path: str
    status: PatchStatus
    target: str = ""
    hunks: tuple[HunkOutcome, ...] = ()
    notes: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True)
class PatchOutcome:
    """The outcome of a patch.

    `needs` are the numbers of the failed patches that it depends on; `roots`
    those at the beginning of these chains, which are conflicts.
    """

    number: int
    subject: str
    status: PatchStatus
    files: tuple[FileOutcome, ...] = ()
    notes: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    roots: tuple[int, ...] = ()

    @property
    def conflicts(self) -> Iterator[Conflict]:
        """Yield every place at which it does not apply."""
        return (conflict for file in self.files for conflict in file.conflicts)

    @property
    def needs_look(self) -> bool:
        """Whether it applies in a way that a person should look at."""
        return self.status.needs_look or (self.status.applies and bool(self.remarks))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was adapted, for a reader and for the new patch."""
        return (*(note for file in self.files for note in file.notes), *self.notes)


def worst(statuses: Sequence[PatchStatus]) -> PatchStatus:
    """Return the status of a patch from those of its parts.

    It is partly there where only some of its parts are there already.
    """
    order = tuple(PatchStatus)
    if not statuses:
        return PatchStatus.EMPTY
    found = max(statuses, key=order.index)
    if found is not PatchStatus.THERE or set(statuses) == {PatchStatus.THERE}:
        return found
    rest = max((s for s in statuses if s is not PatchStatus.THERE), key=order.index)
    return max(rest, PatchStatus.PARTLY, key=order.index)
