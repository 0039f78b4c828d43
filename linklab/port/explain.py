"""Why a hunk has no place: what it looks for, and what stands there instead."""

from __future__ import annotations

from difflib import SequenceMatcher

from linklab.port.diff import Hunk, Lines
from linklab.port.outcome import Conflict, Fault
from linklab.port.text import Text, tells

_AROUND = 3  # lines around the likeliest place that are compared too


def shown(lines: Lines) -> tuple[str, ...]:
    """Return lines as text, without their ends."""
    return tuple(line.decode(errors="replace").rstrip("\r\n") for line in lines)


def explain(path: str, text: Text, hunk: Hunk, number: int, hunks: int, expected: int) -> Conflict:
    """Return why a hunk, the `number`th of `hunks`, does not fit into a file."""

    def conflict(
        fault: Fault, why: str, line: int, wanted: Lines = (), there: Lines = ()
    ) -> Conflict:
        return Conflict(path, fault, why, number, hunks, line + 1, shown(wanted), shown(there))

    places = text.find(hunk.old)
    if not hunk.old:
        return conflict(Fault.TEXT, "it has no context that says where it belongs", expected)
    if places:
        return conflict(*_in_wrong_place(text, hunk, places))
    likely = _likeliest(text, hunk.old, expected)
    if likely is None:  # perhaps the white space differs everywhere
        bare = Text(_squeezed(text.lines))
        likely = _likeliest(bare, Text(_squeezed(hunk.old)).lines, expected)
    if likely is None:
        at = min(max(expected, 0), len(text.lines))
        return conflict(
            Fault.TEXT, "none of its lines is in the file", at, hunk.removed or hunk.old
        )
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


def _in_wrong_place(text: Text, hunk: Hunk, places: list[int]) -> tuple[Fault, str, int]:
    """Return what to say of a hunk that fits, but not where it should."""
    own = hunk.heading.decode(errors="replace")
    if all(text.is_under(hunk.heading, place) for place in places):
        lines = ", ".join(str(place + 1) for place in places)
        return Fault.UNSURE, f"it fits at lines {lines}, where other hunks go", places[0]
    other = text.heading_at(places[0]).decode(errors="replace") or "the beginning of the file"
    why = f"it fits only under `{other}`, and is meant for `{own}`"
    return Fault.ELSEWHERE, why, places[0]


def _likeliest(text: Text, wanted: Lines, expected: int) -> int | None:
    """Return where most of some lines stand, rare ones counting more; None if none does."""
    votes: dict[int, float] = {}
    for at, line in enumerate(wanted):
        places = text.places_of(line) if tells([line]) else ()
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
