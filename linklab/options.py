"""Options as a person types them, checked and turned into values.

Everything here raises `UsageError` with the name of the option, what was
given and what is valid, before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from linklab.errors import UsageError

E = TypeVar("E", bound=StrEnum)


def split_list(option: str, text: str) -> list[str]:
    """Return the words of a comma-separated list, which must have at least one."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"--{option} is empty: a comma-separated list is expected")
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise UsageError(f"--{option} names {', '.join(repeated)} twice")
    return words


def choose(option: str, word: str, valid: type[E]) -> E:
    """Return the member of an enum that a word names."""
    try:
        return valid(word)
    except ValueError:
        raise UsageError(f"--{option} {word}: unknown; valid are {_listed(valid)}") from None


def choose_list(option: str, text: str, valid: type[E]) -> tuple[E, ...]:
    """Return the members that a comma-separated list names; `all` names all."""
    if text.strip() == "all":
        return tuple(valid)
    return tuple(choose(option, word, valid) for word in split_list(option, text))


def number(option: str, text: str | int, least: int, most: int) -> int:
    """Return a whole number within limits."""
    try:
        value = int(str(text).replace("_", ""))
    except ValueError:
        raise UsageError(f"--{option} {text}: a whole number is expected") from None
    if not least <= value <= most:
        raise UsageError(f"--{option} {value}: a number from {least} to {most} is expected")
    return value


def numbers(option: str, text: str, least: int, most: int) -> tuple[int, ...]:
    """Return a comma-separated list of whole numbers within limits, in order, each once."""
    values = [number(option, word, least, most) for word in split_list(option, text)]
    return tuple(sorted(set(values)))


def seconds(option: str, text: str | float) -> float | None:
    """Return a time limit in seconds; 0 stands for the default."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--{option} {text}: a number of seconds is expected") from None
    if not 0 <= value <= 1e6:
        raise UsageError(f"--{option} {text}: a number of seconds from 0 to 1000000 is expected")
    return value or None


def percent(option: str, text: str | float) -> float:
    """Return a share in per cent, above 0."""
    try:
        value = float(str(text).removesuffix("%"))
    except ValueError:
        raise UsageError(f"--{option} {text}: a number of per cent is expected") from None
    if not 0 < value <= 1000:
        raise UsageError(f"--{option} {text}: per cent above 0, 1000 at most, are expected")
    return value


def _listed(valid: Iterable[StrEnum]) -> str:
    return ", ".join(member.value for member in valid)
