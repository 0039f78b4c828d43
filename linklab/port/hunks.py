"""A file's hunks: each given its place, applied, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from linklab.port.diff import Hunk
from linklab.port.outcome import HunkOutcome, Status
from linklab.port.place import Place, find_place, find_there
from linklab.port.text import Edit, Text


@dataclass(frozen=True)
class Placed:
    """A hunk's place, None where it has none, and the line, from 0, where it was expected.

    `later` is the patch in whose form it is there.
    """

    hunk: Hunk
    place: Place | None
    expected: int
    later: int = 0


Forms = Callable[[Hunk], Iterable[tuple[int, Hunk]]]
"""What later patches make of a hunk's result."""


def _no_forms(_hunk: Hunk) -> Iterable[tuple[int, Hunk]]:
    return ()


def place_hunks(
    text: Text,
    hunks: Sequence[Hunk],
    *,
    fuzz: bool = True,
    shift: int = 0,
    forms: Forms = _no_forms,
) -> tuple[Placed, ...]:
    """Return the place of each hunk in a file.

    The first one is expected `shift` lines below its own line, each other one
    as far from its line as the one before it was.
    """
    found: list[Placed] = []
    drift = shift
    for hunk in hunks:
        taken = [each.place for each in found if each.place is not None]
        placed = _place(text, hunk, hunk.start + drift, taken, forms, fuzz=fuzz)
        found.append(placed)
        if placed.place is not None:
            # Lines up to where the hunk ends, in the patch and here.
            drift = placed.place.end + placed.place.skipped[1] - hunk.end
    return tuple(found)


def _place(
    text: Text, hunk: Hunk, expected: int, taken: Sequence[Place], forms: Forms, *, fuzz: bool
) -> Placed:
    place = find_place(text, hunk, expected, taken, fuzz=fuzz)
    if place is None or not place.is_exact:
        for later, form in forms(hunk):
            there = find_there(text, form, expected, taken)
            if there is not None and (place is None or there.is_exact):
                return Placed(hunk, there, expected, later)
    return Placed(hunk, place, expected)


def apply_hunks(text: Text, placed: Sequence[Placed]) -> Text:
    """Return a file with hunks applied; those that are there already change nothing."""
    found = ((each.place, each.hunk) for each in placed)
    return text.edited(
        [_edit(text, place, hunk) for place, hunk in found if place is not None and not place.there]
    )


def _edit(text: Text, place: Place, hunk: Hunk) -> Edit:
    before, behind = place.skipped
    olds = range(before, len(hunk.old) - behind)
    first = place.start - before
    kept = iter([text.is_own(first + at) for at in olds if at not in hunk.removed_at])
    news = range(before, len(hunk.new) - behind)
    own = bytes(at in hunk.added_at or next(kept) for at in news)
    return Edit(place.start, place.end, hunk.new[before : len(hunk.new) - behind], own)


def hunk_outcomes(placed: Sequence[Placed]) -> tuple[HunkOutcome, ...]:
    """Return what became of each hunk, given its place."""
    return tuple(_outcome(number, each) for number, each in enumerate(placed, 1))


def _outcome(number: int, placed: Placed) -> HunkOutcome:
    hunk, place = placed.hunk, placed.place
    if place is None:
        return HunkOutcome(number, Status.CONFLICT)
    first = place.start - place.skipped[0]
    offset = first - (hunk.new_start if place.there else hunk.start)
    if place.there:
        status = Status.THERE
    elif not place.is_exact:
        status = Status.FUZZ
    else:
        status = Status.OFFSET if offset else Status.CLEAN
    return HunkOutcome(number, status, first + 1, offset, place.fuzz, place.rivals, placed.later)


def as_merged(hunks: Sequence[HunkOutcome], *, is_there: bool) -> tuple[HunkOutcome, ...]:
    """Return what became of hunks that a three-way merge took over.

    `is_there` says that the merge changed nothing.
    """
    if is_there:
        return tuple(HunkOutcome(hunk.hunk, Status.THERE, hunk.line) for hunk in hunks)
    return tuple(
        HunkOutcome(hunk.hunk, Status.MERGED, hunk.line)
        if hunk.status in {Status.CONFLICT, Status.FUZZ}
        else hunk
        for hunk in hunks
    )


def notes_of(path: str, hunks: Sequence[HunkOutcome]) -> Iterator[str]:
    """Yield what was adapted, for a person; lines that only moved need no word each."""
    if all(hunk.status is Status.THERE for hunk in hunks):
        return
    for hunk in hunks:
        if said := _NOTES.get(hunk.status):
            yield f"{path}, hunk {hunk.hunk} of {len(hunks)}: {said(hunk)}"
        elif hunk.rivals:
            yield (
                f"{path}, hunk {hunk.hunk} of {len(hunks)}: at line {hunk.line}, the nearest of "
                f"{hunk.rivals + 1} places that fit"
            )


_NOTES: dict[Status, Callable[[HunkOutcome], str]] = {
    Status.FUZZ: lambda hunk: (
        f"at line {hunk.line}, with {hunk.fuzz} lines less context"
        if hunk.fuzz
        else f"at line {hunk.line}, no longer at the file's beginning or end"
    ),
    Status.THERE: lambda hunk: (
        f"there already at line {hunk.line}"
        + (f", as patch {hunk.later} leaves it" if hunk.later else "")
    ),
    Status.MERGED: lambda _hunk: "by a three-way merge",
}
