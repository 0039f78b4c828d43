"""KCIDB reports, as KernelCI's common database takes them.

Schema 5 of https://github.com/kernelci/kcidb-io. A suite becomes a checkout,
a build and its tests. Identifiers come from content, and of tests also from
when and where they were done: the same result exported twice is one object.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
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
_UNLIKE = {Status.CRASH: "FAIL", Status.HANG: "FAIL", Status.MISSING: "MISS"}


def check_origin(origin: str) -> str:
    """Return the name of a CI system; raise `UsageError` for one that KCIDB refuses."""
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--kcidb-origin {origin}: lower-case letters, digits and underscores are expected"
        )
    return origin


def kcidb(suites: Sequence[Suite], origin: str = ORIGIN) -> dict[str, Any]:
    """Return suites as one report. What they have in common is in it once."""
    exported = [_Exported(suite, origin) for suite in suites]
    return {
        "version": VERSION,
        "checkouts": list({each.checkout_id: each.checkout() for each in exported}.values()),
        "builds": list({each.build_id: each.build() for each in exported}.values()),
        "tests": [test for each in exported for test in each.tests()],
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


class _Exported:
    """One suite: its checkout, its build and its tests, under the names that they have in KCIDB."""

    def __init__(self, suite: Suite, origin: str) -> None:
        self.suite, self.origin = suite, origin
        self.kernel = kernel = suite.kernel or KernelFacts(suite.name)
        # A name that no other suite has: of its kernel, its times and its command.
        command = suite.properties.get("command", "")
        known = (kernel.name, kernel.sha256, suite.start, suite.end, command)
        self.own_id = _hash("\0".join(known))[:32]
        # KCIDB's hash of the patches: of their hashes, a line each.
        lines = "".join(f"{patch}\n" for patch in kernel.patches)
        self.patchset = _hash(lines) if lines else ""
        # Where nothing is known of the source, the suite names the checkout.
        source = kernel.commit or kernel.tree or kernel.sha256 or f"{kernel.name}-{self.own_id}"
        patched = f"-{self.patchset[:16]}" if kernel.patches else ""
        self.checkout_id = f"{origin}:{source}{patched}".replace("\0", "")
        unnamed = f"{self.checkout_id}-{kernel.name}"
        built = f"{origin}:{kernel.sha256}" if kernel.sha256 else unnamed
        self.build_id = built.replace("\0", "")

    def checkout(self) -> dict[str, Any]:
        kernel = self.kernel
        known = {
            "id": self.checkout_id,
            "origin": self.origin,
            "valid": True,
            "start_time": self.suite.start,
            "git_commit_hash": kernel.commit if _COMMIT.fullmatch(kernel.commit) else "",
            "misc": _filled({"tree": kernel.tree}),
        }
        if kernel.commit or kernel.tree:  # empty for a source without patches
            return _filled(known) | {"patchset_hash": self.patchset}
        return _filled({**known, "comment": "a kernel that was built elsewhere"})

    def build(self) -> dict[str, Any]:
        kernel = self.kernel
        own = next((each for each in self.suite.outcomes if each.name == BUILD), None)
        return _filled(
            {
                "id": self.build_id,
                "checkout_id": self.checkout_id,
                "origin": self.origin,
                "start_time": self.suite.start,
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

    def tests(self) -> Iterator[dict[str, Any]]:
        known = self.suite.properties
        comment = ", ".join(known[k] for k in ("accel", "clock", "boot", "machine") if k in known)
        environment = _filled({"comment": comment, "misc": _filled(dict(known))})
        seen: Counter[str] = Counter()
        for path, outcome in self.suite.leaves():
            if path == (BUILD,):
                continue
            name = _path(self.suite, path)
            seen[name] += 1
            number = f"-{seen[name]}" if seen[name] > 1 else ""
            yield _filled(
                {
                    "id": f"{self.origin}:{self.own_id}-{name}{number}",
                    "build_id": self.build_id,
                    "origin": self.origin,
                    "path": name,
                    "status": _status(outcome),
                    "start_time": self.suite.start,
                    "duration": outcome.seconds,
                    "number": _number(outcome),
                    "comment": outcome.message.partition("\n")[0],
                    "log_excerpt": _excerpt(outcome),
                    "environment": environment,
                    "misc": {"verdict": outcome.status.value},
                }
            )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _status(outcome: Outcome) -> str:
    return _UNLIKE.get(outcome.status, outcome.status.name)


def _build_status(own: Outcome | None) -> str:
    """Return a build's status. A skip of the lab's, no kernel to test, is a failed build."""
    if own is None:
        return "PASS"
    return "FAIL" if own.status is Status.SKIP else _status(own)


def _path(suite: Suite, path: Sequence[str]) -> str:
    """Return a test's path, such as linklab.grouping.mtu.group.1024."""
    parts = (_NOT_IN_A_PATH.sub("_", part) or "_" for part in (suite.name, *path))
    return ".".join(("linklab", *parts))


def _number(outcome: Outcome) -> dict[str, Any] | None:
    """Return the figure; KCIDB takes none for a test that was not done."""
    if outcome.figure is None or outcome.status in (Status.SKIP, Status.MISSING):
        return None
    found: dict[str, Any] = {"value": outcome.figure.value, "unit": outcome.figure.unit}
    return found | ({"prefix": "metric"} if outcome.figure.unit == "s" else {})


def _excerpt(outcome: Outcome) -> str:
    """Return the end of the output, which explains why a test did not pass."""
    text = outcome.output.replace("\0", "")
    return text if len(text) <= _EXCERPT else _CUT + text[len(_CUT) - _EXCERPT :]


def _filled(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that are not empty, without NUL: KCIDB takes neither."""
    return {
        name: whole
        for name, value in entries.items()
        if (whole := value.replace("\0", "") if isinstance(value, str) else value)
        not in (None, "", {})
    }
