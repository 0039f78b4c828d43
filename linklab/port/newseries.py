"""The patches that apply, as a series for the source: made by git, with git's own mail format.

Each patch becomes a commit in a repository that is thrown away afterwards: its
tree is the source's with the changes in it, its message, author and date are
the original's, and what was adapted is a git note, which `git format-patch`
writes below the `---`, where `git am` does not take it into the message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.kernel.gitstore import GitStore
from linklab.port.files import File

BASE = "refs/heads/source"
PORTED = "refs/heads/ported"
NOTES = "refs/notes/port"
_LAB = "linklab <>"


@dataclass(frozen=True)
class NewPatch:
    """A patch of the new series: the message and author of the original, its changes as adapted.

    `author` reads `Name <address>`, `date` as git dates a commit:
    `1700000000 +0100`. `note` goes below the `---`.
    """

    message: str
    author: str
    date: str
    changes: Mapping[str, File | None]
    note: str = ""


@dataclass(frozen=True)
class NewSeries:
    """The files of a series, in order, and the tree that the source becomes with it."""

    files: tuple[Path, ...]
    tree: str


def write_series(
    store: GitStore, tree: str, patches: Sequence[NewPatch], folder: Path
) -> NewSeries:
    """Write patches for a tree of a repository into a folder, as `git format-patch` does.

    The repository is one of `borrow`: it gets commits. Raises `LabError` when
    git cannot.
    """
    if not patches:
        return NewSeries((), tree)
    store.git(["fast-import", "--quiet", "--done"], stdin=b"".join(_stream(tree, patches)))
    store.git(
        ["-c", "core.abbrev=12", "format-patch", "--quiet", f"--notes={NOTES}",
         "--output-directory", folder.resolve(), f"{BASE}..{PORTED}"]
    )  # fmt: skip
    final = store.git(["rev-parse", f"{PORTED}^{{tree}}"]).text
    return NewSeries(patch_files(folder), final)


def patch_files(folder: Path) -> tuple[Path, ...]:
    """Return the patches in a folder that `git format-patch` named, in order."""
    found = folder.glob("[0-9][0-9][0-9][0-9]*-*.patch")
    return tuple(sorted(found, key=lambda path: int(path.name.partition("-")[0])))


def borrow(store: GitStore, folder: Path, tree: str, lent: Sequence[Path] = ()) -> GitStore:
    """Return a new repository in a folder that reads the objects of another one, and of `lent`.

    `tree` tells by its length what kind of names the repository's objects have.
    """
    scratch = GitStore(folder)
    scratch.create("sha1" if len(tree) == 40 else "sha256")
    alternates = scratch.repository / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    alternates.write_text("".join(f"{path}\n" for path in (store.repository / "objects", *lent)))
    return scratch


def _stream(tree: str, patches: Sequence[NewPatch]) -> Iterator[bytes]:
    """Yield what git-fast-import(1) reads: the source, the patches, the notes on them."""
    yield _commit(BASE, 1, _LAB, "0 +0000", "the source", "")
    yield b"M 040000 %s \n" % tree.encode()
    for mark, patch in enumerate(patches, 2):
        yield _commit(PORTED, mark, patch.author, patch.date, patch.message, f"from :{mark - 1}\n")
        for path, file in sorted(patch.changes.items(), key=lambda item: item[1] is not None):
            yield from _file(path, file)
    yield _commit(NOTES, 0, _LAB, "0 +0000", "what was adapted", "")
    for mark, patch in enumerate(patches, 2):
        if patch.note:
            yield b"N inline :%d\n%b" % (mark, _data(patch.note.encode()))
    yield b"done\n"


def _commit(branch: str, mark: int, author: str, date: str, message: str, parent: str) -> bytes:
    lines = [f"commit {branch}\n"]
    lines += [f"mark :{mark}\n"] if mark else []
    lines += [f"{role} {author} {date}\n" for role in ("author", "committer")]
    head = "".join(lines).encode(errors="surrogateescape")
    return head + _data(message.encode(errors="surrogateescape")) + parent.encode()


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _file(path: str, file: File | None) -> Iterator[bytes]:
    """Yield a file's new content; what goes is named first, so that a folder may take its place."""
    quoted = b'"%b"' % _escaped(os.fsencode(path))
    if file is None:
        yield b"D %b\n" % quoted
    else:
        yield b"M %o inline %b\n%b" % (file.mode, quoted, _data(file.content))


def _escaped(path: bytes) -> bytes:
    return path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
