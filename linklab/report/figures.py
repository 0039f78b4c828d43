"""Figures that reports show, worked out of a run's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import median

from linklab.results.model import Run, Sample

_CLOCK_DECIMALS = 9  # the guest's clock counts nanoseconds
FLAVOUR_ORDER = {"nosysfs": 0, "sysfs": 1}  # the paper's columns


@dataclass(frozen=True)
class Cell:
    """The samples of one arm on one kernel at one number of interfaces."""

    seconds: float | None  # the median of what is valid, or None
    valid: int
    invalid: int


class Figures:
    """A run's samples, to be asked by operation, kernel, arm and interfaces.

    The creation that each guest begins with (trial 0) is kept apart.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._samples = [sample for sample in run.samples if sample.trial > 0]
        self._setup = [sample for sample in run.samples if sample.trial == 0]

    @property
    def operations(self) -> list[str]:
        """The operations measured, in the order they came."""
        return _unique(sample.operation for sample in self._samples)

    @property
    def kernels(self) -> list[str]:
        """The kernels, those of the paper in its order first."""
        names = [kernel.name for kernel in self.run.kernels]
        return sorted(names, key=lambda name: FLAVOUR_ORDER.get(name, len(FLAVOUR_ORDER)))

    def arms(self, operation: str) -> list[str]:
        """Return the arms that did an operation, `group` first, as the paper has it."""
        arms = _unique(s.arm for s in self._samples if s.operation == operation)
        return sorted(arms, key=lambda arm: arm != "group")

    def counts(self, operation: str) -> list[int]:
        """Return the numbers of interfaces, smallest first."""
        return sorted({s.interfaces for s in self._samples if s.operation == operation})

    def cell(self, operation: str, kernel: str, arm: str, interfaces: int) -> Cell:
        """Return what was measured for one cell of the table."""
        return _cell(
            [
                s
                for s in self._samples
                if (s.operation, s.kernel, s.arm, s.interfaces)
                == (operation, kernel, arm, interfaces)
            ]
        )

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
    return Cell(median(valid) if valid else None, len(valid), len(samples) - len(valid))


def _unique(words: object) -> list[str]:
    return list(dict.fromkeys(words))  # type: ignore[call-overload]


def seconds_text(seconds: float | None) -> str:
    """Return seconds with three significant digits: 0.00312, 0.312, 3.12, 31.2, 312."""
    if seconds is None:
        return "-"
    if seconds <= 0:
        return "0"
    # Rounded first: 9.996 is 10.0, with one digit less behind the point than it began with.
    decimals = 2 - floor(log10(float(f"{seconds:.2e}")))
    return f"{seconds:.{min(max(decimals, 0), _CLOCK_DECIMALS)}f}"


def ratio_text(ratio: float | None) -> str:
    """Return a factor with two or three digits: 1.4x, 41x, 312x."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
