"""A command in a guest: its three streams, its end, and what ends it before."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from linklab.agent.line import PollHandler
from linklab.agent.replies import StreamNews
from linklab.entry import ENDING
from linklab.errors import GuestHung, LabError
from linklab.lab.session import Session

ANSWER_LIMIT = 30.0  # s for the agent to answer, whatever the command does
GRACE = 2.0  # s for a command to end once it was told to
_WAIT = 10.0  # s until a command that says nothing is asked again
_INPUT_BLOCK = 65536  # bytes of standard input that wait here for the guest
_LOOK = 0.2  # s between two looks for a wish while nobody takes the output


@dataclass(frozen=True)
class Command:
    """What to run: a program's path and arguments, its environment, and where it starts.

    Where the guest has no such folder it starts in /.
    """

    argv: Sequence[str]
    folder: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended: what wait(2) says, and the guest's seconds; None for what did not."""

    wait_status: int
    seconds: float

    @property
    def status(self) -> int:
        """Its exit status, 128 and the number of the signal that killed it, as a shell says it."""
        code = os.waitstatus_to_exitcode(self.wait_status)
        return code if code >= 0 else 128 - code

    @property
    def signal(self) -> int | None:
        """The signal that killed it, if one did."""
        return os.WTERMSIG(self.wait_status) if os.WIFSIGNALED(self.wait_status) else None


class Wishes:
    """A person's wish that the command should end: the first signal. The second ends the lab."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._heard, self._told = socket.socketpair()

    def fileno(self) -> int:
        """Return a descriptor that is ready once there is a wish."""
        return self._heard.fileno()

    def take(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal, as its handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._told.send(b"!")

    def heard(self) -> None:
        """Note that what is ready at `fileno` was taken."""
        self._heard.recv(16)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals that end a program; those that are ignored (nohup) stay so."""
        before = {number: signal.getsignal(number) for number in ENDING}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self.take)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._heard.close()
            self._told.close()


class Sink(Protocol):
    """Where one of a command's outputs goes."""

    def put(self, data: bytes, run: CommandRun) -> None:
        """Take all of it. Raises `OSError` where that cannot be."""


class Kept:
    """Keeps an output in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, data: bytes, run: CommandRun) -> None:  # noqa: ARG002
        """Take it."""
        self.data += data


class Passed:
    """Passes an output on to a descriptor as it comes.

    Whoever reads that may be slow: the guest is looked after meanwhile, and no
    more output is fetched from it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def put(self, data: bytes, run: CommandRun) -> None:
        """Take it; what nobody reads is dropped once the command is to end."""
        left = memoryview(data)
        while left:
            if run.may_write(self._fd):
                # What a pipe takes without a wait, where it takes anything (pipe(7), PIPE_BUF).
                with suppress(BlockingIOError):  # somebody else made our terminal such
                    left = left[os.write(self._fd, left[: select.PIPE_BUF]) :]
            elif run.is_to_end:
                return


class CommandRun:
    """One command in a session, from its start to its end.

    `typing` is a descriptor whose bytes are the command's input, None where that
    is empty; `sinks` take its standard output and its standard error. `limit`
    is the seconds after which it counts as hung.
    """

    def __init__(
        self,
        session: Session,
        sinks: tuple[Sink, Sink],
        typing: int | None = None,
        wishes: Wishes | None = None,
        limit: float | None = None,
    ) -> None:
        self._session = session
        self._agent = session.agent
        self._sinks = sinks
        self._typing = typing
        self._typed = bytearray()  # what the guest has no room for yet
        self._wishes = wishes
        self._limit = limit
        self._due = float("inf")  # when the command counts as hung
        self._kill_at = float("inf")
        self._killed = False
        self._told = False
        self.lost: BrokenPipeError | LabError | None = None  # an output that nobody takes any more

    @property
    def is_to_end(self) -> bool:
        """Whether somebody wants it to end, and no more of its output."""
        return self.lost is not None or bool(self._wishes and self._wishes.signal)

    def may_write(self, fd: int) -> bool:
        """Wait a moment until a descriptor takes bytes; say whether it does."""
        return self._session.line.wait_to_write(fd, _LOOK)

    def run(self, command: Command) -> CommandEnd | None:
        """Run it; return how it ended, None where it did not although it was killed.

        Raises `GuestHung` when it takes longer than its limit, and what ends
        the session.
        """
        if self._limit is not None:
            self._due = time.monotonic() + self._limit
        words = command.argv, command.folder, command.environment
        capacity = self._agent.open_job(*words, time.monotonic() + ANSWER_LIMIT)
        try:
            while True:
                if self._end_it():
                    return None
                news = self._stream(capacity)
                capacity = news.capacity
                if not news.reads:
                    self._typing = None
                    self._typed.clear()
                if news.wait_status is not None:
                    return CommandEnd(news.wait_status, news.measure.seconds)
        finally:
            self._session.line.callers.clear()

    def _stream(self, capacity: int) -> StreamNews:
        typed = bytes(self._typed[:capacity])
        del self._typed[:capacity]
        self._read_input()
        wait = 0.0 if typed and self._typed else min(_WAIT, self._left())
        self._session.line.callers[:] = self._callers()
        return self._agent.stream_job(
            wait,
            typed,
            self._show,
            time.monotonic() + wait + ANSWER_LIMIT,
            is_all=self._typing is None and not self._typed,
        )

    def _left(self) -> float:
        """Return the seconds until something is to be done to the command."""
        return max(0.0, min(self._due, self._kill_at) - time.monotonic())

    def _callers(self) -> Iterator[PollHandler]:
        if self._wishes is not None and not self._told:
            yield PollHandler(self._wishes.fileno(), self._wish_ready)
        if self._typing is not None and len(self._typed) < _INPUT_BLOCK:
            yield PollHandler(self._typing, self._input_ready)

    def _wish_ready(self) -> None:
        assert self._wishes is not None
        self._wishes.heard()
        self._nudge()

    def _input_ready(self) -> None:
        self._read_input()
        self._nudge()

    def _nudge(self) -> None:
        self._session.line.callers.clear()  # once a request
        self._agent.nudge(time.monotonic() + ANSWER_LIMIT)

    def _read_input(self) -> None:
        """Read what there is of our input, as far as there is room for it."""
        capacity = _INPUT_BLOCK - len(self._typed)
        if self._typing is None or not capacity:
            return
        poller = select.poll()
        poller.register(self._typing, select.POLLIN)
        if not poller.poll(0):
            return
        try:
            data = os.read(self._typing, capacity)
        except BlockingIOError:
            return
        except OSError:  # a folder, a terminal that is gone: nothing comes from it any more
            data = b""
        self._typed += data
        if not data:
            self._typing = None

    def _show(self, news: StreamNews) -> None:
        began = time.monotonic()
        self._pass_on(news)
        self._due += time.monotonic() - began  # somebody else kept the command waiting

    def _pass_on(self, news: StreamNews) -> None:
        for sink, data in zip(self._sinks, (news.output, news.errors), strict=True):
            if not data or self.lost is not None:
                continue
            try:
                sink.put(data, self)
            except BrokenPipeError as error:
                self.lost = error
            except OSError as error:
                self.lost = LabError(f"what the command printed cannot be written: {error}")

    def _end_it(self) -> bool:
        """Tell the command to end, where that is due; say whether not even a kill did it."""
        now = time.monotonic()
        if now >= self._due:
            raise GuestHung(f"the command did not end within {self._limit:g} s")
        if self.is_to_end and not self._told:
            self._told = True
            self._kill_at = now + GRACE
            self._agent.signal_job(self._why_it_ends(), now + ANSWER_LIMIT)
        elif now >= self._kill_at:
            if self._killed:
                return True
            self._killed = True
            self._kill_at = now + GRACE
            self._agent.signal_job(signal.SIGKILL, now + ANSWER_LIMIT)
        return False

    def _why_it_ends(self) -> int:
        if self._wishes is not None and self._wishes.signal is not None:
            return self._wishes.signal
        return signal.SIGPIPE if isinstance(self.lost, BrokenPipeError) else signal.SIGTERM
