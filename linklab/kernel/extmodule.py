"""Out-of-tree modules: a folder with a Kbuild file, compiled against a kernel's build.

Of a kernel's build a part outlives it. A kernel of the lab keeps that, packed,
beside its bzImage: headers, scripts, the programs that they call, and
`Module.symvers`. A Debian kernel has it in its headers' packages, an installed
or built one in a folder.

The person's folder is only read: make, which writes beside the source, works
in a copy. What comes out is kept by the content of the folder and the kernel.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.events import Listener, Note, ignore, step
from linklab.host.cache import Artefact, Cache, drafted, hash_file, key_of, locked, reporting
from linklab.host.debs import Archive, Package
from linklab.host.run import find_program, run
from linklab.kernel.make import build_environment, check_place, check_tools, failure_of, jobs

PACKED = "build.tar.zst"
SYMBOLS = "Module.symvers"

_DECIDING = (SYMBOLS, ".config", "include/generated/autoconf.h")
_HEADERS = "usr/src/linux-headers-{}"
_ELSEWHERE = ("--exclude", "*/arch/[!x]*", "--exclude", "./usr/share/*")
_BUILD_SCHEMA = 1
_UNPACK_LIMIT = 300.0  # s

_KIND = "module"
_SCHEMA = 1
_MAKEFILES = ("Kbuild", "Makefile")
# What an earlier build left, and what belongs to other programs.
_LEFT_OUT = (
    *("*.o", "*.ko", "*.mod", "*.mod.c", "*.cmd", "*.order", SYMBOLS, ".tmp_versions"),
    *(".git", "*~", "*.swp"),
)
_LIMIT = 600.0  # s
_MOST_WARNINGS = 10


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
    key = key_of({"schema": _BUILD_SCHEMA, "build": identity_of_build(build, cache, listener)})
    folder = cache.root / "builds" / key
    with locked(cache.lock_path("builds", key), listener, f"the build folder {folder}"):
        if not folder.exists():
            what = "unpack what modules are built against"
            with reporting(cache.root), step(listener, what), drafted(folder) as draft:
                draft.mkdir(parents=True)
                _unpack(build, draft, folder, cache)
    return folder / _HEADERS.format(build.release) if isinstance(build, PackagedBuild) else folder


def _unpack(build: PackedBuild | PackagedBuild, draft: Path, folder: Path, cache: Cache) -> None:
    """Fill a draft of what becomes `folder`."""
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
    yield "Makefile"
    yield from (path.relative_to(tree).as_posix() for path in tree.glob("arch/x86/Makefile*"))
    yield from _files(tree, ("include", "scripts", "arch/x86/include"))


def _of_objects(objects: Path) -> Iterator[str]:
    wanted = (".config", SYMBOLS, "tools/objtool/objtool", "include/config/auto.conf",
              "include/config/kernel.release")  # fmt: skip
    yield from (name for name in wanted if (objects / name).exists())
    yield from _files(objects, ("include/generated", "arch/x86/include/generated", "scripts"))


def _files(root: Path, folders: Sequence[str]) -> Iterator[str]:
    for where, _, names in (entry for folder in folders for entry in os.walk(root / folder)):
        for name in names:
            if not name.endswith((".o", ".cmd")):
                yield (Path(where) / name).relative_to(root).as_posix()


@dataclass(frozen=True)
class Against:
    """What modules are compiled against: a kernel's build, and what the compiler calls itself."""

    release: str
    build: BuildFolder
    compiler: str


def check_module_folder(folder: Path) -> None:
    """Raise `UsageError` for what is no folder of a module's source."""
    if not folder.is_dir():
        raise UsageError(f"--module {folder}: there is no such folder")
    if not any((folder / name).is_file() for name in _MAKEFILES):
        raise UsageError(
            f"--module {folder}: there is no Kbuild and no Makefile in it; for x.c one with the "
            "line `obj-m := x.o` will do"
        )


def source_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a module's source, by its path in the folder."""
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in _source(folder)}


def build_modules(
    folders: Sequence[Path], against: Against, cache: Cache, listener: Listener
) -> dict[str, bytes]:
    """Return the modules that these folders make, by their names.

    A folder may use what those before it export. Raises `BuildSkipped` for one
    that does not compile, `LabError` when this machine cannot compile it.
    """
    identity = identity_of_build(against.build, cache, listener)
    made: list[Artefact] = []
    for folder in folders:
        check_module_folder(folder)
        made.append(_built(folder.resolve(), against, identity, made, cache, listener))
    files = (artefact.file(name) for artefact in made for name in sorted(artefact.hashes))
    return {file.stem: file.read_bytes() for file in files if file.suffix == ".ko"}


def _built(
    folder: Path,
    against: Against,
    identity: Any,
    before: Sequence[Artefact],
    cache: Cache,
    listener: Listener,
) -> Artefact:
    inputs = {
        "schema": _SCHEMA,
        "source": source_hashes(folder),
        "against": identity,
        "release": against.release,
        "compiler": against.compiler,
        "before": [artefact.key for artefact in before],
    }
    key = key_of(inputs)
    symbols = " ".join(str(artefact.file(SYMBOLS)) for artefact in before)

    def make(target: Path) -> Mapping[str, Any]:
        check_tools()
        check_place(cache.root)
        log = cache.root / "logs" / f"module-{folder.name}-{key}.log"
        build = open_build(against.build, cache, listener)
        with step(listener, f"build module {folder.name}"), cache.scratch() as copy:
            source = copy / "source"
            shutil.copytree(folder, source, ignore=shutil.ignore_patterns(*_LEFT_OUT))
            words = [f"M={source}", f"KBUILD_EXTRA_SYMBOLS={symbols}", "modules"]
            for warning in _make(folder, ["-C", str(build), *words], source, log):
                listener(Note(warning))
            _keep(folder, source, target)
        return {"inputs": inputs}

    return cache.get(_KIND, key, make, listener, f"the module in {folder}")


def _make(folder: Path, words: Sequence[str], source: Path, log: Path) -> list[str]:
    """Run make in a copy of a folder; return the first warnings, as the person knows the files."""
    more = [f"-j{jobs()}"]
    if shutil.which("pahole") is None:  # types for BPF, which a module does without
        more.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
    done = run(["make", *words, *more], env=build_environment(), check=False, deadline=_LIMIT)
    said = (done.stdout + done.stderr).decode(errors="replace")
    lines = said.replace(f"{source}/", f"{folder}/").splitlines()
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(lines) + "\n")
    if done.returncode:
        fault = failure_of("make", done.returncode, lines, log, f"the module in {folder}")
        own = [line for line in fault.evidence.splitlines() if not line.startswith("make")]
        fault.evidence = "\n".join(own) or fault.evidence
        raise fault
    return [line for line in lines if ": warning: " in line][:_MOST_WARNINGS]


def _keep(folder: Path, source: Path, target: Path) -> None:
    modules = list(source.rglob("*.ko"))
    if not modules:
        raise BuildSkipped(
            f"the module in {folder} does not build: make ended well and made no .ko file; "
            "its Kbuild file or Makefile names none in obj-m"
        )
    for path in modules:
        # Debug information is not loaded, and a distribution's config makes much of it.
        run(["strip", "--strip-debug", "-o", target / path.name, path])
    shutil.copyfile(source / SYMBOLS, target / SYMBOLS)


def _source(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        yield from (Path(where) / name for name in sorted(names) if not _is_left_out(name))


def _is_left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _LEFT_OUT)
