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
from typing import BinaryIO, Protocol, TypeVar

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from linklab.console.watch import ConsoleWatch
from linklab.errors import LabError

T = TypeVar("T")

_MOST_LATE = 5.0  # times a deadline, on a host that lets its guest wait
_READ_BYTES = 65536
_LONGEST_LINE = 65536  # bytes: what the agent forgets, too (guest/agent/main.c)
_END_LIMIT = 0.2  # s for the news that QEMU ended
_LOOK = 0.05  # s at most between two looks whether the machine has stopped: see `Turns.is_stopped`
_READS_AT_ONCE = 64  # then somebody else's turn: a flood must not hold up a deadline


class LineClosed(Exception):
    """The machine's end of a line is closed: the machine is gone or going."""


class ConsoleLine:
    """The kernel's console: every byte goes to the log and past the watch."""

    def __init__(self, sock: socket.socket, log: Path) -> None:
        sock.setblocking(False)
        self._spawn = SocketSpawn(sock)
        self.log_path = log
        self._log: BinaryIO | None = self._opened(log)
        self.watch = ConsoleWatch()
        self.listener: Callable[[bytes], None] | None = None  # who looks on
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return int(self._spawn.fileno())

    def read_available(self) -> None:
        """Take what is there, at most 4 MiB, without waiting.

        Raises `LabError` when the log cannot be written; from then on the
        console is watched and no longer logged.
        """
        for _ in range(_READS_AT_ONCE):
            if self.closed:
                return
            try:
                data = self._spawn.read_nonblocking(_READ_BYTES, timeout=0)
            except (pexpect.TIMEOUT, BlockingIOError):
                return
            except (pexpect.EOF, OSError):
                self.closed = True
                self.watch.finish()
                return
            self.watch.feed(data)
            if self.listener is not None:
                self.listener(data)
            self._write(data)

    def type(self, text: bytes) -> None:
        """Type at the console, as a person would."""
        self._spawn.send(text)

    def close(self) -> None:
        """Close the log; the line belongs to the machine."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _opened(self, log: Path) -> BinaryIO:
        try:
            return log.open("wb", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, data: bytes) -> None:
        if self._log is None:
            return
        left = memoryview(data)
        try:
            while left:  # a file system that fills up takes a part at first
                left = left[self._log.write(left) :]
        except OSError as error:
            self.close()
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LabError:
        return LabError(f"the console's log {self.log_path} cannot be written: {error.strerror}")


class LineStuck(Exception):
    """The guest does not take what is sent to it."""


@dataclass(frozen=True)
class PollHandler:
    """Something else to look after while waiting: a descriptor and what to do then."""

    fileno: int
    ready: Callable[[], None]


class Turns(Protocol):
    """A machine that stops itself when its agent has spoken (virtual time)."""

    @property
    def is_stopped(self) -> bool:
        """Whether it stopped, by all that was heard of it, which `fileno` need not show."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def hear(self) -> None:
        """Take what it says."""

    def go_on(self, limit: float) -> None:
        """Let it run. Raises `LabError` when it does not within `limit` seconds."""


class AgentLine(SocketSpawn):  # type: ignore[misc]  # pexpect has no types
    """The agent's port. Reads lines, and looks after its handlers meanwhile.

    Where the machine takes `turns`, a request is in the port as a whole before
    the guest goes on, so that it always arrives at the same instant.
    """

    def __init__(
        self,
        sock: socket.socket,
        handlers: Sequence[PollHandler] = (),
        turns: Turns | None = None,
    ) -> None:
        super().__init__(sock, maxread=_READ_BYTES, searchwindowsize=None)
        self.delayafterread = None  # pexpect sleeps after each read, unless told not to
        self.handlers = list(handlers)
        self.callers: list[PollHandler] = []  # looked after only while nothing is being sent
        self.turns = turns
        self.denied: Callable[[], float] = lambda: 0.0  # `Machine.denied`
        self.has_spoken = False  # the agent, since the machine last went on: it stops next
        self._until = 0.0
        self._has_read = False
        self._unfinished = 0

    def postponed(self, began: float, deadline: float) -> float:
        """Return a deadline that does not count the time for which the host denied a CPU.

        It is at most `_MOST_LATE` times as far from where it `began`.
        """
        share = min(self.denied(), 1 - 1 / _MOST_LATE)
        return began + (deadline - began) / (1 - share)

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:  # noqa: ARG002
        """Read what is there; pexpect calls this, and so does nobody else.

        Raises `pexpect.TIMEOUT` and `pexpect.EOF` as pexpect expects, and
        whatever a handler raises. `timeout` is pexpect's, by the wall clock;
        what counts is `read_line`'s, which nobody can set back.
        """
        while True:
            left = self._until - time.monotonic()
            if left <= 0 and self._has_read:
                raise pexpect.TIMEOUT("no line from the agent")
            if self._wait(left):
                self._has_read = self.has_spoken = True
                return self._broken_up(super().read_nonblocking(size, timeout=1))
            self._has_read = self._has_read or left <= 0

    def _broken_up(self, data: bytes) -> bytes:
        """End a line that is too long for any frame, or it would grow for as long as it comes."""
        _, newline, rest = data.rpartition(b"\n")
        self._unfinished = len(rest) if newline else self._unfinished + len(rest)
        if self._unfinished < _LONGEST_LINE:
            return data
        self._unfinished = 0
        return data + b"\n"

    def _wait(self, seconds: float, event: int = select.POLLIN, fd: int | None = None) -> bool:
        """Wait until something is ready; look after handlers; say whether we are.

        We are the agent's port, or `fd` in its place.
        """
        own = self.fileno() if fd is None else fd
        callers = self.callers if event == select.POLLIN else ()
        poller = select.poll()
        for handler in (*self.handlers, *callers):
            poller.register(handler.fileno, select.POLLIN)
        poller.register(own, event)
        ready = {fd for fd, _ in poller.poll(max(0.0, seconds) * 1000)}
        if own in ready:
            # First what the agent said: its last words count, also when
            # something else is ready because the machine ended.
            return True
        for handler in (*self.handlers, *callers):
            if handler.fileno in ready:
                handler.ready()
        return False

    def wait_to_write(self, fd: int, seconds: float) -> bool:
        """Wait until a descriptor takes bytes, looking after handlers; say whether it does."""
        return self._wait(seconds, select.POLLOUT, fd)

    def send_bytes(self, data: bytes, until: float) -> None:
        """Send all of it by `until` (monotonic, s), looking after the handlers meanwhile.

        Raises `LineStuck` when the machine does not take it, and `LineClosed`
        when it is gone.
        """
        if self.turns is None or not self.has_spoken:
            self._put(data, until)
            return
        self.await_stop(until)
        rest = self._put_at_once(data)
        self._go_on(self.turns, until)
        self._put(rest, until)

    def _go_on(self, turns: Turns, until: float) -> None:
        self.has_spoken = False
        self._talk(lambda: turns.go_on(until - time.monotonic()))

    def _talk(self, what: Callable[[], T]) -> T:
        """Talk to the machine. That it ended says more than that it is silent."""
        try:
            return what()
        except LabError as error:
            self._look_after(_END_LIMIT, self.handlers)
            raise LineStuck(error.message) from error

    def take_turn(self, until: float) -> None:
        """Let a machine go on that stops to be heard, with nothing to say to it.

        Raises `LineStuck` when it does not stop, or does not go on.
        """
        if self.turns is None:
            return
        self.await_stop(until)
        self._go_on(self.turns, until)

    def await_stop(self, until: float) -> None:
        """Wait until a machine that takes turns has stopped. Raises `LineStuck`."""
        turns = self.turns
        if turns is None:
            return
        news = PollHandler(turns.fileno(), lambda: self._talk(turns.hear))
        while not self._talk(lambda: turns.is_stopped):
            if time.monotonic() >= until:
                raise LineStuck("the agent spoke, and its machine does not stop")
            self._look_after(min(until - time.monotonic(), _LOOK), [*self.handlers, news])

    def _look_after(self, seconds: float, handlers: Sequence[PollHandler]) -> None:
        """Wait for some handlers, but not for what the agent says."""
        poller = select.poll()
        for handler in handlers:
            poller.register(handler.fileno, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(0.0, seconds) * 1000)}
        for handler in handlers:
            if handler.fileno in ready:
                handler.ready()

    def _put_at_once(self, data: bytes) -> memoryview:
        """Send what the port holds while the machine stands still, some 200 KB; return the rest."""
        left = memoryview(data)
        try:
            while left:
                left = left[self.socket.send(left, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise LineClosed("the agent's line is closed") from error
        return left

    def _put(self, data: bytes | memoryview, until: float) -> None:
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

        What has arrived is taken also when `until` has passed. Raises
        `LineClosed` when the machine closed the line.
        """
        self._until, self._has_read = until, False
        try:
            self.expect_exact(b"\n", timeout=None)
        except pexpect.TIMEOUT:
            return None
        except (pexpect.EOF, OSError) as error:
            raise LineClosed("the agent's line is closed") from error
        line: bytes = self.before
        return line
