"""Past runs: what lies below a results folder, and which one is meant by a word."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results.kinds import SERIES, is_series
from linklab.results.model import Run
from linklab.results.store import RUN_FILE, read_about

RESULTS = Path("results")
LAST = "last"
BROKEN = "broken"
UNFINISHED = "unfinished"
_SHOWN = 5  # candidates that an error lists


@dataclass(frozen=True)
class Entry:
    """A past run. One that cannot be read has no `about` and says why in `problem`."""

    folder: Path
    start: datetime
    about: Mapping[str, Any] | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def verdict(self) -> str:
        """Its verdict; of one without: unfinished (killed, or going on), or broken."""
        if self.about is None:
            return BROKEN
        return str(self.about.get("verdict") or UNFINISHED)

    @property
    def kernels(self) -> list[str]:
        """The names of its kernels; of a series, which has many of each, its flavours."""
        if self.about and is_series(self.about):
            return [str(flavour) for flavour in self.about[SERIES].get("flavours", ())]
        return [kernel.name for kernel in Run(self.about, ()).kernels] if self.about else []

    def word(self, name: str) -> str:
        """Return an entry of run.json as text, or nothing where there is none."""
        return str(self.about.get(name, "")) if self.about else ""


def entries(root: Path) -> list[Entry]:
    """Return every run below a folder, the newest first, broken ones among them.

    Raises `UsageError` when there is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"there is no results folder {root}: --results names another one")
    return sorted((_entry(path) for path in _folders(root)), key=_age, reverse=True)


def _age(entry: Entry) -> tuple[datetime, str]:
    return entry.start, entry.name


def _folders(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        if RUN_FILE in files:
            below.clear()  # nothing in a run's folder is another run
            yield Path(folder)


def _entry(folder: Path) -> Entry:
    try:
        about = read_about(folder)
        start = datetime.fromisoformat(str(about.get("start")))
    except UsageError as error:
        return Entry(folder, _written(folder), None, error.message)
    except ValueError as error:
        return Entry(folder, _written(folder), None, f"{folder / RUN_FILE}: start: {error}")
    return Entry(folder, start if start.tzinfo else start.replace(tzinfo=UTC), about)


def _written(folder: Path) -> datetime:
    """Return when a run.json that cannot be read was written."""
    return datetime.fromtimestamp((folder / RUN_FILE).lstat().st_mtime, UTC)


def chosen(found: Entry, kernel: str = "", scenario: str = "", verdict: str = "") -> bool:
    """Return whether a run is asked for. A broken one is whenever its verdict is.

    What kernel and scenario it had cannot be known, and it must not go unseen.
    """
    if verdict and found.verdict != verdict:
        return False
    if found.about is None:
        return True
    return (not kernel or kernel in found.kernels) and scenario in ("", found.word("scenario"))


def find(word: str, root: Path = RESULTS) -> Path:
    """Return the folder of the run that is meant: a folder, `last`, or part of a name.

    Raises `UsageError` when it is none, or more than one.
    """
    if not word:
        raise UsageError("a run is expected: its folder, a part of its name, or `last`")
    if word != LAST and (Path(word) / RUN_FILE).is_file():
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
