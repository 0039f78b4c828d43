"""Measuring kernels: one by one, against each other, patch by patch."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.commands.exports import HELP as EXPORT_HELP
from linklab.commands.exports import ExportOptions
from linklab.errors import Verdict
from linklab.tasks.help import KERNEL_HELP, MODULE_HELP, PROFILE_HELP, RUN_HELP, SERIES_HELP


@task(
    auto_shortflags=False,
    iterable=["patch", "config", "module"],
    help={**RUN_HELP, **MODULE_HELP, **EXPORT_HELP},
)
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
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    output: str = "",
    timeout: str = "0",
    boot_timeout: str = "0",
    noise: str = "",
    json: bool = False,
    timings: bool = False,
    warmup: str = "",
    seed: str = "",
    fresh_guest: bool = False,
    jobs: str = "",
    listeners: str = "0",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    module: list[str] | None = None,
    junit: str = "",
    ktap: str = "",
    kcidb: str = "",
    kcidb_origin: str = "linklab",
    keep: bool = False,
    record: bool = False,
) -> Verdict:
    """Boot kernels, run a scenario, and print a table and a verdict."""
    from linklab.commands import run as command_run
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_run.main(
        command_run.RunOptions(
            KernelOptions(
                kernel,
                source,
                tuple(patch or ()),
                tuple(config or ()),
                range,
                modules=tuple(module or ()),
            ),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise, clock),
            scenario,
            counts,
            operations,
            arms,
            repeat,
            output,
            timeout,
            json,
            timings,
            warmup,
            seed,
            fresh_guest,
            jobs,
            listeners,
            ExportOptions(junit, ktap, kcidb, kcidb_origin),
            keep,
            record,
        ),
        sys.argv,
    )


@task(auto_shortflags=False, iterable=["patch", "config"], help={**SERIES_HELP, **EXPORT_HELP})
@command
def series(
    _context: Context,
    kernel: str = "sysfs,nosysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    scenario: str = "grouping",
    operations: str = "mtu",
    counts: str = "512",
    arms: str = "group",
    blocks: str = "",
    trials: str = "",
    fail_above: str = "",
    seed: str = "",
    boot: str = "resume",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    output: str = "",
    json: bool = False,
    junit: str = "",
    ktap: str = "",
    kcidb: str = "",
    kcidb_origin: str = "linklab",
) -> Verdict:
    """Say what each patch of a series does: warnings, build, boot, console, speed."""
    from linklab.commands import series as command_series
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_series.main(
        command_series.SeriesOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, clock=clock),
            scenario,
            operations,
            counts,
            arms,
            blocks,
            trials,
            fail_above,
            seed,
            output,
            json,
            ExportOptions(junit, ktap, kcidb, kcidb_origin),
        ),
        sys.argv,
    )


@task(auto_shortflags=False, iterable=["patch", "config"], help={**KERNEL_HELP, **PROFILE_HELP})
@command
def profile(
    _context: Context,
    kernel: str = "sysfs",
    against: str = "",
    operation: str = "mtu",
    arm: str = "process",
    interfaces: str = "1024",
    samples: str = "",
    frequency: str = "997",
    timeout: str = "0",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    output: str = "",
    json: bool = False,
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
) -> Verdict:
    """Say where a guest's CPU time goes during one operation, alone or against a second kernel."""
    from linklab.commands import profile as command_profile
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_profile.main(
        command_profile.ProfileOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, "direct", machine, memory, cpus, boot_timeout, clock=clock),
            operation,
            arm,
            interfaces,
            samples,
            frequency,
            timeout,
            output,
            json,
            against,
        ),
        sys.argv,
    )
