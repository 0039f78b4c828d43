"""What the line numbers of a series say about itself.

A series is exact about itself: each patch's line numbers are those of the files
as the patches before it leave them.  So lines can be followed from one patch to
the next, without the files:

- `Later`: what later patches make of a change. A source that took the first half
  of a series has the lines of its second patch as its fifth one left them.
- `FailedChanges`: which failed patch a later one depends on. A hunk that has lines that
  a failed patch adds, or a place at which it removes some, within its own lines
  was made for what the failed patch leaves. A hunk that fails without that is a
  conflict of its own.
- `Shifts`: how far apart the same lines are in the series' files and in the source's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from linklab.kernel.diff import Block, FileDiff, Hunk, Lines, made_hunk
from linklab.port.outcome import HunkOutcome

_Line = tuple[bytes, bool]  # its text, and whether the series wrote it


class Later:
    """The diffs of a series by the files that they are about."""

    def __init__(self, patches: Mapping[int, Sequence[FileDiff]]) -> None:
        self._diffs: dict[str, list[tuple[int, FileDiff]]] = {}
        for number, diffs in patches.items():
            for diff in diffs:
                if diff.old is not None and not diff.is_copy:
                    self._diffs.setdefault(diff.old, []).append((number, diff))

    def forms(self, number: int, path: str | None, hunk: Hunk) -> Iterator[tuple[int, Hunk]]:
        """Yield what each later patch that touches a hunk's result makes of it.

        `path` is the file's after patch `number`, which the hunk belongs to.
        Each form is a hunk that adds it, so that its place can be found.
        """
        start = hunk.new_start
        region = [(line, at in hunk.added_at) for at, line in enumerate(hunk.new)]
        for later, diff in self._text_diffs(number, path):
            start, after = _changed(start, region, diff)
            if after == region:
                continue
            region = after
            if len(region) > 1:
                yield later, _as_hunk(hunk, start, region)

    def contents(self, number: int, path: str, content: Lines) -> Iterator[tuple[int, bytes]]:
        """Yield what each later patch makes of a file that patch `number` creates."""
        lines = list(content)
        for later, diff in self._text_diffs(number, path):
            for hunk in reversed(diff.hunks):
                lines[hunk.start : hunk.end] = hunk.new
            yield later, b"".join(lines)

    def names(self, number: int, path: str) -> Iterator[tuple[int, str | None]]:
        """Yield a file's path after each later patch that renames it; None: deleted."""
        for later, diff in self._all_diffs(number, path):
            if diff.new != path:
                yield later, diff.new
            path = diff.new or path

    def _text_diffs(self, number: int, path: str | None) -> Iterator[tuple[int, FileDiff]]:
        """Yield the later diffs of a text file as long as it is one."""
        for later, diff in self._all_diffs(number, path):
            if diff.binary is not None or diff.new is None:
                return
            yield later, diff

    def _all_diffs(self, number: int, path: str | None) -> Iterator[tuple[int, FileDiff]]:
        """Yield the later diffs of a file, under its new name once it has one."""
        while path is not None:
            diffs = self._diffs.get(path, [])
            at = bisect_right(diffs, number, key=lambda entry: entry[0])
            if at == len(diffs):
                return
            number, diff = diffs[at]
            yield number, diff
            path = diff.new


def _changed(start: int, region: list[_Line], diff: FileDiff) -> tuple[int, list[_Line]]:
    """Return where some lines begin after a diff, and the lines.

    A change that removes lines at their beginning or end makes them fewer: what
    replaces these is known only where the change lies within.
    """
    for hunk in reversed(diff.hunks):
        for block, at in reversed(hunk.changes):
            new = hunk.new[at : at + block.added]
            start, region = _after_block(start, region, block, new)
    return start, region


def _after_block(
    start: int, region: list[_Line], block: Block, new: Lines
) -> tuple[int, list[_Line]]:
    first, last, end = block.start, block.start + block.removed, start + len(region)
    if first >= end or not region:
        return start, region
    if last <= start:
        return start + block.added - block.removed, region
    if first < start:
        return first + block.added, region[last - start :]
    if last > end:
        return start, region[: first - start]
    between = [(line, True) for line in new]
    return start, [*region[: first - start], *between, *region[last - start :]]


def _as_hunk(hunk: Hunk, start: int, region: Sequence[_Line]) -> Hunk:
    kinds = [b"+" if own else b" " for _, own in region]
    made = made_hunk(hunk.start, start, hunk.heading, kinds, [line for line, _ in region])
    # Of a change that was reverted only the lines around it are left, now next to each other.
    lead, trail = made.context if made.blocks else (len(region) - 1, 1)
    # A last line that a later patch changed is no end of the file, unless the hunk's is.
    return replace(made, context=(lead, max(trail, min(hunk.context[1], 1))))


@dataclass(frozen=True)
class _Mark:
    """Lines from `start` to `end` that patch `owner` adds; none where it only removes some."""

    start: int
    end: int
    owner: int

    def meets(self, hunk: Hunk) -> bool:
        if self.start == self.end:
            return hunk.start < self.start < hunk.end
        return self.start < hunk.end and hunk.start < self.end


class FailedChanges:
    """What failed patches would have done, in the series' own line numbers.

    Patches are named by numbers. Each patch of the series must be passed, in
    order, to `follow`.
    """

    def __init__(self) -> None:
        self._marks: dict[str, list[_Mark]] = {}
        self._files: dict[str, int] = {}

    def of_file(self, diff: FileDiff) -> set[int]:
        """Return the failed patches that create, remove or rename a file that a diff names."""
        return {self._files[path] for path in (diff.old, diff.new) if path in self._files}

    def of_hunk(self, diff: FileDiff, hunk: Hunk) -> set[int]:
        """Return the failed patches that changed lines that a hunk compares."""
        marks = self._marks.get(diff.old or "", ())
        return {mark.owner for mark in marks if mark.meets(hunk)} | self.of_file(diff)

    def of_any(self, diff: FileDiff) -> set[int]:
        """Return the failed patches that changed anything in a file."""
        return {mark.owner for mark in self._marks.get(diff.old or "", ())} | self.of_file(diff)

    def follow(self, diff: FileDiff, failed: int | None, there: Collection[int] = ()) -> None:
        """Take a file's part of the next patch; `failed` is its number if it was left out.

        `there` are those of its hunks, from 1, whose result the source has.
        """
        marks = self._marks.get(diff.old or "", [])
        for number, hunk in reversed(list(enumerate(diff.hunks, 1))):
            owner = failed if number not in there else None
            for block in reversed(hunk.blocks):
                marks = list(_after(marks, block, owner))
        if diff.old is not None and diff.new != diff.old and not diff.is_copy:
            self._marks.pop(diff.old, None)
        if diff.new is not None:
            self._marks[diff.new] = marks
        changed = {diff.old, diff.new} if diff.old != diff.new else set()
        for path in changed - ({None, diff.old} if diff.is_copy else {None}):
            assert path is not None
            self._files.pop(path, None)
            if failed is not None:
                self._files[path] = failed


def _after(marks: Iterable[_Mark], block: Block, owner: int | None) -> Iterator[_Mark]:
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


class Shifts:
    """Where hunks are to be expected, from the places of earlier ones.

    Of several places that fit, the one that is as far off as its neighbours is
    the likeliest. A patch that was left out makes this less exact, not wrong.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[int, int]]] = {}

    def learn(self, diff: FileDiff, hunks: Sequence[HunkOutcome]) -> None:
        """Take where the hunks of a patch were found."""
        known = self._known.setdefault(diff.new or "", [])
        for outcome, hunk in zip(hunks, diff.hunks, strict=False):
            if outcome.line:
                insort(known, (hunk.start, outcome.line - 1 - hunk.start))

    def near(self, path: str | None, line: int) -> int:
        """Return how many lines further down a line of the series' file is expected."""
        known = self._known.get(path or "", [])
        at = bisect_left(known, (line, 0))
        around = known[max(at - 1, 0) : at + 1]
        return min(around, key=lambda each: abs(each[0] - line))[1] if around else 0
