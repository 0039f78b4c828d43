"""Stored profiles: a folder for each, from which everything shown can be made again.

Two that were subtracted are in the folders `a` and `b` of one with the
difference: what an operation costs more on B than on A, function by function.
A sample stands for the time between two samples, and a profile has those of a
number of repetitions; so samples times period over repetitions is the cost of
one operation. In virtual time a nanosecond is an instruction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from linklab.errors import LabError, UsageError, os_errors_as
from linklab.machine.spec import Clock
from linklab.profile.stacks import (
    Stack,
    Stacks,
    collapsed,
    frame_name,
    kernel_share,
    own_samples,
    read_collapsed,
    share_of,
    space_of,
    symbol_shares,
)
from linklab.results.codec import to_json
from linklab.results.model import first_shape
from linklab.results.result_kinds import DIFFERENCE, FILES, PROFILE, work_of

SCHEMA = 1
PROFILE_FILE = FILES[PROFILE]
DIFFERENCE_FILE = FILES[DIFFERENCE]
FOLDED_FILE = "folded.txt"
GRAPH_FILE = "flamegraph.svg"
TABLE_FILE = "table.txt"
SIDES = ("a", "b")

SURE = 4.0
"""Standard deviations that a function's difference must exceed. Chance does so once
in 16 000 times, and a profile has up to a thousand functions."""


@dataclass(frozen=True)
class StoredProfile:
    """A profile as stored: `about` is profile.json, `stacks` are folded.txt."""

    about: Mapping[str, Any]
    stacks: Stacks


def write_profile(folder: Path, profile: StoredProfile) -> None:
    """Write the stacks, and the shares that follow from them, into a folder.

    Raises `LabError` when it cannot be written.
    """
    stacks = profile.stacks
    kernel, among = kernel_share(stacks), sum(stacks.values())
    shares = {"kernel": kernel, "user": share_of(among - kernel.samples, among)}
    about = {**profile.about, "shares": to_json(shares), "symbols": to_json(symbol_shares(stacks))}
    _write(folder / FOLDED_FILE, collapsed(stacks))
    _write_json(folder / PROFILE_FILE, about)


def write_difference(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the difference of two profiles into their folder. Raises `LabError` on failure."""
    _write_json(folder / DIFFERENCE_FILE, about)


def _write_json(path: Path, about: Mapping[str, Any]) -> None:
    _write(path, json.dumps({"schema": SCHEMA, **about}, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    with os_errors_as(LabError, f"the folder {path.parent} cannot be written"):
        path.write_text(text)


def read_profile(folder: Path) -> StoredProfile:
    """Return a stored profile. Raises `UsageError` when there is none, or one of another schema."""
    try:
        about = json.loads((folder / PROFILE_FILE).read_text())
        stacks = read_collapsed((folder / FOLDED_FILE).read_text())
    except (OSError, ValueError, LabError) as error:
        raise UsageError(f"{folder} holds no profile that can be read: {error}") from error
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{folder} was written by schema {schema}, this version reads {SCHEMA}")
    return StoredProfile(about, stacks)


class Unit(StrEnum):
    """The unit of a cost; it follows from the guest's clock."""

    SECONDS = "seconds"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True)
class Change:
    """What one operation costs on A and on B, and `SURE` standard deviations of the difference.

    Samples are assumed to be independent (Poisson). For the whole that is too
    much, as they come at even distances.
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
        return {**to_json(self), "difference": self.difference, "different": self.is_different}


@dataclass(frozen=True)
class Rate:
    """What one sample on A, and one on B, adds to the cost of one operation."""

    a: float
    b: float

    def change(self, a: int, b: int) -> Change:
        """Return the costs that so many samples on A and on B give."""
        error = SURE * math.sqrt(a * self.a**2 + b * self.b**2)
        return Change(a * self.a, b * self.b, error)


def together(changes: Iterable[Change]) -> Change:
    """Return the sum of changes that share no sample."""
    each = list(changes)
    error = math.hypot(*(change.error for change in each))
    return Change(sum(change.a for change in each), sum(change.b for change in each), error)


@dataclass(frozen=True)
class FunctionChange:
    """A function's own cost on A and on B. `space` is "kernel" or "user"."""

    symbol: str
    space: str
    change: Change


@dataclass(frozen=True)
class Difference:
    """Two profiles of the same work, subtracted.

    `unsampled` are the medians of the operation's whole time on A and on B
    without perf, where the scenario tells its seconds; `functions` begin with
    the largest difference.
    """

    unit: Unit
    rate: Rate
    whole: Change
    functions: tuple[FunctionChange, ...]
    unsampled: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        a, b = self.unsampled or (None, None)
        difference = None if a is None or b is None else b - a
        return {
            "unit": self.unit.value,
            "whole": self.whole.to_json(),
            "unsampled": {"a": a, "b": b, "difference": difference},
            "symbols": [
                {"symbol": each.symbol, "space": each.space, **each.change.to_json()}
                for each in self.functions
            ],
        }


def clock_of(about: Mapping[str, Any]) -> str:
    """Return the clock of a stored profile. Profiles without an entry are of real time."""
    return str(about.get("clock", Clock.REAL.value))


def _same(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what must be alike; the first release's profiles do not name their axes."""
    axes = about.get("axes") or [axis.name for axis in first_shape().axes]
    return ("scenario", *axes, "given", "accel", "machine", "cpus")


def subtract(a: StoredProfile, b: StoredProfile) -> Difference:
    """Return B less A. Raises `LabError` where they are not of the same work, done the same way."""
    names = dict.fromkeys((*_same(a.about), *_same(b.about)))
    differing = [name for name in names if a.about.get(name) != b.about.get(name)]
    if clock_of(a.about) != clock_of(b.about):
        differing.append("clock")
    if differing:
        raise LabError(f"two profiles cannot be subtracted: they differ in {', '.join(differing)}")
    unit = Unit.INSTRUCTIONS if clock_of(a.about) == Clock.VIRTUAL else Unit.SECONDS
    second = 1e9 if unit is Unit.INSTRUCTIONS else 1.0
    rate = Rate(second * _seconds_each(a.about), second * _seconds_each(b.about))
    whole = rate.change(sum(a.stacks.values()), sum(b.stacks.values()))
    times = [
        [measure["seconds"] for measure in each.about["unsampled"] if "seconds" in measure]
        for each in (a, b)
    ]
    unsampled = (second * median(times[0]), second * median(times[1])) if all(times) else None
    return Difference(unit, rate, whole, _functions(a.stacks, b.stacks, rate), unsampled)


def as_stored(a: StoredProfile, b: StoredProfile) -> dict[str, Any]:
    """Return two profiles' circumstances and their difference, as difference.json has them."""
    both = (a.about, b.about)
    alike = {name: a.about.get(name) for name in (*_same(a.about), "boot", "memory", "event")}
    alike["work"] = work_of(a.about)
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
    first, then = own_samples(a), own_samples(b)
    found = (
        FunctionChange(frame_name(frame), space_of(frame), rate.change(first[frame], then[frame]))
        for frame in first | then
    )
    return tuple(sorted(found, key=lambda f: (-abs(f.change.difference), f.symbol, f.space)))


def gone(a: Stacks, b: Stacks) -> int:
    """Return how many of A's samples lie in calls that B never makes."""
    made: set[Stack] = {stack[:depth] for stack in b for depth in range(1, len(stack) + 1)}
    return sum(count for stack, count in a.items() if stack not in made)
