"""The files of a source as a series finds them: as they are, moved, and as its patches leave them.

Contents come from the lab's private repository, many at a time; what patches
change is kept in memory.  No index and no work tree of 80,000 files takes part.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from linklab.errors import LabError
from linklab.kernel.diff import GITLINK, FileDiff
from linklab.kernel.gitstore import GitStore
from linklab.port.place import Text, is_telling, place_hunks

_MOST_TRIED = 40  # files of one name: there are thousands of Makefiles
_MOST_NAMED = 3  # files of one name that a message lists
_SHORTEST = 7  # letters of a content's name that git writes at least


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
    """Return git's name of a content; `length` says whether by SHA-1 or SHA-256."""
    digest = hashlib.sha1 if length <= 40 else hashlib.sha256
    return digest(b"blob %d\0%b" % (len(content), content)).hexdigest()


def read_objects(store: GitStore, names: Iterable[str]) -> dict[str, bytes]:
    """Return the blobs that a repository has of these names, which may be abbreviated."""
    wanted = list(dict.fromkeys(names))
    lines = "".join(f"{name}\n" for name in wanted).encode()
    out = store.git(["cat-file", "--batch"], stdin=lines).stdout
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
    """Return which of these names, whole or abbreviated, a repository has blobs of."""
    wanted = [name for name in dict.fromkeys(names) if name]
    lines = "".join(f"{name}\n" for name in wanted).encode()
    out = store.git(["cat-file", "--batch-check=%(objecttype)"], stdin=lines).stdout
    found = zip(wanted, out.splitlines(), strict=True)
    return frozenset(name for name, kind in found if kind == b"blob")


def parents_of(path: str) -> list[str]:
    """Return the folders that a path is in, the innermost first; the root is not among them."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


class Tree:
    """One state of a source, and what patches made of it so far.

    `listing` has the files before any patch: mode and git's name of the
    content, by path.
    """

    def __init__(self, store: GitStore, tree: str) -> None:
        self.store = store
        self.listing: Mapping[str, tuple[int, str]] = dict(_listing(store, tree))
        self._contents: dict[str, bytes] = {}
        self._changed: dict[str, File | None] = {}
        siblings = {path.rpartition("/")[0]: path for path in self.listing}
        self._folders = {folder for path in siblings.values() for folder in parents_of(path)}

    def fetch(self, paths: Iterable[str]) -> None:
        """Read the contents of files that will be asked for, all at once."""
        entries = (self.listing[path] for path in paths if path in self.listing)
        names = {name for mode, name in entries if mode != GITLINK} - self._contents.keys()
        if names:
            self._contents |= read_objects(self.store, sorted(names))

    def get(self, path: str) -> File | None:
        """Return a file as it is now, None where there is none.

        Raises `LabError` when the repository has lost its content.
        """
        if path in self._changed:
            return self._changed[path]
        if path not in self.listing:
            return None
        mode, name = self.listing[path]
        self.fetch([path])
        if mode == GITLINK:
            file = File(mode, Text(f"Subproject commit {name}\n".encode()))
        elif name in self._contents:
            file = File(mode, Text(self._contents[name]))
        else:
            raise LabError(f"{self.store.repository} has lost the content of {path} ({name})")
        self._changed[path] = file
        return file

    def below(self, folder: str) -> Iterator[str]:
        """Yield the files in a folder and its folders, as they are now."""
        if folder in self._folders:
            for path in {*self.listing, *self._changed}:
                if path.startswith(f"{folder}/") and self._changed.get(path, True) is not None:
                    yield path

    def change(self, changes: Mapping[str, File | None]) -> None:
        """Take what a patch did; None removes a file."""
        self._changed.update(changes)
        for path, file in changes.items():
            if file is not None:
                self._folders.update(parents_of(path))

    def has_folder(self, folder: str) -> bool:
        """Tell whether a folder holds files, or did before the series removed them."""
        return folder in self._folders


def _listing(store: GitStore, tree: str) -> Iterator[tuple[str, tuple[int, str]]]:
    for entry in store.git(["ls-tree", "-r", "-z", tree]).stdout.split(b"\0")[:-1]:
        meta, _, path = entry.partition(b"\t")
        mode, _, name = meta.split()
        yield os.fsdecode(path), (int(mode, 8), name.decode())


class Draft:
    """The changes of one patch on top of a tree, kept only if all of it applies.

    As with `git apply` the parts of a patch happen at once: a name that one
    part gives up is free for another, and two files may swap names.
    """

    def __init__(self, tree: Tree, diffs: Sequence[FileDiff]) -> None:
        self.tree = tree
        self._changes: dict[str, File | None] = {}
        given_up = (diff.old for diff in diffs if diff.new != diff.old and not diff.is_copy)
        self._given_up = {path for path in given_up if path is not None}

    def get(self, path: str) -> File | None:
        """Return a file for a part of the patch to change; None where there is none."""
        if path in self._given_up or path not in self._changes:
            return self.tree.get(path)
        return self._changes[path]

    def standing(self, path: str) -> File | None:
        """Return a file that is in the way of a new one of this path; None where none is."""
        if path in self._changes:
            return self._changes[path]
        return None if path in self._given_up else self.tree.get(path)

    def blocked(self, path: str) -> str:
        """Return why no file can have this path: a folder has it, or a file has a folder's.

        Empty where one can.
        """
        for parent in parents_of(path):
            if self.standing(parent) is not None:
                return f"{parent} is a file in this source"
        below = (each for each in self.tree.below(path) if self.standing(each) is not None)
        if inside := next(below, None):
            return f"it is a folder in this source, with {inside}"
        return ""

    def put(self, path: str, file: File) -> None:
        """Write a file."""
        self._changes[path] = file

    def remove(self, path: str) -> None:
        """Remove a file, unless another part of the patch made a new one of its name."""
        if not (path in self._given_up and path in self._changes):
            self._changes[path] = None

    def effective(self) -> dict[str, File | None]:
        """Return the changes that change something."""
        return {path: file for path, file in self._changes.items() if not self._is_old(path, file)}

    def _is_old(self, path: str, file: File | None) -> bool:
        old = self.tree.get(path)
        if old is None or file is None:
            return old is file
        return (old.mode, old.content) == (file.mode, file.content)


class Moves:
    """Where the paths of a series are in a source that lacks them.

    `fs/smb/client` was `fs/cifs` once. A path is looked for by its content, by the
    folder that other files of its folder were found in, and by its name.  What is
    found counts only if every hunk fits exactly; once a folder's move is certain,
    its other files and new ones follow it.  `own` are the paths that the series
    names: none of them is another file's new place.
    """

    def __init__(self, tree: Tree, own: Collection[str]) -> None:
        self._tree, self._own = tree, own
        self._by_name: dict[str, list[str]] = {}
        self._by_blob: dict[str, list[str]] = {}
        for path, (_, blob) in tree.listing.items():
            self._by_name.setdefault(path.rpartition("/")[2], []).append(path)
            self._by_blob.setdefault(blob[:_SHORTEST], []).append(path)
        self._files: dict[str, str] = {}
        self._folders: dict[str, Counter[str]] = {}

    def learn(self, path: str, diff: FileDiff) -> None:
        """Look for a file that the source lacks; `diff` is the first change to it."""
        if path in self._files:
            return
        exact = [found for found in self._candidates(path, diff) if self._fits(found, diff)]
        likeness = {found: self._likeness(path, found) for found in exact}
        best = [found for found in exact if likeness[found] == max(likeness.values())]
        if len(best) == 1:
            self._files[path] = best[0]
            old, new = (each.rpartition("/")[0] for each in (path, best[0]))
            self._folders.setdefault(old, Counter())[new] += 1

    def locate(self, path: str, diff: FileDiff) -> str | None:
        """Return where a missing path is, or is to be created; None where that is not known."""
        if path in self._files:
            return self._files[path]
        folder, _, name = path.rpartition("/")
        if self._tree.has_folder(folder) or folder not in self._folders:
            return None
        there = f"{self._folders[folder].most_common(1)[0][0]}/{name}"
        if diff.new == path and diff.old != path:  # a new file
            return there
        return there if self._tree.get(there) is not None else None

    def namesakes(self, path: str) -> list[str]:
        """Return files of the same name, the likeliest first, where there are only a few."""
        found = [each for each in self._by_name.get(path.rpartition("/")[2], []) if each != path]
        found.sort(key=lambda each: self._likeness(path, each), reverse=True)
        return found if len(found) <= _MOST_NAMED else []

    def _candidates(self, path: str, diff: FileDiff) -> Iterator[str]:
        folder, _, name = path.rpartition("/")
        near = self._by_blob.get(diff.old_blob[:_SHORTEST], [])
        found = [each for each in near if self._has_blob(each, diff.old_blob)]
        found += [f"{other}/{name}" for other in self._folders.get(folder, ())]
        named = self._by_name.get(name, [])
        if len(named) <= _MOST_TRIED:
            found += named
        free = [each for each in dict.fromkeys(found) if each not in self._own]
        self._tree.fetch(free)
        return (each for each in free if self._tree.get(each) is not None)

    def _has_blob(self, path: str, blob: str) -> bool:
        return self._tree.listing.get(path, (0, ""))[1].startswith(blob)

    def _fits(self, path: str, diff: FileDiff) -> bool:
        file = self._tree.get(path)
        if file is None:
            return False
        if diff.old_blob and self._has_blob(path, diff.old_blob):
            return True
        if not any(is_telling(hunk.old) for hunk in diff.hunks):
            return False
        placed = place_hunks(file.text, diff.hunks, fuzz=False)
        return all(each.place is not None for each in placed)

    def _likeness(self, path: str, found: str) -> tuple[int, int]:
        """Return how likely a move is: to where its neighbours are, and by its folders' names."""
        folder, other = path.rpartition("/")[0], found.rpartition("/")[0]
        shared = Counter(folder.split("/")) & Counter(other.split("/"))
        return self._folders.get(folder, Counter())[other], shared.total()
