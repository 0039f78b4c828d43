"""ELF files: what a program loads, what a module says of itself, what a vmlinux has.

Reads little-endian files as the System V ABI has them, what programs load of
both classes: the guest's programs are 64-bit, syslinux's modules 32-bit.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from
from typing import NamedTuple

_MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB = 1, 5

# The note by which QEMU finds the PVH entry: xen/include/public/elfnote.h.
_NOTE_NAME, _PHYS32_ENTRY = b"Xen\0", 18

_Data = bytes | mmap.mmap


class _Segment(NamedTuple):
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
    """Return what the file asks to have loaded.

    Raises `ValueError` when it is no little-endian ELF file, or one cut short.
    """
    data = path.read_bytes()
    if not is_elf(data) or len(data) < 0x34 or data[5] != 1:
        raise ValueError(f"{path} is no little-endian ELF file")
    try:
        segments = list(_segments(data))
        interpreter = next((_text(data, s.offset) for s in segments if s.kind == _PT_INTERP), None)
        return Elf(interpreter, tuple(_needed(data, segments)))
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is an ELF file that was cut short or damaged") from error


def section_of(data: bytes, name: str) -> bytes | None:
    """Return the content of a section of a 64-bit file, None where there is no such section.

    Raises `ValueError` when the bytes are no little-endian 64-bit ELF file, or
    one cut short.
    """
    if not _is_wide(data):
        raise ValueError("no little-endian 64-bit ELF file")
    try:
        found = (data[begin:end] for other, begin, end in _sections(data) if other == name)
        return next(found, None)
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError("an ELF file that was cut short or damaged") from error


def has_pvh_entry(path: Path) -> bool:
    """Tell whether a file is a vmlinux that QEMU can enter directly (CONFIG_PVH)."""

    def ask(data: _Data) -> bool:
        notes = (s for s in _segments(data) if s.kind == _PT_NOTE)
        return any(_has_entry_note(data[s.offset : s.offset + s.size]) for s in notes)

    return _asked(path, ask)


def has_debug_info(path: Path) -> bool:
    """Tell whether a vmlinux has DWARF in it: files, lines and types, for a debugger."""
    return _asked(path, lambda data: any(name == ".debug_info" for name, *_ in _sections(data)))


def _asked(path: Path, ask: Callable[[_Data], bool]) -> bool:
    """Return the answer for a 64-bit file, of which only what is asked for is read; else False."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _is_wide(data) and ask(data)
    except (OSError, ValueError, IndexError, struct.error):
        return False


def _is_wide(data: _Data) -> bool:
    return data[:6] == _MAGIC + b"\2\1"


def _segments(data: _Data) -> Iterator[_Segment]:
    wide = data[4] == 2
    (table,) = unpack_from("<Q", data, 0x20) if wide else unpack_from("<I", data, 0x1C)
    entry_size, count = unpack_from("<HH", data, 0x36 if wide else 0x2A)
    for at in range(table, table + entry_size * count, entry_size or 1):
        if wide:
            kind, _, offset, address, _, size = unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = unpack_from("<IIIII", data, at)
        yield _Segment(kind, offset, address, size)


def _sections(data: _Data) -> Iterator[tuple[str, int, int]]:
    """Yield each section of a 64-bit file: its name, where it begins and ends."""
    (table,) = unpack_from("<Q", data, 0x28)
    size, count, names = unpack_from("<HHH", data, 0x3A)
    sections = [unpack_from("<IIQQQQ", data, table + number * size) for number in range(count)]
    for label, _, _, _, offset, length in sections:
        yield _text(data, sections[names][4] + label), offset, offset + length


def _needed(data: _Data, segments: list[_Segment]) -> list[str]:
    form = "<qQ" if data[4] == 2 else "<iI"
    entries = [
        unpack_from(form, data, at)
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


def _has_entry_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = unpack_from("<III", notes, at)
        at += 12
        name = notes[at : at + name_size]
        at += (name_size + 3) & ~3
        if name == _NOTE_NAME and kind == _PHYS32_ENTRY:
            return True
        at += (size + 3) & ~3
    return False


def _text(data: _Data, offset: int) -> str:
    end = data.find(b"\0", offset)
    if end < 0:
        raise ValueError("a string without its end")
    return data[offset:end].decode()
