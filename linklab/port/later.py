"""What later patches of the series make of a change: a source may have that form of it.

A source that took the first half of a series has the lines of its second patch
as its fifth one left them.  The series says itself what that is: the later
patches' line numbers tell which of their changes fall into a hunk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from linklab.port.diff import Block, FileDiff, Hunk, Lines, made_hunk

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
        Each form is a hunk that adds it, for its place to be looked for.
        """
        start = hunk.new_start
        region = [(line, at in hunk.added_at) for at, line in enumerate(hunk.new)]
        for later, diff in self._after(number, path):
            start, after = _changed(start, region, diff)
            if after == region:
                continue
            region = after
            if len(region) > 1:
                yield later, _as_hunk(hunk, start, region)

    def contents(self, number: int, path: str, content: Lines) -> Iterator[tuple[int, bytes]]:
        """Yield what each later patch makes of a file that patch `number` makes."""
        lines = list(content)
        for later, diff in self._after(number, path):
            for hunk in reversed(diff.hunks):
                lines[hunk.start : hunk.end] = hunk.new
            yield later, b"".join(lines)

    def names(self, number: int, path: str) -> Iterator[tuple[int, str | None]]:
        """Yield what a file is called after each later patch that renames it; None: deleted."""
        for later, diff in self._all_after(number, path):
            if diff.new != path:
                yield later, diff.new
            path = diff.new or path

    def _after(self, number: int, path: str | None) -> Iterator[tuple[int, FileDiff]]:
        """Yield the later diffs of a text file as long as it is one."""
        for later, diff in self._all_after(number, path):
            if diff.binary is not None or diff.new is None:
                return
            yield later, diff

    def _all_after(self, number: int, path: str | None) -> Iterator[tuple[int, FileDiff]]:
        """Yield the later diffs of a file, under its new name once it has one."""
        done = number
        while path is not None:
            diffs = self._diffs.get(path, [])
            at = bisect_right(diffs, done, key=_number)
            if at == len(diffs):
                return
            done, diff = diffs[at]
            yield done, diff
            path = diff.new


def _number(entry: tuple[int, FileDiff]) -> int:
    return entry[0]


def _changed(start: int, region: list[_Line], diff: FileDiff) -> tuple[int, list[_Line]]:
    """Return where some lines begin after a diff, and the lines.

    What a change takes away at their beginning or end makes them fewer: what
    comes in its place is only known where it lies between them.
    """
    for hunk in reversed(diff.hunks):
        shift = -hunk.start
        added: list[tuple[Block, Lines]] = []
        for block in hunk.blocks:
            at = block.start + shift
            added.append((block, hunk.new[at : at + block.added]))
            shift += block.added - block.removed
        for block, new in reversed(added):
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
    return start, [
        *region[: first - start],
        *((line, True) for line in new),
        *region[last - start :],
    ]


def _as_hunk(hunk: Hunk, start: int, region: Sequence[_Line]) -> Hunk:
    kinds = [b"+" if own else b" " for _, own in region]
    made = made_hunk(hunk.start, start, hunk.heading, kinds, [line for line, _ in region])
    # Of a change that was undone only the lines around it are left, now next to each other.
    return made if made.blocks else replace(made, context=(len(region) - 1, 1))
