"""A time as a function of a number: a + b N + c N^2, with what is significant.

Times differ by a factor from trial to trial, not by an amount, so the squares
of relative errors are made least. One figure for each number goes in: trials
in one guest share what is odd about that guest, and would promise more
certainty than there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import atan, cos, pi, sin, sqrt

SIGNIFICANT = 0.05
_NEVER = 2.0  # beyond any chance
_EXACT = 1e-9  # a relative error below which a fit is exact, and rounding all that is left


class Power(Enum):
    """A term of the fit, by the power of the number."""

    FIXED = 0
    LINEAR = 1
    QUADRATIC = 2


@dataclass(frozen=True)
class Term:
    """A coefficient in seconds, with half the width of its 95 % interval."""

    value: float
    margin: float


@dataclass(frozen=True)
class Fit:
    """The terms that are significant; `tried` are those that the counts allow to tell.

    `error` is the relative error of one figure (residual standard deviation).
    """

    terms: Mapping[Power, Term]
    tried: tuple[Power, ...]
    counts: int
    error: float

    def at(self, number: float) -> float:
        """Return the seconds that the fit gives for a number."""
        return sum(term.value * number**power.value for power, term in self.terms.items())

    @property
    def is_significant(self) -> bool:
        """Whether the terms are; the last one is kept in any case."""
        return all(term.margin <= abs(term.value) for term in self.terms.values())

    @property
    def growth(self) -> str:
        """Say in words how time grows with the number."""
        if Power.QUADRATIC not in self.tried:
            return "not known: needs 4 counts"
        if not self.is_significant:
            return "not known: too noisy"
        if square := self.terms.get(Power.QUADRATIC):
            return f"{'faster' if square.value > 0 else 'slower'} than linear"
        return "linear" if Power.LINEAR in self.terms else "none found"


def fit(points: Mapping[int, float] | Mapping[float, float]) -> Fit | None:
    """Return the fit of seconds by numbers, or None of fewer than three.

    Three terms take at least four numbers, two take three: one more than terms,
    or nothing says how good it is. The least significant term is left out and
    the rest fitted anew until each that is left differs from 0 with 95 %
    (Student's t of its standard error, which for one term is the F-test). No
    work costs less than nothing, nor less when there is more of it: a term
    that would say so is left out before all others.
    """
    known = {float(number): seconds for number, seconds in points.items() if seconds > 0}
    if len(known) < 3:
        return None
    tried = tuple(Power)[: 3 if len(known) >= 4 else 2]
    powers = list(tried)
    while True:
        terms, chances, error = _solve(known, powers)
        worst = max(powers, key=lambda power: chances[power])
        if chances[worst] <= SIGNIFICANT or len(powers) == 1:
            return Fit(terms, tried, len(known), error)
        powers.remove(worst)


def _solve(
    points: Mapping[float, float], powers: Sequence[Power]
) -> tuple[dict[Power, Term], dict[Power, float], float]:
    """Return the terms, for each the chance that it is none, and the relative error."""
    import numpy as np  # takes longer to import than a command takes that fits nothing

    most = max(points)
    numbers = np.array(list(points)) / most
    # Numbers in units of the largest one, seconds in units of each figure: all
    # columns are then of one size, and the errors of one weight.
    seconds = np.array(list(points.values()))
    rows = np.stack([numbers**power.value / seconds for power in powers], axis=1)
    inverse = np.linalg.inv(rows.T @ rows)
    scaled = inverse @ rows.T @ np.ones(len(points))
    free = len(points) - len(powers)
    error = float(sqrt(np.sum((1 - rows @ scaled) ** 2) / free))
    limit = student_quantile(1 - SIGNIFICANT, free)
    terms, chances = {}, {}
    impossible = _impossible({p: float(s) for p, s in zip(powers, scaled, strict=True)})
    for place, power in enumerate(powers):
        unit = float(most) ** power.value
        # Rounding is an error, too: a term that an exact fit does not need is not there.
        share = float(np.max(np.abs(rows[:, place] * scaled[place])))
        deviation = max(error, _EXACT) * sqrt(inverse[place, place])
        terms[power] = Term(float(scaled[place]) / unit, limit * deviation / unit)
        chances[power] = student_outside(abs(float(scaled[place])) / deviation, free)
        if share < _EXACT:
            chances[power] = 1.0
        if power in impossible:
            chances[power] = _NEVER
    return terms, chances, error


def _impossible(scaled: Mapping[Power, float]) -> set[Power]:
    """Return the terms that no cost can have; coefficients in units of the largest number."""
    found = {p for p in (Power.FIXED, Power.LINEAR) if scaled.get(p, 0.0) < 0}
    linear, square = scaled.get(Power.LINEAR, 0.0), scaled.get(Power.QUADRATIC, 0.0)
    if square < 0 and linear + 2 * square < 0:  # the slope at the largest number
        found.add(Power.QUADRATIC)
    return found


def student_outside(t: float, free: int) -> float:
    """Return the chance that Student's t with `free` degrees of freedom is beyond +-t.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(free))
    square = cos(angle) ** 2
    term, total = 1.0, 0.0
    if free % 2:
        for k in range(1, free, 2):
            total += term
            term *= square * (k + 1) / (k + 2)
        inside = 2 / pi * (angle + sin(angle) * cos(angle) * total)
    else:
        for k in range(0, free, 2):
            total += term
            term *= square * (k + 1) / (k + 2)
        inside = sin(angle) * total
    return min(1.0, max(0.0, 1 - inside))


def student_quantile(level: float, free: int) -> float:
    """Return the t beyond which, on both sides, lies a chance of 1 - level."""
    low, high = 0.0, 1.0
    while student_outside(high, free) > 1 - level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if student_outside(middle, free) > 1 - level:
            low = middle
        else:
            high = middle
    return high
