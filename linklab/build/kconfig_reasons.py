"""Why an option did not hold: what Kconfig files say about it.

Reads as much of the Kconfig language (Documentation/kbuild/kconfig-language.rst
of the kernel) as the question needs: what an option depends on, by its own
lines and by the menus and `if` blocks around it, and what selects it.  What
this reader does not understand it passes over: a reason is a help, not a
proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from linklab.build.kconfig import UNSET, Unmet

_SYMBOL = re.compile(r"^(?:menu)?config\s+(\w+)")
_SOURCE = re.compile(r'^[o]?r?source\s+"([^"]+)"')
_TYPE = re.compile(r"^(?:def_)?(?:bool|tristate|int|hex|string)\b\s*(?P<rest>.*)$")
_TOKEN = re.compile(
    r'\s*(&&|\|\||!=|<=|>=|[!()=<>]|"[^"]*"|\'[^\']*\'|\$\([^()]*(?:\([^()]*\))*\)|[\w.-]+)'
)
_COMMENT = re.compile(r"""\s+#[^"']*$""")
_DEPTH = 32


@dataclass
class Option:
    """What Kconfig says about one option, over all places that define it.

    `places` are its definitions, each as the conditions that must all hold.
    """

    name: str
    prompted: bool = False
    places: list[tuple[str, ...]] = field(default_factory=list)
    selected_by: list[tuple[str, str]] = field(default_factory=list)
    choice: int | None = None


@dataclass(frozen=True)
class _Context:
    """The conditions of the menus and `if` blocks around a line."""

    conditions: tuple[str, ...] = ()
    choice: int | None = None


class Reasons:
    """The Kconfig files of one source tree."""

    def __init__(self, tree: Path, config: Mapping[str, str], srcarch: str = "x86") -> None:
        self._tree = tree
        self._config = config
        self._srcarch = srcarch
        self._options: dict[str, Option] = {}
        self._choices = 0
        self._file("Kconfig", _Context(), 0)

    def explain(self, missing: Sequence[Unmet]) -> list[Unmet]:
        """Return the same, each with its reason where one was found."""
        return [replace(entry, reason=self.reason(entry)) for entry in missing]

    def reason(self, entry: Unmet) -> str:
        """Return why a wish did not hold, empty when it cannot be found out."""
        name = entry.wish.option.removeprefix("CONFIG_")
        option = self._options.get(name)
        if option is None or not option.places:
            return "no Kconfig file of this source knows it"
        if entry.wish.value == UNSET:
            return self._why_set(option)
        return self._why_not(option)

    def _why_set(self, option: Option) -> str:
        active = sorted({name for name, condition in option.selected_by
                         if self._is_on(name) and self._holds(condition)})  # fmt: skip
        if active:
            return f"selected by {', '.join(f'CONFIG_{name}' for name in active)}"
        if not option.prompted:
            return "it cannot be switched off by hand: it follows from other options"
        if option.choice is not None:
            return "it is the default of its choice: set another member of that choice"
        return ""

    def _why_not(self, option: Option) -> str:
        if not any(all(map(self._holds, place)) for place in option.places):
            return self._what_lacks(min(option.places, key=len))
        if not option.prompted:
            return "it cannot be set by hand: other options select it"
        if option.choice is not None:
            others = [other.name for other in self._options.values()
                      if other.choice == option.choice and self._is_on(other.name)]  # fmt: skip
            if others:
                return f"another member of its choice is set: CONFIG_{others[0]}"
        return ""

    def _what_lacks(self, conditions: Sequence[str]) -> str:
        failed = [condition for condition in conditions if not self._holds(condition)]
        text = " && ".join(f"({c})" if "||" in c and len(failed) > 1 else c for c in failed)
        words = sorted({word for condition in failed for word in _words(condition)})
        states = ", ".join(f"{word} is {'on' if self._is_on(word) else 'off'}" for word in words)
        return f"it depends on `{text}`" + (f", and {states}" if states else "")

    def _is_on(self, name: str) -> bool:
        return self._config.get(f"CONFIG_{name}", UNSET) != UNSET

    def _holds(self, condition: str) -> bool:
        return not condition or _Expression(condition, self._config).holds()

    # --- reading the files ---------------------------------------------------

    def _file(self, name: str, context: _Context, depth: int) -> None:
        if depth > _DEPTH:
            return
        name = re.sub(r"\$\(?SRCARCH\)?", self._srcarch, name)
        try:
            text = (self._tree / name).read_text(errors="replace")
        except OSError:
            return
        reader = _Reader(context)
        for line in _lines(text):
            if match := _SOURCE.match(line):
                self._file(match[1], reader.context, depth + 1)
            elif match := _SYMBOL.match(line):
                option = self._options.setdefault(match[1], Option(match[1]))
                reader.begin(option)
            elif line.startswith("choice"):
                self._choices += 1
                reader.open_choice(self._choices)
            else:
                self._detail(reader, line)

    def _detail(self, reader: _Reader, line: str) -> None:
        word, _, rest = line.partition(" ")
        option = reader.option
        if reader.block(word, rest.strip()):
            return
        if word == "depends":
            reader.depends(rest.strip().removeprefix("on").strip())
        elif option is None:
            return
        elif word in {"select", "imply"}:
            target, _, condition = rest.strip().partition(" if ")
            if word == "select":
                chosen = self._options.setdefault(target.strip(), Option(target.strip()))
                chosen.selected_by.append((option.name, condition.strip()))
        elif word == "prompt" or ((m := _TYPE.match(line)) and m["rest"].startswith(('"', "'"))):
            option.prompted = True


class _Reader:
    """Where in a file we are: the blocks around us and the option at hand."""

    def __init__(self, context: _Context) -> None:
        self.option: Option | None = None
        self._stack = [context]
        self._block_open = False

    @property
    def context(self) -> _Context:
        return self._stack[-1]

    def begin(self, option: Option) -> None:
        self.option = option
        self._block_open = False
        option.places.append(self.context.conditions)
        option.choice = self.context.choice

    def open_choice(self, number: int) -> None:
        self.option = None
        self._block_open = True
        self._stack.append(replace(self.context, choice=number))

    def block(self, word: str, rest: str) -> bool:
        """Open or close a block; tell whether the line did."""
        if word in {"if", "menu"}:
            conditions = (
                (*self.context.conditions, rest) if word == "if" else self.context.conditions
            )
            self._stack.append(replace(self.context, conditions=conditions))
        elif word in {"endif", "endmenu", "endchoice"}:
            if len(self._stack) > 1:
                self._stack.pop()
        elif word not in {"comment", "mainmenu"}:
            return False
        self.option = None
        self._block_open = word == "menu"
        return True

    def depends(self, condition: str) -> None:
        """Add a condition to the option at hand, or to the block that was just opened."""
        if self.option is not None:
            self.option.places[-1] = (*self.option.places[-1], condition)
        elif self._block_open:
            top = self._stack[-1]
            self._stack[-1] = replace(top, conditions=(*top.conditions, condition))


def _lines(text: str) -> Iterator[str]:
    """Yield logical lines: continued ones joined, comments and help texts left out."""
    joined = text.replace("\\\n", " ")
    help_indent: int | None = None
    in_help = False
    for raw in joined.splitlines():
        line = raw.expandtabs()
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if in_help:
            if not stripped:
                continue
            if help_indent is None:
                help_indent = indent
            if indent >= help_indent and indent > 0:
                continue
            in_help = False
        if stripped in {"help", "---help---"}:
            in_help, help_indent = True, None
        elif stripped and not stripped.startswith("#"):
            yield _COMMENT.sub("", stripped)


def _words(condition: str) -> Iterator[str]:
    """Yield the options that a condition names."""
    for token in _TOKEN.findall(condition):
        if re.fullmatch(r"[A-Z0-9_]*[A-Z][A-Z0-9_]*", token):
            yield token


class _Expression:
    """A Kconfig expression, true where its value is not `n`."""

    def __init__(self, text: str, config: Mapping[str, str]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._config = config
        self._at = 0

    def holds(self) -> bool:
        return self._either()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _either(self) -> bool:
        value = self._both()
        while self._peek() == "||":
            self._take()
            value = self._both() or value
        return value

    def _both(self) -> bool:
        value = self._one()
        while self._peek() == "&&":
            self._take()
            value = self._one() and value
        return value

    def _one(self) -> bool:
        token = self._take()
        if token == "!":
            return not self._one()
        if token == "(":
            value = self._either()
            self._take()
            return value
        left = self._value(token)
        operator = self._peek()
        if operator in {"=", "!="}:
            self._take()
            right = self._value(self._take())
            return (left == right) == (operator == "=")
        if operator in {"<", ">", "<=", ">="}:
            self._take()
            self._take()
            return True  # versions of tools: not ours to judge
        return left not in {UNSET, ""}

    def _value(self, token: str) -> str:
        if token in {"y", "m", "n"} or token[:1].isdigit():
            return token
        if token.startswith(("$", '"', "'")):
            return token.strip("\"'") if not token.startswith("$") else "y"
        return self._config.get(f"CONFIG_{token}", UNSET).strip('"')
