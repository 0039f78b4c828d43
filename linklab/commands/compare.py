"""`invoke compare`: two kernels measured beside each other, or two stored runs compared."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.equip import Purpose, image_for
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
    KernelOptions,
    MachineOptions,
    decide_clock,
    iso_of,
    prepare_lab,
    subject_of,
    tell_notes,
)
from linklab.commands.sides import GRAMMAR, Side, is_kernel, sides
from linklab.commands.work import MAX_BLOCKS, MAX_TRIALS, TrialOptions, memory_for
from linklab.errors import LabError, UsageError, Verdict
from linklab.events import Listener, Note, ignore, step
from linklab.host.cache import Cache
from linklab.image.userland import LIVE
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import resolve_kernel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock, MachineType
from linklab.options import JSON, RESULTS, group, number, option, past_runs, seconds, word
from linklab.results.codec import SchemaError
from linklab.results.comparison import DEFAULT_THRESHOLD, VIRTUAL_THRESHOLD, Effect, Rule
from linklab.results.result_kinds import COMPARISON
from linklab.results.shape import Metric, Shape
from linklab.results.store import RUN_FILE, RunFolder, claim, read_run, removed_if_empty
from linklab.results.suites import suite_of_runs, suites_of
from linklab.scenarios.scenario import Scenario
from linklab.trials.plan import Plan

if TYPE_CHECKING:
    from linklab.report.comparison import Compared
    from linklab.trials.sequential import Budget, SequentialTest

KIND = COMPARISON
CONCLUSIVE = "conclusive"
DEFAULT_MAX_TIME = 600.0  # s

METRIC = "what is compared of what the scenario measures; default: its first metric"
BLOCKS = "how often to measure both, each time in two fresh guests; default 20, in virtual time 10"
TRIALS = (
    "trials in each guest, of which the median is the guest's value; default 5, in virtual time 3"
)
THRESHOLD = "the smallest change that matters, in per cent; default 3, in virtual time 0.25"


@dataclass(frozen=True)
class CompareOptions(TrialOptions):
    """The options of `invoke compare`, as typed. `kernels` has no names: `a` and `b` are those."""

    a: str = word(
        f"the first kernel, {GRAMMAR}: a flavour (of a source tree or of a commit of --source, "
        "with patches), a bzImage or a built kernel tree; or a stored run",
        lambda: (*flavours(), *past_runs()),
    )
    b: str = word(
        "the second, the same way; what it leaves out is the first one's: `+fix.patch`",
        lambda: (*flavours(), *past_runs()),
    )
    metric: str = option("", METRIC)
    kernels: KernelOptions = group(
        KernelOptions,
        {
            "source": "a kernel tree or a tarball to build both from, instead of Debian's",
            "patches": "a patch for B alone, on top; may be repeated, in order",
            "configs": "a fragment of kernel options for both; may be repeated, in order",
            "range": "commits of --source for B, BASE..TIP or LAST:N; A is what they stand on",
        },
        without=("names",),
        names="",
    )
    machine: MachineOptions = group(MachineOptions, boot="resume")
    blocks: str = option("", BLOCKS)
    trials: str = option("", TRIALS)
    warmup: str = option(
        "", "trials before them that are thrown away; default 1 with --trials above 1, else 0"
    )
    threshold: str = option("", THRESHOLD)
    until: str = option(
        "", "conclusive: measure more blocks until it is known what B is", values=(CONCLUSIVE,)
    )
    max_time: str = option(
        "", "seconds after which --until conclusive begins no further block; default 600"
    )
    output: str = option("", "a folder for the results; default results/<UTC time>-compare")
    results: str = option("results", RESULTS)
    as_json: bool = option(False, JSON, "json")
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class Defaults:
    """What a comparison takes where nothing else is asked for, by the clock. Threshold in %."""

    threshold: str
    blocks: str
    trials: str


DEFAULTS = {
    Clock.REAL: Defaults(f"{100 * DEFAULT_THRESHOLD:g}", "20", "5"),
    Clock.VIRTUAL: Defaults(f"{100 * VIRTUAL_THRESHOLD:g}", "10", "3"),
}


def with_defaults(options: CompareOptions, clock: Clock) -> CompareOptions:
    """Return the options with what was left open set by the clock."""
    default = DEFAULTS[clock]
    return replace(
        options,
        threshold=options.threshold or default.threshold,
        blocks=options.blocks or default.blocks,
        trials=options.trials or default.trials,
    )


@dataclass(frozen=True)
class Request:
    """The same, checked: nothing has been started."""

    sides: tuple[Side, Side]
    plan: Plan
    metric: Metric
    rule: Rule
    budget: Budget
    memory: int
    folder: Path


def threshold_of(text: str) -> float:
    """Return the smallest effect that matters as a share, from per cent: `3`, `3%`, `0.5`."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        raise UsageError(f"--threshold {text}: a number of per cent is expected") from None
    if not 0 < percent <= 100:
        raise UsageError(f"--threshold {text}: per cent above 0 and up to 100 are expected")
    return percent / 100


def check(options: CompareOptions, listener: Listener = ignore) -> Request:
    """Check every option that can be checked without building anything."""
    kind = options.kind
    both = sides(options.a, options.b, options.kernels.with_scenario(kind))
    options.machine.check()
    options.exports.check()
    metric = _compared(kind.shape, options)
    clock = decide_clock(options.machine, listener)
    options = with_defaults(options, clock)
    plan, budget = _plan(options, clock), _budget(options)
    rule = Rule(threshold_of(options.threshold), seed=plan.seed)
    memory = max(memory_for(options.machine, plan, side.options) for side in both)
    return Request(both, plan, metric, rule, budget, memory, claim(options.output, KIND))


def no_share(metric: Metric, option: str, text: str) -> UsageError:
    """Return why a metric that may be 0 has no smallest share that matters."""
    return UsageError(
        f"--{option} {text}: {metric.name} may be 0, so it is compared by its difference, and what "
        f"matters of that the scenario says ({metric.matters:g} {metric.unit}".rstrip()
        + ")"
    )


def metric_of(shape: Shape, name: str) -> Metric:
    """Return the metric that is compared. Raises `UsageError` for one that there is not."""
    try:
        return shape.metric_named(name) if name else shape.metric
    except SchemaError as error:
        raise UsageError(f"--metric {error}") from None


def _compared(shape: Shape, options: CompareOptions) -> Metric:
    metric = metric_of(shape, options.metric)
    if metric.zero and options.threshold:
        raise no_share(metric, "threshold", options.threshold)
    return metric


def _plan(options: CompareOptions, clock: Clock) -> Plan:
    trials = number("trials", options.trials, 1, MAX_TRIALS)
    return options.trials_plan(
        clock,
        options.kind.compared,
        repeat=number("blocks", options.blocks, 2, MAX_BLOCKS),
        fresh_guest=True,
        trials=trials,
        settling=number("warmup", options.warmup or int(trials > 1), 0, MAX_TRIALS),
    )


def _budget(options: CompareOptions) -> Budget:
    from linklab.trials.sequential import Budget

    limit = seconds("max-time", options.max_time or "0")
    if options.until not in ("", CONCLUSIVE):
        raise UsageError(f"--until {options.until}: unknown; valid is {CONCLUSIVE}")
    if limit is not None and not options.until:
        raise UsageError(f"--max-time goes with --until {CONCLUSIVE}")
    blocks = number("blocks", options.blocks, 2, MAX_BLOCKS)
    return Budget(blocks, (limit or DEFAULT_MAX_TIME) if options.until else None)


def prepare_side(
    side: Side, kind: type[Scenario], lab: Lab, cache: Cache, listener: Listener
) -> Subject:
    """Return a side's kernel, built if it must be, under the side's name."""
    tell_notes(side.options, listener)
    name = side.options.names
    kernel = resolve_kernel(name, side.options.build_options(name), cache, listener)
    purpose = Purpose.of(kind, lab)
    image = image_for(kernel, purpose, side.options.modules, cache, listener)
    iso = None
    if lab.boot is Boot.ISO:
        iso = iso_of([kernel], side.options, cache, listener, purpose)
    return replace(subject_of(kernel, cache, listener, iso, image), name=side.label)


def on_one_machine(lab: Lab, subjects: Sequence[Subject], listener: Listener) -> Lab:
    """Return a lab that boots all of them on machines of one type, or their seconds say nothing."""
    types = {subject.name: lab.machine_for(subject) for subject in subjects}
    if len(set(types.values())) == 1:
        return lab
    own = ", ".join(f"{name} on {machine}" for name, machine in types.items())
    listener(Note(f"left alone they boot on different machines ({own}): both on pc"))
    return replace(lab, machine=MachineType.PC)


def run(options: CompareOptions, command: Sequence[str], listener: Listener) -> Finished:
    """Build, measure, compare and store. Raises `LinklabError` where there is nothing to store."""
    request = check(options, listener)
    with removed_if_empty(request.folder):
        cache = Cache()
        image = options.kind.image or LIVE
        lab = prepare_lab(options.machine, request.memory, cache, listener, image)
        lab = options.with_keeper(lab, listener)
        a, b = (prepare_side(s, options.kind, lab, cache, listener) for s in request.sides)
        lab = on_one_machine(lab, (a, b), listener)
        if lab.boot is Boot.RESUME:
            lab = lab.with_snapshots([a, b], cache, listener)
        folder = RunFolder(request.folder, _about(request, lab, (a, b), command))
    return compete(request, lab, (a, b), folder, listener)


def compete(
    request: Request,
    lab: Lab,
    subjects: tuple[Subject, Subject],
    folder: RunFolder,
    listener: Listener,
) -> Finished:
    """Measure two kernels that are there, and store what came out, whatever ends it."""
    from linklab.trials.engine import Engine
    from linklab.trials.sequential import Blocks, SequentialTest

    engine = Engine(lab, request.plan, folder, listener)
    blocks = Blocks(engine, subjects, request.plan.cells)
    test = SequentialTest(blocks, request.rule, request.metric, listener)
    with step(listener, f"comparing {subjects[0].name} with {subjects[1].name}"):
        faults = stopped_by(lambda: test.run(request.budget))
    if not faults and (left := [c for c in request.plan.cells if c not in test.outcome.found]):
        where = request.plan.shape.in_words(left[0])
        faults = [LabError(f"nothing to compare was measured in {where}")]
    verdict, message = _verdict(request, test)
    return finish(folder, faults, verdict, message, comparison=test.stored())


def _verdict(request: Request, test: SequentialTest) -> tuple[Verdict, str]:
    shape, found = request.plan.shape, test.outcome.found
    worse = [shape.in_words(c) for c, one in found.items() if one.verdict is Effect.WORSE]
    if worse:
        return Verdict.FAIL, f"{Effect.WORSE.word(request.metric)}: {'; '.join(worse)}"
    return Verdict.PASS, ""


def _about(
    request: Request,
    lab: Lab,
    subjects: tuple[Subject, Subject],
    command: Sequence[str],
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "command": shlex.join(command),
        **experiment(request.plan),
        "sides": [
            {"name": side.label, "source": side.options.source, **side.options.content()}
            for side in request.sides
        ],
        **tested_on(lab, subjects),
    }


def main(options: CompareOptions, command: Sequence[str]) -> Verdict:
    """Compare, show what came out, and return the verdict."""
    from linklab.report.progress import progress

    if not (_may_be_kernel(options.a) or _may_be_kernel(options.b)):
        return compare_runs(options)
    with progress() as listener, failure_written(options.exports, KIND, [options.b]):
        finished = run(options, command, listener)
    try:
        present(finished, options.as_json)
    finally:  # who reads only the table's beginning gets the files all the same
        write_exports(options.exports, suites_of(finished.run))
    return concluded(finished)


def _may_be_kernel(word: str) -> bool:
    """Whether a word is to be taken for a kernel: all that is no stored run by its look."""
    path = Path(word).expanduser()
    return is_kernel(word) or (path.exists() and not (path / RUN_FILE).is_file())


def present(finished: Finished, as_json: bool) -> None:
    """Show a comparison and leave its table in its folder."""
    from linklab.report.comparison import render, stored_comparison
    from linklab.report.grid import plain_text

    stored = finished.run
    compared = stored_comparison(stored)
    shown = render(compared)
    (finished.folder / "table.txt").write_text(plain_text(shown), encoding="utf-8")
    if as_json:
        print_document(
            {
                "folder": str(finished.folder),
                "run": stored.document(),
                "samples": [sample.to_json() for sample in stored.samples],
                "sentence": compared.sentence(),
            }
        )
        return
    print_shown(shown)
    print(f"\nverdict: {finished.verdict.value}   results: {finished.folder}")


def compare_runs(options: CompareOptions) -> Verdict:
    """Compare two stored runs, where they may be, and print what came out."""
    from linklab.report.comparison import comparison_of_runs, render

    given = options.kernels
    changed = given.patches or given.range or given.source or given.configs or given.modules
    asked = options.axis or options.param  # the older names of axes may be a person's habit
    if changed or asked or options.until:
        raise UsageError("two stored runs are compared as they are: nothing is built or measured")
    options.exports.check()
    folders = [_stored_run(word, Path(options.results)) for word in (options.a, options.b)]
    one, other = ((folder, read_run(folder)) for folder in folders)
    clock = Clock.VIRTUAL if one[1].about.get("clock") == Clock.VIRTUAL else Clock.REAL
    metric = _compared(one[1].shape, options)
    rule = Rule(threshold_of(with_defaults(options, clock).threshold))
    compared = comparison_of_runs(one, other, rule, metric)
    if not compared.rows:
        raise UsageError(
            f"{folders[0]} and {folders[1]} have nothing in common: no cell that both measured "
            "with kernels of the same name, twice or more"
        )
    verdict = Verdict.PASS
    if any(row.comparison.verdict is Effect.WORSE for row in compared.rows):
        verdict = Verdict.FAIL
    found = [(row.kernel, row.cell, row.comparison) for row in compared.rows]
    write_exports(options.exports, [suite_of_runs(found, compared.metric, compared.a, compared.b)])
    if options.as_json:
        print_document({**_runs_json(compared), "runs": [str(folder) for folder in folders]})
    else:
        print_shown(render(compared))
        print(f"\nverdict: {verdict.value}")
    return verdict


def _stored_run(word: str, results: Path) -> Path:
    from linklab.results.history import find

    try:
        return find(word, results)
    except UsageError as error:
        raise UsageError(
            f"{word!r} is no kernel, which would be {GRAMMAR}, and no stored run: {error.message}"
        ) from None


def _runs_json(compared: Compared) -> dict[str, Any]:
    rows = [
        {**row.cell, "kernel": row.kernel, **row.comparison.to_json(compared.metric)}
        for row in compared.rows
    ]
    return {"results": rows, "threshold": compared.threshold, "sentence": compared.sentence()}
