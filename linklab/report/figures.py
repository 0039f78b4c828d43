"""Figures that reports show, worked out of a run's samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import median
from typing import Any

from linklab.results.model import Run, Sample
from linklab.results.statistics import Interval, summarise

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps"))
_CLOCK_DECIMALS = 9  # the guest's clock counts nanoseconds
_REAL_TIME = {
    "kvm": "KVM",
    "tcg": "TCG (software emulation: compare ratios, not seconds)",
}
FLAVOUR_ORDER = {"nosysfs": 0, "sysfs": 1}  # the paper's columns
_FLAVOUR_TITLE = {"nosysfs": "without sysfs", "sysfs": "with sysfs"}


VIRTUAL, RECORDED = "virtual", "recorded"


def seconds_are(about: Mapping[str, Any]) -> str:
    """Return what the seconds of a stored result are, as stands over every table of it."""
    if about.get("clock") == VIRTUAL:
        return "virtual time: 1 ns for each instruction; no caches, no waiting for the host"
    if about.get("clock") == RECORDED:
        return "recorded: 1 ns for each instruction; comparable with nothing"
    accel = str(about.get("accel"))
    return _REAL_TIME.get(accel, accel)


def timed_by(about: Mapping[str, Any]) -> str:
    """Return the same in two words, for a sentence: `virtual time`, `TCG`, `KVM`."""
    clock = about.get("clock")
    if clock in (VIRTUAL, RECORDED):
        return "virtual time" if clock == VIRTUAL else "recorded"
    return str(about.get("accel", "")).upper()


def kernel_title(name: str) -> str:
    """Return what stands over a kernel's column: the paper's words for its flavours."""
    return _FLAVOUR_TITLE.get(name, name)


@dataclass(frozen=True)
class Cell:
    """The samples of one arm on one kernel at one number of interfaces."""

    seconds: float | None  # the median of what is valid, or None
    valid: int
    invalid: int
    interval: Interval | None = None  # of the median, where there is more than one trial


class Figures:
    """A run's samples, to be asked by operation, kernel, arm and interfaces.

    The creation that each guest begins with (trial 0) is kept apart.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._samples = [sample for sample in run.samples if sample.trial > 0]
        self._setup = [sample for sample in run.samples if sample.trial == 0]
        self._cells: dict[tuple[str, str, str, int], list[Sample]] = defaultdict(list)
        for s in self._samples:
            self._cells[s.operation, s.kernel, s.arm, s.interfaces].append(s)

    @property
    def operations(self) -> list[str]:
        """The operations measured, as they were listed; trials come in any order."""
        return self._as_listed("operations", (sample.operation for sample in self._samples))

    @property
    def kernels(self) -> list[str]:
        """The kernels, those of the paper in its order first."""
        names = [kernel.name for kernel in self.run.kernels]
        return sorted(names, key=lambda name: FLAVOUR_ORDER.get(name, len(FLAVOUR_ORDER)))

    def arms(self, operation: str) -> list[str]:
        """Return the arms that did an operation, `group` first, as the paper has it."""
        found = (s.arm for s in self._samples if s.operation == operation)
        return sorted(self._as_listed("arms", found), key=lambda arm: arm != "group")

    def _as_listed(self, what: str, words: Iterable[str]) -> list[str]:
        """Return words once each in the order of the plan, or else as they came."""
        listed = list(self.run.about.get("plan", {}).get(what, ()))
        return sorted(
            dict.fromkeys(words), key=lambda w: listed.index(w) if w in listed else len(listed)
        )

    def counts(self, operation: str) -> list[int]:
        """Return the numbers of interfaces, smallest first."""
        return sorted({s.interfaces for s in self._samples if s.operation == operation})

    def cell(self, operation: str, kernel: str, arm: str, interfaces: int) -> Cell:
        """Return what was measured for one cell of the table."""
        return _cell(self.samples(operation, kernel, arm, interfaces))

    def samples(self, operation: str, kernel: str, arm: str, interfaces: int) -> list[Sample]:
        """Return the samples of one cell, those that are not valid among them."""
        return list(self._cells.get((operation, kernel, arm, interfaces), ()))

    def cells(self, operation: str) -> list[Cell]:
        """Return all cells of an operation that have a figure."""
        cells = (
            self.cell(operation, kernel, arm, count)
            for kernel in self.kernels
            for arm in self.arms(operation)
            for count in self.counts(operation)
        )
        return [cell for cell in cells if cell.valid]

    def ratio(self, operation: str, kernel: str, interfaces: int) -> float | None:
        """Return how many times faster `group` is than `process`."""
        group = self.cell(operation, kernel, "group", interfaces).seconds
        process = self.cell(operation, kernel, "process", interfaces).seconds
        if not group or process is None:
            return None
        return process / group

    def creation(self, kernel: str, interfaces: int) -> float | None:
        """Return the seconds to create the interfaces, a netlink message for each."""
        found = [s for s in self._setup if (s.kernel, s.interfaces) == (kernel, interfaces)]
        return _cell(found).seconds

    def creation_counts(self, kernels: Sequence[str]) -> list[int]:
        """Return the numbers of interfaces that were created on every one of `kernels`."""
        counts = [{s.interfaces for s in self._setup if s.kernel == k} for k in kernels]
        return sorted(set.intersection(*counts)) if counts else []

    def boot_seconds(self) -> float | None:
        """Return the median time from QEMU's start to the agent's hello."""
        times = [boot.seconds for boot in self.run.boots]
        return median(times) if times else None


def _cell(samples: list[Sample]) -> Cell:
    valid = [sample.seconds for sample in samples if sample.verified]
    if not valid:
        return Cell(None, 0, len(samples))
    summary = summarise(valid)
    return Cell(summary.median, len(valid), len(samples) - len(valid), summary.interval)


def seconds_text(seconds: float | None) -> str:
    """Return seconds with three significant digits: 0.00312, 0.312, 3.12, 31.2, 312."""
    if seconds is None:
        return "-"
    if seconds <= 0:
        return "0"
    # Rounded first: 9.996 is 10.0, with one digit less behind the point than it began with.
    decimals = 2 - floor(log10(float(f"{seconds:.2e}")))
    return f"{seconds:.{min(max(decimals, 0), _CLOCK_DECIMALS)}f}"


def duration_text(seconds: float) -> str:
    """Return seconds with three significant digits and a unit: 3.46 us, 21.7 s."""
    if not seconds:
        return "0 s"
    size = float(f"{abs(seconds):.2e}")  # rounded first: 999.9 ns is 1.00 us
    unit, name = next((u for u in _UNITS if size >= u[0]), _UNITS[-1])
    decimals = 2 - floor(log10(size / unit))
    return f"{seconds / unit:.{min(max(decimals, 0), 3)}f} {name}"


def ratio_text(ratio: float | None) -> str:
    """Return a factor with two or three digits: 1.4x, 41x, 312x."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
