"""Numbers as people read them: seconds, factors, per cent, values with a unit."""

from __future__ import annotations

from math import floor, log10

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps"))
_DECIMALS = 9  # the guest's clock counts nanoseconds


def digits_text(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits and no exponent: 0.00312, 3.12, 312."""
    if not value:
        return "0"
    # Rounded first: 9.996 is 10.0, with one digit less behind the point than it began with.
    decimals = digits - 1 - floor(log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{min(max(decimals, 0), _DECIMALS)}f}"


def seconds_text(seconds: float | None) -> str:
    """Return seconds with three significant digits: 0.00312, 0.312, 3.12, 31.2, 312."""
    if seconds is None:
        return "-"
    return digits_text(seconds) if seconds > 0 else "0"


def duration_text(seconds: float) -> str:
    """Return seconds with three significant digits and a unit: 3.46 us, 21.7 s."""
    if not seconds:
        return "0 s"
    size = float(f"{abs(seconds):.2e}")  # rounded first: 999.9 ns is 1.00 us
    unit, name = next((u for u in _UNITS if size >= u[0]), _UNITS[-1])
    decimals = 2 - floor(log10(size / unit))
    return f"{seconds / unit:.{min(max(decimals, 0), 3)}f} {name}"


def amount_text(value: float, unit: str) -> str:
    """Return a value with its unit, a time in the unit that suits it: 3.46 us, 9.55 Mbit/s."""
    if unit == "s":
        return duration_text(value)
    return f"{digits_text(value)} {unit}".rstrip()


def number_text(value: float | None, unit: str = "") -> str:
    """Return what stands in a column whose title has the unit; a count is whole."""
    if value is None:
        return "-"
    if unit:
        return digits_text(value) if value else "0"
    return f"{value:.10g}"


def ratio_text(ratio: float | None) -> str:
    """Return a factor with two or three digits: 1.4x, 41x, 312x."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
