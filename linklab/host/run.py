"""The one gateway for other programs.

Every program that the lab starts is started here: with a fixed locale, with
nothing inherited but what is passed, and with the promise that it does not
outlive the lab, not even one that is killed with SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from linklab.errors import LabError

_PR_SET_PDEATHSIG = 1
_REAP_LIMIT = 1.0  # s for the output of a program that was killed
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_TICK = 0.2  # s between looks at whether a silent program still lives
_libc = ctypes.CDLL(None, use_errno=True)

Argv = Sequence[str | Path]


class CommandMissing(LabError):
    """A program is not installed."""


class CommandFailed(LabError):
    """A program ended with a status other than 0, or not within its deadline."""

    def __init__(self, message: str, evidence: str = "", returncode: int | None = None) -> None:
        super().__init__(message, evidence)
        self.returncode = returncode


@dataclass(frozen=True)
class Completed:
    """A program that ended: its status and what it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the newline at its end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


def shown(argv: Argv) -> str:
    """Return the command as one would paste it into a shell."""
    return shlex.join(str(word) for word in argv)


def look_for(command: str) -> Path | None:
    """Return where a program is, also in the folders for root's programs; None without it."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}")
    return Path(found) if found else None


def find_program(command: str, package: str) -> Path:
    """Return where `look_for` finds a program.

    Raises `LabError`, with the Debian package and what to do, when it is not there.
    """
    if found := look_for(command):
        return found
    raise lacking(command, package)


def lacking(what: str | Path, package: str) -> LabError:
    """Return the error for a program or a file that a package of Debian would bring."""
    return LabError(
        f"{what} is not on this machine: it comes with Debian's package {package}, "
        f"and `invoke setup` installs what is missing"
    )


def environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return our environment with a fixed locale and time zone, and `extra`.

    A variable that `extra` maps to None is taken away.
    """
    env: dict[str, str | None] = {
        key: value for key, value in os.environ.items() if not key.startswith("LC_")
    }
    env.update(LC_ALL="C", LANG="C", TZ="UTC")
    if temporary := env.get("TMPDIR"):
        env["TMPDIR"] = str(Path(temporary).absolute())  # programs work in other folders
    env.update(extra or {})
    return {key: value for key, value in env.items() if value is not None}


def die_with_parent(signal_number: int = signal.SIGKILL) -> Callable[[], None]:
    """Return what a child does between fork and exec so as not to outlive us.

    The kernel sends the signal when the thread that forked ends, so children
    are started from the main thread. `getppid` closes the gap in which the
    parent died before the child asked (prctl(2), PR_SET_PDEATHSIG).
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)

    return prepare


def start(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
    death_signal: int = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a program that runs beside us and ends, at the latest, with us."""
    try:
        return subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            env=environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=new_session,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - one thread forks
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise
        raise CommandMissing(
            f"{argv[0]} is not installed: `invoke setup` installs what is missing"
        ) from error
    except OSError as error:
        raise CommandFailed(f"{argv[0]} cannot be run: {error.strerror}") from error


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a program that runs beside us; afterwards it is dead and its pipes are closed."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def lines_of(process: subprocess.Popen[bytes], silence: float = float("inf")) -> Iterator[bytes]:
    """Yield what a program prints, line by line, until it ends.

    Not until the pipe ends: what it started and left behind may hold that.
    Raises `TimeoutError` when nothing came for `silence` seconds.
    """
    assert process.stdout is not None
    rest, heard = b"", time.monotonic()
    while True:
        gone = process.poll() is not None
        if select.select([process.stdout], [], [], 0 if gone else _TICK)[0]:
            data = os.read(process.stdout.fileno(), 1 << 16)
            heard = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if not data:
                break
        elif gone:
            break
        elif time.monotonic() - heard > silence:
            raise TimeoutError
    if rest:
        yield rest


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    stdin: bytes | None = None,
    deadline: float = 600.0,
    check: bool = True,
) -> Completed:
    """Run a program to its end and return what it printed.

    Raises `CommandFailed`, with the command and the end of its standard error,
    when it fails (unless `check` is false) or takes more than `deadline`
    seconds; `CommandMissing` when there is no such program.
    """
    process = start(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(stdin, timeout=deadline)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace").rstrip()[-4000:]
        raise CommandFailed(f"no end after {deadline:.0f} s: {shown(argv)}", said) from error
    finally:
        if process.poll() is None:
            process.kill()
            # Not for ever: what it started in its turn may still hold its output open.
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_REAP_LIMIT)
    if check and process.returncode != 0:
        evidence = (err or out).decode(errors="replace").rstrip()[-4000:]
        raise CommandFailed(
            f"status {process.returncode} from: {shown(argv)}", evidence, process.returncode
        )
    return Completed(process.returncode, out, err)
