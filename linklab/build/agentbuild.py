"""The agent: compiled from `guest/agent` into one static program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linklab import paths
from linklab.build.userland import find_program
from linklab.errors import LabError
from linklab.events import Listener, step
from linklab.host import run
from linklab.host.cache import Artefact, Cache, hash_file, key_of

PROGRAM = "linklab-agent"
SOURCES = paths.GUEST / "agent"
BUDGET = 150_000
"""The agent's size in bytes may not exceed this: it is part of every boot."""

# The kernel's headers come after musl's own, so that only what musl lacks,
# <linux/*.h> and <asm/*.h>, is taken from the host. The image is for x86-64.
FLAGS = (
    *("-std=gnu11", "-Os", "-static", "-s"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wpointer-arith"),
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"),
    *("-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"),
)


def build_agent(
    cache: Cache, listener: Listener, sources: Path = SOURCES, budget: int = BUDGET
) -> Artefact:
    """Return the artefact with the agent's program, `linklab-agent`.

    Raises `LabError` when the compiler is missing, the sources are missing or
    do not compile, or the program exceeds the budget.
    """
    compiler = find_program("musl-gcc", "musl-tools")
    files = sorted(sources.glob("*.[ch]"))
    if not any(file.suffix == ".c" for file in files):
        raise LabError(f"{sources} holds no C source: the agent's expected")
    libc = run.run([compiler, "-print-file-name=libc.a"]).text
    inputs = {
        "sources": {file.name: hash_file(file) for file in files},
        "compiler": run.run([compiler, "--version"]).text.splitlines()[0],
        "libc": hash_file(Path(libc)),
        "flags": FLAGS,
        "budget": budget,
    }

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "agent"):
            _compile(compiler, sources, folder / PROGRAM)
        size = (folder / PROGRAM).stat().st_size
        if size > budget:
            raise LabError(
                f"the agent takes {size} bytes, its budget is {budget}: "
                f"make {sources} smaller, it is part of every boot"
            )
        return {"inputs": inputs, "size": size}

    return cache.get("agent", key_of(inputs), make, listener, "the agent")


def _compile(compiler: Path, sources: Path, target: Path) -> None:
    # Names relative to the folder: where the sources lie must not show in the program.
    names = sorted(file.name for file in sources.glob("*.c"))
    try:
        run.run([compiler, *FLAGS, "-o", target, *names], cwd=sources)
    except run.CommandFailed as error:
        raise LabError(f"the agent in {sources} does not compile", error.evidence) from error
