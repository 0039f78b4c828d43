"""Files that boot: what a bzImage and a vmlinux say of themselves."""

from __future__ import annotations

import struct
from pathlib import Path

from linklab.errors import UsageError
from linklab.host.elf import is_elf

# The boot protocol: Documentation/arch/x86/boot.rst of the kernel.
_HEADER = 0x280
_SIGNATURE_AT, _SIGNATURE = 0x1FE, 0xAA55
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_VERSION_AT, _VERSION_BASE = 0x20E, 0x200
_VERSION_LENGTH = 256

# The note by which QEMU finds the PVH entry: xen/include/public/elfnote.h.
_PT_NOTE = 4
_PHYS32_ENTRY = 18
_NOTE_NAME = b"Xen\0"


def bzimage_release(path: Path) -> str:
    """Return the kernel release that a bzImage carries, as `uname -r` says it.

    Raises `UsageError` when the file is no bzImage.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
            if is_elf(head):
                raise UsageError(
                    f"{path} is an ELF file, perhaps a vmlinux: give the bzImage made from it "
                    "(arch/x86/boot/bzImage), or the folder it was built in"
                )
            if not _is_bzimage(head):
                raise UsageError(f"{path} is no bzImage: it lacks the boot header of x86 Linux")
            (offset,) = struct.unpack_from("<H", head, _VERSION_AT)
            file.seek(offset + _VERSION_BASE)
            text = file.read(_VERSION_LENGTH) if offset else b""
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    words = text.partition(b"\0")[0].decode(errors="replace").split()
    if not words:
        raise UsageError(f"{path} is a bzImage that names no kernel release: it was cut short")
    return words[0]


def _is_bzimage(head: bytes) -> bool:
    if len(head) < _HEADER:
        return False
    (signature,) = struct.unpack_from("<H", head, _SIGNATURE_AT)
    return signature == _SIGNATURE and head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def has_pvh_entry(path: Path) -> bool:
    """Tell whether a file is a vmlinux that QEMU can enter directly (CONFIG_PVH)."""
    try:
        with path.open("rb") as file:
            head = file.read(0x40)
            if not is_elf(head) or head[4:6] != b"\2\1":
                return False
            (table,) = struct.unpack_from("<Q", head, 0x20)
            size, count = struct.unpack_from("<HH", head, 0x36)
            for number in range(count):
                file.seek(table + number * size)
                kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", file.read(0x28))
                if kind == _PT_NOTE:
                    file.seek(offset)
                    if _has_entry_note(file.read(length)):
                        return True
    except (OSError, struct.error):
        return False
    return False


def _has_entry_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        at += 12
        name = notes[at : at + name_size]
        at += (name_size + 3) & ~3
        if name == _NOTE_NAME and kind == _PHYS32_ENTRY:
            return True
        at += (size + 3) & ~3
    return False


def has_debug_info(path: Path) -> bool:
    """Tell whether a vmlinux has DWARF in it: files, lines and types, for a debugger."""
    try:
        with path.open("rb") as file:
            head = file.read(0x40)
            if not is_elf(head) or head[4:6] != b"\2\1":
                return False
            (table,) = struct.unpack_from("<Q", head, 0x28)
            size, count, names = struct.unpack_from("<HHH", head, 0x3A)
            if names >= count:
                return False
            file.seek(table + names * size)
            _, _, _, _, offset, length = struct.unpack("<IIQQQQ", file.read(0x28))
            file.seek(offset)
            return b"\0.debug_info\0" in file.read(length)
    except (OSError, struct.error):
        return False
