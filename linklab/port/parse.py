"""A diff's text, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from linklab.port.diff import (
    REGULAR,
    Binary,
    DiffError,
    FileDiff,
    Hunk,
    inside,
    made_hunk,
    path_of,
    unquoted,
)

_GIT = b"diff --git "
_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_INDEX = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)(?: (\d+))?")
_NO_CONTENT = re.compile(rb"^Binary files .* differ\r?\n?$")
_BINARY = re.compile(rb"^(literal|delta) (\d+)\r?\n?$")
# diff(1) gives a file that is not there the time 0, in the time zone of whoever ran it.
_EPOCH = re.compile(rb"\t(?:1969-12-31|1970-01-01) \d\d:\d\d(?::00(?:\.0+)?)?(?: [-+]\d{4})?\s*$")


def parse_diff(content: bytes) -> tuple[FileDiff, ...]:
    """Return what a patch does to each file, in its order; text around it is passed over.

    Raises `DiffError` for a hunk that is cut short or counts its lines wrongly.
    """
    reader = _Reader(content)
    found: list[FileDiff] = []
    while not reader.at_end:
        if reader.line.startswith(_GIT):
            found.append(_git_diff(reader))
        elif reader.line.startswith(b"--- ") and reader.next_line.startswith(b"+++ "):
            found.append(_plain_diff(reader))
        else:
            reader.take()
    return tuple(found)


class _Reader:
    """Lines one after the other, with their ends. Only a newline ends a line here."""

    def __init__(self, content: bytes) -> None:
        parts = content.split(b"\n")
        self._lines = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._lines)

    @property
    def line(self) -> bytes:
        return self._lines[self._at] if not self.at_end else b""

    @property
    def next_line(self) -> bytes:
        return self._lines[self._at + 1] if self._at + 1 < len(self._lines) else b""

    @property
    def number(self) -> int:
        """The present line's number, from 1, for errors."""
        return self._at + 1

    def take(self) -> bytes:
        line = self.line
        self._at += 1
        return line


@dataclass
class _Header:
    """What git's extended header says, as it is read."""

    old: str | None
    new: str | None
    old_mode: int | None = None
    new_mode: int | None = None
    old_blob: str = ""
    new_blob: str = ""
    is_copy: bool = False
    creates: bool = False
    deletes: bool = False
    lacks_content: bool = False
    binary: Binary | None = None
    hunks: list[Hunk] = field(default_factory=list)

    def take(self, line: bytes) -> bool:
        """Take in a line; tell whether it was one of a header."""
        text = line.rstrip(b"\r\n")
        for word, name in _MODES:
            if text.startswith(word):
                setattr(self, name, int(text[len(word) :], 8))
                self.creates |= word.startswith(b"new file")
                self.deletes |= word.startswith(b"deleted")
                return True
        for word, name in _NAMES:
            if text.startswith(word):
                setattr(self, name, _name(text[len(word) :]))
                self.is_copy |= word.startswith(b"copy")
                return True
        if match := _INDEX.match(text):
            self.old_blob, self.new_blob = match[1].decode(), match[2].decode()
            if match[3]:
                self.old_mode = self.new_mode = int(match[3], 8)
            return True
        return text.startswith((b"similarity index ", b"dissimilarity index "))

    def made(self) -> FileDiff:
        old = None if self.creates else self.old
        new = None if self.deletes else self.new
        return FileDiff(
            old,
            new,
            tuple(self.hunks),
            self.old_mode if old is not None else None,
            (self.new_mode or (REGULAR if old is None else None)) if new is not None else None,
            self.old_blob.rstrip("0") and self.old_blob,
            self.new_blob.rstrip("0") and self.new_blob,
            self.is_copy,
            self.binary,
            self.lacks_content,
        )


_MODES = (
    (b"old mode ", "old_mode"),
    (b"new mode ", "new_mode"),
    (b"new file mode ", "new_mode"),
    (b"deleted file mode ", "old_mode"),
)
_NAMES = (
    (b"rename from ", "old"),
    (b"rename to ", "new"),
    (b"copy from ", "old"),
    (b"copy to ", "new"),
)


def _name(raw: bytes) -> str:
    return inside(unquoted(raw)[0] if raw.startswith(b'"') else raw)


def _git_diff(reader: _Reader) -> FileDiff:
    where = reader.number
    old, new = _both_names(reader.take()[len(_GIT) :].rstrip(b"\r\n"))
    header = _Header(old, new)
    while header.take(reader.line):
        reader.take()
    if reader.line.startswith(b"--- ") and reader.next_line.startswith(b"+++ "):
        before, after = path_of(reader.take()[4:]), path_of(reader.take()[4:])
        header.creates |= before is None
        header.deletes |= after is None
        header.old, header.new = before or header.old, after or header.new
        header.hunks += _hunks(reader)
    elif reader.line.startswith(b"GIT binary patch"):
        reader.take()
        header.binary = _binary(reader)
    elif _NO_CONTENT.match(reader.line):
        reader.take()
        header.lacks_content = True
    if header.old is None or header.new is None:
        raise DiffError(f"line {where} of the diff names no file")
    return header.made()


def _both_names(rest: bytes) -> tuple[str | None, str | None]:
    """Return the names on a `diff --git` line, where they can be told apart.

    Nothing marks where the first ends, unless it is in quotes; but both are
    the same unless the header names them once more.
    """
    if rest.startswith(b'"'):
        first, tail = unquoted(rest)
        second = unquoted(tail.lstrip())[0] if tail.lstrip().startswith(b'"') else tail.lstrip()
    else:
        middle = len(rest) // 2
        first, second = rest[:middle], rest[middle + 1 :]
    old, new = first.partition(b"/")[2], second.partition(b"/")[2]
    return (inside(old), inside(new)) if old == new and old else (None, None)


def _plain_diff(reader: _Reader) -> FileDiff:
    before, after = reader.take()[4:], reader.take()[4:]
    hunks = _hunks(reader)
    old, new = path_of(before), path_of(after)
    one = hunks[0] if len(hunks) == 1 else None
    if old is not None and _EPOCH.search(before) and one and not one.old:
        old = None
    if new is not None and _EPOCH.search(after) and one and not one.new:
        new = None
    if old is not None and new is not None:
        old = new = _shorter(old, new)
    return FileDiff(old, new, hunks, new_mode=REGULAR if old is None else None)


def _shorter(old: str, new: str) -> str:
    """Return which of two names counts, as git-apply picks it: `a.c` rather than `a.c.orig`."""
    return old if len(old) < len(new) else new


def _hunks(reader: _Reader) -> tuple[Hunk, ...]:
    found: list[Hunk] = []
    while match := _HUNK.match(reader.line):
        where = reader.number
        reader.take()
        old_count, new_count = (1 if count is None else int(count) for count in match.group(2, 4))
        found.append(_hunk(reader, match, old_count, new_count, where))
    return tuple(found)


def _hunk(reader: _Reader, match: re.Match[bytes], old: int, new: int, where: int) -> Hunk:
    # Without lines on a side, the header names the line before the place, not the first one.
    start = int(match[1]) - (1 if old else 0)
    new_start = int(match[3]) - (1 if new else 0)
    kinds: list[bytes] = []
    texts: list[bytes] = []
    while old > 0 or new > 0:
        line = reader.take()
        kind = b" " if line in (b"\n", b"\r\n") else line[:1]  # a mailer cut the blank off
        old -= kind in b" -"
        new -= kind in b" +"
        if kind not in (b" ", b"-", b"+") or old < 0 or new < 0:
            raise DiffError(f"the hunk at line {where} of the diff is cut short or miscounted")
        kinds.append(kind)
        texts.append(line if line in (b"\n", b"\r\n") else line[1:])
        if reader.line.startswith(b"\\"):  # \ No newline at end of file
            reader.take()
            texts[-1] = texts[-1].removesuffix(b"\n")
    return made_hunk(start, max(new_start, 0), match[5].strip(), kinds, texts)


def _binary(reader: _Reader) -> Binary:
    """Return the content after the patch; what git adds for going back is passed over."""
    where = reader.number
    forward = _packed(reader)
    if forward is None:
        raise DiffError(f"the binary content at line {where} of the diff is cut short")
    _packed(reader)
    return forward


def _packed(reader: _Reader) -> Binary | None:
    match = _BINARY.match(reader.line)
    if match is None:
        return None
    reader.take()
    lines: list[bytes] = []
    while reader.line.strip():
        lines.append(reader.take())
    reader.take()
    return Binary(b"".join(lines), int(match[2]), match[1] == b"delta")
