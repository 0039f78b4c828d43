"""The whole of it: a series, a source, and what comes out as values and as files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from linklab.events import Listener, StepAdvanced, step
from linklab.kernel.gitstore import GitStore
from linklab.kernel.series import Patch, Series
from linklab.kernel.source import Source
from linklab.port.engine import Tried, port
from linklab.port.files import Tree
from linklab.port.merge import Merger
from linklab.port.newseries import NewPatch, NewSeries, borrow, write_series
from linklab.port.outcome import Outcome, Status

_ASSIGNED = re.compile(r"([A-Z]+) *= *(\S*)")
_BREAK = re.compile(r"^(?=---[ \t]*$|diff -|Index: |--- \S)", re.MULTILINE)  # mailinfo.c in git
_UNKNOWN = "unknown"
_UNKNOWN_MAIL = "unknown@localhost"
_TELL_EVERY = 20  # patches


@dataclass(frozen=True)
class Ported:
    """What became of a series. `files` has the new patch's file for each number that applies."""

    series: Series
    source: Source
    release: str
    outcomes: tuple[Outcome, ...]
    new: NewSeries
    files: Mapping[int, Path]

    @property
    def failed(self) -> list[Outcome]:
        """The patches that a person has to do, in order."""
        return [outcome for outcome in self.outcomes if outcome.status.failed]

    def count(self, *statuses: Status) -> int:
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

    `lent` are further folders of git objects in which the files that the
    series was made for may be: with them what conflicts can be merged.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-port-") as name:
        store = borrow(source.store, Path(name), source.tree, lent)
        with step(listener, "read the source's files"):
            tree = Tree(store, source.tree)
        tried = list(_tried(series.patches, tree, store, listener))
        with step(listener, "write the new series"):
            new = write_series(store, source.tree, _new_patches(series.patches, tried), folder)
    applied = [each.outcome.number for each in tried if each.outcome.status.applies]
    return Ported(
        series,
        source,
        _release(source),
        tuple(each.outcome for each in tried),
        new,
        dict(zip(applied, new.files, strict=True)),
    )


def _tried(
    patches: Sequence[Patch], tree: Tree, store: GitStore, listener: Listener
) -> Iterator[Tried]:
    name, total = "try the patches", len(patches)
    with step(listener, name, total=total):
        for done, tried in enumerate(port(patches, tree, Merger(store)), 1):
            if done % _TELL_EVERY == 0 or done == total:
                listener(StepAdvanced(name, done))
            yield tried


def _new_patches(patches: Sequence[Patch], tried: Sequence[Tried]) -> list[NewPatch]:
    return [
        NewPatch(
            message=_message(patch),
            author=_author(patch.author),
            date=patch.date or _time_of(patch.origin),
            changes=each.changes,
            note=_note(each.outcome),
        )
        for patch, each in zip(patches, tried, strict=True)
        if each.outcome.status.applies
    ]


def _message(patch: Patch) -> str:
    """Return a commit's message, with no line that `git am` would take for the diff's beginning."""
    subject = patch.subject or patch.origin.stem
    description = _BREAK.sub(" ", patch.description)
    return f"{subject}\n\n{description}".rstrip() + "\n"


def _author(text: str) -> str:
    """Return who wrote a patch as git has it; a bare diff names nobody, and git wants a name."""
    name, address = parseaddr(text)
    name, address = (re.sub(r"[<>\n]", "", word).strip() for word in (name, address))
    return f"{name or address or _UNKNOWN} <{address or _UNKNOWN_MAIL}>"


def _time_of(origin: Path) -> str:
    """Return when a file was written, for a diff that says nothing of when it was made."""
    try:
        return f"{int(origin.stat().st_mtime)} +0000"
    except OSError:
        return "0 +0000"


def _note(outcome: Outcome) -> str:
    return "\n".join(f"- {remark}" for remark in outcome.remarks)


def _release(source: Source) -> str:
    """Return the version that a source's Makefile names, such as 6.1.192."""
    makefile = source.store.git(["cat-file", "blob", f"{source.tree}:Makefile"], check=False).text
    found = (_ASSIGNED.match(line) for line in makefile.splitlines()[:20])
    words = {match[1]: match[2] for match in found if match}
    numbers = [words.get(key, "") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    return ".".join(filter(None, numbers)) + words.get("EXTRAVERSION", "")
