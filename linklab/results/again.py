"""What it takes to do a run once more: its options, as a command to copy.

`run.json` keeps the options under their names on the command line, with what
was decided (accelerator, memory, seed) in place of what was left open and
every path absolute, so that they mean the same wherever they are used.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_INVOKE = ("invoke", "inv", "__main__.py")
ENTRY = "options"
FILES = "files"  # the SHA-256 of each file among them, by its absolute path


def options_of(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options of a run by name, or None of a run that did not keep them."""
    found = about.get(ENTRY)
    if not isinstance(found, Mapping):
        return None
    options = {str(name): value for name, value in found.items()}
    if listeners := options.pop("listeners", ""):  # the first release had an option for it
        options["param"] = [f"listeners={listeners}"]
    # A run from before there was another clock was done in real time.
    return options | {"clock": options.get("clock", "real")}


def files_of(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file that the options name."""
    found = about.get(FILES)
    if not isinstance(found, Mapping):
        return {}
    return {str(path): str(value) for path, value in found.items()}


def command_of(about: Mapping[str, Any]) -> str:
    """Return the command that does a run again, to copy into a shell.

    Of a run that did not keep its options, the command as it was typed.
    """
    options = options_of(about)
    if options is None:
        return typed_command(about)
    return shlex.join(["invoke", "run", *_words(options)])


def typed_command(about: Mapping[str, Any]) -> str:
    """Return a command as it was typed, to type again.

    Without the folder for its results, which holds those of the first time.
    """
    try:
        words = shlex.split(str(about.get("command", "")))
    except ValueError:  # not written by this program
        return str(about["command"])
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--output":
            del words[:1]
        elif not word.startswith("--output="):
            kept.append(word)
    if kept and Path(kept[0]).name in _INVOKE:
        kept[0] = "invoke"
    return shlex.join(kept)


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            for each in value:
                yield from (flag, str(each))
        elif value is True:
            yield flag
        elif value not in (False, None, ""):
            yield from (flag, str(value))
