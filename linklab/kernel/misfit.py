"""Why a patch does not apply: which hunk, what it expects, and what stands there.

git names the file and the line of the first hunk that it cannot place. The
rest is found here: the hunk's own old lines, and the place in the file that
is most like them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_FAILED = re.compile(r"^error: patch failed: (?P<file>.*):(?P<line>\d+)$", re.MULTILINE)
_REFUSED = re.compile(r"^error: (?P<file>[^:\n]+): (?P<why>[^\n]+)$", re.MULTILINE)
_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_SHOWN = 16  # lines of a comparison
_FAR = 2000  # lines of a file on either side of where a hunk should be that are looked at


@dataclass(frozen=True)
class Hunk:
    """A hunk that git cannot place: its number in its file, its old lines and where they were."""

    file: str
    number: int
    line: int
    old: tuple[str, ...]


@dataclass(frozen=True)
class Misfit:
    """What git refused: the hunk, or, where there is none to blame, git's own reason."""

    where: str
    hunk: Hunk | None = None


def find_misfit(diff: bytes, words: str) -> Misfit:
    """Return what git means by its words about a diff."""
    if failed := _FAILED.search(words):
        line = int(failed["line"])
        hunk = next((h for h in _hunks(diff, failed["file"]) if h.line == line), None)
        name = f"hunk {hunk.number}" if hunk else "the hunk"
        return Misfit(f"{failed['file']}, {name} at line {line}", hunk)
    if refused := _REFUSED.search(words):
        return Misfit(f"{refused['file']}: {refused['why']}")
    return Misfit("git says why below")


def _hunks(diff: bytes, name: str) -> Iterator[Hunk]:
    """Yield the hunks of a file's part of a diff.

    Lines inside a hunk are told from headers by counting: a removed line may
    well begin with `--- `.
    """
    inside, number = False, 0
    lines = iter(diff.splitlines())
    for line in lines:
        if line.startswith(b"diff --git "):
            inside, number = False, 0
        elif line.startswith((b"--- ", b"+++ ")):
            path = line[4:].split(b"\t")[0].rstrip()
            if line.startswith(b"--- "):
                inside, number = False, 0
            inside = inside or path.endswith(b"/" + name.encode())
        elif match := _HUNK.match(line):
            number += 1
            old = tuple(_old_lines(lines, _count(match[2]), _count(match[4])))
            if inside:
                yield Hunk(name, number, int(match[1]), old)


def _count(found: bytes | None) -> int:
    return 1 if found is None else int(found)


def _old_lines(lines: Iterator[bytes], old: int, new: int) -> Iterator[str]:
    """Yield what a hunk of so many old and new lines expects to find."""
    while old > 0 or new > 0:
        line = next(lines, None)
        if line is None:
            return
        sign = line[:1]
        if sign in (b" ", b"-", b""):
            old -= 1
            yield line[1:].decode(errors="replace")
        if sign in (b" ", b"+", b""):
            new -= 1


def compare(hunk: Hunk, content: str) -> str:
    """Return the place of a file that is most like what a hunk expects, line against line.

    Lines marked `-` are expected and missing, those marked `+` stand there
    instead.
    """
    there = content.splitlines()
    begin, likeness = _nearest(hunk, there)
    if not likeness:
        shown = [f"  - {line}" for line in hunk.old[:_SHOWN]]
        return "\n".join((f"nothing in {hunk.file} is like what the hunk expects (-):", *shown))
    found = there[begin : begin + len(hunk.old)]
    head = f"{hunk.file} at line {begin + 1}: expected by the hunk (-), what stands there (+):"
    return "\n".join((head, *list(_differences(hunk.old, found))[:_SHOWN]))


def _nearest(hunk: Hunk, there: Sequence[str]) -> tuple[int, int]:
    """Return where a file has most of a hunk's lines in order, and how many; nearest if equal."""
    width, expected = len(hunk.old), hunk.line - 1
    first = max(0, min(expected, len(there)) - _FAR)
    wanted = {line.strip() for line in hunk.old if line.strip()}
    best = (0, 0, 0)  # how many, minus how far, where
    for begin in range(first, min(len(there), expected + _FAR)):
        window = there[begin : begin + width]
        rough = sum(line.strip() in wanted for line in window)
        if rough and rough >= best[0]:
            same = sum(_equal(a, b) for a, b in zip(hunk.old, window, strict=False))
            exact = max(same, _matching(hunk.old, window))
            best = max(best, (exact, -abs(begin - expected), begin))
    return best[2], best[0]


def _equal(one: str, other: str) -> bool:
    return one.strip() == other.strip() != ""


def _matching(old: Sequence[str], there: Sequence[str]) -> int:
    matcher = SequenceMatcher(None, old, there, autojunk=False)
    return sum(size for a, _, size in matcher.get_matching_blocks() if any(old[a : a + size]))


def _differences(old: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    matcher = SequenceMatcher(None, old, there, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield from (f"    {line}" for line in old[a:b])
        else:
            yield from (f"  - {line}" for line in old[a:b])
            yield from (f"  + {line}" for line in there[c:d])
