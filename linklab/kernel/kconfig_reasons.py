"""Why an option did not hold: what overrode it, as far as a source's Kconfig files tell.

Of the Kconfig language (Documentation/kbuild/kconfig-language.rst of the
kernel) this reads what an option depends on, by its own lines and by the menus
and `if` blocks around it, when it can be set by hand, and what selects it.
What it does not understand it passes over.  A reason is a help, not a proof:
defaults, `imply` and the values of `$(cc-option,...)` are not worked out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from linklab.kernel.kconfig import UNSET, Unmet

_SYMBOL = re.compile(r"^(?:menu)?config\s+(\w+)")
_SOURCE = re.compile(r'^source\s+"([^"]+)"')
_PROMPT = re.compile(
    r"^(?:bool|tristate|int|hex|string|prompt)\s+"
    r"""(?:"[^"]*"|'[^']*')\s*(?:if\s+(?P<condition>.*))?$"""
)
_COMMENT = re.compile(r"""\s+#[^"']*$""")
_ARCH = re.compile(r"\$[({]?SRCARCH[)}]?")
_DEPTH = 32
_TOKEN = re.compile(
    r"""\s*(&&|\|\||!=|<=|>=|[!()=<>]|"[^"]*"|'[^']*'|\$\([^()]*(?:\([^()]*\))*\)|[\w.-]+)"""
)
_NAME = re.compile(r"[A-Z0-9_]*[A-Z][A-Z0-9_]*")


@dataclass
class _Option:
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

    def within(self, condition: str) -> _Context:
        return replace(self, conditions=(*self.conditions, condition))


_TOP = _Context()
_BLOCKS = frozenset(
    ("if", "menu", "choice", "endif", "endmenu", "endchoice", "comment", "mainmenu")
)


class _Reader:
    """Reads Kconfig files; knows which options there are by now."""

    def __init__(self, tree: Path, srcarch: str) -> None:
        self.options: dict[str, _Option] = {}
        self._choices = 0
        self._tree = tree
        self._srcarch = srcarch

    def read(self, name: str, context: _Context = _TOP, depth: int = 0) -> None:
        """Take a file and those that it sources; where there is none, or no end, pass over it."""
        try:
            text = (self._tree / _ARCH.sub(self._srcarch, name)).read_text(errors="replace")
        except OSError:
            return
        stack = [context]
        option: _Option | None = None
        block_open = False  # `depends on` belongs to the block just opened
        for line in _lines(text):
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            if match := _SOURCE.match(line):
                if depth < _DEPTH:
                    self.read(match[1], stack[-1], depth + 1)
            elif match := _SYMBOL.match(line):
                option, block_open = self._option(match[1]), False
                option.places.append(stack[-1].conditions)
                option.choice = stack[-1].choice
            elif word in _BLOCKS:
                option, block_open = None, word in {"menu", "choice"}
                self._block(word, rest, stack)
            elif word == "depends":
                condition = rest.removeprefix("on").strip()
                if option is not None:
                    option.places[-1] = (*option.places[-1], condition)
                elif block_open:
                    stack[-1] = stack[-1].within(condition)
            elif option is not None:
                self._detail(option, word, rest, line)

    def _option(self, name: str) -> _Option:
        return self.options.setdefault(name, _Option(name))

    def _block(self, word: str, rest: str, stack: list[_Context]) -> None:
        """Open or close a block."""
        if word == "if":
            stack.append(stack[-1].within(rest))
        elif word == "menu":
            stack.append(stack[-1])
        elif word == "choice":
            self._choices += 1
            stack.append(replace(stack[-1], choice=self._choices))
        elif word.startswith("end"):
            del stack[max(1, len(stack) - 1) :]

    def _detail(self, option: _Option, word: str, rest: str, line: str) -> None:
        if word == "select":
            target, _, condition = rest.partition(" if ")
            self._option(target.strip()).selectors.append((option.name, condition.strip()))
        elif word == "range":
            option.ranges.append(rest)
        elif prompt := _PROMPT.match(line):
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


def explain(tree: Path, config: Mapping[str, str], missing: Sequence[Unmet]) -> list[Unmet]:
    """Return the wishes that a finished config lacks, each with its reason where there is one."""
    reader = _Reader(tree, "x86")
    reader.read("Kconfig")
    reasons = _Reasons(reader.options, config)
    return [replace(entry, reason=reasons.of(entry)) for entry in missing]


class _Reasons:
    """The options of a source tree, against a finished config of it."""

    def __init__(self, options: Mapping[str, _Option], config: Mapping[str, str]) -> None:
        self._options = options
        self._config = config

    def of(self, entry: Unmet) -> str:
        """Return why a wish did not hold, empty when it cannot be found out."""
        option = self._options.get(entry.wish.option.removeprefix("CONFIG_"))
        if option is None or not option.places:
            return "no Kconfig file of this source knows it"
        if entry.wish.value == UNSET:
            return self._why_set(option)
        return self._why_not(option)

    def _why_set(self, option: _Option) -> str:
        active = {
            f"CONFIG_{name}"
            for name, condition in option.selectors
            if self._is_on(name) and self._holds(condition)
        }
        if active:
            return f"selected by {', '.join(sorted(active))}"
        if hidden := self._why_hidden(option, "switched off"):
            return hidden
        if option.choice is not None:
            return "it is the default of its choice: set another member of that choice"
        return ""

    def _why_not(self, option: _Option) -> str:
        if not any(all(map(self._holds, place)) for place in option.places):
            return f"it depends on {self._what_lacks(min(option.places, key=len))}"
        if hidden := self._why_hidden(option, "set"):
            return hidden
        if option.ranges:
            return f"its range is {' or '.join(map(self._with_values, option.ranges))}"
        if option.choice is not None:
            for other in self._options.values():
                if other.choice == option.choice and self._is_on(other.name):
                    return f"another member of its choice is set: CONFIG_{other.name}"
        return ""

    def _why_hidden(self, option: _Option, what: str) -> str:
        if not option.prompts:
            return f"it cannot be {what} by hand: it follows from other options"
        if not any(map(self._holds, option.prompts)):
            return f"it can be {what} only with {self._what_lacks(option.prompts[:1])}"
        return ""

    def _with_values(self, text: str) -> str:
        """Return the bounds of a range as numbers, where they are other options."""
        bounds, condition, rest = text.partition(" if ")
        words = [self._config.get(f"CONFIG_{word}", word) for word in bounds.split()]
        return " to ".join(words) + condition + rest

    def _what_lacks(self, conditions: Sequence[str]) -> str:
        """Return the conditions that do not hold, and what each of their options is."""
        failed = [condition for condition in conditions if not self._holds(condition)]
        text = " && ".join(f"({c})" if "||" in c and len(failed) > 1 else c for c in failed)
        tokens = {token for condition in failed for token in _TOKEN.findall(condition)}
        names = sorted(filter(_NAME.fullmatch, tokens))
        states = ", ".join(f"{name} is {'on' if self._is_on(name) else 'off'}" for name in names)
        return f"`{text}`" + (f", and {states}" if states else "")

    def _is_on(self, name: str) -> bool:
        return self._config.get(f"CONFIG_{name}", UNSET) != UNSET

    def _holds(self, condition: str) -> bool:
        """Tell whether an expression has another value than `n`."""
        return not condition or self._either(_TOKEN.findall(condition)[::-1])

    # Each of these takes what it understands from the end of the tokens.

    def _either(self, tokens: list[str]) -> bool:
        value = self._both(tokens)
        while tokens[-1:] == ["||"]:
            tokens.pop()
            value = self._both(tokens) or value
        return value

    def _both(self, tokens: list[str]) -> bool:
        value = self._one(tokens)
        while tokens[-1:] == ["&&"]:
            tokens.pop()
            value = self._one(tokens) and value
        return value

    def _one(self, tokens: list[str]) -> bool:
        token = tokens.pop() if tokens else ""
        if token == "!":
            return not self._one(tokens)
        if token == "(":
            value = self._either(tokens)
            del tokens[-1:]
            return value
        left = self._value(token)
        if not tokens or tokens[-1] not in {"=", "!=", "<", ">", "<=", ">="}:
            return left not in {UNSET, ""}
        operator, right = tokens.pop(), self._value(tokens.pop() if tokens else "")
        # Other comparisons are of the versions of tools, which are not ours to judge.
        return (left == right) == (operator == "=") or operator not in {"=", "!="}

    def _value(self, token: str) -> str:
        if token.startswith("$"):
            return "y"  # what the compiler can do: not ours to judge either
        if token in {"y", "m", "n"} or token[:1].isdigit() or token.startswith(('"', "'")):
            return token.strip("\"'")
        return self._config.get(f"CONFIG_{token}", UNSET).strip('"')
