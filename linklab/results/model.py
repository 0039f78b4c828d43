"""Samples and runs, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Self, TypeVar

from linklab.results.codec import SchemaError, from_json, known, to_json
from linklab.results.shape import Cell, Course, Metric, Shape

R = TypeVar("R", "BootRecord", "TallyRecord", "CourseRecord")

SCHEMA = 1
_FIRST_RELEASE = Path(__file__).with_name("first_release.json")

# What a line of a run's files says beside its cell and its metrics.
BOOTS, TALLIES, FAULTS, IGNORED = "boots", "tallies", "faults", "ignored"
COURSES = "courses"  # of trials; many numbers, which no document of a run repeats
STATES = "states"  # of a series; older ones keep them in run.json
LINES = (BOOTS, TALLIES, FAULTS, IGNORED)
"""What `run.json` of the first release kept as lists, and later runs keep as files of lines."""
_SPREAD = ("cell", "metrics", "links")  # not entries of a line, but among its entries


def _own(record: Sample | BootRecord | TallyRecord) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _SPREAD}


def _metrics(data: Mapping[str, Any], among: Sequence[Metric]) -> dict[str, float]:
    return {metric.name: data[metric.name] for metric in among if metric.name in data}


@dataclass(frozen=True)
class Sample:
    """The metrics of one trial with everything needed to interpret them.

    `order` counts the samples of a run as they were taken. One that is not
    `verified` left a wrong state: its metrics say nothing. `clock` says what
    its seconds are: `real`; `virtual`, an instruction each ns; or `recorded`,
    which compares with nothing. `place` is where the hosts of a topology are:
    `spaces` of one guest, or `guests`; nothing without one. `block` is the round
    that it was taken in, which has each kernel once: kernels are compared within
    blocks. Set-up is trial 0 of block 0. `links` is what shaped links between
    guests did meanwhile, for who reads the line: `link1_there_lost`. `saved` is the number,
    from 1 on, of the saved guest that its guest went on from, where there were several.
    """

    scenario: str
    kernel: str
    boot: str
    accel: str
    cell: Cell
    trial: int
    metrics: Mapping[str, float]
    order: int
    verified: bool
    block: int = 0
    clock: str = "real"
    place: str = ""
    links: Mapping[str, int] | None = None
    saved: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        own = _own(self)
        if not self.place:
            del own["place"]
        if not self.saved:
            del own["saved"]
        return {**own, **self.cell, **self.metrics, **(self.links or {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], shape: Shape) -> Self:
        """Return the sample in `data`. Raises `SchemaError` when something is missing."""
        own = known(cls, data, "a sample", _SPREAD)
        metrics = _metrics(data, shape.metrics)
        if shape.metric.name not in metrics:
            raise SchemaError(f"a sample lacks {shape.metric.name}")
        for name, value in metrics.items():
            if isinstance(value, float) and not isfinite(value):
                raise SchemaError(f"a sample's {name} is {value!r}, which is no number")
        return cls(cell=shape.cell_in(data), metrics=metrics, **own)


@dataclass(frozen=True)
class BootRecord:
    """One boot of a guest: the host's seconds from QEMU's start to the agent's hello.

    `cell` has the axes whose values the guest was made for.
    """

    kernel: str
    cell: Cell
    seconds: float
    clocksource: str
    clock_resolution: float

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        return {**self.cell, **_own(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], shape: Shape) -> Self:
        """Return the boot in `data`. Raises `SchemaError`."""
        own = known(cls, data, "a boot", _SPREAD)
        return cls(cell=Cell((a, data[a]) for a in shape.per_guest if a in data), **own)


@dataclass(frozen=True)
class TallyRecord:
    """What a cell's work asks of the kernel, counted in a repetition that is not timed."""

    kernel: str
    cell: Cell
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        return {**_own(self), **self.cell, **self.metrics}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], shape: Shape) -> Self:
        """Return the tally in `data`. Raises `SchemaError`."""
        own = known(cls, data, "a tally", _SPREAD)
        return cls(cell=shape.cell_in(data), metrics=_metrics(data, shape.counted), **own)


@dataclass(frozen=True)
class CourseRecord:
    """How something went within one trial."""

    kernel: str
    cell: Cell
    trial: int
    course: Course

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        course = to_json(self.course, sparse=True)
        return {"kernel": self.kernel, **self.cell, "trial": self.trial, **course}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], shape: Shape) -> Self:
        """Return the course in `data`. Raises `SchemaError`."""
        own = known(cls, data, "a course", ("cell", "course"))
        return cls(cell=shape.cell_in(data), course=from_json(Course, data, "a course"), **own)


@dataclass(frozen=True)
class KernelRecord:
    """A kernel that was tested, and what went into it."""

    name: str
    release: str
    sha256: str
    inputs: Mapping[str, Any]
    image_bytes: int | None  # of the whole live ISO, where it was made


@dataclass(frozen=True)
class Run:
    """A run as stored: `about` is run.json, with the samples and other lines beside it."""

    about: Mapping[str, Any]
    samples: Sequence[Sample]
    lines: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `SchemaError` when the run lacks what reports are made of."""
        _ = self.shape, self.kernels, self.boots, self.tallies

    @cached_property
    def shape(self) -> Shape:
        """What was varied and measured; of a run that does not say, what the first release did."""
        found = self.about.get("shape")
        return Shape.from_json(found) if isinstance(found, Mapping) else first_shape()

    @property
    def kernels(self) -> list[KernelRecord]:
        """The kernels tested."""
        entries = self.about.get("kernels")
        if not isinstance(entries, list):
            raise SchemaError("the run lacks kernels")
        return [from_json(KernelRecord, entry, "a kernel") for entry in entries]

    @property
    def boots(self) -> list[BootRecord]:
        """The boots of guests, in the order they happened."""
        return self._records(BOOTS, BootRecord)

    @property
    def tallies(self) -> list[TallyRecord]:
        """What was counted; nothing in a run from before that was done."""
        return self._records(TALLIES, TallyRecord)

    @property
    def courses(self) -> list[CourseRecord]:
        """How trials went, where their scenario told."""
        return self._records(COURSES, CourseRecord)

    def _records(self, name: str, kind: type[R]) -> list[R]:
        return [kind.from_json(entry, self.shape) for entry in self._all(name)]

    @property
    def faults(self) -> list[Mapping[str, Any]]:
        """What kernels did wrong, in the order it happened."""
        return self._all(FAULTS)

    @property
    def plan(self) -> Mapping[str, Any]:
        """How often was to be measured, in what order; empty where nothing was."""
        return self.about.get("plan") or {}

    @property
    def cells(self) -> list[Cell]:
        """What was to be measured; empty where the plan does not say.

        Plans of the first release have pairs of the first two axes, and the
        values of the third.
        """
        pairs, counts = (self.plan.get(name) or () for name in ("pairs", "counts"))
        values = self.plan.get("cells", [(*pair, count) for pair in pairs for count in counts])
        axes = [axis.name for axis in self.shape.axes]
        return [Cell(zip(axes, each, strict=True)) for each in values]

    def document(self) -> dict[str, Any]:
        """Return run.json with the lines beside it, as one JSON document."""
        return {**self.about, **{name: self._all(name) for name in LINES}}

    def _all(self, name: str) -> list[Mapping[str, Any]]:
        """Return lines by their file's name, and those that the first release kept in run.json."""
        kept = self.about.get(name) or []
        if not isinstance(kept, list) or not all(isinstance(each, Mapping) for each in kept):
            raise SchemaError(f"the run's {name} are no list of objects")
        return [*kept, *self.lines.get(name, ())]


def first_shape() -> Shape:
    """Return the shape of the first release's one experiment, whose runs do not keep it."""
    return Shape.from_json(json.loads(_FIRST_RELEASE.read_text())["shape"])
