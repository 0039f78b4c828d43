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
_EACH = SIGNIFICANT / 2
"""The risk of a cost that is not there, and that of an interval that misses: the same points
choose the terms and say how large they are, so that the two together are the risk."""
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
        """Whether all terms are significant; the last one stays even if it is not."""
        is_last = len(self.terms) == 1
        return not is_last or all(t.margin <= abs(t.value) for t in self.terms.values())

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
    or nothing says how good it is. The square is judged first, beside both other terms: judged
    again and again beside fewer it would look significant more often than it may. Then the
    least significant term is left out and the rest fitted anew until each that is left differs
    from 0 (Student's t of its standard error, which for one term is the F-test). No
    work costs less than nothing, nor less when there is more of it: a term
    that would say so is left out before all others.
    """
    known = {float(number): seconds for number, seconds in points.items() if seconds > 0}
    if len(known) < 3:
        return None
    tried = tuple(Power)[: 3 if len(known) >= 4 else 2]
    powers = list(tried)
    if Power.QUADRATIC in powers and _solve(known, powers)[1][Power.QUADRATIC] > SIGNIFICANT:
        powers.remove(Power.QUADRATIC)
    while True:
        terms, chances, error = _solve(known, powers)
        if chances.get(Power.QUADRATIC, _NEVER) < _NEVER:
            chances[Power.QUADRATIC] = 0.0
        worst = max(powers, key=lambda power: chances[power])
        if chances[worst] <= _EACH or len(powers) == 1:
            return Fit(terms, tried, len(known), error)
        powers.remove(worst)


def _solve(
    points: Mapping[float, float], powers: Sequence[Power]
) -> tuple[dict[Power, Term], dict[Power, float], float]:
    """Return the terms, for each the chance that it is none, and the relative error."""
    import numpy as np  # takes longer to import than a command takes that fits nothing

    most = max(points)
    numbers = np.array(list(points)) / most
    # Seconds in units of each figure: the errors are of one weight.
    seconds = np.array(list(points.values()))
    rows = np.stack([numbers**power.value / seconds for power in powers], axis=1)
    # The normal equations would square how far apart the columns are, and be singular
    # by rounding alone. Nothing is cut off: what the numbers do not tell has no limits.
    sizes = np.linalg.norm(rows, axis=0)
    solver = np.linalg.pinv(rows / sizes, rcond=0) / sizes[:, None]
    scaled = solver.sum(axis=1)
    free = len(points) - len(powers)
    error = float(sqrt(np.sum((1 - rows @ scaled) ** 2) / free))
    limit = student_quantile(1 - _EACH, free)
    # Rounding is an error, too: a term that an exact fit does not need is not there.
    deviations = max(error, _EXACT) * np.linalg.norm(solver, axis=1)
    # Where noise grows with the number a square looks significant that is not there: it is held
    # against what the errors themselves say, too (HC3; MacKinnon and White, Journal of
    # Econometrics 29, 1985, pages 305 to 325).
    leverage = np.minimum(np.sum(rows * solver.T, axis=1), 1 - _EXACT)
    own = float(np.linalg.norm(solver[-1] * (1 - rows @ scaled) / (1 - leverage)))
    shares = np.max(np.abs(rows * scaled), axis=0)
    coefficients = dict(zip(powers, map(float, scaled), strict=True))
    terms, chances = {}, {}
    for (power, value), deviation, share in zip(
        coefficients.items(), map(float, deviations), shares, strict=True
    ):
        unit = float(most) ** power.value
        terms[power] = Term(value / unit, limit * deviation / unit)
        chances[power] = 1.0 if share < _EXACT else student_outside(abs(value) / deviation, free)
        if power is Power.QUADRATIC and own > deviation:
            chances[power] = max(chances[power], student_outside(abs(value) / own, free))
        if _is_impossible(power, coefficients):
            chances[power] = _NEVER
    return terms, chances, error


def _is_impossible(power: Power, scaled: Mapping[Power, float]) -> bool:
    """Tell whether no cost can have a term; coefficients in units of the largest number."""
    if power is Power.QUADRATIC:  # the slope at the largest number
        return scaled[power] < 0 and scaled.get(Power.LINEAR, 0.0) + 2 * scaled[power] < 0
    return scaled[power] < 0


def student_outside(t: float, free: int) -> float:
    """Return the chance that Student's t with `free` degrees of freedom is beyond +-t.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(free))
    square, term, total = cos(angle) ** 2, 1.0, 0.0
    for k in range(free % 2, free, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    inside = sin(angle) * total
    if free % 2:
        inside = 2 / pi * (angle + sin(angle) * cos(angle) * total)
    return min(1.0, max(0.0, 1 - inside))


def student_quantile(level: float, free: int) -> float:
    """Return the t beyond which, on both sides, lies a chance of 1 - level."""
    low, high = 0.0, 1.0
    while student_outside(high, free) > 1 - level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        is_below = student_outside(middle, free) > 1 - level
        low, high = (middle, high) if is_below else (low, middle)
    return high
