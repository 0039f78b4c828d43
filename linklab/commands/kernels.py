"""What kernels are tested: the options that say so, and what guests boot of them.

Two kernels that are compared are typed as `KERNEL[@SOURCE][+PATCH...]`. What
the second one leaves out it takes from the first, so `+fix.patch` is the first
with that patch on top, and `@v6.13` the same flavour of another commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.kernel.kconfig import flavours, is_timed, named_fragments
from linklab.options import absolute, option, split_list

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from linklab.host.cache import Artefact, Cache
    from linklab.kernel.kernel import BuildOptions, Kernel
    from linklab.kernel.requirements import ConfigSize
    from linklab.kernel.series import Series
    from linklab.lab.lab import Subject
    from linklab.scenarios.scenario import Scenario
    from linklab.trials.subjects import Requirements

SEVERAL_KERNELS = (
    "kernels, comma-separated: flavours (sysfs, nosysfs, debug, debug-nosysfs), "
    "debian (this Debian's own, fetched), deb:PACKAGE, bzImages or built kernel trees"
)
ONE_KERNEL = (
    "one kernel: a flavour (sysfs, nosysfs, debug, debug-nosysfs), debian (this Debian's own, "
    "fetched), deb:PACKAGE, a bzImage or a built kernel tree"
)
ONE_FLAVOUR = "one flavour to build: sysfs, nosysfs, debug or debug-nosysfs"
GRAMMAR = "KERNEL[@SOURCE][+PATCH...]"
_WORD = re.compile(r"(?P<kernel>[^@+]*)(@(?P<source>[^+]*))?(?P<patches>(\+[^+]+)*)")
_FOR_A_HOST = re.compile(r"(?:([a-z][a-z0-9]*(?:\.[0-9]+)?)=)?(.+)")
_MOST_IN_LABEL = 2  # patches


@dataclass(frozen=True)
class KernelOptions:
    """The options that say which kernels, as typed; `optional` as in `BuildOptions`.

    `configs` may name fragments of the lab's own; they become paths at once.
    """

    names: str = option(
        "sysfs,nosysfs",
        SEVERAL_KERNELS,
        "kernel",
        lambda: (*flavours(), "debian"),
    )
    source: str = option(
        "", "a kernel tree or a tarball to build the flavours from, instead of Debian's"
    )
    patches: tuple[str, ...] = option(
        (),
        "patches to apply to the source first: a file, an mbox, or a folder with a series; "
        "may be repeated, in order",
        "patch",
    )
    configs: tuple[str, ...] = option(
        (),
        "a fragment of kernel options to merge last, or the name of one of the lab's own "
        "(debug, kasan, symbols); may be repeated, in order",
        "config",
    )
    range: str = option(
        "", "BASE..TOPIC: commits of the git tree that --source names, instead of its files"
    )
    optional: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()  # fragments of a scenario, for the lab's own kernels alone
    revision: str = ""  # a commit of `source`, in place of what lies there
    modules: tuple[str, ...] = option(
        (),
        "the folder of an out-of-tree module's source, to build against each kernel and load, "
        "or the name of a module that the kernel has; may be repeated, in order",
        "module",
    )

    def __post_init__(self) -> None:
        files = (str(path) for word in self.configs for path in named_fragments(word))
        object.__setattr__(self, "configs", tuple(files))

    @cached_property
    def series(self) -> Series:
        """The patches that are named, those of the range first, read when first asked for.

        Raises `UsageError` for what is no patch, and for a series with a gap.
        """
        if self.range and not self.source:
            raise UsageError(f"--range {self.range} needs a git tree: name one with --source")
        from linklab.kernel.series import Series, range_series, read_series

        commits = range_series(Path(self.source), self.range) if self.range else Series()
        return commits + read_series(Path(patch) for patch in self.patches)

    def with_scenario(self, kind: type[Scenario]) -> KernelOptions:
        """Return the same kernels with what a scenario needs of them."""
        fragments = tuple(map(str, kind.fragments())) or self.needed
        return replace(self, needed=fragments, modules=kind.modules_with(self.modules))

    def build_options(self, name: str = "") -> BuildOptions:
        """Return how a kernel is to be built, a flavour unless its name says otherwise.

        Raises what `series` does.
        """
        from linklab.kernel.kernel import BuildOptions
        from linklab.trials.subjects import module_words

        needed = self.needed if not name or name in flavours() else ()
        return BuildOptions(
            source=Path(self.source) if self.source else None,
            patches=self.series.patches,
            configs=tuple(Path(config) for config in (*needed, *self.configs)),
            revision=self.revision or self.series.base,
            optional=tuple(Path(fragment) for fragment in self.optional),
            modular=bool(module_words(self.modules).folders),
        )

    def builds(self) -> list[tuple[str, BuildOptions]]:
        """Return each kernel's name, with how it is to be built. Raises what `series` does."""
        return [(name, self.build_options(name)) for name in split_list("kernel", self.names)]

    def check(self) -> list[str]:
        """Return the kernels' names; raise `UsageError` for what is wrong with them."""
        from linklab.kernel.kernel import check_kernel

        names = split_list("kernel", self.names)
        for name in names:
            check_kernel(name, self.build_options(name))
        return names

    def check_one(self, rule: str) -> str:
        """Return the kernel's name; raise `UsageError` with a rule where there are several."""
        name, *others = self.check()
        if others:
            raise UsageError(f"--kernel {self.names}: {rule}")
        return name

    def check_flavour(self, rule: str) -> str:
        """Return the name of the one flavour; raise `UsageError` with a rule for anything else."""
        if self.names not in flavours():
            raise UsageError(f"--kernel {self.names}: {rule}: {', '.join(flavours())}")
        return self.names

    def memory(self, work: int) -> int:
        """Return the MiB of guest memory for work that needs so many on a plain kernel."""
        return max(size.needed(work) for size in self._config_sizes())

    def memory_left(self, memory: int) -> int:
        """Return the MiB for the work, as a plain kernel counts, of so much guest memory."""
        return min(size.left(memory) for size in self._config_sizes())

    def _config_sizes(self) -> list[ConfigSize]:
        from linklab.kernel.requirements import config_size_for

        names = split_list("kernel", self.names)
        return [config_size_for(name, self.build_options(name)) for name in names]

    def absolute(self) -> KernelOptions:
        """Return the options with every path absolute, and the range by its commits.

        A branch goes on, and the same commits are to be found again.
        """
        commits = [patch.commit for patch in self.series.patches if patch.commit]
        return replace(
            self,
            names=",".join(_absolute_kernel(word) for word in split_list("kernel", self.names)),
            source=absolute(self.source),
            patches=tuple(map(absolute, self.patches)),
            configs=tuple(map(absolute, self.configs)),
            range=f"{self.series.base}..{commits[-1]}" if commits else "",
            modules=tuple(absolute(w) if _names_a_path(w) else w for w in self.modules),
        )

    @property
    def files(self) -> list[Path]:
        """The files that the options name."""
        return [*self.series.files, *map(Path, self.configs), *self._module_files]

    @property
    def _module_files(self) -> list[Path]:
        from linklab.trials.subjects import module_files

        return module_files(self.modules)

    def content(self) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of every file that the user gave."""
        from linklab.host.cache import hash_file

        return {
            option: {str(file): hash_file(Path(file)) for file in files}
            for option, files in (
                ("patches", self.series.files),
                ("configs", self.configs),
                ("modules", self._module_files),
            )
        }

    @property
    def is_stock(self) -> bool:
        """Whether the flavours are built as they come."""
        return not any(getattr(self, each.name) for each in fields(self) if each.name != "names")


def split_host(word: str) -> tuple[str, str]:
    """Return the host that a word is for, if it is for one, and the rest: of `a=WORD`."""
    found = _FOR_A_HOST.fullmatch(word)
    return (found[1] or "", found[2]) if found else ("", word)


def _absolute_kernel(typed: str) -> str:
    from linklab.kernel.debkernel import PREFIX, is_package

    host, word = split_host(typed)
    if host:
        return f"{host}={_absolute_kernel(word)}"
    if is_package(word):
        package = word.removeprefix(PREFIX)
        return PREFIX + absolute(package) if _names_a_path(package) else word
    return word if word in flavours() else absolute(word)


def _names_a_path(word: str) -> bool:
    return "/" in word or Path(word).exists()


# Kernels as they are tested


def tell_notes(options: KernelOptions, listener: Listener) -> None:
    """Say what a person should know of how the patches were picked."""
    for note in options.series.notes:
        listener(Note(note))


def prepare_subjects(
    options: KernelOptions, wanted: Requirements, cache: Cache, listener: Listener
) -> list[Subject]:
    """Return the kernels to test, building what is missing.

    The ISO is made where it is booted, and, where its size is wanted, of the
    flavours that are timed, as they come.
    """
    from linklab.image.iso import IMAGE
    from linklab.kernel.kernel import resolve_kernel
    from linklab.machine.spec import Boot
    from linklab.trials.subjects import with_image

    tell_notes(options, listener)
    names = split_list("kernel", options.names)
    for name in names:
        if name in flavours() and not is_timed(name):
            listener(Note(f"{name} finds bugs and is slow: its times compare with nothing"))
    kernels = [resolve_kernel(*build, cache, listener) for build in options.builds()]
    found = []
    for kernel in kernels:
        subject = with_image(kernel, wanted, options.modules, cache, listener)
        is_weighed = wanted.weighs_iso and options.is_stock
        if wanted.boot is Boot.ISO or (
            is_weighed and kernel.built_by_lab and is_timed(kernel.name)
        ):
            iso = iso_of([kernel], options, cache, listener, wanted)
            # The paper's claim is about the lab's own image.
            size = iso.file(IMAGE).stat().st_size if kernel.built_by_lab else None
            subject = replace(subject, iso=iso.cached(IMAGE), image_bytes=size)
        found.append(subject)
    return found


def iso_of(
    kernels: Sequence[Kernel],
    options: KernelOptions,
    cache: Cache,
    listener: Listener,
    wanted: Requirements | None = None,
) -> Artefact:
    """Return the live ISO of some kernels, the lab's own in their smallest form.

    It is for a person at its shell, unless other things are `wanted` of it.
    """
    from linklab.image.initramfs import MODULES, build_initramfs
    from linklab.image.iso import IsoKernel, build_iso
    from linklab.kernel.kernel import Compression, resolve_kernel
    from linklab.kernel.requirements import SHELL
    from linklab.lab.lab import file_label
    from linklab.machine.spec import Boot
    from linklab.trials.subjects import Requirements, guest_image

    wanted = wanted or Requirements(Boot.ISO, (SHELL,))
    offered = []
    for kernel in kernels:
        small = kernel
        if kernel.built_by_lab:  # a direct boot wants speed instead
            build = replace(options.build_options(kernel.name), compression=Compression.XZ)
            small = resolve_kernel(kernel.name, build, cache, listener)
        image = guest_image(kernel, wanted, options.modules, cache, listener)
        modules = image.file(MODULES) if image else None
        offered.append(IsoKernel(file_label(kernel.name), small.bzimage, small.release, modules))
    image = build_initramfs(cache, listener, image=wanted.image, more=wanted.more)
    return build_iso(offered, image, cache, listener)


# Two kernels beside each other


@dataclass(frozen=True)
class KernelSide:
    """A kernel of a comparison: what it is called there, and what it is built from."""

    label: str
    options: KernelOptions


def is_kernel(word: str) -> bool:
    """Whether a word can only be meant for a kernel, and not for a stored run."""
    if word in flavours():
        return True
    found = _WORD.fullmatch(word)
    kernel = found["kernel"] if found else word
    return kernel in flavours() or (found is not None and not kernel and bool(word))


def kernel_sides(options: KernelOptions) -> list[KernelSide]:
    """Return the kernels of a list in which one may have a source and patches of its own.

    Then each has a label; one that is no more than `+fix.patch` is the first with that.
    Nothing is built. Raises `UsageError`.
    """
    words = split_list("kernel", options.names)
    if not any(_has_its_own(word) for word in words):
        return [KernelSide("", options)]
    sides: list[KernelSide] = []
    for word in words:
        first = sides[0] if sides and word.startswith(("+", "@")) else None
        sides.append(_side(word, options, first))
    labels = [side.label for side in sides]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UsageError(f"--kernel {options.names}: two of them would be called {twice[0]}")
    return sides


def _has_its_own(word: str) -> bool:
    from linklab.kernel.debkernel import is_package

    return ("+" in word or "@" in word) and not is_package(word) and not Path(word).exists()


def kernel_pair(a: str, b: str, common: KernelOptions) -> tuple[KernelSide, KernelSide]:
    """Return both kernels of a comparison, checked; nothing is built.

    The `source` and the `configs` of `common` are for both, its `patches` and
    its `range` for the second alone: the first is what they stand on. Raises
    `UsageError` for a word that is no kernel, and for options that are wrong.
    """
    first = _side(a, replace(common, patches=(), range=""), None)
    second = _side(b, common, first)
    if common.range:
        base = second.options.series.base
        options = replace(first.options, revision=first.options.revision or base)
        first = KernelSide(first.label, options)
    return _checked(first, second)


def pair_against(a: KernelOptions, b: str) -> tuple[KernelSide, KernelSide]:
    """Return a kernel and the one that a word names beside it, checked; nothing is built.

    The patches and the range of `a` are the first one's, and the second one's
    where its word leaves kernel and source out. Raises what `kernel_pair` does.
    """
    first = _side(a.names, a, None)
    return _checked(first, _side(b, replace(a, patches=(), range=""), first))


def _checked(first: KernelSide, second: KernelSide) -> tuple[KernelSide, KernelSide]:
    """Return both, with two names and one kernel each. Raises `UsageError`."""
    if first.label == second.label:
        second = KernelSide(f"{second.label}#2", second.options)
    for side in (first, second):
        if len(side.options.check()) != 1:
            raise UsageError(f"{side.options.names}: exactly one kernel is expected")
    return first, second


def _side(word: str, common: KernelOptions, base: KernelSide | None) -> KernelSide:
    if word and Path(word).exists() and word not in flavours():
        return KernelSide(_short(word), _as_it_is(word, common))
    found = _WORD.fullmatch(word)
    if found is None or not word:
        raise UsageError(f"{word!r} is no kernel: expected {GRAMMAR}")
    kernel = found["kernel"] or (base.options.names if base else "")
    if not kernel:
        raise UsageError(f"{word} names no kernel: the first one of two must, as {GRAMMAR}")
    options = _sourced(replace(common, names=kernel), found["source"], base)
    patches = (*filter(None, found["patches"].split("+")), *common.patches)
    if base and not found["kernel"] and not found["source"]:
        patches = (*base.options.patches, *patches)
        options = replace(options, range=options.range or base.options.range)
    options = replace(options, patches=patches)
    return KernelSide(_label(kernel, found["source"], options), options)


def _sourced(options: KernelOptions, word: str | None, base: KernelSide | None) -> KernelOptions:
    """Return the options with the source that a word names: a path, or else a commit."""
    if word is None:
        if base is not None and not options.range and options.names in flavours():
            first = base.options
            return replace(options, source=first.source, revision=first.revision)
        return options
    if Path(word).expanduser().exists():
        return replace(options, source=word)
    if not options.source:
        raise UsageError(f"@{word}: there is no such source; a commit needs its tree as --source")
    return replace(options, revision=word)


def _as_it_is(word: str, common: KernelOptions) -> KernelOptions:
    """Return the options of a kernel that is not built: those for building are for the other."""
    patched = bool(common.patches or common.range)
    return replace(common, names=word) if patched else KernelOptions(word, modules=common.modules)


def _label(kernel: str, source: str | None, options: KernelOptions) -> str:
    at = "" if source is None else f"@{_short(source)}"
    commits = f"+{options.range}" if options.range else ""
    patches = "".join(f"+{Path(patch).name}" for patch in options.patches)
    if len(options.patches) > _MOST_IN_LABEL:
        patches = f"+{len(options.patches)} patches"
    return f"{_short(kernel)}{at}{commits}{patches}"


def _short(word: str) -> str:
    """Return a flavour or a commit as it is, of a path its end: a folder says little alone."""
    path = Path(word).expanduser()
    if word in flavours() or not path.exists():
        return word
    return path.resolve().name
