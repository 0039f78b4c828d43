"""What `invoke bisect` and `invoke verdict` share: judging kernels as options say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.bisect.criterion import FaultKind, FaultRule, Threshold, parse_threshold
from linklab.bisect.driver import Judge
from linklab.bisect.figures import FIRST_BLOCKS, FigureJudge
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.verdicts import Build, SelftestJudge, Tries, VerdictJudge, of_kernel
from linklab.commands.guests import hold_here
from linklab.commands.kernels import KernelOptions, Requirements, with_image
from linklab.commands.machines import MachineOptions, set_up_lab
from linklab.commands.scenarios import METRIC, ScenarioOptions, memory_for, metric_of, seed_of
from linklab.commands.selftest import SelftestOptions, SelftestWork
from linklab.commands.workflow import experiment, store_end, tested_on
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
from linklab.image.userland import LIVE
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.options import choose_list, number, option
from linklab.results.comparison import VIRTUAL_NOISE
from linklab.results.outcomes import Status
from linklab.results.shape import CELL_SEPARATOR, Better, Cell, Metric
from linklab.results.store import RunFolder, read_about
from linklab.selftests.record import TestRecord, records_of
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan
from linklab.trials.sequential import Blocks

MOST_TRIES = 10_000
_TRIALS = 3  # of a guest in a block: their median is one value
_FAULTS: dict[Status, type[KernelFault]] = {
    Status.FAIL: WrongState,
    Status.CRASH: KernelCrashed,
    Status.HANG: GuestHung,
}


@dataclass(frozen=True)
class CriterionOptions(ScenarioOptions):
    """The options that say what is bad, as typed."""

    metric: str = option("", METRIC)
    above: str = option(
        "",
        "go by a figure of one cell, which --cell names: from where on it is bad: 10% or 1.5x "
        "worse than the good kernel's, or a value: 0.2s, 200ms; of what should be more, below it",
    )
    max_blocks: str = option("64", "measurements of one kernel before it is skipped as unclear")
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


@dataclass(frozen=True)
class Criterion:
    """The same, checked. Either `rule` or `cell`, `metric` and `threshold` count."""

    plan: Plan
    rule: FaultRule
    cell: Cell | None
    threshold: Threshold | None
    tries: int
    most: int
    tests: str = ""
    metric: Metric | None = None
    keep: bool = False  # a guest that failed, for a person

    @property
    def text(self) -> str:
        """What is looked for, in words."""
        if self.tests:
            return f"{self.rule.text} in {self.tests}"
        if self.cell and self.threshold and self.metric:
            what = self.cell.text
            if self.metric != self.plan.shape.metric:
                what = f"{self.metric.name} of {what}"
            if self.metric.better is not Better.MORE:
                return f"{what} above {self.threshold.text}"
            if self.threshold.ratio is None:
                return f"{what} below {self.threshold.text}"
            return f"{what} worse by {self.threshold.text}"
        return self.rule.text

    @property
    def is_relative(self) -> bool:
        """Whether a good kernel is measured beside each one."""
        return self.threshold is not None and self.threshold.ratio is not None


def check_criterion(options: CriterionOptions) -> Criterion:
    """Return what is looked for; raise `UsageError` for an option that is wrong."""
    kind = options.kind
    if options.metric and not options.above:
        raise UsageError("--metric needs --above: what is measured, and from where it is bad")
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
        plan = options.cell_plan({}, fresh_guest=True, trials=_TRIALS, settling=1)
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
    return memory_for(options, criterion.plan, kernels.with_scenario(criterion.plan.kind))


class KernelTester:
    """Builds kernels and runs them, one after the other, on machines of one kind."""

    def __init__(
        self, flavour: str, lab: Lab, cache: Cache, criterion: Criterion, listener: Listener
    ) -> None:
        self._flavour = flavour
        self._lab = lab
        self._cache = cache
        self._criterion = criterion
        self._listener = listener

    @classmethod
    def open(
        cls,
        flavour: str,
        machine: MachineOptions,
        memory: int,
        criterion: Criterion,
        listener: Listener,
    ) -> KernelTester:
        """Prepare the lab."""
        cache = Cache()
        image = criterion.plan.kind.image or LIVE
        lab = set_up_lab(machine, memory, cache, listener, image)
        if criterion.keep:
            lab = replace(lab, hold=hold_here(listener))
        return cls(flavour, lab, cache, criterion, listener)

    def build(self, name: str, options: BuildOptions) -> Subject:
        """Return a kernel under a name of its own; raise `BuildSkipped` where there is none."""
        kind = self._criterion.plan.kind
        if kind.fragment:
            options = replace(options, configs=(kind.fragment, *options.configs))
        kernel = resolve_kernel(self._flavour, options, self._cache, self._listener)
        wanted = Requirements.of(kind, self._lab)
        subject = with_image(kernel, wanted, (), self._cache, self._listener)
        commit = {"commit": options.revision} if options.revision else {}
        return replace(subject, name=name, inputs={**kernel.inputs, **commit})

    def run(self, subject: Subject, folder: Path, attempt: int) -> list[LinklabError]:
        """Do everything that the plan has once, and return the kernel's faults.

        In virtual time what is drawn follows from the number of the attempt alone.
        """
        plan = replace(self._criterion.plan, seed=seed_of("", self._lab.clock) + attempt - 1)
        lab = self._ready([subject])
        stored = RunFolder(folder, {**experiment(plan), **tested_on(lab, [subject])})
        engine = Engine(lab, plan, stored, self._listener)
        engine.run([subject])
        faults = of_kernel(engine.faults)
        store_end(stored, faults)
        return faults

    def blocks(self, subjects: Sequence[Subject], folder: str) -> Blocks:
        """Return what measures some kernels beside each other."""
        lab = self._ready(subjects)
        plan = replace(self._criterion.plan, seed=seed_of("", self._lab.clock))
        stored = RunFolder(Path(folder), {**experiment(plan), **tested_on(lab, subjects)})
        return Blocks(Engine(lab, plan, stored, self._listener), subjects, plan.cells)

    def _ready(self, subjects: Sequence[Subject]) -> Lab:
        if self._lab.boot is not Boot.RESUME:
            return self._lab
        return self._lab.with_snapshots(subjects, self._cache, self._listener)

    def judge(
        self, build: Callable[[Revision], BuildOptions], good: Revision | None, journal: Journal
    ) -> Judge:
        """Return what judges revisions by the criterion."""

        def built(revision: Revision) -> Subject:
            return self.build(revision.short, build(revision))

        criterion = self._criterion
        if criterion.cell is None or criterion.threshold is None or criterion.metric is None:
            rule, tries = criterion.rule, criterion.tries
            return VerdictJudge(built, self.run, Tries(rule, tries, journal))
        return FigureJudge(
            build=_remembering(built),
            blocks=self.blocks,
            cell=criterion.cell,
            metric=criterion.metric,
            threshold=criterion.threshold,
            good=good,
            most=criterion.most,
            seed=0,
            journal=journal,
            noise=VIRTUAL_NOISE if self._lab.clock is Clock.VIRTUAL else 0.0,
        )


def _remembering(build: Build) -> Build:
    """Return the same, looking up a kernel once: the good one is wanted at every step."""
    known: dict[str, Subject] = {}

    def built(revision: Revision) -> Subject:
        if revision.name not in known:
            known[revision.name] = build(revision)
        return known[revision.name]

    return built


def selftest_judge(
    criterion: Criterion,
    kernels: Callable[[Revision], KernelOptions],
    machine: MachineOptions,
    journal: Journal,
    listener: Listener,
) -> SelftestJudge:
    """Return what judges revisions by the tests that the criterion names."""

    def run(revision: Revision, folder: Path, attempt: int) -> Sequence[LinklabError]:
        return _run(criterion, kernels(revision), machine, folder, attempt, listener)

    return SelftestJudge(run, Tries(criterion.rule, criterion.tries, journal))


def _run(
    criterion: Criterion,
    kernels: KernelOptions,
    machine: MachineOptions,
    folder: Path,
    attempt: int,
    listener: Listener,
) -> list[LinklabError]:
    options = SelftestOptions(
        tests=criterion.tests,
        kernels=kernels,
        machine=machine,
        timeout=f"{criterion.plan.limit or 0:g}",
        output=str(folder),
    )
    try:
        finished = SelftestWork(options, ["invoke", "selftest"], listener, attempt).run()
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
