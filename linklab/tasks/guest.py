"""People in a guest: a shell, a debugger."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.tasks.help import HARDWARE_HELP, KERNEL_HELP, MODULE_HELP, RUN_HELP


@task(
    auto_shortflags=False,
    iterable=["patch", "config", "module"],
    help={
        **KERNEL_HELP,
        **MODULE_HELP,
        **HARDWARE_HELP,
        "boot": RUN_HELP["boot"],
        "guest": "a guest that runs: `last`, its name, or a part of its run's folder",
    },
)
@command
def shell(
    _context: Context,
    kernel: str = "sysfs",
    boot: str = "direct",
    accel: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    module: list[str] | None = None,
    guest: str = "",
) -> None:
    """Open a shell in a new guest, or the console of one that runs, on this terminal."""
    from linklab.commands.prepare import KernelOptions, MachineOptions
    from linklab.commands.shell import main

    main(
        KernelOptions(
            kernel,
            source,
            tuple(patch or ()),
            tuple(config or ()),
            range,
            modules=tuple(module or ()),
        ),
        MachineOptions(accel, boot, machine, memory, cpus, clock="real"),
        guest,
    )


@task(auto_shortflags=False, help={"json": RUN_HELP["json"]})
@command
def guests(_context: Context, json: bool = False) -> None:
    """List the guests that run now; `invoke shell --guest` opens the console of one."""
    from linklab.commands.guests import list_guests

    list_guests(as_json=json)


@task(
    auto_shortflags=False,
    iterable=["command", "type", "patch", "config"],
    help={
        **KERNEL_HELP,
        **HARDWARE_HELP,
        "command": "what gdb is to do, instead of asking; may be repeated, in order",
        "type": "a line to type at the guest's shell when it is up; may be repeated, in order",
        "timeout": "seconds after which a gdb with --command is ended; default 600",
        "log": "a file for the guest's console",
        "replay": "a run's folder, part of its name, or `last`: what it recorded, once more",
    },
)
@command
def gdb(
    _context: Context,
    kernel: str = "debug",
    command: list[str] | None = None,
    type: list[str] | None = None,
    accel: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    timeout: str = "0",
    log: str = "",
    replay: str = "",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
) -> None:
    """Start a guest that waits at its first instruction, and gdb on it, with symbols."""
    from linklab.commands.gdb import GdbOptions, main
    from linklab.commands.prepare import KernelOptions, MachineOptions

    main(
        GdbOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, "direct", machine, memory, cpus, clock="real"),
            tuple(command or ()),
            tuple(type or ()),
            timeout,
            log,
            replay,
        )
    )
