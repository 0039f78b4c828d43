"""A sweep's checks: what must hold of its cells, and whether it does.

A check is of a metric's median in each cell that its `where` selects, or, with
`against`, of how many times that of another cell or kernel it is. `run.json` keeps
the checks; what became of them is worked out of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from linklab.numbers import digits_text, number_text
from linklab.results.codec import from_json, to_json
from linklab.results.figures import Figures
from linklab.results.model import Run
from linklab.results.result_kinds import SWEEP
from linklab.results.shape import Cell, Metric, Shape, Value

KERNEL = "kernel"  # what stands beside the axes in `where` and in `against`
Choice = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Place:
    """A cell on a kernel."""

    kernel: str
    cell: Cell

    @property
    def values(self) -> dict[str, Value]:
        """Its values on the axes, and its kernel."""
        return {KERNEL: self.kernel, **self.cell}

    def moved(self, to: Mapping[str, Value]) -> Place:
        """Return the place with other values on some axes, or on another kernel."""
        values = {**self.values, **to}
        return Place(str(values.pop(KERNEL)), Cell(values))


@dataclass(frozen=True)
class Check:
    """What must hold: of the places that have one of the values of each axis in `where`.

    `against` names the values that the other cell of a ratio has instead.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    where: Choice = field(default_factory=dict)
    against: Mapping[str, Value] = field(default_factory=dict)

    def places(self, kernels: Sequence[str], cells: Sequence[Cell]) -> Iterator[Place]:
        """Yield the places that it is of. One that is its own `against` is not checked."""
        for kernel in kernels:
            for cell in cells:
                place = Place(kernel, cell)
                if all(place.values[name] in each for name, each in self.where.items()) and (
                    not self.against or place.moved(self.against) != place
                ):
                    yield place

    def allows(self, value: float) -> bool:
        """Whether a value is within the limits."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return dict(to_json(self, sparse=True))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Check:
        """Return the check in `data`. Raises `SchemaError`."""
        found = dict(data)
        found["where"] = {name: tuple(each) for name, each in data.get("where", {}).items()}
        return from_json(cls, found, "a check")


@dataclass(frozen=True)
class Checked:
    """What became of a check at one place; `value` is None where there is no figure."""

    check: Check
    place: Place
    metric: Metric
    value: float | None

    @property
    def holds(self) -> bool:
        """Whether it is known to hold."""
        return self.value is not None and self.check.allows(self.value)

    @property
    def number_text(self) -> str:
        """The value, in the unit of the limit, or as a factor."""
        if self.value is None:
            return "-"
        if self.check.against:
            return f"{digits_text(self.value)}x" if self.value < inf else "more than 0"
        return number_text(self.value, self.metric.unit)

    def limits(self, least: str = "at least", most: str = "at most") -> str:
        """Return the limits, the same way, as they stand in the file."""
        unit = "x" if self.check.against else f" {self.metric.unit}".rstrip()
        sides = ((least, self.check.at_least), (most, self.check.at_most))
        return " and ".join(f"{w} {limit:.10g}{unit}" for w, limit in sides if limit is not None)

    def text(self, shape: Shape) -> str:
        """Return in a sentence which cell has which value, and what the limit is."""
        where = f"{shape.in_words(self.place.cell)} on {self.place.kernel}"
        beside = f" of {self.beside_text(shape)}" if self.check.against else ""
        unit = "" if self.check.against else f" {self.metric.unit}".rstrip()
        value = "not measured" if self.value is None else f"{self.number_text}{unit}"
        return f"{where}: {self.metric.name} {value}{beside}, {self.limits()} expected"

    def beside_text(self, shape: Shape) -> str:
        """Return the other cell of a ratio by what it has instead; empty where there is none."""
        instead = self.check.against.items()
        words = (f"on {v}" if k == KERNEL else shape.axis(k).in_words(v) for k, v in instead)
        return ", ".join(words)


def is_sweep(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a sweep."""
    return about.get("kind") == SWEEP


def checks_of(run: Run) -> list[Check]:
    """Return the checks of a stored sweep."""
    return [Check.from_json(each) for each in _entry(run).get("checks", ())]


def metrics_of(run: Run) -> list[Metric]:
    """Return the metrics of which a stored sweep shows a matrix."""
    names = _entry(run).get("metrics") or [run.shape.metric.name]
    return [run.shape.metric_named(name) for name in names]


def _entry(run: Run) -> Mapping[str, Any]:
    found = run.about.get(SWEEP)
    return found if isinstance(found, Mapping) else {}


def checked(run: Run) -> list[Checked]:
    """Return what became of every check of a stored sweep, in the order of the file."""
    figures = Figures(run)
    kernels = [kernel.name for kernel in run.kernels]
    return [
        Checked(check, place, metric, _value(figures, check, place, metric))
        for check in checks_of(run)
        for metric in [run.shape.metric_named(check.metric)]
        for place in check.places(kernels, run.cells)
    ]


def _value(figures: Figures, check: Check, place: Place, metric: Metric) -> float | None:
    value = figures.figure(place.kernel, place.cell, metric).value
    if not check.against or value is None:
        return value
    beside = place.moved(check.against)
    other = figures.figure(beside.kernel, beside.cell, metric).value
    if other is None:
        return None
    if other == 0:
        return inf if value else 1.0
    return value / other


def summary(run: Run) -> str:
    """Return a stored sweep in a few words: how much was measured, and which checks hold."""
    kernels = run.kernels
    planned = {(kernel.name, cell) for kernel in kernels for cell in run.cells}
    found = {(sample.kernel, sample.cell) for sample in run.samples if sample.trial > 0}
    cells = f"{len(planned & found)} of {len(planned)} cells measured"
    every = checked(run)
    if not every:
        return cells
    failed = [each for each in every if each.value is not None and not each.holds]
    held_up = sum(each.holds for each in every)
    said = f"{cells}, {held_up} of {len(every)} checks hold"
    return f"{said}: {failed[0].text(run.shape)}" if failed else said
