"""`invoke gdb`: a guest that waits, and gdb on it, with symbols; and what `--record` needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.commands.kernels import ONE_KERNEL, KernelOptions
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import UsageError
from linklab.events import Listener
from linklab.host.accel import Accel
from linklab.host.cache import Cache
from linklab.host.packages import DEBUGGING, require
from linklab.host.qemu import find_qemu
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import Kernel, KernelSpec, resolve_kernel, sources_of, wishes_of
from linklab.lab.debugger import Debugging, debug
from linklab.lab.lab import SHELL_MIB, Lab, Subject, choose_memory
from linklab.lab.recording import find_recording, read_recording
from linklab.machine.commandline import debugging_command_line
from linklab.machine.spec import Boot, Clock, DirectBoot, MachineSpec, MachineType
from linklab.options import LOG, flat, group, option, past_runs, seconds
from linklab.paths import IMAGES
from linklab.report.progress import progress
from linklab.results.history import find
from linklab.trials.subjects import subject_of

_OF_A_REPLAY = {"replay", "command", "timeout", "log"}
_LIMIT = 600.0  # s for a scripted session
_INFORMATION = "CONFIG_DEBUG_INFO_"
_FRAGMENT = IMAGES / "kernel" / "symbols.config"


@dataclass(frozen=True)
class GdbOptions:
    """The options of `invoke gdb`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions, {"names": ONE_KERNEL}, without=("modules",), names="debug"
    )
    machine: MachineOptions = group(
        MachineOptions, without=("boot", "boot_timeout", "noise", "clock"), clock="real"
    )
    commands: tuple[str, ...] = option(
        (), "what gdb is to do, instead of asking; may be repeated, in order", "command"
    )
    typed: tuple[str, ...] = option(
        (), "a line to type at the guest's shell when it is up; may be repeated, in order", "type"
    )
    timeout: str = option("0", "seconds after which a gdb with --command is ended; default 600")
    log: str = option("", LOG)
    replay: str = option(
        "",
        "a run's folder, part of its name, or `last`: what it recorded, once more",
        values=past_runs,
    )


def main(options: GdbOptions) -> None:
    """Start the guest and gdb on it; return when gdb has ended, and the guest with it."""
    name = check(options)
    if options.replay:
        _replay(options)
        return
    asked, needed = options.machine.checked_memory(), options.kernels.memory(SHELL_MIB)
    memory = choose_memory(asked, needed, "a shell")
    with progress() as listener:
        cache = Cache()
        lab = set_up_lab(options.machine, memory, cache, listener)
        kernel = resolve_kernel(name, options.kernels.build_options(), cache, listener)
        what = _debugging(options, kernel, cache, listener)
        spec = debugging_spec(lab, subject_of(kernel, cache, listener))
    debug(lab.qemu.path, spec, what, Path(options.log or os.devnull))


def _replay(options: GdbOptions) -> None:
    """Do what a run recorded once more, under gdb."""
    qemu = find_qemu(Cache().root)
    about = find_recording(find(options.replay))
    found = read_recording(about, qemu)
    if found.symbols is None:
        raise UsageError(f"{about}: the kernel that was recorded has no debug information")
    what = Debugging(found.symbols, None, options.commands, limit=_limit(options), replayed=True)
    debug(qemu.path, found.spec, what, Path(options.log or os.devnull))


def _limit(options: GdbOptions) -> float:
    return seconds("timeout", options.timeout) or _LIMIT


def _check_replay(options: GdbOptions) -> None:
    """Raise `UsageError` for an option that says what the recording holds."""
    given, usual = flat(options), flat(GdbOptions())
    for name in given:
        if name not in _OF_A_REPLAY and given[name] != usual[name]:
            raise UsageError(f"--{name} does not go with --replay: all of it is in the recording")


def check(options: GdbOptions) -> str:
    """Return the kernel's name; raise what stands against the options before anything starts."""
    name = options.kernels.check_one("gdb looks at exactly one kernel")
    options.machine.check()
    seconds("timeout", options.timeout)
    if not options.commands and not sys.stdin.isatty():
        raise UsageError("gdb needs a terminal on standard input, or --command to say what to do")
    require(DEBUGGING, "invoke gdb")
    if options.replay:
        _check_replay(options)
    if name in flavours() and not options.replay:
        check_information(KernelSpec(name, options.kernels.build_options()))
    return name


def check_information(spec: KernelSpec) -> None:
    """Refuse, before it is built, a kernel that would have nothing for gdb to go by."""
    wishes = wishes_of(spec).values()
    if not any(wish.option.startswith(_INFORMATION) and wish.value == "y" for wish in wishes):
        raise no_information(spec.flavour)


def no_information(name: str) -> UsageError:
    """Return what to say of a kernel that gdb has nothing to go by."""
    return UsageError(
        f"kernel {name} has no debug information: use --kernel debug, or add "
        f"--config {_FRAGMENT.stem} to one of the lab's, or build your own "
        "with CONFIG_DEBUG_INFO_DWARF5=y and give its tree"
    )


def _debugging(options: GdbOptions, kernel: Kernel, cache: Cache, listener: Listener) -> Debugging:
    if kernel.symbols is None:
        raise no_information(kernel.name)
    sources = None
    if kernel.built_by_lab:
        spec = KernelSpec(kernel.name, options.kernels.build_options())
        sources = sources_of(spec, cache, listener)
    return Debugging(kernel.symbols, sources, options.commands, options.typed, _limit(options))


def debugging_spec(lab: Lab, subject: Subject) -> MachineSpec:
    """Return the machine for gdb: a shell on its console, no agent."""
    spec = lab.spec_for(subject)
    assert isinstance(spec.boot, DirectBoot)
    words = debugging_command_line(lab.tsc_khz)
    return replace(spec, boot=replace(spec.boot, command_line=words))


# invoke run --record


def check_record(
    kernels: KernelOptions, machine: MachineOptions, jobs: int, *, keeps: bool
) -> None:
    """Raise `UsageError` where QEMU cannot record, or nobody could read the recording."""
    for reason, refused in {
        f"--accel {machine.accel}: only TCG counts instructions": Accel(machine.accel).is_kvm,
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
