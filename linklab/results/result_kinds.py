"""The kinds of results beside plain runs, and what each says in a line.

Comparisons, calibrations, series, sweeps and self-tests are runs: `kind` in their
run.json tells. Profiles and their differences, bisections and ported series are
none: each lies in a folder of its own with a file that programs read, and the
text that was printed when it ended in `table.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linklab.errors import UsageError
from linklab.results.codec import read_document
from linklab.results.model import first_shape

SERIES = "series"
COMPARISON = "compare"
CALIBRATION = "calibrate"
SELFTEST = "selftest"
SWEEP = "sweep"

PROFILE = "profile"
DIFFERENCE = "difference"
BISECTION = "bisect"
PORT = "port"
FILES: Mapping[str, str] = {kind: f"{kind}.json" for kind in (PROFILE, DIFFERENCE, BISECTION, PORT)}
"""The file that makes a folder a result that is no run, by its kind."""
NOUN: Mapping[str, str] = {
    SERIES: "series",
    COMPARISON: "comparison",
    SELFTEST: "run of self-tests",
    SWEEP: "sweep",
    PROFILE: "profile",
    DIFFERENCE: "difference of two profiles",
    BISECTION: "bisection",
    PORT: "ported series",
}
"""What a person calls what is no plain run."""
TABLE = "table.txt"


def is_series(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a series of patches."""
    return about.get("kind") == SERIES


def is_selftest(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of the kernel's self-tests."""
    return about.get("kind") == SELFTEST


def has_comparison(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a comparison which came to its end."""
    return about.get("kind") == COMPARISON and isinstance(about.get("comparison"), Mapping)


def has_calibration(about: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a calibration which came to its end."""
    return about.get("kind") == CALIBRATION and isinstance(about.get("calibration"), Mapping)


def kind_in(folder: Path) -> str:
    """Return which result that is no run a folder holds, nothing where it holds none."""
    return next((kind for kind, name in FILES.items() if (folder / name).is_file()), "")


def read_other(folder: Path, kind: str) -> dict[str, Any]:
    """Return what the file of a kind says. Raises `UsageError` where it cannot be read."""
    return read_document(folder / FILES[kind], folder / FILES[kind])


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
        if not isinstance(outcome := about.get("outcome"), Mapping):
            return ""
        return "pass" if "first_bad" in outcome else "skip"
    if kind in (PROFILE, DIFFERENCE):
        return "pass" if about.get("end") else ""
    return str(about.get("verdict") or "")


def figure(kind: str, about: Mapping[str, Any]) -> str:
    """Return what it found, in a line."""
    if kind == PROFILE:
        top = next(iter(about["symbols"]), None)
        found = f": {100 * top['own']['share']:.1f} % in {top['symbol']}" if top else ""
        return f"{work_of(about)}{found}"
    if kind == DIFFERENCE:
        whole = about["whole"]
        part = 100 * whole["difference"] / whole["a"] if whole["a"] else 0.0
        surely = next((symbol for symbol in about["symbols"] if symbol["different"]), None)
        where = f"most in {surely['symbol']}" if surely else "no function is different"
        return f"{work_of(about)}: {part:+.1f} % {about['unit']}, {where}"
    if kind == BISECTION:
        return _first_bad(about.get("outcome") or {}, about["steps"])
    return ", ".join(f"{count} {status}" for status, count in about["counts"].items() if count)


def work_of(about: Mapping[str, Any]) -> str:
    """Return what a profile is of, in words; the first release did not store them."""
    if "work" in about:
        return str(about["work"])
    shape = first_shape()
    return shape.in_words(shape.cell_in(about))


def _first_bad(outcome: Mapping[str, Any], steps: list[Mapping[str, Any]]) -> str:
    if "first_bad" in outcome:
        first = outcome["first_bad"]
        titles = {step["revision"]: f"{step['short']} {step['subject']}" for step in steps}
        return f"first bad: {titles.get(first, first)}"
    if "candidates" in outcome:
        return f"the first bad one is one of {len(outcome['candidates'])}"
    return f"{len(steps)} steps done"
