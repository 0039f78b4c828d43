"""One request and its reply, over a line that may lose, tear and double frames."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from linklab.agent import protocol
from linklab.agent.line import AgentLine, LineStuck
from linklab.agent.protocol import Assembly, Frame, FrameKind, Torn
from linklab.errors import GuestHung, LinklabError, ProtocolError

FIRST_POKE = 1.0  # s of silence before the agent is asked whether it knows the request
LAST_POKE = 60.0  # s at most between two questions
TORN_POKE = 0.05  # s until it is asked after a line arrived torn
MAX_REPEATS = 50
BABBLE = 8192  # bytes that are neither frames nor the kernel's, twice a torn frame: babble
DRAIN_LIMIT = 0.5  # s at most to read what had arrived when the deadline passed

# On a machine with one port the kernel speaks on the agent's line, and may go on
# when nothing else does.
_KERNEL_LINE = re.compile(rb"(?:<\d+>)?\[ *\d+\.\d{6}\]")


class Exchange:
    """One request and its reply, with all that is sent again.

    `on_news` takes what the agent tells before its reply, and returns the new
    deadline.
    """

    def __init__(
        self,
        line: AgentLine,
        seq: int,
        body: bytes,
        on_hello: Callable[[Frame], None],
        on_news: Callable[[bytes], float] | None = None,
    ) -> None:
        self._line = line
        self._seq = seq
        self._request = b"".join(
            protocol.encode_frame(frame) for frame in protocol.split(FrameKind.REQUEST, seq, body)
        )
        self._on_hello = on_hello
        self._on_news = on_news
        self._reply = Assembly()
        self._news = Assembly()
        self._repeats = 0
        self._rubbish = 0
        # In virtual time nothing is lost, and to ask would disturb what is measured.
        self._first_poke = FIRST_POKE if line.turns is None else math.inf
        self._patience = self._first_poke
        self._poke_at = 0.0
        self._operation = ""
        self._deadline = 0.0

    def run(self, operation: str, deadline: float) -> bytes:
        """Return the reply's body; raises `GuestHung` when `deadline` passes without it."""
        self._operation, self._deadline = operation, deadline
        began, is_postponed = time.monotonic(), False
        self._send(self._request)
        self._wait_anew()
        late_until = None
        while True:
            line = self._line.read_line(min(self._deadline, self._poke_at))
            if line is not None:
                self._take(line)
                if (body := self._reply.body) is not None:
                    return body
            now = time.monotonic()
            if now >= self._deadline and not is_postponed:
                is_postponed = True
                self._deadline = self._line.postponed(began, self._deadline)
            if now >= self._deadline:
                late_until = late_until or now + DRAIN_LIMIT
                if line is None or now >= late_until:
                    raise self._unanswered()
            elif now >= self._poke_at:
                self._ask_again()

    def _hung(self) -> GuestHung:
        return GuestHung(f"the guest gave no answer to `{self._operation}` within its deadline")

    def _unanswered(self) -> LinklabError:
        if self._rubbish < BABBLE:
            return self._hung()
        return ProtocolError(
            f"the agent babbles: it gave no answer to `{self._operation}` within its deadline, "
            f"and {self._rubbish} bytes that say nothing"
        )

    def _send(self, data: bytes) -> None:
        try:
            self._line.send_bytes(data, self._deadline)
        except LineStuck as error:
            raise self._hung() from error

    def _wait_anew(self) -> None:
        """Start over being patient: the agent was just heard of, or has just got work."""
        self._patience = self._first_poke
        self._poke_at = time.monotonic() + self._patience

    def _take(self, line: bytes) -> None:
        frame = protocol.decode_line(line)
        if frame is None or isinstance(frame, Torn):
            self._rubbish += 0 if _KERNEL_LINE.match(line) else len(line) + 1
        if frame is None:
            return
        if isinstance(frame, Torn):
            self._poke_at = min(self._poke_at, time.monotonic() + TORN_POKE)
        elif frame.kind is FrameKind.HELLO:
            self._on_hello(frame)
        elif frame.kind is FrameKind.REPLY and frame.seq == self._seq:
            self._reply.add(frame)
            self._wait_anew()
        elif frame.kind is FrameKind.NEWS and frame.seq == self._seq:
            self._take_news(frame)
        elif frame.kind is FrameKind.UNKNOWN and frame.seq in (self._seq, 0):
            self._repeat_request()

    def _take_news(self, frame: Frame) -> None:
        self._news.add(frame)
        self._wait_anew()
        if (body := self._news.body) is None:
            return
        self._news = Assembly()
        if self._on_news is not None:
            self._deadline = self._on_news(body)
        try:
            self._line.take_turn(self._deadline)
        except LineStuck as error:
            raise self._hung() from error

    def _repeat_request(self) -> None:
        self._repeats += 1
        if self._repeats > MAX_REPEATS:
            raise ProtocolError(
                f"the agent's line is too bad: a request arrived torn {MAX_REPEATS} times"
            )
        if not self._reply.started:
            self._send(self._request)
            self._wait_anew()

    def _ask_again(self) -> None:
        """Ask what became of it, ever more rarely: the agent may be at work for minutes."""
        if missing := self._reply.missing:
            payload = protocol.encode_parts_list(missing)
            frame = Frame(FrameKind.RESEND, self._seq, payload=payload)
        else:
            frame = Frame(FrameKind.POKE, self._seq)
        self._send(protocol.encode_frame(frame))
        self._patience = min(2 * self._patience, LAST_POKE)
        self._poke_at = time.monotonic() + self._patience
