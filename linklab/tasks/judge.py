"""Finding what broke a kernel."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command, step_command
from linklab.errors import Verdict
from linklab.tasks.help import JUDGE_HELP, KERNEL_HELP, MACHINE_HELP, RUN_HELP


@task(
    auto_shortflags=False,
    iterable=["patch", "config"],
    help={
        **KERNEL_HELP,
        **MACHINE_HELP,
        **JUDGE_HELP,
        "kernel": "the flavour to build",
        "source": "the kernel tree to judge, as its files are now",
        "against": "the good commit of --source that a figure is measured against",
        "boot": "direct (kernel and initramfs) or resume (from a saved guest)",
        "boot-timeout": RUN_HELP["boot-timeout"],
        "output": "keep each run in a folder of its own below this one; default: none is kept",
        "json": RUN_HELP["json"],
    },
)
@step_command
def verdict(
    _context: Context,
    kernel: str = "nosysfs",
    source: str = ".",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    against: str = "",
    metric: str = "",
    above: str = "",
    max_blocks: str = "64",
    fault: str = "",
    selftest: str = "",
    title: str = "",
    tries: str = "1",
    counts: str = "128",
    operations: str = "all",
    arms: str = "group",
    timeout: str = "0",
    boot: str = "direct",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    noise: str = "",
    output: str = "",
    json: bool = False,
) -> Verdict:
    """Judge a kernel tree, for `git bisect run`: 0 good, 1 bad, 125 skip, 255 cannot tell."""
    from linklab.commands import verdict as command_verdict
    from linklab.commands.judging import CriterionOptions
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_verdict.main(
        command_verdict.VerdictOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise, clock),
            CriterionOptions(
                metric,
                above,
                max_blocks,
                fault,
                title,
                tries,
                counts,
                operations,
                arms,
                timeout,
                selftest=selftest,
            ),
            against,
            output,
        ),
        sys.argv,
        as_json=json,
    )


@task(
    auto_shortflags=False,
    iterable=["patch", "config"],
    help={
        **{name: text for name, text in KERNEL_HELP.items() if name != "kernel"},
        **MACHINE_HELP,
        **JUDGE_HELP,
        "kernel": "the flavour to build of each commit",
        "same": "only the fault that --bad has, by its fingerprint; any other is skipped",
        "good": "a commit of --source that is good; of a series, how many patches are",
        "bad": "a commit of --source that is bad; of a series, with how many patches",
        "boot": "direct (kernel and initramfs) or resume (from a saved guest)",
        "boot-timeout": RUN_HELP["boot-timeout"],
        "output": "a folder for the results; default results/<UTC time>-bisect",
        "resume": "go on with the bisection in this folder; all other options are its own",
        "json": RUN_HELP["json"],
    },
)
@command
def bisect(
    _context: Context,
    good: str = "",
    bad: str = "",
    kernel: str = "nosysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    metric: str = "",
    above: str = "",
    max_blocks: str = "64",
    fault: str = "",
    selftest: str = "",
    title: str = "",
    same: bool = False,
    tries: str = "1",
    counts: str = "128",
    operations: str = "all",
    arms: str = "group",
    timeout: str = "0",
    boot: str = "direct",
    accel: str = "auto",
    clock: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    noise: str = "",
    output: str = "",
    resume: str = "",
    json: bool = False,
) -> Verdict:
    """Find the first bad commit of a git tree, or the first bad patch of a series."""
    from linklab.commands import bisect as command_bisect
    from linklab.commands.judging import CriterionOptions
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_bisect.main(
        command_bisect.BisectOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise, clock),
            CriterionOptions(
                metric,
                above,
                max_blocks,
                fault,
                title,
                tries,
                counts,
                operations,
                arms,
                timeout,
                same,
                selftest,
            ),
            good,
            bad,
            output,
        ),
        resume,
        sys.argv,
        as_json=json,
    )
