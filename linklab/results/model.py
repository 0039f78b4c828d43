"""Samples and runs, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from linklab.results.shape import Cell, SchemaError, Shape

SCHEMA = 1
_FIRST_RELEASE = Path(__file__).with_name("first_release.json")

# What a line of a run's files says beside its cell and its metrics.
BOOTS, TALLIES, FAULTS, IGNORED = "boots", "tallies", "faults", "ignored"
LINES = (BOOTS, TALLIES, FAULTS, IGNORED)
"""What `run.json` of the first release kept as lists, and later runs keep as files of lines."""


def _known(kind: type, what: str, data: object) -> dict[str, Any]:
    """Return what `data` has for the fields of a dataclass; what is not known is ignored.

    A field with a default came later than the first results, and may be missing.
    """
    if not isinstance(data, Mapping):
        raise SchemaError(f"{what} is not a JSON object")
    known = [f for f in fields(kind) if f.name not in ("cell", "metrics", "links")]
    missing = [f.name for f in known if f.name not in data and f.default is MISSING]
    if missing:
        raise SchemaError(f"{what} lacks {', '.join(missing)}")
    return {f.name: data[f.name] for f in known if f.name in data}


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
    guests did meanwhile, for who reads the line: `link1_there_lost`.
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

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        cell, metrics, links = own.pop("cell"), own.pop("metrics"), own.pop("links")
        if not self.place:
            del own["place"]
        return {**own, **cell, **metrics, **(links or {})}

    @classmethod
    def from_json(cls, data: object, shape: Shape) -> Self:
        """Return the sample in `data`; what is not known is ignored.

        Raises `SchemaError` when something is missing.
        """
        known = _known(cls, "a sample", data)
        assert isinstance(data, Mapping)
        metrics = {m.name: data[m.name] for m in shape.metrics if m.name in data}
        if shape.metric.name not in metrics:
            raise SchemaError(f"a sample lacks {shape.metric.name}")
        return cls(cell=shape.cell_in(data), metrics=metrics, **known)


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
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**own.pop("cell"), **own}

    @classmethod
    def from_json(cls, data: object, shape: Shape) -> Self:
        """Return the boot in `data`. Raises `SchemaError`."""
        known = _known(cls, "a boot", data)
        assert isinstance(data, Mapping)
        return cls(cell=Cell((a, data[a]) for a in shape.per_guest if a in data), **known)


@dataclass(frozen=True)
class TallyRecord:
    """What a cell's work asks of the kernel, counted in a repetition that is not timed."""

    kernel: str
    cell: Cell
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as one flat JSON object."""
        return {"kernel": self.kernel, **self.cell, **self.metrics}

    @classmethod
    def from_json(cls, data: object, shape: Shape) -> Self:
        """Return the tally in `data`. Raises `SchemaError`."""
        known = _known(cls, "a tally", data)
        assert isinstance(data, Mapping)
        metrics = {m.name: data[m.name] for m in shape.counted if m.name in data}
        return cls(cell=shape.cell_in(data), metrics=metrics, **known)


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
        return [KernelRecord(**_known(KernelRecord, "a kernel", entry)) for entry in entries]

    @property
    def boots(self) -> list[BootRecord]:
        """The boots of guests, in the order they happened."""
        return [BootRecord.from_json(entry, self.shape) for entry in self._all(BOOTS)]

    @property
    def tallies(self) -> list[TallyRecord]:
        """What was counted; nothing in a run from before that was done."""
        return [TallyRecord.from_json(entry, self.shape) for entry in self._all(TALLIES)]

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
        if "cells" in self.plan:
            axes = [axis.name for axis in self.shape.axes]
            return [Cell(zip(axes, values, strict=True)) for values in self.plan["cells"]]
        axes = [axis.name for axis in first_shape().axes]
        return [
            Cell(zip(axes, (*pair, count), strict=True))
            for pair in self.plan.get("pairs") or ()
            for count in self.plan.get("counts") or ()
        ]

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
