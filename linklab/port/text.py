"""A file's lines, and where in them a run of lines stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from linklab.port.diff import Lines

# A line that names a function, as git finds it for the @@ line (userdiff.c): it
# begins at the margin and is no label.
_NAMING = re.compile(rb"^[A-Za-z_$](?![A-Za-z0-9_]*:\s*(?:$|/[/*]))")
_HEADING = 40  # bytes that tell two headings apart; git cuts them at 80
_WORD = re.compile(rb"[A-Za-z0-9]{3}")


@dataclass(frozen=True)
class Edit:
    """Lines `start` to `end` of a text become `lines`; `own` flags those that the series wrote."""

    start: int
    end: int
    lines: Lines
    own: bytes


class Text:
    """The content of a text file, as lines. It never changes."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self._lines: Lines | None = None
        self._own = b""  # a flag for each line that the series wrote; empty: none

    @property
    def content(self) -> bytes:
        """Its bytes."""
        if self._content is None:
            self._content = b"".join(self._lines or ())
        return self._content

    @property
    def lines(self) -> Lines:
        """The lines with their ends; the last may lack one."""
        if self._lines is None:
            parts = (self._content or b"").split(b"\n")
            last = (parts[-1],) if parts[-1] else ()
            self._lines = (*(part + b"\n" for part in parts[:-1]), *last)
        return self._lines

    def edited(self, edits: Sequence[Edit]) -> Text:
        """Return the text after edits, none of which overlap."""
        lines = list(self.lines)
        own = bytearray(self._own or bytes(len(lines)))
        for edit in sorted(edits, key=lambda each: each.start, reverse=True):
            lines[edit.start : edit.end] = edit.lines
            own[edit.start : edit.end] = edit.own
        after = Text(b"")
        after._content, after._lines, after._own = None, tuple(lines), bytes(own)
        return after

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

    def became(self, content: bytes) -> Text:
        """Return a content that this one was merged into, the new lines marked as the series'."""
        after = Text(content).lines
        matcher = SequenceMatcher(None, self.lines, after, autojunk=False)
        changes = (each for each in matcher.get_opcodes() if each[0] != "equal")
        return self.edited([Edit(a, b, after[c:d], b"\1" * (d - c)) for _, a, b, c, d in changes])

    def heading_at(self, at: int) -> bytes:
        """Return the line that names the function before a place; empty at a file's beginning."""
        lines = self.lines
        for number in range(min(at, len(lines)) - 1, -1, -1):
            if _NAMING.match(lines[number]):
                return lines[number].strip()
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
        key = _key(heading)
        return self.content.startswith(key) or b"\n" + key in self.content


def _key(heading: bytes) -> bytes:
    return heading[:_HEADING].rstrip()


def tells(lines: Sequence[bytes]) -> bool:
    """Tell whether lines say enough to know a place by: more than braces and blank lines."""
    return any(_WORD.search(line) for line in lines)
