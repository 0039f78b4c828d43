"""The two serial lines of a guest, driven with pexpect.

`ConsoleLine` logs and watches; `AgentLine` carries frames. Nobody waits for
one alone: while the lab waits for the agent it reads the console, too, so a
kernel that floods it is never blocked, and it notices at once when QEMU ends.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from linklab.agent.crash import CrashWatch
from linklab.errors import LabError

_READ_BYTES = 65536


class LineClosed(Exception):
    """The machine's end of a line is closed: the machine is gone or going."""


class ConsoleLine:
    """The kernel's console: every byte goes to the log and past the watch."""

    def __init__(self, sock: socket.socket, log: Path) -> None:
        sock.setblocking(False)
        self._spawn = SocketSpawn(sock)
        self._log: BinaryIO = log.open("wb", buffering=0)
        self.log_path = log
        self.watch = CrashWatch()
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return int(self._spawn.fileno())

    def pump(self) -> None:
        """Take all that is there, without waiting."""
        while not self.closed:
            try:
                data = self._spawn.read_nonblocking(_READ_BYTES, timeout=0)
            except (pexpect.TIMEOUT, BlockingIOError):
                return
            except (pexpect.EOF, OSError):
                self.closed = True
                self.watch.finish()
                return
            self._write(data)
            self.watch.feed(data)

    def type(self, text: bytes) -> None:
        """Type at the console, as a person would."""
        self._spawn.send(text)

    def close(self) -> None:
        """Close the log; the line belongs to the machine."""
        self._log.close()

    def _write(self, data: bytes) -> None:
        try:
            self._log.write(data)
        except OSError as error:
            raise LabError(
                f"the console's log {self.log_path} cannot be written: {error.strerror}"
            ) from error


class LineStuck(Exception):
    """The guest does not take what is sent to it."""


@dataclass(frozen=True)
class Companion:
    """Something else to look after while waiting: a descriptor and what to do then."""

    fileno: int
    ready: Callable[[], None]


class AgentLine(SocketSpawn):  # type: ignore[misc]  # pexpect has no types
    """The agent's port. Reads lines, and looks after its companions meanwhile."""

    def __init__(self, sock: socket.socket, companions: Sequence[Companion] = ()) -> None:
        super().__init__(sock, maxread=_READ_BYTES, searchwindowsize=None)
        self.companions = list(companions)

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        """Read what is there; pexpect calls this, and so does nobody else.

        Raises `pexpect.TIMEOUT` and `pexpect.EOF` as pexpect expects, and
        whatever a companion raises.
        """
        end = time.monotonic() + (self.timeout if timeout in (None, -1) else timeout)
        while True:
            if self._wait(end - time.monotonic()):
                data: bytes = super().read_nonblocking(size, timeout=1)
                return data
            if time.monotonic() >= end:
                raise pexpect.TIMEOUT("no byte from the agent")

    def _wait(self, seconds: float, event: int = select.POLLIN) -> bool:
        """Wait until something is ready; look after companions; say whether we are."""
        poller = select.poll()
        poller.register(self.fileno(), event)
        for companion in self.companions:
            poller.register(companion.fileno, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(0.0, seconds) * 1000)}
        if self.fileno() in ready:
            # First what the agent said: its last words count, also when
            # something else is ready because the machine ended.
            return True
        for companion in self.companions:
            if companion.fileno in ready:
                companion.ready()
        return False

    def send_bytes(self, data: bytes, until: float) -> None:
        """Send all of it by `until` (monotonic, s), looking after the companions meanwhile.

        Raises `LineStuck` when the machine does not take it, and `LineClosed`
        when it is gone.
        """
        left = memoryview(data)
        while left:
            if not self._wait(until - time.monotonic(), select.POLLOUT):
                if time.monotonic() >= until:
                    raise LineStuck(f"the guest takes no more bytes, {len(left)} are left")
                continue
            try:
                left = left[self.socket.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LineClosed("the agent's line is closed") from error

    def read_line(self, until: float) -> bytes | None:
        """Return the next line, or None when `until` (monotonic, s) passes without one.

        Raises `LineClosed` when the machine closed the line.
        """
        seconds = max(0.0, until - time.monotonic())
        try:
            self.expect_exact(b"\n", timeout=seconds)
        except pexpect.TIMEOUT:
            return None
        except (pexpect.EOF, OSError) as error:
            raise LineClosed("the agent's line is closed") from error
        line: bytes = self.before
        return line
