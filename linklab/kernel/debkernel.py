"""A distribution's kernel: a Debian package, fetched and taken apart without root.

Of the package the cache keeps the kernel, its configuration and its modules,
these in one zip archive: a folder of thousands of files would have to be
checked file by file whenever it is used.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any

from linklab.errors import LabError, UsageError
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, hash_file, key_of
from linklab.host.debs import Archive, Package
from linklab.host.run import ending, start
from linklab.kernel.bzimage import bzimage_release
from linklab.kernel.modules import ModuleTree, ZipStore, add_to_zip

NEWEST = "debian"
"""The name that stands for this Debian's own newest kernel."""

PREFIX = "deb:"
"""Begins the name of a package, or the path of a package's file."""

# The kernel for virtual machines: the same source and version as the full one,
# a third of its size, without drivers for hardware that no guest has.
_DEFAULT_PACKAGE = "linux-image-cloud-amd64"

VMLINUZ, CONFIG, MODULES = "vmlinuz", "config", "modules.zip"
_KIND = "distribution"
_SCHEMA = 1
_MOST_STEPS = 4  # linux-image-amd64 -> linux-image-6.12-amd64 -> linux-image-6.12.1-amd64


def is_package(name: str) -> bool:
    """Tell whether `--kernel` names a package by this word."""
    return name == NEWEST or name.startswith(PREFIX)


def check_package(name: str) -> None:
    """Raise `UsageError` for a name that cannot be a package's. Fetches nothing."""
    word = _package_of(name)
    if _is_file(word):
        if not Path(word).expanduser().is_file():
            raise UsageError(f"--kernel {name}: there is no file {word}")
    elif not word.startswith("linux-image-"):
        raise UsageError(
            f"--kernel {name}: a kernel's package is expected, linux-image-..., or the path of a "
            ".deb file"
        )


def package_artefact(name: str, cache: Cache, listener: Listener) -> Artefact:
    """Return the artefact with a package's kernel, fetching it where it is not there.

    Raises `UsageError` for a file that is no kernel's package, `LabError` when
    the package cannot be had.
    """
    check_package(name)
    word = _package_of(name)
    if _is_file(word):
        file = Path(word).expanduser().resolve()
        return _artefact(file, hash_file(file), cache, listener)
    archive = Archive(cache, listener)
    package = _with_kernel(word, archive)
    if found := cache.find(_KIND, _key(package.sha256), listener):
        return found
    with archive.fetched(package) as file:
        return _artefact(file, hash_file(file), cache, listener)


def modules_of(artefact: Artefact) -> ModuleTree:
    """Return the modules of a package's kernel."""
    about = artefact.about
    return ModuleTree(
        str(about["release"]), ZipStore(artefact.file(MODULES)), f"package {about['package']}"
    )


def _package_of(name: str) -> str:
    return _DEFAULT_PACKAGE if name == NEWEST else name.removeprefix(PREFIX)


def _is_file(word: str) -> bool:
    return "/" in word or word.endswith(".deb")


def _with_kernel(name: str, archive: Archive) -> Package:
    """Return the package with a kernel in it that a name comes to, by way of meta-packages."""
    package = archive.find(name)
    for _ in range(_MOST_STEPS):
        further = [other for other in package.depends if other.startswith("linux-image-")]
        if not further:
            return package
        package = archive.find(further[0])
    raise LabError(f"package {name} leads from one meta-package to the next")


def _key(sha256: str) -> str:
    return key_of({"schema": _SCHEMA, "deb": sha256})


def _artefact(file: Path, sha256: str, cache: Cache, listener: Listener) -> Artefact:
    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, f"unpack {file.name}"):
            _take_apart(file, folder)
        if not (folder / VMLINUZ).exists():
            raise UsageError(f"{file} is no kernel's package: there is no boot/vmlinuz-* in it")
        release = bzimage_release(folder / VMLINUZ)
        return {"release": release, "package": file.stem, "deb": sha256}

    return cache.get(_KIND, _key(sha256), make, listener, f"the kernel of {file.name}")


def _take_apart(file: Path, folder: Path) -> None:
    """Write what is wanted of a package's files, as they come out of the pipe."""
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        argv: list[str | Path] = ["dpkg-deb", "--fsys-tarfile", file]
        process = stack.enter_context(ending(start(argv, stdout=subprocess.PIPE, stderr=errors)))
        modules = stack.enter_context(zipfile.ZipFile(folder / MODULES, "w"))
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and (content := tar.extractfile(member)):
                        _take(member.name, content, folder, modules)
        except tarfile.TarError as error:
            process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise UsageError(f"{file} is no Debian package: {said or error}") from error


def _take(name: str, content: IO[bytes], folder: Path, modules: zipfile.ZipFile) -> None:
    path = PurePosixPath(name.removeprefix("./").removeprefix("usr/"))
    kind, _, _ = path.name.partition("-")
    if path.parts[0] == "boot" and kind in {VMLINUZ, CONFIG}:
        (folder / kind).write_bytes(content.read())
    elif path.parts[:2] == ("lib", "modules"):
        add_to_zip(modules, PurePosixPath(*path.parts[3:]).as_posix(), content.read())
