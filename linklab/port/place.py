"""Where the hunks of a diff fit into a file, or why they do not, and the file after them.

A hunk fits as it is, shifted, with less context, or its result is there already.
The rules are those of `git apply`: all lines must match; a hunk of a file's
first line fits at its beginning only, one without context behind it at its end
only; with less context the longer side gives way first (apply.c,
`apply_one_fragment`).  Where `git apply` would take the nearest of several
places, the function that the @@ line names decides first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property

from linklab.kernel.diff import Hunk, Lines, lines_of
from linklab.port.outcome import Conflict, Fault, HunkOutcome, PatchStatus

LEAST_CONTEXT = 1
"""Lines of context on each side that must match, where a hunk has any."""

# A line that names a function, as git finds it for the @@ line (userdiff.c): it
# begins at the margin and is no label.
_NAMING = re.compile(rb"^[A-Za-z_$](?![A-Za-z0-9_]*:\s*(?:$|/[/*]))")
_HEADING = 40  # bytes that distinguish two headings; git cuts them at 80
_STATEMENT = 2000  # bytes of the head of a function that are looked at
_WORD = re.compile(rb"[A-Za-z0-9]{3}")
# Lines that a hunk adds and the file has: so near, so many, or in so few places only.
_NEAR, _LONG, _FEW = 12, 3, 2
_AROUND = 3  # lines around the likeliest place that are compared, too


def is_telling(lines: Iterable[bytes]) -> bool:
    """Tell whether lines identify a place: they are more than braces and blank lines."""
    return any(_WORD.search(line) for line in lines)


Edit = tuple[int, int, Lines, bytes]
"""The lines from one to another of a text; those that replace them; which the series wrote."""


class Text:
    """The content of a text file, as lines. It never changes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._own = b""  # a flag for each line that the series wrote; empty: none

    @cached_property
    def lines(self) -> Lines:
        """The lines with their ends; the last may lack one."""
        return lines_of(self.content)

    def edited(self, edits: Iterable[Edit]) -> Text:
        """Return the text after edits that do not overlap."""
        lines = list(self.lines)
        own = bytearray(self._own or bytes(len(lines)))
        for start, end, new, flags in sorted(edits, key=lambda edit: edit[0], reverse=True):
            lines[start:end] = new
            own[start:end] = flags
        after = Text(b"".join(lines))
        after.lines, after._own = tuple(lines), bytes(own)
        return after

    def became(self, content: bytes) -> Text:
        """Return a content that this one was merged into, the new lines marked as the series'."""
        after = lines_of(content)
        matcher = SequenceMatcher(None, self.lines, after, autojunk=False)
        changes = (each for each in matcher.get_opcodes() if each[0] != "equal")
        return self.edited((a, b, after[c:d], b"\1" * (d - c)) for _, a, b, c, d in changes)

    def is_own(self, at: int) -> bool:
        """Tell whether the series wrote a line, from 0."""
        return at < len(self._own) and bool(self._own[at])

    def places_of(self, line: bytes) -> Sequence[int]:
        """Return where a line stands, from 0."""
        return self._where.get(line, ())

    @cached_property
    def _where(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for number, line in enumerate(self.lines):
            found.setdefault(line, []).append(number)
        return found

    def stands_at(self, wanted: Lines, at: int) -> bool:
        """Tell whether these lines stand at a place."""
        return 0 <= at <= len(self.lines) and self.lines[at : at + len(wanted)] == wanted

    def find(self, wanted: Lines) -> list[int]:
        """Return every place at which these lines stand, in order."""
        block, content = b"".join(wanted), self.content
        found: list[int] = []
        line = counted = 0
        at = content.find(block) if wanted else -1
        while at >= 0:
            line += content.count(b"\n", counted, at)
            counted = at
            if self.stands_at(wanted, line):  # else it begins or ends within a line
                found.append(line)
            at = content.find(block, at + 1)
        return found

    def heading_at(self, at: int) -> bytes:
        """Return the line that names the function before a place; empty at a file's beginning."""
        before = reversed(self.lines[:at])
        return next((line.strip() for line in before if _NAMING.match(line)), b"")

    def is_under(self, heading: bytes, at: int) -> bool:
        """Tell whether a place is in the function that a hunk's @@ line names.

        A heading that no function has, such as a label, says nothing.
        """
        return not _NAMING.match(heading) or _key(self.heading_at(at)) == _key(heading)

    def has_section(self, heading: bytes) -> bool:
        """Tell whether the file has the function that a line names, or what else has a body.

        A prototype has none, nor has a line of a Makefile or of prose.
        """
        block, at = b"\n" + _key(heading), -1
        content = b"\n" + self.content
        while (at := content.find(block, at + 1)) >= 0:
            if _has_body(content[at + 1 : at + _STATEMENT].split(b"\n")):
                return True
        return False


def _has_body(lines: Sequence[bytes]) -> bool:
    """Tell whether lines begin with the head of something that has a body.

    That is a brace before the statement ends, or lines that are indented.
    """
    for at, line in enumerate(lines):
        if b"{" in line:
            return True
        if line.rstrip().endswith(b";"):
            return False
        if at and line[:1] not in (b" ", b"\t"):
            return at > 1
    return len(lines) > 1


def _own_heading(hunk: Hunk) -> bytes:
    """Return the line that names the function of a hunk's first change; empty outside of one.

    The @@ line names the one before the hunk's first line. Where the hunk has the
    function's own line in front of its change, or lines that no function holds,
    it says nothing of the change.
    """
    lead = hunk.context[0]
    changed = hunk.old if lead in hunk.removed_at else hunk.new
    if _NAMING.match(b"".join(changed[lead : lead + 1])):
        return b""
    for line in reversed(hunk.old[:lead]):
        if _NAMING.match(line):
            return line.strip()
        if line.startswith((b"}", b"/*", b" *")):  # a function or a comment above it
            return b""
    return hunk.heading


def _key(heading: bytes) -> bytes:
    return heading[:_HEADING].rstrip()


# --- one hunk --------------------------------------------------------------------


@dataclass(frozen=True)
class _Try:
    """The lines to look for, after the context in `skipped` was given up before and behind them."""

    wanted: Lines
    skipped: tuple[int, int] = (0, 0)
    at_start: bool = False
    at_end: bool = False
    loose: bool = False


@dataclass(frozen=True)
class Place:
    """A place for a hunk: from `start` to `end` in the file's lines, from 0.

    `offset` is the distance from where it was expected, `skipped` the lines of
    context left out before and behind it, `loose` says that it is no longer at
    the file's beginning or end, `there` that the hunk's result stands there
    already. `rivals` counts other places that are as good.
    """

    start: int
    end: int
    offset: int
    skipped: tuple[int, int] = (0, 0)
    loose: bool = False
    there: bool = False
    rivals: int = 0

    @property
    def fuzz(self) -> int:
        """How many lines of context do not match."""
        return sum(self.skipped)

    @property
    def first(self) -> int:
        """Where the hunk begins, with the context that was left out."""
        return self.start - self.skipped[0]

    @property
    def is_exact(self) -> bool:
        """Whether all of the hunk's lines match, wherever it is."""
        return not (self.fuzz or self.loose)


def find_place(
    text: Text, hunk: Hunk, expected: int, taken: Sequence[Place] = (), *, fuzz: bool = True
) -> Place | None:
    """Return the best place for a hunk, or None where none is certain.

    `expected` is the line, from 0, where it should begin; `taken` are the
    places of the file's other hunks.  Without `fuzz` every line must match.
    """
    tries = zip(_tries(hunk, hunk.old, fuzz=fuzz), _tries(hunk, hunk.new, fuzz=fuzz), strict=True)
    for ahead, back in tries:
        fits = _best(text, hunk, ahead, expected, taken)
        if fits is not None and fits.offset == 0 and fits.is_exact:
            return fits
        places = [each for each in (fits, _there(text, hunk, back, expected, taken)) if each]
        if places:  # the nearer one; at the same place the one of more lines
            return min(places, key=lambda place: (abs(place.offset), place.start - place.end))
    return None


def find_there(text: Text, hunk: Hunk, expected: int, taken: Sequence[Place] = ()) -> Place | None:
    """Return where a hunk's result stands already, or None where that is not certain."""
    attempts = _tries(hunk, hunk.new, fuzz=True)
    places = (_there(text, hunk, attempt, expected, taken) for attempt in attempts)
    return next((place for place in places if place is not None), None)


def _tries(hunk: Hunk, wanted: Lines, *, fuzz: bool) -> Iterator[_Try]:
    lead, trail = hunk.context
    at_start, at_end = hunk.start == 0, trail == 0
    yield _Try(wanted, at_start=at_start, at_end=at_end)
    ends_file = any(lines and not lines[-1].endswith(b"\n") for lines in (hunk.old, hunk.new))
    if not fuzz or ends_file:  # a last line without an end must stay the last one
        return
    loose = at_start or at_end
    if loose:
        yield _Try(wanted, loose=True)
    before = behind = 0
    while max(lead - before, trail - behind) > LEAST_CONTEXT:
        if lead - before >= trail - behind:
            before += 1
        if trail - behind > lead - before:
            behind += 1
        yield _Try(wanted[before : len(wanted) - behind], (before, behind), loose=loose)


def _there(
    text: Text, hunk: Hunk, attempt: _Try, expected: int, taken: Sequence[Place]
) -> Place | None:
    """Return where a hunk's result stands, if it is certainly its own and not a twin's.

    A change that is taken for done is dropped, so this asks for more than applying it does.
    """
    place = _best(text, hunk, attempt, expected, taken)
    if place is None or (place.rivals and (place.offset or not place.is_exact)):
        return None
    # A function that has another name by now needs lines that identify it, and so does a
    # place with less context.
    is_elsewhere = place.offset and not text.is_under(hunk.heading, place.start)
    if is_elsewhere and not place.is_exact:
        return None
    if (is_elsewhere or not place.is_exact) and not is_telling(hunk.added):
        return None
    # What an earlier patch of the series wrote is that patch's, not this one's.
    if any(text.is_own(place.first + at) for at in hunk.added_at):
        return None
    return replace(place, there=True)


def _best(
    text: Text, hunk: Hunk, attempt: _Try, expected: int, taken: Sequence[Place]
) -> Place | None:
    """Return where these lines stand: where they should, else in their function, else nearest.

    Not in another function while their own is in the file as well, and not
    with less context in one of several places.
    """
    wanted, skipped = attempt.wanted, attempt.skipped
    at, size = expected + skipped[0], len(wanted)

    def is_free(start: int) -> bool:
        return all(start + size <= place.start or start >= place.end for place in taken)

    # The usual case needs no search of the file; twins elsewhere lose to it anyway.
    is_bound = attempt.at_start or attempt.at_end
    if wanted and not is_bound and text.stands_at(wanted, at) and is_free(at):
        return Place(at, at + size, 0, skipped, attempt.loose)
    # First those where they should be (0), then those in their function, then others (2).
    ranked = sorted(
        (0 if s == at else 1 if text.is_under(hunk.heading, s) else 2, abs(s - at), s)
        for s in _starts(text, attempt)
        if is_free(s)
    )
    if not ranked:
        return None
    rank, distance, start = ranked[0]
    rivals = sum(other[0] == rank for other in ranked[1:]) if distance else 0
    if rank == 2 and _is_elsewhere(text, hunk, start - skipped[0]):
        return None
    if any(skipped) and distance and (rivals or not is_telling(wanted)):
        return None
    return Place(start, start + size, start - at, skipped, attempt.loose, rivals=rivals)


def _is_elsewhere(text: Text, hunk: Hunk, first: int) -> bool:
    """Tell whether a hunk's change would go into another function than its own, which is there."""
    own = _own_heading(hunk)
    return not text.is_under(own, first + hunk.context[0]) and text.has_section(own)


def _starts(text: Text, attempt: _Try) -> list[int]:
    wanted, end = attempt.wanted, len(text.lines) - len(attempt.wanted)
    if not wanted:  # without a line to compare, any place would do
        return [] if text.lines else [0]
    if attempt.at_start and attempt.at_end:
        return [0] if text.lines == wanted else []
    if attempt.at_start or attempt.at_end:
        bound = 0 if attempt.at_start else end
        return [bound] if text.stands_at(wanted, bound) else []
    return text.find(wanted)


# --- all hunks of a file ---------------------------------------------------------


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


def place_hunks(
    text: Text,
    hunks: Sequence[Hunk],
    *,
    fuzz: bool = True,
    shift: int = 0,
    forms: Forms = lambda _hunk: (),
) -> tuple[Placed, ...]:
    """Return the place of each hunk in a file.

    The first one is expected `shift` lines below its own line, each other one
    as far from its line as the one before it was.
    """
    found: list[Placed] = []
    taken: list[Place] = []
    for hunk in hunks:
        each = _place(text, hunk, hunk.start + shift, taken, forms, fuzz=fuzz)
        found.append(each)
        if each.place is not None:
            taken.append(each.place)
            # Lines up to where the hunk ends, in the patch and here.
            shift = each.place.end + each.place.skipped[1] - hunk.end
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


def apply_hunks(text: Text, placed: Iterable[Placed]) -> Text:
    """Return a file with hunks applied; those that are there already change nothing."""
    edits: list[Edit] = []
    for hunk, place in ((each.hunk, each.place) for each in placed):
        if place is None or place.there:
            continue
        before, behind = place.skipped
        olds = range(before, len(hunk.old) - behind)
        news = range(before, len(hunk.new) - behind)
        kept = iter([text.is_own(place.first + at) for at in olds if at not in hunk.removed_at])
        own = bytes(at in hunk.added_at or next(kept) for at in news)
        edits.append((place.start, place.end, hunk.new[news.start : news.stop], own))
    return text.edited(edits)


def doubled(text: Text, placed: Sequence[Placed]) -> Iterator[tuple[int, int]]:
    """Yield the hunks, by number, that add lines which a file has, and the line where they stand.

    Only the context tells such a hunk from one that is there already. Short runs
    of lines count near the hunk's place only; those that come more often, that
    the series wrote or removes, or that the hunk itself shows, do not.
    """
    places = [each.place for each in placed]
    gone = {
        place.first + at
        for each, place in zip(placed, places, strict=True)
        if place and not place.there
        for at in each.hunk.removed_at
    }
    for number, (each, place) in enumerate(zip(placed, places, strict=True), 1):
        if place is None or place.there:
            continue
        known = gone | set(range(place.start, place.end))
        for block, at in each.hunk.changes:
            core = _core(each.hunk.new[at : at + block.added])
            if block.removed or not core:
                continue
            here = place.first + block.start - each.hunk.start
            found = [
                start
                for start in text.find(core)
                if not any(n in known or text.is_own(n) for n in range(start, start + len(core)))
            ]
            nearest = min(found, key=lambda start: abs(start - here), default=0)
            is_near = abs(nearest - here) <= _NEAR or sum(is_telling([c]) for c in core) >= _LONG
            if 0 < len(found) <= _FEW and is_near:
                yield number, nearest + 1
                break


def _core(lines: Lines) -> Lines:
    """Return lines without those at either end that are like many others."""
    telling = [at for at, line in enumerate(lines) if is_telling([line])]
    return lines[telling[0] : telling[-1] + 1] if telling else ()


def hunk_outcomes(placed: Iterable[Placed]) -> tuple[HunkOutcome, ...]:
    """Return the outcome of each hunk, given its place."""
    return tuple(_outcome(number, each) for number, each in enumerate(placed, 1))


def _outcome(number: int, placed: Placed) -> HunkOutcome:
    hunk, place = placed.hunk, placed.place
    if place is None:
        return HunkOutcome(number, PatchStatus.CONFLICT)
    offset = place.first - (hunk.new_start if place.there else hunk.start)
    if place.there:
        status = PatchStatus.THERE
    elif not place.is_exact:
        status = PatchStatus.FUZZ
    else:
        status = PatchStatus.OFFSET if offset else PatchStatus.CLEAN
    line, later = place.first + 1, placed.later
    return HunkOutcome(number, status, line, offset, place.fuzz, place.rivals, later)


# --- a hunk without a place ------------------------------------------------------


def shown(lines: Lines) -> tuple[str, ...]:
    """Return lines as text, without their ends."""
    return tuple(line.decode(errors="replace").rstrip("\r\n") for line in lines)


def explain(path: str, text: Text, hunk: Hunk, number: int, hunks: int, expected: int) -> Conflict:
    """Return why a hunk, the `number`th of `hunks`, does not fit into a file."""

    def conflict(
        fault: Fault, why: str, line: int, wanted: Lines = (), there: Lines = ()
    ) -> Conflict:
        return Conflict(path, fault, why, number, hunks, line + 1, shown(wanted), shown(there))

    if not hunk.old:
        return conflict(Fault.TEXT, "it has no context that says where it belongs", expected)
    if places := text.find(hunk.old):
        own = _own_heading(hunk)
        if all(text.is_under(own, place + hunk.context[0]) for place in places):
            lines = ", ".join(str(place + 1) for place in places)
            why = f"it fits at lines {lines}, where other hunks go"
            return conflict(Fault.UNSURE, why, places[0])
        other = text.heading_at(places[0]).decode(errors="replace")
        why = (
            f"it fits only under `{other or 'the beginning of the file'}`, and is meant for "
            f"`{own.decode(errors='replace')}`"
        )
        return conflict(Fault.ELSEWHERE, why, places[0])
    likely = _likeliest(text, hunk.old, expected)
    if likely is None:  # perhaps the white space differs everywhere
        likely = _likeliest(Text(_squeezed(text.lines)), lines_of(_squeezed(hunk.old)), expected)
    if likely is None:
        at = min(max(expected, 0), len(text.lines))
        wanted = hunk.removed or hunk.old
        return conflict(Fault.TEXT, "none of its lines is in the file", at, wanted)
    start = max(likely - _AROUND, 0)
    window = text.lines[start : likely + len(hunk.old) + _AROUND]
    at, wanted, there = _difference(hunk.old, window, likely - start)
    if _squeezed(hunk.old) in _squeezed(window):
        why = "it differs in white space only"
    elif set(wanted) & set(hunk.removed):
        why = "the lines that it changes are other ones"
    else:
        why = "the lines around its change are other ones"
    return conflict(Fault.TEXT, why, start + at, wanted, there)


def _likeliest(text: Text, wanted: Lines, expected: int) -> int | None:
    """Return where most of some lines stand, rare ones counting more; None if none does."""
    votes: dict[int, float] = {}
    for at, line in enumerate(wanted):
        places = text.places_of(line) if is_telling([line]) else ()
        for place in places:
            votes[place - at] = votes.get(place - at, 0.0) + 1 / len(places)
    if not votes:
        return None
    # What differs in length shifts the lines behind it: neighbours stand for the same place.
    near = {at: sum(votes.get(at + d, 0.0) / (1 + abs(d)) for d in range(-3, 4)) for at in votes}
    return min(near, key=lambda at: (-near[at], abs(at - expected)))


def _squeezed(lines: Lines) -> bytes:
    return b"".join(b"".join(line.split()) + b"\n" for line in lines)


def _difference(wanted: Lines, window: Lines, likely: int) -> tuple[int, Lines, Lines]:
    """Return the line at which the differences begin, what was wanted there, and what is there.

    `likely` is where in the window the wanted lines should be.
    """
    matcher = SequenceMatcher(None, wanted, window, autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    if not blocks:
        return likely, wanted, window[likely : likely + len(wanted)]
    first, last = blocks[0], blocks[-1]
    # In front of the first line in common, and behind the last one, as much as the hunk has there.
    start = max(first.b - first.a, 0) if first.a else first.b + first.size
    lead = 0 if first.a else first.size
    rest = len(wanted) - last.a - last.size
    end = min(last.b + last.size + rest, len(window)) if rest else last.b
    trail = len(wanted) if rest else last.a
    return start, wanted[lead:trail], window[start:end]
