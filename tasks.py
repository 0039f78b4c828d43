"""linklab's commands, as Invoke tasks: `invoke --list` is the table of contents.

Options in, one call into `linklab/`, text out: no logic here.
"""

from __future__ import annotations

import sys

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import Task, task

from linklab.commands.boundary import (
    command,
    end_as_unix_tools_do,
    refuse_unknown,
    step_command,
)
from linklab.commands.exports import HELP as EXPORT_HELP
from linklab.commands.exports import ExportOptions
from linklab.commands.words import take_words
from linklab.errors import Verdict
from linklab.scenarios.grouping.ways import ARM_HELP, limits_text

KERNEL_HELP = {
    "kernel": "kernels, comma-separated: flavours (sysfs, nosysfs, debug, debug-nosysfs), "
    "debian (this Debian's own, fetched), deb:PACKAGE, bzImages or built kernel trees",
    "source": "a kernel tree or a tarball to build the flavours from, instead of Debian's",
    "patch": "patches to apply to the source first: a file, an mbox, or a folder with a series; "
    "may be repeated, in order",
    "range": "BASE..TOPIC: commits of the git tree that --source names, instead of its files",
    "config": "a fragment of kernel options to merge last, or the name of one of the lab's own "
    "(debug, kasan, symbols); may be repeated, in order",
}
MODULE_HELP = {
    "module": "the folder of an out-of-tree module's source, to build against each kernel and "
    "load, or the name of a module that the kernel has; may be repeated, in order",
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
    "repeat": "trials of each operation, arm, count and kernel, in shuffled order",
    "warmup": "trials before them that are thrown away; default 1 with --repeat above 1, else 0",
    "seed": "the number that the order is drawn with; default: a new one, recorded in run.json",
    "fresh-guest": "a guest of its own for each trial, instead of one for each kernel and count",
    "jobs": "guests at work side by side, each on cores of its own where there are enough",
    "listeners": "processes in the guest that listen for link changes during the operation",
    "boot": "direct (kernel and initramfs), iso (through isolinux), or resume (from a saved guest)",
    "output": "a folder for the results; default results/<UTC time>-<scenario>",
    "timeout": "seconds after which one operation counts as hung; default: by size",
    "boot-timeout": "seconds until the agent must have said hello; default: by accelerator",
    "noise": "a file of titles of reports that do not count, a regular expression a line",
    "timings": "say at the end what each stage of the command took",
    "keep": "keep a guest that failed, its console on this terminal, until you leave it",
    "json": "print one JSON document on standard output, and nothing else there",
}

COMPARE_HELP = {
    **MACHINE_HELP,
    "a": "the first kernel, KERNEL[@SOURCE][+PATCH...]: a flavour (of a source tree or of a "
    "commit of --source, with patches), a bzImage or a built kernel tree; or a stored run",
    "b": "the second, the same way; what it leaves out is the first one's: `+fix.patch`",
    "patch": "a patch for B alone, on top; may be repeated, in order",
    "range": "commits of --source for B, BASE..TIP or LAST:N; A is what they stand on",
    "source": "a kernel tree or a tarball to build both from, instead of Debian's",
    "config": "a fragment of kernel options for both; may be repeated, in order",
    "counts": RUN_HELP["counts"],
    "operations": RUN_HELP["operations"],
    "arms": RUN_HELP["arms"],
    "blocks": "how often to measure both, each time in two fresh guests",
    "trials": "trials in each guest; their median is the guest's value",
    "warmup": "trials before them that are thrown away; default 1 with --trials above 1, else 0",
    "threshold": "the smallest change that matters, in per cent",
    "until": "conclusive: measure more blocks until it is known what B is",
    "max-time": "seconds after which --until conclusive begins no further block; default 600",
    "seed": RUN_HELP["seed"],
    "jobs": RUN_HELP["jobs"],
    "boot": RUN_HELP["boot"],
    "timeout": RUN_HELP["timeout"],
    "boot-timeout": RUN_HELP["boot-timeout"],
    "noise": RUN_HELP["noise"],
    "output": "a folder for the results; default results/<UTC time>-compare",
    "results": "the folder below which stored runs are looked for by name",
    "json": RUN_HELP["json"],
}
PROFILE_HELP = {
    **MACHINE_HELP,
    "operation": "what to profile: create, mtu, up, down, address, group or delete",
    "arm": f"the way to do it. {_ARMS}. Left out: {limits_text()}",
    "interfaces": "the number of interfaces",
    "samples": "samples of the work to take; default: until the top symbol's share is known "
    "within 2 points at 95 %, 1000 at least",
    "frequency": "samples a second on each CPU",
    "timeout": "seconds after which no further repetition begins; default 300",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-profile",
    "json": RUN_HELP["json"],
}
JUDGE_HELP = {
    "metric": "go by a figure: operation/arm/interfaces, such as mtu/group/1024",
    "above": "from where on the figure is bad: 10% or 1.5x of the good kernel's, or 0.2s, 200ms",
    "max-blocks": "measurements of one kernel before it is skipped as unclear",
    "fault": "go by faults, and only these: crash, hang, fail, warning; comma-separated",
    "title": "only faults whose report has this text, or fingerprint; any other is skipped",
    "selftest": "go by the kernel's own self-tests: tests, as `invoke selftest` takes them",
    "tries": "runs without a fault before a kernel is good, for a fault that comes and goes",
    "counts": RUN_HELP["counts"],
    "operations": RUN_HELP["operations"],
    "arms": RUN_HELP["arms"],
    "timeout": RUN_HELP["timeout"],
}
SERIES_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    "kernel": "flavours that each state is built as, comma-separated",
    "scenario": RUN_HELP["scenario"],
    "operations": RUN_HELP["operations"],
    "counts": RUN_HELP["counts"],
    "arms": f"ways to do it, comma-separated, or all. {_ARMS}",
    "blocks": "rounds that have each kernel once, in a guest of its own; default: 10, or more "
    "where so many comparisons need them",
    "trials": "trials of each guest, of which the median counts",
    "fail-above": "per cent; a patch that is surely slower by more than that fails",
    "seed": RUN_HELP["seed"],
    "boot": "resume (from a saved guest) or direct",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-series",
    "json": RUN_HELP["json"],
}
SELFTEST_HELP = {
    **KERNEL_HELP,
    **MACHINE_HELP,
    **EXPORT_HELP,
    "kernel": "one kernel: a flavour, built with the options that the tests want, a bzImage or a "
    "built kernel tree",
    "tests": "tests or collections below tools/testing/selftests, comma-separated: "
    "net/rtnetlink.sh, net, net/tls",
    "boot": "auto (resume from four tests on), direct (kernel and initramfs), or resume (from a "
    "saved guest)",
    "timeout": "seconds that one test may take; default: its collection's own, "
    "five times that where the CPU is emulated",
    "retry": "how often a test that failed is tried again",
    "memory": "the guest's memory in MiB; default 512",
    "boot-timeout": RUN_HELP["boot-timeout"],
    "output": "a folder for the results; default results/<UTC time>-selftest",
    "json": RUN_HELP["json"],
}
RUN_WORDS = "a run: its folder, a part of its name that no other run has, or `last`"
RESULTS_HELP = "the folder below which runs are looked for by name"


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
    range: str = "",
) -> None:
    """Build kernels if their inputs changed, and say where they are."""
    from linklab.commands.build import kernels
    from linklab.commands.prepare import KernelOptions

    kernels(KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range))


@task(
    auto_shortflags=False,
    iterable=["patch", "config", "module"],
    help={
        **KERNEL_HELP,
        **MODULE_HELP,
        "output": "the ISO's path; default out/linklab-<kernels>.iso",
    },
)
@command
def build_iso(
    _context: Context,
    kernel: str = "sysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    module: list[str] | None = None,
    output: str = "",
) -> None:
    """Build the live ISO and print what is in it and what each part weighs."""
    from linklab.commands.build import iso
    from linklab.commands.prepare import KernelOptions

    iso(
        KernelOptions(
            kernel,
            source,
            tuple(patch or ()),
            tuple(config or ()),
            range,
            modules=tuple(module or ()),
        ),
        output,
    )


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
    jobs: str = "1",
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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise),
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
    trials: str = "5",
    fail_above: str = "3",
    seed: str = "",
    boot: str = "resume",
    accel: str = "auto",
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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout),
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
    blocks: str = "20",
    trials: str = "5",
    warmup: str = "",
    threshold: str = "3",
    until: str = "",
    max_time: str = "",
    seed: str = "",
    jobs: str = "1",
    boot: str = "resume",
    accel: str = "auto",
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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise),
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
        "comparisons": "how many of each",
        "slowdown": "by how many per cent the slowed kernel is to be slower",
        "interfaces": "the number of interfaces",
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
    comparisons: str = "40",
    slowdown: str = "10",
    interfaces: str = "1024",
    blocks: str = "20",
    trials: str = "5",
    threshold: str = "3",
    seed: str = "",
    jobs: str = "1",
    boot: str = "resume",
    accel: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "1",
    boot_timeout: str = "0",
    output: str = "",
    json: bool = False,
) -> Verdict:
    """Say how often `invoke compare` raises a false alarm here, and how often it finds 10 %."""
    from linklab.commands import calibrate as command_calibrate
    from linklab.commands.prepare import MachineOptions

    return command_calibrate.main(
        command_calibrate.CalibrateOptions(
            kernel,
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout),
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


@task(
    auto_shortflags=False,
    iterable=["patch", "config", "module"],
    help={
        **KERNEL_HELP,
        **MODULE_HELP,
        **MACHINE_HELP,
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
        MachineOptions(accel, boot, machine, memory, cpus),
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
        **MACHINE_HELP,
        "command": "what gdb is to do, instead of asking; may be repeated, in order",
        "type": "a line to type at the guest's shell when it is up; may be repeated, in order",
        "timeout": "seconds after which a gdb with --command is ended; default 600",
        "log": "a file for the guest's console",
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
            MachineOptions(accel, "direct", machine, memory, cpus),
            tuple(command or ()),
            tuple(type or ()),
            timeout,
            log,
        )
    )


@task(
    auto_shortflags=False,
    positional=["runs"],
    help={
        "runs": f"{RUN_WORDS}; several are compared",
        "output": "the page's path; default report.html in the run's folder, "
        "comparison.html in the first one's",
        "results": RESULTS_HELP,
    },
)
@command
def report(_context: Context, runs: str, output: str = "", results: str = "results") -> None:
    """Write a page about a run, or one that compares several: `invoke report DIR DIR`."""
    from linklab.commands.report import main

    main(runs, output, results)


@task(
    auto_shortflags=False,
    help={
        "results": "the folder below which the runs are",
        "kernel": "only runs with this kernel",
        "scenario": "only runs of this scenario",
        "verdict": "only runs with this verdict; also unfinished, broken",
        "limit": "how many at most, the newest; 0: all of them",
        "json": RUN_HELP["json"],
    },
)
@command
def history(
    _context: Context,
    results: str = "results",
    kernel: str = "",
    scenario: str = "",
    verdict: str = "",
    limit: str = "20",
    json: bool = False,
) -> None:
    """List past runs, the newest first, with what each found."""
    from linklab.commands.history import list_runs

    list_runs(results, kernel, scenario, verdict, limit, as_json=json)


@task(
    auto_shortflags=False,
    positional=["run"],
    help={"run": RUN_WORDS, "results": RESULTS_HELP, "json": RUN_HELP["json"]},
)
@command
def show(_context: Context, run: str, results: str = "results", json: bool = False) -> None:
    """Print a past run's table again."""
    from linklab.commands.history import show as command_show

    command_show(run, results, as_json=json)


@task(
    auto_shortflags=False,
    positional=["run"],
    help={"run": RUN_WORDS, "results": RESULTS_HELP, **EXPORT_HELP},
)
@command
def export(
    _context: Context,
    run: str,
    results: str = "results",
    junit: str = "",
    ktap: str = "",
    kcidb: str = "",
    kcidb_origin: str = "linklab",
) -> None:
    """Write a past run as JUnit XML, KTAP or a KCIDB report."""
    from linklab.commands import exports

    exports.export(run, results, ExportOptions(junit, ktap, kcidb, kcidb_origin))


@task(
    auto_shortflags=False,
    positional=["run"],
    help={
        "run": RUN_WORDS,
        "results": RESULTS_HELP,
        "output": RUN_HELP["output"],
        "json": RUN_HELP["json"],
    },
)
@command
def rerun(
    _context: Context, run: str, results: str = "results", output: str = "", json: bool = False
) -> Verdict:
    """Do a past run once more with the same inputs, and say what differs."""
    from linklab.commands.history import rerun as command_rerun

    return command_rerun(run, results, output, sys.argv, as_json=json)


@task(
    auto_shortflags=False,
    positional=["series"],
    help={
        "series": "a patch, an mbox, a folder of patches; with --range a git tree",
        "onto": "a kernel tree or a tarball to try it on; default: Debian's",
        "commit": "a commit of the git tree that --onto names, instead of its files",
        "range": "BASE..TOPIC: commits of the git tree that SERIES names",
        "output": "a folder for the new series and port.json; default results/<UTC time>-port",
        "all": "a row for every patch, and every conflict in full",
        "json": RUN_HELP["json"],
    },
)
@command
def port(
    _context: Context,
    series: str,
    onto: str = "",
    commit: str = "",
    range: str = "",
    output: str = "",
    all: bool = False,
    json: bool = False,
) -> Verdict:
    """Try a series of patches on another kernel, and write what applies as a new series."""
    from linklab.commands.port import PortOptions, main

    return main(PortOptions(series, onto, commit, range, output, all, json), sys.argv)


@task(
    auto_shortflags=False,
    help={
        "kernel": "one kernel: a flavour, a bzImage or a built kernel tree",
        "repeat": "runs of each figure",
        "vng": "a kernel that virtme-ng boots: a row for it, on this machine and in this run",
    },
)
@command
def bench(_context: Context, kernel: str = "sysfs", repeat: str = "5", vng: str = "") -> None:
    """Measure the lab itself: boots, a request, whole commands, a rebuild, sizes."""
    from linklab.commands.bench import main

    main(kernel, repeat, vng)


@task(
    auto_shortflags=False,
    help={"only": "unit, agent, process, page or vm; comma-separated; default: all of them"},
)
@command
def test(_context: Context, only: str = "") -> Verdict:
    """Run the tests and measure what they cover."""
    from linklab.commands.develop import run_tests

    return run_tests(only)


@task(auto_shortflags=False, help={"table": "where the table of what came of it is written"})
@command
def faults(_context: Context, table: str = "docs/faults.md") -> Verdict:
    """Inject faults into real guests and their lab, and write what each was taken for."""
    from linklab.commands.develop import inject_faults

    return inject_faults(table)


@task(auto_shortflags=False, iterable=["patch", "config"], help={**KERNEL_HELP, **PROFILE_HELP})
@command
def profile(
    _context: Context,
    kernel: str = "sysfs",
    operation: str = "mtu",
    arm: str = "process",
    interfaces: str = "1024",
    samples: str = "",
    frequency: str = "997",
    timeout: str = "0",
    accel: str = "auto",
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
    """Say where a guest's CPU time goes during one operation: a table and a flame graph."""
    from linklab.commands import profile as command_profile
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_profile.main(
        command_profile.ProfileOptions(
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, "direct", machine, memory, cpus, boot_timeout),
            operation,
            arm,
            interfaces,
            samples,
            frequency,
            timeout,
            output,
            json,
        ),
        sys.argv,
    )


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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise),
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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, noise),
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


@task(
    auto_shortflags=False,
    positional=["tests"],
    iterable=["patch", "config"],
    help={**SELFTEST_HELP},
)
@command
def selftest(
    _context: Context,
    tests: str,
    kernel: str = "sysfs",
    source: str = "",
    patch: list[str] | None = None,
    config: list[str] | None = None,
    range: str = "",
    accel: str = "auto",
    boot: str = "auto",
    machine: str = "auto",
    memory: str = "",
    cpus: str = "2",
    boot_timeout: str = "0",
    timeout: str = "0",
    retry: str = "0",
    output: str = "",
    json: bool = False,
    junit: str = "",
    ktap: str = "",
    kcidb: str = "",
    kcidb_origin: str = "linklab",
) -> Verdict:
    """Run the kernel's own self-tests, each in a guest of its own: `invoke selftest net/tls`."""
    from linklab.commands import selftest as command_selftest
    from linklab.commands.prepare import KernelOptions, MachineOptions

    return command_selftest.main(
        command_selftest.SelftestOptions(
            tests,
            KernelOptions(kernel, source, tuple(patch or ()), tuple(config or ()), range),
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout),
            timeout,
            retry,
            output,
            json,
            ExportOptions(junit, ktap, kcidb, kcidb_origin),
        ),
        sys.argv,
    )


@task(auto_shortflags=False)
@command
def lint(_context: Context) -> Verdict:
    """Check style, types, shell scripts and C warnings."""
    from linklab.commands.develop import run_lint

    return run_lint()


namespace = Collection(*(value for value in list(globals().values()) if isinstance(value, Task)))
end_as_unix_tools_do()
take_words(namespace, sys.argv, report.name)
refuse_unknown(namespace, sys.argv)
