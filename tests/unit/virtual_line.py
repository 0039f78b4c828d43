"""A line to a model agent on which time is a number.

`VirtualLine` stands in for `AgentLine`: bytes cross it as a test says, and
waiting costs nothing, so minutes of silence take microseconds.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from model_agent import ModelAgent

from linklab.agent.line import AgentLine, LineStuck, Turns
from linklab.agent.protocol import Frame, FrameKind, decode_line

Damage = Callable[[bytes], bytes]


def untouched(line: bytes) -> bytes:
    return line


@dataclass
class _Denied:
    share: float

    def denied(self) -> float:
        return self.share


@dataclass
class VirtualLine:
    """A line to a model agent. `now` is its clock, in seconds."""

    agent: ModelAgent
    to_agent: Damage = untouched
    from_agent: Damage = untouched
    work_seconds: float = 0.0
    line_seconds: float = 0.01
    babble: bytes = b""  # a line that comes without an end, with no time in between
    stuck: bool = False
    now: float = 1000.0
    turns: Turns | None = None
    denied: float = 0.0  # of the host's CPUs
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    turns_given: int = 0
    _arrivals: list[tuple[float, int, bytes]] = field(default_factory=list)
    _to_agent: bytes = b""
    _to_lab: bytes = b""
    _free_at: float = 0.0
    _count: int = 0

    def postponed(self, began: float, deadline: float) -> float:
        return AgentLine.postponed(_Denied(self.denied), began, deadline)  # type: ignore[arg-type]

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return time.time_ns()

    def send_bytes(self, data: bytes, until: float) -> None:
        if self.stuck:
            self.now = until
            raise LineStuck("nobody reads")
        for line in data.splitlines(keepends=True):
            self.sent.append((self.now, line))
            self._to_agent += self.to_agent(line)
        *lines, self._to_agent = self._to_agent.split(b"\n")
        for line in lines:
            self._let_agent_hear(line)

    def _let_agent_hear(self, line: bytes) -> None:
        before = len(self.agent.done)
        answers = self.agent.hear(line)
        self._free_at = max(self._free_at, self.now)
        self._free_at += self.work_seconds * (len(self.agent.done) - before)
        for answer in answers:
            self._free_at += self.line_seconds
            self.arrives(self.from_agent(answer), self._free_at)

    def arrives(self, data: bytes, at: float) -> None:
        """Let bytes come from the agent's side at a time."""
        *lines, self._to_lab = (self._to_lab + data).split(b"\n")
        for line in lines:
            self._count += 1
            heapq.heappush(self._arrivals, (at, self._count, line))

    def take_turn(self, _until: float) -> None:
        """Let the agent's machine go on, which never stopped here."""
        self.turns_given += 1

    def read_line(self, until: float) -> bytes | None:
        if self._arrivals and self._arrivals[0][0] <= max(until, self.now):
            at, _, line = heapq.heappop(self._arrivals)
            self.now = max(self.now, at)
            return line
        if self.babble:
            self.now += 0.001
            return self.babble
        self.now = max(self.now, until)
        return None

    def kinds_sent(self) -> list[tuple[float, FrameKind]]:
        """What the lab sent, and when."""
        return [
            (round(at - 1000.0, 3), frame.kind)
            for at, frame in ((at, decode_line(line)) for at, line in self.sent)
            if isinstance(frame, Frame)
        ]


def only(number: int, damage: Damage) -> Damage:
    """Damage the line with this number, counted from 1, alone."""
    counter: Iterator[int] = iter(range(1, 1_000_000))

    def apply(line: bytes) -> bytes:
        return damage(line) if next(counter) == number else line

    return apply


def in_turn(damages: list[Damage]) -> Damage:
    """Damage the first lines, each in its own way, and no more."""
    left = iter(damages)

    def apply(line: bytes) -> bytes:
        return next(left, untouched)(line)

    return apply


def lost(_line: bytes) -> bytes:
    return b""


def torn(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n"


def unrecognizable(line: bytes) -> bytes:
    return line[1:]


def run_into_next(line: bytes) -> bytes:
    return line[:-1]


def without_end(line: bytes) -> bytes:
    return line[: len(line) // 2]


def doubled(line: bytes) -> bytes:
    return line * 2


def broken_by_text(line: bytes) -> bytes:
    return line[:20] + b"[    1.000000] eth0: link up\r\n" + line[20:]


def behind_text(line: bytes) -> bytes:
    return b"[    1.000000] eth0" + line


def flipped(line: bytes) -> bytes:
    return line[:30] + bytes([line[30] ^ 1]) + line[31:]


DAMAGES: tuple[Damage, ...] = (
    untouched,
    lost,
    torn,
    unrecognizable,
    run_into_next,
    without_end,
    doubled,
    broken_by_text,
    behind_text,
    flipped,
)
