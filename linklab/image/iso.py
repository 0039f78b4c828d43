"""The live ISO: kernels, an initramfs, and isolinux to boot them from a BIOS machine.

The same inputs give the same bytes: genisoimage writes the time of its run
into the volume descriptor and the files' times into the folders, so it runs
under a stopped clock over files of one fixed age.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab import paths
from linklab.errors import UsageError
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, Remembered, hash_file, key_of
from linklab.host.elf import read_elf
from linklab.host.run import find_program, lacking, run
from linklab.image.initramfs import PACKED, pack_initramfs
from linklab.image.userland import version_of

IMAGE = "linklab.iso"
_CONFIG = "isolinux.cfg"
_LOADER, _MENU = "isolinux.bin", "menu.c32"
_CORE = "ldlinux.c32"  # isolinux.bin loads it whatever the configuration says

_SAID_OF = {"linux": "", "mods": ": modules"}

# Where Debian's packages put them.
_PLACES = {
    "isolinux": Path("/usr/lib/ISOLINUX"),
    "syslinux-common": Path("/usr/lib/syslinux/modules/bios"),
}
# Any moment does: 2011, the year of the paper that the lab looks back to.
_MOMENT, _SECONDS = "2011-01-01 00:00:00", 1293840000

# No padding: it is for drivers that read ahead of a disc's end, and after the
# boot loader nobody reads this disc.
_GENISOIMAGE = (
    *("-quiet", "-no-pad", "-V", "LINKLAB"),
    *("-b", f"isolinux/{_LOADER}", "-c", "isolinux/boot.cat"),
    *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
)


@dataclass(frozen=True)
class IsoKernel:
    """A kernel to offer: its name in the menu, its bzImage, its release as `uname -r` has it.

    `modules` is an archive that is unpacked behind the image's, for it alone.
    """

    name: str
    bzimage: Path
    release: str
    modules: Path | None = None


@dataclass(frozen=True)
class Part:
    """A line of the weight table: bytes as they are, and as they lie on the ISO."""

    group: str
    name: str
    size: int
    packed: int


def build_iso(
    kernels: Sequence[IsoKernel],
    initramfs: Artefact,
    cache: Cache,
    listener: Listener,
    templates: Path = paths.TEMPLATES,
) -> Artefact:
    """Return the artefact with the ISO, `linklab.iso`; the first kernel is the default.

    With one kernel it boots at once, with several there is a menu. Raises
    `UsageError` for no kernel or names that cannot stand in a menu, `LabError`
    when genisoimage, faketime, isolinux or a module is missing.
    """
    _check_names(kernels)
    packed = pack_initramfs(initramfs, cache, listener)
    loader = _loader_files(menu=len(kernels) > 1)
    genisoimage = find_program("genisoimage", "genisoimage")
    faketime = find_program("faketime", "faketime")
    inputs = {
        "kernels": [
            [kernel.name, kernel.release, *(hash_file(file) for _, file in _files_of(kernel))]
            for kernel in kernels
        ],
        "initramfs": packed.hashes[PACKED],
        "loader": {file.name: hash_file(file) for file in loader},
        "template": hash_file(templates / _CONFIG),
        "genisoimage": [version_of(genisoimage, Remembered(cache)), *_GENISOIMAGE, _MOMENT],
    }

    def make(folder: Path) -> Mapping[str, Any]:
        tree = folder / "tree"
        with step(listener, "iso"):
            _lay_out(tree, kernels, packed, loader, templates)
            stopped: list[str | Path] = [faketime, "-f", _MOMENT, genisoimage]
            run([*stopped, *_GENISOIMAGE, "-o", folder / IMAGE, tree])
            total = (folder / IMAGE).stat().st_size
            parts = _parts(tree, kernels, packed, total)
            shutil.rmtree(tree)
        return {"inputs": inputs, "parts": parts}

    return cache.get("iso", key_of(inputs), make, listener, "the ISO")


def iso_contents(iso: Artefact) -> list[Part]:
    """Return what is on an ISO and what each part weighs; the packed bytes add up to the file."""
    return [Part(**part) for part in iso.about["parts"]]


def _files_of(kernel: IsoKernel) -> list[tuple[str, Path]]:
    """Return a kernel's files and how their names on the ISO begin."""
    modules = [("mods", kernel.modules)] if kernel.modules else []
    return [("linux", kernel.bzimage), *modules]


def _check_names(kernels: Sequence[IsoKernel]) -> None:
    names = [kernel.name for kernel in kernels]
    if not names:
        raise UsageError("an ISO without a kernel does not boot: name at least one")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UsageError(f"{name!r} cannot stand in a boot menu: letters, digits, . _ - can")
    if len(set(names)) < len(names):
        raise UsageError(f"each kernel on an ISO needs a name of its own: {', '.join(names)}")


def _loader_files(menu: bool) -> list[Path]:
    """Return isolinux and its core; for a menu also that module and all it needs."""
    files = [_host_file("isolinux", _LOADER)]
    wanted = [_CORE, _MENU] if menu else [_CORE]
    while wanted:
        file = _host_file("syslinux-common", wanted.pop())
        if file not in files:
            files.append(file)
            wanted += read_elf(file).needed
    return files


def _host_file(package: str, name: str) -> Path:
    file = _PLACES[package] / name
    if not file.is_file():
        raise lacking(file, package)
    return file


def _lay_out(
    tree: Path,
    kernels: Sequence[IsoKernel],
    packed: Artefact,
    loader: Sequence[Path],
    templates: Path,
) -> None:
    """Fill a folder with what the ISO holds; the names fit plain ISO 9660 (8.3)."""
    from linklab.templating import render  # 60 ms that a cached build does not need

    isolinux = tree / "isolinux"
    isolinux.mkdir(parents=True)
    for file in loader:
        shutil.copyfile(file, isolinux / file.name)
    (isolinux / _CONFIG).write_text(render(_CONFIG, templates, kernels=kernels))
    for number, kernel in enumerate(kernels):
        for kind, file in _files_of(kernel):
            shutil.copyfile(file, tree / f"{kind}{number}")
    shutil.copyfile(packed.file(PACKED), tree / "initrd")
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (_SECONDS, _SECONDS))


def _parts(
    tree: Path, kernels: Sequence[IsoKernel], packed: Artefact, total: int
) -> list[dict[str, Any]]:
    parts = [
        Part("kernel", f"{kernel.name} ({kernel.release}){_SAID_OF[kind]}", size, size)
        for number, kernel in enumerate(kernels)
        for kind, _ in _files_of(kernel)
        for size in [(tree / f"{kind}{number}").stat().st_size]
    ]
    parts += [Part("initramfs", name, size, share) for name, size, share in packed.about["parts"]]
    parts += [
        Part("boot loader", file.name, file.stat().st_size, file.stat().st_size)
        for file in sorted((tree / "isolinux").iterdir())
    ]
    rest = total - sum(part.packed for part in parts)
    return [
        vars(part) for part in [*parts, Part("iso", "ISO 9660 folders and padding", rest, rest)]
    ]
