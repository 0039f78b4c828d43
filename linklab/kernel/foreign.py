"""Kernels that the lab did not build: packages, bzImages, and built kernel trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from linklab.errors import UsageError
from linklab.events import Listener
from linklab.host.cache import Cache, hash_file
from linklab.host.elf import has_debug_info, has_pvh_entry
from linklab.kernel.bootable import Kernel
from linklab.kernel.bootfile import bzimage_release
from linklab.kernel.buildfolder import BuildFolder, InstalledBuild, PackagedBuild
from linklab.kernel.debkernel import (
    CONFIG,
    VMLINUZ,
    check_package,
    is_package,
    modules_of,
    package_artefact,
)
from linklab.kernel.flavours import flavours
from linklab.kernel.moduletree import BUILTIN, FolderStore, ModuleTree
from linklab.kernel.payload import unpacked_kernel

_SYSTEM_MODULES = Path("/lib/modules")
_BZIMAGE = "arch/x86/boot/bzImage"


def is_foreign(name: str) -> bool:
    """Tell whether a word can name a kernel that the lab did not build."""
    return is_package(name) or (bool(name) and Path(name).expanduser().exists())


def check_found(name: str) -> None:
    """Raise `UsageError` for anything that is wrong with such a kernel by itself."""
    if is_package(name):
        check_package(name)
    else:
        _from_path(name)


def find_kernel(name: str, cache: Cache, listener: Listener) -> Kernel:
    """Return the kernel of that name, a package fetched first.

    Raises `UsageError` for what does not boot, `LabError` for a package that
    cannot be had.
    """
    return _from_package(name, cache, listener) if is_package(name) else _from_path(name)


def with_vmlinux(kernel: Kernel, cache: Cache, listener: Listener) -> Kernel:
    """Return the same kernel with what its bzImage holds inside: a vmlinux, its config."""
    if kernel.vmlinux is not None:
        return kernel
    inside = unpacked_kernel(kernel.bzimage, kernel.sha256, cache, listener)
    return replace(kernel, vmlinux=inside.vmlinux, config=kernel.config or inside.config)


def _from_path(name: str) -> Kernel:
    path = Path(name).expanduser().resolve()
    return _from_tree(name, path) if path.is_dir() else _from_file(name, path)


def _from_package(name: str, cache: Cache, listener: Listener) -> Kernel:
    artefact = package_artefact(name, cache, listener)
    return Kernel(
        name=name,
        release=str(artefact.about["release"]),
        bzimage=artefact.file(VMLINUZ),
        vmlinux=None,
        config=artefact.file(CONFIG) if CONFIG in artefact.hashes else None,
        sha256=artefact.hashes[VMLINUZ],
        built_by_lab=False,
        inputs={"package": artefact.about["package"], "deb": artefact.about["deb"]},
        modules=modules_of(artefact),
        build=PackagedBuild(str(artefact.about["release"])),
    )


def _from_file(name: str, path: Path) -> Kernel:
    release = bzimage_release(path)
    config = path.with_name(f"config-{release}")
    modules = _modules_for(path, release)
    return Kernel(
        name=name,
        release=release,
        bzimage=path,
        vmlinux=None,
        config=config if config.is_file() else None,
        sha256=hash_file(path),
        built_by_lab=False,
        modules=modules,
        build=_build_of(modules),
    )


def _build_of(modules: ModuleTree | None) -> BuildFolder | None:
    """Return the folder that an installed kernel's modules are linked to, if its headers are."""
    if modules is None or not isinstance(modules.store, FolderStore):
        return None
    folder = modules.store.folder / "build"
    return InstalledBuild(folder.resolve()) if folder.is_dir() else None


def _modules_for(bzimage: Path, release: str) -> ModuleTree | None:
    """Return the modules of that release that lie where such a file's usually do."""
    for folder in _modules_folders(bzimage, release):
        if (folder / BUILTIN).is_file():
            return ModuleTree(release, FolderStore(folder), str(folder))
    return None


def _modules_folders(bzimage: Path, release: str) -> Iterator[Path]:
    folder = bzimage.parent
    yield folder  # /lib/modules/RELEASE/vmlinuz, as Fedora and Arch have it
    for root in (folder, folder.parent):  # a package that was unpacked, INSTALL_MOD_PATH
        yield root / "lib/modules" / release
        yield root / "usr/lib/modules" / release
    yield _SYSTEM_MODULES / release


def _from_tree(name: str, folder: Path) -> Kernel:
    bzimage = folder / _BZIMAGE
    if not bzimage.is_file():
        if (folder / "Kconfig").is_file() or (folder / "Makefile").is_file():
            raise UsageError(
                f"{folder} is not built: there is no {_BZIMAGE} in it. Build it, "
                f"or let the lab do so: --kernel {flavours()[0]} --source {folder}"
            )
        raise UsageError(f"{folder} is no kernel tree: there is no {_BZIMAGE} in it")
    vmlinux, config = folder / "vmlinux", folder / ".config"
    # An older bzImage was made from another vmlinux.
    same = vmlinux.is_file() and vmlinux.stat().st_mtime <= bzimage.stat().st_mtime
    release = bzimage_release(bzimage)
    return Kernel(
        name=name,
        release=release,
        bzimage=bzimage,
        vmlinux=vmlinux if same and has_pvh_entry(vmlinux) else None,
        config=config if config.is_file() else None,
        sha256=hash_file(bzimage),
        built_by_lab=False,
        symbols=vmlinux if same and has_debug_info(vmlinux) else None,
        modules=ModuleTree(release, FolderStore(folder), str(folder)),
        build=InstalledBuild(folder),
    )
