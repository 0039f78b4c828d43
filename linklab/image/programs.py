"""The programs of the lab's own, each compiled into one static file: the agent before all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab import paths
from linklab.errors import LabError
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, Remembered, hash_file, key_of
from linklab.host.run import CommandFailed, find_program, run

PROGRAM = "linklab-agent"
SOURCES = paths.GUEST / "agent"
BUDGET = 150_000
"""The agent's size in bytes may not exceed this: it is part of every boot."""

# The kernel's headers come after musl's own, so that only what musl lacks,
# <linux/*.h> and <asm/*.h>, is taken from the host. The image is for x86-64. Nobody
# unwinds the programs' stacks, and text may share a page with constants: a tenth less.
FLAGS = (
    *("-std=gnu11", "-Os", "-static", "-s"),
    *("-fno-asynchronous-unwind-tables", "-Wl,-z,noseparate-code"),
    *("-ffunction-sections", "-Wl,--gc-sections"),  # of shared code what is used
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wpointer-arith"),
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"),
    *("-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"),
)


def build_agent(
    cache: Cache, listener: Listener, sources: Path = SOURCES, budget: int = BUDGET
) -> Artefact:
    """Return the artefact with the agent's program, `linklab-agent`. Raises as `build_static`."""
    return build_static(Static("agent", PROGRAM, sources, budget), cache, listener)


def build_program(sources: Path, cache: Cache, listener: Listener) -> Path:
    """Return a program of guests, called after the folder of its sources."""
    name = sources.name
    return build_static(Static(name, name, sources.resolve(), BUDGET), cache, listener).file(name)


@dataclass(frozen=True)
class Static:
    """A program, or a library: what it is called, its file, its C sources, its most bytes."""

    name: str
    file: str
    sources: Path
    budget: int
    more: tuple[str, ...] = ()  # flags


TRAFFIC = Static("traffic", "traffic", paths.GUEST / "traffic", budget=100_000)
"""What shapes links in guests, and sends over them."""
WIRE = Static("wire", "wire", paths.ROOT / "linklab" / "lab", budget=100_000)
"""What shapes links between guests. It runs on this host."""
GROUP = Static("group", "group", paths.GUEST / "group", budget=200_000)
"""The grouping agent, `linklab-group` in an image."""

_SHARED = re.compile(rb'^#include "(\.\./\w+)/', re.MULTILINE)


def _files(sources: Path) -> list[Path]:
    """Return what a program is made of: its folder, and folders beside it that it includes from."""
    own = sorted((*sources.glob("*.[ch]"), *sources.glob("*.map")))
    named = {name.decode() for file in own for name in _SHARED.findall(file.read_bytes())}
    return [*own, *(file for name in sorted(named) for file in _files(sources / name))]


_STAND_INS = {"libselinux": "libselinux.so.1", "libzstd": "libzstd.so.1"}


def stand_ins(cache: Cache, listener: Listener) -> tuple[Path, ...]:
    """Return folders with a library each, small ones for what programs load and never use.

    Raises `LabError` as `build_static`.
    """
    folders = []
    for name, file in _STAND_INS.items():
        sources = paths.GUEST / "standins" / name
        versions = ("-Wl,--version-script=versions.map",) * (sources / "versions.map").exists()
        linked = ("-shared", "-nostdlib", "-fPIC", f"-Wl,-soname={file}", *versions)
        program = Static(name, file, sources, 20_000, linked)
        folders.append(build_static(program, cache, listener).file(file).parent)
    return tuple(folders)


def build_static(program: Static, cache: Cache, listener: Listener) -> Artefact:
    """Return the artefact with a program, by the name of its file.

    Raises `LabError` when the compiler is missing, the sources are missing or
    do not compile, or the program exceeds the budget.
    """
    name, sources, budget = program.name, program.sources, program.budget
    compiler = find_program("musl-gcc", "musl-tools")
    files = _files(sources)
    if not any(file.suffix == ".c" for file in files):
        raise LabError(f"{sources} holds no C source: the {name}'s expected")
    question = f"toolchain of {compiler} with REALGCC={os.environ.get('REALGCC', '')}"
    inputs = {
        "sources": {str(file.relative_to(sources)): hash_file(file) for file in files},
        "toolchain": Remembered(cache).get(question, lambda: _toolchain(compiler)),
        "flags": (*FLAGS, *program.more),
        "budget": budget,
    }

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, name):
            _compile(compiler, program, folder / program.file)
        size = (folder / program.file).stat().st_size
        if size > budget:
            raise LabError(
                f"the {name} takes {size} bytes, its budget is {budget}: "
                f"make {sources} smaller, it is part of every boot"
            )
        return {"inputs": inputs, "size": size}

    return cache.get(name, key_of(inputs), make, listener, f"the {name}")


def _toolchain(compiler: Path) -> tuple[dict[str, str], list[Path]]:
    """Return the compiler's version and its C library's hash, and the files that decide them.

    musl-gcc is a script that calls gcc (or what REALGCC names), and gcc calls cc1.
    """
    cc1, libc = (
        Path(run([compiler, option]).text)
        for option in ("-print-prog-name=cc1", "-print-file-name=libc.a")
    )
    version = run([compiler, "--version"]).text.splitlines()[0]
    return {"compiler": version, "libc": hash_file(libc)}, [compiler, cc1, libc]


def _compile(compiler: Path, program: Static, target: Path) -> None:
    # Names relative to the folder: where the sources lie must not show in the program.
    sources = program.sources
    names = [file.relative_to(sources) for file in _files(sources) if file.suffix == ".c"]
    try:
        run([compiler, *FLAGS, *program.more, "-o", target, *names], cwd=sources)
    except CommandFailed as error:
        text = f"the {program.name} in {sources} does not compile"
        raise LabError(text, error.evidence) from error
