"""What the agent's replies say, as values; and what a failure stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from linklab.agent import protocol
from linklab.agent.protocol import FieldReader
from linklab.errors import GuestIncomplete, LabError, ProtocolError, RequestRefused


class ReplyStatus(IntEnum):
    """What became of an operation: the first field of each reply."""

    OK = 0
    BAD_REQUEST = 1
    MISSING = 2
    REFUSED = 3
    SYSTEM = 4


@dataclass(frozen=True)
class Hello:
    """Who answers: the guest's kernel, clock and size."""

    protocol: int
    release: str
    version: str
    machine: str
    clocksource: str
    clock_resolution: float  # seconds
    cpus: int
    memory: int  # KiB
    uptime: float  # seconds since the guest's boot
    nonce: int


@dataclass(frozen=True)
class Measure:
    """What the agent's stopwatch and getrusage(2) say of one piece of work."""

    seconds: float
    user_seconds: float
    system_seconds: float
    context_switches: int
    processes: int
    messages: int


@dataclass(frozen=True)
class ProgramEnd:
    """A program, or a row of them, that ran: how it ended and what it printed."""

    done: int  # how many succeeded
    wait_status: int  # of the last one
    measure: Measure
    output: bytes  # its end, at most 1 MiB

    @property
    def exit_code(self) -> int:
        """The exit status of the last one, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(self.wait_status)


@dataclass(frozen=True)
class JobNews:
    """What a job has printed since it was last asked; with its end, which is the last news.

    While it runs `wait_status` is None, and of `measure` only `seconds` counts:
    the guest's, since the job began.
    """

    output: bytes
    measure: Measure
    wait_status: int | None = None

    @property
    def exit_code(self) -> int | None:
        """Its exit status, or minus the signal that killed it; None while it runs."""
        return None if self.wait_status is None else os.waitstatus_to_exitcode(self.wait_status)


@dataclass(frozen=True)
class StreamNews:
    """What a job with streams of its own has printed since; its end as in `JobNews`.

    `capacity` is how many bytes of input it takes next; it `reads` no more where its
    input is over, or nobody has it open.
    """

    output: bytes
    errors: bytes
    reads: bool
    capacity: int
    measure: Measure
    wait_status: int | None = None


@dataclass(frozen=True)
class MessageRun:
    """`length` neighbours of a dump that say the same as `message`, the first of them."""

    length: int
    message: bytes


@dataclass(frozen=True)
class NotificationCount:
    """What a listener got: the messages that reached it, and those that the kernel dropped."""

    received: int
    lost: int


@dataclass(frozen=True)
class SyscallCount:
    """What some work asked of the kernel, of all processes that took part."""

    system_calls: int
    messages: int  # netlink messages sent
    started: int  # processes

    def __add__(self, other: SyscallCount) -> SyscallCount:
        return SyscallCount(
            self.system_calls + other.system_calls,
            self.messages + other.messages,
            self.started + other.started,
        )

    def __sub__(self, other: SyscallCount) -> SyscallCount:
        return self + other * -1

    def __mul__(self, times: int) -> SyscallCount:
        return SyscallCount(self.system_calls * times, self.messages * times, self.started * times)

    def __floordiv__(self, parts: int) -> SyscallCount:
        return SyscallCount(
            self.system_calls // parts, self.messages // parts, self.started // parts
        )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn fields that do not fit into a `ProtocolError` that names what was read."""
    try:
        yield
    except ValueError as error:
        raise ProtocolError(f"the agent's {what} is misshapen: {error}") from error


def result_of(operation: str, body: bytes) -> FieldReader:
    """Return the reader behind the outcome, or raise what the outcome stands for."""
    with reading(f"reply to `{operation}`"):
        reply = FieldReader(body)
        outcome = ReplyStatus(reply.take_int())
        if outcome is ReplyStatus.OK:
            return reply
        _errno, index, text = reply.take_int(), reply.take_int(), reply.take_text()
    match outcome:
        case ReplyStatus.MISSING:
            raise GuestIncomplete(f"the guest lacks what `{operation}` needs: {text}")
        case ReplyStatus.REFUSED:
            raise RequestRefused(f"the kernel refused request {index + 1} of `{operation}`: {text}")
        case ReplyStatus.SYSTEM:
            raise LabError(f"the agent could not do `{operation}`: {text}")
        case _:
            raise ProtocolError(f"the agent does not understand `{operation}`: {text}")


def hello_from(reply: FieldReader) -> Hello:
    """Return the greeting in a reply. Raises `ProtocolError` for another version."""
    with reading("greeting"):
        version = reply.take_int()
        if version != protocol.PROTOCOL_VERSION:
            raise ProtocolError(
                f"the agent speaks protocol {version}, the lab {protocol.PROTOCOL_VERSION}"
            )
        return Hello(
            protocol=version,
            release=reply.take_text(),
            version=reply.take_text(),
            machine=reply.take_text(),
            clocksource=reply.take_text(),
            clock_resolution=reply.take_int() / 1e9,
            cpus=reply.take_int(),
            memory=reply.take_int(),
            uptime=reply.take_int() / 1e9,
            nonce=reply.take_int(),
        )


def measure_from(reply: FieldReader) -> Measure:
    """Return the measure in a reply."""
    with reading("measure"):
        return Measure(
            seconds=reply.take_int() / 1e9,
            user_seconds=reply.take_int() / 1e6,
            system_seconds=reply.take_int() / 1e6,
            context_switches=reply.take_int(),
            processes=max(1, reply.take_int()),  # the agent itself where it forked nobody
            messages=reply.take_int(),
        )


def program_end_from(reply: FieldReader, *, in_a_row: bool) -> ProgramEnd:
    """Return how a program ended; a row of them says first how many succeeded."""
    with reading("account of a program's end"):
        done = reply.take_int() if in_a_row else None
        status = reply.take_int()
        return ProgramEnd(
            done=done if done is not None else int(status == 0),
            wait_status=status,
            measure=measure_from(reply),
            output=reply.take_bytes(),
        )


def job_news_from(reply: FieldReader) -> JobNews:
    """Return what is new of a job."""
    with reading("account of a job"):
        ended, status = reply.take_int(), reply.take_int()
        measure = measure_from(reply)
        output = reply.take_bytes()
    return JobNews(output, measure, status if ended else None)


def stream_news_from(reply: FieldReader) -> StreamNews:
    """Return what is new of a job with streams of its own."""
    with reading("account of a job"):
        ended, status = reply.take_int(), reply.take_int()
        measure = measure_from(reply)
        reads, capacity = bool(reply.take_int()), reply.take_int()
        output, errors = reply.take_bytes(), reply.take_bytes()
    return StreamNews(output, errors, reads, capacity, measure, status if ended else None)


def news_from(body: bytes) -> JobNews:
    """Return what is new of a job, told before the reply."""
    with reading("account of a job"):
        reply = FieldReader(body)
    return job_news_from(reply)


def runs_from(reply: FieldReader) -> list[MessageRun]:
    """Return the runs of a dump."""
    with reading("dump"):
        runs = []
        while reply.left:
            runs.append(MessageRun(reply.take_int(), reply.take_bytes()))
        return runs


def number_from(reply: FieldReader) -> int:
    """Return the number that a reply begins with."""
    with reading("reply"):
        return reply.take_int()


def notification_counts_from(reply: FieldReader) -> list[NotificationCount]:
    """Return what each listener got."""
    with reading("account of listeners"):
        counts = []
        while reply.left:
            counts.append(NotificationCount(reply.take_int(), reply.take_int()))
        return counts


def syscall_count_from(reply: FieldReader) -> tuple[SyscallCount, bytes]:
    """Return what an operation asked of the kernel, and the body of the reply to it."""
    with reading("count of system calls"):
        counted = SyscallCount(reply.take_int(), reply.take_int(), reply.take_int())
        return counted, reply.take_bytes()


def content_from(reply: FieldReader) -> bytes:
    """Return the one field of a reply."""
    with reading("reply"):
        return reply.take_bytes()
