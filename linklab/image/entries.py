"""What an image can hold: the entries of its file tree, before they are packed.

An entry's `kind` is its type in mtree(5), `mode` its permission bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from linklab.errors import LabError
from linklab.host.cache import hash_file

REST = "links, devices, /etc"


@dataclass(frozen=True)
class Directory:
    """A folder."""

    kind: ClassVar = "dir"
    path: str
    mode: int = 0o755


@dataclass(frozen=True)
class Device:
    """A character device's node."""

    kind: ClassVar = "char"
    path: str
    mode: int
    major: int
    minor: int


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    kind: ClassVar = "link"
    mode: ClassVar = 0o777
    path: str
    target: str


@dataclass(frozen=True)
class File:
    """A file whose content is bytes, or a file of the host.

    `part` is the line of the weight table that it counts for.
    """

    kind: ClassVar = "file"
    path: str
    mode: int
    content: bytes | Path
    part: str = REST

    def read(self) -> bytes:
        """Return the content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


Entry = Directory | Device | Link | File


def tree_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries in the order of their paths, the folders on the way added.

    Raises `LabError` for a path that is relative or there twice.
    """
    by_path: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if not path.is_absolute() or ".." in path.parts or str(path) != entry.path:
            raise LabError(f"{entry.path!r} is no path for an image: /a/path/like/this expected")
        if entry.path in by_path:
            raise LabError(f"{entry.path} is twice in the image: leave one out of its manifest")
        by_path[entry.path] = entry
    for known in list(by_path):
        for folder in PurePosixPath(known).parents:
            if folder.name and str(folder) not in by_path:
                by_path[str(folder)] = Directory(str(folder))
    return tuple(by_path[known] for known in sorted(by_path))


def identity_of(entry: Entry) -> list[Any]:
    """Return what distinguishes the entry, its content as a hash, for JSON."""
    kind = entry.kind
    match entry:
        case Directory(path, mode):
            return [kind, path, mode]
        case Device(path, mode, major, minor):
            return [kind, path, mode, major, minor]
        case Link(path, target):
            return [kind, path, target]
        case File(path, mode, content):
            return [kind, path, mode, _hash(content)]


def _hash(content: bytes | Path) -> str:
    return hash_file(content) if isinstance(content, Path) else sha256(content).hexdigest()
