"""Figures of a run, worked out of its samples: medians, intervals, ratios."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from linklab.results.model import Run, Sample
from linklab.results.shape import Axis, Cell, Metric, Value, values_on
from linklab.results.statistics import Interval, median_interval

VIRTUAL, RECORDED = "virtual", "recorded"
_REAL_TIME = {"kvm": "KVM", "tcg": "TCG (software emulation: compare ratios, not seconds)"}
_VIRTUAL_TIME = {
    VIRTUAL: "virtual time: 1 ns for each instruction; no caches, no waiting for the host",
    RECORDED: "recorded: 1 ns for each instruction; comparable with nothing",
}


def seconds_are(about: Mapping[str, Any]) -> str:
    """Return what the seconds of a stored result are, as stands over every table of it."""
    accel = str(about.get("accel"))
    return _VIRTUAL_TIME.get(about.get("clock", ""), _REAL_TIME.get(accel, accel))


def timed_by(about: Mapping[str, Any]) -> str:
    """Return the same in two words, for a sentence: `virtual time`, `TCG`, `KVM`."""
    if about.get("clock") in _VIRTUAL_TIME:
        return "virtual time" if about["clock"] == VIRTUAL else "recorded"
    return str(about.get("accel", "")).upper()


@dataclass(frozen=True)
class Figure:
    """A metric of one cell on one kernel, over all trials."""

    value: float | None  # the median of what is valid, or None
    valid: int = 0
    invalid: int = 0
    interval: Interval | None = None  # of the median, where there is more than one trial


class Figures:
    """A run's samples, to be asked by kernel and cell.

    The set-up that each guest begins with (trial 0) is kept apart. A sheet is
    the part of a cell on the axes that are neither rows nor columns.
    """

    def __init__(self, run: Run, metric: Metric | None = None) -> None:
        self.run = run
        self.shape = run.shape
        self.metric: Metric = metric or self.shape.metric
        self._set_up = [sample for sample in run.samples if sample.trial == 0]
        self._cells: dict[tuple[str, Cell], list[Sample]] = defaultdict(list)
        for sample in run.samples:
            if sample.trial > 0:
                self._cells[sample.kernel, sample.cell].append(sample)

    @property
    def kernels(self) -> list[str]:
        """The kernels, those that have titles first."""
        return self.shape.kernel_order(kernel.name for kernel in self.run.kernels)

    @property
    def sheets(self) -> list[Cell]:
        """The sheets of the table, as they were listed."""
        found = list(dict.fromkeys(cell.of(self.shape.sheets) for _, cell in self._cells))
        order = {axis: self._values(axis, found) for axis in self.shape.sheets}
        return sorted(found, key=lambda sheet: [order[a].index(v) for a, v in sheet.items()])

    def columns(self, sheet: Cell) -> list[Value]:
        """Return what stands across: what the ratio divides by first, as it is the better one."""
        if not self.shape.columns:
            return [""]
        found = self._values(self.shape.columns, self._of(sheet))
        first = self.shape.versus[1] if self.shape.versus else None
        return sorted(found, key=lambda value: value != first)

    def rows(self, sheet: Cell) -> list[Value]:
        """Return what stands down, numbers by size."""
        return self._values(self.shape.rows, self._of(sheet))

    def cell(self, sheet: Cell, row: Value, column: Value) -> Cell:
        """Return the cell at a place of the table."""
        values = {**sheet, self.shape.rows: row, self.shape.columns: column}
        return Cell((axis.name, values[axis.name]) for axis in self.shape.axes)

    def figure(self, kernel: str, cell: Cell, metric: Metric | None = None) -> Figure:
        """Return what was measured of one cell; of the first metric unless another is named."""
        name = (metric or self.metric).name
        samples = self.samples(kernel, cell)
        values = [s.metrics[name] for s in samples if s.verified and name in s.metrics]
        invalid = sum(not sample.verified for sample in samples)
        if not values:
            return Figure(None, 0, invalid)
        return Figure(median(values), len(values), invalid, median_interval(values))

    def by_kernel(self, cell: Cell, metric: str = "") -> dict[str, float]:
        """Return what was measured of one cell on each kernel that has it."""
        named = self.shape.metric_named(metric) if metric else None
        found = {kernel: self.figure(kernel, cell, named).value for kernel in self.kernels}
        return {kernel: value for kernel, value in found.items() if value is not None}

    def samples(self, kernel: str, cell: Cell) -> list[Sample]:
        """Return the samples of one cell, those that are not valid among them."""
        return list(self._cells.get((kernel, cell), ()))

    def sheet_figures(self, sheet: Cell) -> list[Figure]:
        """Return all figures of a sheet that have a value."""
        cells = self._of(sheet)
        found = (self.figure(kernel, cell) for kernel in self.kernels for cell in cells)
        return [figure for figure in found if figure.valid]

    def ratio(self, kernel: str, cell: Cell) -> float | None:
        """Return how many times as much the first column of `versus` gives as the second."""
        if self.shape.versus is None or not self.shape.columns:
            return None
        more, less = (
            self.figure(kernel, cell.with_(**{self.shape.columns: column})).value
            for column in self.shape.versus
        )
        return more / less if less and more is not None else None

    def has_ratio(self, sheet: Cell) -> bool:
        """Whether a sheet has both columns of `versus`."""
        return self.shape.versus is not None and set(self.shape.versus) <= set(self.columns(sheet))

    def set_up(self, kernel: str, cell: Cell) -> float | None:
        """Return what the set-up of a cell took: the first metric of trial 0."""
        name = self.metric.name
        found = [s for s in self._set_up if (s.kernel, s.cell) == (kernel, cell) and s.verified]
        return median(s.metrics[name] for s in found) if found else None

    def set_up_values(self, axis: str) -> list[Value]:
        """Return the values on an axis of what was set up."""
        return values_on(axis, [sample.cell for sample in self._set_up])

    def boot_seconds(self) -> float | None:
        """Return the median time from QEMU's start to the agent's hello."""
        times = [boot.seconds for boot in self.run.boots]
        return median(times) if times else None

    def _of(self, sheet: Cell) -> list[Cell]:
        cells = dict.fromkeys(cell for _, cell in self._cells)
        return [cell for cell in cells if cell.of(self.shape.sheets) == sheet]

    def _values(self, axis: str, cells: Sequence[Mapping[str, Value]]) -> list[Value]:
        return values_on(axis, cells, planned_values(self.run.plan, self.shape.axis(axis)))


def planned_values(plan: Mapping[str, Any], axis: Axis) -> list[Value]:
    """Return an axis' values as a run's plan lists them, nothing where it does not.

    Plans of the first release have them under the name of the option.
    """
    return list((plan.get("axes") or {}).get(axis.name) or plan.get(axis.alias) or ())
