"""A guest under gdb: it waits at its first instruction, and ends with gdb."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.agent.line import ConsoleLine
from linklab.errors import LabError, MachineLost
from linklab.host.run import start
from linklab.lab.console_access import ConsoleAccess, lent_terminal
from linklab.machine.process import Machine
from linklab.machine.spec import MachineSpec

PROGRAM = "gdb"
GUEST = "gdb"  # what its guest is called
_SOCKET_LIMIT = 20.0  # s for QEMU to listen
_SOCKET_POLL = 0.02  # s
# templates/shrc; behind it busybox may ask the terminal where its cursor is.
_PROMPT = re.compile(r"# (?:\x1b\[6n)?\Z")


@dataclass(frozen=True)
class Debugging:
    """What gdb is to do with a guest.

    `symbols` is a vmlinux with debug information; `sources` are the folder in
    which it was compiled and the one where its sources are read now. With
    `commands` gdb does them one after the other and ends, within `limit`
    seconds; without, it talks to whoever sits at this terminal. `typed` are
    lines for the guest's shell, once that is up. What is `replayed` ends with
    the recording, and gdb can go backwards in it.
    """

    symbols: Path
    sources: tuple[Path, Path] | None = None
    commands: Sequence[str] = ()
    typed: Sequence[str] = ()
    limit: float = 600.0
    replayed: bool = False


def gdb_script(what: Debugging, socket: Path) -> str:
    """Return gdb's commands: those that attach it, then the ones given. Has no side effects."""
    lines = [f"target remote {socket}", *what.commands]
    if what.sources is not None and what.sources[0] != what.sources[1]:
        lines.insert(0, "set substitute-path {} {}".format(*what.sources))
    if what.commands:
        # A breakpoint that cannot be set must fail, not wait for a library that brings it.
        lines.insert(0, "set breakpoint pending off")
    elif what.replayed:
        lines.append("break panic")  # behind its end there is nothing to go back from
    return "".join(f"{line}\n" for line in lines)


def gdb_argv(what: Debugging, script: Path) -> tuple[str, ...]:
    """Return gdb's command line. Has no side effects.

    The commands are in a file, because gdb ends with the first one there that
    fails; of those on its command line only the last one counts.
    """
    # A person's own settings are for a person's own session.
    scripted = ("--batch", "--nx") if what.commands else ()
    return (PROGRAM, "--quiet", *scripted, "-x", str(script), str(what.symbols))


def debug(qemu: Path | str, spec: MachineSpec, what: Debugging, log: Path) -> None:
    """Start a guest that waits, and gdb on it; return when gdb ends, the guest gone.

    `log` is for the guest's console. Raises `MachineLost` when QEMU does not
    come up, `LabError` when gdb fails or, with commands, does not come to
    their end in time.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-gdb-") as folder:
        socket, script = Path(folder) / "gdb", Path(folder) / "commands"
        script.write_text(gdb_script(what, socket))
        with (
            Machine(qemu, replace(spec, debugger=socket), controlled=True) as machine,
            closing(ConsoleLine(machine.console, log)) as console,
            ConsoleAccess(machine, console, name=GUEST) as people,
        ):
            people.give_over()  # gdb has this terminal: a person types at another one
            _wait_for(socket, machine)
            with lent_terminal():
                _attend(gdb_argv(what, script), console, people, what)


def _wait_for(socket: Path, machine: Machine) -> None:
    deadline = time.monotonic() + _SOCKET_LIMIT
    while not socket.exists():
        if (end := machine.poll()) is not None:
            raise MachineLost(end.text)
        if time.monotonic() > deadline:
            raise MachineLost(f"QEMU did not listen for gdb within {_SOCKET_LIMIT:.0f} s")
        time.sleep(_SOCKET_POLL)


def _attend(
    argv: Sequence[str], console: ConsoleLine, people: ConsoleAccess, what: Debugging
) -> None:
    """Run gdb on this terminal; read the console meanwhile, or the guest would block on it."""
    typist = _Typist(console, what.typed)
    limit = time.monotonic() + what.limit if what.commands else None
    # Told to end, gdb gives the terminal back; we may be killed outright.
    ending = signal.SIGKILL if what.commands else signal.SIGTERM
    gdb = start(argv, stdin=None, stdout=None, stderr=None, death_signal=ending)
    try:
        with _interrupts_left_to_others(), os.fdopen(os.pidfd_open(gdb.pid), "rb") as ended:
            while gdb.poll() is None:
                people.look_after((ended.fileno(),))
                typist.look()
                if limit is not None and time.monotonic() > limit:
                    raise LabError(
                        f"gdb did not come to the end of its commands within {what.limit:.0f} s"
                    )
    finally:
        if gdb.poll() is None:
            gdb.kill()
            gdb.wait()
    if gdb.returncode:
        raise LabError(f"gdb ended with status {gdb.returncode}: what it said stands above")


class _Typist:
    """Types lines at the guest's shell, each when there is a prompt for it."""

    def __init__(self, console: ConsoleLine, lines: Sequence[str]) -> None:
        self._console = console
        self._lines = list(lines)
        self._at_prompt = False

    def look(self) -> None:
        """Type the next line if the shell has just come to its prompt."""
        was_at_prompt, self._at_prompt = self._at_prompt, self._sees_prompt()
        if self._lines and self._at_prompt and not was_at_prompt:
            self._console.type(self._lines.pop(0).encode() + b"\n")

    def _sees_prompt(self) -> bool:
        return _PROMPT.search(self._console.watch.tail) is not None


@contextmanager
def _interrupts_left_to_others() -> Iterator[None]:
    """Leave Ctrl-C to gdb, which stops the guest by it; it reaches us as well."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
