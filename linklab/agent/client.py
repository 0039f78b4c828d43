"""The agent as an object: requests in, results out.

A request that got lost or torn is sent again, and a reply that got lost or
torn is asked for again; the agent never does the same request twice. So a bad
line costs time and never a result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from linklab.agent import protocol
from linklab.agent.exchange import DRAIN_LIMIT, Exchange
from linklab.agent.line import AgentLine, LineClosed
from linklab.agent.protocol import Field, FieldReader, Frame, FrameKind, Torn
from linklab.agent.replies import (
    Hello,
    JobNews,
    Measure,
    MessageRun,
    NotificationCount,
    ProgramEnd,
    StreamNews,
    SyscallCount,
    content_from,
    hello_from,
    job_news_from,
    measure_from,
    news_from,
    notification_counts_from,
    number_from,
    program_end_from,
    result_of,
    runs_from,
    stream_news_from,
    syscall_count_from,
)
from linklab.errors import GuestHung, LabError, LinklabError, ProtocolError

LAST_WORDS = 0.5  # s for what a program printed before its kernel reported a fault

NETWORK_ORDER = 255
"""The width of a 32-bit number in the network's byte order, for `Agent.netlink_each`."""


class AgentRestarted(LabError):
    """Another agent answers than the one that was there: the guest began anew."""


class AgentNotStarted(GuestHung):
    """No agent said hello before the deadline of the boot."""


@dataclass(frozen=True)
class JobLimits:
    """How long a job is followed: the guest's seconds, and bytes of output.

    News of it come every `pace` seconds, or sooner where it prints much.
    """

    seconds: float
    output: int
    pace: float


class Agent:
    """The agent in a guest, over its line. One request at a time."""

    def __init__(self, line: AgentLine, first: int | None = None) -> None:
        self._line = line
        # Anywhere, or from `first` on: a guest may have answered another lab before it was saved.
        self._seq = int.from_bytes(os.urandom(4)) >> 1 if first is None else first
        self._nonce: int | None = None
        self._on_news: Callable[[bytes], float] | None = None

    def wait_for_hello(self, deadline: float) -> Hello:
        """Return the agent's greeting; `deadline` is monotonic, in seconds.

        Asks for it where it came torn. Raises `AgentNotStarted` when none comes, and
        `ProtocolError` when the agent is of another version.
        """
        began, is_postponed = time.monotonic(), False
        while True:
            line = self._line.read_line(deadline)
            if not is_postponed and line is None:
                is_postponed = True
                deadline = self._line.postponed(began, deadline)
                continue
            frame = protocol.decode_line(line or b"")
            if isinstance(frame, Torn):
                return self.hello(deadline)
            if frame is not None and frame.kind is FrameKind.HELLO:
                return self._remember(hello_from(result_of("hello", frame.payload)))
            if line is None or time.monotonic() >= deadline + DRAIN_LIMIT:
                raise AgentNotStarted("the guest did not start its agent within the deadline")

    def hello(self, deadline: float) -> Hello:
        """Ask the agent who it is."""
        return self._remember(hello_from(self.call("hello", (), deadline)))

    def _remember(self, hello: Hello) -> Hello:
        self._nonce = hello.nonce
        return hello

    def run(self, argv: Sequence[str], deadline: float) -> ProgramEnd:
        """Run a program once and time it."""
        fields: list[Field] = [len(argv), *argv]
        return program_end_from(self.call("run", fields, deadline), in_a_row=False)

    def run_each(
        self,
        argv: Sequence[str],
        first: int,
        count: int,
        deadline: float,
        *,
        dump_first: bool = False,
    ) -> ProgramEnd:
        """Run a program for each number from `first`, `{}` in its arguments replaced by it.

        `{.}` is replaced by the number as an IPv4 address.

        Ends at the first that fails. With `dump_first` each process reads all
        links before it becomes the program.
        """
        fields: list[Field] = [first, count, int(dump_first), len(argv), *argv]
        return program_end_from(self.call("run-each", fields, deadline), in_a_row=True)

    def start_job(self, argv: Sequence[str], deadline: float) -> int:
        """Start a program that is left to run; return its process number in the guest.

        Up to 32 are at work at a time. Each goes on until it ends or is signalled;
        where it prints more than is fetched, it waits.
        """
        fields: list[Field] = [len(argv), *argv]
        return number_from(self.call("job-start", fields, deadline))

    def job_news(self, wait: float, deadline: float, job: int = 0) -> JobNews:
        """Return what a job printed in the next `wait` seconds, and its end if it came.

        `job` is its process number, 0 the job that was started last.
        """
        return job_news_from(self.call("job-output", (job, round(wait * 1000)), deadline))

    def follow_job(
        self,
        argv: Sequence[str],
        limits: JobLimits,
        on_news: Callable[[JobNews], float],
        deadline: float,
    ) -> JobNews:
        """Start a job; return its last news: it has ended, or come to one of its limits.

        `on_news` gets what it printed until then, and returns the next
        deadline. It is for a line that loses nothing, as in virtual time.
        """
        seconds, pace = round(limits.seconds * 1000), round(limits.pace * 1000)
        fields: list[Field] = [seconds, limits.output, pace, len(argv), *argv]
        self._on_news = lambda body: on_news(news_from(body))
        try:
            return job_news_from(self.call("job-follow", fields, deadline))
        finally:
            self._on_news = None

    def open_job(
        self, argv: Sequence[str], folder: str, environment: Mapping[str, str], deadline: float
    ) -> int:
        """Start a job with its three streams apart; return how many bytes of input it takes first.

        It starts in `folder`, or in / where the guest has no such folder.
        """
        words = [f"{name}={value}" for name, value in environment.items()]
        fields: list[Field] = [folder, len(words), *words, len(argv), *argv]
        reply = self.call("job-open", fields, deadline)
        number_from(reply)
        return number_from(reply)

    def stream_job(
        self,
        wait: float,
        typed: bytes,
        take: Callable[[StreamNews], None],
        deadline: float,
        *,
        is_all: bool = False,
    ) -> StreamNews:
        """Send input to the last job, the end of it where that `is_all`; return what came of it.

        Returns within `wait` seconds, or as soon as there is something to tell
        or `nudge` is called. `take` gets the news before anything else is done:
        what a program printed counts, also where its kernel failed meanwhile.
        """
        fields = (0, round(wait * 1000), int(is_all), typed)
        try:
            news = stream_news_from(self._ask("job-stream", fields, deadline))
        except (LinklabError, LineClosed):
            raise
        except Exception:  # a handler's: the kernel spoke, and its guest may still run
            self._line.handlers.clear()
            self._seq -= 1  # the same request, which is not done twice
            with suppress(Exception):
                until = time.monotonic() + LAST_WORDS
                take(stream_news_from(self._ask("job-stream", fields, until)))
            raise
        take(news)
        self._done()
        return news

    def nudge(self, deadline: float) -> None:
        """Let the agent answer `stream_job` now; for a caller of the line (`AgentLine.callers`)."""
        poke = protocol.encode_frame(Frame(FrameKind.POKE, self._seq))
        self._line.send_bytes(poke, deadline)

    def share(self, folders: Iterable[tuple[str, str]], deadline: float) -> None:
        """Mount folders of the host, as pairs of QEMU's tag and the path in the guest.

        With the path / the folder is the root of all that is run from then on.
        """
        pairs = list(folders)
        self.call("share", [len(pairs), *(word for pair in pairs for word in pair)], deadline)

    def signal_job(self, number: int, deadline: float, job: int = 0) -> None:
        """Send a signal to a job and all it started in its process group; 0: to each job."""
        self.call("job-signal", (job, number), deadline)

    def netlink(self, requests: Sequence[bytes], deadline: float) -> Measure:
        """Send netlink requests on one socket, each after the last was acknowledged.

        Raises `RequestRefused` with the kernel's words at the first refusal.
        """
        fields: list[Field] = [len(requests), *requests]
        return measure_from(self.call("netlink", fields, deadline))

    def netlink_each(
        self, request: bytes, first: int, count: int, *, offset: int, width: int, deadline: float
    ) -> Measure:
        """Send a request for each number from `first`, written over it at `offset`.

        `width` 0 writes a 32-bit number, `NETWORK_ORDER` one in the network's
        byte order, another one so many decimal digits.
        """
        fields = (first, count, offset, width, request)
        return measure_from(self.call("netlink-each", fields, deadline))

    def dump(
        self, request: bytes, kept: Sequence[int], deadline: float, *, header: int, index: int
    ) -> list[MessageRun]:
        """Send a dump request; return its messages, sorted, cut down, and run-length coded.

        `kept` are the attribute types to keep; `header` is the length of the
        family's header and `index` the place in it of the number to sort by.
        """
        types = b"".join(number.to_bytes(2, "little") for number in kept)
        return runs_from(self.call("dump", (header, index, types, request), deadline))

    def listen(self, count: int, group: int, deadline: float, *, buffer: int = 0) -> int:
        """Start listeners, processes that read the messages of a route netlink group.

        `buffer` is the size of the receive buffer that each asks for, in bytes; returns what
        the kernel gave.
        """
        return number_from(self.call("listen", (count, group, buffer), deadline))

    def notification_counts(self, deadline: float) -> list[NotificationCount]:
        """End the listeners and return what each of them got up to now."""
        return notification_counts_from(self.call("notification-counts", (), deadline))

    def read_file(self, path: str, deadline: float) -> bytes:
        """Return a file's content, at most 4 MiB of it."""
        return content_from(self.call("read-file", (path,), deadline))

    def write_file(
        self, path: str, content: bytes, deadline: float, *, mode: int = 0, append: bool = False
    ) -> None:
        """Write a file; `mode` 0 leaves its mode alone."""
        self.call("write-file", (path, mode, int(append), content), deadline)

    def resume(self, deadline: float, now: int, entropy: bytes) -> int:
        """Set the clock of a resumed guest and stir its random pool; return its agent's nonce.

        `now` is in ns since 1970; `entropy` has 32 to 512 bytes.
        """
        return number_from(self.call("resume", (now, entropy), deadline))

    def power_off(self, deadline: float) -> None:
        """End the guest; returns when the agent's last word has come."""
        word = content_from(self.call("power-off", (), deadline))
        if word != b"end":
            raise ProtocolError(f"the agent ended with {word!r} instead of 'end'")

    def call(self, operation: str, fields: Sequence[Field], deadline: float) -> FieldReader:
        """Do an operation and return its result's fields, whatever the line does.

        `deadline` is monotonic, in seconds. Raises `GuestHung` when it passes,
        and what the outcome of the operation stands for.
        """
        reply = self._ask(operation, fields, deadline)
        self._done()
        return reply

    def _ask(self, operation: str, fields: Sequence[Field], deadline: float) -> FieldReader:
        self._seq += 1
        body = protocol.encode_fields((operation, *fields))
        exchange = Exchange(self._line, self._seq, body, self._check_hello, self._on_news)
        return result_of(operation, exchange.run(operation, deadline))

    def _done(self) -> None:
        """Take note that a request went well: for who looks at the guest's console, too."""

    def _check_hello(self, frame: Frame) -> None:
        hello = hello_from(result_of("hello", frame.payload))
        if self._nonce is not None and hello.nonce != self._nonce:
            raise AgentRestarted("the guest started its agent anew in the middle of a request")


class TracedAgent(Agent):
    """An agent whose operations are traced: done by a process that it watches.

    `counted` is what the last one asked of the kernel. Raises `GuestIncomplete`
    where the guest's kernel cannot tell (before Linux 5.3).
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.counted = SyscallCount(0, 0, 0)

    def call(self, operation: str, fields: Sequence[Field], deadline: float) -> FieldReader:
        """Do an operation as `Agent.call` does, and count."""
        reply = self._agent.call("traced", (operation, *fields), deadline)
        self.counted, body = syscall_count_from(reply)
        return result_of(operation, body)
