"""This terminal as a visitor of a guest's console."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from linklab.lab.door import ESCAPE, LEAVE

_READ_BYTES = 65536


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
    leaving = _Leaving()
    while True:
        ready, _, _ = select.select([sock.fileno(), typing], [], [])
        if sock.fileno() in ready:
            try:
                data = sock.recv(_READ_BYTES)
            except ConnectionError:
                return False
            if not data:
                return False
            _write_all(screen, data)
        if typing in ready:
            typed = leaving.keep(os.read(typing, _READ_BYTES))
            if typed:
                with suppress(ConnectionError):  # read its last words first
                    sock.sendall(typed)
            if leaving.wanted:
                return True


class _Leaving:
    """Looks for Ctrl-A x in what is typed; all else is the door's matter."""

    def __init__(self) -> None:
        self.wanted = False
        self._escaped = False

    def keep(self, typed: bytes) -> bytes:
        """Return what is to be sent on. The end of the typing is a wish to leave."""
        self.wanted = not typed
        for at, byte in enumerate(typed):
            if self._escaped and byte == LEAVE:
                self.wanted = True
                return typed[: max(0, at - 1)]
            self._escaped = byte == ESCAPE and not self._escaped
        return typed


def _write_all(screen: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(screen, left) :]


@contextmanager
def _raw(typing: int) -> Iterator[None]:
    """Take every key as it comes, Ctrl-C included: it is the guest's."""
    if not os.isatty(typing):
        yield
        return
    before = termios.tcgetattr(typing)
    try:
        tty.setraw(typing)
        yield
    finally:
        termios.tcsetattr(typing, termios.TCSADRAIN, before)


if __name__ == "__main__":
    visit(Path(sys.argv[1]), sys.stdin.fileno(), sys.stdout.fileno())
