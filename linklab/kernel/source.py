"""Kernel sources: where one is, what it is called by its content, where it is compiled.

A source belongs to a family: a tarball to the one of its content, a person's
folder to the one of its path.  A family keeps, in the cache, a private
repository and one work tree that every state of the source is written to in
turn, so that going from one state to the next touches only the files that
differ.  The person's own folder is only ever read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import LabError, UsageError
from linklab.events import Listener, step
from linklab.host.cache import Cache, discard, hash_file, load_json, locked, save_json
from linklab.host.packages import kernel_sources
from linklab.kernel.folder import committed, snapshot
from linklab.kernel.gitstore import GitStore
from linklab.kernel.tarball import import_tarball, unpacker_of

_PREFERRED = "linux-source-6.12.tar.xz"
_SAVED = "base.json"


@dataclass(frozen=True)
class Source:
    """One state of a kernel source. `tree` names its content, whatever its origin."""

    origin: Path
    tree: str
    family: str
    cache: Path

    @property
    def store(self) -> GitStore:
        """The family's repository and work tree."""
        return GitStore(self.cache / "sources" / self.family)

    def obj(self, slot: str) -> Path:
        """Return the folder for the objects of one flavour."""
        return self.store.folder / "obj" / slot

    def write(self, tree: str, listener: Listener) -> None:
        """Make the work tree equal to `tree`, a state of this source, patched or not.

        The caller is `building`.  Raises `LabError` when that cannot be done.
        """
        with step(listener, "write the source tree"):
            try:
                self.store.set_tree(tree)
            except LabError:
                if not self.origin.is_dir():
                    raise
                # What a person's repository lent, it may have thrown away since.
                with self._reading(listener):
                    snapshot(self.origin, self.store, listener, afresh=True)
                self.store.set_tree(tree)

    def _reading(self, listener: Listener) -> AbstractContextManager[None]:
        return _reading(self.cache, self.family, self.origin, listener)

    def building(self, listener: Listener, *, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the family's work tree and objects: one build at a time.

        Raises `Busy` instead of waiting for another build unless `wait` is true.
        """
        lock = self.cache / "locks" / f"build-{self.family}.lock"
        return locked(lock, listener, f"the source tree of {self.origin}", wait=wait)


def default_source() -> Path:
    """Return Debian's kernel source on this machine.

    Raises `LabError` when there is none.
    """
    found = kernel_sources()
    if not found:
        raise LabError(
            "no kernel source: /usr/src/linux-source-*.tar.xz is not there. "
            "`invoke setup` installs it; --source takes a kernel tree or a tarball"
        )
    return next((path for path in found if path.name == _PREFERRED), found[-1])


def open_source(
    path: Path | None,
    cache: Cache,
    listener: Listener,
    *,
    read: bool = True,
    revision: str = "",
) -> Source | None:
    """Return the present state of a source: a folder, a tarball, or Debian's for None.

    Of a git tree a `revision` names a commit to take instead.  With `read`
    false a tarball that was never read gives None instead of being read, which
    takes half a minute.  Raises `UsageError` when it is neither, no kernel
    source, or has no such commit.
    """
    origin = check_source(path)
    if origin.is_dir():
        return _from_folder(origin, cache, listener, revision)
    if revision:
        raise UsageError(f"{origin} is no git tree: it has no commit {revision}")
    return _from_tarball(origin, cache, listener, read)


def check_source(path: Path | None) -> Path:
    """Return the absolute path of a source; raise `UsageError` if it cannot be one."""
    origin = (default_source() if path is None else path).expanduser().resolve()
    if origin.is_dir():
        missing = [text for text, there in _KERNEL_TREE if not there(origin)]
        if missing:
            raise UsageError(f"{origin} is no kernel tree: it lacks {', '.join(missing)}")
    elif origin.exists():
        unpacker_of(origin)
    else:
        raise UsageError(f"there is no source {path}: expected a kernel tree or a tarball")
    return origin


def _has_version(folder: Path) -> bool:
    return _names_version(_text(folder / "Makefile"))


def _names_version(makefile: str) -> bool:
    lines = [line.replace(" ", "") for line in makefile.splitlines()[:20]]
    return all(any(li.startswith(word) for li in lines) for word in ("VERSION=", "PATCHLEVEL="))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


_KERNEL_TREE: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("a Makefile with VERSION and PATCHLEVEL", _has_version),
    ("Kconfig", lambda folder: (folder / "Kconfig").is_file()),
    ("arch/x86", lambda folder: (folder / "arch" / "x86").is_dir()),
)


def _from_folder(origin: Path, cache: Cache, listener: Listener, revision: str) -> Source:
    family = f"folder-{hashlib.sha256(os.fsencode(origin)).hexdigest()[:16]}"
    store = GitStore(cache.root / "sources" / family)
    with _reading(cache.root, family, origin, listener):
        tree = committed(origin, store, revision) if revision else snapshot(origin, store, listener)
        _note_origin(store, origin)
    return Source(origin, tree, family, cache.root)


def _reading(
    cache: Path, family: str, origin: Path, listener: Listener
) -> AbstractContextManager[None]:
    """Hold what a source is read with; a build of the family may go on meanwhile."""
    return locked(cache / "locks" / f"read-{family}.lock", listener, f"reading {origin}")


def _note_origin(store: GitStore, origin: Path) -> None:
    """Leave word, for whoever looks through the cache, of what this folder belongs to."""
    note = store.folder / "origin"
    if _text(note) != f"{origin}\n":
        note.write_text(f"{origin}\n")


def _from_tarball(origin: Path, cache: Cache, listener: Listener, read: bool) -> Source | None:
    family = f"tarball-{tarball_hash(origin, cache)[:16]}"
    store = GitStore(cache.root / "sources" / family)
    tree = _saved_tree(store)
    if tree is None:
        if not read:
            return None
        with _reading(cache.root, family, origin, listener):
            tree = _saved_tree(store) or _read(origin, store, listener)
    return Source(origin, tree, family, cache.root)


def _saved_tree(store: GitStore) -> str | None:
    saved = load_json(store.folder / _SAVED)
    tree = saved.get("tree")
    return tree if isinstance(tree, str) and store.exists() else None


def _read(origin: Path, store: GitStore, listener: Listener) -> str:
    store.create()
    try:
        tree = import_tarball(origin, store, listener)
        _check_tree(origin, store, tree)
    except BaseException:
        discard(store.repository)
        raise
    _note_origin(store, origin)
    save_json(store.folder / _SAVED, {"tree": tree})
    return tree


def _check_tree(origin: Path, store: GitStore, tree: str) -> None:
    top = store.git(["ls-tree", "--name-only", tree]).text.splitlines()
    makefile = store.git(["cat-file", "blob", f"{tree}:Makefile"], check=False).text
    found = {
        "a Makefile with VERSION and PATCHLEVEL": _names_version(makefile),
        "Kconfig": "Kconfig" in top,
        "arch/x86": store.git(["cat-file", "-e", f"{tree}:arch/x86"], check=False).returncode == 0,
    }
    if missing := [text for text, there in found.items() if not there]:
        raise UsageError(f"{origin} holds no kernel source: it lacks {', '.join(missing)}")


def tarball_hash(path: Path, cache: Cache) -> str:
    """Return a tarball's SHA-256, computed once for each size and time of the file."""
    memo = cache.root / "sources" / "tarballs.json"
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    known = load_json(memo)
    entry = known.get(str(path))
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
        return str(entry[2])
    digest = hash_file(path)
    save_json(memo, {**known, str(path): [*stamp, digest]})
    return digest
