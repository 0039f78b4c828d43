"""A person at a guest: `invoke shell`, `invoke guests`, and what `--keep` does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from linklab.commands.exit_status import print_document, show_fault
from linklab.commands.kernels import ONE_KERNEL, KernelOptions, prepare_subjects
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.errors import LabError, LinklabError, UsageError
from linklab.events import Listener, TerminalLent, TerminalReturned
from linklab.host.cache import Cache
from linklab.host.guests import RunningGuest, find_guest, running_guests
from linklab.host.run import start
from linklab.kernel.requirements import SHELL
from linklab.lab.console_access import Hold, visit
from linklab.lab.lab import SHELL_MIB, Lab, Subject, choose_memory
from linklab.machine.commandline import DISTRIBUTION, shell_command_line
from linklab.machine.spec import DirectBoot, MachineSpec, TerminalPort, qemu_argv
from linklab.options import JSON, group, option
from linklab.trials.subjects import Requirements


@dataclass(frozen=True)
class ShellOptions:
    """The options of `invoke shell`, as typed."""

    kernels: KernelOptions = group(KernelOptions, {"names": ONE_KERNEL}, names="sysfs")
    machine: MachineOptions = group(
        MachineOptions, without=("boot_timeout", "noise", "clock"), clock="real"
    )
    guest: str = option("", "a guest that runs: `last`, its name, or a part of its run's folder")


def open_shell(options: ShellOptions) -> None:
    """Boot one guest with its console on this terminal; return when it ends.

    With `guest`, visit one that runs instead; return when the person leaves.
    """
    if options.guest:
        visit_guest(options.guest)
        return
    from linklab.report.progress import progress

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


@dataclass(frozen=True)
class GuestsOptions:
    """The options of `invoke guests`, as typed."""

    as_json: bool = option(False, JSON, "json")


def list_guests(options: GuestsOptions) -> None:
    """Print which guests of this user run."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    guests = running_guests()
    if options.as_json:
        print_document([{**asdict(guest), "folder": str(guest.folder)} for guest in guests])
        return
    if not guests:
        print("no guest runs")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("guest", "seconds", "lab's process", "console's log"):
        is_number = title in {"seconds", "lab's process"}
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for guest in guests:
        up = f"{time.time() - guest.since:.0f}"
        table.add_row(escape(guest.name), up, str(guest.pid), escape(guest.log))
    Console(highlight=False, soft_wrap=True).print(table)


def visit_guest(word: str) -> None:
    """Put the console of a guest that runs on this terminal; return when the person leaves."""
    guest = find_guest(word)
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal on standard input")
    sys.stdout.flush()
    try:
        left = visit(guest.console, sys.stdin.fileno(), sys.stdout.fileno())
    except OSError as error:
        raise LabError(f"the guest {guest.name} has just ended ({error})") from error
    said = "left" if left else "the guest has ended"
    print(f"\n{guest.name}: {said}; its console's log: {guest.log}", file=sys.stderr)


def check_keep(jobs: int) -> None:
    """Raise `UsageError` where nobody could look at a guest that is kept (`--keep`)."""
    if not sys.stdin.isatty():
        raise UsageError("--keep needs a terminal on standard input")
    if jobs > 1:
        raise UsageError(f"--keep looks at one guest at a time: it does not go with --jobs {jobs}")


def hold_here(listener: Listener) -> Hold:
    """Return what puts a failed guest's console on this terminal, the bars out of the way."""

    @contextmanager
    def hold(guest: RunningGuest, verdict: LinklabError) -> Iterator[subprocess.Popen[bytes]]:
        listener(TerminalLent())
        show_fault(verdict)
        print(f"\nthe guest {guest.name} is kept; its console follows", file=sys.stderr, flush=True)
        # A process of its own: this one has the guest to look after.
        argv = [sys.executable, "-m", visit.__module__, str(guest.console)]
        visitor = start(argv, stdin=None, stdout=None, stderr=None)
        try:
            yield visitor
        finally:
            visitor.wait()
            print(f"\nthe guest {guest.name} is given up", file=sys.stderr, flush=True)
            listener(TerminalReturned())

    return hold
