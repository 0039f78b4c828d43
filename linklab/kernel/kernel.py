"""Kernels: from a flavour, or whatever else `--kernel` names, to files that boot.

A flavour is built from source, patches and config fragments, and kept under a
key made of everything that went in.  Any other kernel is taken as it is: a
package, a bzImage, a built kernel tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from linklab.errors import LinklabError, UsageError
from linklab.events import Listener, Note
from linklab.host.cache import Artefact, Busy, Cache, hash_file, reporting
from linklab.host.elf import has_debug_info, has_pvh_entry
from linklab.host.run import run
from linklab.kernel import debkernel
from linklab.kernel.bzimage import bzimage_release, unpacked_kernel
from linklab.kernel.compile import (
    BUILT_IN,
    BZIMAGE,
    CONFIG,
    MODULES,
    SYMBOLS,
    VMLINUX,
    BuildPlan,
    compile_kernel,
)
from linklab.kernel.compilerwarnings import CompilerWarning
from linklab.kernel.extmodule import PACKED, BuildFolder, InstalledBuild, PackagedBuild, PackedBuild
from linklab.kernel.kconfig import (
    MODULAR,
    Wish,
    check_command_line,
    flavours,
    fragments,
    merge,
    parse_fragment,
    read_fragment,
)
from linklab.kernel.make import COMPILER, IDENTITY, LINKER
from linklab.kernel.modules import FolderStore, ModuleTree, ZipStore
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Patch
from linklab.kernel.source import check_source, open_source

KIND = "kernel"

_SCHEMA = 1  # raise it when the same inputs give another artefact
_MODULES_SCHEMA = 1  # the same for kernels that take modules
_SYSTEM_MODULES = Path("/lib/modules")
_BUILT_BZIMAGE = "arch/x86/boot/bzImage"


class Compression(StrEnum):
    """How a bzImage is packed: LZ4 boots fastest, XZ is smallest."""

    LZ4 = "lz4"
    XZ = "xz"


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
class Kernel:
    """A kernel that can be booted. `sha256` is its bzImage's; `vmlinux` has a PVH entry.

    `symbols` is a vmlinux with debug information, where it was built with that;
    `warnings` is what the compiler warned of, of a kernel that the lab built.
    `inputs` names everything that went into it, by content, as JSON can express it.
    `modules` are those that were built with it, where they were found, and
    `build` is what others are compiled against.
    """

    name: str
    release: str
    bzimage: Path
    vmlinux: Path | None
    config: Path | None
    sha256: str
    built_by_lab: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    symbols: Path | None = None
    warnings: tuple[CompilerWarning, ...] = ()
    modules: ModuleTree | None = None
    build: BuildFolder | None = None


def check_spec(spec: KernelSpec) -> None:
    """Raise `UsageError` for anything in a spec that is wrong by itself. Starts nothing."""
    if spec.flavour not in flavours():
        raise UsageError(f"there is no flavour {spec.flavour!r}: expected {', '.join(flavours())}")
    if spec.options.source is not None:
        check_source(spec.options.source)
    wishes = wishes_of(spec)
    check_command_line({each.option: each.value for each in wishes.values()}, spec.flavour)


def plan(spec: KernelSpec, cache: Cache, listener: Listener) -> BuildPlan:
    """Return what building a kernel would take, its key included.

    Reads a source that was never read before.  Raises `UsageError` for a wrong
    spec, `BuildSkipped` when a patch does not apply, `LabError` when the cache
    cannot be written.
    """
    check_spec(spec)
    with reporting(cache.root):
        source = open_source(spec.options.source, cache, listener, revision=spec.options.revision)
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
    return BuildPlan(source, tree, spec.flavour, wishes, spec.options.compression, inputs)


def build_kernel(spec: KernelSpec, cache: Cache, listener: Listener) -> Artefact:
    """Return the finished kernel, building it first if its inputs changed.

    Raises `UsageError` for a wrong spec, `BuildSkipped` when there is no such
    kernel (a patch does not apply, it does not compile), `LabError` when this
    machine cannot build it.
    """
    planned = plan(spec, cache, listener)
    if fault := _built_elsewhere([planned], cache, listener).get(planned.key):
        raise fault
    return build_planned(planned, cache, listener)


def build_planned(planned: BuildPlan, cache: Cache, listener: Listener) -> Artefact:
    """Return the finished kernel of a plan, building it on this host first if it must."""

    def make(folder: Path) -> Mapping[str, Any]:
        log = cache.root / "logs" / f"kernel-{planned.flavour}-{planned.key}.log"
        with planned.source.building(listener):
            return compile_kernel(planned, folder, log, listener)

    return cache.get(KIND, planned.key, make, listener, f"kernel {planned.flavour}")


def build_ahead(
    named: Iterable[tuple[str, BuildOptions]], cache: Cache, listener: Listener
) -> None:
    """Have other hosts build all flavours that the cache lacks, side by side, where there are any.

    What is wrong with one of them is told when it is asked for by itself.
    """
    if cache.elsewhere is None:
        return
    plans = []
    for name, options in named:
        with suppress(LinklabError):
            if name in flavours():
                plans.append(plan(KernelSpec(name, options), cache, listener))
    _built_elsewhere(plans, cache, listener)


def _built_elsewhere(
    plans: Sequence[BuildPlan], cache: Cache, listener: Listener
) -> Mapping[str, LinklabError]:
    """Have other hosts build what the cache lacks; return why there is none of some."""
    if cache.elsewhere is None:
        return {}
    lacking = {each.key: each for each in plans if not cache.find(KIND, each.key, listener)}
    return cache.elsewhere(list(lacking.values())) if lacking else {}


def resolve_kernel(name: str, options: BuildOptions, cache: Cache, listener: Listener) -> Kernel:
    """Return the kernel that `--kernel` names, building a flavour if it must.

    Raises `UsageError` for a name that is neither a flavour nor a package, a
    file or a folder that boots, `LabError` for a package that cannot be had,
    and what `build_kernel` raises.
    """
    if name in flavours():
        return _built(name, build_kernel(KernelSpec(name, options), cache, listener))
    _check_taken_as_it_is(name, options)
    kernel = find_kernel(name, cache, listener)
    if kernel.vmlinux is not None:
        return kernel
    inside = unpacked_kernel(kernel.bzimage, kernel.sha256, cache, listener)
    return replace(kernel, vmlinux=inside.vmlinux, config=kernel.config or inside.config)


def check_kernel(name: str, options: BuildOptions) -> None:
    """Raise `UsageError` for anything that `resolve_kernel` would refuse. Builds nothing."""
    if name in flavours():
        check_spec(KernelSpec(name, options))
        return
    _check_taken_as_it_is(name, options)
    if debkernel.is_package(name):
        debkernel.check_package(name)
    else:
        _from_path(name)


def find_kernel(name: str, cache: Cache, listener: Listener) -> Kernel:
    """Return a kernel that the lab did not build, as it is, a package fetched first.

    Raises `UsageError` for what does not boot, `LabError` for a package that
    cannot be had.
    """
    return _from_package(name, cache, listener) if debkernel.is_package(name) else _from_path(name)


def sources_of(spec: KernelSpec, cache: Cache, listener: Listener) -> tuple[Path, Path]:
    """Return where a flavour's sources were when it was compiled, and where they are now.

    A person's own folder is the place to read and to edit them. Otherwise it
    is the tree in which they were compiled, brought back to the state that was,
    unless a build is at work there: nobody waits minutes for what is likely the
    same.
    """
    planned = plan(spec, cache, listener)
    compiled = planned.source.store.tree
    origin = planned.source.origin
    if origin.is_dir() and not spec.options.patches:
        return compiled, origin
    try:
        with planned.source.building(listener, wait=False):
            planned.source.write(planned.tree, listener)
    except Busy:
        text = f"a build is at work in {compiled}: the sources shown may be of another state"
        listener(Note(text))
    return compiled, compiled


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


def tool_versions() -> list[str]:
    """Return what compiler and linker call themselves: other ones make another kernel."""
    return [run([tool, "--version"]).text.partition("\n")[0] for tool in (COMPILER, LINKER)]


def _check_taken_as_it_is(name: str, options: BuildOptions) -> None:
    if not debkernel.is_package(name) and not (name and Path(name).expanduser().exists()):
        raise UsageError(
            f"there is no kernel {name!r}: expected {', '.join(flavours())}, {debkernel.NEWEST}, "
            f"{debkernel.PREFIX}PACKAGE, the path of a bzImage, or the path of a built kernel tree"
        )
    if options.source or options.patches or options.configs:
        raise UsageError(
            "--source, --range, --patch and --config build the lab's flavours "
            f"({', '.join(flavours())}): {name} is taken as it is"
        )


def _built(name: str, artefact: Artefact) -> Kernel:
    release, vmlinux = str(artefact.about["release"]), artefact.file(VMLINUX)
    modular = PACKED in artefact.hashes
    modules = None
    if modular or BUILT_IN in artefact.hashes:
        store = ZipStore(artefact.file(MODULES)) if modular else FolderStore(artefact.path)
        modules = ModuleTree(release, store, "what was built with it")
    return Kernel(
        name=name,
        release=release,
        bzimage=artefact.file(BZIMAGE),
        vmlinux=vmlinux if has_pvh_entry(vmlinux) else None,
        config=artefact.file(CONFIG),
        sha256=artefact.hashes[BZIMAGE],
        built_by_lab=True,
        inputs=artefact.about["inputs"],
        symbols=artefact.file(SYMBOLS) if SYMBOLS in artefact.hashes else None,
        warnings=tuple(map(CompilerWarning.from_json, artefact.about.get("warnings", ()))),
        modules=modules,
        build=PackedBuild(artefact.file(PACKED), artefact.key) if modular else None,
    )


def _from_path(name: str) -> Kernel:
    path = Path(name).expanduser().resolve()
    return _from_tree(name, path) if path.is_dir() else _from_file(name, path)


def _from_package(name: str, cache: Cache, listener: Listener) -> Kernel:
    artefact = debkernel.package_artefact(name, cache, listener)
    release = str(artefact.about["release"])
    config = artefact.file(debkernel.CONFIG) if debkernel.CONFIG in artefact.hashes else None
    return Kernel(
        name=name,
        release=release,
        bzimage=artefact.file(debkernel.VMLINUZ),
        vmlinux=None,
        config=config,
        sha256=artefact.hashes[debkernel.VMLINUZ],
        inputs={"package": artefact.about["package"], "deb": artefact.about["deb"]},
        modules=debkernel.modules_of(artefact),
        build=PackagedBuild(release),
    )


def _from_file(name: str, path: Path) -> Kernel:
    release = bzimage_release(path)
    config = path.with_name(f"config-{release}")
    place = next(_modules_for(path, release), None)
    build = place / "build" if place else None  # a link to its headers, if they are there
    return Kernel(
        name=name,
        release=release,
        bzimage=path,
        vmlinux=None,
        config=config if config.is_file() else None,
        sha256=hash_file(path),
        modules=ModuleTree(release, FolderStore(place), str(place)) if place else None,
        build=InstalledBuild(build.resolve()) if build and build.is_dir() else None,
    )


def _modules_for(bzimage: Path, release: str) -> Iterator[Path]:
    """Yield the folders where the modules of that release lie, of those where they usually do."""
    folder = bzimage.parent
    places = [folder]  # /lib/modules/RELEASE/vmlinuz, as Fedora and Arch have it
    for root in (folder, folder.parent):  # a package that was unpacked, INSTALL_MOD_PATH
        places += [root / "lib/modules" / release, root / "usr/lib/modules" / release]
    return (place for place in [*places, _SYSTEM_MODULES / release] if (place / BUILT_IN).is_file())


def _from_tree(name: str, folder: Path) -> Kernel:
    bzimage = folder / _BUILT_BZIMAGE
    if not bzimage.is_file():
        if (folder / "Kconfig").is_file() or (folder / "Makefile").is_file():
            raise UsageError(
                f"{folder} is not built: there is no {_BUILT_BZIMAGE} in it. Build it, "
                f"or let the lab do so: --kernel {flavours()[0]} --source {folder}"
            )
        raise UsageError(f"{folder} is no kernel tree: there is no {_BUILT_BZIMAGE} in it")
    vmlinux, config = folder / "vmlinux", folder / ".config"
    # An older bzImage was made from another vmlinux.
    same = vmlinux.is_file() and vmlinux.stat().st_mtime <= bzimage.stat().st_mtime
    release = bzimage_release(bzimage)
    return Kernel(
        name=name,
        release=release,
        bzimage=bzimage,
        vmlinux=vmlinux if same and has_pvh_entry(vmlinux) else None,
        config=config if config.is_file() else None,
        sha256=hash_file(bzimage),
        symbols=vmlinux if same and has_debug_info(vmlinux) else None,
        modules=ModuleTree(release, FolderStore(folder), str(folder)),
        build=InstalledBuild(folder),
    )
