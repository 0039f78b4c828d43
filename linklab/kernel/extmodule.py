"""Out-of-tree modules: a folder with a Kbuild file, compiled against a kernel.

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

from linklab.errors import BuildSkipped, UsageError
from linklab.events import Listener, Note, step
from linklab.host.cache import Artefact, Cache, hash_file, key_of, reporting
from linklab.host.run import run
from linklab.kernel.buildfolder import SYMBOLS, BuildFolder, identity_of_build, open_build
from linklab.kernel.diagnosis import failure_of
from linklab.kernel.kbuild import build_environment, check_place, check_tools, jobs

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
    found: dict[str, bytes] = {}
    for artefact in made:
        for name in sorted(artefact.hashes):
            if name.endswith(".ko"):
                found[name.removesuffix(".ko")] = artefact.file(name).read_bytes()
    return found


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
    job = _Job(folder, tuple(artefact.file(SYMBOLS) for artefact in before))

    def make(target: Path) -> Mapping[str, Any]:
        check_tools()
        check_place(cache.root)
        log = cache.root / "logs" / f"module-{folder.name}-{key}.log"
        build = open_build(against.build, cache, listener)
        with step(listener, f"build module {folder.name}"), _scratch(cache) as scratch:
            _compile(job, build, Path(scratch) / "source", target, log, listener)
        return {"inputs": inputs}

    return cache.get(_KIND, key, make, listener, f"the module in {folder}")


@dataclass(frozen=True)
class _Job:
    folder: Path
    symbols: tuple[Path, ...]


def _scratch(cache: Cache) -> tempfile.TemporaryDirectory[str]:
    with reporting(cache.root):
        (cache.root / "tmp").mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=cache.root / "tmp")


def _compile(
    job: _Job, build: Path, source: Path, target: Path, log: Path, listener: Listener
) -> None:
    shutil.copytree(job.folder, source, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    extra = " ".join(str(path) for path in job.symbols)
    words = [f"-j{jobs()}", f"M={source}", f"KBUILD_EXTRA_SYMBOLS={extra}", "modules"]
    if shutil.which("pahole") is None:  # types for BPF, which a module does without
        words.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
    done = run(["make", "-C", build, *words], env=build_environment(), check=False, deadline=_LIMIT)
    # As the person knows the files: make was in a copy.
    said = (done.stdout + done.stderr).decode(errors="replace")
    lines = said.replace(f"{source}/", f"{job.folder}/").splitlines()
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(lines) + "\n")
    if done.returncode:
        fault = failure_of("make", done.returncode, lines, log, f"the module in {job.folder}")
        own = [line for line in fault.evidence.splitlines() if not line.startswith("make")]
        fault.evidence = "\n".join(own) or fault.evidence
        raise fault
    for warning in [line for line in lines if ": warning: " in line][:_MOST_WARNINGS]:
        listener(Note(warning))
    modules = list(source.rglob("*.ko"))
    if not modules:
        raise BuildSkipped(
            f"the module in {job.folder} does not build: make ended well and made no .ko file; "
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
