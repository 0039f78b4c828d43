"""The files of a source as a series finds them: as they are, and as its patches leave them.

Contents come from the lab's private repository, many at a time; what patches
change is kept in memory.  No index and no work tree of 80,000 files takes part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from linklab.errors import LabError
from linklab.kernel.gitstore import GitStore
from linklab.port.text import Text


@dataclass(frozen=True)
class File:
    """A file: git's mode (0o100644, 0o100755, 0o120000, 0o160000) and its content."""

    mode: int
    text: Text

    @property
    def content(self) -> bytes:
        """Its bytes; of a link the path that it points to."""
        return self.text.content


def blob_name(content: bytes, length: int = 40) -> str:
    """Return what git calls a content; `length` tells SHA-1 from SHA-256."""
    digest = hashlib.sha1 if length <= 40 else hashlib.sha256
    return digest(b"blob %d\0%b" % (len(content), content)).hexdigest()


def read_objects(store: GitStore, names: Iterable[str]) -> dict[str, bytes]:
    """Return the blobs that a repository has of these names, which may be cut short."""
    wanted = list(dict.fromkeys(names))
    out = store.git(
        ["cat-file", "--batch"], stdin="".join(f"{name}\n" for name in wanted).encode()
    ).stdout
    found: dict[str, bytes] = {}
    at = 0
    for name in wanted:
        end = out.index(b"\n", at)
        words = out[at:end].split()
        at = end + 1
        if len(words) == 3 and words[2].isdigit():
            size = int(words[2])
            if words[1] == b"blob":
                found[name] = out[at : at + size]
            at += size + 1
    return found


def known_objects(store: GitStore, names: Iterable[str]) -> frozenset[str]:
    """Return which of these names, whole or cut short, are those of blobs in a repository."""
    wanted = [name for name in dict.fromkeys(names) if name]
    lines = "".join(f"{name}\n" for name in wanted).encode()
    out = store.git(["cat-file", "--batch-check=%(objecttype)"], stdin=lines).stdout
    found = zip(wanted, out.splitlines(), strict=True)
    return frozenset(name for name, kind in found if kind == b"blob")


class Tree:
    """One state of a source, and what patches made of it so far."""

    def __init__(self, store: GitStore, tree: str) -> None:
        self.store = store
        self.name = tree
        self._listing = _listing(store, tree)
        self._contents: dict[str, bytes] = {}
        self._changed: dict[str, File | None] = {}
        self._folders = _folders(self._listing)

    @property
    def listing(self) -> Mapping[str, tuple[int, str]]:
        """The files before any patch: mode and git's name of the content, by path."""
        return self._listing

    def fetch(self, paths: Iterable[str]) -> None:
        """Read the contents of files that will be asked for, in one go."""
        entries = (self._listing[path] for path in paths if path in self._listing)
        names = {name for mode, name in entries if mode != 0o160000} - self._contents.keys()
        if names:
            self._contents |= read_objects(self.store, sorted(names))

    def get(self, path: str) -> File | None:
        """Return a file as it is now, None where there is none.

        Raises `LabError` when the repository has lost its content.
        """
        if path in self._changed:
            return self._changed[path]
        if path not in self._listing:
            return None
        mode, name = self._listing[path]
        self.fetch([path])
        if mode == 0o160000:
            file = File(mode, Text(f"Subproject commit {name}\n".encode()))
        elif name in self._contents:
            file = File(mode, Text(self._contents[name]))
        else:
            raise LabError(f"{self.store.repository} has lost the content of {path} ({name})")
        self._changed[path] = file
        return file

    def exists(self, path: str) -> bool:
        """Tell whether there is a file of this path now."""
        if path in self._changed:
            return self._changed[path] is not None
        return path in self._listing

    def below(self, folder: str) -> Iterator[str]:
        """Yield the files in a folder and its folders, as they are now."""
        if folder in self._folders:
            inside = f"{folder}/"
            paths = {*self._listing, *self._changed}
            yield from (path for path in paths if path.startswith(inside) and self.exists(path))

    def change(self, changes: Mapping[str, File | None]) -> None:
        """Take what a patch did; None removes a file."""
        self._changed.update(changes)
        for path, file in changes.items():
            if file is not None:
                self._folders.update(_parents(path))

    def has_folder(self, folder: str) -> bool:
        """Tell whether a folder holds files, or did before the series removed them."""
        return folder in self._folders


def _listing(store: GitStore, tree: str) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for entry in store.git(["ls-tree", "-r", "-z", tree]).stdout.split(b"\0")[:-1]:
        meta, _, path = entry.partition(b"\t")
        mode, _, name = meta.split()
        found[os.fsdecode(path)] = int(mode, 8), name.decode()
    return found


def _folders(paths: Iterable[str]) -> set[str]:
    return {parent for folder in {_folder(path) for path in paths} for parent in _parents(folder)}


def _folder(path: str) -> str:
    return path.rpartition("/")[0] + "/"


def _parents(path: str) -> set[str]:
    return {str(parent) for parent in PurePosixPath(path + "x").parents}
