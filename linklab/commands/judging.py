"""What `invoke bisect` and `invoke verdict` share: judging kernels as options say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.bisect.criterion import AUTO, FaultKind, FaultRule, parse_threshold
from linklab.bisect.figures import FIRST_BLOCKS
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.tester import Criterion, KernelTester
from linklab.bisect.verdicts import SelftestClassifier, Tries
from linklab.commands.fleet import FleetOptions
from linklab.commands.guests import hold_here
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.commands.scenarios import DEFAULT_BOOTS, METRIC, LeakOptions, memory_for, metric_of
from linklab.commands.selftest import SelftestOptions, SelftestWork
from linklab.errors import (
    BuildSkipped,
    GuestHung,
    KernelCrashed,
    KernelFault,
    LinklabError,
    UsageError,
    Verdict,
    WrongState,
)
from linklab.events import Listener
from linklab.host.cache import Cache
from linklab.lab.lab import Fleet
from linklab.options import choose_list, number, option
from linklab.paths import LIVE
from linklab.results.outcomes import Status
from linklab.results.shape import CELL_SEPARATOR
from linklab.results.store import read_about
from linklab.selftests.record import TestRecord, records_of

MOST_TRIES = 10_000
_HERE = FleetOptions()
_TRIALS = 3  # of a guest in a block: their median is one value
_FAULTS: dict[Status, type[KernelFault]] = {
    Status.FAIL: WrongState,
    Status.CRASH: KernelCrashed,
    Status.HANG: GuestHung,
}


@dataclass(frozen=True)
class CriterionOptions(LeakOptions):
    """The options that say what is bad, as typed."""

    metric: str = option("", METRIC)
    above: str = option(
        "",
        "go by a figure of one cell, which --cell names: from where on it is bad: auto, which is "
        "the middle of --good and --bad, 10% or 1.5x worse than the good kernel's, or a value: "
        "0.2s, 200ms; of what should be more, below it; default auto, where --metric is given",
    )
    max_blocks: str = option("256", "measurements of one kernel before it is skipped as unclear")
    fault: str = option(
        "",
        "go by faults, and only these: crash, hang, fail, warning; comma-separated",
        values=FaultKind,
    )
    title: str = option(
        "", "only faults whose report has this text, or fingerprint; any other is skipped"
    )
    tries: str = option(
        "1", "runs without a fault before a kernel is good, for a fault that comes and goes"
    )
    same: bool = option(
        False, "only the fault that --bad has, by its fingerprint; any other is skipped"
    )
    selftest: str = option(
        "", "go by the kernel's own self-tests: tests, as `invoke selftest` takes them"
    )


def check_criterion(options: CriterionOptions) -> Criterion:
    """Return what is looked for; raise `UsageError` for an option that is wrong."""
    kind = options.kind
    if options.metric and not options.above:
        options = replace(options, above=AUTO)
    if options.above and (options.fault or options.title or options.same):
        raise UsageError(
            "--above goes by a figure; --fault, --title and --same go by faults: choose one"
        )
    if options.above and options.selftest:
        raise UsageError("--above measures the lab's own scenario, not --selftest: choose one")
    if options.keep and options.selftest:
        raise UsageError("--keep keeps a guest of the lab's own scenario, not of --selftest")
    rule = FaultRule(
        choose_list("fault", options.fault, FaultKind) if options.fault else tuple(FaultKind),
        options.title,
        options.same,
    )
    tries = number("tries", options.tries, 1, MOST_TRIES)
    most = number("max-blocks", options.max_blocks, FIRST_BLOCKS, MOST_TRIES)
    if options.above:
        options = _in_new_words(options)
        plan = options.cell_plan({}, fresh_guest=True, trials=_TRIALS, warmup_trials=1)
        metric = metric_of(kind.shape, options.metric)
        threshold = parse_threshold(options.above, metric)
        return Criterion(
            plan, rule, plan.cells[0], threshold, tries, most, "", metric, options.keep
        )
    plan = options.plan(kind.judged)
    return Criterion(plan, rule, None, None, tries, most, options.selftest, None, options.keep)


def _in_new_words(options: CriterionOptions) -> CriterionOptions:
    """Return options in which `--metric` names a metric alone.

    It was `[NAME:]CELL` once, a cell the values of all axes with / between them,
    and stands so in scripts and in bisections that go on.
    """
    name, colon, word = options.metric.rpartition(":")
    axes = options.kind.shape.axes
    values = word.split(CELL_SEPARATOR)
    if not colon and len(values) == 1:
        return options
    if options.cell or len(values) != len(axes):
        cell = ",".join(f"{axis.name}={axis.values[0]}" for axis in axes)
        raise UsageError(
            f"--metric {options.metric}: the name of a metric is expected, and the cell by itself: "
            f"--cell {cell}"
        )
    pairs = zip(axes, values, strict=True)
    return replace(options, metric=name, cell=",".join(f"{a.name}={v}" for a, v in pairs))


def check_machine(options: MachineOptions, criterion: Criterion, kernels: KernelOptions) -> int:
    """Check the machine's options and return the guest's memory in MiB."""
    options.check(no_iso="a kernel that is judged once has no ISO; use direct or resume")
    if criterion.tests and kernels.modules:
        raise UsageError("--module loads into guests of the lab's own scenarios, not of --selftest")
    return memory_for(options, criterion.plan, kernels.with_scenario(criterion.plan.kind))


def open_tester(
    kernels: KernelOptions,
    machine: MachineOptions,
    memory: int,
    criterion: Criterion,
    listener: Listener,
    cache: Cache | None = None,
    fleet: Fleet | None = None,
) -> KernelTester:
    """Return what builds kernels of a flavour and tests them, its lab set up.

    A `fleet` does its batches, if there is one.
    """
    cache = cache or Cache()
    image = criterion.plan.kind.image or LIVE
    lab = set_up_lab(machine, memory, cache, listener, image)
    if criterion.keep:
        lab = replace(lab, hold=hold_here(listener))
    boots = DEFAULT_BOOTS[lab.clock]
    return KernelTester(
        kernels.names, replace(lab, fleet=fleet), cache, criterion, listener, kernels.modules, boots
    )


def selftest_classifier(
    criterion: Criterion,
    kernels: Callable[[Revision], KernelOptions],
    machine: MachineOptions,
    journal: Journal,
    listener: Listener,
    fleet: FleetOptions = _HERE,
) -> SelftestClassifier:
    """Return what classifies revisions by the tests that the criterion names."""

    def run(revision: Revision, folder: Path, attempt: int) -> Sequence[LinklabError]:
        return _run(criterion, kernels(revision), machine, fleet, folder, attempt, listener)

    return SelftestClassifier(run, Tries(criterion.rule, criterion.tries, journal))


def _run(
    criterion: Criterion,
    kernels: KernelOptions,
    machine: MachineOptions,
    fleet: FleetOptions,
    folder: Path,
    attempt: int,
    listener: Listener,
) -> list[LinklabError]:
    options = SelftestOptions(
        tests=criterion.tests,
        kernels=kernels,
        machine=machine,
        fleet=fleet,
        timeout=f"{criterion.plan.limit or 0:g}",
        output=str(folder),
    )
    work = SelftestWork(options, ["invoke", "selftest"], listener, attempt)
    work.says_how_to_go_on = False
    try:
        finished = work.run()
    except UsageError as error:  # options are right by now: this revision lacks the test
        raise BuildSkipped(error.message, error.evidence) from error
    if finished.faults:
        raise finished.faults[0]
    records = records_of(read_about(finished.folder))
    faults = list(_faults(records))
    if not faults and finished.verdict is not Verdict.PASS:
        undone = next(record for record in records if record.last.status is not Status.PASS)
        raise BuildSkipped(f"{undone.name} was not done: {undone.last.message}")
    if not any(record.last.status is Status.PASS for record in records) and not faults:
        raise BuildSkipped(f"every test of {criterion.tests} was skipped")
    return faults


def _faults(records: Sequence[TestRecord]) -> Iterator[LinklabError]:
    for record in records:
        if kind := _FAULTS.get(record.last.status):
            yield kind(f"{record.name}: {record.last.message}", record.last.evidence)
