"""The Kconfig files of a source tree, read as far as finding reasons needs.

Of the Kconfig language (Documentation/kbuild/kconfig-language.rst of the
kernel) this reads what an option depends on, by its own lines and by the menus
and `if` blocks around it, when it can be set by hand, and what selects it.
What it does not understand it passes over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_SYMBOL = re.compile(r"^(?:menu)?config\s+(\w+)")
_SOURCE = re.compile(r'^source\s+"([^"]+)"')
_TYPE = re.compile(r"^(?:bool|tristate|int|hex|string|prompt)\s+(?P<prompt>[\"'].*)$")
_PROMPT = re.compile(r"""^(?:"[^"]*"|'[^']*')\s*(?:if\s+(?P<condition>.*))?$""")
_COMMENT = re.compile(r"""\s+#[^"']*$""")
_ARCH = re.compile(r"\$[({]?SRCARCH[)}]?")
_DEPTH = 32


@dataclass
class Option:
    """What Kconfig says about one option, over all places that define it.

    `places` are its definitions, each as the conditions that must all hold;
    `prompts` are the conditions under which it can be set by hand; `selectors`
    are the options that select it, each with its condition.
    """

    name: str
    places: list[tuple[str, ...]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    selectors: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    choice: int | None = None


@dataclass(frozen=True)
class _Context:
    """The conditions of the menus, choices and `if` blocks around a line."""

    conditions: tuple[str, ...] = ()
    choice: int | None = None


def read_kconfig(tree: Path, srcarch: str = "x86") -> Mapping[str, Option]:
    """Return the options that a source tree's Kconfig files define, by name."""
    reader = _Reader(tree, srcarch)
    reader.file("Kconfig", _Context(), 0)
    return reader.options


class _Reader:
    """Reads files; knows which options there are by now."""

    def __init__(self, tree: Path, srcarch: str) -> None:
        self.options: dict[str, Option] = {}
        self.choices = 0
        self._tree = tree
        self._srcarch = srcarch

    def option(self, name: str) -> Option:
        return self.options.setdefault(name, Option(name))

    def file(self, name: str, context: _Context, depth: int) -> None:
        if depth > _DEPTH:
            return
        try:
            text = (self._tree / _ARCH.sub(self._srcarch, name)).read_text(errors="replace")
        except OSError:
            return
        place = _Place(self, context)
        for line in _lines(text):
            if match := _SOURCE.match(line):
                self.file(match[1], place.context, depth + 1)
            else:
                place.take(line)


class _Place:
    """Where in a file we are: the blocks around us and the option at hand."""

    def __init__(self, reader: _Reader, context: _Context) -> None:
        self._reader = reader
        self._stack = [context]
        self._option: Option | None = None
        self._block_open = False  # `depends on` belongs to the block just opened

    @property
    def context(self) -> _Context:
        return self._stack[-1]

    def take(self, line: str) -> None:
        """Take one logical line that is no `source`."""
        if match := _SYMBOL.match(line):
            self._begin(self._reader.option(match[1]))
            return
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if self._block(word, rest):
            return
        if word == "depends":
            self._depends(rest.removeprefix("on").strip())
        elif self._option is not None:
            self._detail(self._option, word, rest, line)

    def _begin(self, option: Option) -> None:
        self._option = option
        self._block_open = False
        option.places.append(self.context.conditions)
        option.choice = self.context.choice

    def _block(self, word: str, rest: str) -> bool:
        """Open or close a block; tell whether the line did."""
        top = self.context
        if word == "if":
            self._stack.append(replace(top, conditions=(*top.conditions, rest)))
        elif word == "menu":
            self._stack.append(top)
        elif word == "choice":
            self._reader.choices += 1
            self._stack.append(replace(top, choice=self._reader.choices))
        elif word in {"endif", "endmenu", "endchoice"}:
            del self._stack[max(1, len(self._stack) - 1) :]
        elif word not in {"comment", "mainmenu"}:
            return False
        self._option = None
        self._block_open = word in {"menu", "choice"}
        return True

    def _depends(self, condition: str) -> None:
        if self._option is not None:
            self._option.places[-1] = (*self._option.places[-1], condition)
        elif self._block_open:
            top = self.context
            self._stack[-1] = replace(top, conditions=(*top.conditions, condition))

    def _detail(self, option: Option, word: str, rest: str, line: str) -> None:
        if word == "select":
            target, _, condition = rest.partition(" if ")
            self._reader.option(target.strip()).selectors.append((option.name, condition.strip()))
        elif word == "range":
            option.ranges.append(rest)
        elif (typed := _TYPE.match(line)) and (prompt := _PROMPT.match(typed["prompt"])):
            option.prompts.append((prompt["condition"] or "").strip())


def _lines(text: str) -> Iterator[str]:
    """Yield logical lines: continued ones joined, comments and help texts left out."""
    in_help, help_indent = False, 0
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.expandtabs()
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if in_help:
            help_indent = help_indent or indent
            if not stripped or (indent and indent >= help_indent):
                continue
            in_help = False
        if stripped in {"help", "---help---"}:
            in_help, help_indent = True, 0
        elif stripped and not stripped.startswith("#"):
            yield _COMMENT.sub("", stripped)
