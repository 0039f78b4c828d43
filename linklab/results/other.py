"""Results that are no runs: profiles and their differences, bisections and ported series.

Each lies in a folder of its own with a file that programs read, and the text
that was printed when it ended in `table.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results.model import first_shape

PROFILE = "profile"
DIFFERENCE = "difference"
BISECTION = "bisect"
PORT = "port"
FILES: Mapping[str, str] = {
    PROFILE: "profile.json",
    DIFFERENCE: "difference.json",
    BISECTION: "bisect.json",
    PORT: "port.json",
}
"""The file that makes a folder one of these, by its kind."""
NOUN: Mapping[str, str] = {
    PROFILE: "profile",
    DIFFERENCE: "difference of two profiles",
    BISECTION: "bisection",
    PORT: "ported series",
}
"""What a person calls each."""
TABLE = "table.txt"
_SCHEMA = 1  # of each


def kind_in(folder: Path) -> str:
    """Return which of these a folder holds, nothing where it holds none."""
    return next((kind for kind, name in FILES.items() if (folder / name).is_file()), "")


def read_other(folder: Path, kind: str) -> dict[str, Any]:
    """Return what the file of a kind says. Raises `UsageError` where it cannot be read."""
    path = folder / FILES[kind]
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != _SCHEMA:
        raise UsageError(f"{path} was written by schema {schema}, this version reads {_SCHEMA}")
    return dict(about)


def printed(folder: Path) -> str:
    """Return what was printed when it ended, nothing where it has not."""
    try:
        return (folder / TABLE).read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / TABLE} cannot be read: {error}") from error


def kernels(about: Mapping[str, Any]) -> list[str]:
    """Return the names of the kernels that it is about, if there are any."""
    found = about.get("kernels", [about.get("kernel")])
    names = (kernel.get("name") if isinstance(kernel, Mapping) else kernel for kernel in found)
    return [str(name) for name in names if name]


def verdict(kind: str, about: Mapping[str, Any]) -> str:
    """Return its verdict, nothing where it has not ended: what its command ended with."""
    if kind == BISECTION:
        outcome = about.get("outcome")
        if not isinstance(outcome, Mapping):
            return ""
        return "pass" if "first_bad" in outcome else "skip"
    if kind in (PROFILE, DIFFERENCE):
        return "pass" if about.get("end") else ""
    return str(about.get("verdict") or "")


def figure(kind: str, about: Mapping[str, Any]) -> str:
    """Return what it found, in a line."""
    if kind == PROFILE:
        return _top_symbol(about)
    if kind == DIFFERENCE:
        return _top_difference(about)
    if kind == BISECTION:
        return _first_bad(about)
    return ", ".join(f"{count} {status}" for status, count in about["counts"].items() if count)


def work_of(about: Mapping[str, Any]) -> str:
    """Return what a profile is of, in words; the first release did not store them."""
    if "work" in about:
        return str(about["work"])
    shape = first_shape()
    return shape.in_words(shape.cell_in(about))


def _top_symbol(about: Mapping[str, Any]) -> str:
    what = work_of(about)
    if not about["symbols"]:
        return what
    top = about["symbols"][0]
    return f"{what}: {100 * top['own']['share']:.1f} % in {top['symbol']}"


def _top_difference(about: Mapping[str, Any]) -> str:
    whole, part = about["whole"], 0.0
    if whole["a"]:
        part = 100 * whole["difference"] / whole["a"]
    surely = next((symbol for symbol in about["symbols"] if symbol["different"]), None)
    where = f"most in {surely['symbol']}" if surely else "no function is different"
    return f"{work_of(about)}: {part:+.1f} % {about['unit']}, {where}"


def _first_bad(about: Mapping[str, Any]) -> str:
    outcome, steps = about.get("outcome") or {}, about["steps"]
    titles = {step["revision"]: f"{step['short']} {step['subject']}" for step in steps}
    if "first_bad" in outcome:
        first = outcome["first_bad"]
        return f"first bad: {titles.get(first, first)}"
    if "candidates" in outcome:
        return f"the first bad one is one of {len(outcome['candidates'])}"
    return f"{len(steps)} steps done"
