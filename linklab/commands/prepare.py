"""What every command that boots guests needs: the lab's parts, found and built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from linklab.commands.equip import Purpose, image_for, module_files, module_words
from linklab.console.report import NO_NOISE, Noise, read_noise
from linklab.errors import UsageError
from linklab.events import Listener, Note
from linklab.host.accel import ORDINARY_SPEED, Accel, counting_speed, decide
from linklab.host.cache import Artefact, Cache, hash_file
from linklab.host.cpus import VIRTUAL_TSC_KHZ, tsc_khz
from linklab.host.qemu import find_qemu
from linklab.image.initramfs import ARCHIVE, MODULES, build_initramfs
from linklab.image.iso import IMAGE, IsoKernel, build_iso
from linklab.image.programs import PROGRAM as AGENT_PROGRAM
from linklab.image.programs import build_agent
from linklab.image.userland import LIVE, Entry
from linklab.kernel.kconfig import flavours, is_timed, named_fragments
from linklab.kernel.kernel import (
    BuildOptions,
    Compression,
    Kernel,
    check_kernel,
    resolve_kernel,
)
from linklab.kernel.requirements import SHELL, Footprint, footprint_for
from linklab.kernel.series import Series, range_series, read_series
from linklab.lab.lab import CPU_LIMITS, MEMORY_LIMITS, Lab, Subject, file_label
from linklab.machine.spec import Boot, Clock, MachineType
from linklab.options import check_file, choose, number, option, seconds, split_list
from linklab.paths import IMAGES
from linklab.scenarios.scenario import Scenario

_KNOWN_NOISE = IMAGES / "noise.txt"
_BOOT_LIMIT = {Accel.KVM: 30.0, Accel.TCG: 60.0}  # s; for deadlines only


NO_ISO = {"boot": "direct (kernel and initramfs) or resume (from a saved guest)"}
"""The help on --boot where an ISO is refused."""
_A_PERSON = Purpose(Boot.ISO, (SHELL,))  # what a live ISO is for, unless it is measured


@dataclass(frozen=True)
class KernelOptions:
    """The options that say which kernels, as typed; `optional` as in `BuildOptions`.

    `configs` may name fragments of the lab's own; they become paths at once.
    """

    names: str = option(
        "sysfs,nosysfs",
        "kernels, comma-separated: flavours (sysfs, nosysfs, debug, debug-nosysfs), "
        "debian (this Debian's own, fetched), deb:PACKAGE, bzImages or built kernel trees",
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
        commits = range_series(Path(self.source), self.range) if self.range else Series()
        return commits + read_series(Path(patch) for patch in self.patches)

    def with_scenario(self, kind: type[Scenario]) -> KernelOptions:
        """Return the same kernels with what a scenario needs of them."""
        return replace(self, needed=(str(kind.fragment),)) if kind.fragment else self

    def build_options(self, name: str = "") -> BuildOptions:
        """Return how a kernel is to be built, a flavour unless its name says otherwise.

        Raises what `series` does.
        """
        needed = self.needed if not name or name in flavours() else ()
        return BuildOptions(
            source=Path(self.source) if self.source else None,
            patches=self.series.patches,
            configs=tuple(Path(config) for config in (*needed, *self.configs)),
            revision=self.revision or self.series.base,
            optional=tuple(Path(fragment) for fragment in self.optional),
            modular=bool(module_words(self.modules).folders),
        )

    def check(self) -> list[str]:
        """Return the kernels' names; raise `UsageError` for what is wrong with them."""
        names = split_list("kernel", self.names)
        for name in names:
            check_kernel(name, self.build_options(name))
        return names

    def memory(self, work: int) -> int:
        """Return the MiB of guest memory for work that needs so many on a plain kernel."""
        return max(footprint.needed(work) for footprint in self._footprints())

    def memory_left(self, memory: int) -> int:
        """Return the MiB for the work, as a plain kernel counts, of so much guest memory."""
        return min(footprint.left(memory) for footprint in self._footprints())

    def _footprints(self) -> list[Footprint]:
        names = split_list("kernel", self.names)
        return [footprint_for(name, self.build_options(name)) for name in names]

    def content(self) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of every file that the user gave."""
        return {
            option: {str(file): hash_file(Path(file)) for file in files}
            for option, files in (
                ("patches", self.series.files),
                ("configs", self.configs),
                ("modules", module_files(self.modules)),
            )
        }

    @property
    def is_stock(self) -> bool:
        """Whether the flavours are built as they come."""
        return not (
            self.source
            or self.patches
            or self.configs
            or self.range
            or self.optional
            or self.needed
            or self.revision
            or self.modules
        )


@dataclass(frozen=True)
class MachineOptions:
    """The options that say what machine, as typed."""

    accel: str = option(
        "auto", "auto (KVM if it really runs a guest, else TCG), kvm or tcg", values=Accel
    )
    boot: str = option(
        "direct",
        "direct (kernel and initramfs), iso (through isolinux), or resume (from a saved guest)",
        values=Boot,
    )
    machine: str = option(
        "auto",
        "auto (the fastest that the kernel boots on), pc or microvm",
        values=("auto", *MachineType),
    )
    memory: str = option(
        "", "the guest's memory in MiB; default: what the work needs, at least 256"
    )
    cpus: str = option("1", "the guest's CPUs")
    boot_timeout: str = option(
        "0", "seconds until the agent must have said hello; default: by accelerator"
    )
    noise: str = option(
        "", "a file of titles of reports that do not count, a regular expression a line"
    )
    clock: str = option(
        "auto",
        "what the guest's seconds are: real, virtual (1 ns for each instruction that it "
        "executes, the same on every host), or auto (real under KVM, else virtual)",
        values=Clock,
    )

    def checked_cpus(self) -> int:
        """Return the number of guest CPUs."""
        return number("cpus", self.cpus, *CPU_LIMITS)

    def checked_memory(self) -> int | None:
        """Return the guest's memory in MiB, or None where none was asked for."""
        return number("memory", self.memory, *MEMORY_LIMITS) if self.memory else None

    def checked_machine(self) -> MachineType | None:
        """Return the machine type, or None for the fastest one."""
        if self.machine == "auto":
            return None
        return choose("machine", self.machine, MachineType)

    def check(self) -> None:
        """Raise `UsageError` for any option that is wrong by itself."""
        accel = choose("accel", self.accel, Accel)
        boot = choose("boot", self.boot, Boot)
        machine = self.checked_machine()
        _check_clock(choose("clock", self.clock, Clock), accel, boot)
        if boot is Boot.ISO and machine is MachineType.MICROVM:
            raise UsageError("--machine microvm has no BIOS that boots an ISO: use pc or auto")
        self.checked_cpus()
        self.checked_memory()
        seconds("boot-timeout", self.boot_timeout)
        self.known_noise()

    def known_noise(self) -> Noise:
        """Return the reports that do not count: those that the lab knows, and the user's."""
        return _noise_in(_KNOWN_NOISE) + (_noise_in(Path(self.noise)) if self.noise else NO_NOISE)


def _check_clock(clock: Clock, accel: Accel, boot: Boot) -> None:
    if clock is not Clock.VIRTUAL:
        return
    if accel is Accel.KVM:
        raise UsageError(
            "--clock virtual: under KVM the host's CPU runs the guest, and nobody counts its "
            "instructions: use --accel tcg, or --clock real"
        )
    if boot is Boot.ISO:
        raise UsageError(
            "--clock virtual: an ISO brings its own kernel command line, which would have to name "
            "the clock's frequency: use --boot direct or resume, or --clock real"
        )


def decide_clock(options: MachineOptions, listener: Listener) -> Clock:
    """Return what the guests' seconds are (never `AUTO`): virtual where nothing is real.

    Finds out for that whether KVM runs a guest here; the answer is remembered,
    so the lab gets the same. The options must have been checked.
    """
    clock = choose("clock", options.clock, Clock)
    if clock is not Clock.AUTO:
        return clock
    if choose("boot", options.boot, Boot) is Boot.ISO:
        return Clock.REAL
    accel = choose("accel", options.accel, Accel)
    found = decide(accel, find_qemu().path, listener).accel
    return Clock.REAL if found is Accel.KVM else Clock.VIRTUAL


def _noise_in(path: Path) -> Noise:
    check_file("--noise", path)
    try:
        return read_noise(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"--noise {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--noise {path} is no text: {error}") from error


def prepare_lab(
    options: MachineOptions,
    memory: int,
    cache: Cache,
    listener: Listener,
    image: Path = LIVE,
    more: Sequence[Entry] = (),
) -> Lab:
    """Return the lab for these options, its initramfs built and its accelerator decided.

    `more` are entries of the image beyond its manifest.
    """
    accel = choose("accel", options.accel, Accel)
    boot = choose("boot", options.boot, Boot)
    machine = options.checked_machine()
    limit = seconds("boot-timeout", options.boot_timeout)
    qemu = find_qemu(cache.root)
    clock = decide_clock(options, listener)
    # Virtual time is TCG's: what `auto` would find is of no use there.
    decision = decide(Accel.TCG if clock is Clock.VIRTUAL else accel, qemu.path, listener)
    agent = build_agent(cache, listener)
    counter = None
    if clock is Clock.VIRTUAL:
        counter = VIRTUAL_TSC_KHZ
    elif decision.accel is Accel.TCG:
        counter = tsc_khz(agent.file(AGENT_PROGRAM), cache.root)
    initramfs = build_initramfs(cache, listener, image=image, more=more)
    slowness = 1.0
    if clock is Clock.VIRTUAL:
        slowness = max(1.0, ORDINARY_SPEED / counting_speed(qemu.path, cache.root))
    return Lab(
        qemu=qemu,
        accel=decision.accel,
        boot=boot,
        machine=machine,
        cpus=options.checked_cpus(),
        memory=memory,
        initramfs=initramfs.file(ARCHIVE),
        tsc_khz=counter,
        clock=clock,
        boot_limit=limit or slowness * _BOOT_LIMIT[decision.accel],
        slowness=slowness,
        image={**agent.hashes, **initramfs.hashes},
        noise=options.known_noise(),
    )


def tell_notes(options: KernelOptions, listener: Listener) -> None:
    """Say what a person should know of how the patches were picked."""
    for note in options.series.notes:
        listener(Note(note))


def prepare_subjects(
    options: KernelOptions, purpose: Purpose, cache: Cache, listener: Listener
) -> list[Subject]:
    """Return the kernels to test, building what is missing.

    The ISO is made where it is booted, and, where its size is wanted, of the
    flavours that are timed, as they come.
    """
    tell_notes(options, listener)
    names = split_list("kernel", options.names)
    for name in names:
        if name in flavours() and not is_timed(name):
            listener(Note(f"{name} finds bugs and is slow: its times compare with nothing"))
    kernels = [resolve_kernel(n, options.build_options(n), cache, listener) for n in names]
    return [_subject(kernel, options, purpose, cache, listener) for kernel in kernels]


def _subject(
    kernel: Kernel, options: KernelOptions, purpose: Purpose, cache: Cache, listener: Listener
) -> Subject:
    iso = None
    image = image_for(kernel, purpose, options.modules, cache, listener)
    weighed = purpose.weighs_iso and options.is_stock and _is_timed(kernel)
    if purpose.boot is Boot.ISO or weighed:
        iso = iso_of([kernel], options, cache, listener, purpose)
    return subject_of(kernel, iso, image)


def _is_timed(kernel: Kernel) -> bool:
    return kernel.built_by_lab and is_timed(kernel.name)


def subject_of(
    kernel: Kernel, iso: Artefact | None = None, image: Artefact | None = None
) -> Subject:
    """Return a kernel as what is tested, with its ISO and its own image where it has them."""
    return Subject(
        name=kernel.name,
        release=kernel.release,
        sha256=kernel.sha256,
        kernel=kernel.vmlinux or kernel.bzimage,
        known=kernel.built_by_lab,
        iso=iso.file(IMAGE) if iso else None,
        # The paper's claim is about the lab's own image.
        image_bytes=iso.file(IMAGE).stat().st_size if iso and kernel.built_by_lab else None,
        inputs=kernel.inputs,
        symbols=kernel.symbols,
        initramfs=image.file(ARCHIVE) if image else None,
        modules=image.about["modules"] if image else {},
    )


def iso_of(
    kernels: Sequence[Kernel],
    options: KernelOptions,
    cache: Cache,
    listener: Listener,
    purpose: Purpose = _A_PERSON,
) -> Artefact:
    """Return the live ISO of some kernels, the lab's own in their smallest form."""
    offered = []
    for kernel in kernels:
        small = _smallest(kernel, options, cache, listener)
        image = image_for(kernel, purpose, options.modules, cache, listener)
        modules = image.file(MODULES) if image else None
        offered.append(IsoKernel(file_label(kernel.name), small.bzimage, small.release, modules))
    image = build_initramfs(cache, listener, image=purpose.image, more=purpose.more)
    return build_iso(offered, image, cache, listener)


def _smallest(kernel: Kernel, options: KernelOptions, cache: Cache, listener: Listener) -> Kernel:
    """Return the same kernel compressed for size: a direct boot wants speed instead."""
    if not kernel.built_by_lab:
        return kernel
    build = replace(options.build_options(kernel.name), compression=Compression.ZSTD)
    return resolve_kernel(kernel.name, build, cache, listener)
