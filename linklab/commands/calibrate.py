"""`invoke calibrate`: how often `invoke compare` is wrong, and how often it finds what is there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linklab.commands.compare import (
    BLOCKS,
    METRIC,
    THRESHOLD,
    TRIALS,
    metric_of,
    prepare_side,
    threshold_of,
)
from linklab.commands.compare import DEFAULTS as COMPARE_DEFAULTS
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
)
from linklab.commands.sides import Side
from linklab.commands.work import (
    MAX_BLOCKS,
    MAX_TRIALS,
    ScenarioOptions,
    ScheduleOptions,
    jobs_of,
    memory_for,
    seed_of,
)
from linklab.errors import UsageError, Verdict
from linklab.events import Listener, ignore
from linklab.host.cache import Cache
from linklab.image.userland import LIVE
from linklab.kernel.kconfig import flavours
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.options import JSON, group, number, option, percent, split_list
from linklab.results.comparison import Rule
from linklab.results.result_kinds import CALIBRATION
from linklab.results.shape import Better, Metric
from linklab.results.store import RunFolder, claim, removed_if_empty
from linklab.scenarios.scenario import Slower
from linklab.trials.plan import Plan

KIND = CALIBRATION
NONE = "none"
MAX_COMPARISONS = 10_000


@dataclass(frozen=True)
class CalibrateOptions(ScheduleOptions, ScenarioOptions):
    """The options of `invoke calibrate`, as typed."""

    kernel: str = option(
        "nosysfs",
        "one flavour, compared with itself and with itself slowed by a patch",
        values=flavours,
    )
    machine: MachineOptions = group(MachineOptions, NO_ISO, boot="resume")
    comparisons: str = option("", "how many of each; default 40, in virtual time 20")
    slowdown: str = option(
        "",
        "by how many per cent kernels are to be slowed, comma-separated; default 10, in virtual "
        "time 0.5,1,10; none: only with itself",
    )
    blocks: str = option("", BLOCKS)
    trials: str = option("", TRIALS)
    threshold: str = option("", THRESHOLD)
    metric: str = option("", METRIC)
    output: str = option("", "a folder for the results; default results/<UTC time>-calibrate")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Defaults:
    """What a calibration takes where nothing else is asked for, by the clock."""

    comparisons: str
    slowdowns: str  # per cent


DEFAULTS = {
    Clock.REAL: Defaults("40", "10"),
    Clock.VIRTUAL: Defaults("20", "0.5,1,10"),
}


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started."""

    plan: Plan
    metric: Metric
    rule: Rule
    slowdowns: tuple[float, ...]
    comparisons: int
    memory: int
    folder: Path


def check(options: CalibrateOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    slower = slower_of(options)
    if options.kernel not in flavours():
        raise UsageError(
            f"--kernel {options.kernel}: a flavour is expected, as it is built again with "
            f"{slower.patch.name}: {', '.join(flavours())}"
        )
    options.machine.check()
    if options.machine.boot == Boot.ISO:
        raise UsageError("--boot iso: an ISO takes no parameter for the slowed kernel")
    clock = decide_clock(options.machine, listener)
    default, compared = DEFAULTS[clock], COMPARE_DEFAULTS[clock]
    trials = number("trials", options.trials or compared.trials, 1, MAX_TRIALS)
    plan = options.plan(
        {axis: (value,) for axis, value in slower.cell.items()},
        repeat=number("blocks", options.blocks or compared.blocks, 2, MAX_BLOCKS),
        seed=seed_of(options.seed, clock),
        fresh_guest=True,
        jobs=jobs_of(options.jobs, clock),
        trials=trials,
        settling=int(trials > 1),
    )
    if len(plan.cells) != 1:
        raise UsageError(f"one cell is calibrated at a time, not {len(plan.cells)}")
    asked = options.slowdown or default.slowdowns
    words = [] if asked == NONE else split_list("slowdown", asked)
    slowdowns = tuple(percent("slowdown", word) / 100 for word in words)
    asked = options.comparisons or default.comparisons
    comparisons = number("comparisons", asked, 1, MAX_COMPARISONS)
    rule = Rule(threshold_of(options.threshold or compared.threshold), seed=plan.seed)
    memory = memory_for(options.machine, plan, _kernels(options))
    metric = metric_of(options.kind.shape, options.metric)
    if metric.zero or metric.better is Better.NEITHER:
        raise UsageError(
            f"--metric {metric.name}: no kernel can be worse in it by a share: it may be 0, or "
            "neither way is better"
        )
    folder = claim(options.output, KIND)
    return Request(plan, metric, rule, slowdowns, comparisons, memory, folder)


def slower_of(options: ScenarioOptions) -> Slower:
    """Return what makes the scenario's kernel slower. Raises `UsageError` where nothing does."""
    if options.kind.slower is None:
        raise UsageError(
            f"--scenario {options.scenario}: it has no patch that makes a kernel slower by a known "
            "amount, so there is nothing to calibrate with"
        )
    return options.kind.slower


def _kernels(options: CalibrateOptions, *patches: Path) -> KernelOptions:
    named = KernelOptions(options.kernel, patches=tuple(map(str, patches)))
    return named.with_scenario(options.kind)


def run(options: CalibrateOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Build, measure and store. Raises `LinklabError` where there is nothing to store."""
    from linklab.trials.calibrate import Calibration

    request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        image = options.kind.image or LIVE
        lab = prepare_lab(options.machine, request.memory, cache, listener, image)
        base, patched = _subjects(options, lab, cache, listener)
        folder = RunFolder(request.folder, _about(request, lab, (base, patched), command))
    calibration = Calibration(lab, request.plan, folder, request.rule, request.metric, listener)

    def measure() -> None:
        calibration.tune(base, patched, request.slowdowns)
        calibration.run(base, patched, request.comparisons)

    faults = stopped_by(measure)
    (cell,) = request.plan.cells
    stored = {
        "kernel": options.kernel,
        "work": request.plan.shape.in_words(cell),
        "metric": request.metric.name,
        "threshold": request.rule.threshold,
        **calibration.outcome.stored(request.metric),
    }
    verdict = Verdict.PASS if faults else _verdict(stored, folder)
    return finish(folder, faults, verdict, calibration=stored)


def _subjects(
    options: CalibrateOptions, lab: Lab, cache: Cache, listener: Listener
) -> tuple[Subject, Subject]:
    patch = slower_of(options).patch
    sides = (
        Side(options.kernel, _kernels(options)),
        Side(f"{options.kernel}+{patch.name}", _kernels(options, patch)),
    )
    base, patched = (prepare_side(side, options.kind, lab, cache, listener) for side in sides)
    return base, patched


def _verdict(stored: dict[str, Any], folder: RunFolder) -> Verdict:
    from linklab.report.calibration import calibration_of

    about = {**folder.run.about, "calibration": stored}
    return Verdict.PASS if calibration_of(about).met else Verdict.FAIL


def _about(
    request: Request, lab: Lab, subjects: tuple[Subject, Subject], command: Sequence[str]
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "command": shlex.join(command),
        **experiment(request.plan),
        **tested_on(lab, subjects),
    }


def main(options: CalibrateOptions, command: Sequence[str]) -> Verdict:
    """Calibrate, show what came out, and return the verdict."""

    from linklab.report.calibration import calibration_of, render
    from linklab.report.grid import plain_text
    from linklab.report.progress import progress

    with progress() as listener:
        finished = run(options, command, listener)
    shown = render(calibration_of(finished.run.about))
    (finished.folder / "table.txt").write_text(plain_text(shown), encoding="utf-8")
    if options.as_json:
        document = {"folder": str(finished.folder), "run": finished.run.document()}
        print_document(document)
    else:
        print_shown(shown)
        print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}")
    return concluded(finished)
