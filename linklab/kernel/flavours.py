"""The lab's kernels by name, and the fragments that each is made of.

What they are is data: `images/kernel/flavours.toml` and the fragments beside it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from linklab.paths import IMAGES

_FOLDER = IMAGES / "kernel"
_LIST = "flavours.toml"

MODULAR = _FOLDER / "modules.config"
"""What lets a kernel of the lab take modules."""

_BASE = "base"
_TREES = ("sysfs", "nosysfs")  # what every flavour is one of


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
    return tomllib.loads((folder / _LIST).read_text())
