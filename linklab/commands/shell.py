"""`invoke shell`: a person's shell in a guest."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

from linklab.commands.guests import visit_guest
from linklab.commands.kernels import ONE_KERNEL, KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import LabError, UsageError
from linklab.host.cache import Cache
from linklab.host.run import start
from linklab.kernel.requirements import SHELL
from linklab.lab.lab import SHELL_MIB, Lab, Subject, choose_memory
from linklab.machine.commandline import DISTRIBUTION, shell_command_line
from linklab.machine.spec import DirectBoot, MachineSpec, TerminalPort, qemu_argv
from linklab.options import group, option
from linklab.report.progress import progress
from linklab.trials.subjects import Requirements


@dataclass(frozen=True)
class ShellOptions:
    """The options of `invoke shell`, as typed."""

    kernels: KernelOptions = group(KernelOptions, {"names": ONE_KERNEL}, names="sysfs")
    machine: MachineOptions = group(
        MachineOptions, without=("boot_timeout", "noise", "clock"), clock="real"
    )
    guest: str = option("", "a guest that runs: `last`, its name, or a part of its run's folder")


def main(options: ShellOptions) -> None:
    """Boot one guest with its console on this terminal; return when it ends.

    With `guest`, visit one that runs instead; return when the person leaves.
    """
    if options.guest:
        visit_guest(options.guest)
        return
    kernels, machine = options.kernels, options.machine
    kernels.check_one("a shell needs exactly one kernel")
    machine.check()
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal on standard input")
    memory = choose_memory(machine.checked_memory(), kernels.memory(SHELL_MIB), "a shell")
    with progress() as listener:
        cache = Cache()
        lab = set_up_lab(machine, memory, cache, listener)
        wanted = Requirements(lab.boot, (SHELL,), lab.machine)
        (subject,) = prepare_subjects(kernels, wanted, cache, listener)
    print("leave with `poweroff`, or end the machine with Ctrl-A x", file=sys.stderr)
    _attend(qemu_argv(lab.qemu.path, shell_spec(lab, subject)))


def shell_spec(lab: Lab, subject: Subject) -> MachineSpec:
    """Return the machine for a person: its console on the terminal, no agent."""
    spec = lab.spec_for(subject)
    boot = spec.boot
    if isinstance(boot, DirectBoot):
        spared = () if subject.known else DISTRIBUTION
        boot = replace(boot, command_line=(*shell_command_line(lab.tsc_khz), *spared))
    return replace(spec, boot=boot, console=TerminalPort())


def _attend(argv: tuple[str, ...]) -> None:
    process: subprocess.Popen[bytes] = start(argv, stdin=None, stdout=None, stderr=None)
    try:
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if status:
        raise LabError(f"QEMU ended with status {status}")
