"""`invoke calibrate`: how often `invoke compare` is wrong, and how often it finds what is there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.compare import BLOCKS, THRESHOLD, TRIALS, prepare_side, threshold_of
from linklab.commands.compare import DEFAULTS as COMPARE_DEFAULTS
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
    ScheduleOptions,
    jobs_of,
    memory_for,
    seed_of,
)
from linklab.errors import UsageError, Verdict
from linklab.events import Listener, ignore
from linklab.host.cache import Cache
from linklab.kernel.kconfig import flavours
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.options import JSON, group, number, option, percent, single, split_list
from linklab.results.comparison import Rule
from linklab.results.kinds import CALIBRATION
from linklab.results.store import RunFolder, claim, read_run, removed_if_empty
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import MAX_COUNT, NAME, Plan
from linklab.scenarios.grouping.slowed import PATCH
from linklab.scenarios.grouping.ways import Arm

if TYPE_CHECKING:
    from linklab.scenarios.grouping.calibration import Outcome

KIND = CALIBRATION
NONE = "none"
MAX_COMPARISONS = 10_000


@dataclass(frozen=True)
class CalibrateOptions(ScheduleOptions):
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
    counts: str = option("", "the number of interfaces; default 1024, in virtual time 512")
    blocks: str = option("", BLOCKS)
    trials: str = option("", TRIALS)
    threshold: str = option("", THRESHOLD)
    output: str = option("", "a folder for the results; default results/<UTC time>-calibrate")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class Defaults:
    """What a calibration takes where nothing else is asked for, by the clock."""

    comparisons: str
    slowdowns: str  # per cent
    counts: str


DEFAULTS = {
    Clock.REAL: Defaults("40", "10", "1024"),
    Clock.VIRTUAL: Defaults("20", "0.5,1,10", "512"),
}


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started."""

    plan: Plan
    rule: Rule
    slowdowns: tuple[float, ...]
    comparisons: int
    memory: int
    folder: Path


def check(options: CalibrateOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    if options.kernel not in flavours():
        raise UsageError(
            f"--kernel {options.kernel}: a flavour is expected, as it is built again with "
            f"{PATCH.name}: {', '.join(flavours())}"
        )
    options.machine.check()
    if options.machine.boot == Boot.ISO:
        raise UsageError("--boot iso: an ISO takes no parameter for the slowed kernel")
    clock = decide_clock(options.machine, listener)
    default, compared = DEFAULTS[clock], COMPARE_DEFAULTS[clock]
    trials = number("trials", options.trials or compared.trials, 1, MAX_TRIALS)
    asked = options.counts or default.counts
    plan = Plan(
        counts=(number("counts", single("counts", asked), 1, MAX_COUNT),),
        operations=(Operation.MTU,),
        arms=(Arm.GROUP,),
        repeat=number("blocks", options.blocks or compared.blocks, 2, MAX_BLOCKS),
        seed=seed_of(options.seed, clock),
        fresh_guest=True,
        jobs=jobs_of(options.jobs, clock),
        trials=trials,
        settling=int(trials > 1),
    )
    asked = options.slowdown or default.slowdowns
    words = [] if asked == NONE else split_list("slowdown", asked)
    slowdowns = tuple(percent("slowdown", word) / 100 for word in words)
    asked = options.comparisons or default.comparisons
    comparisons = number("comparisons", asked, 1, MAX_COMPARISONS)
    rule = Rule(threshold_of(options.threshold or compared.threshold), seed=plan.seed)
    memory = memory_for(options.machine, plan, KernelOptions(options.kernel))
    folder = claim(options.output, KIND)
    return Request(plan, rule, slowdowns, comparisons, memory, folder)


def run(options: CalibrateOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Build, measure and store. Raises `LinklabError` where there is nothing to store."""
    from linklab.scenarios.grouping.calibration import Calibration

    request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        lab = prepare_lab(options.machine, request.memory, cache, listener)
        base, patched = _subjects(options.kernel, lab, cache, listener)
        folder = RunFolder(request.folder, _about(request, lab, (base, patched), command))
    calibration = Calibration(lab, request.plan, folder, request.rule, listener)

    def measure() -> None:
        calibration.tune(base, patched, request.slowdowns)
        calibration.run(base, patched, request.comparisons)

    faults = stopped_by(measure)
    stored = _stored(options, request, calibration.outcome)
    verdict = Verdict.PASS if faults else _verdict(stored, folder)
    return finish(folder, faults, verdict, calibration=stored)


def _subjects(kernel: str, lab: Lab, cache: Cache, listener: Listener) -> tuple[Subject, Subject]:
    sides = (
        Side(kernel, KernelOptions(kernel)),
        Side(f"{kernel}+{PATCH.name}", KernelOptions(kernel, patches=(str(PATCH),))),
    )
    base, patched = (prepare_side(side, lab, cache, listener) for side in sides)
    return base, patched


def _stored(options: CalibrateOptions, request: Request, outcome: Outcome) -> dict[str, Any]:
    """Return what run.json keeps of a calibration."""
    (cell,) = ((p, c) for p in request.plan.pairs() for c in request.plan.counts)
    (operation, arm), interfaces = cell
    return {
        "kernel": options.kernel,
        "work": f"{operation} by {arm}, {interfaces} interfaces",
        "threshold": request.rule.threshold,
        "seconds": outcome.seconds,
        "same": [asdict(one) for one in outcome.same],
        "slowed": [asdict(one) for one in outcome.slowed],
    }


def _verdict(stored: dict[str, Any], folder: RunFolder) -> Verdict:
    from linklab.report.calibration import calibration_of

    about = {**read_run(folder.path).about, "calibration": stored}
    return Verdict.PASS if calibration_of(about).met else Verdict.FAIL


def _about(
    request: Request, lab: Lab, subjects: tuple[Subject, Subject], command: Sequence[str]
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "command": shlex.join(command),
        "scenario": NAME,
        "plan": planned(request.plan),
        **tested_on(lab, subjects),
    }


def main(options: CalibrateOptions, command: Sequence[str]) -> Verdict:
    """Calibrate, show what came out, and return the verdict."""

    from linklab.report.calibration import calibration_of, render
    from linklab.report.layout import plain_text
    from linklab.report.progress import progress

    with progress() as listener:
        finished = run(options, command, listener)
    stored = read_run(finished.folder)
    shown = render(calibration_of(stored.about))
    (finished.folder / "table.txt").write_text(plain_text(shown), encoding="utf-8")
    if options.as_json:
        document = {"folder": str(finished.folder), "run": stored.about}
        print_document(document)
    else:
        print_shown(shown)
        print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}")
    return concluded(finished)
