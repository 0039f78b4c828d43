"""Several runs beside each other: whether they may be, and what they say then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results.again import files_of
from linklab.results.figures import RECORDED, VIRTUAL, Figure, Figures
from linklab.results.model import Run
from linklab.results.shape import Cell, values_on

_ABSENT = "unknown"


@dataclass(frozen=True)
class Stored:
    """A stored run, where it lies, and the letter it goes by beside others."""

    folder: Path
    run: Run
    letter: str = ""

    @cached_property
    def figures(self) -> Figures:
        """Its figures."""
        return Figures(self.run)

    @property
    def name(self) -> str:
        """What people call it: its folder's name."""
        return self.folder.resolve().name or str(self.folder)


@dataclass(frozen=True)
class Difference:
    """Something that two runs do not have in common."""

    what: str
    before: str
    now: str


@dataclass(frozen=True)
class KernelRow:
    """A kernel of each run that stand for each other; None where a run has none."""

    title: str
    names: Sequence[str | None]


@dataclass(frozen=True)
class CellRow:
    """One cell of the table in each of several runs; None where a run has none."""

    kernel: str
    cell: Cell
    figures: Sequence[Figure | None]

    @property
    def values(self) -> list[float | None]:
        """The medians."""
        return [figure.value if figure else None for figure in self.figures]

    def is_within_spread(self, number: int) -> bool:
        """Whether the interval of a run's median and that of the first run's overlap.

        Then the trials do not tell them apart. False where there are no intervals.
        """
        one, other = self.figures[0], self.figures[number]
        if one is None or other is None or one.interval is None or other.interval is None:
            return False
        return one.interval.low <= other.interval.high and other.interval.low <= one.interval.high


# What makes seconds of one run another thing than seconds of another.
_MUST_AGREE = {
    "kind of result": ("kind",),
    "scenario": ("scenario",),
    "scenario's file": ("scenario_sha256",),
    "accelerator": ("accel",),
    "clock": ("clock",),
    "place": ("place",),
    "boot": ("boot",),
    "QEMU version": ("qemu", "version"),
    "machine type": ("machine",),
    "guest memory (MiB)": ("memory",),
    "guest CPUs": ("cpus",),
    "host CPU": ("host", "cpu"),
    "guest for each trial": ("plan", "fresh_guest"),
    "trials in each guest and round": ("plan", "trials"),
    "trials thrown away before them": ("plan", "settling"),
}
_BEFORE_IT_WAS_KEPT = {
    "kind of result": "run",
    "clock": "real",
    "place": "",
    "scenario's file": "",
    "guest for each trial": "False",
    "trials in each guest and round": "1",
    "trials thrown away before them": "0",
}
_MAY_DIFFER = {
    "trials": ("plan", "repeat"),
    "guests side by side": ("plan", "jobs"),
    "host CPU": ("host", "cpu"),
    "host kernel": ("host", "kernel"),
    "host CPUs": ("host", "cpus"),
    "Python": ("host", "python"),
}


def _entry(about: Mapping[str, Any], path: Sequence[str], absent: str = _ABSENT) -> str:
    value: Any = about
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return absent if value is None else str(value)


def _fixed(run: Run) -> dict[str, str]:
    facts: dict[str, str] = {
        what: _entry(run.about, path, _BEFORE_IT_WAS_KEPT.get(what, _ABSENT))
        for what, path in _MUST_AGREE.items()
    }
    facts["axes"] = ", ".join(axis.name for axis in run.shape.axes)
    facts["metric"] = f"{run.shape.metric.name} {run.shape.metric.unit}".rstrip()
    facts |= {f"image: {name}": value for name, value in _hashes(run, "image").items()}
    given = run.plan["given"] if "given" in run.plan else _given_before(run)
    return facts | {f"parameter {name}": str(value) for name, value in given.items()}


def _given_before(run: Run) -> Mapping[str, Any]:
    """Return what the first release kept of the one parameter that it had."""
    return {"listeners": run.plan.get("listeners", 0)}


def _hashes(run: Run, entry: str) -> dict[str, str]:
    found = run.about.get(entry)
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    for what in dict.fromkeys((*before, *now)):
        one, other = before.get(what, _ABSENT), now.get(what, _ABSENT)
        if one != other:
            yield Difference(what, one, other)


def obstacles(before: Run, now: Run) -> list[Difference]:
    """Return why the seconds of two runs must not be compared; empty where they may."""
    one, other = _fixed(before), _fixed(now)
    clocks = one["clock"], other["clock"]
    if clocks == (VIRTUAL, VIRTUAL):
        del one["host CPU"], other["host CPU"]  # no host has a part in such seconds
    found = list(_differing(one, other))
    if clocks == (RECORDED, RECORDED):
        found.append(Difference("clock, which compares with nothing", *clocks))
    return found


def differences(before: Run, now: Run) -> list[Difference]:
    """Return every input that differs: what forbids comparing, the kernels, and the host."""

    def inputs(run: Run) -> dict[str, str]:
        kernels = {f"kernel {kernel.name}": kernel.sha256 for kernel in run.kernels}
        host = {what: _entry(run.about, path) for what, path in _MAY_DIFFER.items()}
        return {**_fixed(run), **kernels, **files_of(run.about), **host}

    return list(_differing(inputs(before), inputs(now)))


def together(found: Sequence[tuple[Path, Run]]) -> list[Stored]:
    """Return runs as one comparison, each with a letter.

    Raises `UsageError`, with the reasons, when they must not be compared.
    """
    if len(found) == 1:
        return [Stored(*found[0])]
    for path, run in found[1:]:
        if reasons := obstacles(found[0][1], run):
            text = "\n".join(f"{d.what}: {d.before} and {d.now}" for d in reasons)
            raise UsageError(
                f"{found[0][0]} and {path} must not be compared: they differ in what makes "
                "the seconds. Make a report of each, or repeat one as the other was done",
                text,
            )
    return [Stored(path, run, letter_of(number)) for number, (path, run) in enumerate(found)]


def letter_of(number: int) -> str:
    """Return what the run with this number is called: A, B, ... Z, AA, ..."""
    letter = chr(ord("A") + number % 26)
    return letter if number < 26 else letter_of(number // 26 - 1) + letter


def kernel_rows(runs: Sequence[Stored]) -> list[KernelRow]:
    """Return which kernels of the runs stand beside each other.

    Those of the same name do; where then one is left of each run, those do.
    """
    each = [stored.figures.kernels for stored in runs]
    kernel_title = runs[0].run.shape.kernel_title
    shared = [name for name in each[0] if all(name in kernels for kernels in each)]
    rest = [[name for name in kernels if name not in shared] for kernels in each]
    rows = [KernelRow(kernel_title(name), [name] * len(runs)) for name in shared]
    if all(len(names) == 1 for names in rest):
        left = [names[0] for names in rest]
        title = " / ".join(kernel_title(name) for name in dict.fromkeys(left))
        return [*rows, KernelRow(title, left)]
    known = dict.fromkeys(name for kernels in rest for name in kernels)
    return rows + [
        KernelRow(kernel_title(name), [name if name in kernels else None for kernels in rest])
        for name in known
    ]


def sheets_of(runs: Sequence[Stored]) -> list[Cell]:
    """Return the sheets of any of the runs, in the order they came."""
    return list(dict.fromkeys(sheet for stored in runs for sheet in stored.figures.sheets))


def cells_of(runs: Sequence[Stored], sheet: Cell) -> Iterator[Cell]:
    """Yield the cells of a sheet that any of the runs has: columns, then rows by size."""
    shape = runs[0].run.shape
    having = [stored.figures for stored in runs if sheet in stored.figures.sheets]
    columns = dict.fromkeys(column for figures in having for column in figures.columns(sheet))
    rows = values_on(shape.rows, [{shape.rows: r} for f in having for r in f.rows(sheet)])
    for column in columns:
        for row in rows:
            yield having[0].cell(sheet, row, column)


def cell_rows(runs: Sequence[Stored]) -> Iterator[CellRow]:
    """Yield every cell that any of the runs has, with that of each."""
    for sheet in sheets_of(runs):
        for kernel in kernel_rows(runs):
            for cell in cells_of(runs, sheet):
                found = [
                    stored.figures.figure(name, cell) if name else None
                    for stored, name in zip(runs, kernel.names, strict=True)
                ]
                if any(each and each.valid + each.invalid for each in found):
                    yield CellRow(kernel.title, cell, found)
