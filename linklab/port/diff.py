"""Diffs as values: what a patch does to each file, hunk by hunk.

What is understood is what `git apply` understands (git-apply(1), and "Generating
patch text with -p" in git-diff(1)): git's own headers, with renames, copies,
modes and binary content, and the plain `---`/`+++` of diff(1).  Paths lose
their first part, as with `-p1`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from linklab.errors import UsageError

Lines = tuple[bytes, ...]
"""Lines with their line ends; only the last of a file may lack one."""

SYMLINK = 0o120000
GITLINK = 0o160000
REGULAR = 0o100644


class DiffError(UsageError):
    """Text that is no whole diff."""


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

    `start` is the line, from 0, that `old` begins at; `context` the lines of
    context that it begins and ends with; `heading` what follows the second @@,
    which is the line that the function begins with.
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
    def added_at(self) -> frozenset[int]:
        """Where in `new` the lines are that it adds."""
        found: set[int] = set()
        shift = -self.start
        for block in self.blocks:
            found.update(range(block.start + shift, block.start + shift + block.added))
            shift += block.added - block.removed
        return frozenset(found)

    @cached_property
    def removed_at(self) -> frozenset[int]:
        """Where in `old` the lines are that it removes."""
        starts = ((block.start - self.start, block.removed) for block in self.blocks)
        return frozenset(at for start, count in starts for at in range(start, start + count))

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
    context = (changed[0], len(kinds) - changed[-1] - 1) if changed else (len(kinds), 0)
    return Hunk(
        start,
        new_start,
        heading,
        tuple(text for kind, text in pairs if kind != b"+"),
        tuple(text for kind, text in pairs if kind != b"-"),
        context,
        tuple(_blocks(kinds, max(start, 0))),
    )


def _blocks(kinds: list[bytes], line: int) -> list[Block]:
    found: list[Block] = []
    removed = added = 0
    for kind in [*kinds, b" "]:
        if kind == b"-":
            removed += 1
        elif kind == b"+":
            added += 1
        else:
            if removed or added:
                found.append(Block(line, removed, added))
            line += removed + 1
            removed = added = 0
    return found


@dataclass(frozen=True)
class Binary:
    """Binary content, still packed. `is_delta`: to be put together from the old content."""

    packed: bytes
    size: int
    is_delta: bool


@dataclass(frozen=True)
class FileDiff:
    """What a patch does to one file.

    `old` is None for a file that it makes, `new` for one that it deletes; they
    differ for a rename or a copy.  Modes are None where they are not named.
    `old_blob` and `new_blob` are git's names of the content, cut short or
    empty.  `binary` is None for text; `lacks_content` says that the content is
    binary and the diff does not have it.
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
        """What the file is called, after the patch if it is there then."""
        return self.new or self.old or ""

    @property
    def is_rename(self) -> bool:
        """Whether the file gets another name."""
        return None not in (self.old, self.new) and self.old != self.new and not self.is_copy


def path_of(raw: bytes) -> str | None:
    """Return a path of a `---` or `+++` line without its first part; None for /dev/null."""
    text = raw
    if text.startswith(b'"'):
        text, _ = unquoted(text)
    else:
        text = text.split(b"\t")[0].rstrip(b"\r\n")
    if text == b"/dev/null":
        return None
    first, slash, rest = text.partition(b"/")
    return inside(rest.lstrip(b"/") if slash else first)


_OUTSIDE = {b"", b".", b"..", b".git"}


def inside(path: bytes) -> str:
    """Return a path as text; raise `DiffError` for one that leads out of the tree."""
    if any(part.lower() in _OUTSIDE for part in path.split(b"/")):
        shown = path.decode(errors="replace")
        raise DiffError(f"the diff is about {shown!r}, which is no path in a source tree")
    return os.fsdecode(path)


_ESCAPES = {
    ord("a"): 7, ord("b"): 8, ord("t"): 9, ord("n"): 10, ord("v"): 11,
    ord("f"): 12, ord("r"): 13, ord('"'): 34, ord("\\"): 92,
}  # fmt: skip


def unquoted(raw: bytes) -> tuple[bytes, bytes]:
    """Return a path that git put in quotes, as C does, and what follows it."""
    out, at = bytearray(), 1
    while at < len(raw) and raw[at] != ord('"'):
        if raw[at] != ord("\\"):
            out.append(raw[at])
            at += 1
            continue
        code = raw[at + 1] if at + 1 < len(raw) else 0
        if code in _ESCAPES:
            out.append(_ESCAPES[code])
            at += 2
        else:
            out.append(_octal(raw[at + 1 : at + 4]))
            at += 4
    if at >= len(raw):
        raise DiffError(f"a path in quotes does not end: {raw.decode(errors='replace').rstrip()}")
    return bytes(out), raw[at + 1 :]


def _octal(digits: bytes) -> int:
    try:
        return int(digits, 8) & 0xFF
    except ValueError:
        shown = digits.decode(errors="replace")
        raise DiffError(f"a path in quotes holds \\{shown}, which is no character") from None
