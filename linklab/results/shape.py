"""The shape of an experiment: its axes, its metrics, and a cell of its table.

A scenario declares its shape, and `run.json` keeps it. So results, statistics,
tables and plots know what an experiment varies and measures without knowing
the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from linklab.results.codec import SchemaError, from_json, to_json

Value = str | int | float
CELL_SEPARATOR = "/"


class Better(StrEnum):
    """Which way a metric is better."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


@dataclass(frozen=True)
class Axis:
    """What an experiment varies.

    `values` are those of a run that names none; `among` all that there are
    where they are words, else values are numbers from `least` to `most`, whole ones
    where `values` are; of `open` ones others may be there, too, which shows when they are used.
    What a `silent` one is by default is as if there were no such axis, and not said. Curves
    over a `smooth` one are smooth.
    Another value of a `per_guest` axis needs another guest. `alias` is the
    name of an option of its own, beside `--axis NAME=VALUES`. Of a parameter that a
    sweep varies `parameter` is the name: its axis has another one where a line of a
    run has that already.
    """

    name: str
    values: tuple[Value, ...] = ()
    title: str = ""
    among: tuple[str, ...] = ()
    least: float = 1
    most: float = 1_000_000
    per_guest: bool = False
    log: bool = True
    alias: str = ""
    help: str = ""
    parameter: str = ""
    open: bool = False
    silent: bool = False
    smooth: bool = False

    def says(self, value: Value) -> bool:
        """Whether a value is worth a word."""
        return not self.silent or value != self.values[0]

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers."""
        return not self.words

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return all(isinstance(value, int) for value in self.values)

    @property
    def words(self) -> tuple[str, ...]:
        """All values that there are, where they are words."""
        return self.among or tuple(value for value in self.values if isinstance(value, str))

    def in_words(self, value: Value) -> str:
        """Return a value as it stands in a sentence: with its unit, or with what it is of."""
        text = value if isinstance(value, str) else f"{value:.10g}"
        if self.parameter:
            return f"{self.parameter} {text}"
        name = self.title or self.name
        if self.is_numeric:
            return f"{text} {name}"
        return f"{name} {text}" if self.silent else text


@dataclass(frozen=True)
class Metric:
    """What a trial yields: a number with a unit.

    One that may be `zero` is compared by its difference, any other by its
    ratio; `matters` is the smallest difference that counts for such a one.
    `title` is what stands over a table, its unit in it; `short` over a column. An
    `optional` one is not there in every trial.
    """

    name: str
    unit: str = ""
    better: Better = Better.LESS
    zero: bool = False
    title: str = ""
    short: str = ""
    matters: float = 0.0
    optional: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it is a time in seconds."""
        return self.unit == "s"

    @property
    def words(self) -> tuple[str, str]:
        """What B is where it is worse than A, and where it is better."""
        if self.is_time and self.better is not Better.MORE:
            return "slower", "faster"
        more, less = f"more {self.short or self.name}", f"less {self.short or self.name}"
        return (less, more) if self.better is Better.MORE else (more, less)


@dataclass(frozen=True)
class Course:
    """How something went within a trial: `values`, each `at` so many seconds from its begin.

    Of several that went at once they are medians; then `least` and `most` are there, too.
    """

    quantity: str
    unit: str
    at: tuple[float, ...]
    values: tuple[float, ...]
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()


class Cell(Mapping[str, Value]):
    """One value for each axis: what a trial measures. Ordered as the axes are."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._values: dict[str, Value] = dict(values)

    def __getitem__(self, axis: str) -> Value:
        return self._values[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._values == other._values

    def __lt__(self, other: Cell) -> bool:
        return self._order() < other._order()

    def _order(self) -> list[tuple[bool, Value]]:
        return [(isinstance(value, str), value) for value in self.values()]

    def __repr__(self) -> str:
        return f"Cell({self._values!r})"

    @property
    def text(self) -> str:
        """Its values as they are typed: `mtu/group/1024`."""
        return CELL_SEPARATOR.join(str(value) for value in self._values.values())

    def number(self, axis: str) -> float:
        """Return its value on an axis whose values are numbers."""
        return float(self._values[axis])

    def of(self, axes: Iterable[str]) -> Cell:
        """Return the part of it on some axes."""
        return Cell((axis, self._values[axis]) for axis in axes if axis in self._values)

    def with_(self, **values: Value) -> Cell:
        """Return it with other values on some axes, each in its place."""
        return Cell({**self._values, **values})


@dataclass(frozen=True)
class Shape:
    """An experiment's axes and metrics, and how its table lies.

    The first metric is the one that is compared unless another is asked for;
    `counted` are those of the repetition that is not timed. The table has
    `rows` down and `columns` across, one sheet for each value of the other
    axes; an experiment of one axis has no columns. The first column of `versus`
    in units of the second is shown as a ratio. `text` is a cell in a sentence.
    `kernels` are titles of kernels, in the order of a table.
    """

    axes: tuple[Axis, ...]
    metrics: tuple[Metric, ...]
    rows: str
    columns: str = ""
    text: str = ""
    versus: tuple[str, str] | None = None
    counted: tuple[Metric, ...] = ()
    kernels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        for name in filter(None, (self.rows, self.columns)):
            if name not in names:
                raise SchemaError(f"the table has an axis {name!r}, the axes are {names}")
        if self.rows == self.columns:  # one axis has nothing across
            object.__setattr__(self, "columns", "")
        if not self.metrics:
            raise SchemaError("an experiment needs a metric")

    def axis(self, name: str) -> Axis:
        """Return an axis by its name. Raises `KeyError`."""
        return next(axis for axis in self.axes if axis.name == name)

    @property
    def metric(self) -> Metric:
        """The metric that is compared unless another is asked for."""
        return self.metrics[0]

    def metric_named(self, name: str) -> Metric:
        """Return a metric by its name; raises `SchemaError` naming those there are."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise SchemaError(f"{name}: unknown; valid are {known}")

    @property
    def sheets(self) -> tuple[str, ...]:
        """The axes that are neither rows nor columns."""
        return tuple(a.name for a in self.axes if a.name not in (self.rows, self.columns))

    def column_of(self, cell: Mapping[str, Value]) -> Value:
        """Return the column of a cell: its value there, or nothing where there is one axis."""
        return cell[self.columns] if self.columns else ""

    @property
    def per_guest(self) -> tuple[str, ...]:
        """The axes of which another value needs another guest."""
        return tuple(axis.name for axis in self.axes if axis.per_guest)

    def in_words(self, cell: Mapping[str, Value]) -> str:
        """Return a cell, or a part of one, as it stands in a sentence."""
        is_whole = bool(self.text) and len(cell) == len(self.axes)
        words = [self.text.format(**cell)] if is_whole else []
        for axis in self.axes:
            if axis.name not in cell or (is_whole and not axis.silent):
                continue
            if axis.says(cell[axis.name]) or len(cell) == 1:
                words.append(axis.in_words(cell[axis.name]))
        return ", ".join(words)

    def turned(self, cells: Iterable[Cell]) -> Self:
        """Return it with rows that differ: another axis down, where cells differ on that alone.

        Of the axes that are not across, the first one that varies.
        """
        found = list(cells)
        varied = [
            axis.name
            for axis in self.axes
            if axis.name != self.columns and len({cell[axis.name] for cell in found}) > 1
        ]
        if not varied or self.rows in varied or not self.axis(varied[0]).silent:
            return self
        return replace(self, rows=varied[0])

    def cell_in(self, data: Mapping[str, Any]) -> Cell:
        """Return the cell of a flat JSON line. Raises `SchemaError` where an axis is missing.

        A silent one may be, and is at its default then.
        """
        data = {**{axis.name: axis.values[0] for axis in self.axes if axis.silent}, **data}
        missing = [axis.name for axis in self.axes if axis.name not in data]
        if missing:
            raise SchemaError(f"a line lacks {', '.join(missing)}")
        return Cell((axis.name, data[axis.name]) for axis in self.axes)

    def kernel_title(self, name: str) -> str:
        """Return the title of a kernel's column."""
        return dict(self.kernels).get(name, name)

    def kernel_order(self, names: Iterable[str]) -> list[str]:
        """Return kernels in the order of a table: those that have titles first."""
        order = [name for name, _ in self.kernels]
        return sorted(names, key=lambda n: order.index(n) if n in order else len(order))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it, without what is left at its default."""
        return dict(to_json(self, sparse=True))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the shape in `data`; what is not known is ignored. Raises `SchemaError`."""
        try:
            return from_json(cls, data)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the run's shape cannot be read: {error}") from error


def values_on(
    axis: str, cells: Iterable[Mapping[str, Value]], listed: Sequence[Value] = ()
) -> list[Value]:
    """Return what cells have on an axis, each once: numbers by size, words as listed."""
    found, order = list(dict.fromkeys(cell[axis] for cell in cells)), list(listed)
    if not any(isinstance(value, str) for value in found):
        return sorted(found)
    return sorted(found, key=lambda v: order.index(v) if v in order else len(order))
