"""The serial ports of a guest that is recorded: pipes, and filled no faster than a UART takes it.

Two things of QEMU's record and replay make them necessary (functions as in 7.2):

- A port that is full takes more when its other end has read, and QEMU does not
  record when that was: the replay ends with "Missing character write event".
  A pair of sockets is full with 278 writes of one byte, which is how a UART
  writes; a pipe with 1 MiB.
- What comes in waits in a queue for the CPU's thread, which does not look while
  the guest is idle (`all_cpu_threads_idle` in softmmu/cpus.c); meanwhile the UART
  seems to have room, more is read, and overflows its 16 bytes.  So as much as
  fits goes in with each tick of the guest's clock, which must not stop in idle.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from linklab.machine.spec import PipePort

_PIPE_BYTES = 1 << 20  # what a pipe may hold without being root (/proc/sys/fs/pipe-max-size)
_UART_BYTES = 8  # at this many Linux lets a 16550 interrupt, and QEMU takes no more at once
_PACE = 0.012  # s; longer than a tick at 100 Hz


class Pipes:
    """The ports of one guest; `fds` are for QEMU to inherit. Closed when QEMU has ended."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ends = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.fds: tuple[int, ...] = ()

    def port(self, name: str, line: socket.socket) -> PipePort:
        """Return a port that is carried on from and to a line."""
        from_guest, output = os.pipe()
        source, to_guest = os.pipe()
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        path = self._folder / name
        for end, fd in (("out", output), ("in", source)):
            path.with_suffix(f".{end}").symlink_to(f"/dev/fd/{fd}")
            self._ends.callback(os.close, fd)
        self.fds += (output, source)
        for work, fd in ((_carry, from_guest), (_dribble, to_guest)):
            threading.Thread(target=work, args=(fd, line.dup()), daemon=True).start()
        return PipePort(path)

    def let_go(self) -> None:
        """Close QEMU's ends, once it has been started or was not."""
        self._ends.close()

    def close(self) -> None:
        """Remove what QEMU found its ends by."""
        self._stack.close()


def _carry(pipe: int, line: socket.socket) -> None:
    with open(pipe, "rb", buffering=0) as source, line, suppress(OSError):
        while data := source.read(_PIPE_BYTES):
            line.sendall(data)
        line.shutdown(socket.SHUT_RDWR)  # QEMU has ended: `_dribble` has the line open, too


def _dribble(pipe: int, line: socket.socket) -> None:
    with open(pipe, "wb", buffering=0) as target, line, suppress(OSError):
        while data := line.recv(_UART_BYTES):
            target.write(data)
            time.sleep(_PACE)
