"""`invoke run`: kernels, a scenario, a table and a verdict."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.about import planned, tested_on
from linklab.commands.equip import Purpose
from linklab.commands.exports import ExportOptions, failure_written, write_exports
from linklab.commands.keep import check_keep, keeper
from linklab.commands.kept import kept, kept_files
from linklab.commands.prepare import (
    KernelOptions,
    MachineOptions,
    decide_clock,
    prepare_lab,
    prepare_subjects,
)
from linklab.commands.record import check_record, check_symbols, recordable
from linklab.commands.timings import print_timings, seconds_since_start
from linklab.errors import Interrupted, LinklabError, UsageError, Verdict
from linklab.events import Listener, Note, Timings, ignore, timed
from linklab.host.cache import Cache
from linklab.lab import Lab, Subject, choose_memory
from linklab.machine.spec import Boot, Clock
from linklab.options import choose_list, number, numbers, seconds
from linklab.results.again import ENTRY, FILES
from linklab.results.runsuites import suites_of
from linklab.results.store import RunFolder, claim_default_folder, claim_folder, read_run, utc_now
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import (
    MAX_COUNT,
    NAME,
    Plan,
    largest_count,
    memory_needed,
)
from linklab.scenarios.grouping.ways import Arm, limits_text

if TYPE_CHECKING:
    from linklab.results.model import Run
    from linklab.scenarios.grouping.runner import Runner

SCENARIOS = (NAME,)
MAX_REPEAT = 10_000
MAX_JOBS = 256
MAX_LISTENERS = 256  # what the agent takes
_SEEDS = 1 << 32


@dataclass(frozen=True)
class RunOptions:
    """The options of `invoke run`, as typed."""

    kernels: KernelOptions
    machine: MachineOptions
    scenario: str
    counts: str
    operations: str
    arms: str
    repeat: str
    output: str
    timeout: str
    as_json: bool
    timings: bool = False
    warmup: str = ""
    seed: str = ""
    fresh_guest: bool = False
    jobs: str = ""
    listeners: str = "0"
    exports: ExportOptions = field(default_factory=ExportOptions)
    keep: bool = False
    record: bool = False


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    plan: Plan
    memory: int
    folder: Path


def check(options: RunOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    if options.scenario not in SCENARIOS:
        raise UsageError(
            f"--scenario {options.scenario}: unknown; valid are {', '.join(SCENARIOS)}"
        )
    options.kernels.check()
    options.machine.check()
    options.exports.check()
    machine = recordable(options.machine) if options.record else options.machine
    plan = _plan(options, decide_clock(machine, listener))
    if not plan.pairs():
        raise UsageError(f"none of the arms can do any of the operations: {limits_text()}")
    if options.keep:
        check_keep(plan.jobs)
    if options.record:
        check_record(options.kernels, options.machine, plan.jobs, keeps=options.keep)
    memory = memory_for(options.machine, plan, options.kernels)
    output, scenario = options.output, options.scenario
    folder = claim_folder(Path(output)) if output else claim_default_folder(scenario)
    return Request(plan, memory, folder)


def _plan(options: RunOptions, clock: Clock) -> Plan:
    repeat = number("repeat", options.repeat, 1, MAX_REPEAT)
    return Plan(
        counts=numbers("counts", options.counts, 1, MAX_COUNT),
        operations=choose_list("operations", options.operations, Operation),
        arms=choose_list("arms", options.arms, Arm),
        repeat=repeat,
        limit=seconds("timeout", options.timeout),
        warmup=number("warmup", options.warmup or int(repeat > 1), 0, MAX_REPEAT),
        seed=seed_of(options.seed, clock),
        fresh_guest=options.fresh_guest,
        jobs=1 if options.keep and not options.jobs else jobs_of(options.jobs, clock),
        listeners=number("listeners", options.listeners, 0, MAX_LISTENERS),
    )


def seed_of(text: str, clock: Clock) -> int:
    """Return the seed of `--seed`; without one a new one, or 0 in virtual time.

    There the same command is to give the same figures.
    """
    drawn = 0 if clock is Clock.VIRTUAL else int.from_bytes(os.urandom(4))
    return number("seed", text or drawn, 0, _SEEDS - 1)


def jobs_of(text: str, clock: Clock) -> int:
    """Return the guests at work side by side; in virtual time as many as the host has CPUs.

    In real time they would disturb each other where nobody asked for it.
    """
    default = len(os.sched_getaffinity(0)) if clock is Clock.VIRTUAL else 1
    return number("jobs", text or min(default, MAX_JOBS), 1, MAX_JOBS)


def memory_for(machine: MachineOptions, plan: Plan, kernels: KernelOptions) -> int:
    """Return the guest's memory in MiB for a plan; raise `UsageError` if that cannot be."""
    most, cpus = max(plan.counts), machine.checked_cpus()
    asked = machine.checked_memory()
    what = f"{most} interfaces"
    if asked is not None:
        what = (
            f"--counts {most}: {what} (at most "
            f"{largest_count(kernels.memory_left(asked), cpus)} fit into {asked} MiB)"
        )
    return choose_memory(asked, kernels.memory(memory_needed(most, cpus)), what)


@dataclass(frozen=True)
class Finished:
    """A run that is over and on disk."""

    folder: Path
    verdict: Verdict
    faults: Sequence[LinklabError] = ()  # first the one that gives the verdict


def run(options: RunOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Do the whole of it. Raises `LinklabError` where there is no run to speak of."""
    from linklab.scenarios.grouping.runner import Runner  # brings pyroute2: 0.15 s

    with timed(listener, "check the options"):
        request = check(options, listener)
    try:
        cache = Cache()
        with timed(listener, "machine and image"):
            machine = recordable(options.machine) if options.record else options.machine
            lab = prepare_lab(machine, request.memory, cache, listener)
            if options.record:
                lab = lab.recording()
                listener(Note("--record: times count instructions and compare with no other run's"))
            if options.keep:
                lab = replace(lab, keeper=keeper(listener))
        with timed(listener, "kernels"):
            purpose = Purpose(lab.boot, (options.scenario,), lab.machine, clock=lab.clock)
            subjects = prepare_subjects(options.kernels, purpose, cache, listener)
            if options.record:
                check_symbols(subjects)
        if lab.boot is Boot.RESUME:
            with timed(listener, "saved guests"):
                lab = lab.with_snapshots(subjects, cache, listener)
        folder = RunFolder(request.folder, _about(options, request.plan, lab, subjects, command))
    except BaseException:
        _remove_if_empty(request.folder)
        raise
    faults = _measure(Runner(lab, request.plan, folder, listener), subjects)
    verdict = faults[0].verdict if faults else Verdict.PASS
    folder.update(end=utc_now(), verdict=verdict.value, message=faults[0].message if faults else "")
    return Finished(request.folder, verdict, faults)


def _measure(runner: Runner, subjects: Sequence[Subject]) -> list[LinklabError]:
    """Run; whatever ends it, return what went wrong, first what gives the verdict."""
    try:
        runner.run(subjects)
    except KeyboardInterrupt:
        interrupted = Interrupted("what was measured so far is kept")
        return [interrupted, *runner.outcome.faults]
    except LinklabError as error:
        return [error, *runner.outcome.faults]
    return list(runner.outcome.faults)


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


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def main(options: RunOptions, command: Sequence[str]) -> Verdict:
    """Run, show what came out, and return the verdict."""
    from linklab.commands.boundary import show_fault
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
    for fault in finished.faults:
        show_fault(fault)
    return finished.verdict


def present(finished: Finished, as_json: bool) -> None:
    """Show a finished run: the table to a person, one document to a script."""
    from rich.console import Console

    from linklab.report.table import render

    stored = read_run(finished.folder)
    page = write_reports(finished.folder, stored)
    if as_json:
        json.dump(document(finished.folder), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    Console(highlight=False).print(render(stored))
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
