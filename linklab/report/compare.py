"""Several runs beside each other: whether they may be, and what they say then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results.figures import RECORDED, VIRTUAL, Figure, Figures
from linklab.results.model import Run
from linklab.results.rerun_command import files_of
from linklab.results.shape import Cell, Metric, values_on

_ABSENT = "unknown"


@dataclass(frozen=True)
class Stored:
    """A stored run, where it lies, and the letter it goes by beside others."""

    folder: Path
    run: Run
    letter: str = ""
    metric: Metric | None = None  # that is shown, if not the first

    @cached_property
    def figures(self) -> Figures:
        """Its figures."""
        return Figures(self.run, self.metric)

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
        one, other = (f.interval if f else None for f in (self.figures[0], self.figures[number]))
        return bool(one and other and one.low <= other.high and other.low <= one.high)


# What makes seconds of one run another thing than seconds of another, with what it
# was in runs from before it was kept.
_MUST_AGREE = {
    "kind of result": ("kind", "run"),
    "scenario": ("scenario", _ABSENT),
    "scenario's file": ("scenario_sha256", ""),
    "accelerator": ("accel", _ABSENT),
    "clock": ("clock", "real"),
    "place": ("place", ""),
    "boot": ("boot", _ABSENT),
    "QEMU version": ("qemu.version", _ABSENT),
    "machine type": ("machine", _ABSENT),
    "guest memory (MiB)": ("memory", _ABSENT),
    "guest CPUs": ("cpus", _ABSENT),
    "host CPU": ("host.cpu", _ABSENT),
    "guest for each trial": ("plan.fresh_guest", "False"),
    "trials in each guest and round": ("plan.trials", "1"),
    "trials thrown away before them": ("plan.settling", "0"),
}
_MAY_DIFFER = {
    "trials": ("plan.repeat", _ABSENT),
    "guests side by side": ("plan.jobs", _ABSENT),
    "host CPU": ("host.cpu", _ABSENT),
    "host kernel": ("host.kernel", _ABSENT),
    "host CPUs": ("host.cpus", _ABSENT),
    "Python": ("host.python", _ABSENT),
}


def entry_text(about: Mapping[str, Any], path: str, absent: str = _ABSENT) -> str:
    """Return an entry of run.json as text by its path, such as `host.cpu`."""
    value: Any = about
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return absent if value is None else str(value)


def _facts(run: Run, wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {what: entry_text(run.about, *entry) for what, entry in wanted.items()}


def _fixed(run: Run) -> dict[str, str]:
    image, metric = run.about.get("image"), run.shape.metric
    # The first release had one parameter.
    given = run.plan.get("given", {"listeners": run.plan.get("listeners", 0)})
    return {
        **_facts(run, _MUST_AGREE),
        "axes": ", ".join(axis.name for axis in run.shape.axes),
        "metric": f"{metric.name} {metric.unit}".rstrip(),
        **{f"image: {k}": str(v) for k, v in (image if isinstance(image, Mapping) else {}).items()},
        **{f"parameter {name}": str(value) for name, value in given.items()},
    }


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    each = ((k, before.get(k, _ABSENT), now.get(k, _ABSENT)) for k in {**before, **now})
    return [Difference(what, one, other) for what, one, other in each if one != other]


def obstacles(before: Run, now: Run) -> list[Difference]:
    """Return why the seconds of two runs must not be compared; empty where they may."""
    one, other = _fixed(before), _fixed(now)
    clocks = one["clock"], other["clock"]
    if clocks == (VIRTUAL, VIRTUAL):
        del one["host CPU"], other["host CPU"]  # no host has a part in such seconds
    found = _differing(one, other)
    if clocks == (RECORDED, RECORDED):
        found.append(Difference("clock, which compares with nothing", *clocks))
    return found


def differences(before: Run, now: Run) -> list[Difference]:
    """Return every input that differs: what forbids comparing, the kernels, and the host."""

    def inputs(run: Run) -> dict[str, str]:
        kernels = {f"kernel {kernel.name}": kernel.sha256 for kernel in run.kernels}
        return {**_fixed(run), **kernels, **files_of(run.about), **_facts(run, _MAY_DIFFER)}

    return _differing(inputs(before), inputs(now))


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
    title = runs[0].run.shape.kernel_title
    shared = [name for name in each[0] if all(name in kernels for kernels in each)]
    rest = [[name for name in kernels if name not in shared] for kernels in each]
    rows = [KernelRow(title(name), [name] * len(runs)) for name in shared]
    known = dict.fromkeys(name for kernels in rest for name in kernels)
    if all(len(names) == 1 for names in rest):
        return [*rows, KernelRow(" / ".join(map(title, known)), [names[0] for names in rest])]
    return rows + [
        KernelRow(title(name), [name if name in kernels else None for kernels in rest])
        for name in known
    ]


def sheets_of(runs: Sequence[Stored]) -> list[Cell]:
    """Return the sheets of any of the runs, in the order they came."""
    return list(dict.fromkeys(sheet for stored in runs for sheet in stored.figures.sheets))


def cell_rows(runs: Sequence[Stored]) -> Iterator[CellRow]:
    """Yield every cell that any of the runs has, with that of each."""
    for sheet in sheets_of(runs):
        for kernel in kernel_rows(runs):
            for cell in _cells(runs, sheet):
                found = [
                    stored.figures.figure(name, cell) if name else None
                    for stored, name in zip(runs, kernel.names, strict=True)
                ]
                if any(each and each.valid + each.invalid for each in found):
                    yield CellRow(kernel.title, cell, found)


def _cells(runs: Sequence[Stored], sheet: Cell) -> Iterator[Cell]:
    """Yield the cells of a sheet that any of the runs has: columns, then rows by size."""
    down = runs[0].run.shape.rows
    having = [stored.figures for stored in runs if sheet in stored.figures.sheets]
    rows = values_on(down, [{down: row} for figures in having for row in figures.rows(sheet)])
    for column in dict.fromkeys(column for figures in having for column in figures.columns(sheet)):
        for row in rows:
            yield having[0].cell(sheet, row, column)
