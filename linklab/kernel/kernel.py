"""Kernels: from a flavour, or whatever else `--kernel` names, to files that boot.

A flavour is built from source, patches and config fragments, and kept under a
key made of everything that went in.  Any other kernel is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.events import Listener, ignore
from linklab.host.cache import Artefact, Cache, key_of, reporting
from linklab.host.elf import has_pvh_entry
from linklab.host.run import run
from linklab.kernel.bootable import Kernel
from linklab.kernel.buildfolder import PACKED, PackedBuild
from linklab.kernel.compile import (
    BUILT_IN,
    BZIMAGE,
    CONFIG,
    MODULES,
    SYMBOLS,
    VMLINUX,
    Job,
    compile_kernel,
)
from linklab.kernel.compilerwarnings import CompilerWarning
from linklab.kernel.debkernel import NEWEST, PREFIX
from linklab.kernel.flavours import MODULAR, flavours, fragments
from linklab.kernel.foreign import check_found, find_kernel, is_foreign, with_vmlinux
from linklab.kernel.kbuild import COMPILER, IDENTITY, LINKER
from linklab.kernel.kconfig import Wish, merge, parse_fragment, read_fragment
from linklab.kernel.moduletree import FolderStore, ModuleTree, ZipStore
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Patch
from linklab.kernel.source import Source, check_source, open_source

KIND = "kernel"

_SCHEMA = 1  # raise it when the same inputs give another artefact
_MODULES_SCHEMA = 1  # the same for kernels that take modules


class Compression(StrEnum):
    """How a bzImage is packed: LZ4 boots fastest, ZSTD is smaller."""

    LZ4 = "lz4"
    ZSTD = "zstd"


@dataclass(frozen=True)
class BuildOptions:
    """What a flavour is built from. No `source` stands for Debian's.

    `revision` is a commit of a source that is a git tree, in place of what
    lies in its folder now. `optional` are fragments that the flavour's own
    override and whose options need not hold: what the kernel's self-tests
    would like to have.
    """

    source: Path | None = None
    patches: tuple[Patch, ...] = ()
    configs: tuple[Path, ...] = ()
    modular: bool = False
    compression: Compression = Compression.LZ4
    revision: str = ""
    optional: tuple[Path, ...] = ()


@dataclass(frozen=True)
class KernelSpec:
    """A flavour and what it is built from."""

    flavour: str
    options: BuildOptions = BuildOptions()


@dataclass(frozen=True)
class Plan:
    """A kernel to build: its state of the source, its config and its key."""

    spec: KernelSpec
    source: Source
    tree: str
    wishes: Mapping[str, Wish]
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of the finished kernel in the cache."""
        return key_of(self.inputs)


def check_spec(spec: KernelSpec) -> None:
    """Raise `UsageError` for anything in a spec that is wrong by itself. Starts nothing."""
    _check_flavour(spec.flavour)
    if spec.options.source is not None:
        check_source(spec.options.source)
    wishes_of(spec)


def plan(spec: KernelSpec, cache: Cache, listener: Listener) -> Plan:
    """Return what building a kernel would take, its key included.

    Reads a source that was never read before.  Raises `UsageError` for a wrong
    spec, `BuildSkipped` when a patch does not apply, `LabError` when the cache
    cannot be written.
    """
    check_spec(spec)
    with reporting(cache.root):
        source = open_source(spec.options.source, cache, listener, revision=spec.options.revision)
        assert source is not None
        return _plan_of(spec, source)


def is_built(spec: KernelSpec, cache: Cache) -> bool:
    """Tell whether `build_kernel` would find it in the cache. Reads no new tarball."""
    check_spec(spec)
    options = spec.options
    source = open_source(options.source, cache, ignore, read=False, revision=options.revision)
    if source is None:
        return False
    return cache.find(KIND, _plan_of(spec, source).key, ignore) is not None


def build_kernel(spec: KernelSpec, cache: Cache, listener: Listener) -> Artefact:
    """Return the finished kernel, building it first if its inputs changed.

    Raises `UsageError` for a wrong spec, `BuildSkipped` when there is no such
    kernel (a patch does not apply, it does not compile), `LabError` when this
    machine cannot build it.
    """
    planned = plan(spec, cache, listener)
    job = Job(
        source=planned.source,
        tree=planned.tree,
        flavour=spec.flavour,
        wishes=planned.wishes,
        tools=planned.inputs["tools"],
        compression=spec.options.compression,
    )

    def make(folder: Path) -> Mapping[str, Any]:
        log = cache.root / "logs" / f"kernel-{spec.flavour}-{planned.key}.log"
        with planned.source.building(listener):
            made = compile_kernel(job, folder, log, listener)
        return {
            "release": made.release,
            "inputs": dict(planned.inputs),
            "flavour": spec.flavour,
            "warnings": [warning.to_json() for warning in made.warnings],
        }

    return cache.get(KIND, planned.key, make, listener, f"kernel {spec.flavour}")


def resolve_kernel(name: str, options: BuildOptions, cache: Cache, listener: Listener) -> Kernel:
    """Return the kernel that `--kernel` names, building a flavour if it must.

    Raises `UsageError` for a name that is neither a flavour nor a package, a
    file or a folder that boots, `LabError` for a package that cannot be had,
    and what `build_kernel` raises.
    """
    if name in flavours():
        return _built(name, build_kernel(KernelSpec(name, options), cache, listener))
    _check_taken_as_it_is(name, options)
    return with_vmlinux(find_kernel(name, cache, listener), cache, listener)


def check_kernel(name: str, options: BuildOptions) -> None:
    """Raise `UsageError` for anything that `resolve_kernel` would refuse. Builds nothing."""
    if name in flavours():
        check_spec(KernelSpec(name, options))
    else:
        _check_taken_as_it_is(name, options)
        check_found(name)


def _check_taken_as_it_is(name: str, options: BuildOptions) -> None:
    if not is_foreign(name):
        raise UsageError(
            f"there is no kernel {name!r}: expected {', '.join(flavours())}, {NEWEST}, "
            f"{PREFIX}PACKAGE, the path of a bzImage, or the path of a built kernel tree"
        )
    if options.source or options.patches or options.configs:
        raise UsageError(
            "--source, --range, --patch and --config build the lab's flavours "
            f"({', '.join(flavours())}): {name} is taken as it is"
        )


def _built(name: str, artefact: Artefact) -> Kernel:
    vmlinux = artefact.file(VMLINUX)
    return Kernel(
        name=name,
        release=str(artefact.about["release"]),
        bzimage=artefact.file(BZIMAGE),
        vmlinux=vmlinux if has_pvh_entry(vmlinux) else None,
        config=artefact.file(CONFIG),
        sha256=artefact.hashes[BZIMAGE],
        built_by_lab=True,
        inputs=artefact.about["inputs"],
        symbols=artefact.file(SYMBOLS) if SYMBOLS in artefact.hashes else None,
        warnings=tuple(map(CompilerWarning.from_json, artefact.about.get("warnings", ()))),
        modules=_modules_in(artefact),
        build=PackedBuild(artefact.file(PACKED), artefact.key) if _is_modular(artefact) else None,
    )


def _is_modular(artefact: Artefact) -> bool:
    return PACKED in artefact.hashes


def _modules_in(artefact: Artefact) -> ModuleTree | None:
    """Return what a kernel of the lab has as modules and, by its list, what is built in."""
    modular = _is_modular(artefact)
    if not modular and BUILT_IN not in artefact.hashes:
        return None
    store = ZipStore(artefact.file(MODULES)) if modular else FolderStore(artefact.path)
    return ModuleTree(str(artefact.about["release"]), store, "what was built with it")


def _check_flavour(name: str) -> None:
    if name not in flavours():
        raise UsageError(f"there is no flavour {name!r}: expected {', '.join(flavours())}")


def wishes_of(spec: KernelSpec) -> dict[str, Wish]:
    """Return what the config must hold: the lab's fragments, the person's, the packing.

    Optional ones stand above the base and below what makes the flavour.
    Raises `UsageError` for a fragment that cannot be read.
    """
    base, *own = fragments(spec.flavour)
    wishes = read_fragment(base, users=False)
    for path in spec.options.optional:
        wishes += [replace(wish, optional=True) for wish in read_fragment(path, users=True)]
    wishes += [wish for path in own for wish in read_fragment(path, users=False)]
    modular = [MODULAR] if spec.options.modular else []
    for path in (*modular, *spec.options.configs):
        wishes += read_fragment(path, users=True)
    packing = f"CONFIG_KERNEL_{spec.options.compression.name}=y"
    return merge(
        [*wishes, *parse_fragment(packing, "the lab's choice of compression", users=False)]
    )


def _plan_of(spec: KernelSpec, source: Source) -> Plan:
    tree = patched_tree(source, spec.options.patches)
    wishes = wishes_of(spec)
    inputs = {
        "schema": _SCHEMA,
        "tree": tree,
        "options": [[wish.option, wish.value] for wish in wishes.values()],
        "tools": tool_versions(),
        "identity": dict(IDENTITY),
    }
    if optional := [wish.option for wish in wishes.values() if wish.optional]:
        inputs["optional"] = optional  # the same options asked for in earnest may be refused
    if "CONFIG_MODULES" in wishes and wishes["CONFIG_MODULES"].value == "y":
        inputs["modules"] = _MODULES_SCHEMA
    return Plan(spec, source, tree, wishes, inputs)


def tool_versions() -> list[str]:
    """Return what compiler and linker call themselves: other ones make another kernel."""
    return [run([tool, "--version"]).text.partition("\n")[0] for tool in (COMPILER, LINKER)]
