"""linklab's commands, as Invoke tasks: `invoke --list` is the table of contents.

Options in, one call into `linklab/`, text out: no logic here.
"""

from __future__ import annotations

import sys

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import Task, task

from linklab.commands.boundary import command, refuse_unknown
from linklab.errors import Verdict
from linklab.scenarios.grouping.ways import ARM_HELP, limits_text

KERNEL_HELP = {
    "kernel": "kernels, comma-separated: flavours (sysfs, nosysfs), bzImages or built kernel trees",
    "source": "a kernel tree or a tarball to build the flavours from, instead of Debian's",
    "patch": "a patch to apply to the source first; may be repeated, in order",
    "config": "a fragment of kernel options to merge last; may be repeated, in order",
}
MACHINE_HELP = {
    "accel": "auto (KVM if it really runs a guest, else TCG), kvm or tcg",
    "machine": "auto (the fastest that the kernel boots on), pc or microvm",
    "memory": "the guest's memory in MiB; default: what the work needs, at least 256",
    "cpus": "the guest's CPUs",
}
_ARMS = "; ".join(f"{arm}: {text}" for arm, text in ARM_HELP.items())
RUN_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    "scenario": "what to measure: grouping",
    "counts": "numbers of interfaces, comma-separated",
    "operations": "create, mtu, up, down, address, group, delete, or all; comma-separated",
    "arms": f"ways to do it, comma-separated, or all. {_ARMS}. Left out: {limits_text()}",
    "repeat": "trials of each operation and arm in each guest",
    "boot": "direct (kernel and initramfs), iso (through isolinux), or resume (from a saved guest)",
    "output": "a folder for the results; default results/<UTC time>-<scenario>",
    "timeout": "seconds after which one operation counts as hung; default: by size",
    "boot-timeout": "seconds until the agent must have said hello; default: by accelerator",
    "timings": "say at the end what each stage of the command took",
    "json": "print one JSON document on standard output, and nothing else there",
}


@task(auto_shortflags=False)
@command
def setup(_context: Context) -> None:
    """Install the Debian packages that are missing."""
    from linklab.commands.host import set_up

    set_up()


@task(auto_shortflags=False)
@command
def doctor(_context: Context) -> Verdict:
    """Say what works on this machine and what to do about the rest."""
    from linklab.commands.host import examine

    return examine()


@task(auto_shortflags=False, iterable=["patch", "config"], help={**KERNEL_HELP})
@command
def build_kernel(
    _context: Context,
    kernel: str = "sysfs,nosysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
) -> None:
    """Build kernels if their inputs changed, and say where they are."""
    from linklab.commands.build import kernels

    kernels(kernel, source, patch or (), config or ())


@task(
    auto_shortflags=False,
    iterable=["patch", "config"],
    help={**KERNEL_HELP, "output": "the ISO's path; default out/linklab-<kernels>.iso"},
)
@command
def build_iso(
    _context: Context,
    kernel: str = "sysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    output: str = "",
) -> None:
    """Build the live ISO and print what is in it and what each part weighs."""
    from linklab.commands.build import iso

    iso(kernel, source, patch or (), config or (), output)


@task(auto_shortflags=False, iterable=["patch", "config"], help={**RUN_HELP})
@command
def run(
    _context: Context,
    kernel: str = "sysfs,nosysfs",
    scenario: str = "grouping",
    counts: str = "128,256,512,1024,2048",
    operations: str = "mtu",
    arms: str = "process,group",
    repeat: str = "1",
    boot: str = "direct",
    accel: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    output: str = "",
    timeout: str = "0",
    boot_timeout: str = "0",
    json: bool = False,
    timings: bool = False,
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
) -> Verdict:
    """Boot kernels, run a scenario, and print a table and a verdict."""
    from linklab.commands import run as command_run
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_run.main(
        command_run.RunOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ())),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout),
            scenario,
            counts,
            operations,
            arms,
            repeat,
            output,
            timeout,
            json,
            timings,
        ),
        sys.argv,
    )


@task(
    auto_shortflags=False,
    iterable=["patch", "config"],
    help={**KERNEL_HELP, **MACHINE_HELP, "boot": RUN_HELP["boot"]},
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
) -> None:
    """Open a shell in a guest, on this terminal."""
    from linklab.commands.prepare import KernelOptions, MachineOptions
    from linklab.commands.shell import main

    main(
        KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ())),
        MachineOptions(accel, boot, machine, memory, cpus),
    )


@task(
    auto_shortflags=False, help={"repeat": "runs of each figure", "kernel": KERNEL_HELP["kernel"]}
)
@command
def bench(_context: Context, kernel: str = "sysfs", repeat: str = "5") -> None:
    """Measure the lab itself: boots, a request's round trip, image sizes, a rebuild."""
    from linklab.commands.bench import main

    main(kernel, repeat)


@task(
    auto_shortflags=False,
    help={"only": "unit, agent, process or vm; comma-separated; default: all of them"},
)
@command
def test(_context: Context, only: str = "") -> Verdict:
    """Run the tests and measure what they cover."""
    from linklab.commands.develop import run_tests

    return run_tests(only)


@task(auto_shortflags=False)
@command
def lint(_context: Context) -> Verdict:
    """Check style, types, shell scripts and C warnings."""
    from linklab.commands.develop import run_lint

    return run_lint()


namespace = Collection(*(value for value in list(globals().values()) if isinstance(value, Task)))
refuse_unknown(namespace, sys.argv)
