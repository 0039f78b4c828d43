"""Kernel modules in miniature: as much of an ELF file as is read, and folders full of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from linklab.kernel.modules import FolderStore, ModuleTree

RELEASE = "6.12.0-test"


def module(
    depends: str = "", *, soft: Iterable[str] = (), aliases: Iterable[str] = (), more: str = ""
) -> bytes:
    """Return a module that says this of itself."""
    strings = [*(f"alias={alias}" for alias in aliases), "license=GPL"]
    strings += [f"depends={depends}", *(f"softdep={line}" for line in soft)]
    strings += ["intree=Y", f"vermagic={RELEASE} SMP mod_unload {more}"]
    return elf_with(".modinfo", b"".join(text.encode() + b"\0" for text in strings))


def elf_with(name: str, content: bytes) -> bytes:
    """Return a 64-bit ELF file with one section beside that of the names."""
    names = b"\0.shstrtab\0" + name.encode() + b"\0"
    head = bytearray(0x40)
    head[:6] = b"\x7fELF\2\1"
    at = 0x40 + len(names) + len(content)
    struct.pack_into("<Q", head, 0x28, at)
    struct.pack_into("<HHH", head, 0x3A, 0x40, 3, 1)
    sections = [
        (0, 0, 0, 0, 0, 0),
        (1, 3, 0, 0, 0x40, len(names)),
        (11, 1, 0, 0, 0x40 + len(names), len(content)),
    ]
    table = b"".join(struct.pack("<IIQQQQ", *row).ljust(0x40, b"\0") for row in sections)
    return bytes(head) + names + content + table


def modules_folder(folder: Path, builtin: Iterable[str] = (), **files: bytes) -> Path:
    """Write a folder of modules, `_` in a file's name for `/`: `net_dummy=...`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"kernel/{path}.ko\n" for path in builtin]
    (folder / "modules.builtin").write_text("".join(lines))
    for name, content in files.items():
        path = folder / f"kernel/{name.replace('_', '/')}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tree_in(folder: Path) -> ModuleTree:
    """Return the modules of a folder."""
    return ModuleTree(RELEASE, FolderStore(folder), str(folder))
