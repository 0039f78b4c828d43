"""What a kernel module says of itself: its name, what it needs, what it answers to.

modpost writes it into the section `.modinfo`, as `key=value` strings; `depends`
are the modules whose symbols it uses, so no symbol has to be looked up again.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from linklab.host.elf import section_of
from linklab.host.run import CommandFailed, find_program, run

_XZ, _GZIP, _ZSTD = b"\xfd7zXZ\0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True)
class ModInfo:
    """`before` and `after` are soft dependencies: wanted around it, and not at any price.

    `in_tree` says that it came with its kernel. `vermagic` begins with the
    release of the kernel that it was built for.
    """

    depends: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    in_tree: bool = False
    vermagic: str = ""


def canonical(name: str) -> str:
    """Return a module's name as the kernel has it: `-` and `_` are the same."""
    return name.replace("-", "_")


def module_name(path: str) -> str | None:
    """Return the name of the module in a file, or None where that is no module's file."""
    name = PurePosixPath(path).name
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return canonical(name.removesuffix(suffix))
    return None


def unpacked(content: bytes) -> bytes:
    """Return a module as the kernel loads it, whatever it is packed with.

    Raises `ValueError` when it is damaged.
    """
    try:
        if content.startswith(_XZ):
            return lzma.decompress(content)
        if content.startswith(_GZIP):
            return gzip.decompress(content)
        if content.startswith(_ZSTD):
            return run([find_program("zstd", "zstd"), "-dc"], stdin=content).stdout
    except (lzma.LZMAError, OSError, EOFError, zlib.error, CommandFailed) as error:
        raise ValueError(f"damaged: {error}") from error
    return content


def read_modinfo(module: bytes) -> ModInfo:
    """Return what an unpacked module says of itself. Raises `ValueError` when it is none."""
    section = section_of(module, ".modinfo")
    if section is None:
        raise ValueError("an object file without .modinfo, so no module")
    return _parsed(section)


def _parsed(section: bytes) -> ModInfo:
    fields: dict[str, list[str]] = {}
    for entry in section.split(b"\0"):
        key, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            fields.setdefault(key, []).append(value)
    soft = [_soft(value) for value in fields.get("softdep", ())]
    depends = ",".join(fields.get("depends", ()))
    return ModInfo(
        depends=tuple(canonical(name) for name in depends.split(",") if name),
        before=tuple(name for before, _ in soft for name in before),
        after=tuple(name for _, after in soft for name in after),
        aliases=tuple(fields.get("alias", ())),
        in_tree="Y" in fields.get("intree", ()),
        vermagic=fields.get("vermagic", [""])[0],
    )


def _soft(line: str) -> tuple[list[str], list[str]]:
    """Return what a `softdep` names before and after: `pre: a b post: c`."""
    found: dict[str, list[str]] = {"pre:": [], "post:": []}
    kind = "pre:"
    for word in line.split():
        if word in found:
            kind = word
        else:
            found[kind].append(word)
    return found["pre:"], found["post:"]


def builtin_aliases(modinfo: bytes) -> dict[str, str]:
    """Return the aliases of what is built in, from the kernel's `modules.builtin.modinfo`.

    There each string begins with the module's name: `dummy.alias=rtnl-link-dummy`.
    """
    aliases = {}
    for entry in modinfo.split(b"\0"):
        key, equals, value = entry.decode(errors="replace").partition("=")
        name, _, field = key.partition(".")
        if equals and field == "alias":
            aliases[value] = canonical(name)
    return aliases
