"""What the compiler warns of: read from a build's output, remembered, compared.

An incremental build prints the warnings of what it compiles and of nothing
else. So each folder of objects remembers what was said when each of its
objects was made, and every build can say all that holds for its state.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linklab.host.cache import load_json, save_json
from linklab.kernel.make import STEP_LINE

MEMORY = "warnings.json"

_WARNING = re.compile(r"^(?P<file>[^\s:][^:]*):(?:(?P<line>\d+):(?:\d+:)?)? warning: (?P<text>.+)$")
_FUNCTION = re.compile(r"^[^\s:][^:]*: In function [`'](?P<name>.+)':$")
_TOP = re.compile(r"^[^\s:][^:]*: At top level:$")
_MAKE = re.compile(r"^g?make(?:\[\d+\])?$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class CompilerWarning:
    """One warning: `file` below the source tree, the line there (0: none), and its words."""

    file: str
    line: int
    text: str
    function: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CompilerWarning:
        """Return the warning that `to_json` made `data` of."""
        return cls(data["file"], data["line"], data["text"], data.get("function", ""))

    @property
    def kind(self) -> tuple[str, str, str]:
        """What stays when code moves or a size changes: the file, the function, the words."""
        return self.file, self.function, _NUMBER.sub("0", self.text)


def parse_warnings(lines: Iterable[str], tree: Path) -> dict[str, list[CompilerWarning]]:
    """Return what each step of a build warned of; a step that warned of nothing is there too.

    What follows a step's line is its own, as make prints it with `-Otarget`.
    """
    found: dict[str, list[CompilerWarning]] = {}
    unit = function = ""
    for line in lines:
        if step := STEP_LINE.match(line):
            unit, function = step[2], ""
            found[unit] = []
        elif inside := _FUNCTION.match(line):
            function = inside["name"]
        elif _TOP.match(line):
            function = ""
        elif (match := _WARNING.match(line)) and not _MAKE.match(match["file"]):
            file = match["file"].removeprefix(f"{tree}/")
            warning = CompilerWarning(file, int(match["line"] or 0), match["text"], function)
            found.setdefault(unit, []).append(warning)
    return found


def remember(slot: Path, lines: Iterable[str], tree: Path) -> list[CompilerWarning]:
    """Note what a build said in a folder of objects; return all that holds there now.

    What is remembered of an object that is gone is forgotten.
    """
    known = {
        unit: [CompilerWarning.from_json(entry) for entry in entries]
        for unit, entries in load_json(slot / MEMORY).items()
    }
    known |= parse_warnings(lines, tree)
    known = {unit: said for unit, said in known.items() if said and (slot / unit).exists()}
    save_json(slot / MEMORY, {unit: [w.to_json() for w in said] for unit, said in known.items()})
    found: Counter[CompilerWarning] = Counter()
    for said in known.values():  # a header's warning counts once, not for each object
        found |= Counter(said)
    return sorted(found.elements(), key=lambda each: (each.file, each.line, each.text))


def new_warnings(
    before: Iterable[CompilerWarning], after: Iterable[CompilerWarning]
) -> list[CompilerWarning]:
    """Return the warnings that the state before did not have, wherever their code stood."""
    had = Counter(warning.kind for warning in before)
    new = []
    for warning in after:
        if had[warning.kind] > 0:
            had[warning.kind] -= 1
        else:
            new.append(warning)
    return new
