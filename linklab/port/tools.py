"""What the trial of a patch asks of those who know more than the patch and the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from linklab.port.diff import FileDiff, Hunk, Lines
from linklab.port.text import Text

Locate = Callable[[str, FileDiff], str | None]


class Merge(Protocol):
    """Three-way merges, for those who have the files that a patch was made for."""

    def expect(self, blobs: Iterable[str]) -> None:
        """Take note of git's names of the contents that the series is about."""
        ...

    def __call__(self, diff: FileDiff, ours: Text) -> Text | None:
        """Return a diff merged into a file; None without its base or with a conflict."""
        ...


@dataclass(frozen=True)
class Tools:
    """What a trial asks others.

    `locate` finds where a path of the series is in this source, None where it
    is not; `namesakes` what else has its name; `shift` how far from its own
    line a hunk is to be expected; `forms`, `contents` and `names` what later
    patches make of a hunk's result, of a new file, and of a path.
    """

    locate: Locate
    namesakes: Callable[[str], Sequence[str]]
    merge: Merge
    shift: Callable[[str | None, int], int]
    forms: Callable[[str | None, Hunk], Iterable[tuple[int, Hunk]]]
    contents: Callable[[str, Lines], Iterable[tuple[int, bytes]]]
    names: Callable[[str], Iterable[tuple[int, str | None]]]
