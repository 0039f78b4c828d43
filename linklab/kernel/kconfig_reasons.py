"""Why an option did not hold: what overrode it, as far as Kconfig files tell.

A reason is a help, not a proof: defaults, `imply` and the values of
`$(cc-option,...)` are not worked out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from linklab.kernel.kconfig import UNSET, Unmet
from linklab.kernel.kconfig_files import Option, read_kconfig

_TOKEN = re.compile(
    r"""\s*(&&|\|\||!=|<=|>=|[!()=<>]|"[^"]*"|'[^']*'|\$\([^()]*(?:\([^()]*\))*\)|[\w.-]+)"""
)
_NAME = re.compile(r"[A-Z0-9_]*[A-Z][A-Z0-9_]*")


def explain(tree: Path, config: Mapping[str, str], missing: Sequence[Unmet]) -> list[Unmet]:
    """Return the wishes that a finished config lacks, each with its reason where there is one."""
    reasons = Reasons(read_kconfig(tree), config)
    return [replace(entry, reason=reasons.of(entry)) for entry in missing]


class Reasons:
    """The options of a source tree, against a finished config of it."""

    def __init__(self, options: Mapping[str, Option], config: Mapping[str, str]) -> None:
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

    def _why_set(self, option: Option) -> str:
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

    def _why_not(self, option: Option) -> str:
        if not any(all(map(self._holds, place)) for place in option.places):
            return f"it depends on {self._what_lacks(min(option.places, key=len))}"
        if hidden := self._why_hidden(option, "set"):
            return hidden
        if option.ranges:
            return f"its range is {' or '.join(map(self._with_values, option.ranges))}"
        others = [
            other.name
            for other in self._options.values()
            if option.choice is not None
            and other.choice == option.choice
            and self._is_on(other.name)
        ]
        return f"another member of its choice is set: CONFIG_{others[0]}" if others else ""

    def _why_hidden(self, option: Option, what: str) -> str:
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
        names = sorted({name for condition in failed for name in _names(condition)})
        states = ", ".join(f"{name} is {'on' if self._is_on(name) else 'off'}" for name in names)
        return f"`{text}`" + (f", and {states}" if states else "")

    def _is_on(self, name: str) -> bool:
        return self._config.get(f"CONFIG_{name}", UNSET) != UNSET

    def _holds(self, condition: str) -> bool:
        return not condition or _Expression(condition, self._config).holds()


def _names(condition: str) -> Iterator[str]:
    """Yield the options that a condition names."""
    return (token for token in _TOKEN.findall(condition) if _NAME.fullmatch(token))


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
            return (left == self._value(self._take())) == (operator == "=")
        if operator in {"<", ">", "<=", ">="}:
            self._take()
            self._take()
            return True  # versions of tools: not ours to judge
        return left not in {UNSET, ""}

    def _value(self, token: str) -> str:
        if token.startswith("$"):
            return "y"  # what the compiler can do: not ours to judge either
        if token in {"y", "m", "n"} or token[:1].isdigit() or token.startswith(('"', "'")):
            return token.strip("\"'")
        return self._config.get(f"CONFIG_{token}", UNSET).strip('"')
