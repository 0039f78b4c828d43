"""`invoke series`: what each patch of a series does, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.commands.compare import DEFAULTS, METRIC, metric_of, no_share
from linklab.commands.exports import ExportOptions, failure_written, write_exports
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
    NO_ISO,
    KernelOptions,
    MachineOptions,
    decide_clock,
    prepare_lab,
    tell_notes,
)
from linklab.commands.seriesrun import SeriesPlan, SeriesRun, entry
from linklab.commands.work import (
    MAX_BLOCKS,
    MAX_TRIALS,
    TrialOptions,
    memory_for,
)
from linklab.errors import UsageError, Verdict
from linklab.events import Listener, ignore
from linklab.host.cache import Cache, reporting
from linklab.image.userland import LIVE
from linklab.kernel.kconfig import flavours
from linklab.kernel.patches import patched_tree
from linklab.kernel.source import open_source
from linklab.lab.lab import Lab
from linklab.machine.spec import Boot, Clock
from linklab.options import JSON, choose, group, number, option, percent, split_list
from linklab.results.comparison import fewest_blocks
from linklab.results.model import Run
from linklab.results.result_kinds import SERIES
from linklab.results.series import find, rule_of
from linklab.results.store import RunFolder, claim, removed_if_empty
from linklab.trials.plan import Plan

LEAST_BLOCKS = 10
_SPARE_BLOCKS = 2  # more than it takes for a p value to reach the level at all
FAIL_ABOVE = {Clock.REAL: "3", Clock.VIRTUAL: "0.5"}  # %


@dataclass(frozen=True)
class SeriesOptions(TrialOptions):
    """The options of `invoke series`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions,
        {"names": "flavours that each state is built as, comma-separated"},
        without=("modules",),
    )
    machine: MachineOptions = group(MachineOptions, NO_ISO, boot="resume")
    blocks: str = option(
        "",
        "rounds that have each kernel once, in a guest of its own; default: 10, or more where so "
        "many comparisons need them",
    )
    trials: str = option(
        "", "trials of each guest, of which the median counts; default 5, in virtual time 3"
    )
    fail_above: str = option(
        "",
        "per cent; a patch that is surely worse by more than that fails; default 3, in virtual "
        "time 0.5",
    )
    metric: str = option("", METRIC)
    output: str = option("", "a folder for the results; default results/<UTC time>-series")
    as_json: bool = option(False, JSON, "json")
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started, and nothing stands against it."""

    plan: SeriesPlan
    memory: int
    folder: Path


def check(options: SeriesOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    names = split_list("kernel", options.kernels.names)
    if others := [name for name in names if name not in flavours()]:
        raise UsageError(
            f"--kernel {others[0]}: a series is built, so a flavour is expected: "
            f"{', '.join(flavours())}"
        )
    kernels = options.kernels.with_scenario(options.kind)
    kernels.check()
    if not options.kernels.series.patches:
        raise UsageError("there is no series: name patches with --patch, or commits with --range")
    options.machine.check()
    options.exports.check()
    if choose("boot", options.machine.boot, Boot) is Boot.ISO:
        raise UsageError("--boot iso: a series is booted by resume or direct")
    clock = decide_clock(options.machine, listener)
    limit = percent("fail-above", options.fail_above or FAIL_ABOVE[clock])
    measure = _plan(options, len(names), limit, clock)
    memory = memory_for(options.machine, measure, kernels)
    metric = metric_of(options.kind.shape, options.metric)
    if metric.zero and options.fail_above:
        raise no_share(metric, "fail-above", options.fail_above)
    build = kernels.build_options()
    plan = SeriesPlan(options.kernels.series, names, build, measure, limit, metric)
    return Request(plan, memory, claim(options.output, SERIES))


def _plan(options: SeriesOptions, kernels: int, limit: float, clock: Clock) -> Plan:
    plan = options.trials_plan(
        clock,
        options.kind.compared,
        fresh_guest=True,
        trials=number("trials", options.trials or DEFAULTS[clock].trials, 1, MAX_TRIALS),
        settling=1,
    )
    comparisons = len(plan.cells) * kernels * len(options.kernels.series.patches)
    needed = fewest_blocks(rule_of(limit, plan.seed), comparisons) + _SPARE_BLOCKS
    blocks = number("blocks", options.blocks or max(LEAST_BLOCKS, needed), 2, MAX_BLOCKS)
    return replace(plan, repeat=blocks)


def run(options: SeriesOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Do the whole of it. Raises `LinklabError` where no state could be tested at all."""
    request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        tell_notes(options.kernels, listener)
        plan = _applied(request.plan, cache, listener)
        image = options.kind.image or LIVE
        lab = prepare_lab(options.machine, request.memory, cache, listener, image)
        lab = options.with_keeper(lab, listener)
        folder = RunFolder(request.folder, _about(options, plan, lab, command))
    series = SeriesRun(plan, lab, folder, cache, listener)
    faults = stopped_by(series.run)
    verdict = Verdict.PASS if faults else find(folder.run).verdict
    return finish(folder, faults, verdict, **series.tested)


def _applied(plan: SeriesPlan, cache: Cache, listener: Listener) -> SeriesPlan:
    """Check that all patches apply, before any is built; hold on to the base as it is now.

    A person may go on working in the tree while its series is tested.
    """
    build = plan.build
    with reporting(cache.root):
        source = open_source(build.source, cache, listener, revision=build.revision)
        assert source is not None
        patched_tree(source, build.patches)
    revision = source.tree if source.origin.is_dir() else ""
    return replace(plan, build=replace(build, revision=revision), tree=source.store.tree)


def _about(
    options: SeriesOptions, plan: SeriesPlan, lab: Lab, command: Sequence[str]
) -> dict[str, Any]:
    """Return what run.json says of a series when it begins."""
    return {
        "kind": SERIES,
        "command": shlex.join(command),
        **experiment(plan.measure),
        "source": options.kernels.source,
        **options.kernels.content(),
        **tested_on(lab, []),
        **entry(plan),
    }


def main(options: SeriesOptions, command: Sequence[str]) -> Verdict:
    """Test a series, show what came out, and return the verdict."""
    from linklab.report.progress import progress
    from linklab.results.suites import suites_of

    names = split_list("kernel", options.kernels.names)
    with progress() as listener, failure_written(options.exports, SERIES, names):
        finished = run(options, command, listener)
    try:
        present(finished.folder, finished.run, finished.verdict, as_json=options.as_json)
    finally:  # who reads only the table's beginning gets the files all the same
        write_exports(options.exports, suites_of(finished.run))
    return concluded(finished)


def present(folder: Path, stored: Run, verdict: Verdict, *, as_json: bool) -> None:
    """Write a series' table beside it, and show it."""
    from linklab.report.series import as_text

    (folder / "table.txt").write_text(as_text(stored, find(stored)), encoding="utf-8")
    show(folder, stored, verdict.value, as_json=as_json)


def show(folder: Path, stored: Run, verdict: str, *, as_json: bool) -> None:
    """Show a stored series: the table to a person, one document to a script."""
    from linklab.report.series import document, render, sentence

    findings = find(stored)
    if as_json:
        print_document({"folder": str(folder), **document(stored, findings)})
        return
    print_shown(render(stored, findings))
    print(f"\nverdict: {verdict}   results: {folder}")
    print(sentence(findings))
