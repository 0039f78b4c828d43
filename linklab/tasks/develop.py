"""The lab itself: its speed, its tests, its style."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.errors import Verdict
from linklab.tasks.help import CLOCK_HELP


@task(
    auto_shortflags=False,
    help={
        "kernel": "one kernel: a flavour, a bzImage or a built kernel tree",
        "repeat": "runs of each figure; default 5, of the networks 2",
        "clock": CLOCK_HELP["clock"],
        "vng": "a kernel that virtme-ng boots: a row for it, on this machine and in this run",
        "networks": "TCP over emulated links in place of the lab's own figures: goodput and RTT, "
        "beside what others published",
    },
)
@command
def bench(
    _context: Context,
    kernel: str = "sysfs",
    repeat: str = "",
    clock: str = "auto",
    vng: str = "",
    networks: bool = False,
) -> None:
    """Measure the lab itself: boots, a request, whole commands, a rebuild, sizes; or networks."""
    if networks:
        from linklab.commands.networks import main
    else:
        from linklab.commands.bench import main

    main(kernel, repeat, clock, vng)


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


@task(auto_shortflags=False)
@command
def lint(_context: Context) -> Verdict:
    """Check style, types, shell scripts and C warnings."""
    from linklab.commands.develop import run_lint

    return run_lint()
