"""Two kernels against each other, and what such a comparison is worth."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.commands.exports import HELP as EXPORT_HELP
from linklab.commands.exports import ExportOptions
from linklab.errors import Verdict
from linklab.tasks.help import COMPARE_HELP, MACHINE_HELP, RUN_HELP


@task(
    auto_shortflags=False,
    positional=["a", "b"],
    iterable=["patch", "config"],
    help={**COMPARE_HELP, **EXPORT_HELP},
)
@command
def compare(
    _context: Context,
    a: str,
    b: str,
    counts: str = "1024",
    operations: str = "mtu",
    arms: str = "group",
    blocks: str = "",
    trials: str = "",
    warmup: str = "",
    threshold: str = "",
    until: str = "",
    max_time: str = "",
    seed: str = "",
    jobs: str = "",
    boot: str = "resume",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    timeout: str = "0",
    boot_timeout: str = "0",
    noise: str = "",
    output: str = "",
    results: str = "results",
    json: bool = False,
    source: str = "",
    range: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    junit: str = "",
    ktap: str = "",
    kcidb: str = "",
    kcidb_origin: str = "linklab",
) -> Verdict:
    """Say whether kernel B is slower or faster than kernel A, and how surely."""
    from linklab.commands import comparing
    from linklab.commands.compare import CompareOptions
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return comparing.main(
        CompareOptions(
            a,
            b,
            KernelOptions("", source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise, clock),
            counts,
            operations,
            arms,
            blocks,
            trials,
            warmup,
            threshold,
            until,
            max_time,
            seed,
            jobs,
            timeout,
            output,
            results,
            json,
            ExportOptions(junit, ktap, kcidb, kcidb_origin),
        ),
        sys.argv,
    )


@task(
    auto_shortflags=False,
    help={
        **MACHINE_HELP,
        "kernel": "one flavour, compared with itself and with itself slowed by a patch",
        "comparisons": "how many of each; default 40, in virtual time 20",
        "slowdown": "by how many per cent kernels are to be slowed, comma-separated; default 10, "
        "in virtual time 0.5,1,10; none: only with itself",
        "interfaces": "the number of interfaces; default 1024, in virtual time 512",
        "blocks": "as of `invoke compare`",
        "trials": "as of `invoke compare`",
        "threshold": "as of `invoke compare`",
        "seed": RUN_HELP["seed"],
        "jobs": RUN_HELP["jobs"],
        "boot": "direct (kernel and initramfs) or resume (from a saved guest)",
        "boot-timeout": RUN_HELP["boot-timeout"],
        "output": "a folder for the results; default results/<UTC time>-calibrate",
        "json": RUN_HELP["json"],
    },
)
@command
def calibrate(
    _context: Context,
    kernel: str = "nosysfs",
    comparisons: str = "",
    slowdown: str = "",
    interfaces: str = "",
    blocks: str = "",
    trials: str = "",
    threshold: str = "",
    seed: str = "",
    jobs: str = "",
    boot: str = "resume",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    output: str = "",
    json: bool = False,
) -> Verdict:
    """Say how often `invoke compare` raises a false alarm here, and finds what is slower."""
    from linklab.commands import calibrate as command_calibrate
    from linklab.commands.prepare import MachineOptions

    return command_calibrate.main(
        command_calibrate.CalibrateOptions(
            kernel,
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, clock=clock),
            comparisons,
            slowdown,
            interfaces,
            blocks,
            trials,
            threshold,
            seed,
            jobs,
            output,
            json,
        ),
        sys.argv,
    )
