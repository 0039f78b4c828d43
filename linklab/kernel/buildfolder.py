"""What a module is compiled against: the part of a kernel's build that outlives it.

A kernel of the lab keeps it, packed, beside its bzImage: headers, scripts, the
programs that they call, and `Module.symvers`. A Debian kernel has it in its
headers' packages, an installed or built one in a folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.errors import LabError
from linklab.events import Listener, ignore, step
from linklab.host.cache import Cache, hash_file, key_of, locked, reporting
from linklab.host.debs import Archive, Package
from linklab.host.run import find_program, run

PACKED = "build.tar.zst"
SYMBOLS = "Module.symvers"

_DECIDING = (SYMBOLS, ".config", "include/generated/autoconf.h")
_HEADERS = "usr/src/linux-headers-{}"
_ELSEWHERE = ("--exclude", "*/arch/[!x]*", "--exclude", "./usr/share/*")
_SCHEMA = 1
_UNPACK_LIMIT = 300.0  # s


@dataclass(frozen=True)
class PackedBuild:
    """One that `pack_build` packed; `key` names the kernel that it belongs to."""

    path: Path
    key: str


@dataclass(frozen=True)
class InstalledBuild:
    """A folder on this machine, used where it is: make writes nothing into it."""

    folder: Path


@dataclass(frozen=True)
class PackagedBuild:
    """Debian's headers for one of its kernels, fetched like the kernel."""

    release: str


BuildFolder = PackedBuild | InstalledBuild | PackagedBuild


def identity_of_build(build: BuildFolder, cache: Cache, listener: Listener) -> Any:
    """Return what distinguishes it, as JSON can express it."""
    match build:
        case PackedBuild(key=key):
            return ["packed", key]
        case InstalledBuild(folder):
            deciding = (folder / name for name in _DECIDING)
            return ["folder", {p.name: hash_file(p) for p in deciding if p.is_file()}]
        case PackagedBuild(release):
            packages = _headers_of(release, Archive(cache, listener))
            return ["packages", [package.sha256 for package in packages]]


def open_build(build: BuildFolder, cache: Cache, listener: Listener) -> Path:
    """Return the folder for `make -C`, unpacked into the cache the first time.

    Raises `LabError` where there is none to be had.
    """
    if isinstance(build, InstalledBuild):
        if not (build.folder / SYMBOLS).is_file():
            raise LabError(
                f"no module can be built against {build.folder}: there is no {SYMBOLS} in it. "
                "`make modules` makes it, in a tree with CONFIG_MODULES"
            )
        return build.folder
    key = key_of({"schema": _SCHEMA, "build": identity_of_build(build, cache, listener)})
    folder = cache.root / "builds" / key
    with locked(cache.lock_path("builds", key), listener, f"the build folder {folder}"):
        if not folder.exists():
            with reporting(cache.root), step(listener, "unpack what modules are built against"):
                _unpack(build, folder, cache)
    return folder / _HEADERS.format(build.release) if isinstance(build, PackagedBuild) else folder


def _unpack(build: PackedBuild | PackagedBuild, folder: Path, cache: Cache) -> None:
    """Fill the folder; it has its name only when it is whole."""
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    unpack: list[str | Path] = [find_program("bsdtar", "libarchive-tools"), "-C", draft, "-xf"]
    if isinstance(build, PackedBuild):
        run([*unpack, build.path], deadline=_UNPACK_LIMIT)
    else:
        archive = Archive(cache, ignore)
        for package in _headers_of(build.release, archive):
            with archive.fetched(package) as file:
                files = run(["dpkg-deb", "--fsys-tarfile", file], deadline=_UNPACK_LIMIT).stdout
                run([*unpack, "-", *_ELSEWHERE], stdin=files, deadline=_UNPACK_LIMIT)
        # It includes the common part's by the place where that is installed.
        makefile = draft / _HEADERS.format(build.release) / "Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{folder}/usr/src/"))
    draft.rename(folder)


def _headers_of(release: str, archive: Archive) -> list[Package]:
    """Return a kernel's headers, and what they need of the kernel's own packages."""
    own = archive.find(f"linux-headers-{release}")
    parts = [n for n in own.depends if n.startswith(("linux-headers-", "linux-kbuild-"))]
    return [own, *(archive.find(name) for name in parts)]


def pack_build(tree: Path, objects: Path, target: Path) -> None:
    """Pack what a module needs of a kernel that was built with `O=objects`.

    It is what the kernel's own scripts/package/install-extmod-build takes,
    which older kernels do not have. Source and objects become one folder.
    """
    bsdtar = find_program("bsdtar", "libarchive-tools")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        tars = [Path(folder) / "source.tar", Path(folder) / "objects.tar"]
        parts = ((tree, _of_source(tree)), (objects, _of_objects(objects)))
        for tar, (root, names) in zip(tars, parts, strict=True):
            listed = b"".join(os.fsencode(name) + b"\0" for name in sorted(set(names)))
            argv: list[str | Path] = [bsdtar, "-cf", tar, "-C", root, "--null", "-T", "-"]
            run(argv, stdin=listed, deadline=_UNPACK_LIMIT)
        packing = ("--zstd", "--options", "zstd:compression-level=3")
        run([bsdtar, *packing, "-cf", target, *(f"@{tar}" for tar in tars)])


def _of_source(tree: Path) -> Iterator[str]:
    arch = "arch/x86"
    yield "Makefile"
    yield from _files(tree, ("include", "scripts", f"{arch}/include"))
    for path in (tree / arch).iterdir():
        if path.name.startswith("Makefile"):
            yield f"{arch}/{path.name}"


def _of_objects(objects: Path) -> Iterator[str]:
    wanted = (".config", SYMBOLS, "tools/objtool/objtool", "include/config/auto.conf",
              "include/config/kernel.release")  # fmt: skip
    yield from (name for name in wanted if (objects / name).exists())
    yield from _files(objects, ("include/generated", "arch/x86/include/generated", "scripts"))


def _files(root: Path, folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        for where, _, names in os.walk(root / folder):
            for name in names:
                if not name.endswith((".o", ".cmd")):
                    yield (Path(where) / name).relative_to(root).as_posix()
