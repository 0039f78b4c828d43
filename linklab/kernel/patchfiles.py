"""Where patches lie: a file, an mbox, a folder, a quilt folder, a maildir.

Gives the messages of each in the order that `git am` would take them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import UsageError
from linklab.kernel.mail import Letter, read_letters

QUILT = "series"
"""The file by which quilt, and Debian's `debian/patches`, order a folder."""

_SUFFIXES = frozenset((".patch", ".diff", ".eml", ".mbox", ".mbx"))
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Found:
    """A message and the file that it was in."""

    letter: Letter
    path: Path


@dataclass(frozen=True)
class Collection:
    """What one path holds. `ordered` says that somebody wrote the order down."""

    path: Path
    found: tuple[Found, ...]
    files: tuple[Path, ...]
    ordered: bool = False


def collect(path: Path) -> Collection:
    """Return what a path holds.

    Raises `UsageError` for one that cannot be read, and for a folder without
    patches.
    """
    path = path.expanduser()
    if not path.is_dir():
        return Collection(path, _messages(path), (path,))
    order = path / QUILT
    if order.is_file():
        files = _quilt(order)
        return _of_files(path, files, extra=(order,), ordered=True)
    if (path / "cur").is_dir() and (path / "new").is_dir():
        files = [file for part in ("cur", "new") for file in (path / part).iterdir()]
        return _of_files(path, sorted(files, key=lambda file: _natural(file.name)))
    files = [file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file()]
    if not files:
        wanted = ", ".join(f"*{suffix}" for suffix in sorted(_SUFFIXES))
        raise UsageError(
            f"folder {path} holds no patches: expected {wanted}, a maildir, or quilt's `{QUILT}`"
        )
    return _of_files(path, sorted(files, key=lambda file: _natural(file.name)))


def _of_files(
    path: Path, files: list[Path], extra: tuple[Path, ...] = (), *, ordered: bool = False
) -> Collection:
    found = tuple(each for file in files for each in _messages(file))
    return Collection(path, found, (*extra, *files), ordered)


def _messages(path: Path) -> tuple[Found, ...]:
    return tuple(Found(letter, path) for letter in read_letters(_content(path)))


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked: lore.kernel.org gives threads as `t.mbox.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"patch {path} cannot be read: {reason}") from error


def _quilt(order: Path) -> list[Path]:
    """Return the files that quilt's list names, in its order."""
    lines = _content(order).decode(errors="replace").splitlines()
    words = [line.partition("#")[0].split() for line in lines]
    return [order.parent / each[0] for each in words if each]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Order names as a person does: 2.patch before 10.patch."""
    words = re.split(r"(\d+)", name)
    return [(0, int(word)) if word.isdigit() else (1, word) for word in words]
