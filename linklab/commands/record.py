"""What `invoke run --record` wants: a guest that can be recorded, and symbols to look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from linklab.commands.gdb import check_information, no_information
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.errors import UsageError
from linklab.host.accel import Accel
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import KernelSpec
from linklab.lab.lab import Subject
from linklab.machine.spec import Boot, Clock, MachineType


def check_record(
    kernels: KernelOptions, machine: MachineOptions, jobs: int, *, keeps: bool
) -> None:
    """Raise `UsageError` where QEMU cannot record, or nobody could read the recording."""
    for reason, refused in {
        f"--accel {machine.accel}: only TCG counts instructions": machine.accel == Accel.KVM,
        f"--clock {machine.clock}: a recorded guest has a clock of its own": machine.clock
        == Clock.VIRTUAL,
        f"--boot {machine.boot}: only a direct boot is recorded": machine.boot != Boot.DIRECT,
        "--machine microvm: QEMU cannot go back with a virtio port": machine.machine
        == MachineType.MICROVM,
        f"--cpus {machine.cpus}: QEMU records one CPU": machine.checked_cpus() > 1,
        f"--jobs {jobs}: guests are recorded one at a time": jobs > 1,
        "--keep: a guest that is kept is never at its end": keeps,
    }.items():
        if refused:
            raise UsageError(f"--record does not go with {reason}")
    for name in kernels.check():
        if name in flavours():
            check_information(KernelSpec(name, kernels.build_options()))


def check_symbols(subjects: Sequence[Subject]) -> None:
    """Raise `UsageError` for a kernel, built by whomever, that gdb could not read."""
    for subject in subjects:
        if subject.symbols is None:
            raise no_information(subject.name)


def recordable(machine: MachineOptions) -> MachineOptions:
    """Return the options with what is left to the lab decided: TCG records, KVM does not."""
    return replace(machine, accel=Accel.TCG.value, clock=Clock.REAL.value)
