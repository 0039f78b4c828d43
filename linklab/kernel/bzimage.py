"""bzImages: which kernel one holds, and the vmlinux and the config inside of it.

A bzImage is a vmlinux, packed, behind a program that unpacks it. Under
emulation that takes up to three seconds of each boot; on the host it takes
one, once, and what comes out boots through its PVH entry.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from linklab.errors import LabError, UsageError
from linklab.events import Listener, step
from linklab.host.cache import Cache, key_of
from linklab.host.compression import unpacked
from linklab.host.elf import has_pvh_entry, is_elf
from linklab.options import check_file

# The boot protocol, from 2.08 on for what is inside: Documentation/arch/x86/boot.rst of the kernel.
_HEADER = 0x280
_SECTORS_AT, _DEFAULT_SECTORS, _SECTOR = 0x1F1, 4, 512
_SYSSIZE_AT, _UNIT = 0x1F4, 16  # what is behind the boot sectors
_SIGNATURE_AT, _SIGNATURE = 0x1FE, 0xAA55
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_PROTOCOL_AT, _PROTOCOL = 0x206, 0x0208
_VERSION_AT, _VERSION_BASE, _VERSION_LENGTH = 0x20E, 0x200, 256
_PAYLOAD_AT, _PAYLOAD_END = 0x248, 0x250

_SIZE_BYTES = 4  # the kernel's build appends the size to what does not tell it (size_append)
_CONFIG_MARK = b"IKCFG_ST"  # kernel/configs.c
_VMLINUX, _CONFIG = "vmlinux", "config"
_SCHEMA = 1


def bzimage_release(path: Path) -> str:
    """Return the kernel release that a bzImage carries, as `uname -r` says it.

    Raises `UsageError` when the file is no bzImage, or was cut short.
    """
    check_file("--kernel", path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
            if is_elf(head):
                raise UsageError(
                    f"{path} is an ELF file, perhaps a vmlinux: give the bzImage made from it "
                    "(arch/x86/boot/bzImage), or the folder it was built in"
                )
            (signature,) = struct.unpack_from("<H", head.ljust(_HEADER), _SIGNATURE_AT)
            magic = head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)]
            if len(head) < _HEADER or (signature, magic) != (_SIGNATURE, _MAGIC):
                raise UsageError(f"{path} is no bzImage: it lacks the boot header of x86 Linux")
            _check_length(path, file, head)
            (offset,) = struct.unpack_from("<H", head, _VERSION_AT)
            file.seek(offset + _VERSION_BASE)
            text = file.read(_VERSION_LENGTH) if offset else b""
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    words = text.partition(b"\0")[0].decode(errors="replace").split()
    if not words:
        raise UsageError(f"{path} is a bzImage that names no kernel release: it was cut short")
    return words[0]


def _check_length(path: Path, file: BinaryIO, head: bytes) -> None:
    """Refuse a bzImage that was cut short: what is left may boot far enough to look like a crash.

    A few bytes less are none: the size is told in units of 16, and the last one,
    of old kernels two, need not be full.
    """
    (units,) = struct.unpack_from("<I", head, _SYSSIZE_AT)
    told, there = _begin_of(head) + units * _UNIT, file.seek(0, os.SEEK_END)
    if units and there <= told - 2 * _UNIT:
        raise UsageError(
            f"{path} was cut short: its header tells of {told} bytes, and there are {there}. "
            "Copy or build it once more"
        )


def _begin_of(head: bytes) -> int:
    """Return where behind the boot sectors the kernel begins."""
    return ((head[_SECTORS_AT] or _DEFAULT_SECTORS) + 1) * _SECTOR


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
    _, _, packed = vmlinux.partition(_CONFIG_MARK)
    try:
        config = unpacked(packed)
        return b"" if config == packed else config
    except (LabError, ValueError):
        return b""


def payload_of(bzimage: Path) -> bytes:
    """Return what a bzImage holds, unpacked; nothing where that is no ELF file or too old."""
    data = bzimage.read_bytes()
    if len(data) < _PAYLOAD_END or struct.unpack_from("<H", data, _PROTOCOL_AT)[0] < _PROTOCOL:
        return b""
    begin = _begin_of(data)
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_AT)
    packed = data[begin + offset : begin + offset + length]
    try:
        content = unpacked(packed, _SIZE_BYTES)
    except (LabError, ValueError):
        return b""  # the kernel unpacks itself then, or says why it cannot
    return content if is_elf(content) else b""
