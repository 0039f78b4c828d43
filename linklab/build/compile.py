"""One kernel compiled: its source set, its config finished, make run, its files kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from linklab.build.estimate import Estimate
from linklab.build.kbuild import Slot, Work, check_place, check_tools, jobs, working_in
from linklab.build.kconfig import Wish, parse_config
from linklab.build.kernelconfig import ConfigInputs, finish_config, write_config
from linklab.build.make import counted, run_make
from linklab.build.source import Source
from linklab.events import Listener, Note
from linklab.host.run import run

BZIMAGE = "bzImage"
VMLINUX = "vmlinux"
CONFIG = "config"
SYSTEM_MAP = "System.map"
LOG = "build.log"


def compile_kernel(
    source: Source,
    tree: str,
    wishes: Mapping[str, Wish],
    flavour: str,
    *,
    tools: Sequence[str],
    compression: str,
    folder: Path,
    log: Path,
    listener: Listener,
) -> str:
    """Compile a state of a source and put the result into `folder`; return its release.

    The caller holds the source's family.  Objects of an earlier build of the
    same flavour are used again.  Raises what `build_kernel` does.
    """
    check_tools(compression)
    check_place(source.store.folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    source.write(tree, listener)
    slot = Slot(source.obj(flavour), source.store.tree)
    inputs = ConfigInputs(tree, tools, wishes, str(source.origin))
    with working_in(slot) as work:
        config = finish_config(inputs, source.store, work, log, listener)
        write_config(work, config)
        _tell_of_modules(config, listener)
        _make(work, source, tree, config, flavour, log, listener)
    _keep(slot.folder, folder)
    shutil.move(log, folder / LOG)
    return (slot.folder / "include/config/kernel.release").read_text().strip()


def _make(
    work: Work, source: Source, tree: str, config: str, flavour: str, log: Path, listener: Listener
) -> None:
    estimate = Estimate(work.slot.folder, source.store)
    name = f"build kernel {flavour}"
    with counted(name, estimate.lines(tree, config), listener) as progress:
        run_make(work, [f"-j{jobs()}", "bzImage"], log, progress)
    estimate.built(tree, config, progress.lines)


def _tell_of_modules(config: str, listener: Listener) -> None:
    modules = [name for name, value in parse_config(config).items() if value == "m"]
    if modules:
        listener(Note(f"{len(modules)} options are modules, which the guest does not get: "
                      f"{', '.join(modules[:5])}{' ...' if len(modules) > 5 else ''}"))  # fmt: skip


def _keep(slot: Path, folder: Path) -> None:
    """Copy what is worth keeping. The vmlinux without its symbols: QEMU reads all of it."""
    shutil.copyfile(slot / "arch/x86/boot/bzImage", folder / BZIMAGE)
    shutil.copyfile(slot / ".config", folder / CONFIG)
    shutil.copyfile(slot / "System.map", folder / SYSTEM_MAP)
    run(["strip", "-s", "-o", folder / VMLINUX, slot / "vmlinux"])
