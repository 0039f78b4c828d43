"""What kinds of results there are beside runs, told without reading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERIES = "series"


def is_series(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a series of patches."""
    return about.get("kind") == SERIES
