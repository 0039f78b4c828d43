"""The agent's protocol, as pure functions over bytes (docs/protocol.md).

Two layers that know nothing of each other. A *body* is a list of fields; a
*frame* is a line that carries a part of a body over a serial line on which
others may write, too. The other side is guest/agent/{wire,frame}.[ch].
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

PROTOCOL_VERSION = 1
MARK = b"@LL1 "
PART_BYTES = 3072
MAX_PARTS = 0xFFFF

Field = bytes | str | int


class FrameKind(StrEnum):
    """What a frame is for: `q`, `p` and `a` go to the agent, the others come from it."""

    REQUEST = "q"
    POKE = "p"
    RESEND = "a"
    REPLY = "r"
    NEWS = "n"
    HELLO = "h"
    UNKNOWN = "u"


@dataclass(frozen=True)
class Frame:
    """One part of a body, as it crosses the line."""

    kind: FrameKind
    seq: int
    part: int = 0
    parts: int = 1
    payload: bytes = b""


@dataclass(frozen=True)
class Torn:
    """A line that holds the beginning of a frame and not all of it."""

    line: bytes


class FieldError(ValueError):
    """A body that is not a list of fields, or not of the fields expected."""


_FRAME = re.compile(
    rb"(?P<head>(?P<kind>[qparnhu]) (?P<seq>[0-9a-f]{8}) (?P<part>[0-9a-f]{4})"
    rb" (?P<parts>[0-9a-f]{4}) (?P<length>[0-9a-f]{4})) (?P<crc>[0-9a-f]{8})"
    rb"(?: (?P<text>[A-Za-z0-9+/=]*))?"
)


def encode_frame(frame: Frame) -> bytes:
    """Return the frame as a line, its newline included."""
    head = (
        f"{frame.kind.value} {frame.seq:08x} {frame.part:04x} {frame.parts:04x} "
        f"{len(frame.payload):04x}"
    ).encode()
    crc = binascii.crc32(head + frame.payload)
    text = binascii.b2a_base64(frame.payload, newline=False)
    return b"%s%s %08x %s\n" % (MARK, head, crc, text)


def decode_line(line: bytes) -> Frame | Torn | None:
    """Return the frame in a line, `Torn` for part of one, None for other text."""
    _, mark, rest = line.rpartition(MARK)
    if not mark:
        return None
    found = _FRAME.fullmatch(rest.rstrip(b"\r\n "))
    if not found:
        return Torn(line)
    try:
        payload = binascii.a2b_base64(found["text"] or b"", strict_mode=True)
    except binascii.Error:
        return Torn(line)
    frame = Frame(
        FrameKind(found["kind"].decode()),
        int(found["seq"], 16),
        int(found["part"], 16),
        int(found["parts"], 16),
        payload,
    )
    whole = (
        len(payload) == int(found["length"], 16)
        and binascii.crc32(found["head"] + payload) == int(found["crc"], 16)
        and frame.part < frame.parts
    )
    return frame if whole else Torn(line)


def split(kind: FrameKind, seq: int, body: bytes) -> Iterator[Frame]:
    """Yield the frames that carry a body, in order; an empty body needs one, too."""
    parts = max(1, -(-len(body) // PART_BYTES))
    if parts > MAX_PARTS:
        raise FieldError(f"a body of {len(body)} bytes does not fit into {MAX_PARTS} frames")
    for part in range(parts):
        payload = body[part * PART_BYTES : (part + 1) * PART_BYTES]
        yield Frame(kind, seq, part, parts, payload)


class Assembly:
    """The parts of one reply, in whatever order and however often they come."""

    def __init__(self) -> None:
        self._payloads: dict[int, bytes] = {}
        self._parts: int | None = None

    def add(self, frame: Frame) -> None:
        """Take a part. One that contradicts what came first is dropped."""
        if self._parts is None:
            self._parts = frame.parts
        if frame.parts == self._parts:
            self._payloads.setdefault(frame.part, frame.payload)

    @property
    def started(self) -> bool:
        """Whether any part has come."""
        return self._parts is not None

    @property
    def missing(self) -> list[int]:
        """The parts that have not come, as far as their number is known."""
        return [part for part in range(self._parts or 0) if part not in self._payloads]

    @property
    def body(self) -> bytes | None:
        """The whole body, or None while a part is missing."""
        if self._parts is None or self.missing:
            return None
        return b"".join(self._payloads[part] for part in range(self._parts))


def encode_parts_list(parts: Iterable[int]) -> bytes:
    """Return the payload of a `RESEND` frame, as many parts as fit into it."""
    return b"".join(struct.pack("<H", part) for part in list(parts)[: PART_BYTES // 2])


def encode_fields(fields: Sequence[Field]) -> bytes:
    """Return a body. Text goes as UTF-8, an integer as eight bytes."""
    return b"".join(_encode_field(field) for field in fields)


def _encode_field(field: Field) -> bytes:
    match field:
        case bytes():
            raw = field
        case str():
            raw = field.encode()
        case int():
            raw = struct.pack("<Q", field)
    return struct.pack("<I", len(raw)) + raw


class FieldReader:
    """The fields of a body, taken in order. Raises `FieldError` where they do not fit."""

    def __init__(self, body: bytes) -> None:
        self._fields = list(_fields_of(body))
        self._next = 0

    def take_bytes(self) -> bytes:
        """Return the next field as it is."""
        if self._next >= len(self._fields):
            raise FieldError(f"a field is missing: the body has {len(self._fields)}")
        self._next += 1
        return self._fields[self._next - 1]

    def take_text(self) -> str:
        """Return the next field as text."""
        return self.take_bytes().decode(errors="replace")

    def take_int(self) -> int:
        """Return the next field as a number."""
        raw = self.take_bytes()
        if len(raw) != 8:
            raise FieldError(f"a number of {len(raw)} bytes instead of 8")
        return int(struct.unpack("<Q", raw)[0])

    @property
    def left(self) -> int:
        """How many fields are left."""
        return len(self._fields) - self._next


def _fields_of(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise FieldError("the body ends inside of a length")
        (size,) = struct.unpack_from("<I", body, at)
        at += 4
        if at + size > len(body):
            raise FieldError("the body ends inside of a field")
        yield body[at : at + size]
        at += size
