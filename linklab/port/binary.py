"""Binary content in a patch: git's base 85 in lines, deflated, whole or as a delta.

The format is that of `emit_binary_diff_body` (diff.c) and of the deltas in
packs (gitformat-pack(5), "Deltified representation").
"""

from __future__ import annotations

import base64
import zlib

from linklab.port.diff import Binary, DiffError

_TORN = "binary content in the diff is torn"


def unpack(binary: Binary, old: bytes) -> bytes:
    """Return the new content. `old` is what a delta refers to.

    Raises `DiffError` for content that is torn, or a delta to something else.
    """
    try:
        data = zlib.decompress(b"".join(_line(line) for line in binary.packed.splitlines()))
    except (zlib.error, ValueError) as error:
        raise DiffError(f"{_TORN}: {error}") from error
    if len(data) != binary.size:
        raise DiffError(f"{_TORN}: {len(data)} bytes instead of {binary.size}")
    return _apply_delta(data, old) if binary.is_delta else data


def _line(line: bytes) -> bytes:
    """Return one line's bytes. Its first letter is their number: A to Z, then a to z."""
    letter = line[0]
    size = letter - 64 if letter < 91 else letter - 96 + 26
    return base64.b85decode(line[1:])[:size]


def _apply_delta(delta: bytes, old: bytes) -> bytes:
    size, at = _number(delta, 0)
    if size != len(old):
        raise DiffError(f"a binary delta is to {size} bytes, not to {len(old)}")
    size, at = _number(delta, at)
    out = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            start, count, at = _copy(delta, at, code)
            out += old[start : start + count]
        else:
            out += delta[at : at + code]
            at += code
    if len(out) != size:
        raise DiffError(f"{_TORN}: a delta makes {len(out)} bytes instead of {size}")
    return bytes(out)


def _number(delta: bytes, at: int) -> tuple[int, int]:
    """Return a length, seven bits a byte, and where what follows it begins."""
    value = shift = 0
    while at < len(delta):
        value |= (delta[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not delta[at - 1] & 0x80:
            return value, at
    raise DiffError(_TORN)


def _copy(delta: bytes, at: int, code: int) -> tuple[int, int, int]:
    """Return which part of the old content to copy: the bits of `code` say which bytes follow."""
    values = [0, 0]
    for bit in range(7):
        if code & 1 << bit:
            if at >= len(delta):
                raise DiffError(_TORN)
            values[bit >= 4] |= delta[at] << 8 * (bit % 4)
            at += 1
    return values[0], values[1] or 0x10000, at
