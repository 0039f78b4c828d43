"""The links between machines: pairs of sockets, and the program that shapes what goes over them.

A link that does nothing to packets is a pair of sockets, an end for each machine. Any
other one is two pairs, and between them the wire (`linklab/lab/wire.c`), one process
for all links of a topology: so no machine shapes itself, and what is lost depends on
the seed and not on a guest's kernel.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from linklab.errors import LabError
from linklab.host.run import start
from linklab.lab.topology import Link, Way

_ANSWER_LIMIT = 10.0  # s for what takes it microseconds
_ANSWER_BYTES = 4096
_LAST_WORDS = 2000  # bytes of its standard error

Counters = Mapping[str, int]
"""What one direction of a link did, by the names in `linklab/lab/wire.c`."""


class Wire:
    """All links of a topology on this host. A context manager: afterwards the process is gone.

    `program` is the wire, compiled; `seed` decides what lossy links lose, 0 leaves it
    to chance. Machines inherit `ends`, a socket of each host of each link.
    """

    def __init__(self, program: Path, links: Sequence[Link], seed: int) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = {k: n for n, k in enumerate(_shaped(links))}
        self._stack = ExitStack()
        self._far = ExitStack()
        self.ends: list[tuple[socket.socket, socket.socket]] = []
        try:
            self._begin(program, links, seed)
        except BaseException:
            self.close()
            raise
        finally:
            self._far.close()

    def _begin(self, program: Path, links: Sequence[Link], seed: int) -> None:
        words: list[str] = []
        for link in links:
            if link.is_clean:
                self.ends.append(self._pair())
                continue
            number = len(words) // 2
            (a, a_far), (b, b_far) = self._pair(), self._pair()
            self.ends.append((a, b))
            words += [str(end.fileno()) for end in (a_far, b_far)]
            words += [
                _words(way, seed and seed + number + back)
                for back, way in enumerate((link.there, link.back))
            ]
            for end in (a_far, b_far):
                self._far.callback(end.close)
        if not words:
            return
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.enter_context(self._control)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest
        self._stack.callback(self._stderr.close)
        with control:
            inherited = [control.fileno(), *map(int, words[0::4]), *map(int, words[1::4])]
            self._process = start(
                [program, str(control.fileno()), *words],
                stderr=self._stderr,
                pass_fds=inherited,
                new_session=True,  # Ctrl-C is for the lab
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._stack.callback(os.close, self._pidfd)

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._stack.callback(one.close)
        self._stack.callback(other.close)
        return one, other

    def let_go(self) -> None:
        """Close the machines' ends here, once they have them: who is gone then gets nothing."""
        for end in (end for ends in self.ends for end in ends):
            end.close()

    @property
    def pid(self) -> int | None:
        """The process's id; None where no link is shaped."""
        return self._process.pid if self._process else None

    @property
    def pidfd(self) -> int | None:
        """The descriptor that is ready when the process has ended; None where there is none."""
        return self._pidfd if self._process else None

    def died(self) -> LabError:
        """Return the error for a process that ended."""
        assert self._process is not None
        status = self._process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        size = os.fstat(self._stderr.fileno()).st_size
        said = os.pread(self._stderr.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS))
        text = f"the wire, which is the links between the guests, {how}"
        return LabError(text, said.decode(errors="replace").strip())

    def counters(self, link: int) -> tuple[Counters, Counters]:
        """Return what a link did since it began, there and back; high marks since last asked."""
        rows = [line.split() for line in self._ask("counters", link).splitlines()]
        there, back = ({row[0]: int(row[i]) for row in rows} for i in (1, 2))
        return there, back

    def darken(self, link: int) -> None:
        """Let all vanish that is on a link and comes to it; its carrier stays."""
        self._ask("dark", link)

    def light(self, link: int) -> None:
        """Let a link be as it was before it was dark."""
        self._ask("up", link)

    def _ask(self, verb: str, link: int) -> str:
        """Return the process's answer. Raises `LabError` where there is none."""
        if link not in self._numbers:
            raise LabError(
                f"link {link + 1} joins two guests directly, nothing is in its middle that could "
                f"answer `{verb}`: a rate, a delay or a loss puts the wire there"
            )
        until = time.monotonic() + _ANSWER_LIMIT
        try:
            self._control.send(f"{verb} {self._numbers[link]}".encode())
        except OSError:
            raise self.died() from None
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
            raise LabError(f"the wire gave no answer to `{verb}` within {_ANSWER_LIMIT:.0f} s")
        try:
            answer = self._control.recv(_ANSWER_BYTES).decode()
        except OSError:
            answer = ""
        if not answer:
            raise self.died()
        return answer

    def close(self) -> None:
        """End the process and give back everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shaped(links: Sequence[Link]) -> list[int]:
    return [number for number, link in enumerate(links) if not link.is_clean]


def _words(way: Way, seed: int) -> str:
    """Return a way as the program takes it: its queue in packets or in bytes, 0 for the other."""
    queue = (0, way.queue) if way.in_bytes else (way.queue, 0)
    numbers = (
        *(way.rate, way.delay, *queue, way.loss, way.dup, way.reorder, way.corrupt),
        *(way.overhead, seed),
    )
    return ",".join(map(str, numbers))
