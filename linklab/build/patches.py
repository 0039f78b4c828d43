"""Patches: applied to a tree's name, giving the name of the patched tree.

They are applied in an index, never in a folder: a patch that does not apply
leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from linklab.build.gitstore import GitStore
from linklab.build.memo import load_json, save_json
from linklab.build.source import Source
from linklab.errors import BuildSkipped, UsageError
from linklab.host.cache import hash_file, key_of
from linklab.host.run import CommandFailed

_MEMO = "patched.json"
_FAILED = re.compile(r"^error: patch failed: (?P<file>.*):(?P<line>\d+)$", re.MULTILINE)
_REFUSED = re.compile(r"^error: (?P<file>[^:\n]+): (?P<why>[^\n]+)$", re.MULTILINE)
_NO_PATCH = re.compile(r"No valid patches in input|unrecognized input|corrupt patch|malformed")
_HUNK = re.compile(rb"^@@ -(\d+)")


def check_patches(patches: Sequence[Path]) -> None:
    """Raise `UsageError` for a file that is not there or is not a patch."""
    for path in patches:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"patch {path} cannot be read: {error.strerror}") from error
        lines = content.splitlines()
        if not any(line.startswith((b"diff --git ", b"--- ")) for line in lines):
            raise UsageError(
                f"{path} is not a patch: expected a unified diff, as `git format-patch` writes it"
            )


def patched_tree(source: Source, patches: Sequence[Path]) -> str:
    """Return the name of the source's tree with the patches applied in order.

    Raises `BuildSkipped`, with git's own words, when one does not apply.
    """
    check_patches(patches)
    if not patches:
        return source.tree
    memo = source.store.folder / _MEMO
    entry = key_of({"tree": source.tree, "patches": [hash_file(path) for path in patches]})
    known = load_json(memo)
    tree = known.get(entry)
    if isinstance(tree, str) and _is_there(source.store, tree):
        return tree
    with source.store.scratch_index(source.tree) as index:
        for path in patches:
            _apply(source, path, index)
        tree = source.store.write_tree(index)
    save_json(memo, {**known, entry: tree})
    return tree


def _is_there(store: GitStore, tree: str) -> bool:
    return store.git(["cat-file", "-e", tree], check=False).returncode == 0


def _apply(source: Source, path: Path, index: Path) -> None:
    try:
        source.store.git(["apply", "--cached", "--whitespace=nowarn", path.resolve()], index=index)
    except CommandFailed as error:
        if _NO_PATCH.search(error.evidence):
            raise UsageError(f"{path} is not a whole patch", error.evidence) from error
        where = _where(path, error.evidence)
        raise BuildSkipped(
            f"patch {path} does not apply to {source.origin}: {where}", error.evidence
        ) from error


def _where(path: Path, words: str) -> str:
    """Return the file, and the hunk if git names one, that a patch failed at."""
    if failed := _FAILED.search(words):
        line = int(failed["line"])
        hunk = _hunk_at(path, failed["file"], line)
        return f"{failed['file']}, {hunk or 'the hunk'} at line {line}"
    if refused := _REFUSED.search(words):
        return f"{refused['file']}: {refused['why']}"
    return "git says why below"


def _hunk_at(path: Path, name: str, line: int) -> str | None:
    """Return which hunk of a file's part of the patch begins at a line."""
    inside, count = False, 0
    for text in path.read_bytes().splitlines():
        if text.startswith((b"+++ ", b"--- ", b"diff --git ")):
            if text.startswith((b"diff --git ", b"--- ")):
                inside, count = False, 0
            inside = inside or text.split(b"\t")[0].rstrip().endswith(b"/" + name.encode())
        elif inside and (match := _HUNK.match(text)):
            count += 1
            if int(match[1]) == line:
                return f"hunk {count}"
    return None
