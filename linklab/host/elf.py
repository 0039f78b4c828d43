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


def section_of(data: bytes, name: str) -> bytes | None:
    """Return the content of a section of a 64-bit file, None where there is no such section.

    Raises `ValueError` when the bytes are no little-endian 64-bit ELF file, or
    one cut short.
    """
    if not is_elf(data) or data[4:6] != b"\2\1":
        raise ValueError("no little-endian 64-bit ELF file")
    try:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        size, count, names = struct.unpack_from("<HHH", data, 0x3A)
        sections = [
            struct.unpack_from("<IIQQQQ", data, table + number * size) for number in range(count)
        ]
        for label, _, _, _, offset, length in sections:
            if _text(data, sections[names][4] + label) == name:
                return data[offset : offset + length]
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError("an ELF file that was cut short or damaged") from error
    return None


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
