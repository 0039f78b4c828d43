"""An agent without a guest, by the rules of docs/protocol.md and with no work of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from linklab.agent.protocol import (
    PROTOCOL_VERSION,
    Field,
    FieldReader,
    Frame,
    FrameKind,
    Torn,
    decode_line,
    encode_fields,
    encode_frame,
    split,
)

Work = Callable[[bytes], bytes]


def hello_fields(nonce: int, version: int = PROTOCOL_VERSION) -> list[Field]:
    """The fields of a greeting behind its outcome."""
    ns = 1_000_000_000
    return [version, "6.12.0", "#1 SMP", "x86_64", "tsc", 1, 2, 262144, 3 * ns, nonce]


@dataclass
class ModelAgent:
    """Does each request once, keeps the last reply, and says what it does not know."""

    work: Work = lambda body: body
    nonce: int = 77
    done: list[bytes] = field(default_factory=list)
    heard: list[Frame] = field(default_factory=list)
    _answered: tuple[int, bytes] | None = None
    _parts: dict[int, list[bytes]] = field(default_factory=dict)
    _void: bool = False

    def hello(self) -> bytes:
        body = encode_fields([0, *hello_fields(self.nonce)])
        return encode_frame(Frame(FrameKind.HELLO, 0, payload=body))

    def hear(self, line: bytes) -> list[bytes]:
        """Return the lines that answer a line."""
        frame = decode_line(line)
        if frame is None:
            return []
        if isinstance(frame, Torn):
            return self._unknown(0)
        self.heard.append(frame)
        if frame.kind is FrameKind.REQUEST:
            return self._request(frame)
        if self._answered is None or self._answered[0] != frame.seq:
            return self._unknown(frame.seq)
        parts = self._reply()
        if frame.kind is FrameKind.POKE:
            return parts
        raw = frame.payload
        wanted = [int.from_bytes(raw[i : i + 2], "little") for i in range(0, len(raw), 2)]
        return [parts[part] for part in wanted if part < len(parts)]

    def _request(self, frame: Frame) -> list[bytes]:
        if self._answered and self._answered[0] == frame.seq:
            return self._reply() if frame.part + 1 == frame.parts else []
        if frame.part == 0:
            self._parts, self._void = {frame.seq: []}, False
        if self._void:
            return []
        parts = self._parts.get(frame.seq)
        if parts is None or len(parts) != frame.part:
            return self._unknown(frame.seq)
        parts.append(frame.payload)
        if len(parts) < frame.parts:
            return []
        body = b"".join(parts)
        self.done.append(body)
        self._answered = (frame.seq, self.work(body))
        return self._reply()

    def _unknown(self, seq: int) -> list[bytes]:
        self._parts, self._void = {}, True
        return [encode_frame(Frame(FrameKind.UNKNOWN, seq))]

    def _reply(self) -> list[bytes]:
        assert self._answered is not None
        return [encode_frame(frame) for frame in split(FrameKind.REPLY, *self._answered)]


def fields_of(body: bytes) -> list[bytes]:
    """The fields of a body, as they are."""
    reader = FieldReader(body)
    return [reader.take_bytes() for _ in range(reader.left)]
