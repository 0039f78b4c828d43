"""What to test next, and when it is known: `git bisect`'s own rules. Pure.

A history says, for a bad revision and some good ones, which revisions are
suspects and how well each would split them; git computes that for a tree, see
`linklab/bisect/history.py`. Here is what follows from it, skips included.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2, sqrt

_LCG = (1103515245, 12345)  # of POSIX.1-2001's example of rand(), as git's own
_MODULO = 32768


class Mark(StrEnum):
    """What a test says of one revision, in git's words."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@dataclass(frozen=True)
class Suspect:
    """A revision that may be the first bad one.

    `distance` is how many suspects are left, at least, whatever its test says.
    """

    revision: str
    distance: int


@dataclass(frozen=True)
class Test:
    """A revision to be tested next; `suspects` are left, itself among them."""

    __test__ = False  # pytest need not look into it

    revision: str
    suspects: int
    steps: int


@dataclass(frozen=True)
class Found:
    """The first bad revision."""

    revision: str


@dataclass(frozen=True)
class Unclear:
    """The first bad revision is one of these: what is left of them cannot be tested."""

    revisions: tuple[str, ...]


Next = Test | Found | Unclear


def decide(suspects: Sequence[Suspect], bad: str, skipped: Collection[str]) -> Next:
    """Return what to test next, or what is found.

    `suspects` are the ancestors of `bad`, and `bad` itself, that are no
    ancestors of a good one; the best to test first, as `git rev-list
    --bisect-all` lists them.
    """
    others = [each for each in suspects if each.revision != bad]
    if not others:
        return Found(bad)
    open_ones = [each for each in others if each.revision not in skipped]
    if not open_ones:
        return Unclear(tuple(each.revision for each in suspects))
    chosen = open_ones[0]
    if others[0].revision in skipped:
        chosen = _away(open_ones)
    return Test(chosen.revision, len(suspects), steps_left(len(suspects)))


def _away(suspects: Sequence[Suspect]) -> Suspect:
    """Return one at some distance from the best, as git does once that was skipped.

    What cannot be tested often comes in a row, so its neighbours are poor
    choices; the pseudo-random number depends on what is left alone, so the
    same bisection goes the same way again.
    """
    count = len(suspects)
    number = ((count * _LCG[0] + _LCG[1]) // 65536) % _MODULO
    index = int(count * number // _MODULO * sqrt(number) / sqrt(_MODULO))
    return suspects[index]


def steps_left(suspects: int) -> int:
    """Return how many more tests it takes, about, if none of them is skipped."""
    return ceil(log2(suspects)) if suspects > 1 else 0
