"""Past runs: what lies below a results folder, and which one is meant by a word."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results import result_kinds
from linklab.results.model import Run
from linklab.results.result_kinds import SERIES, is_series
from linklab.results.store import RUN_FILE, read_about

RESULTS = Path("results")
LAST = "last"
BROKEN = "broken"
UNFINISHED = "unfinished"
_SHOWN = 5  # candidates that an error lists
_MARKS = frozenset({RUN_FILE, *result_kinds.FILES.values()})


@dataclass(frozen=True)
class Entry:
    """A past run. One that cannot be read has no `about` and says why in `problem`.

    `other` is the kind of a result that is no run, such as a profile.
    """

    folder: Path
    start: datetime
    about: Mapping[str, Any] | None
    problem: str = ""
    other: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def verdict(self) -> str:
        """Its verdict; of one without: unfinished (killed, or going on), or broken."""
        if self.about is None:
            return BROKEN
        if self.other:
            return result_kinds.verdict(self.other, self.about) or UNFINISHED
        return str(self.about.get("verdict") or UNFINISHED)

    @property
    def kernels(self) -> list[str]:
        """The names of its kernels; of a series, which has many of each, its flavours."""
        if self.about is None:
            return []
        if self.other:
            return result_kinds.kernels(self.about)
        if is_series(self.about):
            return [str(flavour) for flavour in self.about[SERIES].get("flavours", ())]
        return [kernel.name for kernel in Run(self.about, ()).kernels]

    @property
    def kind(self) -> str:
        """The command that made it where that is not `invoke run`, else nothing."""
        return self.other or self.word("kind")

    def word(self, name: str) -> str:
        """Return an entry of run.json as text, or nothing where there is none."""
        return str(self.about.get(name, "")) if self.about else ""


def entries(root: Path) -> list[Entry]:
    """Return every run below a folder, the newest first, broken ones among them.

    Raises `UsageError` when there is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"there is no results folder {root}: --results names another one")
    found = []
    for folder, below, files in os.walk(root):
        if not _MARKS.isdisjoint(files):
            below.clear()  # nothing in a run's folder is another run
            found.append(_entry(Path(folder)))
    return sorted(found, key=lambda entry: (entry.start, entry.name), reverse=True)


def _entry(folder: Path) -> Entry:
    kind = kind_of(folder)
    file = folder / result_kinds.FILES.get(kind, RUN_FILE)
    try:
        about = result_kinds.read_other(folder, kind) if kind else read_about(folder)
        start = datetime.fromisoformat(str(about.get("start")))
        return Entry(folder, start if start.tzinfo else start.replace(tzinfo=UTC), about, "", kind)
    except (UsageError, ValueError) as error:
        problem = error.message if isinstance(error, UsageError) else f"{file}: start: {error}"
        written = datetime.fromtimestamp(file.lstat().st_mtime, UTC)
        return Entry(folder, written, None, problem, kind)


def kind_of(folder: Path) -> str:
    """Return the kind of a result that is no run, nothing for a run."""
    return "" if (folder / RUN_FILE).is_file() else result_kinds.kind_in(folder)


def chosen(found: Entry, kernel: str = "", scenario: str = "", verdict: str = "") -> bool:
    """Return whether a run is asked for. A broken one is whenever its verdict is.

    What kernel and scenario it had cannot be known, and it must not go unseen.
    """
    if verdict and found.verdict != verdict:
        return False
    if found.about is None:
        return True
    scenarios = ("", found.word("scenario"), found.kind)
    return (not kernel or kernel in found.kernels) and (not scenario or scenario in scenarios)


def find(word: str, root: Path = RESULTS) -> Path:
    """Return the folder of the run that is meant: a folder, `last`, or part of a name.

    Raises `UsageError` when it is none, or more than one.
    """
    if not word:
        raise UsageError("a run is expected: its folder, a part of its name, or `last`")
    if word != LAST and any((Path(word) / name).is_file() for name in _MARKS):
        return Path(word)
    if Path(word).is_dir() and word != LAST:
        raise UsageError(f"{word} holds no run: it has no {RUN_FILE}")
    known = entries(root)
    if word == LAST:
        if not known:
            raise UsageError(f"there is no run below {root}")
        return known[0].folder
    same = [entry for entry in known if entry.name == word]
    found = same or [entry for entry in known if word in entry.name]
    if not found:
        raise UsageError(
            f"{word}: no such folder, and no run below {root} has it in its name; "
            "`invoke history` lists the runs"
        )
    if len(found) > 1:
        names = ", ".join(str(entry.folder) for entry in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UsageError(f"{word} may be {len(found)} runs: {names}{more}")
    return found[0].folder
