"""What machines guests run on: the options that say so, and the lab that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from linklab.errors import UsageError
from linklab.events import Listener
from linklab.options import absolute, check_file, choose, number, option, seconds
from linklab.paths import IMAGES, LIVE

if TYPE_CHECKING:  # `invoke run --help` imports this module: the work imports what it needs
    from linklab.console.report import Noise
    from linklab.host.accel import Accel
    from linklab.host.cache import Cache
    from linklab.image.userland import Entry
    from linklab.lab.lab import Lab
    from linklab.machine.spec import Boot, Clock, MachineType

_KNOWN_NOISE = IMAGES / "noise.txt"
_BOOT_LIMIT = {"kvm": 30.0, "tcg": 60.0}  # s; for deadlines only


def _accels() -> Iterable[str]:
    from linklab.host.accel import Accel

    return Accel


def _boots() -> Iterable[str]:
    from linklab.machine.spec import Boot

    return Boot


def _machines() -> Iterable[str]:
    from linklab.machine.spec import MachineType

    return ("auto", *MachineType)


def _clocks() -> Iterable[str]:
    from linklab.machine.spec import Clock

    return Clock


@dataclass(frozen=True)
class MachineOptions:
    """The options that say what machine, as typed."""

    accel: str = option(
        "auto",
        "auto (KVM if it really runs a guest, else TCG), kvm, tcg, or kvm! (KVM, untried)",
        values=_accels,
    )
    boot: str = option(
        "direct",
        "direct (kernel and initramfs), resume (from a saved guest), or, of run, compare and "
        "shell alone, iso (through isolinux)",
        values=_boots,
    )
    machine: str = option(
        "auto",
        "auto (the fastest that the kernel boots on), pc or microvm",
        values=_machines,
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
        values=_clocks,
    )

    def checked_cpus(self) -> int:
        """Return the number of guest CPUs."""
        from linklab.lab.lab import CPU_LIMITS

        return number("cpus", self.cpus, *CPU_LIMITS)

    def checked_memory(self) -> int | None:
        """Return the guest's memory in MiB, or None where none was asked for."""
        from linklab.lab.lab import MEMORY_LIMITS

        return number("memory", self.memory, *MEMORY_LIMITS) if self.memory else None

    def checked_machine(self) -> MachineType | None:
        """Return the machine type, or None for the fastest one."""
        from linklab.machine.spec import MachineType

        return None if self.machine == "auto" else choose("machine", self.machine, MachineType)

    def check(self, no_iso: str = "") -> None:
        """Raise `UsageError` for any option that is wrong by itself.

        `no_iso` says why the command boots no ISO, where it does not.
        """
        from linklab.host.accel import Accel
        from linklab.machine.spec import Boot, Clock, MachineType

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
        if no_iso and boot is Boot.ISO:
            raise UsageError(f"--boot iso: {no_iso}")

    def absolute(self) -> MachineOptions:
        """Return the options with every path absolute."""
        return replace(self, noise=absolute(self.noise))

    @property
    def files(self) -> list[Path]:
        """The files that the options name."""
        return [Path(self.noise)] if self.noise else []

    def known_noise(self) -> Noise:
        """Return the reports that do not count: those that the lab knows, and the user's."""
        known = _noise_in(_KNOWN_NOISE)
        return known + _noise_in(Path(self.noise)) if self.noise else known


def _check_clock(clock: Clock, accel: Accel, boot: Boot) -> None:
    from linklab.machine.spec import Boot, Clock

    if clock is not Clock.VIRTUAL:
        return
    if accel.is_kvm:
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
    from linklab.host.accel import Accel, decide
    from linklab.host.qemu import find_qemu
    from linklab.machine.spec import Boot, Clock

    clock = choose("clock", options.clock, Clock)
    if clock is not Clock.AUTO:
        return clock
    if choose("boot", options.boot, Boot) is Boot.ISO:
        return Clock.REAL
    accel = choose("accel", options.accel, Accel)
    found = decide(accel, find_qemu().path, listener).accel
    return Clock.REAL if found is Accel.KVM else Clock.VIRTUAL


def _noise_in(path: Path) -> Noise:
    from linklab.console.report import read_noise

    check_file("--noise", path)
    try:
        return read_noise(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"--noise {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--noise {path} is no text: {error}") from error


def set_up_lab(
    options: MachineOptions,
    memory: int,
    cache: Cache,
    listener: Listener,
    image: Path = LIVE,
    more: Sequence[Entry] = (),
) -> Lab:
    """Return the lab for these options, its initramfs built and its accelerator decided.

    `memory` is in MiB; `more` are entries of the image beyond its manifest.
    """
    from linklab.host.accel import ORDINARY_SPEED, Accel, decide, speed
    from linklab.host.cpus import VIRTUAL_TSC_KHZ, tsc_khz
    from linklab.host.qemu import find_qemu
    from linklab.image.initramfs import ARCHIVE, build_initramfs
    from linklab.image.programs import PROGRAM, build_agent
    from linklab.lab.lab import Lab
    from linklab.machine.spec import Boot, Clock

    accel = choose("accel", options.accel, Accel)
    limit = seconds("boot-timeout", options.boot_timeout)
    qemu = find_qemu(cache.root)
    clock = decide_clock(options, listener)
    # Virtual time is TCG's: what `auto` would find is of no use there.
    decision = decide(Accel.TCG if clock is Clock.VIRTUAL else accel, qemu.path, listener)
    agent = build_agent(cache, listener)
    counter = None
    slowness = 1.0
    if clock is Clock.VIRTUAL or decision.accel is Accel.KVM:
        slowness = max(1.0, ORDINARY_SPEED / speed(qemu.path, decision.accel, cache.root))
    if clock is Clock.VIRTUAL:
        counter = VIRTUAL_TSC_KHZ
    elif decision.accel is Accel.TCG:
        counter = tsc_khz(agent.file(PROGRAM), cache.root)
    initramfs = build_initramfs(cache, listener, image=image, more=more)
    return Lab(
        qemu=qemu,
        accel=decision.accel,
        boot=choose("boot", options.boot, Boot),
        machine=options.checked_machine(),
        cpus=options.checked_cpus(),
        memory=memory,
        initramfs=initramfs.cached(ARCHIVE),
        tsc_khz=counter,
        clock=clock,
        boot_limit=limit or slowness * _BOOT_LIMIT[decision.accel],
        slowness=slowness,
        image={**agent.hashes, **initramfs.hashes},
        noise=options.known_noise(),
    )
