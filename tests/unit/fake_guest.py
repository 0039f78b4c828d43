"""A guest for the grouping scenario, behind the interface of the agent's client.

Requests are read field by field as guest/agent/op_*.c reads them. Netlink
messages go as bytes to a `FakeKernel`, which `ip` drives, too.
"""

from __future__ import annotations

import os
import shlex
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from fake_ip import IpError, ip_request
from fake_kernel import FakeKernel, Misbehaviour, Refused, Request, decode
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_GETLINK

from linklab.agent.client import Agent
from linklab.agent.protocol import Field, FieldReader, encode_fields
from linklab.agent.replies import ReplyStatus, result_of

IP = "/bin/ip"
MESSAGE_NS = 100_000  # what a request takes on the guest's clock
PROCESS_NS = 20_000_000
CALLS_PER_REQUEST, CALLS_PER_PROCESS, CALLS_AT_LEAST = 2, 100, 7
_DECODED_AT_MOST = 64  # of a row of requests that differ in one number


class _Failure(Exception):
    """An outcome of an operation other than OK."""

    def __init__(self, outcome: ReplyStatus, index: int, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.index = index
        self.text = text


@dataclass(frozen=True)
class Call:
    """A request to the agent, and how many seconds it was given."""

    operation: str
    fields: tuple[Field, ...]
    seconds: float


@dataclass
class ProgramFault:
    """How the `at`-th process that is started ends instead, before it does anything."""

    at: int
    wait_status: int
    output: str = ""


@dataclass
class FakeGuest(Agent):
    """A guest with a kernel and an `ip`. `before` is called with each operation's name first."""

    wrong: Misbehaviour | None = None
    foreign: bool = True
    program_fault: ProgramFault | None = None
    programs: frozenset[str] = frozenset({IP})
    before: Callable[[str], None] = lambda operation: None
    traces: bool = True
    lost_by_each: int = 0  # messages that the kernel drops for each listener
    calls: list[Call] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kernel = FakeKernel(self.foreign, self.wrong)
        self.started = 0
        self.dumps_by_programs = 0
        self._listeners = 0
        self._told_before = 0

    def call(self, operation: str, fields: Sequence[Field], deadline: float) -> FieldReader:
        """Do an operation as the agent does it, field by field."""
        self.calls.append(Call(operation, tuple(fields), deadline - time.monotonic()))
        self.before(operation)
        work = getattr(self, f"_do_{operation.replace('-', '_')}")
        try:
            reply: list[Field] = [ReplyStatus.OK, *work(FieldReader(encode_fields(fields)))]
        except _Failure as failure:
            reply = [failure.outcome, 0, failure.index, failure.text]
        return result_of(
            operation, encode_fields([int(f) if isinstance(f, ReplyStatus) else f for f in reply])
        )

    # Netlink

    def _do_netlink(self, reader: FieldReader) -> list[Field]:
        requests = [reader.take_bytes() for _ in range(reader.take_int())]
        for index, raw in enumerate(requests):
            _check(raw, NLM_F_REQUEST | NLM_F_ACK)
            self._send(decode(raw), index)
        return _measure(len(requests) * MESSAGE_NS, messages=len(requests))

    def _do_netlink_each(self, reader: FieldReader) -> list[Field]:
        first, count = reader.take_int(), reader.take_int()
        offset, width = reader.take_int(), reader.take_int()
        raw = reader.take_bytes()
        _check(raw, NLM_F_REQUEST | NLM_F_ACK)
        if offset < 16 or (width or 4) > len(raw) - offset:
            raise _Failure(ReplyStatus.BAD_REQUEST, 0, "netlink-each: the number does not fit")
        for index, request in enumerate(_row(raw, first, count, offset, width)):
            self._send(request, index)
        return _measure(count * MESSAGE_NS, messages=count)

    def _send(self, request: Request, index: int) -> None:
        try:
            self.kernel.do(request)
        except Refused as refused:
            text = refused.text or "the kernel refused the request"
            said = f"{text}: {os.strerror(refused.number)}"
            raise _Failure(ReplyStatus.REFUSED, index, said) from refused

    def _do_dump(self, reader: FieldReader) -> list[Field]:
        header, index, types = reader.take_int(), reader.take_int(), reader.take_bytes()
        raw = reader.take_bytes()
        _check(raw, NLM_F_REQUEST | NLM_F_DUMP)
        assert (header, index) == (16, 4), "that is where struct ifinfomsg has its index"
        assert decode(raw).kind == RTM_GETLINK
        kept = set(struct.unpack(f"={len(types) // 2}H", types))
        links = self.kernel.links
        return list(_runs((number, links[number].message(kept)) for number in sorted(links)))

    def _do_listen(self, reader: FieldReader) -> list[Field]:
        self._listeners, group, room = reader.take_int(), reader.take_int(), reader.take_int()
        assert group == 1, "RTNLGRP_LINK"
        self._told_before = self.kernel.notifications
        return [room]

    def _do_job_signal(self, reader: FieldReader) -> list[Field]:
        raise _Failure(ReplyStatus.BAD_REQUEST, 0, "job-signal: there is no job")

    def _do_notification_counts(self, reader: FieldReader) -> list[Field]:
        if not self._listeners:
            raise _Failure(ReplyStatus.BAD_REQUEST, 0, "notification-counts: nobody listens")
        told = self.kernel.notifications - self._told_before
        each: list[Field] = [told - self.lost_by_each, self.lost_by_each]
        listeners, self._listeners = self._listeners, 0
        return each * listeners

    def _do_traced(self, reader: FieldReader) -> list[Field]:
        """Do the rest of the fields, and tell a tally of the requests that the kernel got."""
        if not self.traces:
            raise _Failure(ReplyStatus.MISSING, 0, "this kernel does not tell system calls apart")
        operation = reader.take_text()
        before, started = self.kernel.requests, self.started
        work = getattr(self, f"_do_{operation.replace('-', '_')}")
        body = encode_fields([int(ReplyStatus.OK), *work(reader)])
        requests, processes = self.kernel.requests - before, self.started - started
        calls = CALLS_PER_REQUEST * requests + CALLS_PER_PROCESS * processes + CALLS_AT_LEAST
        return [calls, requests, processes, body]

    # Files and programs

    def _do_read_file(self, reader: FieldReader) -> list[Field]:
        path = reader.take_text()
        if path not in self.files:
            raise _Failure(ReplyStatus.MISSING, 0, f"{path}: No such file or directory")
        return [self.files[path]]

    def _do_write_file(self, reader: FieldReader) -> list[Field]:
        path, mode, append = reader.take_text(), reader.take_int(), reader.take_int()
        assert not mode
        self.files[path] = (self.files.get(path, b"") if append else b"") + reader.take_bytes()
        return []

    def _do_run(self, reader: FieldReader) -> list[Field]:
        status, output, messages = self._run_one(_argv(reader))
        time_taken = PROCESS_NS + messages * MESSAGE_NS
        return [status, *_measure(time_taken, processes=1), output]

    def _do_run_each(self, reader: FieldReader) -> list[Field]:
        first, count, dump_first = reader.take_int(), reader.take_int(), reader.take_int()
        argv = _argv(reader)
        status, outputs, done = 0, b"", 0
        while done < count:
            self.dumps_by_programs += dump_first
            words = [word.replace("{}", str(first + done)) for word in argv]
            status, output, _ = self._run_one(words)
            outputs += output
            if status:
                break
            done += 1
        processes = min(count, done + 1)
        return [
            done,
            status,
            *_measure(processes * PROCESS_NS, processes=processes),
            outputs[-16384:],
        ]

    def _run_one(self, argv: list[str]) -> tuple[int, bytes, int]:
        """Run a program: its wait status, what it printed, and how many requests it sent."""
        if argv[0] not in self.programs:
            raise _Failure(ReplyStatus.MISSING, 0, f"{argv[0]}: No such file or directory")
        self.started += 1
        fault = self.program_fault
        if fault and fault.at == self.started:
            return fault.wait_status, fault.output.encode(), 0
        try:
            if argv[1] == "-batch":
                return 0, b"", self._batch(argv[2])
            self._ip(argv[1:])
        except IpError as error:
            return error.status << 8, error.text.encode() + b"\n", 0
        return 0, b"", 1

    def _batch(self, path: str) -> int:
        if path not in self.files:
            raise IpError(1, f'Cannot open file "{path}" for reading: No such file or directory')
        lines = self.files[path].decode().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                self._ip(shlex.split(line))
            except IpError as error:
                raise IpError(1, f"{error.text}\nCommand failed {path}:{number}") from error
        return len(lines)

    def _ip(self, words: Sequence[str]) -> None:
        try:
            self.kernel.do(ip_request(words, self.kernel))
        except Refused as refused:
            text = f"Error: {refused.text}." if refused.text else ""
            said = text or f"RTNETLINK answers: {os.strerror(refused.number)}"
            raise IpError(2, said) from refused


def _argv(reader: FieldReader) -> list[str]:
    return [reader.take_text() for _ in range(reader.take_int())]


def _check(raw: bytes, flags: int) -> None:
    """Refuse what netlink_copy() in guest/agent/netlink.c refuses."""
    length, _kind, has = struct.unpack_from("=IHH", raw)
    if length != len(raw) or has & flags != flags:
        raise _Failure(ReplyStatus.BAD_REQUEST, 0, "a request is cut short or lacks a flag")


def _measure(ns: int, *, processes: int = 0, messages: int = 0) -> list[Field]:
    """Return the fields of a measure, as put_measure() in guest/agent/measure.c puts them."""
    micro = ns // 1000
    return [ns, micro // 4, micro // 2, processes, processes, messages]


def _row(raw: bytes, first: int, count: int, offset: int, width: int) -> Iterator[Request]:
    """Yield a request for each number, written over the template as the agent writes it.

    Each is decoded; of a long row the first ones and the last, with those
    between worked out, for decoding takes a while.
    """
    for at, number in enumerate(range(first, first + count)):
        digits = str(number)[-width:].rjust(width, "0").encode()
        patch = digits if width else struct.pack("=I", number)
        message = raw[:offset] + patch + raw[offset + len(patch) :]
        if at < _DECODED_AT_MOST or at == count - 1:
            request = decode(message)
        elif width:
            assert request.name
            request = replace(request, name=request.name[:-width] + digits.decode())
        else:
            request = replace(request, index=request.index + 1)
        yield request


def _runs(messages: Iterator[tuple[int, bytes]]) -> Iterator[Field]:
    """Yield lengths and messages as put_runs() in guest/agent/op_dump.c puts them."""
    run, first_index, first = 0, 0, b""
    for index, message in messages:
        if run and index == first_index + run and _same(message, first):
            run += 1
            continue
        if run:
            yield from (run, first)
        run, first_index, first = 1, index, message
    if run:
        yield from (run, first)


def _same(one: bytes, other: bytes) -> bool:
    return one[:20] == other[:20] and one[24:] == other[24:]
