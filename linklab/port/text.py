"""A file's lines, and where in them a run of lines stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from difflib import SequenceMatcher
from functools import cached_property

from linklab.port.diff import Lines

# A line that names a function, as git finds it for the @@ line (userdiff.c): it
# begins at the margin and is no label.
_NAMING = re.compile(rb"^[A-Za-z_$](?![A-Za-z0-9_]*:\s*(?:$|/[/*]))")
_HEADING = 40  # bytes that tell two headings apart; git cuts them at 80
_WORD = re.compile(rb"[A-Za-z0-9]{3}")


class Text:
    """The content of a text file, as lines. `own` are the lines, from 0, that the series wrote."""

    def __init__(self, content: bytes, own: AbstractSet[int] = frozenset()) -> None:
        self.content = content
        self.own = own

    @cached_property
    def lines(self) -> Lines:
        """The lines with their ends; the last may lack one."""
        parts = self.content.split(b"\n")
        return (*(part + b"\n" for part in parts[:-1]), *([parts[-1]] if parts[-1] else []))

    @cached_property
    def _where(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for number, line in enumerate(self.lines):
            found.setdefault(line, []).append(number)
        return found

    def places_of(self, line: bytes) -> Sequence[int]:
        """Return where a line stands, from 0."""
        return self._where.get(line, ())

    def stands_at(self, wanted: Lines, at: int) -> bool:
        """Tell whether these lines stand at a place."""
        return 0 <= at <= len(self.lines) and self.lines[at : at + len(wanted)] == wanted

    def find(self, wanted: Lines) -> list[int]:
        """Return every place at which these lines stand, in order."""
        if not wanted:
            return []
        rarest = min(range(len(wanted)), key=lambda n: len(self.places_of(wanted[n])))
        starts = (place - rarest for place in self.places_of(wanted[rarest]))
        return [start for start in starts if self.stands_at(wanted, start)]

    def became(self, content: bytes) -> Text:
        """Return a content that this one was merged into, the new lines marked as the series'."""
        after = Text(content)
        matcher = SequenceMatcher(None, self.lines, after.lines, autojunk=False)
        own: set[int] = set()
        for kind, first, _, start, end in matcher.get_opcodes():
            if kind == "equal":
                shift = start - first
                own.update(at for at in range(start, end) if at - shift in self.own)
            else:
                own.update(range(start, end))
        return Text(content, own)

    def heading_at(self, at: int) -> bytes:
        """Return the line that names the function before a place; empty at a file's beginning."""
        for line in reversed(self.lines[:at]):
            if _NAMING.match(line):
                return line.strip()
        return b""

    def is_under(self, heading: bytes, at: int) -> bool:
        """Tell whether a place is in the function that a hunk's @@ line names.

        A heading that no function has, such as a label, says nothing.
        """
        if not _NAMING.match(heading):
            return True
        return _key(self.heading_at(at)) == _key(heading)

    def has_heading(self, heading: bytes) -> bool:
        """Tell whether the function that a hunk's @@ line names is in the file at all."""
        return any(line.startswith(_key(heading)) for line in self.lines)


def _key(heading: bytes) -> bytes:
    return heading[:_HEADING].rstrip()


def tells(lines: Sequence[bytes]) -> bool:
    """Tell whether lines say enough to know a place by: more than braces and blank lines."""
    return any(_WORD.search(line) for line in lines)
