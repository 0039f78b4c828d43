"""How far apart the same lines are in the series' files and in the source's."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from linklab.port.diff import FileDiff
from linklab.port.outcome import HunkOutcome


class Shifts:
    """What the places of earlier hunks say of where later ones are to be expected.

    Of several places that fit, the one that lies as far off as its neighbours
    do is the likeliest. A patch that was left out makes this less exact, not wrong.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[int, int]]] = {}

    def learn(self, diff: FileDiff, hunks: Sequence[HunkOutcome]) -> None:
        """Take in where the hunks of a patch were found."""
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
