"""Compressed data: its first bytes tell what it is packed with, and so what unpacks it."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from linklab.host.run import CommandFailed, find_program, run

_STREAMS: Mapping[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"\x5d\0\0": lzma.LZMADecompressor,  # LZMA alone
    b"BZh": bz2.BZ2Decompressor,
}
_PROGRAMS: Mapping[bytes, str] = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def unpacked(data: bytes, appended: int = 0) -> bytes:
    """Return what packed data holds; data that is not packed in a way known here as it is.

    `appended` bytes at the end belong to somebody else. Raises `ValueError`
    for data that is cut short or damaged, `LabError` where the program is missing.
    """
    try:
        for magic, stream in _STREAMS.items():
            if data.startswith(magic):
                unpacker = stream()
                content: bytes = unpacker.decompress(data)
                if not unpacker.eof:
                    raise EOFError("cut short")
                return content
        for magic, program in _PROGRAMS.items():
            if data.startswith(magic):
                packed = data[: len(data) - appended]
                return run([find_program(program, program), "-dc"], stdin=packed).stdout
    except (CommandFailed, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"damaged: {error}") from error
    return data
