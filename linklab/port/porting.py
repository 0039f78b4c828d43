"""A series ported to a source: the outcome of each patch, and those that apply as a new series.

The new series is made by git, in git's own mail format: each patch becomes a
commit in a repository that is deleted afterwards.  Its tree is the source's with
the changes in it, its message, author and date are the original's, and what was
adapted is a git note, which `git format-patch` writes below the `---`, where
`git am` does not take it into the message.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import hash_file
from linklab.kernel.gitstore import GitStore
from linklab.kernel.series import Patch, Series
from linklab.kernel.source import Source
from linklab.port.engine import Tried, port
from linklab.port.outcome import PatchOutcome, PatchStatus
from linklab.port.tree import Tree
from linklab.port.trial import Merger

FILE = "port.json"
SCHEMA = 1
"""Grows when an entry changes its meaning; a reader ignores what it does not know."""

_BASE = "refs/heads/source"
_PORTED = "refs/heads/ported"
_NOTES = "refs/notes/port"
_LAB = "linklab <> 0 +0000"  # and the time of what the lab commits itself
_UNKNOWN = "unknown"
_UNKNOWN_MAIL = "unknown@localhost"
_ADDRESS = re.compile(r"<([^<>\s]*)>|([^\s<>()\"]+@[^\s<>()\"]+)")
_ESCAPE = re.compile(r'\\(.)|"')  # quotes around a name, and what they escape
_ASSIGNED = re.compile(r"([A-Z]+) *= *(\S*)")
_BREAK = re.compile(r"^(?=---[ \t]*$|diff -|Index: |--- \S)", re.MULTILINE)  # mailinfo.c in git
_TELL_EVERY = 20  # patches


@dataclass(frozen=True)
class NewSeries:
    """The files of a series, in order, and the tree that the source becomes with it."""

    files: tuple[Path, ...]
    tree: str


@dataclass(frozen=True)
class Ported:
    """A series and its outcome. `files` has the new patch's file for each number that applies."""

    series: Series
    source: Source
    release: str
    outcomes: tuple[PatchOutcome, ...]
    new: NewSeries
    files: Mapping[int, Path]

    @property
    def failed(self) -> list[PatchOutcome]:
        """The patches that a person has to apply, in order."""
        return [outcome for outcome in self.outcomes if outcome.status.failed]

    def count(self, *statuses: PatchStatus) -> int:
        """Return how many patches are of one of these kinds."""
        return sum(outcome.status in statuses for outcome in self.outcomes)

    def held_up(self) -> dict[int, list[int]]:
        """Return, for each conflict, the patches that depend on it, at once or through others."""
        found: dict[int, list[int]] = {}
        for outcome in self.outcomes:
            for root in outcome.roots:
                if root != outcome.number:
                    found.setdefault(root, []).append(outcome.number)
        return found


def port_series(
    series: Series,
    source: Source,
    folder: Path,
    listener: Listener,
    lent: Sequence[Path] = (),
) -> Ported:
    """Try a series on a source and write those patches that apply, as a new one, to a folder.

    `lent` are further folders of git objects that may have the files that the
    series was made for: with them conflicts can be merged. Raises `LabError`
    when git fails.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-port-") as scratch:
        store = _borrow(source.store, Path(scratch), source.tree, lent)
        with step(listener, "read the source's files"):
            tree = Tree(store, source.tree)
        tried: list[Tried] = []
        name, total = "try the patches", len(series.patches)
        with step(listener, name, total=total):
            for each in port(series.patches, tree, Merger(store)):
                tried.append(each)
                if len(tried) % _TELL_EVERY == 0 or len(tried) == total:
                    listener(StepAdvanced(name, len(tried)))
        pairs = zip(series.patches, tried, strict=True)
        applied = [(patch, each) for patch, each in pairs if each.outcome.status.applies]
        with step(listener, "write the new series"):
            new = _write_series(store, source.tree, applied, folder)
    numbers = [each.outcome.number for _, each in applied]
    return Ported(
        series,
        source,
        _release(source),
        tuple(each.outcome for each in tried),
        new,
        dict(zip(numbers, new.files, strict=True)),
    )


def _borrow(store: GitStore, folder: Path, tree: str, lent: Sequence[Path]) -> GitStore:
    """Return a new repository in a folder that reads the objects of another one, and of `lent`.

    The length of `tree` says which kind of names the repository's objects have.
    """
    scratch = GitStore(folder)
    scratch.create("sha1" if len(tree) == 40 else "sha256")
    alternates = scratch.repository / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    alternates.write_text("".join(f"{path}\n" for path in (store.repository / "objects", *lent)))
    return scratch


def _release(source: Source) -> str:
    """Return the version that a source's Makefile names, such as 6.1.192."""
    makefile = source.store.git(["cat-file", "blob", f"{source.tree}:Makefile"], check=False).text
    found = (_ASSIGNED.match(line) for line in makefile.splitlines()[:20])
    words = {match[1]: match[2] for match in found if match}
    numbers = [words.get(key, "") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    return ".".join(filter(None, numbers)) + words.get("EXTRAVERSION", "")


# --- the new series --------------------------------------------------------------


def patch_files(folder: Path) -> tuple[Path, ...]:
    """Return the patches in a folder that `git format-patch` named, in order."""
    found = folder.glob("[0-9][0-9][0-9][0-9]*-*.patch")
    return tuple(sorted(found, key=lambda path: int(path.name.partition("-")[0])))


def _write_series(
    store: GitStore, tree: str, applied: Sequence[tuple[Patch, Tried]], folder: Path
) -> NewSeries:
    """Write patches for a tree of a repository, which gets commits, into a folder."""
    if not applied:
        return NewSeries((), tree)
    store.git(["fast-import", "--quiet", "--done"], stdin=b"".join(_stream(tree, applied)))
    store.git(
        ["-c", "core.abbrev=12", "format-patch", "--quiet", f"--notes={_NOTES}",
         "--output-directory", folder.resolve(), f"{_BASE}..{_PORTED}"]
    )  # fmt: skip
    final = store.git(["rev-parse", f"{_PORTED}^{{tree}}"]).text
    return NewSeries(patch_files(folder), final)


def _stream(tree: str, applied: Sequence[tuple[Patch, Tried]]) -> Iterator[bytes]:
    """Yield what git-fast-import(1) reads: the source, the patches, the notes on them."""
    yield _commit(_BASE, 1, _LAB, "the source")
    yield b"M 040000 %s \n" % tree.encode()
    for mark, (patch, tried) in enumerate(applied, 2):
        author = f"{_author(patch.author)} {patch.date or _time_of(patch.origin)}"
        yield _commit(_PORTED, mark, author, _message(patch))
        yield b"from :%d\n" % (mark - 1)
        # Removals come first, so that a folder may take a file's place.
        for path, file in sorted(tried.changes.items(), key=lambda item: item[1] is not None):
            name = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            name = name.replace(b"\n", b"\\n")
            if file is None:
                yield b'D "%b"\n' % name
            else:
                yield b'M %o inline "%b"\n%b' % (file.mode, name, _data(file.content))
    yield _commit(_NOTES, 0, _LAB, "what was adapted")
    for mark, (_, tried) in enumerate(applied, 2):
        if note := "\n".join(f"- {remark}" for remark in tried.outcome.remarks):
            yield b"N inline :%d\n%b" % (mark, _data(note.encode()))
    yield b"done\n"


def _commit(branch: str, mark: int, author: str, message: str) -> bytes:
    marked = f"mark :{mark}\n" if mark else ""
    head = f"commit {branch}\n{marked}author {author}\ncommitter {author}\n"
    return head.encode(errors="surrogateescape") + _data(message.encode(errors="surrogateescape"))


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _message(patch: Patch) -> str:
    """Return a commit's message, with no line that `git am` would take for the diff's beginning."""
    subject = patch.subject or patch.origin.stem
    description = _BREAK.sub(" ", patch.description)
    return f"{subject}\n\n{description}".rstrip() + "\n"


def _author(text: str) -> str:
    """Return a patch's author in git's form; a bare diff names nobody, and git wants a name.

    A name is taken as it is written, with commas and brackets, as git does
    (mailinfo.c, handle_from): it may have been an encoded word.
    """
    found = _ADDRESS.search(text)
    address = (found[1] or found[2]) if found else ""
    name = f"{text[: found.start()]} {text[found.end() :]}" if found else text
    name = re.sub(r"[<>\n]", "", _ESCAPE.sub(lambda match: match[1] or "", name)).strip()
    name = name[1:-1] if name.startswith("(") and name.endswith(")") else name
    return f"{' '.join(name.split()) or address or _UNKNOWN} <{address or _UNKNOWN_MAIL}>"


def _time_of(origin: Path) -> str:
    """Return when a file was written, as the date of a diff that has none."""
    try:
        return f"{int(origin.stat().st_mtime)} +0000"
    except OSError:
        return "0 +0000"


# --- port.json -------------------------------------------------------------------


def document(ported: Ported, command: Sequence[str], start: str, verdict: str) -> dict[str, Any]:
    """Return everything about a port as one JSON document."""
    held_up = ported.held_up()
    return {
        "schema": SCHEMA,
        "command": shlex.join(command),
        "start": start,
        "verdict": verdict,
        "series": {
            "patches": len(ported.series.patches),
            "cover": ported.series.cover,
            "base": ported.series.base,
            "notes": list(ported.series.notes),
            "files": {str(path): hash_file(path) for path in ported.series.files},
        },
        "source": {
            "origin": str(ported.source.origin),
            "release": ported.release,
            "tree": ported.source.tree,
        },
        "tree": ported.new.tree,
        "counts": {status.value: ported.count(status) for status in PatchStatus},
        "patches": [
            _patch(ported, outcome, held_up.get(outcome.number, [])) for outcome in ported.outcomes
        ],
    }


def _iso_date(raw: str) -> str:
    """Return git's `1700000000 +0100` as ISO 8601 has it, nothing of nothing."""
    if not raw:
        return ""
    seconds, offset = raw.split()
    zone = datetime.strptime(offset, "%z").tzinfo
    return datetime.fromtimestamp(int(seconds), zone).isoformat()


def _patch(ported: Ported, outcome: PatchOutcome, held_up: list[int]) -> dict[str, Any]:
    patch = ported.series.patches[outcome.number - 1]
    file = ported.files.get(outcome.number)
    return {
        "number": outcome.number,
        "subject": outcome.subject,
        "author": patch.author,
        "date": _iso_date(patch.date),
        "origin": str(patch.origin),
        "commit": patch.commit,
        "status": outcome.status.value,
        "applies": outcome.status.applies,
        "needs_look": outcome.needs_look,
        "file": file.name if file else None,
        "needs": list(outcome.needs),
        "roots": list(outcome.roots),
        "holds_up": held_up,
        "remarks": list(outcome.remarks),
        "files": [asdict(file) for file in outcome.files],
    }
