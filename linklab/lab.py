"""The lab as set up for one run: what boots, on what machine, under which accelerator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linklab.errors import LabError, UsageError
from linklab.host.accel import Accel
from linklab.host.qemu import Qemu
from linklab.machine.commandline import measuring_command_line
from linklab.machine.spec import Boot, DirectBoot, IsoBoot, MachineSpec, MachineType, qemu_argv
from linklab.session import Session, open_session

_MEMORY_STEP = 64
_LABEL_ROOM = 100  # file systems take names of 255 bytes
MINIMUM_MEMORY = 256
MEMORY_LIMITS = (64, 1 << 20)
CPU_LIMITS = (1, 64)  # the lab's kernels have CONFIG_NR_CPUS=64


def file_label(name: str) -> str:
    """Return a kernel's name, which may be a long path, as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_LABEL_ROOM:].strip("_") or "kernel"


@dataclass(frozen=True)
class Subject:
    """A kernel under test, with the files that boot it.

    `kernel` is what QEMU loads: a vmlinux with a PVH entry, or a bzImage.
    `known` says that the lab configured it, so it has what `microvm` needs.
    """

    name: str
    release: str
    sha256: str
    kernel: Path
    known: bool
    iso: Path | None = None
    image_bytes: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name as part of a file's name."""
        return file_label(self.name)


@dataclass(frozen=True)
class Lab:
    """Everything about a run's machines but the kernel. `memory` is in MiB."""

    qemu: Qemu
    accel: Accel
    boot: Boot
    machine: MachineType | None
    cpus: int
    memory: int
    initramfs: Path
    tsc_khz: int | None
    boot_limit: float
    image: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of its parts

    def machine_for(self, subject: Subject) -> MachineType:
        """Return the machine type that boots a kernel fastest, or the one asked for."""
        if self.boot is Boot.ISO:
            return MachineType.PC
        if self.machine is not None:
            return self.machine
        return MachineType.MICROVM if subject.known else MachineType.PC

    def spec_for(self, subject: Subject) -> MachineSpec:
        """Return the machine that a kernel is measured on."""
        machine = self.machine_for(subject)
        if self.boot is Boot.ISO:
            if subject.iso is None:
                raise LabError(f"there is no ISO of kernel {subject.name}")
            boot: DirectBoot | IsoBoot = IsoBoot(subject.iso)
        else:
            device = MachineSpec(DirectBoot(Path(), Path()), self.accel, machine).agent_device
            words = measuring_command_line(device, self.tsc_khz)
            boot = DirectBoot(subject.kernel, self.initramfs, words)
        return MachineSpec(boot, self.accel, machine, self.cpus, self.memory)

    def argv_for(self, subject: Subject) -> tuple[str, ...]:
        """Return QEMU's command line for a kernel, without its ports."""
        return qemu_argv(self.qemu.path, self.spec_for(subject))

    @contextmanager
    def session(self, subject: Subject, console_log: Path) -> Iterator[Session]:
        """Boot a guest with a kernel; see `open_session`."""
        spec = self.spec_for(subject)
        with open_session(self.qemu.path, spec, console_log, self.boot_limit) as session:
            yield session


def choose_memory(asked: int | None, needed: int, what: str) -> int:
    """Return the guest's memory in MiB: what was asked for, or what is needed.

    Raises `UsageError` when what was asked for is too little, or when this
    host does not have it.
    """
    if asked is not None and asked < needed:
        raise UsageError(f"{what} need {needed} MiB of guest memory, --memory gives {asked}")
    memory = asked or max(MINIMUM_MEMORY, -(-needed // _MEMORY_STEP) * _MEMORY_STEP)
    available = host_memory_available()
    if available is not None and memory > available:
        wish = f"{what} need a guest of {memory} MiB," if asked is None else f"--memory {asked}:"
        raise UsageError(f"{wish} this host has {available} MiB available")
    return memory


def host_memory_available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the MiB that the host could give to a guest, or None where it does not say."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else None
