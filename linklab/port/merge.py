"""Three-way merges, where the file that a patch was made for is known.

As `git am --3way` does it: the diff's `index` line names the content that it
changes.  If a repository has that, the patch's result is made of it and merged
with what the source has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from linklab.host.run import run
from linklab.kernel.gitstore import GitStore, git_environment
from linklab.port.diff import FileDiff
from linklab.port.files import known_objects, read_objects
from linklab.port.hunks import apply_hunks, place_hunks
from linklab.port.text import Text

_MERGE_LIMIT = 60.0  # s


class Merger:
    """Merges with the help of what a repository, and the ones that lend to it, have."""

    def __init__(self, store: GitStore) -> None:
        self._store = store
        self._known: frozenset[str] = frozenset()

    def expect(self, blobs: Iterable[str]) -> None:
        """Ask once which of the contents that a series names are known; no other is looked for."""
        self._known = known_objects(self._store, blobs)

    def __call__(self, diff: FileDiff, ours: Text) -> Text | None:
        """Return a diff merged into a file; None without its base or with a conflict."""
        base = self._base(diff.old_blob)
        if base is None:
            return None
        text = Text(base)
        placed = place_hunks(text, diff.hunks, fuzz=False)
        places = [each.place for each in placed]
        if any(place is None or place.offset or place.there for place in places):
            return None  # another file, of which the name's beginning is the same
        theirs = apply_hunks(text, placed)
        merged = _merged(base, ours.content, theirs.content)
        return None if merged is None else ours.became(merged)

    def _base(self, blob: str) -> bytes | None:
        if blob not in self._known:
            return None
        return read_objects(self._store, [blob]).get(blob)


def _merged(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    with tempfile.TemporaryDirectory(prefix="linklab-merge-") as name:
        folder = Path(name)
        for title, content in (("ours", ours), ("base", base), ("theirs", theirs)):
            (folder / title).write_bytes(content)
        done = run(
            ["git", "merge-file", "--stdout", "ours", "base", "theirs"],
            cwd=folder,
            env=git_environment(GIT_CEILING_DIRECTORIES=str(folder.parent)),
            deadline=_MERGE_LIMIT,
            check=False,
        )
    return done.stdout if done.returncode == 0 else None
