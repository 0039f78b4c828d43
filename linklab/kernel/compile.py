"""One kernel compiled: its source set, its config finished, make run, its files kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.events import Listener, Note
from linklab.host.run import run
from linklab.kernel.buildfolder import PACKED, pack_build
from linklab.kernel.ccache import ccache_environment
from linklab.kernel.compilerwarnings import CompilerWarning, remember
from linklab.kernel.estimate import Estimate
from linklab.kernel.kbuild import Slot, Work, check_place, check_tools, jobs, working_in
from linklab.kernel.kconfig import Wish, parse_config
from linklab.kernel.kernelconfig import ConfigInputs, finish_config, write_config
from linklab.kernel.make import counted, run_make
from linklab.kernel.moduletree import BUILTIN, BUILTIN_INFO, FolderStore, write_zip
from linklab.kernel.slots import slot_for
from linklab.kernel.source import Source

BZIMAGE = "bzImage"
VMLINUX = "vmlinux"
SYMBOLS = "vmlinux.debug"
CONFIG = "config"
SYSTEM_MAP = "System.map"
BUILT_IN = BUILTIN
MODULES = "modules.zip"
LOG = "build.log"

_NAMED_MODULES = 5


@dataclass(frozen=True)
class Job:
    """What to compile. `tree` is a state of the source, patched or not."""

    source: Source
    tree: str
    flavour: str
    wishes: Mapping[str, Wish]
    tools: Sequence[str]
    compression: str


@dataclass(frozen=True)
class Compiled:
    """What came of it: the kernel's release, and all that the compiler warns of in it."""

    release: str
    warnings: Sequence[CompilerWarning]


def compile_kernel(job: Job, folder: Path, log: Path, listener: Listener) -> Compiled:
    """Compile a kernel and put it into `folder`.

    The caller holds the source's family.  Objects of earlier builds are used
    again.  The log moves into the folder when all went well and stays where it
    is otherwise.  Raises what `build_kernel` does.
    """
    check_tools(job.compression)
    check_place(job.source.store.folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    job.source.write(job.tree, listener)
    slot = slot_for(job.source, job.flavour, job.wishes, listener)
    inputs = ConfigInputs(job.tree, job.tools, job.wishes, str(job.source.origin))
    with working_in(slot) as work:
        config = finish_config(inputs, job.source.store, work, log, listener)
        write_config(work, config)
        _tell_of_modules(config, listener)
        warnings = _make(work, job, config, log, listener)
    _keep(slot.folder, folder, with_symbols=parse_config(config).get("CONFIG_DEBUG_INFO") == "y")
    if _is_modular(config):
        _keep_modules(slot, folder)
    shutil.move(log, folder / LOG)
    release = (slot.folder / "include/config/kernel.release").read_text().strip()
    return Compiled(release, warnings)


def _make(
    work: Work, job: Job, config: str, log: Path, listener: Listener
) -> list[CompilerWarning]:
    said: list[str] = []
    try:
        _make_counted(work, job, config, log, listener, said)
    finally:  # also of a build that failed: what it made stays made
        warnings = remember(work.slot.folder, said, work.slot.tree)
    return warnings


def _make_counted(
    work: Work, job: Job, config: str, log: Path, listener: Listener, said: list[str]
) -> None:
    estimate = Estimate(work.slot.folder, job.source.store)
    name = f"build kernel {job.flavour}"
    with counted(name, estimate.lines(job.tree, config), listener) as progress:
        # A first build would fill ccache at the price of a third more time.
        env = {} if estimate.first else ccache_environment(job.source.store.folder)

        def each_line(line: str) -> None:
            said.append(line)
            progress(line)

        # Each object's output in one piece: it says whose a warning is.
        targets = ["bzImage", "modules"] if _is_modular(config) else ["bzImage"]
        run_make(work, [f"-j{jobs()}", "-Otarget", *targets], log, each_line, env)
    estimate.built(job.tree, config, progress.lines)


def _tell_of_modules(config: str, listener: Listener) -> None:
    modules = [name for name, value in parse_config(config).items() if value == "m"]
    if modules:
        some = ", ".join(modules[:_NAMED_MODULES])
        more = " ..." if len(modules) > _NAMED_MODULES else ""
        text = "options that are modules, which the guest gets if the scenario needs them"
        listener(Note(f"{text} or --module names them: {some}{more}"))


def _is_modular(config: str) -> bool:
    return parse_config(config).get("CONFIG_MODULES") == "y"


def _keep(slot: Path, folder: Path, *, with_symbols: bool) -> None:
    """Copy what is worth keeping; with the list of what would be modules elsewhere.

    The vmlinux that boots goes without its symbols, because QEMU reads all of
    it. One with symbols and debug information lies beside it, for people and
    debuggers; compressed, because its hash is checked with every use.
    """
    shutil.copyfile(slot / "arch/x86/boot/bzImage", folder / BZIMAGE)
    shutil.copyfile(slot / ".config", folder / CONFIG)
    shutil.copyfile(slot / "System.map", folder / SYSTEM_MAP)
    if (slot / BUILT_IN).exists():
        shutil.copyfile(slot / BUILT_IN, folder / BUILT_IN)
    run(["strip", "-s", "-o", folder / VMLINUX, slot / "vmlinux"])
    if with_symbols:
        compress = "--compress-debug-sections=zlib"
        run(["objcopy", compress, slot / "vmlinux", folder / SYMBOLS])


def _keep_modules(slot: Slot, folder: Path) -> None:
    """Keep the modules, and what other modules are compiled against."""
    store = FolderStore(slot.folder)
    names = (BUILTIN, BUILTIN_INFO, *store.built())
    write_zip(folder / MODULES, ((name, store.read(name)) for name in names))
    pack_build(slot.tree, slot.folder, folder / PACKED)
