"""`invoke compare`: two kernels measured beside each other, or two stored runs compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.exit_status import print_document, print_shown
from linklab.commands.exports import ExportOptions, write_exports
from linklab.commands.kernels import GRAMMAR, KernelOptions, KernelSide, is_kernel, kernel_pair
from linklab.commands.machines import MachineOptions, decide_clock
from linklab.commands.scenarios import BlockOptions, memory_for, metric_of, no_share
from linklab.commands.workflow import (
    Finished,
    LabRequest,
    Measurement,
    MeasuringOptions,
    ResumeOptions,
)
from linklab.errors import LabError, LinklabError, UsageError, Verdict
from linklab.events import step
from linklab.kernel.kconfig import flavours
from linklab.machine.spec import Clock
from linklab.options import RESULTS, group, option, past_runs, percent, seconds, word
from linklab.results.comparison import DEFAULT_THRESHOLD, VIRTUAL_THRESHOLD, Effect, Rule
from linklab.results.result_kinds import COMPARISON
from linklab.results.shape import Metric, Shape
from linklab.results.store import RUN_FILE, read_run
from linklab.results.suites import suite_of_runs
from linklab.trials.plan import Plan
from linklab.trials.subjects import experiment

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linklab.report.comparison import Compared
    from linklab.trials.sequential import Budget, SequentialTest

CONCLUSIVE = "conclusive"
DEFAULT_MAX_TIME = 600.0  # s
_LOOKS = 9  # that should be able to show something, so that saved guests must be as many
MOST_PERCENT = 100
DEFAULT_THRESHOLDS = {Clock.REAL: DEFAULT_THRESHOLD, Clock.VIRTUAL: VIRTUAL_THRESHOLD}
MAX_TIME = (
    "seconds after which nothing further is begun: no block of --until conclusive, no "
    "repetition of a profile; default 600, of a profile 300"
)


@dataclass(frozen=True)
class ThresholdOptions(BlockOptions):
    """Two kernels in blocks, and which change between them matters, as typed."""

    threshold: str = option(
        "", "the smallest change that matters, in per cent; default 3, in virtual time 0.25"
    )

    def rule(self, clock: Clock, seed: int | None = None) -> Rule:
        """Return when two kernels are different; raise `UsageError` for what is wrong."""
        share = DEFAULT_THRESHOLDS[clock]
        if self.threshold:
            share = percent("threshold", self.threshold, MOST_PERCENT) / 100
        return Rule(share) if seed is None else Rule(share, seed=seed)


@dataclass(frozen=True)
class CompareOptions(MeasuringOptions, ThresholdOptions, ResumeOptions):
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
    kernels: KernelOptions = group(
        KernelOptions,
        {
            "patches": "a patch for B alone, on top; may be repeated, in order",
            "range": "commits of --source for B, BASE..TIP or LAST:N; A is what they stand on",
        },
        without=("names",),
        names="",
    )
    machine: MachineOptions = group(MachineOptions, boot="resume")
    warmup: str = option(
        "", "trials before them that are thrown away; default 1 where several are kept, else 0"
    )
    until: str = option(
        "", "conclusive: measure more blocks until it is known what B is", values=(CONCLUSIVE,)
    )
    max_time: str = option("", MAX_TIME)
    results: str = option("results", RESULTS)
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class CompareRequest(LabRequest):
    """The same, checked."""

    sides: tuple[KernelSide, KernelSide]
    plan: Plan
    metric: Metric
    rule: Rule
    budget: Budget


class Comparing(Measurement[CompareOptions, CompareRequest]):
    """`invoke compare` at its work on two kernels."""

    kind = COMPARISON

    def check(self) -> CompareRequest:
        """Check every option that can be checked without building anything."""
        options, kind = self.options, self.options.kind
        both = kernel_pair(options.a, options.b, options.kernels.with_scenario(kind))
        options.machine.check()
        options.exports.check()
        metric = _compared(kind.shape, options)
        clock = decide_clock(self.machine, self.listener)
        plan = options.block_plan(clock, kind.compared, options.warmup)
        budget = _budget(options, plan)
        rule = options.rule(clock, plan.seed)
        memory = max(memory_for(options.machine, plan, side.options) for side in both)
        self.place.check(self.network, memory, options.kind, plan)
        return CompareRequest(self.claimed(), memory, both, plan, metric, rule, budget)

    def sides(self) -> Sequence[KernelSide]:
        """Return both kernels."""
        return self.request.sides

    @property
    def comparisons(self) -> int:
        """How many comparisons are corrected together, those of several looks among them."""
        looks = _LOOKS * (_LOOKS + 1) if self.options.until else 1
        return len(self.request.plan.cells) * looks

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a comparison when it begins."""
        sides = [
            {"name": side.label, "source": side.options.source, **side.options.content()}
            for side in self.request.sides
        ]
        return {
            **experiment(self.request.plan, self.lab),
            "sides": sides,
        }

    def measure(self) -> None:
        """Measure both until it is known, or until the blocks or the time are over."""
        a, b = self.subjects
        with step(self.listener, f"comparing {a.name} with {b.name}"):
            self._test.run(self.request.budget)

    @cached_property
    def _test(self) -> SequentialTest:
        from linklab.trials.engine import Engine
        from linklab.trials.sequential import Blocks, SequentialTest

        asked = self.request
        engine = Engine(self.lab, asked.plan, self.folder, self.listener)
        blocks = Blocks(engine, self.subjects, asked.plan.cells)
        return SequentialTest(blocks, asked.rule, asked.metric, self.listener)

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end: what is surely worse is a fail."""
        shape, found = self.request.plan.shape, self._test.outcome.found
        if not faults and (left := [c for c in self.request.plan.cells if c not in found]):
            where = shape.in_words(left[0])
            faults = [LabError(f"nothing to compare was measured in {where}")]
        verdict, message = Verdict.PASS, ""
        if worse := [c for c, one in found.items() if one.verdict is Effect.WORSE]:
            verdict = Verdict.FAIL
            where = "; ".join(shape.in_words(cell) for cell in worse)
            message = f"{Effect.WORSE.word(self.request.metric)}: {where}"
        return self.ended(faults, verdict, message, comparison=self._test.stored())

    @cached_property
    def _comparison(self) -> Compared:
        from linklab.report.comparison import stored_comparison

        return stored_comparison(self.stored)

    def table(self) -> RenderableType:
        """Return the comparison's table."""
        from linklab.report.comparison import render

        return render(self._comparison)

    def document(self) -> dict[str, Any]:
        """Return the comparison with its samples."""
        samples = [sample.to_json() for sample in self.stored.samples]
        sentence = self._comparison.sentence()
        return {"run": self.stored.document(), "samples": samples, "sentence": sentence}

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        """Return the files to export to, and what would fail as a whole."""
        return self.options.exports, self.kind, [self.options.b]


def _compared(shape: Shape, options: CompareOptions) -> Metric:
    metric = metric_of(shape, options.metric)
    if metric.zero and options.threshold:
        raise no_share(metric, "threshold", options.threshold)
    return metric


def _budget(options: CompareOptions, plan: Plan) -> Budget:
    from linklab.trials.sequential import Budget

    limit = seconds("max-time", options.max_time or "0")
    if options.until not in ("", CONCLUSIVE):
        raise UsageError(f"--until {options.until}: unknown; valid is {CONCLUSIVE}")
    if limit is not None and not options.until:
        raise UsageError(f"--max-time goes with --until {CONCLUSIVE}")
    return Budget(plan.repeat, (limit or DEFAULT_MAX_TIME) if options.until else None)


def main(options: CompareOptions, command: Sequence[str]) -> Verdict:
    """Compare, show what came out, and return the verdict."""
    if _may_be_kernel(options.a) or _may_be_kernel(options.b):
        return Comparing(options, command).carry_out()
    return compare_runs(options)


def _may_be_kernel(word: str) -> bool:
    """Whether a word is to be taken for a kernel: all that is no stored run by its look."""
    path = Path(word).expanduser()
    return is_kernel(word) or (path.exists() and not (path / RUN_FILE).is_file())


def compare_runs(options: CompareOptions) -> Verdict:
    """Compare two stored runs, where they may be, and print what came out."""
    from linklab.report.comparison import comparison_of_runs, render

    given = options.kernels
    changed = given.patches or given.range or given.source or given.configs or given.modules
    # The older names of axes may be a person's habit.
    asked = options.axis or options.cell or options.param
    if changed or asked or options.until:
        raise UsageError("two stored runs are compared as they are: nothing is built or measured")
    options.exports.check()
    folders = [_stored_run(word, Path(options.results)) for word in (options.a, options.b)]
    one, other = ((folder, read_run(folder)) for folder in folders)
    clock = Clock.VIRTUAL if one[1].about.get("clock") == Clock.VIRTUAL else Clock.REAL
    metric = _compared(one[1].shape, options)
    comparison = comparison_of_runs(one, other, options.rule(clock), metric)
    if not comparison.rows:
        raise UsageError(
            f"{folders[0]} and {folders[1]} have nothing in common: no cell that both measured "
            "with kernels of the same name, twice or more"
        )
    verdict = Verdict.PASS
    if any(row.comparison.verdict is Effect.WORSE for row in comparison.rows):
        verdict = Verdict.FAIL
    found = [(row.kernel, row.cell, row.comparison) for row in comparison.rows]
    write_exports(
        options.exports, [suite_of_runs(found, comparison.metric, comparison.a, comparison.b)]
    )
    if options.as_json:
        print_document({**_runs_json(comparison), "runs": [str(folder) for folder in folders]})
    else:
        print_shown(render(comparison))
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


def _runs_json(comparison: Compared) -> dict[str, Any]:
    rows = [
        {**row.cell, "kernel": row.kernel, **row.comparison.to_json(comparison.metric)}
        for row in comparison.rows
    ]
    return {"results": rows, "threshold": comparison.threshold, "sentence": comparison.sentence()}
