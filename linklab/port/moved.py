"""Files that have another path in this source: `fs/smb/client` was `fs/cifs` once.

A path that the source lacks is looked for by its content, by the folder that
other files of its folder were found in, and by its name.  What is found counts
only if every hunk fits exactly; once a folder's move is certain, its other
files and new ones follow it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from linklab.port.diff import FileDiff
from linklab.port.files import Tree
from linklab.port.hunks import place_hunks
from linklab.port.text import tells

_MOST = 40  # files of one name that are tried: there are thousands of Makefiles
_FEW = 3  # of one name, that are worth a person's look
_SHORTEST = 7  # letters of a content's name that git writes at least


class Moves:
    """Where the paths of a series are in a source that lacks them.

    `own` are the paths that the series names: what has one of these is no
    other file's new place.
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
        if not exact:
            return
        best = max(exact, key=lambda found: self._likeness(path, found))
        equals = [f for f in exact if self._likeness(path, f) == self._likeness(path, best)]
        if len(equals) == 1:
            self._files[path] = best
            pair = path.rpartition("/")[0], best.rpartition("/")[0]
            self._folders.setdefault(pair[0], Counter())[pair[1]] += 1

    def locate(self, path: str, diff: FileDiff) -> str | None:
        """Return where a path that is not there is, or is to be made; None if nothing says so."""
        if path in self._files:
            return self._files[path]
        folder, _, name = path.rpartition("/")
        if self._tree.has_folder(folder) or folder not in self._folders:
            return None
        there = f"{self._folders[folder].most_common(1)[0][0]}/{name}"
        if diff.new == path and diff.old != path:  # to be made, by this name
            return there
        return there if self._tree.get(there) is not None else None

    def namesakes(self, path: str) -> list[str]:
        """Return files of the same name, the likeliest first, where there are only a few."""
        found = [each for each in self._by_name.get(path.rpartition("/")[2], []) if each != path]
        found.sort(key=lambda each: self._likeness(path, each), reverse=True)
        return found if len(found) <= _FEW else []

    def _candidates(self, path: str, diff: FileDiff) -> Iterator[str]:
        found: dict[str, None] = {}
        found |= dict.fromkeys(self._of_blob(diff.old_blob))
        folder, _, name = path.rpartition("/")
        for other in self._folders.get(folder, ()):
            found[f"{other}/{name}"] = None
        named = self._by_name.get(name, [])
        if len(named) <= _MOST:
            found |= dict.fromkeys(named)
        free = [each for each in found if each not in self._own]
        self._tree.fetch(free)
        return (each for each in free if self._tree.get(each) is not None)

    def _of_blob(self, blob: str) -> list[str]:
        near = self._by_blob.get(blob[:_SHORTEST], [])
        return [path for path in near if self._tree.listing[path][1].startswith(blob)]

    def _fits(self, path: str, diff: FileDiff) -> bool:
        file = self._tree.get(path)
        if file is None:
            return False
        if diff.old_blob and self._tree.listing.get(path, (0, ""))[1].startswith(diff.old_blob):
            return True
        if not any(tells(hunk.old) for hunk in diff.hunks):
            return False
        placed = place_hunks(file.text, diff.hunks, fuzz=False)
        return all(each.place is not None for each in placed)

    def _likeness(self, path: str, found: str) -> tuple[int, int]:
        """Return how likely a move is: to where its neighbours are, and by its folders' names."""
        folder, other = path.rpartition("/")[0], found.rpartition("/")[0]
        shared = Counter(folder.split("/")) & Counter(other.split("/"))
        return self._folders.get(folder, Counter())[other], shared.total()
