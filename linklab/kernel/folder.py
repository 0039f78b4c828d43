"""A person's kernel tree, as it is now, read into a private repository.

A git checkout lends its objects (through `objects/info/alternates`) and a
copy of its index, so that only files which changed are read.  Its own index,
objects and files are never changed.  (Git renews the time of an object that it
finds where it would have written the same one, which keeps it from `git gc`.)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import LabError, UsageError
from linklab.events import Listener, step
from linklab.host.cache import write_whole
from linklab.host.run import CommandFailed, run
from linklab.kernel.gitstore import GitStore, git_environment

# Patterns that leave nothing: Debian's linux-source ends its .gitignore with "/*".
_IGNORE_ALL = re.compile(r"^/?\*+(/\*+)*/?$")


@dataclass(frozen=True)
class Checkout:
    """Where a git checkout keeps what a snapshot of it starts from."""

    index: Path
    objects: Path
    exclude: Path
    object_format: str


def find_checkout(folder: Path) -> Checkout | None:
    """Return where git keeps things, None when the folder is not the top of a checkout.

    Asks git, which knows about linked work trees and `.git` files.  Whoever
    owns the checkout: it is only read.
    """
    asked = run(
        ["git", "-c", "safe.directory=*", "rev-parse", "--path-format=absolute",
         "--show-toplevel", "--git-path", "index", "--git-path", "objects",
         "--git-path", "info/exclude", "--show-object-format"],
        cwd=folder,
        env=git_environment(),
        check=False,
    )  # fmt: skip
    lines = asked.text.split("\n")
    if asked.returncode != 0 or len(lines) != 5 or Path(lines[0]).resolve() != folder:
        return None
    return Checkout(Path(lines[1]), Path(lines[2]), Path(lines[3]), lines[4])


def snapshot(folder: Path, store: GitStore, listener: Listener, *, afresh: bool = False) -> str:
    """Return the tree of everything in the folder that counts as source.

    That is what `git add --all` takes, uncommitted and new files included.
    `afresh` reads every file again, whatever is remembered of it: for objects
    that the checkout lent and has thrown away since.  Raises `LabError` when a
    file cannot be read.
    """
    checkout = find_checkout(folder)
    _prepare(store, checkout)
    index = store.folder / "folder.index"
    index.with_name(index.name + ".lock").unlink(missing_ok=True)
    with step(listener, f"look for changes in {folder}"):
        if not afresh:
            try:
                if not index.exists() and checkout is not None and checkout.index.exists():
                    # With its times: git tells by them which entries are too young to trust.
                    shutil.copy2(checkout.index, index)
                return _add_all(folder, store, index, checkout)
            except CommandFailed:
                pass  # an index of a kind that works only in its place, or one cut short
        index.unlink(missing_ok=True)
        try:
            if checkout is not None:
                _start_from_commit(folder, store, index)
            return _add_all(folder, store, index, checkout)
        except CommandFailed as error:
            index.unlink(missing_ok=True)
            raise LabError(
                f"the source tree {folder} cannot be read", error.evidence or error.message
            ) from error


def committed(folder: Path, store: GitStore, revision: str) -> str:
    """Return the tree of one of a checkout's commits, whatever lies in the folder now.

    Of any folder a tree that was read from it before can be named, too. Raises
    `UsageError` where there is neither.
    """
    checkout = find_checkout(folder)
    if checkout is not None:
        _prepare(store, checkout)
    if checkout is not None and (tree := _tree_of(folder, revision)):
        return tree
    argv = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{tree}}"]
    found = store.git(argv, check=False) if store.exists() else None
    if found is None or found.returncode != 0:
        what = "" if checkout else ": it is not the top of a git tree"
        raise UsageError(f"{folder} has no commit {revision}{what}")
    return found.text


def _tree_of(folder: Path, revision: str) -> str | None:
    """Return the tree that a checkout's own name for a commit stands for: HEAD^, a branch, a tag.

    Its names are its own: the private repository has its objects only.
    """
    argv = ["git", "-c", "safe.directory=*", "rev-parse", "--verify", "--quiet"]
    found = run(
        [*argv, "--end-of-options", f"{revision}^{{tree}}"],
        cwd=folder,
        env=git_environment(),
        check=False,
    )
    return found.text if found.returncode == 0 else None


def _prepare(store: GitStore, checkout: Checkout | None) -> None:
    """Make the repository, or point it at the checkout's objects where they are now."""
    wanted = checkout.object_format if checkout else "sha1"
    if store.exists() and _format_of(store) != wanted:
        shutil.rmtree(store.folder)
    if not store.exists():
        store.create(wanted)
    lent = f"{checkout.objects}\n" if checkout else ""
    _update(store.repository / "objects" / "info" / "alternates", lent)
    own = checkout.exclude if checkout else None
    _update(store.repository / "info" / "exclude", own.read_text() if own and own.is_file() else "")


def _update(path: Path, text: str) -> None:
    """Write a file of the repository's unless it reads so: a build may be reading it."""
    if not path.exists() or path.read_text() != text:
        write_whole(path, text)


def _format_of(store: GitStore) -> str:
    return store.git(["rev-parse", "--show-object-format"]).text


def _start_from_commit(folder: Path, store: GitStore, index: Path) -> None:
    """Fill an index with what is committed: tracked files count even where ignored."""
    if head := _tree_of(folder, "HEAD"):
        store.git(["read-tree", head], index=index)


def _add_all(folder: Path, store: GitStore, index: Path, checkout: Checkout | None) -> str:
    if checkout is not None:
        if index.exists():
            _unhide(folder, store, index)
        store.git(["add", "--all", "."], index=index, work_tree=folder)
    else:
        _add_plain(folder, store, index)
    return store.write_tree(index)


def _unhide(folder: Path, store: GitStore, index: Path) -> None:
    """Clear the marks by which a person told git to overlook changes; make does not either.

    A file that a sparse checkout left out keeps its mark: it is not there.
    """
    listing = store.git(["ls-files", "-v", "-z"], index=index, work_tree=folder).stdout
    assumed, skipped = [], []
    for entry in listing.split(b"\0")[:-1]:
        tag, path = entry[:1], entry[2:]
        if tag.islower():
            assumed.append(path)
        if tag in b"Ss" and os.path.lexists(os.path.join(os.fsencode(folder), path)):  # noqa: PTH118
            skipped.append(path)
    for option, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            store.git(
                ["update-index", "-z", option, "--stdin"],
                index=index,
                work_tree=folder,
                stdin=b"".join(path + b"\0" for path in paths),
            )


def _add_plain(folder: Path, store: GitStore, index: Path) -> None:
    """Add a tree that git does not track: here nothing says which ignored files count.

    So the ignore files are read as one list, without the patterns that would
    leave no file at all.
    """
    patterns = store.folder / "ignored"
    patterns.write_text("".join(f"{line}\n" for line in _ignore_patterns(folder)))
    paths = store.git(
        ["ls-files", "-z", "--cached", "--others", f"--exclude-from={patterns}"],
        index=index,
        work_tree=folder,
    ).stdout
    first = not index.exists()
    # The first time, one pack instead of a file for each object.
    packed = ["-c", "core.bigFileThreshold=1"] if first else []
    store.git(
        [*packed, "update-index", "--add", "--remove", "-z", "--stdin"],
        index=index,
        work_tree=folder,
        stdin=paths,
    )


def _ignore_patterns(folder: Path) -> Iterator[str]:
    """Yield the patterns of every .gitignore, each made relative to the top folder."""
    for path in sorted(_ignore_files(folder), key=lambda p: len(p.parts)):
        inside = path.parent.relative_to(folder).as_posix()
        for line in path.read_text(errors="replace").splitlines():
            pattern = line.rstrip()
            if not pattern or pattern.startswith("#") or _IGNORE_ALL.match(pattern):
                continue
            yield pattern if inside == "." else _moved(pattern, inside)


def _moved(pattern: str, inside: str) -> str:
    """Return a pattern of a subfolder's .gitignore as the top folder would write it."""
    negation = "!" if pattern.startswith("!") else ""
    bare = pattern.removeprefix("!")
    anchored = "/" in bare.rstrip("/")
    return (
        f"{negation}/{inside}/{bare.lstrip('/')}" if anchored else f"{negation}/{inside}/**/{bare}"
    )


def _ignore_files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        if ".gitignore" in files:
            yield Path(where) / ".gitignore"
