"""What a kernel gets so that it can do what it is wanted for: an image with its modules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.host.cache import Artefact, Cache
from linklab.image.initramfs import build_initramfs, with_modules
from linklab.image.userland import LIVE, Entry
from linklab.kernel.extmodule import Against, build_modules, check_module_folder, source_hashes
from linklab.kernel.kernel import Kernel, tool_versions
from linklab.kernel.modules import FolderStore, ModuleTree
from linklab.kernel.requirements import BOOT, modules_needed
from linklab.lab.lab import Lab
from linklab.machine.spec import Boot, Clock, MachineType
from linklab.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Purpose:
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
    def of(cls, kind: type[Scenario], lab: Lab) -> Purpose:
        """Return the purpose of being measured by a scenario in a lab."""
        image = kind.image or LIVE
        needs = kind.all_needs()
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
    folders = [Path(word).expanduser() for word in words if _is_folder(word)]
    names = [word for word in words if not _is_folder(word)]
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


def _is_folder(word: str) -> bool:
    return "/" in word or Path(word).is_dir()


def image_for(
    kernel: Kernel, purpose: Purpose, modules: Sequence[str], cache: Cache, listener: Listener
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
    wanted = [*modules_needed(kernel, purpose.all_needs), *words.names]
    if words.folders:
        external = _compiled(kernel, words.folders, cache, listener)
        tree = (tree or _no_modules(kernel)).with_external(external)
        wanted += external
    if wanted and tree is None:
        raise UsageError(_without_modules(kernel, wanted))
    chosen = tree.in_order(wanted) if tree else ()
    if not chosen:
        return None
    image = build_initramfs(cache, listener, image=purpose.image, more=purpose.more)
    return with_modules(image, kernel.release, chosen, cache, listener)


def _without_modules(kernel: Kernel, wanted: Sequence[str]) -> str:
    names = ", ".join(wanted)
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
    compiler = tool_versions()[0]
    against = Against(kernel.release, kernel.build, compiler)
    return build_modules(folders, against, cache, listener)


def _no_modules(kernel: Kernel) -> ModuleTree:
    return ModuleTree(
        kernel.release, FolderStore(kernel.bzimage), "the kernel, which came without modules"
    )
