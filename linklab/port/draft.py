"""What one patch does, on top of what the ones before it did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from linklab.port.diff import FileDiff
from linklab.port.files import File, Tree


class Draft:
    """The changes of one patch, kept only if all of it holds.

    As with `git apply` the parts of a patch happen at once: a name that one
    part gives up is free for another, and two files may change names.
    """

    def __init__(self, tree: Tree, diffs: Sequence[FileDiff]) -> None:
        self._tree = tree
        self._changes: dict[str, File | None] = {}
        given_up = (diff.old for diff in diffs if diff.new != diff.old and not diff.is_copy)
        self._given_up = {path for path in given_up if path is not None}

    def get(self, path: str) -> File | None:
        """Return a file for a part of the patch to change; None where there is none."""
        if path in self._given_up or path not in self._changes:
            return self._tree.get(path)
        return self._changes[path]

    def standing(self, path: str) -> File | None:
        """Return a file that is in the way of a new one of this path; None where none is."""
        if path in self._changes:
            return self._changes[path]
        return None if path in self._given_up else self._tree.get(path)

    def blocked(self, path: str) -> str:
        """Return why no file can have this path: a folder has it, or a file has a folder's.

        Empty where one can.
        """
        parents = (str(parent) for parent in PurePosixPath(path).parents)
        for parent in parents:
            if parent != "." and self.standing(parent) is not None:
                return f"{parent} is a file in this source"
        below = (each for each in self._tree.below(path) if self.standing(each) is not None)
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
        return {
            path: file
            for path, file in self._changes.items()
            if not _same(file, self._tree.get(path))
        }


def _same(one: File | None, other: File | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.mode, one.content) == (other.mode, other.content)
