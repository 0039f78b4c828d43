"""Where a hunk fits into a file: as it is, shifted, with less context, or there already.

The rules are those of `git apply`: all lines must match; a hunk of a file's
first line fits at its beginning only, one without context behind it at its end
only; with less context the longer side gives way first (apply.c,
`apply_one_fragment`).  Where `git apply` would take the nearest of several
places, the function that the @@ line names decides first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from linklab.port.diff import Hunk, Lines
from linklab.port.text import Text, tells

LEAST_CONTEXT = 1
"""Lines of context on each side that must match, where a hunk has any."""


@dataclass(frozen=True)
class Place:
    """A place for a hunk: from `start` to `end` in the file's lines, from 0.

    `there` says that the hunk's result stands there already. `offset` is the
    distance from where it was expected, `fuzz` the lines of context that do
    not match, `loose` that it is no longer at the file's beginning or end.
    `skipped` are the lines of context left out before and behind it. `rivals`
    counts other places that are as good.
    """

    start: int
    end: int
    offset: int
    fuzz: int = 0
    loose: bool = False
    there: bool = False
    skipped: tuple[int, int] = (0, 0)
    rivals: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether all of the hunk's lines match, wherever it is."""
        return not (self.fuzz or self.loose)


@dataclass(frozen=True)
class _Try:
    """The lines to look for after some context was given up."""

    wanted: Lines
    fuzz: int = 0
    skipped: tuple[int, int] = (0, 0)
    at_start: bool = False
    at_end: bool = False
    loose: bool = False


def find_place(
    text: Text, hunk: Hunk, expected: int, taken: Sequence[Place] = (), *, fuzz: bool = True
) -> Place | None:
    """Return the best place for a hunk, or None where it has none that is certain.

    `expected` is the line, from 0, where it should begin; `taken` are the
    places of the file's other hunks.  Without `fuzz` every line must match.
    """
    tries = zip(_tries(hunk, hunk.old, fuzz=fuzz), _tries(hunk, hunk.new, fuzz=fuzz), strict=True)
    for ahead, back in tries:
        fits = _best(text, hunk, ahead, expected, taken)
        if fits is not None and fits.offset == 0 and fits.is_exact:
            return fits
        stands = _there(text, hunk, back, expected, taken)
        if fits is not None or stands is not None:
            return _better(fits, stands)
    return None


def find_there(text: Text, hunk: Hunk, expected: int, taken: Sequence[Place] = ()) -> Place | None:
    """Return where a hunk's result stands already, or None where that is not certain."""
    attempts = _tries(hunk, hunk.new, fuzz=True)
    places = (_there(text, hunk, attempt, expected, taken) for attempt in attempts)
    return next((place for place in places if place is not None), None)


def _tries(hunk: Hunk, wanted: Lines, *, fuzz: bool) -> Iterator[_Try]:
    lead, trail = hunk.context
    bound = (hunk.start == 0, trail == 0)
    yield _Try(wanted, at_start=bound[0], at_end=bound[1])
    ends_file = any(lines and not lines[-1].endswith(b"\n") for lines in (hunk.old, hunk.new))
    if not fuzz or ends_file:  # a last line without an end must stay the last one
        return
    if any(bound):
        yield _Try(wanted, loose=True)
    before = behind = 0
    while max(lead - before, trail - behind) > LEAST_CONTEXT:
        if lead - before >= trail - behind:
            before += 1
        if trail - behind > lead - before:
            behind += 1
        shorter = wanted[before : len(wanted) - behind]
        yield _Try(shorter, before + behind, (before, behind), loose=any(bound))


def _better(fits: Place | None, stands: Place | None) -> Place | None:
    """Return the nearer one; at the same place the one that more lines speak for."""
    if fits is None or stands is None:
        return fits or stands
    places = (fits, stands)
    return min(places, key=lambda place: (abs(place.offset), place.start - place.end))


def _there(
    text: Text, hunk: Hunk, attempt: _Try, expected: int, taken: Sequence[Place]
) -> Place | None:
    """Return where a hunk's result stands, if it is certain to be its own and not a twin's.

    Who takes a change for done drops it, so more is asked than for doing it.
    """
    place = _best(text, hunk, attempt, expected, taken)
    if place is None or (place.rivals and place.offset):
        return None
    # A function that has another name by now needs lines that speak for themselves.
    is_elsewhere = place.offset and not text.is_under(hunk.heading, place.start)
    if is_elsewhere and not (place.is_exact and tells(hunk.added)):
        return None
    # What an earlier patch of the series wrote is that patch's, not this one's.
    first = place.start - place.skipped[0]
    if any(text.is_own(first + at) for at in hunk.added_at):
        return None
    # With less context the added lines themselves must say what they are.
    if not place.is_exact and (place.rivals or not tells(hunk.added)):
        return None
    return replace(place, there=True)


def _best(
    text: Text, hunk: Hunk, attempt: _Try, expected: int, taken: Sequence[Place]
) -> Place | None:
    """Return where these lines stand: where they should, else in their function, else nearest.

    Not in another function while their own is in the file as well, and not
    with less context in one of several places.
    """
    at, size = expected + attempt.skipped[0], len(attempt.wanted)
    # The usual case needs no index of the file; twins elsewhere lose to it anyway.
    starts = [at] if attempt.wanted and text.stands_at(attempt.wanted, at) else []
    if not starts or attempt.at_start or attempt.at_end or not _is_free(at, at + size, taken):
        starts = _starts(text, attempt)
    free = [s for s in starts if _is_free(s, s + size, taken)]
    if not free:
        return None
    ranked = sorted((_rank(text, hunk, s, at), abs(s - at), s) for s in free)
    rank, distance, start = ranked[0]
    rivals = sum(1 for other in ranked[1:] if other[0] == rank) if distance else 0
    if rank == _ELSEWHERE and text.has_heading(hunk.heading):
        return None
    if attempt.fuzz and distance and (rivals or not tells(attempt.wanted)):
        return None
    return Place(
        start,
        start + size,
        start - at,
        attempt.fuzz,
        attempt.loose,
        skipped=attempt.skipped,
        rivals=rivals,
    )


_ELSEWHERE = 2


def _rank(text: Text, hunk: Hunk, start: int, at: int) -> int:
    if start == at:
        return 0
    return 1 if text.is_under(hunk.heading, start) else _ELSEWHERE


def _starts(text: Text, attempt: _Try) -> list[int]:
    wanted, end = attempt.wanted, len(text.lines) - len(attempt.wanted)
    if not wanted:  # without a line to go by, any place would do
        return [] if text.lines else [0]
    if attempt.at_start and attempt.at_end:
        return [0] if text.lines == wanted else []
    if attempt.at_start or attempt.at_end:
        bound = 0 if attempt.at_start else end
        return [bound] if text.stands_at(wanted, bound) else []
    return text.find(wanted)


def _is_free(start: int, end: int, taken: Sequence[Place]) -> bool:
    return all(end <= place.start or start >= place.end for place in taken)
