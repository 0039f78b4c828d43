"""What it takes to do a run once more: its options, as a command to copy.

`run.json` keeps the options under their names on the command line, with what
was decided (accelerator, memory, seed) in place of what was left open and
every path absolute, so that they mean the same wherever they are used.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
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
    options = dict(found)
    if listeners := options.pop("listeners", ""):  # the first release had an option for it
        options["param"] = [f"listeners={listeners}"]
    # A run from before there was another clock was done in real time.
    return {**options, "clock": options.get("clock", "real")}


def files_of(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file that the options name."""
    found = about.get(FILES)
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def command_of(about: Mapping[str, Any]) -> str:
    """Return the command that does a run again, to copy into a shell.

    Of a run that did not keep its options, the command as it was typed.
    """
    options = options_of(about)
    if options is None:
        return typed_command(about)
    words = ["invoke", "run"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (False, None, ""):
            for each in value if isinstance(value, list) else [value]:
                words += [flag, str(each)]
    return shlex.join(words)


def typed_command(about: Mapping[str, Any]) -> str:
    """Return a command as it was typed, to type again.

    Without the folder for its results, which holds those of the first time.
    """
    try:
        words = shlex.split(str(about.get("command", "")))
    except ValueError:  # not written by this program
        return str(about["command"])
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if "--output" not in (before, word) and not word.startswith("--output=")
    ]
    if kept and Path(kept[0]).name in _INVOKE:
        kept[0] = "invoke"
    return shlex.join(kept)
