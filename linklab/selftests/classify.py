"""The result of a self-test, from how it ended and what it printed.

The rules are kselftest's own (kselftest/runner.sh): 0 is a pass, 4 a skip,
anything else a failure. But an exit status of 0 does not outweigh a subtest
that failed or never reported.  Most of net's scripts came before KTAP: they
print `PASS: name`, or `TEST: name   [ OK ]`. Their exit status counts, and
these lines say what failed.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from linklab.results.ktap import Report, Result, Test, parse, without_colour
from linklab.results.outcomes import Outcome, Status

SKIPPED = 4  # KSFT_SKIP in kselftest.h
_LINES = 40  # of the output before a subtest that failed
_AHEAD = re.compile(r"(PASS|FAIL|SKIP|XFAIL):\s*(\S.*)$")
_BEHIND = re.compile(r"(?:TEST:\s*)?(.*?)\s*\[ *(OK|PASS|FAIL|SKIP|XFAIL) *\]$")
_FULL_STOPS = " .\t:"


@dataclass(frozen=True)
class End:
    """How a test ended: its exit status, or minus the signal that killed it.

    `seconds` is its time in the guest; `overrun` says that the lab ended it at
    its `limit` in seconds (the guest's in virtual time, else the host's);
    `flooded` that the lab ended it because it printed more than is kept.
    """

    exit_code: int
    seconds: float
    limit: float
    overrun: bool = False
    flooded: bool = False


@dataclass(frozen=True)
class Decision:
    """The result of a test, with its subtests; `faults` says what is wrong with its output."""

    status: Status
    message: str
    subtests: tuple[Outcome, ...] = ()
    faults: tuple[str, ...] = ()


def classify(output: str, end: End) -> Decision:
    """Return the result of a test that ended."""
    report = parse(output)
    says_ktap = report.result is not None
    tests = report.tests if says_ktap else _printed_tests(output)
    has_failed = any(test.result is Result.FAIL for test in tests)
    status, message = _by_end(end)
    if says_ktap and status in (Status.PASS, Status.SKIP):
        status, message = _by_report(status, report)
    elif status is Status.SKIP and has_failed:
        # Scripts keep the first status that is not 0: one that skips first hides what failed.
        failed = _names(tests, Result.FAIL)
        status, message = Status.FAIL, f"exit status {SKIPPED} (skip), but these failed: {failed}"
    elif status is Status.SKIP:
        message = _last(tests, Result.SKIP)
    elif status is Status.PASS and has_failed:
        message = "exit status 0, though its own lines say FAIL"
    elif status is Status.FAIL and (failed := _names(tests, Result.FAIL)):
        message = f"{message}: {failed}"
    return Decision(status, message, tuple(map(_outcome, tests)), report.faults)


def _by_end(end: End) -> tuple[Status, str]:
    if end.overrun:
        return Status.FAIL, f"not done within its limit of {end.limit:.0f} s"
    if end.flooded:
        return Status.FAIL, "it printed without an end"
    if end.exit_code in (0, SKIPPED):
        return Status.SKIP if end.exit_code else Status.PASS, ""
    if end.exit_code > 0:
        return Status.FAIL, f"exit status {end.exit_code}"
    try:
        name = signal.Signals(-end.exit_code).name
    except ValueError:
        name = f"signal {-end.exit_code}"
    return Status.FAIL, f"killed by {name}"


def _by_report(status: Status, report: Report) -> tuple[Status, str]:
    """Return the result by KTAP of a test whose exit status is a pass or a skip."""
    if report.bailed_out is not None:
        return Status.FAIL, f"bailed out: {report.bailed_out}"
    if report.result is Result.FAIL:
        return Status.FAIL, f"failed, whatever its exit status: {_names(report.tests, Result.FAIL)}"
    if report.result is Result.MISSING:
        lost = _names(report.tests, Result.MISSING) or "it announced tests and reported none"
        return Status.FAIL, f"cut short: {lost}"
    if report.result is Result.SKIP:
        return Status.SKIP, report.skipped or _last(report.tests, Result.SKIP)
    return status, ""


def _last(tests: Sequence[Test], result: Result) -> str:
    """Return the message of the last test with a result."""
    found = _with(tests, result)
    return (found[-1].message or found[-1].name) if found else ""


def _names(tests: Sequence[Test], result: Result) -> str:
    """Return the first tests with a result, by name."""
    names = [test.name for test in _with(tests, result)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _with(tests: Sequence[Test], result: Result) -> list[Test]:
    return [leaf for test in tests for leaf in test.leaves() if leaf.result is result]


def _outcome(test: Test) -> Outcome:
    """Return a subtest as the exporters know it, with its last lines where it failed."""
    status, message = Status.PASS, test.message
    if test.result is Result.XFAIL:
        message = f"failed as expected: {message}" if message else "failed as expected"
    else:
        status = Status(test.result.value)
    output = "\n".join(test.diagnostics[-_LINES:] if status is Status.FAIL else ())
    children = tuple(map(_outcome, test.subtests))
    return Outcome(test.name, status, None, message, output, children=children)


def _printed_tests(text: str) -> tuple[Test, ...]:
    """Return the tests that lines of a script report, each with the lines before it."""
    tests: list[Test] = []
    since: list[str] = []
    for raw in filter(str.strip, without_colour(text).splitlines()):
        if found := _test_in(raw.strip(), since):
            tests.append(Test(*found, number=len(tests) + 1, diagnostics=tuple(since)))
            since = []
        else:
            since.append(raw)
    return tuple(tests)


def _test_in(line: str, before: list[str]) -> tuple[str, Result] | None:
    if ahead := _AHEAD.match(line):
        return ahead[2], Result[ahead[1]]
    if behind := _BEHIND.match(line):
        name = behind[1].rstrip(_FULL_STOPS) or (before[-1].strip() if before else "")
        return name, Result[behind[2].replace("OK", "PASS")]
    return None
