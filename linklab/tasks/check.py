"""The kernel's own tests, and patches on another kernel."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.commands.exports import ExportOptions
from linklab.errors import Verdict
from linklab.tasks.help import RUN_HELP, SELFTEST_HELP


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
    clock: str = "auto",
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
            MachineOptions(accel, boot, machine, memory, cpus, boot_timeout, clock=clock),
            timeout,
            retry,
            output,
            json,
            ExportOptions(junit, ktap, kcidb, kcidb_origin),
        ),
        sys.argv,
    )


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
