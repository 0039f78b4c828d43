"""People in a guest: the door to its console while it runs, and a guest that is kept for them."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from linklab.agent.line import Companion, ConsoleLine
from linklab.errors import Interrupted, LabError, LinklabError
from linklab.host.guests import RunningGuest, announced
from linklab.lab.door import Door, Key
from linklab.machine.process import Machine
from linklab.machine.qmp import let_gdb_in, send_break

_TICK_MS = 200  # between looks at whether a visitor's process has ended
CONSOLE_PORT = "console"  # what `machine.spec` calls it
_KEY_LIMIT = 5.0  # s for QEMU to do what a key asks

Keeper = Callable[[RunningGuest, LinklabError], AbstractContextManager[subprocess.Popen[bytes]]]
"""Takes a guest that failed, and with what; gives the process of the person who looks at it."""


class Visits:
    """The door of one guest, or none where this host has no place for one."""

    def __init__(
        self,
        machine: Machine,
        console: ConsoleLine,
        keeper: Keeper | None = None,
        symbols: Path | None = None,
        name: str = "",
    ) -> None:
        self._machine = machine
        self._name = name or guest_name(console.log_path)
        self._keeper = keeper
        self._symbols = symbols
        self._console = console
        self.guest: RunningGuest | None = None
        self.door: Door | None = None

    def open(self, stack: ExitStack) -> None:
        """Open the door, until the stack ends. A run does not fail for want of visitors."""
        with suppress(LabError, OSError):
            self.guest = stack.enter_context(announced(self._name, self._console.log_path))
            self.door = Door(self._console, self.guest.console, self._on_key)
            stack.callback(self.door.close)

    @property
    def companions(self) -> tuple[Companion, ...]:
        """Who is to be looked after while the lab waits for the guest."""
        return (Companion(self.door.fileno(), self.door.serve),) if self.door else ()

    def leave_to_visitors(self) -> None:
        """Leave the guest to who took it over, until the last of them is gone, or the guest."""
        if self.door is not None:
            door = self.door
            self._host(lambda: door.visitors == 0)

    def keep(self, verdict: LinklabError) -> None:
        """Leave a guest that failed, and still runs, to its keeper, if it has one."""
        if self._keeper is None or self.door is None or self.guest is None:
            return
        if isinstance(verdict, Interrupted) or self._machine.poll() is not None:
            return
        door = self.door
        with self._keeper(self.guest, verdict) as person:
            self._host(lambda: person.poll() is not None and door.visitors == 0)
            door.send_away()

    def _host(self, is_over: Callable[[], bool]) -> None:
        assert self.door is not None
        if self._machine.spec.is_virtual:
            with suppress(LabError):  # it stands still where it was the lab's turn
                self._machine.control.go_on(_KEY_LIMIT)
        self.door.give_over()
        poller = select.poll()
        for fd in (self.door.fileno(), self._console.fileno(), self._machine.pidfd):
            poller.register(fd, select.POLLIN)
        while not is_over() and not self._console.closed and self._machine.poll() is None:
            poller.poll(_TICK_MS)
            with suppress(LabError):  # its log cannot grow: the person looks at the guest itself
                self._console.pump()
            self.door.serve()

    def _on_key(self, key: Key) -> str:
        """Do what a visitor's key asks of the machine; return what to tell of it."""
        assert self.guest is not None
        try:
            if key is Key.BREAK:
                send_break(self._machine.control, CONSOLE_PORT, _KEY_LIMIT)
                return ""
            where = self.guest.folder / "gdb"
            let_gdb_in(self._machine.control, where, _KEY_LIMIT)
            return f"gdb can attach: gdb {self._symbols or 'vmlinux'} -ex 'target remote {where}'"
        except LabError as error:  # a QEMU that is stopped, or busy
            return error.message


@contextmanager
def visits_to(
    machine: Machine,
    console: ConsoleLine,
    keeper: Keeper | None = None,
    symbols: Path | None = None,
    name: str = "",
) -> Iterator[Visits]:
    """Let people visit a guest while the context lasts; `keeper` takes it if it fails.

    `symbols` is a vmlinux with debug information, for those who bring gdb. Its
    name is that of its console's log, unless another one is given.
    """
    with ExitStack() as stack:
        visits = Visits(machine, console, keeper, symbols, name)
        visits.open(stack)
        yield visits


def guest_name(log: Path) -> str:
    """Return what a guest is called, by the name of its console's log."""
    return log.stem.removeprefix("console-")
