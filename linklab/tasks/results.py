"""Past results: shown, compared, exported, done again."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from linklab.commands.boundary import command
from linklab.commands.exports import HELP as EXPORT_HELP
from linklab.commands.exports import ExportOptions
from linklab.errors import Verdict
from linklab.tasks.help import RESULTS_HELP, RUN_HELP, RUN_WORDS


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
