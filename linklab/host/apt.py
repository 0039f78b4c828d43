"""apt-get, driven: its progress as events, its locks waited for, its errors as evidence."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from linklab.errors import LabError
from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host.run import CommandFailed, environment, run, shown, start

SILENCE = 600.0
"""Seconds without a line from apt-get after which it counts as stuck."""

LOCK_WAIT = 600.0
"""Seconds to wait for another apt or dpkg, such as an unattended upgrade."""

_LISTS = ("var/lib/apt/lists", "var/lib/apt/lists/partial")
_TICK = 0.5
_KEPT_LINES = 60
_END_WAIT = 30.0
_LOCKED = "Could not get lock"
_INTERRUPTED = "dpkg was interrupted"

# A configuration file that was changed would make dpkg ask; it keeps the one there is.
_KEEP_CONFIG = ("--force-confdef", "--force-confold")

# What apt-get writes to APT::Status-Fd: "dlstatus:1:20.2:Retrieving file ...",
# "pmstatus:gcc:41.2:Unpacking gcc" (README.progress-reporting of apt).
_PROGRESS = re.compile(r"(dl|pm)status:[^:]*:([0-9.]+):(.*)")


def candidates(names: Sequence[str]) -> frozenset[str]:
    """Return those of the packages that apt's lists, as they are, can install."""
    found = set()
    name = ""
    for line in run(["apt-cache", "policy", *names]).text.splitlines():
        if not line.startswith(" "):
            name = line.removesuffix(":")
        elif line.startswith("  Candidate: ") and not line.endswith("(none)"):
            found.add(name)
    return frozenset(found)


def lists_age(root: Path) -> float:
    """Return how many seconds ago apt's lists were fetched; infinite if never.

    The lists themselves carry the archive's times, the folders ours.
    """
    times = [path.stat().st_mtime for name in _LISTS if (path := root / name).is_dir()]
    return time.time() - max(times) if times else float("inf")


class Apt:
    """apt-get with root's rights, which `become` (`("sudo",)` or nothing) gives."""

    def __init__(
        self,
        listener: Listener,
        become: Sequence[str] = (),
        *,
        silence: float = SILENCE,
        lock_wait: float = LOCK_WAIT,
    ) -> None:
        self._listener = listener
        self._become = tuple(become)
        self._silence = silence
        self._lock_wait = lock_wait

    def update(self) -> str:
        """Fetch the package lists; return what apt-get complained of.

        A mirror that cannot be reached is no error yet: the packages may all
        come from another one, and `install` says so if they do not.
        """
        try:
            self._apt_get("package lists", "update")
        except CommandFailed as error:
            self._listener(Note(f"apt-get update: {error.evidence or error.message}"))
            return error.evidence or error.message
        return ""

    def install(self, packages: Sequence[str]) -> None:
        """Install the packages without those that Debian merely recommends.

        What an installation that was interrupted left undone is finished
        first: apt-get does nothing before that. Raises `CommandFailed`, with
        what apt-get and dpkg said, when it fails.
        """
        try:
            self._install(*packages)
        except CommandFailed as error:
            if _INTERRUPTED not in error.evidence:
                raise
            self._listener(Note("an earlier installation was interrupted: finishing that first"))
            self._finish_interrupted()
            self._install("--fix-broken", *packages)

    def _install(self, *words: str) -> None:
        keep = [word for option in _KEEP_CONFIG for word in ("-o", f"DPkg::Options::={option}")]
        self._apt_get("Debian packages", "install", "--no-install-recommends", "-y", *keep, *words)

    def _finish_interrupted(self) -> None:
        # It fails for packages whose dependencies were not unpacked in time:
        # these are what --fix-broken is for.
        name = "interrupted packages"
        with step(self._listener, name), suppress(CommandFailed):
            self._until_unlocked(name, self._as_root("dpkg", *_KEEP_CONFIG, "--configure", "-a"))

    def _apt_get(self, name: str, *words: str) -> None:
        with step(self._listener, name, total=100):
            argv = self._as_root("apt-get", "-q", "-o", "APT::Status-Fd=1", *words)
            self._until_unlocked(name, argv)

    def _as_root(self, *words: str) -> tuple[str, ...]:
        return (*self._become, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *words)

    def _until_unlocked(self, name: str, argv: Sequence[str]) -> None:
        """Run apt-get again while another one holds a lock.

        apt's own DPkg::Lock::Timeout waits for dpkg's lock alone, not for the
        lists' one, and says that it waits to a terminal only.
        """
        deadline = time.monotonic() + self._lock_wait
        told = False
        while True:
            status, said = self._converse(name, argv)
            if status == 0:
                return
            if _LOCKED not in said or time.monotonic() > deadline:
                raise CommandFailed(f"status {status} from: {shown(argv)}", said, status)
            if not told:
                self._listener(Note("another apt or dpkg is at work: waiting for that one"))
                told = True
            time.sleep(1)

    def _converse(self, name: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run apt-get to its end; return its status and its last lines."""
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        process = start(
            argv,
            # dpkg wants the system folders in PATH, which a plain `su` leaves out.
            env={"PATH": f"{environment().get('PATH', '')}:/usr/sbin:/sbin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Killed outright, it would leave packages half installed.
            death_signal=signal.SIGTERM,
        )
        try:
            for line in self._lines(process):
                if progress := _PROGRESS.search(line):
                    self._listener(_advance(name, progress))
                elif line.strip():
                    said.append(line.rstrip())
            return process.wait(), "\n".join(said)
        finally:
            _end(process)

    def _lines(self, process: subprocess.Popen[bytes]) -> Iterator[str]:
        """Yield what apt-get prints until it ends, even if a child of its holds the pipe."""
        assert process.stdout is not None
        rest, heard = b"", time.monotonic()
        while True:
            if select.select([process.stdout], [], [], _TICK)[0]:
                data = os.read(process.stdout.fileno(), 65536)
                heard = time.monotonic()
                *lines, rest = (rest + data).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
                if not data:
                    break
            elif process.poll() is not None:
                break
            elif time.monotonic() - heard > self._silence:
                raise LabError(f"apt-get has said nothing for {self._silence:.0f} s: stopped it")
        yield rest.decode(errors="replace")


def _advance(name: str, progress: re.Match[str]) -> StepAdvanced:
    """Return how far apt is: downloading is the first half of it, unpacking the second."""
    phase, percent, detail = progress.groups()
    done = float(percent) / 2 + (50 if phase == "pm" else 0)
    return StepAdvanced(name, int(done), detail)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop apt-get if it still runs: asked, never killed, for dpkg's sake."""
    if process.poll() is None:
        with suppress(PermissionError, subprocess.TimeoutExpired):
            process.terminate()  # not permitted when it is sudo's: the terminal's Ctrl-C is
            process.wait(_END_WAIT)
    if process.stdout is not None:
        process.stdout.close()
