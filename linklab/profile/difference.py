"""One profile less another: what an operation costs more on B than on A, function by function.

A sample stands for the time between two samples, and a profile holds those of
so many repetitions; so samples times period over repetitions is what one
operation costs. In virtual time a nanosecond is an instruction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from linklab.errors import LabError
from linklab.machine.spec import Clock
from linklab.profile.stacks import Stack, Stacks, frame_name, is_kernel
from linklab.profile.store import StoredProfile

SURE = 4.0
"""Standard deviations that a function's difference must exceed. Chance gives
that once in 16 000 times, and a profile has up to a thousand functions."""
_SAME = ("scenario", "operation", "arm", "interfaces", "accel", "machine", "cpus")


class Unit(StrEnum):
    """What a cost is counted in: it follows from the guest's clock."""

    SECONDS = "seconds"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True)
class Change:
    """What one operation costs on A and on B, and `SURE` standard deviations of the difference.

    Samples are taken as independent (Poisson). Of the whole that is too much,
    as they come at even distances.
    """

    a: float
    b: float
    error: float

    @property
    def difference(self) -> float:
        """How much more it costs on B."""
        return self.b - self.a

    @property
    def is_different(self) -> bool:
        """Whether the difference is more than samples give by chance."""
        return abs(self.difference) > self.error

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "difference": self.difference, "different": self.is_different}


@dataclass(frozen=True)
class Rate:
    """What one sample on A, and one on B, adds to the cost of one operation."""

    a: float
    b: float

    def change(self, a: int, b: int) -> Change:
        """Return what so many samples on A and on B say."""
        error = SURE * math.sqrt(a * self.a**2 + b * self.b**2)
        return Change(a * self.a, b * self.b, error)


def together(changes: Iterable[Change]) -> Change:
    """Return what several things that share no sample cost in all."""
    each = list(changes)
    error = math.hypot(*(change.error for change in each))
    return Change(sum(change.a for change in each), sum(change.b for change in each), error)


@dataclass(frozen=True)
class FunctionChange:
    """A function's own cost on A and on B. `space` is "kernel" or "user"."""

    symbol: str
    space: str
    change: Change

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"symbol": self.symbol, "space": self.space, **self.change.to_json()}


@dataclass(frozen=True)
class Difference:
    """Two profiles of the same work, subtracted.

    `unsampled` are what the operation took on A and on B before perf began,
    from its start to its end, as medians; `functions` begin with the largest
    difference.
    """

    unit: Unit
    rate: Rate
    whole: Change
    functions: tuple[FunctionChange, ...]
    unsampled: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        a, b = self.unsampled
        return {
            "unit": self.unit.value,
            "whole": self.whole.to_json(),
            "unsampled": {"a": a, "b": b, "difference": b - a},
            "symbols": [function.to_json() for function in self.functions],
        }


def clock_of(about: Mapping[str, Any]) -> str:
    """Return what a stored profile's seconds are. Profiles without an entry are of real time."""
    return str(about.get("clock", Clock.REAL.value))


def subtract(a: StoredProfile, b: StoredProfile) -> Difference:
    """Return B less A.

    Raises `LabError` where they are not of the same work, done the same way.
    """
    differing = [name for name in _SAME if a.about.get(name) != b.about.get(name)]
    if clock_of(a.about) != clock_of(b.about):
        differing.append("clock")
    if differing:
        raise LabError(f"two profiles cannot be subtracted: they differ in {', '.join(differing)}")
    unit = Unit.INSTRUCTIONS if clock_of(a.about) == Clock.VIRTUAL else Unit.SECONDS
    second = 1e9 if unit is Unit.INSTRUCTIONS else 1.0
    rate = Rate(second * _seconds_each(a.about), second * _seconds_each(b.about))
    first, then = (
        second * median(measure["seconds"] for measure in profile.about["unsampled"])
        for profile in (a, b)
    )
    whole = rate.change(sum(a.stacks.values()), sum(b.stacks.values()))
    return Difference(unit, rate, whole, _functions(a.stacks, b.stacks, rate), (first, then))


def as_stored(a: StoredProfile, b: StoredProfile) -> dict[str, Any]:
    """Return what is kept of two profiles and their difference, beside the two themselves."""
    both = (a.about, b.about)
    alike = {name: a.about.get(name) for name in (*_SAME, "boot", "memory", "event")}
    return {
        "command": a.about.get("command"),
        "start": a.about.get("start"),
        "end": b.about.get("end"),
        **alike,
        "clock": clock_of(a.about),
        "kernels": [about["kernel"] for about in both],
        "repetitions": [len(about["sampled"]) for about in both],
        "samples": [about["samples"] for about in both],
        **subtract(a, b).to_json(),
    }


def _seconds_each(about: Mapping[str, Any]) -> float:
    """Return what a sample adds to the seconds of one operation."""
    return 1 / (float(about["event"]["frequency"]) * len(about["sampled"]))


def _functions(a: Stacks, b: Stacks, rate: Rate) -> tuple[FunctionChange, ...]:
    """Return each function's own change. One that is not known on a side costs nothing there."""
    on_a, on_b = _own(a), _own(b)
    found = (
        FunctionChange(
            frame_name(frame),
            "kernel" if is_kernel(frame) else "user",
            rate.change(on_a[frame], on_b[frame]),
        )
        for frame in on_a | on_b
    )
    return tuple(sorted(found, key=_by_size))


def _own(stacks: Stacks) -> Counter[str]:
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    return own


def _by_size(function: FunctionChange) -> tuple[float, str, str]:
    return -abs(function.change.difference), function.symbol, function.space


def gone(a: Stacks, b: Stacks) -> int:
    """Return how many of A's samples lie in calls that B never makes."""
    made: set[Stack] = {stack[:depth] for stack in b for depth in range(1, len(stack) + 1)}
    return sum(count for stack, count in a.items() if stack not in made)
