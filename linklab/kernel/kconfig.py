"""Config fragments: the lab's kernels by name, what they ask for, whether a config has it.

The lab's kernels are data: `images/kernel/flavours.toml` and the fragments
beside it.  A fragment is a list of `CONFIG_X=value` and `# CONFIG_X is not set` lines,
each with an optional comment that says why.  Later fragments override earlier
ones.  Kconfig silently drops what does not fit, so what came out is compared
with what was asked for, option by option.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from linklab.errors import BuildSkipped, UsageError
from linklab.options import check_file
from linklab.paths import IMAGES

_SET = re.compile(r'^(CONFIG_\w+)=("(?:[^"\\]|\\.)*"|[^\s#"]+)\s*(?:#.*)?$')
_UNSET = re.compile(r"^#\s*(CONFIG_\w+) is not set\b")
_NUMBER = re.compile(r"^(?:0[xX][0-9a-fA-F]+|-?[0-9]+)$")

_FOLDER = IMAGES / "kernel"
MODULAR = _FOLDER / "modules.config"
"""What lets a kernel of the lab take modules."""

_BASE = "base"
_TREES = ("sysfs", "nosysfs")  # what every flavour is one of

_OVERRIDE = "CONFIG_CMDLINE_OVERRIDE"

UNSET = "n"
"""The value of an option that is off: `.config` says "is not set"."""


def flavours(folder: Path = _FOLDER) -> tuple[str, ...]:
    """Return the names of the lab's kernels, in the order of their list."""
    return tuple(_read(folder))


def fragments(flavour: str, folder: Path = _FOLDER) -> tuple[Path, ...]:
    """Return the files that a flavour's config is merged from, the weakest first.

    Raises `KeyError` for a name that is none of `flavours`.
    """
    names = (_BASE, *_read(folder)[flavour]["fragments"])
    return tuple(folder / f"{name}.config" for name in names)


def named_fragments(word: str, folder: Path = _FOLDER) -> tuple[Path, ...]:
    """Return the fragments that a word of `--config` stands for.

    A file is itself. A flavour's name stands for what makes that flavour beyond
    the ones it builds on (`debug`: its checks and symbols, without `sysfs`), a
    fragment's for that fragment. Anything else is taken for a file, whose
    absence is told by who reads it.
    """
    own = folder / f"{word}.config"
    if Path(word).expanduser().exists() or "/" in word or word == _BASE:
        return (Path(word),)
    if word in _read(folder):
        added = [name for name in _read(folder)[word]["fragments"] if name not in _TREES]
        return tuple(folder / f"{name}.config" for name in added or [word])
    return (own,) if own.is_file() else (Path(word),)


def is_timed(flavour: str, folder: Path = _FOLDER) -> bool:
    """Tell whether a flavour is made to be timed, rather than to find bugs."""
    return bool(_read(folder)[flavour]["timed"])


@cache
def _read(folder: Path) -> dict[str, dict[str, Any]]:
    return tomllib.loads((folder / "flavours.toml").read_text())


@dataclass(frozen=True)
class Wish:
    """One line of a fragment. `users` says that a person asked, not the lab.

    What is `optional` may come to nothing: nobody depends on it.
    """

    option: str
    value: str
    where: str
    users: bool
    optional: bool = False

    @property
    def line(self) -> str:
        """The line as `.config` writes it."""
        return config_line(self.option, self.value)


@dataclass(frozen=True)
class Unmet:
    """A wish that the finished config does not have, and what it has instead."""

    wish: Wish
    got: str
    reason: str = ""

    def __str__(self) -> str:
        """Say what was wanted, where, what came out, and why."""
        text = f"{self.wish.where}: wanted `{self.wish.line}`, got "
        text += f"`{config_line(self.wish.option, self.got)}`"
        return f"{text}: {self.reason}" if self.reason else text


Explain = Callable[[Sequence[Unmet]], Sequence[Unmet]]


def config_line(option: str, value: str) -> str:
    """Return an option as `.config` writes it."""
    return f"# {option} is not set" if value == UNSET else f"{option}={value}"


def read_fragment(path: Path, *, users: bool) -> list[Wish]:
    """Return what a fragment asks for, in its order.

    Raises `UsageError` for a file that cannot be read or a line that is
    neither an option nor a comment, with its number.
    """
    check_file("config fragment", path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"config fragment {path} cannot be read: {why}") from error
    return parse_fragment(text, str(path), users=users)


def parse_fragment(text: str, name: str, *, users: bool) -> list[Wish]:
    """Return what the text of a fragment asks for. `name` is for messages."""
    wishes = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        stripped = line.strip()
        if unset := _UNSET.match(stripped):
            wishes.append(Wish(unset[1], UNSET, where, users))
        elif match := _SET.match(stripped):
            wishes.append(Wish(match[1], _checked(match[2], line, where), where, users))
        elif stripped and not stripped.startswith("#"):
            raise _malformed(where, line)
    return wishes


def _checked(value: str, line: str, where: str) -> str:
    if value in {"y", "m", "n"} or value.startswith('"') or _NUMBER.match(value):
        return value
    raise _malformed(where, line)


def _malformed(where: str, line: str) -> UsageError:
    return UsageError(
        f"{where}: `{line.strip()}` is no config line: expected `CONFIG_NAME=value` (y, m, n, "
        'a number or "text") or `# CONFIG_NAME is not set`'
    )


def merge(wishes: Iterable[Wish]) -> dict[str, Wish]:
    """Return the last wish for each option, in the order in which they were last made.

    The order matters to Kconfig: of a choice, the member set last wins.
    """
    merged: dict[str, Wish] = {}
    for wish in wishes:
        merged.pop(wish.option, None)
        merged[wish.option] = wish
    return merged


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a `.config`, those that are off as `UNSET`."""
    options = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            options[match[1]] = match[2]
        elif unset := _UNSET.match(line):
            options[unset[1]] = UNSET
    return options


def check_command_line(options: Mapping[str, str], kernel: str) -> None:
    """Refuse a kernel with a command line of its own that replaces the boot loader's.

    It would hear neither of its console nor of its agent (arch/x86/Kconfig).
    """
    if options.get(_OVERRIDE) == "y":
        own = options.get("CONFIG_CMDLINE", '""')
        raise UsageError(
            f"kernel {kernel} has {_OVERRIDE}=y: it takes its own command line, {own}, and not the "
            "lab's, which names its console and its agent. Build it without"
        )


def overlay(config: str, merged: Mapping[str, Wish]) -> str:
    """Return a `.config` with every wish in it, for `make olddefconfig` to complete."""
    lines = ((line, _SET.match(line) or _UNSET.match(line)) for line in config.splitlines())
    kept = [line for line, match in lines if not (match and match[1] in merged)]
    return "\n".join([*kept, *(wish.line for wish in merged.values()), ""])


def unmet(merged: Mapping[str, Wish], config: Mapping[str, str]) -> list[Unmet]:
    """Return the wishes that a finished config does not fulfil."""
    pairs = [(wish, config.get(wish.option, UNSET)) for wish in merged.values()]
    return [Unmet(wish, got) for wish, got in pairs if _plain(wish.value) != _plain(got)]


def _plain(value: str) -> str | int:
    """Return a value to compare: Kconfig may write a number in another way, `0x10` for `0X10`."""
    if not _NUMBER.match(value):
        return value
    return int(value, 16 if value.lower().startswith("0x") else 10)


def check(
    merged: Mapping[str, Wish], config: Mapping[str, str], explain: Explain, source: str
) -> None:
    """Raise if the finished config lacks anything that a fragment asked for.

    `UsageError` when a person's fragment asked, `BuildSkipped` when only the
    lab's own did: then it is the source that cannot give it. What is optional
    does not count.
    """
    missing = [entry for entry in unmet(merged, config) if not entry.wish.optional]
    if not missing:
        return
    explained = "\n".join(str(entry) for entry in explain(missing))
    count = f"{len(missing)} option" + ("s" if len(missing) > 1 else "")
    if any(entry.wish.users for entry in missing):
        raise UsageError(f"{count} of --config did not hold in {source}:\n{explained}")
    raise BuildSkipped(f"{count} that the lab needs did not hold in {source}:\n{explained}")
