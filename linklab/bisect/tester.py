"""What is looked for in kernels, and what builds and measures them for the classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.bisect.criterion import FaultRule, Threshold
from linklab.bisect.driver import Classifier
from linklab.bisect.figures import FigureClassifier
from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.verdicts import Build, Tries, VerdictClassifier, of_kernel
from linklab.errors import LinklabError
from linklab.events import Listener
from linklab.host.cache import Cache
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.results.comparison import VIRTUAL_NOISE
from linklab.results.shape import Better, Cell, Metric
from linklab.results.store import RunFolder
from linklab.trials.engine import Engine
from linklab.trials.plan import Leaks, Plan, new_seed
from linklab.trials.sequential import Blocks
from linklab.trials.subjects import Requirements, experiment, tested_on, with_image


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
            if not self.threshold.is_relative:
                return f"{what} below {self.threshold.text}"
            is_middle = self.threshold.is_middle
            return f"{what} worse {'than' if is_middle else 'by'} {self.threshold.text}"
        return self.rule.text

    @property
    def is_relative(self) -> bool:
        """Whether a good kernel is measured beside each one."""
        return self.threshold is not None and self.threshold.is_relative


class KernelTester:
    """Builds kernels and runs them, one after the other, on machines of one kind."""

    def __init__(
        self,
        flavour: str,
        lab: Lab,
        cache: Cache,
        criterion: Criterion,
        listener: Listener,
        modules: Sequence[str] = (),
        boots: int = 1,
    ) -> None:
        self._flavour = flavour
        self._lab = lab
        self._cache = cache
        self._criterion = criterion
        self._listener = listener
        self._modules = modules  # words of `--module`
        self._boots = boots  # saved guests of each kernel that is measured

    def build(self, name: str, options: BuildOptions) -> Subject:
        """Return a kernel under a name of its own; raise `BuildSkipped` where there is none."""
        kind = self._criterion.plan.kind
        options = replace(options, configs=(*kind.fragments(), *options.configs))
        if kind.modules:
            options = replace(options, modular=True)
        kernel = resolve_kernel(self._flavour, options, self._cache, self._listener)
        wanted = Requirements.of(kind, self._lab)
        modules = list(dict.fromkeys((*map(str, kind.modules), *self._modules)))
        subject = with_image(kernel, wanted, modules, self._cache, self._listener)
        commit = {"commit": options.revision} if options.revision else {}
        return replace(subject, name=name, inputs={**kernel.inputs, **commit})

    def run(self, subject: Subject, folder: Path, attempt: int) -> list[LinklabError]:
        """Do everything that the plan has once, and return the kernel's faults.

        In virtual time what is drawn follows from the number of the attempt alone.
        """
        plan = replace(self._criterion.plan, seed=new_seed(self._lab.clock) + attempt - 1)
        lab = self._ready([subject])
        stored = RunFolder(folder, {**experiment(plan, lab), **tested_on(lab, [subject])})
        engine = Engine(lab, plan, stored, self._listener)
        engine.run([subject])
        faults = of_kernel(engine.faults)
        engine.end(faults[0] if faults else None)
        return faults

    def blocks(self, subjects: Sequence[Subject], folder: str) -> Blocks:
        """Return what measures some kernels beside each other.

        They go by a figure: one that leaks has that, too.
        """
        lab = self._ready(subjects, self._boots)
        seed = new_seed(self._lab.clock)
        plan = replace(self._criterion.plan, seed=seed, leaks=Leaks.NONE)
        stored = RunFolder(Path(folder), {**experiment(plan, lab), **tested_on(lab, subjects)})
        return Blocks(Engine(lab, plan, stored, self._listener), subjects, plan.cells)

    def _ready(self, subjects: Sequence[Subject], boots: int = 1) -> Lab:
        if self._lab.boot is not Boot.RESUME:
            return self._lab
        lab = replace(self._lab, boots=boots)
        return lab.with_snapshots(subjects, self._cache, self._listener)

    def classifier(
        self, build: Callable[[Revision], BuildOptions], good: Revision | None, journal: Journal
    ) -> Classifier:
        """Return what classifies revisions by the criterion."""

        def built(revision: Revision) -> Subject:
            return self.build(revision.short, build(revision))

        criterion = self._criterion
        if criterion.cell is None or criterion.threshold is None or criterion.metric is None:
            rule, tries = criterion.rule, criterion.tries
            return VerdictClassifier(built, self.run, Tries(rule, tries, journal))
        return FigureClassifier(
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
