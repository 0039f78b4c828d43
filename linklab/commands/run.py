"""`invoke run`: kernels, a scenario, a table and a verdict."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.commands.equip import Purpose
from linklab.commands.exports import failure_written, write_exports
from linklab.commands.kept import RunOptions, kept, kept_files
from linklab.commands.outcome import (
    Finished,
    concluded,
    experiment,
    finish,
    print_document,
    print_shown,
    stopped_by,
    tested_on,
)
from linklab.commands.prepare import (
    MachineOptions,
    decide_clock,
    prepare_lab,
    prepare_subjects,
)
from linklab.commands.record import check_record, check_symbols, recordable
from linklab.commands.timings import print_timings, seconds_since_start
from linklab.commands.work import memory_for
from linklab.errors import LabError, UsageError, Verdict
from linklab.events import Listener, Note, Timings, ignore, timed
from linklab.host.cache import Cache
from linklab.image.userland import LIVE
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.options import number
from linklab.results.again import ENTRY, FILES
from linklab.results.model import Run
from linklab.results.store import RunFolder, claim, removed_if_empty
from linklab.results.suites import suites_of
from linklab.trials.plan import Plan

MAX_REPEAT = 10_000


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    plan: Plan
    memory: int
    folder: Path


def check(options: RunOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    network = options.kind.network(options.given())
    kernels = options.place.kernels(options.kernels.with_scenario(options.kind), network)
    kernels.check()
    options.machine.check()
    options.exports.check()
    repeat = number("repeat", options.repeat, 1, MAX_REPEAT)
    machine = _machine(options)
    plan = options.trials_plan(
        decide_clock(machine, listener),
        {},
        repeat=repeat,
        warmup=number("warmup", options.warmup or int(repeat > 1), 0, MAX_REPEAT),
        fresh_guest=options.fresh_guest,
    )
    if options.record and options.place.is_guests:
        raise UsageError("--record: a guest that hears others cannot be replayed alone")
    if options.record:
        check_record(options.kernels, options.machine, plan.jobs, keeps=options.keep)
    memory = memory_for(options.machine, plan, kernels)
    options.place.check(network, memory)
    return Request(plan, memory, claim(options.output, options.kind.name))


def run(options: RunOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Do the whole of it. Raises `LinklabError` where there is no run to speak of."""
    from linklab.trials.engine import Engine

    with timed(listener, "check the options"):
        request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        with timed(listener, "machine and image"):
            machine = _machine(options)
            network = options.kind.network(options.given())
            image = options.kind.image or LIVE
            lab = prepare_lab(machine, request.memory, cache, listener, image)
            if options.record:
                lab = lab.recording()
                listener(Note("--record: times count instructions and compare with no other run's"))
            lab = options.with_keeper(lab, listener)
            lab = options.place.lab(lab, network, cache, listener)
        with timed(listener, "kernels"):
            kernels = options.place.kernels(options.kernels.with_scenario(options.kind), network)
            purpose = Purpose.of(options.kind, lab)
            purpose = replace(purpose, needs=(*purpose.needs, *options.place.needs(network)))
            subjects = prepare_subjects(kernels, purpose, cache, listener)
            subjects = options.place.subjects(options.kernels.names, subjects, network)
            if options.record:
                check_symbols(subjects)
        if lab.boot is Boot.RESUME:
            with timed(listener, "saved guests"):
                lab = lab.with_snapshots(subjects, cache, listener)
        folder = RunFolder(request.folder, _about(options, request.plan, lab, subjects, command))
    engine = Engine(lab, request.plan, folder, listener)
    faults = stopped_by(lambda: engine.run(subjects))
    claims: list[dict[str, str]] = []
    try:
        claims += (claim.to_json() for claim in options.kind.claims(folder.run))
    except Exception as error:  # the author's, and no reason to lose what was measured
        text = f"the claims of scenario {options.kind.name} have a fault: {error!r}"
        faults.append(LabError(text, traceback.format_exc().rstrip()))
    return finish(folder, [*faults, *engine.faults], claims=claims)


def _machine(options: RunOptions) -> MachineOptions:
    """Return the machine's options, with what else decides of them."""
    machine = options.place.machine(options.machine)
    return recordable(machine) if options.record else machine


def _about(
    options: RunOptions, plan: Plan, lab: Lab, subjects: Sequence[Subject], command: Sequence[str]
) -> dict[str, Any]:
    """Return what run.json says of a run when it begins."""
    decided = {
        "accel": lab.accel.value,
        "clock": lab.clock.value,
        "memory": str(lab.memory),
        "seed": str(plan.seed),
        **options.decided({}),
    }
    return {
        "command": shlex.join(command),
        ENTRY: kept(options, **decided),
        FILES: kept_files(options),
        **experiment(plan),
        **({"place": place} if (place := plan.place_in(lab)) else {}),
        "source": options.kernels.source,
        **options.kernels.content(),
        **tested_on(lab, subjects),
    }


def main(options: RunOptions, command: Sequence[str]) -> Verdict:
    """Run, show what came out, and return the verdict."""
    from linklab.report.progress import progress

    before = seconds_since_start()
    kernels = options.kernels.names.split(",")
    with progress() as shown, failure_written(options.exports, options.kind.name, kernels):
        timings = Timings(shown)
        finished = run(options, command, timings)
    with timed(timings, "table and files"):
        try:
            present(finished, options.as_json)
        finally:  # who reads only the table's beginning gets the files all the same
            write_exports(options.exports, suites_of(finished.run))
    if options.timings:
        print_timings({"start of Python and Invoke": before, **timings.seconds})
    return concluded(finished)


def present(finished: Finished, as_json: bool) -> None:
    """Show a finished run: the table to a person, one document to a script."""
    from linklab.report.tables import render

    page = write_reports(finished.folder, finished.run)
    if as_json:
        print_document(document(finished.folder, finished.run))
        return
    print_shown(render(finished.run))
    print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}   page: {page}")


def write_reports(folder: Path, stored: Run) -> Path:
    """Write a run's table, its plots and its page beside it; return where the page is."""
    from linklab.commands.report import write
    from linklab.report.page import FILE, plot_files
    from linklab.report.tables import as_text

    (folder / "table.txt").write_text(as_text(stored), encoding="utf-8")
    for name, drawing in plot_files(folder, stored):
        (folder / name).write_text(drawing, encoding="utf-8")
    return write([(folder, stored)], folder / FILE)


def document(folder: Path, stored: Run) -> dict[str, Any]:
    """Return everything about a stored run as one JSON document."""
    return {
        "folder": str(folder),
        "run": stored.document(),
        "samples": [sample.to_json() for sample in stored.samples],
        "claims": list(stored.about.get("claims") or ()),
    }
