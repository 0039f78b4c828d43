"""Diffs as values: what a patch does to each file, hunk by hunk, read from its text.

What is understood is what `git apply` understands (git-apply(1), and "Generating
patch text with -p" in git-diff(1)): git's own headers with renames, copies,
modes and binary content, and the plain `---`/`+++` of diff(1).  Where that is a
diff and cannot be read, all of it is refused: a part that is passed over would
be lost.  Binary content is in the format of `emit_binary_diff_body` (diff.c), its
deltas in that of packs (gitformat-pack(5), "Deltified representation").
"""

from __future__ import annotations

import base64
import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice

from linklab.errors import UsageError

Lines = tuple[bytes, ...]
"""Lines with their line ends; only the last of a file may lack one."""

GITLINK = 0o160000
REGULAR = 0o100644

_SHOWN = 60  # letters of a line in an error


class DiffError(UsageError):
    """Text that is not a complete diff."""


def lines_of(content: bytes) -> Lines:
    """Return content as lines. Only a newline ends a line here."""
    return tuple(io.BytesIO(content))


@dataclass(frozen=True)
class Block:
    """Neighbouring lines that a hunk changes: `removed` lines at `start` become `added` ones.

    `start` counts from 0 in the file before the patch.
    """

    start: int
    removed: int
    added: int


@dataclass(frozen=True)
class Hunk:
    """One hunk. `old` and `new` are its text before and after, context included.

    `start` is the line, from 0, that `old` begins at; `context` the number of
    context lines at its beginning and at its end; `heading` the text behind the
    second @@, which is the first line of the function.
    """

    start: int
    new_start: int
    heading: bytes
    old: Lines
    new: Lines
    context: tuple[int, int]
    blocks: tuple[Block, ...]

    @property
    def end(self) -> int:
        """The line after its last one, before the patch."""
        return self.start + len(self.old)

    @cached_property
    def changes(self) -> tuple[tuple[Block, int], ...]:
        """Each block, and where in `new` the lines begin that it adds."""
        found: list[tuple[Block, int]] = []
        shift = -self.start
        for block in self.blocks:
            found.append((block, block.start + shift))
            shift += block.added - block.removed
        return tuple(found)

    @cached_property
    def added_at(self) -> frozenset[int]:
        """Where in `new` the lines are that it adds."""
        return frozenset(n for block, at in self.changes for n in range(at, at + block.added))

    @cached_property
    def removed_at(self) -> frozenset[int]:
        """Where in `old` the lines are that it removes."""
        starts = ((block.start - self.start, block.removed) for block in self.blocks)
        return frozenset(at for start, size in starts for at in range(start, start + size))

    @cached_property
    def added(self) -> Lines:
        """The lines that it adds."""
        return tuple(self.new[at] for at in sorted(self.added_at))

    @cached_property
    def removed(self) -> Lines:
        """The lines that it removes."""
        return tuple(self.old[at] for at in sorted(self.removed_at))


def made_hunk(
    start: int, new_start: int, heading: bytes, kinds: list[bytes], texts: list[bytes]
) -> Hunk:
    """Return a hunk made of lines and their kinds: ` `, `-` and `+`."""
    pairs = list(zip(kinds, texts, strict=True))
    changed = [at for at, kind in enumerate(kinds) if kind != b" "]
    blocks: list[Block] = []
    line, removed, added = max(start, 0), 0, 0
    for kind in [*kinds, b" "]:
        removed += kind == b"-"
        added += kind == b"+"
        if kind == b" ":
            if removed or added:
                blocks.append(Block(line, removed, added))
            line += removed + 1
            removed = added = 0
    return Hunk(
        start,
        new_start,
        heading,
        tuple(text for kind, text in pairs if kind != b"+"),
        tuple(text for kind, text in pairs if kind != b"-"),
        (changed[0], len(kinds) - changed[-1] - 1) if changed else (len(kinds), 0),
        tuple(blocks),
    )


@dataclass(frozen=True)
class Binary:
    """Binary content, still packed. `is_delta`: it is applied to the old content."""

    packed: bytes
    size: int
    is_delta: bool


@dataclass(frozen=True)
class FileDiff:
    """What a patch does to one file.

    `old` is None for a file that it creates, `new` for one that it deletes; they
    differ for a rename or a copy.  Modes are None where they are not named.
    `old_blob` and `new_blob` are git's names of the content, abbreviated or
    empty.  `binary` is None for text; `lacks_content` says that the content is
    binary and not in the diff.
    """

    old: str | None
    new: str | None
    hunks: tuple[Hunk, ...] = ()
    old_mode: int | None = None
    new_mode: int | None = None
    old_blob: str = ""
    new_blob: str = ""
    is_copy: bool = False
    binary: Binary | None = None
    lacks_content: bool = False

    @property
    def path(self) -> str:
        """The file's path, after the patch if it still exists then."""
        return self.new or self.old or ""

    @property
    def is_rename(self) -> bool:
        """Whether the file gets another name."""
        return None not in (self.old, self.new) and self.old != self.new and not self.is_copy


# --- reading ---------------------------------------------------------------------

_GIT = b"diff --git "
_HEADER = re.compile(
    rb"(old mode|new mode|new file mode|deleted file mode|(?:rename|copy) (?:from|to)"
    rb"|index|(?:dis)?similarity index) (.*)",
    re.DOTALL,
)
_INDEX = re.compile(rb"(\S+)\.\.(\S+)(?: (\d+))?")
_BLOB = re.compile(rb"[0-9a-f]+")
_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_NO_CONTENT = re.compile(rb"^Binary files .* differ\r?\n?$")
_BINARY = re.compile(rb"^(literal|delta) (\d+)\r?\n?$")
# The time behind a name of diff(1), whose tab a mailer may have made blanks of.
_TIME = re.compile(
    rb"\s+(?:\d{2,4}-\d\d-\d\d\s+\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\s*[-+]\d\d:?\d\d)?"
    rb"|\((?:revision \d+|working copy)\)"
    rb"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:[A-Z]{3,4} )?\d{4})\s*$"
)
# diff(1) gives a file that does not exist the time 0, in the time zone of whoever ran it.
_EPOCH = re.compile(
    rb"\s(?:1969-12-31|1970-01-01) \d\d:\d\d(?::00(?:\.0+)?)?(?: [-+]\d\d:?\d\d)?\s*$"
)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))
_OUTSIDE = {b"", b".", b"..", b".git"}

# What is a diff and changes something, and nothing that can be applied by its lines.
_NOT_UNIFIED = (
    (re.compile(rb"^diff --(?:cc|combined) |^@@@+ -\d"), "it is of a combined diff, of a merge"),
    (
        re.compile(rb"^\*\*\* \d+(?:,\d+)? \*\*\*\*\r?\n"),
        "it is of a context diff, not a unified one",
    ),
    (_HUNK, "a hunk without the name of its file"),
    (_NO_CONTENT, "the file's content is binary and not in the diff"),
    (re.compile(rb"^GIT binary patch\r?\n"), "binary content without the name of its file"),
    (re.compile(rb"^Submodule \S+ [0-9a-f]{7,40}\.{2,3}[0-9a-f]{7,40}"), "it is about a submodule"),
)
_NORMAL = re.compile(rb"^\d+(?:,\d+)?[acd]\d+(?:,\d+)?\r?\n")  # a hunk of diff(1) without options
_SIGNATURE = re.compile(rb"^--")  # of a mail; also a boundary, and the next file's `---`


def parse_diff(content: bytes, strip: int = 1) -> tuple[FileDiff, ...]:
    """Return what a patch does to each file, in its order; text that is no diff is skipped.

    Paths lose their first `strip` parts, as with `patch -p`. Raises `DiffError`,
    with the line, for what is a diff and cannot be read as a whole: a hunk that
    is cut short, miscounts its lines or has no file; a file of which nothing is
    changed; a combined or a context diff.
    """
    reader = _Reader(content, strip)
    found: list[FileDiff] = []
    while line := reader.line:
        if line.startswith(_GIT):
            found.append(_git_diff(reader))
        elif reader.at_names:
            found.append(_plain_diff(reader))
        else:
            why = next((why for pattern, why in _NOT_UNIFIED if pattern.match(line)), "")
            if line.startswith((b"diff ", b"Index: ")) and _NORMAL.match(reader.next):
                reader.take()
                why = "it is of a diff without context, not a unified one"
            if why:
                raise reader.error(why)
            reader.take()
    return tuple(found)


def undone(diff: FileDiff) -> FileDiff:
    """Return what takes a change back, as `patch -R` does.

    Raises `DiffError` for binary content and copies, of which a diff does not
    hold the way back.
    """
    if diff.binary is not None or diff.is_copy:
        raise DiffError(f"the diff of {diff.path} cannot be reversed")
    return replace(
        diff,
        old=diff.new,
        new=diff.old,
        hunks=tuple(map(_undone_hunk, diff.hunks)),
        old_mode=diff.new_mode,
        new_mode=diff.old_mode or (REGULAR if diff.new is None else None),
        old_blob=diff.new_blob,
        new_blob=diff.old_blob,
    )


def _undone_hunk(hunk: Hunk) -> Hunk:
    blocks = (Block(at + hunk.new_start, b.added, b.removed) for b, at in hunk.changes)
    return replace(
        hunk,
        start=hunk.new_start,
        new_start=max(hunk.start, 0),
        old=hunk.new,
        new=hunk.old,
        blocks=tuple(blocks),
    )


class _Reader:
    """Lines one after the other; `number` is the present one's, from 1; past the end b""."""

    def __init__(self, content: bytes, strip: int) -> None:
        self._lines = (*lines_of(content), b"", b"")
        self.number = 1
        self.strip = strip

    @property
    def line(self) -> bytes:
        return self._lines[min(self.number, len(self._lines)) - 1]

    @property
    def next(self) -> bytes:
        return self._lines[min(self.number, len(self._lines) - 1)]

    @property
    def at_names(self) -> bool:
        """Whether the next two lines name a file, as diff(1) does."""
        return self.line.startswith(b"--- ") and self.next.startswith(b"+++ ")

    def ahead(self) -> Iterator[bytes]:
        """Yield the lines from the present one on, without taking them."""
        return islice(self._lines, self.number - 1, None)

    def skip_name(self) -> bool:
        """Take a `---` or `+++` line that has lost the other one; tell whether there was one."""
        is_name = self.line.startswith((b"--- ", b"+++ ")) and _HUNK.match(self.next) is not None
        self.number += is_name
        return is_name

    def take(self) -> bytes:
        line = self.line
        self.number += 1
        return line

    def path(self) -> str | None:
        """Take a `---` or `+++` line and return its path; None for /dev/null."""
        return path_of(self.take()[4:], self.strip)

    def error(self, why: str, number: int = 0) -> DiffError:
        """Return the error for a line, by default the present one."""
        number = number or self.number
        shown = self._lines[number - 1].decode(errors="replace").strip()
        return DiffError(f"line {number} of the diff cannot be applied, {why}: {shown[:_SHOWN]}")


def _git_diff(reader: _Reader) -> FileDiff:
    where = reader.number
    old, new = _both_names(reader.take()[len(_GIT) :].rstrip(b"\r\n"), reader.strip)
    said: dict[bytes, bytes] = {}
    while header := _HEADER.match(reader.line.rstrip(b"\r\n")):
        said[header[1]] = header[2]
        reader.take()
    is_copy = bool({b"copy from", b"copy to"} & said.keys())
    for word in (b"rename", b"copy"):  # these have no a/ and b/
        old = _name(said[word + b" from"], reader) if word + b" from" in said else old
        new = _name(said[word + b" to"], reader) if word + b" to" in said else new
    creates, deletes = b"new file mode" in said, b"deleted file mode" in said
    hunks: tuple[Hunk, ...] = ()
    binary, lacks_content = None, False
    if reader.at_names:
        before, after = reader.path(), reader.path()
        creates, deletes = creates or before is None, deletes or after is None
        old, new = before or old, after or new
        hunks = _hunks(reader)
    elif (reader.skip_name() or said) and _HUNK.match(reader.line):
        hunks = _hunks(reader)  # the line `diff --git` alone has both names
    elif reader.line.startswith(b"GIT binary patch"):
        reader.take()
        binary = _binary(reader)
    elif _NO_CONTENT.match(reader.line):
        reader.take()
        lacks_content = True
    if old is None or new is None:
        raise DiffError(f"line {where} of the diff names no file")
    index = _INDEX.match(said.get(b"index", b""))
    old_blob, new_blob = map(_blob, index.group(1, 2)) if index else ("", "")
    same = index[3] if index else None
    old_mode = _mode(same, said.get(b"old mode"), said.get(b"deleted file mode"))
    new_mode = _mode(same, said.get(b"new mode"), said.get(b"new file mode"))
    changes_more = creates or deletes or old != new or old_mode != new_mode
    if not (hunks or binary or lacks_content or changes_more):
        raise reader.error("nothing of the file is changed", where)
    return FileDiff(
        None if creates else old,
        None if deletes else new,
        hunks,
        None if creates else old_mode,
        None if deletes else new_mode or (REGULAR if creates else None),
        old_blob,
        new_blob,
        is_copy,
        binary,
        lacks_content,
    )


def _blob(name: bytes) -> str:
    """Return git's name of a content; empty for none (all zeros) and for what is no name."""
    return name.decode() if _BLOB.fullmatch(name) and name.strip(b"0") else ""


def _mode(*words: bytes | None) -> int | None:
    word = next((word for word in words if word is not None), None)
    try:
        return None if word is None else int(word, 8)
    except ValueError:
        shown = (word or b"").decode(errors="replace")
        raise DiffError(f"the diff names the mode {shown!r}, which is no octal number") from None


def _both_names(rest: bytes, strip: int) -> tuple[str | None, str | None]:
    """Return the names on a `diff --git` line, where they can be told apart.

    Nothing marks the end of the first, unless it is quoted; but both are the
    same unless the header names them once more.
    """
    if rest.startswith(b'"'):
        first, tail = _unquoted(rest)
        second = _unquoted(tail.lstrip())[0] if tail.lstrip().startswith(b'"') else tail.lstrip()
    else:
        middle = len(rest) // 2
        first, second = rest[:middle], rest[middle + 1 :]
    old, new = (name.split(b"/", strip)[strip:] for name in (first, second))
    return (
        (_inside(old[0]), _inside(new[0])) if old == new and old != [b""] and old else (None, None)
    )


def _plain_diff(reader: _Reader) -> FileDiff:
    where = reader.number
    before, after = reader.take()[4:], reader.take()[4:]
    if not _HUNK.match(reader.line):
        raise reader.error("a file's name without a hunk", where)
    hunks = _hunks(reader)
    old, new = path_of(before, reader.strip), path_of(after, reader.strip)
    one = hunks[0] if len(hunks) == 1 else None
    if old is not None and _EPOCH.search(before) and one and not one.old:
        old = None
    if new is not None and _EPOCH.search(after) and one and not one.new:
        new = None
    if old is not None and new is not None:  # as git-apply picks it: `a.c`, not `a.c.orig`
        old = new = old if new.startswith(old) else new
    return FileDiff(old, new, hunks, new_mode=REGULAR if old is None else None)


def _hunks(reader: _Reader) -> tuple[Hunk, ...]:
    found: list[Hunk] = []
    while match := _HUNK.match(reader.line):
        where = reader.number
        reader.take()
        old, new = (1 if size is None else int(size) for size in match.group(2, 4))
        # Without lines on a side, the header names the line before the place, not the first one.
        start, new_start = int(match[1]) - bool(old), int(match[3]) - bool(new)
        kinds: list[bytes] = []
        texts: list[bytes] = []
        while old > 0 or new > 0:
            line = reader.take()
            is_blank = line in (b"\n", b"\r\n")  # a mailer removed the space
            kind = b" " if is_blank else line[:1]
            old -= kind in b" -"
            new -= kind in b" +"
            if kind not in (b" ", b"-", b"+") or old < 0 or new < 0:
                raise DiffError(f"the hunk at line {where} of the diff is cut short or miscounted")
            kinds.append(kind)
            texts.append(line if is_blank else line[1:])
            if reader.line.startswith(b"\\"):  # \ No newline at end of file
                reader.take()
                texts[-1] = texts[-1].removesuffix(b"\n")
        if set(kinds) <= {b" "} or _goes_on(reader):
            raise DiffError(f"the hunk at line {where} of the diff is cut short or miscounted")
        found.append(made_hunk(start, max(new_start, 0), match[5].strip(), kinds, texts))
    if reader.line.startswith(b"@@ -"):
        raise reader.error("it is no whole header of a hunk")
    return tuple(found)


def _goes_on(reader: _Reader) -> bool:
    """Tell whether behind a hunk's last line, by its count, more lines of its kind follow."""
    for line in reader.ahead():
        if line[:1] not in (b"+", b"-", b" ") or _SIGNATURE.match(line) or line.startswith(b"+++ "):
            return False
        if line[:1] != b" ":
            return True
    return False


def path_of(raw: bytes, strip: int = 1) -> str | None:
    """Return a path of a `---` or `+++` line without its first parts; None for /dev/null."""
    is_quoted = raw.startswith(b'"')
    text = _unquoted(raw)[0] if is_quoted else _TIME.sub(b"", raw).split(b"\t")[0].rstrip(b"\r\n")
    return None if text == b"/dev/null" else _inside(_stripped(text, strip))


def _stripped(path: bytes, strip: int) -> bytes:
    """Return a path without its first parts; one that has no more parts than these, its last."""
    return re.split(rb"/+", path, maxsplit=strip)[-1] if strip else path


def _name(raw: bytes, reader: _Reader) -> str:
    text = _unquoted(raw)[0] if raw.startswith(b'"') else raw
    return _inside(_stripped(text, max(reader.strip - 1, 0)))


def _inside(path: bytes) -> str:
    """Return a path as text; raise `DiffError` for one that leads out of the tree."""
    if any(part.lower() in _OUTSIDE for part in path.split(b"/")):
        shown = path.decode(errors="replace")
        raise DiffError(f"the diff is about {shown!r}, which is no path in a source tree")
    return os.fsdecode(path)


def _unquoted(raw: bytes) -> tuple[bytes, bytes]:
    """Return a path that git quoted, as C does, and the text behind it."""
    match = _QUOTED.match(raw)
    if match is None:
        raise DiffError(f"a path in quotes does not end: {raw.decode(errors='replace').rstrip()}")
    return _ESCAPED.sub(_character, match[1]), raw[match.end() :]


def _character(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes([int(code, 8) & 0xFF])
    if code[0] in _ESCAPES:
        return bytes([_ESCAPES[code[0]]])
    shown = code.decode(errors="replace")
    raise DiffError(f"a path in quotes holds \\{shown}, which is no character")


# --- binary content --------------------------------------------------------------

_TORN = "binary content in the diff is torn"


def _binary(reader: _Reader) -> Binary:
    """Return the content after the patch; what git adds for reverting it is skipped."""
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


def unpack(binary: Binary, old: bytes) -> bytes:
    """Return the new content. `old` is what a delta refers to.

    Raises `DiffError` for content that is torn, or a delta to something else.
    """
    try:
        data = zlib.decompress(b"".join(_decoded(line) for line in binary.packed.splitlines()))
    except (zlib.error, ValueError) as error:
        raise DiffError(f"{_TORN}: {error}") from error
    if len(data) != binary.size:
        raise DiffError(f"{_TORN}: {len(data)} bytes instead of {binary.size}")
    try:
        return _after_delta(data, old) if binary.is_delta else data
    except StopIteration:
        raise DiffError(_TORN) from None


def _decoded(line: bytes) -> bytes:
    """Return one line's bytes. Its first letter is their number: A to Z, then a to z."""
    letter = line[0]
    size = letter - 64 if letter < 91 else letter - 96 + 26
    return base64.b85decode(line[1:])[:size]


def _after_delta(delta: bytes, old: bytes) -> bytes:
    """Return the content that a delta makes; raise `StopIteration` where the delta is cut short."""
    codes = iter(delta)
    if (size := _number(codes)) != len(old):
        raise DiffError(f"a binary delta is to {size} bytes, not to {len(old)}")
    size, out = _number(codes), bytearray()
    for code in codes:
        if code & 0x80:  # copy: its bits say which bytes of the start and of the size follow
            given = bytes([next(codes) if code >> bit & 1 else 0 for bit in range(7)])
            start, length = (int.from_bytes(part, "little") for part in (given[:4], given[4:]))
            out += old[start : start + (length or 0x10000)]
        else:
            out += bytes(islice(codes, code))
    if len(out) != size:
        raise DiffError(f"{_TORN}: a delta makes {len(out)} bytes instead of {size}")
    return bytes(out)


def _number(codes: Iterator[int]) -> int:
    """Return a number of seven bits a byte, the lowest first."""
    value = 0
    for shift in count(0, 7):
        byte = next(codes)
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return value
