"""Which failed patch a later one stands on.

Worked out from the diffs alone.  A series is exact about itself: each patch's
line numbers are those of the files as the patches before it leave them.  So
the lines that a failed patch adds, and the places at which it removes some,
can be followed through the later patches, and a hunk that has such a line or
place within its own lines was made for what the failed patch leaves.  A hunk
that fails without that is a conflict of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from linklab.port.diff import Block, FileDiff, Hunk


@dataclass(frozen=True)
class _Mark:
    """Lines from `start` to `end` that patch `owner` adds; none where it only removes some."""

    start: int
    end: int
    owner: int


class Unmet:
    """What failed patches would have done, in the series' own line numbers.

    Patches are named by numbers. Each patch of the series must be passed, in
    order, to `follow`.
    """

    def __init__(self) -> None:
        self._marks: dict[str, list[_Mark]] = {}
        self._files: dict[str, int] = {}

    def owner_of(self, path: str | None) -> int | None:
        """Return the failed patch that makes, removes or renames this file."""
        return self._files.get(path) if path is not None else None

    def of_file(self, diff: FileDiff) -> set[int]:
        """Return the failed patches that a file's part stands on as a whole."""
        owners = {self.owner_of(diff.old), self.owner_of(diff.new)}
        return {owner for owner in owners if owner is not None}

    def of_hunk(self, diff: FileDiff, hunk: Hunk) -> set[int]:
        """Return the failed patches that changed what a hunk looks at."""
        marks = self._marks.get(diff.old or "", ())
        return {mark.owner for mark in marks if _meets(mark, hunk)} | self.of_file(diff)

    def of_any(self, diff: FileDiff) -> set[int]:
        """Return the failed patches that changed anything in a file."""
        return {mark.owner for mark in self._marks.get(diff.old or "", ())} | self.of_file(diff)

    def follow(self, diff: FileDiff, failed: int | None, there: Collection[int] = ()) -> None:
        """Take in a file's part of the next patch; `failed` is its number if it was left out.

        `there` are those of its hunks, from 1, whose result the source has.
        """
        marks = self._marks.get(diff.old or "", [])
        for number, hunk in reversed(list(enumerate(diff.hunks, 1))):
            owner = failed if number not in there else None
            for block in reversed(hunk.blocks):
                marks = list(_after(marks, block, owner))
        self._name(diff, failed, marks)

    def _name(self, diff: FileDiff, failed: int | None, marks: list[_Mark]) -> None:
        if diff.old is not None and diff.new != diff.old and not diff.is_copy:
            self._marks.pop(diff.old, None)
        if diff.new is not None:
            self._marks[diff.new] = marks
        changed = {diff.old, diff.new} - {None} if diff.old != diff.new else set()
        if diff.is_copy:
            changed -= {diff.old}
        for path in changed:
            assert path is not None
            if failed is not None:
                self._files[path] = failed
            else:
                self._files.pop(path, None)


def _meets(mark: _Mark, hunk: Hunk) -> bool:
    if mark.start == mark.end:
        return hunk.start < mark.start < hunk.end
    return mark.start < hunk.end and hunk.start < mark.end


def _after(marks: Iterable[_Mark], block: Block, owner: int | None) -> Iterable[_Mark]:
    """Yield the marks in the line numbers after a block of changes, and one of its own."""
    first, last = block.start, block.start + block.removed
    shift = block.added - block.removed
    for mark in marks:
        if mark.end <= first:
            yield mark
        elif mark.start >= last:
            yield replace(mark, start=mark.start + shift, end=mark.end + shift)
        else:
            if mark.start < first:
                yield replace(mark, end=first)
            if mark.end > last:
                yield replace(mark, start=last + shift, end=mark.end + shift)
    if owner is not None:
        yield _Mark(first, first + block.added, owner)
