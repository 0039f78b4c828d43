"""A file's hunks: each given its place, applied, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from linklab.port.diff import Hunk
from linklab.port.outcome import HunkOutcome, Status
from linklab.port.place import Place, find_place
from linklab.port.text import Text


def place_hunks(
    text: Text, hunks: Sequence[Hunk], *, fuzz: bool = True
) -> tuple[Place | None, ...]:
    """Return the place of each hunk in a file, None for one that has none.

    Each is expected as far from its line as the one before it was.
    """
    found: list[Place | None] = []
    drift = 0
    for hunk in hunks:
        taken = [place for place in found if place is not None]
        place = find_place(text, hunk, hunk.start + drift, taken, fuzz=fuzz)
        found.append(place)
        if place is not None:
            drift = drift_after(hunk, place)
    return tuple(found)


def drift_after(hunk: Hunk, place: Place) -> int:
    """Return how far what follows a hunk is from where the patch has it."""
    return place.end + place.skipped[1] - hunk.end


def apply_hunks(text: Text, hunks: Sequence[Hunk], places: Sequence[Place | None]) -> Text:
    """Return a file with hunks applied; those that are there already change nothing."""
    pairs = [(p, h) for p, h in zip(places, hunks, strict=True) if p is not None and not p.there]
    lines = [(line, at in text.own) for at, line in enumerate(text.lines)]
    for place, hunk in sorted(pairs, key=lambda pair: pair[0].start, reverse=True):
        part = slice(place.start, place.end)
        lines[part] = _replaced(lines[part], hunk, place)
    own = frozenset(at for at, (_, is_own) in enumerate(lines) if is_own)
    return Text(b"".join(line for line, _ in lines), own)


def _replaced(
    lines: list[tuple[bytes, bool]], hunk: Hunk, place: Place
) -> list[tuple[bytes, bool]]:
    """Return the lines after a hunk, each with whether the series wrote it."""
    before, behind = place.skipped
    kept = (flag for at, (_, flag) in enumerate(lines, before) if at not in hunk.removed_at)
    new = range(before, len(hunk.new) - behind)
    return [(hunk.new[at], at in hunk.added_at or next(kept)) for at in new]


def hunk_outcomes(hunks: Sequence[Hunk], places: Sequence[Place | None]) -> tuple[HunkOutcome, ...]:
    """Return what became of each hunk, given its place."""
    pairs = zip(hunks, places, strict=True)
    return tuple(_outcome(number, hunk, place) for number, (hunk, place) in enumerate(pairs, 1))


def _outcome(number: int, hunk: Hunk, place: Place | None) -> HunkOutcome:
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
    return HunkOutcome(number, status, first + 1, offset, place.fuzz, place.rivals)


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
    Status.THERE: lambda hunk: f"there already at line {hunk.line}",
    Status.MERGED: lambda _hunk: "by a three-way merge",
}
