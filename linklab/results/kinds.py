"""What kinds of results there are beside runs, told without reading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERIES = "series"
COMPARISON = "compare"
CALIBRATION = "calibrate"
SELFTEST = "selftest"


def is_series(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a series of patches."""
    return about.get("kind") == SERIES


def has_comparison(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a comparison which came to its end."""
    return about.get("kind") == COMPARISON and isinstance(about.get("comparison"), Mapping)


def has_calibration(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a calibration which came to its end."""
    return about.get("kind") == CALIBRATION and isinstance(about.get("calibration"), Mapping)


def is_selftest(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of the kernel's self-tests."""
    return about.get("kind") == SELFTEST
