"""A door to a running guest's console, for a person at another terminal.

A unix socket beside the run. While the lab works with the guest a visitor
looks on, and what is typed goes nowhere: a shell at work beside it would
falsify what is measured. A visitor can take the guest over, which ends the
lab's work with it; from then on the console is the visitors' own.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from linklab.agent.line import ConsoleLine

ESCAPE = 0x01  # Ctrl-A, as QEMU's own terminal has it
TAKE_OVER = ord("t")
BREAK = ord("b")
DEBUGGER = ord("g")
LEAVE = ord("x")

_READ_BYTES = 4096
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


class TakenOver(Exception):
    """A visitor wants the guest."""


class Key(Enum):
    """What a visitor's escape sequence asks for."""

    TAKE_OVER = auto()
    BREAK = auto()
    DEBUGGER = auto()


_MEANING = {TAKE_OVER: Key.TAKE_OVER, BREAK: Key.BREAK, DEBUGGER: Key.DEBUGGER}


class Keys:
    """Reads what a visitor types: text, and escapes, which may come in pieces."""

    def __init__(self) -> None:
        self._escaped = False

    def read(self, data: bytes) -> Iterator[bytes | Key]:
        """Yield text and what is asked for, in order. Ctrl-A twice is one of it."""
        text = bytearray()
        for byte in data:
            # Before anything is yielded: whoever asks may not come back for the rest.
            was_escaped, self._escaped = self._escaped, False
            key = _MEANING.get(byte) if was_escaped else None
            if key is not None:
                if text:
                    yield bytes(text)
                text.clear()
                yield key
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
        self.unread = bytearray()
        sock.setblocking(False)

    def show(self, data: bytes) -> bool:
        """Send what it takes, keep the rest; return whether there is a rest."""
        self.unread += data
        with suppress(BlockingIOError):
            sent = self.socket.send(self.unread, socket.MSG_NOSIGNAL)
            del self.unread[:sent]
        if len(self.unread) > _MOST_UNREAD:
            raise ConnectionAbortedError("the visitor does not read")
        return bool(self.unread)


class Door:
    """A console's visitors. A context manager: it closes with the guest.

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
        """Return a descriptor that is ready when somebody is at the door."""
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
            visitor = _Visitor(sock)
            self._visitors[sock.fileno()] = visitor
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
