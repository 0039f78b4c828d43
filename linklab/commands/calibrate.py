"""`invoke calibrate`: how often `invoke compare` is wrong, and how often it finds what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linklab.commands.compare import ThresholdOptions
from linklab.commands.kernels import ONE_FLAVOUR, KernelOptions, KernelSide
from linklab.commands.machines import MachineOptions, decide_clock
from linklab.commands.scenarios import ScenarioOptions, memory_for
from linklab.commands.workflow import Finished, LabRequest, Measurement, MeasuringOptions
from linklab.errors import LinklabError, UsageError, Verdict
from linklab.machine.spec import Clock
from linklab.options import group, number, option, percent, split_list
from linklab.results.comparison import Rule
from linklab.results.result_kinds import CALIBRATION
from linklab.results.shape import Better, Metric
from linklab.results.store import claim
from linklab.scenarios.scenario import Slower
from linklab.trials.plan import Plan
from linklab.trials.subjects import experiment

if TYPE_CHECKING:
    from rich.console import RenderableType

    from linklab.trials.calibrate import Calibration

NONE = "none"
MAX_COMPARISONS = 10_000
DEFAULT_COMPARISONS = "80"
DEFAULT_SLOWDOWNS = {Clock.REAL: "10", Clock.VIRTUAL: "0.5,1,10"}  # per cent


@dataclass(frozen=True)
class CalibrateOptions(MeasuringOptions, ThresholdOptions):
    """The options of `invoke calibrate`, as typed."""

    kernels: KernelOptions = group(
        KernelOptions, {"names": ONE_FLAVOUR}, only=("names", "modules"), names="nosysfs"
    )
    machine: MachineOptions = group(MachineOptions, boot="resume")
    comparisons: str = option("", "how many of each; default 80: of fewer the aims cannot be shown")
    slowdown: str = option(
        "",
        "by how many per cent kernels are to be slowed, comma-separated; default 10, in virtual "
        "time 0.5,1,10; none: only with itself",
    )


@dataclass(frozen=True)
class CalibrateRequest(LabRequest):
    """The same, checked."""

    plan: Plan
    metric: Metric
    rule: Rule
    slowdowns: tuple[float, ...]
    comparisons: int


class Calibrating(Measurement[CalibrateOptions, CalibrateRequest]):
    """`invoke calibrate` at its work: a flavour beside itself, and beside itself made slower."""

    kind = CALIBRATION
    saves_guests = False  # each comparison has saved guests of its own

    def check(self) -> CalibrateRequest:
        """Check every option that can be checked without building anything."""
        options = self.options
        slower = slower_of(options)
        options.kernels.check_flavour(
            f"a flavour is expected, as it is built again with {slower.patch.name}"
        )
        options.machine.check(no_iso="an ISO takes no parameter for the slowed kernel")
        clock = decide_clock(self.machine, self.listener)
        plan = options.block_plan(clock, {axis: (value,) for axis, value in slower.cell.items()})
        if len(plan.cells) != 1:
            raise UsageError(f"one cell is calibrated at a time, not {len(plan.cells)}")
        asked = options.slowdown or DEFAULT_SLOWDOWNS[clock]
        words = [] if asked == NONE else split_list("slowdown", asked)
        slowdowns = tuple(percent("slowdown", word) / 100 for word in words)
        asked = options.comparisons or DEFAULT_COMPARISONS
        comparisons = number("comparisons", asked, 1, MAX_COMPARISONS)
        rule = options.rule(clock, plan.seed)
        memory = memory_for(options.machine, plan, self._kernels())
        self.place.check(self.network, memory, options.kind)
        metric = options.measured
        if metric.zero or metric.better is Better.NEITHER:
            raise UsageError(
                f"--metric {metric.name}: no kernel can be worse in it by a share: it may be 0, or "
                "neither way is better"
            )
        folder = claim(options.output, self.kind)
        return CalibrateRequest(folder, memory, plan, metric, rule, slowdowns, comparisons)

    def _kernels(self, *patches: Path) -> KernelOptions:
        named = replace(self.options.kernels, patches=tuple(map(str, patches)))
        return named.with_scenario(self.options.kind)

    def sides(self) -> Sequence[KernelSide]:
        """Return the flavour as it is, and with what makes it slower."""
        name, patch = self.options.kernels.names, slower_of(self.options).patch
        return (
            KernelSide(name, self._kernels()),
            KernelSide(f"{name}+{patch.name}", self._kernels(patch)),
        )

    def about(self) -> dict[str, Any]:
        """Return what run.json says of a calibration when it begins."""
        return experiment(self.request.plan, self.lab)

    def measure(self) -> None:
        """Find out how slow the patch makes it, then compare again and again."""
        base, patched = self.subjects
        self._calibration.tune(base, patched, self.request.slowdowns)
        self._calibration.run(base, patched, self.request.comparisons)

    @cached_property
    def _calibration(self) -> Calibration:
        from linklab.trials.calibrate import Calibration

        asked, lab = self.request, self.lab
        return Calibration(lab, asked.plan, self.folder, asked.rule, asked.metric, self.listener)

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        """Store the end: a rate that surely misses its aim is a fail."""
        from linklab.report.calibration import calibration_of

        asked = self.request
        found = {
            "kernel": self.options.kernels.names,
            "work": asked.plan.shape.in_words(asked.plan.cells[0]),
            "metric": asked.metric.name,
            "threshold": asked.rule.threshold,
            **self._calibration.outcome.stored(asked.metric),
        }
        verdict = Verdict.PASS
        if not faults and calibration_of({**self.stored.about, "calibration": found}).missed:
            verdict = Verdict.FAIL
        return self.ended(faults, verdict, calibration=found)

    def table(self) -> RenderableType:
        """Return the table of how often what was found."""
        from linklab.report.calibration import calibration_of, render

        return render(calibration_of(self.stored.about))

    def document(self) -> dict[str, Any]:
        """Return the calibration without its samples."""
        return {"run": self.stored.document()}


def slower_of(options: ScenarioOptions) -> Slower:
    """Return what makes the scenario's kernel slower. Raises `UsageError` where nothing does."""
    if options.kind.slower is None:
        raise UsageError(
            f"--scenario {options.scenario}: it has no patch that makes a kernel slower by a known "
            "amount, so there is nothing to calibrate with"
        )
    return options.kind.slower


def main(options: CalibrateOptions, command: Sequence[str]) -> Verdict:
    """Calibrate, show what came out, and return the verdict."""
    return Calibrating(options, command).carry_out()
