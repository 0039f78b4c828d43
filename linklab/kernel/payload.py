"""The vmlinux inside of a bzImage.

A bzImage is a vmlinux, packed, behind a program that unpacks it. Under
emulation that takes up to three seconds of each boot; on the host it takes
one, once, and what comes out boots through its PVH entry.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from linklab.errors import LabError
from linklab.events import Listener, step
from linklab.host.cache import Cache, key_of
from linklab.host.elf import has_pvh_entry, is_elf
from linklab.host.run import find_program, run

# The boot protocol, from 2.08 on: Documentation/arch/x86/boot.rst of the kernel.
_PROTOCOL_AT, _PROTOCOL = 0x206, 0x0208
_SECTORS_AT = 0x1F1
_DEFAULT_SECTORS = 4
_PAYLOAD_AT = 0x248
_HEADER = 0x250
_SECTOR = 512

_SIZE_BYTES = 4  # the kernel's build appends the size to what does not tell it (size_append)
_CONFIG_MARK = b"IKCFG_ST"  # kernel/configs.c
_VMLINUX, _CONFIG = "vmlinux", "config"
_SCHEMA = 1


@dataclass(frozen=True)
class Unpacked:
    """What was found in a bzImage: a vmlinux with a PVH entry, the config (CONFIG_IKCONFIG)."""

    vmlinux: Path | None
    config: Path | None


def unpacked_kernel(bzimage: Path, sha256: str, cache: Cache, listener: Listener) -> Unpacked:
    """Return what a bzImage holds; `sha256` is its own, by which it is found again."""

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "unpack the kernel"):
            content = payload_of(bzimage)
            (folder / _VMLINUX).write_bytes(content)
            if not has_pvh_entry(folder / _VMLINUX):
                (folder / _VMLINUX).unlink()
            if config := _config_in(content):
                (folder / _CONFIG).write_bytes(config)
        return {"bzimage": sha256}

    key = key_of({"schema": _SCHEMA, "bzimage": sha256})
    artefact = cache.get("vmlinux", key, make, listener, f"what is in {bzimage}")
    vmlinux, config = (
        artefact.file(name) if name in artefact.hashes else None for name in (_VMLINUX, _CONFIG)
    )
    return Unpacked(vmlinux, config)


def _config_in(vmlinux: bytes) -> bytes:
    """Return the config that a kernel carries within itself, if it does."""
    begin = vmlinux.find(_CONFIG_MARK)
    try:
        return _gunzip(vmlinux[begin + len(_CONFIG_MARK) :]) if begin >= 0 else b""
    except (EOFError, zlib.error):
        return b""


def payload_of(bzimage: Path) -> bytes:
    """Return what a bzImage holds, unpacked; nothing where that is no ELF file or too old."""
    data = bzimage.read_bytes()
    if len(data) < _HEADER or struct.unpack_from("<H", data, _PROTOCOL_AT)[0] < _PROTOCOL:
        return b""
    begin = ((data[_SECTORS_AT] or _DEFAULT_SECTORS) + 1) * _SECTOR
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_AT)
    packed = data[begin + offset : begin + offset + length]
    for magic, unpack in _FORMATS.items():
        if packed.startswith(magic):
            try:
                content = unpack(packed)
            except (LabError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                return b""  # the kernel unpacks itself then, or says why it cannot
            return content if is_elf(content) else b""
    return b""


class _Unpacker(Protocol):
    """What the standard library's unpackers have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _whole(unpacker: _Unpacker, packed: bytes) -> bytes:
    """Return what a stream holds, whatever follows it; raise `EOFError` for one cut short."""
    content = unpacker.decompress(packed)
    if not unpacker.eof:
        raise EOFError
    return content


def _gunzip(packed: bytes) -> bytes:
    return _whole(zlib.decompressobj(wbits=31), packed)


def _unxz(packed: bytes) -> bytes:
    return _whole(lzma.LZMADecompressor(), packed)


def _bunzip2(packed: bytes) -> bytes:
    return _whole(bz2.BZ2Decompressor(), packed)


def _piped(program: str, package: str) -> Callable[[bytes], bytes]:
    """Return an unpacker that is a program of this host."""

    def unpack(packed: bytes) -> bytes:
        return run([find_program(program, package), "-dc"], stdin=packed[:-_SIZE_BYTES]).stdout

    return unpack


_FORMATS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": _gunzip,
    b"\xfd7zXZ\0": _unxz,
    b"\x5d\0\0": _unxz,  # LZMA alone
    b"BZh": _bunzip2,
    b"\x02\x21\x4c\x18": _piped("lz4", "lz4"),
    b"\x28\xb5\x2f\xfd": _piped("zstd", "zstd"),
}
