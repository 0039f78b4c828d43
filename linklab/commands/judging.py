"""What `invoke bisect` and `invoke verdict` share: judging kernels as options say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.bisect.criterion import FaultKind, FaultRule, Threshold, parse_threshold
from linklab.bisect.driver import Judge
from linklab.bisect.figures import FIRST_BLOCKS, FigureJudge
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.verdicts import Build, Tries, VerdictJudge, of_kernel
from linklab.commands.compare import metric_of
from linklab.commands.equip import Purpose, image_for
from linklab.commands.outcome import experiment, finish, tested_on
from linklab.commands.prepare import KernelOptions, MachineOptions, prepare_lab, subject_of
from linklab.commands.work import LimitedOptions, memory_for, seed_of, typed_cell
from linklab.errors import LinklabError, UsageError
from linklab.events import Listener
from linklab.host.cache import Cache
from linklab.image.userland import LIVE
from linklab.kernel.kconfig import flavours
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.options import choose, choose_list, number, option, seconds
from linklab.results.comparison import VIRTUAL_NOISE
from linklab.results.shape import Better, Cell, Metric
from linklab.results.store import RunFolder
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan
from linklab.trials.sequential import Blocks

MOST_TRIES = 10_000
_TRIALS = 3  # of a guest in a block: their median is one value


@dataclass(frozen=True)
class CriterionOptions(LimitedOptions):
    """The options that say what is bad, as typed."""

    metric: str = option(
        "",
        "go by a figure of one cell, its axes' values with / between: mtu/group/1024; NAME: in "
        "front of it for another metric than the first",
    )
    above: str = option(
        "",
        "from where on the figure is bad: 10% or 1.5x worse than the good kernel's, or a value: "
        "0.2s, 200ms; of what should be more, below it",
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
    if bool(options.metric) != bool(options.above):
        given, lacking = ("metric", "above") if options.metric else ("above", "metric")
        raise UsageError(f"--{given} needs --{lacking}: what is measured, and from where it is bad")
    if options.metric and (options.fault or options.title or options.same):
        raise UsageError(
            "--metric goes by a figure; --fault, --title and --same go by faults: choose one"
        )
    if options.metric and options.selftest:
        raise UsageError("--metric measures the lab's own scenario, not --selftest: choose one")
    rule = FaultRule(
        choose_list("fault", options.fault, FaultKind) if options.fault else tuple(FaultKind),
        options.title,
        options.same,
    )
    tries = number("tries", options.tries, 1, MOST_TRIES)
    most = number("max-blocks", options.max_blocks, FIRST_BLOCKS, MOST_TRIES)
    kind = options.kind
    if options.metric:
        name, colon, word = options.metric.rpartition(":")
        metric = metric_of(kind.shape, name) if colon else kind.shape.metric
        cell = typed_cell("metric", word, kind)
        plan = Plan(
            options.scenario,
            (cell,),
            options.given(),
            limit=seconds("timeout", options.timeout),
            fresh_guest=True,
            trials=_TRIALS,
            settling=1,
        )
        threshold = parse_threshold(options.above, metric)
        return Criterion(plan, rule, cell, threshold, tries, most, metric=metric)
    plan = options.plan(kind.judged)
    return Criterion(plan, rule, None, None, tries, most, options.selftest)


def check_machine(options: MachineOptions, criterion: Criterion, kernels: KernelOptions) -> int:
    """Check the machine's options and return the guest's memory in MiB."""
    options.check()
    if choose("boot", options.boot, Boot) is Boot.ISO:
        raise UsageError(
            "--boot iso: a kernel that is judged once has no ISO; use direct or resume"
        )
    return memory_for(options, criterion.plan, kernels.with_scenario(criterion.plan.kind))


def check_flavour(name: str) -> str:
    """Return the name of the flavour to build; raise `UsageError` for anything else."""
    if name not in flavours():
        raise UsageError(f"--kernel {name}: one flavour is expected: {', '.join(flavours())}")
    return name


class Workbench:
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
    ) -> Workbench:
        """Prepare the lab."""
        cache = Cache()
        image = criterion.plan.kind.image or LIVE
        lab = prepare_lab(machine, memory, cache, listener, image)
        return cls(flavour, lab, cache, criterion, listener)

    def build(self, name: str, options: BuildOptions) -> Subject:
        """Return a kernel under a name of its own; raise `BuildSkipped` where there is none."""
        kind = self._criterion.plan.kind
        if kind.fragment:
            options = replace(options, configs=(kind.fragment, *options.configs))
        kernel = resolve_kernel(self._flavour, options, self._cache, self._listener)
        purpose = Purpose.of(kind, self._lab)
        image = image_for(kernel, purpose, (), self._cache, self._listener)
        commit = {"commit": options.revision} if options.revision else {}
        subject = subject_of(kernel, self._cache, self._listener, image=image)
        return replace(subject, name=name, inputs={**kernel.inputs, **commit})

    def run(self, subject: Subject, folder: Path, attempt: int) -> list[LinklabError]:
        """Do everything that the plan has once, and return the kernel's faults.

        In virtual time what is drawn follows from the number of the attempt alone.
        """
        plan = replace(self._criterion.plan, seed=seed_of("", self._lab.clock) + attempt - 1)
        lab = self._ready([subject])
        stored = RunFolder(folder, self._about(plan, lab, [subject]))
        engine = Engine(lab, plan, stored, self._listener)
        engine.run([subject])
        faults = of_kernel(engine.faults)
        finish(stored, faults)
        return faults

    def blocks(self, subjects: Sequence[Subject], folder: str) -> Blocks:
        """Return what measures some kernels beside each other."""
        lab = self._ready(subjects)
        plan = replace(self._criterion.plan, seed=seed_of("", self._lab.clock))
        stored = RunFolder(Path(folder), self._about(plan, lab, subjects))
        return Blocks(Engine(lab, plan, stored, self._listener), subjects, plan.cells)

    def _ready(self, subjects: Sequence[Subject]) -> Lab:
        if self._lab.boot is not Boot.RESUME:
            return self._lab
        return self._lab.with_snapshots(subjects, self._cache, self._listener)

    def _about(self, plan: Plan, lab: Lab, subjects: Sequence[Subject]) -> dict[str, Any]:
        return {
            **experiment(plan),
            **tested_on(lab, subjects),
        }

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
