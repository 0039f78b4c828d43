"""Kernels as they are tested: with the image that each needs, and what is stored of them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.host.cache import Artefact, Cache, hash_file
from linklab.image.initramfs import ARCHIVE, build_initramfs, with_modules
from linklab.image.userland import Entry
from linklab.kernel.extmodule import Against, build_modules, check_module_folder, source_hashes
from linklab.kernel.kernel import Kernel, tool_versions
from linklab.kernel.modules import FolderStore, ModuleTree
from linklab.kernel.requirements import BOOT, modules_needed
from linklab.lab import spaces
from linklab.lab.lab import Lab, Subject, host_cpu
from linklab.machine.spec import Boot, Clock, MachineType
from linklab.paths import LIVE
from linklab.scenarios import own_file
from linklab.scenarios.scenario import Scenario
from linklab.trials.plan import Plan


@dataclass(frozen=True)
class Requirements:
    """What kernels are wanted for: `needs` are groups of `images/needs.toml`.

    `image` is the folder of the image that boots them, `more` what it has beyond
    its manifest; `machine` a type that was asked for.
    """

    boot: Boot
    needs: tuple[str, ...] = ()
    machine: MachineType | None = None
    image: Path = LIVE
    clock: Clock = Clock.REAL
    more: tuple[Entry, ...] = ()
    weighs_iso: bool = False  # the ISO's size is wanted, whatever is booted

    @classmethod
    def of(cls, kind: type[Scenario], lab: Lab) -> Requirements:
        """Return what it takes to be measured by a scenario in a lab."""
        image = kind.image or LIVE
        needs = kind.all_needs()
        if kind.topology:
            needs += lab.guests.needs if lab.guests else (spaces.NEEDS,)
            needs += (spaces.CAPTURES,) if lab.captures else ()
        return cls(lab.boot, needs, lab.machine, image, lab.clock, weighs_iso=kind.weighs_iso)

    @property
    def all_needs(self) -> tuple[str, ...]:
        """The groups of what a kernel must have."""
        machine = self.machine.value if self.machine else ""
        return (BOOT, self.boot.value, machine, self.clock.value, *self.needs)


@dataclass(frozen=True)
class ModuleWords:
    """What `--module` names: folders of source, and modules that the kernel has itself."""

    folders: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()


def module_words(words: Sequence[str]) -> ModuleWords:
    """Return what `--module` names, sorted.

    Raises `UsageError` for a folder that holds no module's source, and for a
    word that is neither a folder nor a module's name.
    """
    are_folders = {word: "/" in word or Path(word).is_dir() for word in words}
    folders = [Path(word).expanduser() for word in words if are_folders[word]]
    names = [word for word in words if not are_folders[word]]
    for folder in folders:
        check_module_folder(folder)
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UsageError(
                f"--module {name}: the folder of a module's source is expected, or the name of a "
                "module that the kernel has"
            )
    return ModuleWords(tuple(folders), tuple(names))


def module_files(words: Sequence[str]) -> list[Path]:
    """Return every file of the source that `--module` names."""
    folders = module_words(words).folders
    return [folder / name for folder in folders for name in source_hashes(folder)]


def guest_image(
    kernel: Kernel, wanted: Requirements, modules: Sequence[str], cache: Cache, listener: Listener
) -> Artefact | None:
    """Return the image with the modules that a kernel needs, None where it needs none.

    `modules` are words of `--module`, those of them that are source compiled
    first. Raises `UsageError` for a kernel that lacks something, and what
    `build_modules` raises.
    """
    words = module_words(modules)
    tree = kernel.modules
    if kernel.config is None and tree is None:
        listener(
            Note(
                f"kernel {kernel.name} tells nothing of its config: it is taken that it has what "
                f"is needed (a config-{kernel.release} beside it would tell)"
            )
        )
    needed = [*modules_needed(kernel, wanted.all_needs), *words.names]
    if words.folders:
        external = _compiled(kernel, words.folders, cache, listener)
        none = "the kernel, which came without modules"
        tree = tree or ModuleTree(kernel.release, FolderStore(kernel.bzimage), none)
        tree = tree.with_external(external)
        needed += external
    if needed and tree is None:
        raise UsageError(_without_modules(kernel, needed))
    chosen = tree.in_order(needed) if tree else ()
    if not chosen:
        return None
    image = build_initramfs(cache, listener, image=wanted.image, more=wanted.more)
    return with_modules(image, kernel.release, chosen, cache, listener)


def _without_modules(kernel: Kernel, needed: Sequence[str]) -> str:
    names = ", ".join(needed)
    if kernel.built_by_lab:
        return (
            f"kernel {kernel.name} has no modules of its own, so {names} cannot be loaded: what "
            "--config switches on with =y is built in"
        )
    return (
        f"kernel {kernel.name} came without its modules, so {names} cannot be loaded: there is no "
        f"/lib/modules/{kernel.release}, and no lib/modules beside it"
    )


def _compiled(
    kernel: Kernel, folders: Sequence[Path], cache: Cache, listener: Listener
) -> dict[str, bytes]:
    if kernel.build is None:
        raise UsageError(
            f"no module can be built against kernel {kernel.name}: its headers are not here "
            f"(/lib/modules/{kernel.release}/build)"
        )
    against = Against(kernel.release, kernel.build, tool_versions()[0])
    return build_modules(folders, against, cache, listener)


def with_image(
    kernel: Kernel, wanted: Requirements, modules: Sequence[str], cache: Cache, listener: Listener
) -> Subject:
    """Return a kernel as what is tested, with an image of its own where it needs one."""
    image = guest_image(kernel, wanted, modules, cache, listener)
    subject = subject_of(kernel, cache, listener)
    if image is None:
        return subject
    return replace(subject, initramfs=image.cached(ARCHIVE), modules=image.about["modules"])


def subject_of(kernel: Kernel, cache: Cache, listener: Listener) -> Subject:
    """Return a kernel as what is tested, its files kept in the cache."""
    return Subject(
        name=kernel.name,
        release=kernel.release,
        sha256=kernel.sha256,
        kernel=cache.keep(kernel.vmlinux or kernel.bzimage, listener),
        known=kernel.built_by_lab,
        inputs=kernel.inputs,
        symbols=cache.keep(kernel.symbols, listener) if kernel.symbols else None,
    )


def tested_on(lab: Lab, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the entries that every stored result has in common."""
    return {
        "kernels": [
            {
                "name": subject.name,
                "release": subject.release,
                "sha256": subject.sha256,
                "inputs": subject.inputs,
                "image_bytes": subject.image_bytes,
                "built_by_lab": subject.known,
                "modules": dict(subject.modules),
            }
            for subject in subjects
        ],
        "image": dict(lab.image),
        "accel": lab.accel.value,
        "clock": lab.clock_name,
        "boot": lab.boot.value,
        "machine": ", ".join(
            dict.fromkeys(
                spec.machine.value for s in subjects for spec in lab.specs_for(s).values()
            )
        ),
        "cpus": lab.cpus,
        "memory": lab.memory,
        "qemu": {
            "version": lab.qemu.version,
            "command_lines": lab.command_lines(subjects),
        },
        "host": {
            "cpu": host_cpu(),
            "cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
    }


def experiment(plan: Plan, lab: Lab) -> dict[str, Any]:
    """Return what a stored result says of its scenario and plan: all that reports need of them."""
    place = plan.place_in(lab)
    # What others measured is of the scenario's own cells.
    reference = None if plan.swept else plan.kind.reference()
    drawings = [network.drawing() for network in plan.networks]
    return {
        "scenario": plan.kind.name,
        **({"scenario_sha256": hash_file(own)} if (own := own_file(plan.scenario)) else {}),
        "shape": plan.shape.to_json(),
        "plan": plan.to_json(),
        **({"drawing": "\n\n".join(drawings)} if drawings else {}),
        **({"place": place} if place else {}),
        **({"reference": reference.to_json()} if reference else {}),
    }
