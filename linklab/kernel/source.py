"""Kernel sources: where one is, what it is called by its content, where it is compiled.

A source belongs to a family: a tarball to the one of its content, a person's
folder to the one of its path.  A family keeps, in the cache, a private
repository and one work tree that every state of the source is written to in
turn, so that going from one state to the next touches only the files that
differ.

A person's own folder is only ever read.  A git checkout lends its objects
(through `objects/info/alternates`) and a copy of its index, so that only files
which changed are read.  Its own index, objects and files are never changed.
(Git renews the time of an object that it finds where it would have written the
same one, which keeps it from `git gc`.)
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from linklab.errors import LabError, UsageError
from linklab.events import Listener, step
from linklab.host.cache import Cache, discard, hash_file, load_json, locked, save_json, write_whole
from linklab.host.packages import kernel_sources
from linklab.host.run import CommandFailed
from linklab.kernel.gitstore import GitStore, git_in
from linklab.kernel.tarball import import_tarball, unpacker_of

_PREFERRED = "linux-source-6.12.tar.xz"
_SAVED = "base.json"
_TARBALL = "tarball-"
_SHA256 = 64  # hexadecimal digits of a name
_INDEX = "folder.index"
# Patterns that leave nothing: Debian's linux-source ends its .gitignore with "/*".
_IGNORE_ALL = re.compile(r"^/?\*+(/\*+)*/?$")


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
                with _reading(self.cache, self.family, self.origin, listener):
                    _snapshot(self.origin, self.store, listener, afresh=True)
                self.store.set_tree(tree)

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


def check_source(path: Path | None) -> Path:
    """Return the absolute path of a source; raise `UsageError` if it cannot be one."""
    origin = (default_source() if path is None else path).expanduser().resolve()
    if origin.is_dir():
        if lacks := _lacks(_text(origin / "Makefile"), lambda name: (origin / name).exists()):
            raise UsageError(f"{origin} is no kernel tree: it lacks {lacks}")
    elif origin.exists():
        unpacker_of(origin)
    else:
        raise UsageError(f"there is no source {path}: expected a kernel tree or a tarball")
    return origin


def open_source(
    path: Path | None,
    cache: Cache,
    listener: Listener,
    *,
    revision: str = "",
    only: Mapping[str, bool] | None = None,
) -> Source:
    """Return the present state of a source: a folder, a tarball, or Debian's for None.

    Of a git tree a `revision` names a commit to take instead. `only` are the
    files that are asked for, and whether each is expected to be there: of a
    folder only these are kept, so that it cannot be built. Raises `UsageError`
    when it is neither, no kernel source, or has no such commit.
    """
    origin = check_source(path)
    if revision and not origin.is_dir():
        raise UsageError(f"{origin} is no git tree: it has no commit {revision}")
    if origin.is_dir():
        family = f"folder-{hashlib.sha256(os.fsencode(origin)).hexdigest()[:16]}"
    else:
        family = f"{_TARBALL}{tarball_hash(origin, cache)[:16]}"
    store = GitStore(cache.root / "sources" / family)
    tree = None if origin.is_dir() else _saved_tree(store)
    if tree is None:
        with _reading(cache.root, family, origin, listener):
            if revision:
                tree = _committed(origin, store, revision)
            elif origin.is_dir():
                tree = _glance(origin, store, listener, only) if only else None
                tree = tree or _snapshot(origin, store, listener)
            else:
                tree = _saved_tree(store) or _read(origin, store, listener)
            note = store.folder / "origin"  # for whoever looks through the cache
            if _text(note) != f"{origin}\n":
                note.write_text(f"{origin}\n")
    return Source(origin, tree, family, cache.root)


def received(source: Source, cache: Cache, packs: Sequence[Path], listener: Listener) -> Source:
    """Return a source of another host as one of this one, which takes its objects from packs."""
    store = GitStore(cache.root / "sources" / source.family)
    with _reading(cache.root, source.family, source.origin, listener):
        if not store.exists():
            store.create("sha256" if len(source.tree) == _SHA256 else "sha1")
        for pack in packs:
            store.take(pack)
        if source.family.startswith(_TARBALL) and _saved_tree(store) is None:
            save_json(store.folder / _SAVED, {"tree": source.tree})  # as if it had been read here
    return replace(source, cache=cache.root)


def tarball_hash(path: Path, cache: Cache) -> str:
    """Return a tarball's SHA-256, computed once for each size and time of the file."""
    remembered = cache.root / "sources" / "tarballs.json"
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    known = load_json(remembered)
    entry = known.get(str(path))
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
        return str(entry[2])
    digest = hash_file(path)
    save_json(remembered, {**known, str(path): [*stamp, digest]})
    return digest


def _lacks(makefile: str, there: Callable[[str], bool]) -> str:
    """Return, in words, what a folder or a tree lacks of a kernel's source."""
    lines = [line.replace(" ", "") for line in makefile.splitlines()[:20]]
    named = all(any(li.startswith(word) for li in lines) for word in ("VERSION=", "PATCHLEVEL="))
    missing = [] if named else ["a Makefile with VERSION and PATCHLEVEL"]
    return ", ".join([*missing, *(name for name in ("Kconfig", "arch/x86") if not there(name))])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _reading(
    cache: Path, family: str, origin: Path, listener: Listener
) -> AbstractContextManager[None]:
    """Hold what a source is read with; a build of the family may go on meanwhile."""
    return locked(cache / "locks" / f"read-{family}.lock", listener, f"reading {origin}")


def _saved_tree(store: GitStore) -> str | None:
    tree = load_json(store.folder / _SAVED).get("tree")
    return tree if isinstance(tree, str) and store.exists() else None


def _read(origin: Path, store: GitStore, listener: Listener) -> str:
    """Read a tarball into a new repository."""
    store.create()
    try:
        tree = import_tarball(origin, store, listener)
        makefile = store.git(["cat-file", "blob", f"{tree}:Makefile"], check=False).text
        if lacks := _lacks(makefile, lambda name: store.has(f"{tree}:{name}")):
            raise UsageError(f"{origin} holds no kernel source: it lacks {lacks}")
    except BaseException:
        discard(store.repository)
        raise
    save_json(store.folder / _SAVED, {"tree": tree})
    return tree


# A person's folder, as it is now


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
    asked = git_in(
        folder,
        ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "index",
         "--git-path", "objects", "--git-path", "info/exclude", "--show-object-format"],
        check=False,
    )  # fmt: skip
    lines = asked.text.split("\n")
    if asked.returncode != 0 or len(lines) != 5 or Path(lines[0]).resolve() != folder:
        return None
    return Checkout(Path(lines[1]), Path(lines[2]), Path(lines[3]), lines[4])


def _snapshot(folder: Path, store: GitStore, listener: Listener, *, afresh: bool = False) -> str:
    """Return the tree of everything in the folder that counts as source.

    That is what `git add --all` takes, uncommitted and new files included.
    `afresh` reads every file again, whatever is remembered of it: for objects
    that the checkout lent and has thrown away since.  Raises `LabError` when a
    file cannot be read.
    """
    checkout = find_checkout(folder)
    _prepare(store, checkout)
    index = store.folder / _INDEX
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
            # Tracked files count even where ignored.
            if checkout is not None and (head := _tree_of(folder, "HEAD")):
                store.git(["read-tree", head], index=index)
            return _add_all(folder, store, index, checkout)
        except CommandFailed as error:
            index.unlink(missing_ok=True)
            raise LabError(
                f"the source tree {folder} cannot be read", error.evidence or error.message
            ) from error


def _glance(
    folder: Path, store: GitStore, listener: Listener, only: Mapping[str, bool]
) -> str | None:
    """Return the tree of a folder of which only some files are kept.

    What git tracks is else taken as it is committed; of any other folder nothing
    else is looked at, which would take minutes where its 90,000 files are not in
    memory. None where that would not do: a file that is expected is missing and
    has to be looked for, or a folder or a link is in the way of one.
    """
    only = {"Makefile": True, **only}
    if not all(map(partial(_can_be_read, folder), only, only.values())):
        return None
    checkout = find_checkout(folder)
    head = _tree_of(folder, "HEAD") if checkout else None
    if checkout and head is None:
        return None
    _prepare(store, checkout)
    with (
        step(listener, f"look for changes in {folder}"),
        store.scratch_index(head or store.empty_tree()) as index,
    ):
        listed = "".join(f"{path}\0" for path in only).encode(errors="surrogateescape")
        argv = ["update-index", "--add", "--remove", "-z", "--stdin"]
        try:
            store.git(argv, index=index, work_tree=folder, stdin=listed)
        except CommandFailed:
            return None
        return store.git(["write-tree", "--missing-ok"], index=index).text


def _can_be_read(folder: Path, name: str, is_expected: bool) -> bool:
    """Tell whether a file is where it is expected, or could be made there."""
    path = folder / name
    if os.path.lexists(path):
        is_file = path.is_symlink() or path.is_file()
        return is_file and path.parent.resolve() == (folder / name).parent
    there = next(parent for parent in path.parents if os.path.lexists(parent))
    return not is_expected and there.is_dir() and there.resolve() == there


def _committed(folder: Path, store: GitStore, revision: str) -> str:
    """Return the tree of one of a checkout's commits, whatever lies in the folder now.

    Of any folder a tree that was read from it before can be named, too. Raises
    `UsageError` where there is neither.
    """
    checkout = find_checkout(folder)
    if checkout is not None:
        _prepare(store, checkout)
        if tree := _tree_of(folder, revision):
            return tree
    found = store.git(_asking_for_tree(revision), check=False) if store.exists() else None
    if found is None or found.returncode != 0:
        what = "" if checkout else ": it is not the top of a git tree"
        raise UsageError(f"{folder} has no commit {revision}{what}")
    return found.text


def _tree_of(folder: Path, revision: str) -> str | None:
    """Return the tree that a checkout's own name for a commit stands for: HEAD^, a branch, a tag.

    Its names are its own: the private repository has its objects only.
    """
    found = git_in(folder, _asking_for_tree(revision), check=False)
    return found.text if found.returncode == 0 else None


def _asking_for_tree(revision: str) -> list[str]:
    return ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{tree}}"]


def _prepare(store: GitStore, checkout: Checkout | None) -> None:
    """Make the repository, or point it at the checkout's objects where they are now."""
    wanted = checkout.object_format if checkout else "sha1"
    if store.exists() and store.git(["rev-parse", "--show-object-format"]).text != wanted:
        shutil.rmtree(store.folder)
    if not store.exists():
        store.create(wanted)
    own = checkout.exclude if checkout else None
    for name, text in (
        ("objects/info/alternates", f"{checkout.objects}\n" if checkout else ""),
        ("info/exclude", own.read_text() if own and own.is_file() else ""),
    ):
        path = store.repository / name
        if not path.exists() or path.read_text() != text:  # a build may be reading it
            write_whole(path, text)


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
    marked: dict[str, list[bytes]] = {"--no-assume-unchanged": [], "--no-skip-worktree": []}
    for entry in listing.split(b"\0")[:-1]:
        tag, path = entry[:1], entry[2:]
        if tag.islower():
            marked["--no-assume-unchanged"].append(path)
        if tag in b"Ss" and os.path.lexists(os.path.join(os.fsencode(folder), path)):  # noqa: PTH118
            marked["--no-skip-worktree"].append(path)
    for option, paths in marked.items():
        if paths:
            listed = b"".join(path + b"\0" for path in paths)
            argv = ["update-index", "-z", option, "--stdin"]
            store.git(argv, index=index, work_tree=folder, stdin=listed)


def _add_plain(folder: Path, store: GitStore, index: Path) -> None:
    """Add a tree that git does not track: here nothing says which ignored files count.

    So the ignore files are read as one list, without the patterns that would
    leave no file at all.
    """
    patterns = store.folder / "ignored"
    patterns.write_text("".join(f"{line}\n" for line in _ignore_patterns(folder)))
    argv = ["ls-files", "-z", "--cached", "--others", f"--exclude-from={patterns}"]
    paths = store.git(argv, index=index, work_tree=folder).stdout
    # The first time, one pack instead of a file for each object.
    packed = [] if index.exists() else ["-c", "core.bigFileThreshold=1"]
    argv = [*packed, "update-index", "--add", "--remove", "-z", "--stdin"]
    store.git(argv, index=index, work_tree=folder, stdin=paths)


def _ignore_patterns(folder: Path) -> Iterator[str]:
    """Yield the patterns of every .gitignore, each made relative to the top folder."""
    ignoring = []
    for where, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        if ".gitignore" in files:
            ignoring.append(Path(where) / ".gitignore")
    for path in sorted(ignoring, key=lambda p: len(p.parts)):
        inside = path.parent.relative_to(folder).as_posix()
        for line in path.read_text(errors="replace").splitlines():
            pattern = line.rstrip()
            if pattern and not pattern.startswith("#") and not _IGNORE_ALL.match(pattern):
                yield pattern if inside == "." else _moved(pattern, inside)


def _moved(pattern: str, inside: str) -> str:
    """Return a pattern of a subfolder's .gitignore as the top folder would write it."""
    negation = "!" if pattern.startswith("!") else ""
    bare = pattern.removeprefix("!")
    if "/" in bare.rstrip("/"):  # anchored
        return f"{negation}/{inside}/{bare.lstrip('/')}"
    return f"{negation}/{inside}/**/{bare}"
