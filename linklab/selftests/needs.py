"""What a self-test asks for, as far as its text tells.

A word is taken for what it may mean: a file of its collection, a program that
is compiled there, a tool of the image. That finds too much rather than too
little, and nothing is refused for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_COMMENT = re.compile(r"^\s*#(?!!).*$", re.MULTILINE)
# Where a command begins: "which" is a word of comments and messages, too.
_ASKED = re.compile(
    r"(?:^|[;|&(`!]|\b(?:if|then|do)\s)\s*"
    r"(?:command -[vV]|which|type -[pP]|hash|require_command|check_command|check_tool)\s+"
    r"[\"']?([A-Za-z][A-Za-z0-9_.+-]*)",
    re.MULTILINE,
)
_SHEBANG = re.compile(r"^#!\s*(\S+)(?:\s+(\S+))?")


@dataclass(frozen=True)
class Needs:
    """What a test asks for: compiled programs, tools, and tools that nobody knows."""

    programs: frozenset[str]
    tools: frozenset[str]
    unknown: frozenset[str]


def needs_of(
    start: str,
    read: Callable[[str], str | None],
    programs: Collection[str],
    tools: Collection[str],
) -> Needs:
    """Return what a test needs, with all the scripts that it may read.

    `start` and what `read` takes are names in the collection's folder; `read`
    returns the text of a script, None for any other name.
    """
    seen: set[str] = set()
    waiting = [start]
    words: set[str] = set()
    asked: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or (text := read(name)) is None:
            continue
        seen.add(name)
        found = words_of(text)
        words |= found
        asked |= set(_ASKED.findall(_COMMENT.sub("", text)))
        waiting += sorted(found | {PurePosixPath(word).name for word in found})
    names = words | {PurePosixPath(word).name for word in words}
    return Needs(
        programs=frozenset(programs) & (names | {start}),
        tools=frozenset(tools) & names,
        unknown=frozenset(asked - frozenset(tools) - frozenset(programs)),
    )


def words_of(text: str) -> set[str]:
    """Return the words of a script outside of its comments, its interpreter among them."""
    words = set(_WORD.findall(_COMMENT.sub("", text)))
    if shebang := _SHEBANG.match(text):
        words.update(filter(None, shebang.groups()))
    return words


def missing_tools(asked: Iterable[str], there: Collection[str]) -> list[str]:
    """Return the tools that are asked for and not there."""
    return sorted(set(asked) - set(there))
