"""KCIDB reports, as KernelCI's common database takes them.

Schema 5 of https://github.com/kernelci/kcidb-io. A suite becomes a checkout,
a build and its tests. Identifiers come from content, and of tests also from
when and where they were done: the same result exported twice is one object.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from linklab.errors import LabError, UsageError
from linklab.results.outcomes import BUILD, KernelFacts, Outcome, Status, Suite

VERSION = {"major": 5, "minor": 3}
ORIGIN = "linklab"
_ORIGIN = re.compile(r"[a-z0-9_]+")
_EXCERPT = 16384  # characters, the schema's limit
_CUT = "[...]\n"
_NOT_IN_A_PATH = re.compile(r"[^a-zA-Z0-9_-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_STATUS = {
    Status.PASS: "PASS",
    Status.FAIL: "FAIL",
    Status.CRASH: "FAIL",
    Status.HANG: "FAIL",
    Status.ERROR: "ERROR",
    Status.MISSING: "MISS",
    Status.SKIP: "SKIP",
}


def check_origin(origin: str) -> str:
    """Return the name of a CI system; raise `UsageError` for one that KCIDB refuses."""
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--kcidb-origin {origin}: lower-case letters, digits and underscores are expected"
        )
    return origin


def kcidb(suites: Sequence[Suite], origin: str = ORIGIN) -> dict[str, Any]:
    """Return suites as one report. What they have in common is in it once."""
    kernels = [suite.kernel or KernelFacts(suite.name) for suite in suites]
    checkouts = [_checkout(suite, k, origin) for suite, k in zip(suites, kernels, strict=True)]
    builds = [_build(suite, k, origin) for suite, k in zip(suites, kernels, strict=True)]
    tests = [
        test
        for suite, kernel in zip(suites, kernels, strict=True)
        for test in _tests(suite, kernel, origin)
    ]
    return {
        "version": VERSION,
        "checkouts": _once(checkouts),
        "builds": _once(builds),
        "tests": tests,
    }


def validate(report: dict[str, Any]) -> bool:
    """Check a report against the published schema; return False where it is not installed.

    Raises `LabError` when the report is not valid.
    """
    try:
        from kcidb_io.schema import LATEST
    except ImportError:
        return False
    try:
        LATEST.validate(report)
    except Exception as error:  # jsonschema's, which is not ours to import
        raise LabError("the KCIDB report is not valid: please report this", str(error)) from error
    return True


def _once(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({each["id"]: each for each in objects}.values())


def _checkout_id(suite: Suite, kernel: KernelFacts, origin: str) -> str:
    """Return what names the source; where nothing is known of it, what names the suite."""
    source = kernel.commit or kernel.tree or kernel.sha256 or f"{kernel.name}-{_own_id(suite)}"
    name = f"{origin}:{source}" + (f"-{_patchset(kernel)[:16]}" if kernel.patches else "")
    return name.replace("\0", "")


def _own_id(suite: Suite) -> str:
    """Return a name that no other suite has: of its kernel, its times and its command."""
    kernel = suite.kernel or KernelFacts(suite.name)
    command = suite.properties.get("command", "")
    known = (kernel.name, kernel.sha256, suite.start, suite.end, command)
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:32]


def _patchset(kernel: KernelFacts) -> str:
    """Return KCIDB's hash of the patches: of their hashes, a line each."""
    lines = "".join(f"{patch}\n" for patch in kernel.patches)
    return hashlib.sha256(lines.encode()).hexdigest() if lines else ""


def _checkout(suite: Suite, kernel: KernelFacts, origin: str) -> dict[str, Any]:
    known = {
        "id": _checkout_id(suite, kernel, origin),
        "origin": origin,
        "valid": True,
        "start_time": suite.start,
        "git_commit_hash": kernel.commit if _COMMIT.fullmatch(kernel.commit) else "",
        "misc": _filled({"tree": kernel.tree}),
    }
    if kernel.commit or kernel.tree:
        known["patchset_hash"] = _patchset(kernel)
        return _filled(known) | {"patchset_hash": known["patchset_hash"]}
    return _filled({**known, "comment": "a kernel that was built elsewhere"})


def _build_id(suite: Suite, kernel: KernelFacts, origin: str) -> str:
    if kernel.sha256:
        return f"{origin}:{kernel.sha256}".replace("\0", "")
    return f"{_checkout_id(suite, kernel, origin)}-{kernel.name}".replace("\0", "")


def _build(suite: Suite, kernel: KernelFacts, origin: str) -> dict[str, Any]:
    own = next((each for each in suite.outcomes if each.name == BUILD), None)
    return _filled(
        {
            "id": _build_id(suite, kernel, origin),
            "checkout_id": _checkout_id(suite, kernel, origin),
            "origin": origin,
            "start_time": suite.start,
            "architecture": kernel.arch,
            "compiler": kernel.compiler,
            "config_name": kernel.config,
            "status": _build_status(own),
            "duration": own.seconds if own else None,
            "comment": kernel.release,
            "log_excerpt": _excerpt(own) if own else "",
            "misc": _filled({"kernel": kernel.name, "release": kernel.release}),
        }
    )


def _build_status(own: Outcome | None) -> str:
    """Return a build's status. What the lab calls a skip, no kernel to test, failed to build."""
    if own is None or own.status is Status.PASS:
        return "PASS"
    return "FAIL" if own.status is Status.SKIP else _STATUS[own.status]


def _tests(suite: Suite, kernel: KernelFacts, origin: str) -> Iterator[dict[str, Any]]:
    build = _build_id(suite, kernel, origin)
    one = _own_id(suite)
    seen: dict[str, int] = {}
    for path, outcome in suite.leaves():
        if path == (BUILD,):
            continue
        name = _path(suite, path)
        seen[name] = seen.get(name, 0) + 1
        number = f"-{seen[name]}" if seen[name] > 1 else ""
        yield _filled(
            {
                "id": f"{origin}:{one}-{name}{number}",
                "build_id": build,
                "origin": origin,
                "path": name,
                "status": _STATUS[outcome.status],
                "start_time": suite.start,
                "duration": outcome.seconds,
                "number": _number(outcome),
                "comment": outcome.message.partition("\n")[0],
                "log_excerpt": _excerpt(outcome),
                "environment": _environment(suite),
                "misc": {"verdict": outcome.status.value},
            }
        )


def _path(suite: Suite, path: Sequence[str]) -> str:
    """Return where a test belongs: linklab.grouping.mtu.group.1024."""
    parts = (_NOT_IN_A_PATH.sub("_", part) or "_" for part in (suite.name, *path))
    return ".".join(("linklab", *parts))


def _number(outcome: Outcome) -> dict[str, Any] | None:
    """Return the figure; KCIDB wants none of a test that was not done."""
    if outcome.figure is None or outcome.status in (Status.SKIP, Status.MISSING):
        return None
    found: dict[str, Any] = {"value": outcome.figure.value, "unit": outcome.figure.unit}
    return found | ({"prefix": "metric"} if outcome.figure.unit == "s" else {})


def _environment(suite: Suite) -> dict[str, Any]:
    known = suite.properties
    comment = ", ".join(known[k] for k in ("accel", "clock", "boot", "machine") if k in known)
    return _filled({"comment": comment, "misc": _filled(dict(known))})


def _excerpt(outcome: Outcome) -> str:
    """Return the end of the output, which is what explains a test that did not pass."""
    text = outcome.output.replace("\0", "")
    return text if len(text) <= _EXCERPT else _CUT + text[len(_CUT) - _EXCERPT :]


def _filled(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that have something in them, without NUL: KCIDB knows neither."""
    whole = {
        name: value.replace("\0", "") if isinstance(value, str) else value
        for name, value in entries.items()
    }
    return {name: value for name, value in whole.items() if value not in (None, "", {})}
