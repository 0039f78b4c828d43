"""Logarithmic axes: from a value to a place on paper, and the ticks between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

_ROOM = 0.06  # of the axis' length, left free at each end
_LEAST_DECADES = 0.3  # a single value, too, stands on an axis that has a length
_STEPS: tuple[tuple[float, ...], ...] = ((1, 2, 5), (1, 3), (1,))
_DECIMALS = 9


@dataclass(frozen=True)
class LogAxis:
    """An axis from `low` to `high` (both above 0) drawn from `start` to `end`, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return where a value above 0 stands, rounded to what a screen can show."""
        share = log10(value / self.low) / log10(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float) -> LogAxis:
        """Return an axis on which all of `values` have room.

        Raises `ValueError` when there are none, or one that is not above 0.
        """
        known = sorted(values)
        if not known or known[0] <= 0:
            raise ValueError("a logarithmic axis needs values, all of them above 0")
        low, high = log10(known[0]), log10(known[-1])
        lacking = max(0.0, _LEAST_DECADES - (high - low)) / 2
        low, high = low - lacking, high + lacking
        room = (high - low) * _ROOM
        return cls(10 ** (low - room), 10 ** (high + room), start, end)

    def ticks(self, most: int) -> list[float]:
        """Return round values on the axis: as many as fit among 1, 2, 5; 1, 3; or 1."""
        exponents = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        found: list[float] = []
        for steps in _STEPS:
            exact = (round(step * 10.0**e, _DECIMALS) for e in exponents for step in steps)
            found = [value for value in exact if self.low <= value <= self.high]
            if len(found) <= most:
                return found
        return found[:: -(-len(found) // most)]

    def spread(self, values: Sequence[float], gap: float) -> list[float]:
        """Return those of `values` whose labels, `gap` pixels apart, do not touch.

        The last one, where curves end, always stays.
        """
        kept: list[float] = []
        for value in sorted(set(values), reverse=True):
            if not kept or abs(self.place(kept[-1]) - self.place(value)) >= gap:
                kept.append(value)
        return kept[::-1]


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near the wanted ones, in their order, at least `gap` apart.

    They stay between `low` and `high` where there is room for them all.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(wanted[index], placed[-1] + gap if placed else low))
    limit = high
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - gap
    if placed and placed[0] < low:  # too many: evenly, from the top
        step = (high - low) / max(1, len(placed) - 1)
        placed = [low + number * step for number in range(len(placed))]
    result = [0.0] * len(wanted)
    for number, index in enumerate(order):
        result[index] = round(placed[number], 1)
    return result


def tick_text(value: float) -> str:
    """Return a tick's value as people write it: 0.001, 0.5, 20, 2000."""
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
