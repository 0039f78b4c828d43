"""What an ELF file says of itself: its loader, and what it asks to have loaded.

Reads as much of the System V ABI's "Program Loading and Dynamic Linking" as
two questions need, for little-endian files of both classes: the guest's
programs are 64-bit, syslinux's modules 32-bit.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class Elf:
    """`interpreter` is None for a static program; `needed` holds names, not paths."""

    interpreter: str | None
    needed: tuple[str, ...]


def is_elf(content: bytes) -> bool:
    """Tell whether these bytes begin as an ELF file does."""
    return content.startswith(_MAGIC)


def read_elf(path: Path) -> Elf:
    """Return what the file says of itself.

    Raises `ValueError` when it is no little-endian ELF file, or one cut short.
    """
    data = path.read_bytes()
    if not is_elf(data) or len(data) < 0x34 or data[5] != 1:
        raise ValueError(f"{path} is no little-endian ELF file")
    try:
        wide = data[4] == 2
        segments = list(_segments(data, wide))
        interpreter = next((_text(data, s.offset) for s in segments if s.kind == _PT_INTERP), None)
        return Elf(interpreter, tuple(_needed(data, segments, wide)))
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is an ELF file that was cut short or damaged") from error


def _segments(data: bytes, wide: bool) -> list[_Segment]:
    if wide:
        (table,) = struct.unpack_from("<Q", data, 0x20)
        entry_size, count = struct.unpack_from("<HH", data, 0x36)
    else:
        (table,) = struct.unpack_from("<I", data, 0x1C)
        entry_size, count = struct.unpack_from("<HH", data, 0x2A)
    found = []
    for at in range(table, table + entry_size * count, entry_size or 1):
        if wide:
            kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from("<IIIII", data, at)
        found.append(_Segment(kind, offset, address, size))
    return found


def _needed(data: bytes, segments: list[_Segment], wide: bool) -> list[str]:
    form = "<qQ" if wide else "<iI"
    entries = [
        struct.unpack_from(form, data, at)
        for segment in segments
        if segment.kind == _PT_DYNAMIC
        for at in range(segment.offset, segment.offset + segment.size, struct.calcsize(form))
    ]
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    return [
        _text(data, _offset_of(strings, segments) + value)
        for tag, value in entries
        if tag == _DT_NEEDED
    ]


def _offset_of(address: int, segments: list[_Segment]) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size:
            return address - segment.address + segment.offset
    raise ValueError(f"no segment holds address {address:#x}")


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
