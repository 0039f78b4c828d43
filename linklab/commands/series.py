"""`invoke series`: what each patch of a series does, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from linklab.commands.exports import ExportOptions
from linklab.commands.kernels import (
    KernelOptions,
    KernelSide,
    tell_notes,
)
from linklab.commands.machines import MachineOptions, decide_clock
from linklab.commands.scenarios import MAX_BLOCKS, BlockOptions, memory_for, no_share
from linklab.commands.workflow import (
    Finished,
    LabRequest,
    Measurement,
    MeasuringOptions,
    ResumeOptions,
)
from linklab.errors import LinklabError, UsageError, Verdict
from linklab.kernel.kconfig import flavours
from linklab.kernel.series import Series
from linklab.machine.spec import Clock
from linklab.options import group, number, option, percent, split_list
from linklab.results.comparison import fewest_blocks
from linklab.results.result_kinds import SERIES
from linklab.results.series import Findings, find, rule_of
from linklab.trials.plan import Plan
from linklab.trials.series import SeriesPlan, SeriesRun, applied, entry
from linklab.trials.subjects import experiment

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_BLOCKS = {Clock.REAL: 20, Clock.VIRTUAL: 10}
_SPARE_BLOCKS = 2  # more than it takes for a p value to reach the level at all
FAIL_ABOVE = {Clock.REAL: "3", Clock.VIRTUAL: "0.5"}  # %


@dataclass(frozen=True)
class SeriesOptions(MeasuringOptions, BlockOptions, ResumeOptions):
    """The options of `invoke series`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions,
        {"names": "flavours that each state is built as, comma-separated"},
    )
    machine: MachineOptions = group(MachineOptions, boot="resume")
    fail_above: str = option(
        "",
        "per cent; a patch that is surely worse by more than that fails; default 3, in virtual "
        "time 0.5",
    )
    exports: ExportOptions = group(ExportOptions)


@dataclass(frozen=True)
class SeriesRequest(LabRequest):
    """The same, checked."""

    plan: SeriesPlan


def _comparisons(measure: Plan, flavours: Sequence[str], series: Series) -> int:
    """Return how many there are: each patch against the one before and against the base.

    The first patch's are one.
    """
    return len(measure.cells) * len(flavours) * (2 * len(series.patches) - 1)


class SeriesWork(Measurement[SeriesOptions, SeriesRequest]):
    """`invoke series` at its work."""

    kind = SERIES
    defined_by = (SERIES,)
    saves_guests = False  # of one state after the other, as one may not boot
    plan: SeriesPlan

    def check(self) -> SeriesRequest:
        """Check every option that can be checked without building anything."""
        options = self.options
        names = split_list("kernel", options.kernels.names)
        if others := [name for name in names if name not in flavours()]:
            raise UsageError(
                f"--kernel {others[0]}: a series is built, so a flavour is expected: "
                f"{', '.join(flavours())}"
            )
        kernels = self.place.kernels(options.kernels.with_scenario(options.kind), self.network)
        kernels.check()
        series = options.kernels.series
        if not series.patches:
            raise UsageError(
                "there is no series: name patches with --patch, or commits with --range"
            )
        options.machine.check(no_iso="a series is booted by resume or direct")
        options.exports.check()
        clock = decide_clock(self.machine, self.listener)
        limit = percent("fail-above", options.fail_above or FAIL_ABOVE[clock])
        measure = options.block_plan(clock, options.kind.compared, warmup="1")
        comparisons = _comparisons(measure, names, series)
        needed = fewest_blocks(rule_of(limit, measure.seed), comparisons) + _SPARE_BLOCKS
        blocks = number("blocks", options.blocks or max(LEAST_BLOCKS[clock], needed), 2, MAX_BLOCKS)
        measure = replace(measure, repeat=blocks)
        memory = memory_for(options.machine, measure, kernels)
        self.place.check(self.network, memory, options.kind, measure)
        metric = options.measured
        if metric.zero and options.fail_above:
            raise no_share(metric, "fail-above", options.fail_above)
        build, modules = kernels.build_options(), kernels.modules
        plan = SeriesPlan(series, names, build, measure, limit, metric, modules=modules)
        return SeriesRequest(self.claimed(), memory, plan)

    @property
    def comparisons(self) -> int:
        """How many comparisons are corrected together."""
        plan = self.request.plan
        return _comparisons(plan.measure, plan.flavours, plan.series)

    def sides(self) -> Sequence[KernelSide]:
        """Return nothing: the kernels are part of the work, as one may not compile."""
        return ()

    def prepare(self) -> None:
        """See that all patches apply before any is built, and set up the lab."""
        tell_notes(self.options.kernels, self.listener)
        self.plan = applied(self.request.plan, self.cache, self.listener)
        super().prepare()

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a series when it begins."""
        return {
            **experiment(self.plan.measure, self.lab),
            "source": self.options.kernels.source,
            **self.options.kernels.content(),
            **entry(self.plan),
        }

    def measure(self) -> None:
        """Build, boot and measure every state."""
        self._series.run()

    @cached_property
    def _series(self) -> SeriesRun:
        return SeriesRun(self.plan, self.lab, self.folder, self.cache, self.listener)

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end."""
        verdict = Verdict.PASS if faults else self._findings.verdict
        return self.ended(faults, verdict, **self._series.tested)

    @cached_property
    def _findings(self) -> Findings:
        return find(self.stored)

    def table(self) -> RenderableType:
        """Return the table of the states."""
        from linklab.report.series import render

        return render(self.stored, self._findings)

    def document(self) -> dict[str, Any]:
        """Return the series with its findings."""
        from linklab.report.series import document

        return document(self.stored, self._findings)

    def text(self) -> str:
        """Return the table with the sentence below it."""
        from linklab.report.series import as_text

        return as_text(self.stored, self._findings)

    def closing(self, finished: Finished) -> str:
        """Return the verdict, and the series in a sentence."""
        from linklab.report.series import sentence

        return f"{super().closing(finished)}\n{sentence(self._findings)}"

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        """Return the files to export to, and what would fail as a whole."""
        names = split_list("kernel", self.options.kernels.names)
        return self.options.exports, self.kind, names


def main(options: SeriesOptions, command: Sequence[str]) -> Verdict:
    """Test a series, show what came out, and return the verdict."""
    return SeriesWork(options, command).carry_out()
