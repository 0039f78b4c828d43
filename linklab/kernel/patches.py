"""Patches: applied to a tree's name, giving the name of the patched tree.

They are applied in an index, never in a folder: a patch that does not apply
leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from linklab.errors import BuildSkipped, UsageError
from linklab.host.cache import key_of, load_json, save_json
from linklab.host.run import CommandFailed
from linklab.kernel.gitstore import GitStore
from linklab.kernel.misfit import Misfit, compare, find_misfit
from linklab.kernel.series import Patch
from linklab.kernel.source import Source

_MEMO = "patched.json"
_NO_PATCH = re.compile(r"No valid patches in input|unrecognized input|corrupt patch|malformed")
_NAMED = 3  # patches that stand before the one in an error


def patched_tree(source: Source, patches: Sequence[Patch]) -> str:
    """Return the name of the source's tree with the patches applied in order.

    Raises `BuildSkipped` when one does not apply: which, where, and what
    stands there instead. Raises `UsageError` for one that is cut short.
    """
    return _applied(source, source.tree, patches, ())


def patched_trees(source: Source, patches: Sequence[Patch]) -> list[str]:
    """Return the name of the source's tree after each of the patches.

    Raises what `patched_tree` does.
    """
    trees = [source.tree]
    for done, patch in enumerate(patches):
        trees.append(_applied(source, trees[-1], [patch], patches[:done]))
    return trees[1:]


def _applied(source: Source, tree: str, patches: Sequence[Patch], before: Sequence[Patch]) -> str:
    """Return a tree with patches applied; `before` were applied to it already."""
    effective = [patch for patch in patches if patch.diff.strip()]  # a commit may change nothing
    if not effective:
        return tree
    store, memo = source.store, source.store.folder / _MEMO
    hashes = [hashlib.sha256(patch.diff).hexdigest() for patch in effective]
    entry = key_of({"tree": tree, "patches": hashes})
    known = load_json(memo)
    found = known.get(entry)
    if isinstance(found, str) and _is_there(store, found):
        return found
    with TemporaryDirectory(prefix="scratch.", dir=store.folder) as folder:
        files = [Path(folder) / f"{number}.diff" for number in range(len(effective))]
        for file, patch in zip(files, effective, strict=True):
            file.write_bytes(patch.diff)
        try:
            result = _apply(store, tree, files)
        except CommandFailed:
            bad = _first_bad(store, tree, files)
            done = [*before, *effective[:bad]]
            raise _refusal(source, tree, files[: bad + 1], effective[bad], done) from None
    save_json(memo, {**load_json(memo), entry: result})
    return result


def _is_there(store: GitStore, tree: str) -> bool:
    return store.git(["cat-file", "-e", tree], check=False).returncode == 0


def _apply(store: GitStore, tree: str, files: Sequence[Path]) -> str:
    """Apply all files with one git, which takes a thousand in the time of a few."""
    with store.scratch_index(tree) as index:
        store.git(["apply", "--cached", "--whitespace=nowarn", *files], index=index)
        return store.write_tree(index)


def _first_bad(store: GitStore, tree: str, files: Sequence[Path]) -> int:
    """Return which file is the first that does not apply: git does not say."""
    good, bad = 0, len(files)  # so many apply, so many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _apply(store, tree, files[:middle])
            good = middle
        except CommandFailed:
            bad = middle
    return bad - 1


def _refusal(
    source: Source, tree: str, files: Sequence[Path], patch: Patch, done: Sequence[Patch]
) -> BuildSkipped | UsageError:
    """Return the error for the last of some files, which does not apply after the others."""
    store = source.store
    good = _apply(store, tree, files[:-1]) if files[:-1] else tree
    with store.scratch_index(good) as index:
        argv = ["apply", "--cached", "--check", "--whitespace=nowarn"]
        words = store.git([*argv, files[-1]], index=index, check=False).stderr.decode(
            errors="replace"
        )
        reverse = store.git([*argv, "--reverse", files[-1]], index=index, check=False)
    if _NO_PATCH.search(words):
        return UsageError(f"{patch.title} is not a whole patch ({patch.origin})", words.rstrip())
    misfit = find_misfit(patch.diff, words)
    after = f" after {_named(done)}" if done else ""
    there = ": all of it is in there already" if reverse.returncode == 0 else ""
    message = f"{patch.title} does not apply to {source.origin}{after}: {misfit.where}{there}"
    return BuildSkipped(message, "\n".join(filter(None, (_shown(store, good, misfit), words))))


def _named(done: Sequence[Patch]) -> str:
    if len(done) > _NAMED:
        return f"{len(done)} others"
    return ", ".join(patch.place if patch.total > 1 else patch.title for patch in done)


def _shown(store: GitStore, tree: str, misfit: Misfit) -> str:
    """Return what a hunk expects and what stands there, line against line."""
    if misfit.hunk is None:
        return ""
    blob = store.git(["cat-file", "blob", f"{tree}:{misfit.hunk.file}"], check=False)
    return compare(misfit.hunk, blob.stdout.decode(errors="replace")) + "\n"
