"""The guests that run now, of this user, as a folder each: how one terminal finds another's.

A guest's folder lies in the user's runtime folder, which nobody else may
enter. It holds the socket of its console and what it is, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linklab.errors import LabError, UsageError

CONSOLE = "console"
_ABOUT = "guest.json"
LAST = "last"


@dataclass(frozen=True)
class RunningGuest:
    """A guest that runs. `log` is its console's; `since` is in seconds since 1970."""

    name: str
    log: str
    pid: int
    since: float
    folder: Path

    @property
    def console(self) -> Path:
        """The socket of its console."""
        return self.folder / CONSOLE


def runtime_folder() -> Path:
    """Return the folder for what lives no longer than we do, made for this user alone.

    Raises `LabError` when there is one that somebody else may enter.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))  # a relative one does not count
    folder = base / "linklab" if base.is_absolute() else Path(f"/tmp/linklab-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise LabError(f"the runtime folder {folder} cannot be made: {error.strerror}") from error
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & 0o077:
        raise LabError(f"the runtime folder {folder} is not this user's alone: remove it")
    return folder


@contextmanager
def announced(name: str, log: Path) -> Iterator[RunningGuest]:
    """Announce a guest while it runs. Raises `LabError` when it cannot be."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="guest-", dir=runtime_folder()))
    except OSError as error:
        raise LabError(f"a guest cannot be announced: {error}") from error
    guest = RunningGuest(name, str(log.absolute()), os.getpid(), time.time(), folder)
    try:
        about = {**asdict(guest), "folder": str(folder)}
        (folder / _ABOUT).write_text(json.dumps(about))
        yield guest
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def running_guests() -> list[RunningGuest]:
    """Return the guests that run, the oldest first; clear away what a killed lab left."""
    found = []
    for folder in runtime_folder().glob("guest-*"):
        guest = _read(folder)
        if guest is not None and _answers(guest.console):
            found.append(guest)
        elif guest is not None and not Path(f"/proc/{guest.pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return sorted(found, key=lambda guest: guest.since)


def find_guest(word: str) -> RunningGuest:
    """Return the guest that a word names: `last`, its name, or what no other has in it.

    What is looked at is its name and the path of its console's log, which is
    in the folder of its run. Raises `UsageError` with those that run.
    """
    guests = running_guests()
    if word == LAST:
        named = guests[-1:]
    else:
        named = [guest for guest in guests if guest.name == word]
        named = named or [g for g in guests if word in g.name or word in g.log]
    if len(named) == 1:
        return named[0]
    listed = ", ".join(f"{guest.name} ({guest.log})" for guest in guests) or "none"
    what = "no guest runs that is called" if not named else f"{len(named)} guests are called"
    raise UsageError(f"--guest {word}: {what} so; running are {listed}")


def _read(folder: Path) -> RunningGuest | None:
    try:
        about: dict[str, Any] = json.loads((folder / _ABOUT).read_text())
        return RunningGuest(**{**about, "folder": folder})
    except (OSError, ValueError, TypeError):
        return None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True
