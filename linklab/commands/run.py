"""`invoke run`: kernels, a scenario, a table and a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.equip import Purpose
from linklab.commands.exports import ExportOptions, failure_written, write_exports
from linklab.commands.kept import kept, kept_files
from linklab.commands.outcome import (
    Finished,
    concluded,
    finish,
    planned,
    print_document,
    print_shown,
    stopped_by,
    tested_on,
)
from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    decide_clock,
    prepare_lab,
    prepare_subjects,
)
from linklab.commands.record import check_record, check_symbols, recordable
from linklab.commands.timings import print_timings, seconds_since_start
from linklab.commands.work import SCENARIO, SCENARIOS, TrialOptions, check_scenario, memory_for
from linklab.errors import Verdict
from linklab.events import Listener, Note, Timings, ignore, timed
from linklab.host.cache import Cache
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.options import JSON, group, number, option
from linklab.results.again import ENTRY, FILES
from linklab.results.runsuites import suites_of
from linklab.results.store import RunFolder, claim, read_run, removed_if_empty
from linklab.scenarios.grouping.plan import NAME, Plan

if TYPE_CHECKING:
    from linklab.results.model import Run

MAX_REPEAT = 10_000


@dataclass(frozen=True)
class RunOptions(TrialOptions):
    """The options of `invoke run`, as typed."""

    kernels: KernelOptions = group(KernelOptions)
    machine: MachineOptions = group(MachineOptions)
    scenario: str = option(NAME, SCENARIO, values=SCENARIOS)
    repeat: str = option("1", "trials of each operation, arm, count and kernel, in shuffled order")
    warmup: str = option(
        "", "trials before them that are thrown away; default 1 with --repeat above 1, else 0"
    )
    fresh_guest: bool = option(
        False, "a guest of its own for each trial, instead of one for each kernel and count"
    )
    output: str = option("", "a folder for the results; default results/<UTC time>-<scenario>")
    timings: bool = option(False, "say at the end what each stage of the command took")
    record: bool = option(
        False, "record each guest, and keep that of one that failed for `invoke gdb --replay`"
    )
    as_json: bool = option(False, JSON, "json")
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    plan: Plan
    memory: int
    folder: Path


def check(options: RunOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    check_scenario(options.scenario)
    options.kernels.check()
    options.machine.check()
    options.exports.check()
    repeat = number("repeat", options.repeat, 1, MAX_REPEAT)
    machine = recordable(options.machine) if options.record else options.machine
    plan = options.trials_plan(
        decide_clock(machine, listener),
        repeat=repeat,
        warmup=number("warmup", options.warmup or int(repeat > 1), 0, MAX_REPEAT),
        fresh_guest=options.fresh_guest,
    )
    if options.record:
        check_record(options.kernels, options.machine, plan.jobs, keeps=options.keep)
    memory = memory_for(options.machine, plan, options.kernels)
    return Request(plan, memory, claim(options.output, options.scenario))


def run(options: RunOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Do the whole of it. Raises `LinklabError` where there is no run to speak of."""
    from linklab.scenarios.grouping.runner import Runner  # brings pyroute2: 0.15 s

    with timed(listener, "check the options"):
        request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        with timed(listener, "machine and image"):
            machine = recordable(options.machine) if options.record else options.machine
            lab = prepare_lab(machine, request.memory, cache, listener)
            if options.record:
                lab = lab.recording()
                listener(Note("--record: times count instructions and compare with no other run's"))
            lab = options.with_keeper(lab, listener)
        with timed(listener, "kernels"):
            purpose = Purpose(lab.boot, (options.scenario,), lab.machine, clock=lab.clock)
            subjects = prepare_subjects(options.kernels, purpose, cache, listener)
            if options.record:
                check_symbols(subjects)
        if lab.boot is Boot.RESUME:
            with timed(listener, "saved guests"):
                lab = lab.with_snapshots(subjects, cache, listener)
        folder = RunFolder(request.folder, _about(options, request.plan, lab, subjects, command))
    runner = Runner(lab, request.plan, folder, listener)
    faults = stopped_by(lambda: runner.run(subjects))
    return finish(folder, [*faults, *runner.outcome.faults])


def _about(
    options: RunOptions, plan: Plan, lab: Lab, subjects: Sequence[Subject], command: Sequence[str]
) -> dict[str, Any]:
    """Return what run.json says of a run when it begins."""
    decided = {
        "accel": lab.accel.value,
        "clock": lab.clock.value,
        "memory": str(lab.memory),
        "seed": str(plan.seed),
    }
    return {
        "command": shlex.join(command),
        ENTRY: kept(options, **decided),
        FILES: kept_files(options),
        "scenario": options.scenario,
        "plan": planned(plan),
        "source": options.kernels.source,
        **options.kernels.content(),
        **tested_on(lab, subjects),
    }


def main(options: RunOptions, command: Sequence[str]) -> Verdict:
    """Run, show what came out, and return the verdict."""
    from linklab.report.progress import progress

    before = seconds_since_start()
    kernels = options.kernels.names.split(",")
    with progress() as shown, failure_written(options.exports, options.scenario, kernels):
        timings = Timings(shown)
        finished = run(options, command, timings)
    with timed(timings, "table and files"):
        try:
            present(finished, options.as_json)
        finally:  # who reads only the table's beginning gets the files all the same
            write_exports(options.exports, suites_of(read_run(finished.folder)))
    if options.timings:
        print_timings({"start of Python and Invoke": before, **timings.seconds})
    return concluded(finished)


def present(finished: Finished, as_json: bool) -> None:
    """Show a finished run: the table to a person, one document to a script."""

    from linklab.report.table import render

    stored = read_run(finished.folder)
    page = write_reports(finished.folder, stored)
    if as_json:
        print_document(document(finished.folder))
        return
    print_shown(render(stored))
    print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}   page: {page}")


def write_reports(folder: Path, stored: Run) -> Path:
    """Write a run's table, its plots and its page beside it; return where the page is."""
    from linklab.commands.report import write
    from linklab.report.page import FILE, plot_files
    from linklab.report.table import as_text

    (folder / "table.txt").write_text(as_text(stored), encoding="utf-8")
    for name, drawing in plot_files(folder, stored):
        (folder / name).write_text(drawing, encoding="utf-8")
    return write([(folder, stored)], folder / FILE)


def document(folder: Path) -> dict[str, Any]:
    """Return everything about a stored run as one JSON document."""
    from dataclasses import asdict

    from linklab.report.claims import claims
    from linklab.report.figures import Figures

    stored = read_run(folder)
    return {
        "folder": str(folder),
        "run": stored.about,
        "samples": [sample.to_json() for sample in stored.samples],
        "claims": [asdict(claim) for claim in claims(Figures(stored))],
    }
