"""People at a guest's console: looking on, taking over, and a guest that is held for them.

A unix socket beside the run lets a person at another terminal in. While the
lab works with the guest he looks on, and what he types goes nowhere: a shell
at work beside it would falsify what is measured. He can take the guest over,
which ends the lab's work with it; from then on the console is his.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from enum import IntEnum
from pathlib import Path

from linklab.agent.line import ConsoleLine, PollHandler
from linklab.errors import Interrupted, LabError, LinklabError
from linklab.host.guests import RunningGuest, announced
from linklab.machine.process import Machine
from linklab.machine.qmp import let_gdb_in, send_break

TERMINAL = 0  # the descriptor of a person's terminal, for who inherits it, too
ESCAPE = 0x01  # Ctrl-A, as QEMU's own terminal has it
LEAVE = ord("x")

_TICK_MS = 200  # between looks at what no descriptor tells
_KEY_LIMIT = 5.0  # s for QEMU to do what a key asks
_CONSOLE_PORT = "console"  # what `machine.spec` calls it
_READ_BYTES = 65536
_MOST_UNREAD = 1 << 20  # bytes that wait for a visitor who does not read
_MOST_VISITORS = 16

_AT_WORK = (
    "\r\n[the lab is at work with this guest: you look on. Ctrl-A t takes it over, which ends "
    "the work; Ctrl-A x leaves]\r\n"
)
_YOURS = (
    "\r\n[the guest is yours: Enter gives a shell, if it can. Ctrl-A b and a key: the kernel's "
    "SysRq; Ctrl-A g lets gdb in; Ctrl-A x leaves]\r\n"
)

Hold = Callable[[RunningGuest, LinklabError], AbstractContextManager[subprocess.Popen[bytes]]]
"""Holds a guest that failed, and with what; gives the process of the person who looks at it."""


class TakenOver(Exception):
    """A visitor wants the guest."""


class Key(IntEnum):
    """What a visitor's escape sequence asks for: the byte behind Ctrl-A."""

    TAKE_OVER = ord("t")
    BREAK = ord("b")
    DEBUGGER = ord("g")


_KEYS = frozenset(Key)


class Keys:
    """Reads what a visitor types: text, and escapes, which may come in pieces."""

    def __init__(self) -> None:
        self._escaped = False

    def read(self, data: bytes) -> Iterator[bytes | Key]:
        """Yield text and what is asked for, in order. Ctrl-A twice is one of it."""
        text = bytearray()
        for byte in data:
            # Before the first yield: the caller may stop there.
            was_escaped, self._escaped = self._escaped, False
            if was_escaped and byte in _KEYS:
                if text:
                    yield bytes(text)
                text.clear()
                yield Key(byte)
            elif byte == ESCAPE and not was_escaped:
                self._escaped = True
            elif byte == ESCAPE or not was_escaped:
                text.append(byte)
        if text:
            yield bytes(text)


class _Visitor:
    """Somebody who looks on."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.keys = Keys()
        self._unread = bytearray()
        sock.setblocking(False)

    def show(self, data: bytes) -> bool:
        """Send what he takes, keep the rest; return whether there is a rest."""
        self._unread += data
        with suppress(BlockingIOError):
            sent = self.socket.send(self._unread, socket.MSG_NOSIGNAL)
            del self._unread[:sent]
        if len(self._unread) > _MOST_UNREAD:
            raise ConnectionAbortedError("the visitor does not read")
        return bool(self._unread)


class ConsoleServer:
    """A console's visitors, at a unix socket that is this user's alone.

    `fileno` is for the waits of whoever looks after the guest; when it is
    ready, `serve` raises `TakenOver` if a visitor takes the guest over.
    `on_key` does what a key asks of the machine, and returns what to tell of it.
    """

    def __init__(self, console: ConsoleLine, path: Path, on_key: Callable[[Key], str]) -> None:
        self._console = console
        self._path = path
        self._on_key = on_key
        self._visitors: dict[int, _Visitor] = {}
        self._is_open = False
        self._poll = select.epoll()
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
            self._listener.listen()
        except OSError:
            self._listener.close()
            self._poll.close()
            raise
        self._listener.setblocking(False)
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        console.listener = self._show

    def fileno(self) -> int:
        """Return a descriptor that is ready when somebody knocks or types."""
        return self._poll.fileno()

    @property
    def visitors(self) -> int:
        """How many there are."""
        return len(self._visitors)

    def give_over(self) -> None:
        """Leave the guest to its visitors: the lab's work with it is over."""
        self._is_open = True
        self._show(_YOURS.encode())

    def serve(self) -> None:
        """Let in who knocks, pass on what was typed. Does not wait."""
        for fd, event in self._poll.poll(0):
            if fd == self._listener.fileno():
                self._let_in()
            elif (visitor := self._visitors.get(fd)) is not None:
                self._attend(visitor, event)

    def send_away(self) -> None:
        """Let all visitors know that it is over."""
        for visitor in list(self._visitors.values()):
            self._see_off(visitor)

    def close(self) -> None:
        """Send everybody away, and let nobody in any more."""
        self._console.listener = None
        self.send_away()
        self._poll.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _let_in(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            if len(self._visitors) >= _MOST_VISITORS or not _is_ours(sock):
                sock.close()
                return
            visitor = self._visitors[sock.fileno()] = _Visitor(sock)
            self._poll.register(sock.fileno(), select.EPOLLIN)
            tail = self._console.watch.tail.replace("\n", "\r\n")
            self._tell(visitor, (tail + (_YOURS if self._is_open else _AT_WORK)).encode())

    def _attend(self, visitor: _Visitor, event: int) -> None:
        if event & select.EPOLLOUT:
            self._tell(visitor, b"")
        if not event & ~select.EPOLLOUT:
            return
        try:
            data = visitor.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._see_off(visitor)
            return
        for typed in visitor.keys.read(data):
            self._do(visitor, typed)

    def _do(self, visitor: _Visitor, typed: bytes | Key) -> None:
        if typed is Key.TAKE_OVER and not self._is_open:
            raise TakenOver
        if not self._is_open:
            self._tell(visitor, _AT_WORK.encode())
        elif isinstance(typed, bytes):
            self._console.type(typed)
        elif typed is not Key.TAKE_OVER and (told := self._on_key(typed)):
            self._tell(visitor, f"\r\n[{told}]\r\n".encode())

    def _show(self, data: bytes) -> None:
        for visitor in list(self._visitors.values()):
            self._tell(visitor, data)

    def _tell(self, visitor: _Visitor, data: bytes) -> None:
        try:
            is_behind = visitor.show(data)
        except OSError:
            self._see_off(visitor)
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if is_behind else 0)
        self._poll.modify(visitor.socket.fileno(), wanted)

    def _see_off(self, visitor: _Visitor) -> None:
        if self._visitors.pop(visitor.socket.fileno(), None) is not None:
            self._poll.unregister(visitor.socket.fileno())
            visitor.socket.close()


def _is_ours(sock: socket.socket) -> bool:
    """Whether who knocks is this very user; the socket's mode says so, too."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], "little") == os.geteuid()


class ConsoleAccess:
    """The console of one guest and who may come to it; none where this host has no place for that.

    `hold` takes the guest if it fails; `symbols` is a vmlinux with debug
    information, for those who bring gdb. The guest's `name` is that of its
    console's log, unless another one is given. A context manager.
    """

    def __init__(
        self,
        machine: Machine,
        console: ConsoleLine,
        hold: Hold | None = None,
        symbols: Path | None = None,
        name: str = "",
    ) -> None:
        self._machine = machine
        self._console = console
        self._hold = hold
        self._symbols = symbols
        self._stack = ExitStack()
        self._guest: RunningGuest | None = None
        self._server: ConsoleServer | None = None
        with suppress(LabError, OSError):  # a run goes on without a console for others
            name = name or guest_name(console.log_path)
            self._guest = self._stack.enter_context(announced(name, console.log_path))
            self._server = ConsoleServer(console, self._guest.console, self._on_key)
            self._stack.callback(self._server.close)

    def __enter__(self) -> ConsoleAccess:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def handlers(self) -> tuple[PollHandler, ...]:
        """Who is to be looked after while the lab waits for the guest."""
        server = self._server
        return (PollHandler(server.fileno(), server.serve),) if server else ()

    def give_over(self) -> None:
        """Leave the console to whoever comes."""
        if self._server is not None:
            self._server.give_over()

    def leave_to_visitors(self) -> None:
        """Leave the guest to who took it over, until the last of them is gone, or the guest."""
        if (server := self._server) is not None:
            self._host(lambda: server.visitors == 0)

    def hold(self, verdict: LinklabError) -> None:
        """Hold a guest that failed, and still runs, for a person, where one is there."""
        server = self._server
        if self._hold is None or server is None or self._guest is None:
            return
        if isinstance(verdict, Interrupted) or self._machine.poll() is not None:
            return
        with self._hold(self._guest, verdict) as person:
            self._host(lambda: person.poll() is not None and server.visitors == 0)
            server.send_away()

    def look_after(self, others: Sequence[int] = ()) -> None:
        """Wait a moment, for others' descriptors too; pass on what is said and typed.

        Raises what `ConsoleLine.read_available` does.
        """
        poller = select.poll()
        for fd in (*others, *(handler.fileno for handler in self.handlers)):
            poller.register(fd, select.POLLIN)
        if not self._console.closed:
            poller.register(self._console.fileno(), select.POLLIN)
        poller.poll(_TICK_MS)
        self._console.read_available()
        if self._server is not None:
            self._server.serve()

    def _host(self, is_over: Callable[[], bool]) -> None:
        if self._machine.spec.is_virtual:
            with suppress(LabError):  # it stands still where it was the lab's turn
                self._machine.control.go_on(_KEY_LIMIT)
        self.give_over()
        while not is_over() and not self._console.closed and self._machine.poll() is None:
            with suppress(LabError):  # its log cannot grow: the person looks at the guest itself
                self.look_after((self._machine.pidfd,))

    def _on_key(self, key: Key) -> str:
        """Do what a visitor's key asks of the machine; return what to tell of it."""
        assert self._guest is not None
        try:
            if key is Key.BREAK:
                send_break(self._machine.control, _CONSOLE_PORT, _KEY_LIMIT)
                return ""
            where = self._guest.folder / "gdb"
            let_gdb_in(self._machine.control, where, _KEY_LIMIT)
            return f"gdb can attach: gdb {self._symbols or 'vmlinux'} -ex 'target remote {where}'"
        except LabError as error:  # a QEMU that is stopped, or busy
            return error.message


def guest_name(log: Path) -> str:
    """Return what a guest is called, by the name of its console's log."""
    return log.stem.removeprefix("console-")


# A visitor's own terminal


def visit(console: Path, typing: int, screen: int) -> bool:
    """Show a guest's console on `screen` and send it what comes from `typing`.

    Both are file descriptors; a terminal is in raw mode meanwhile. Returns
    when the person leaves (Ctrl-A x, true) or the guest ends (false). Raises
    `OSError` when nobody opens.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(console))
        with _raw(typing):
            return _carry(sock, typing, screen)


def _carry(sock: socket.socket, typing: int, screen: int) -> bool:
    escaped = False
    while True:
        ready, _, _ = select.select([sock.fileno(), typing], [], [])
        if sock.fileno() in ready:
            try:
                data = sock.recv(_READ_BYTES)
            except ConnectionError:
                return False
            if not data:
                return False
            left = memoryview(data)
            while left:
                left = left[os.write(screen, left) :]
        if typing in ready:
            typed = os.read(typing, _READ_BYTES)
            leaves = not typed  # the end of the typing is a wish to leave
            for at, byte in enumerate(typed):
                if escaped and byte == LEAVE:  # all else is the server's matter
                    typed, leaves = typed[: max(0, at - 1)], True
                    break
                escaped = byte == ESCAPE and not escaped
            with suppress(ConnectionError):  # read its last words first
                sock.sendall(typed)
            if leaves:
                return True


@contextmanager
def _raw(typing: int) -> Iterator[None]:
    """Take every key as it comes, Ctrl-C included: it is the guest's."""
    with lent_terminal(typing):
        if os.isatty(typing):
            tty.setraw(typing)
        yield


@contextmanager
def lent_terminal(fd: int = TERMINAL) -> Iterator[None]:
    """Give a terminal back as it was, whatever is done to it meanwhile, on every way out.

    A program that is killed leaves it without echo and without Ctrl-C, and with
    O_NONBLOCK, which holds for everybody who has it open.
    """
    if not os.isatty(fd):
        yield
        return
    before, flags = termios.tcgetattr(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        yield
    finally:
        with suppress(OSError, termios.error):  # the terminal itself is gone
            if _is_in_front(fd):
                fcntl.fcntl(fd, fcntl.F_SETFL, flags)
                # At once: what is still to be shown may wait for Ctrl-Q for ever.
                termios.tcsetattr(fd, termios.TCSANOW, before)


def _is_in_front(fd: int) -> bool:
    """Whether a terminal is ours to set, and not that of a job in front of us."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal that we were started at
        return True


if __name__ == "__main__":
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())  # by way of the terminal as it was
    visit(Path(sys.argv[1]), sys.stdin.fileno(), sys.stdout.fileno())
