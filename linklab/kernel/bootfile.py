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
