"""What a self-test's end and its output say together.

The rules are kselftest's own (kselftest/runner.sh): 0 is a pass, 4 a skip,
anything else a failure. But an exit status of 0 does not outweigh a subtest
that failed or never reported.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from linklab.results.ktap import Report, Result, Test, parse, worst
from linklab.results.outcomes import Outcome, Status
from linklab.selftests.printed import printed_tests

SKIPPED = 4  # KSFT_SKIP in kselftest.h
_LINES = 40  # of what stands before a subtest that failed
_STATUS = {
    Result.PASS: Status.PASS,
    Result.XFAIL: Status.PASS,
    Result.SKIP: Status.SKIP,
    Result.FAIL: Status.FAIL,
    Result.MISSING: Status.MISSING,
}


@dataclass(frozen=True)
class End:
    """How a test ended: its exit status, or minus the signal that killed it.

    `seconds` is its time in the guest; `overrun` says that it was ended
    because its `limit` of seconds was over (the guest's in virtual time, else
    the host's); `flooded` because it printed more than is kept.
    """

    exit_code: int
    seconds: float
    limit: float
    overrun: bool = False
    flooded: bool = False


@dataclass(frozen=True)
class Judgement:
    """What came of a test, with its subtests; `faults` is what is wrong with its output."""

    status: Status
    message: str
    subtests: tuple[Outcome, ...] = ()
    faults: tuple[str, ...] = ()


def judge(output: str, end: End) -> Judgement:
    """Return what came of a test that ran to an end."""
    report = parse(output)
    says_ktap = report.result is not None
    tests = report.tests if says_ktap else printed_tests(output)
    said = report.result if says_ktap else _said(tests)
    status, message = _by_end(end)
    if says_ktap and status in (Status.PASS, Status.SKIP):
        status, message = _by_report(status, report)
    elif status is Status.SKIP and said is Result.FAIL:
        # Scripts keep the first status that is not 0: one that skips first hides what failed.
        failed = _names(tests, Result.FAIL)
        status, message = Status.FAIL, f"exit status {SKIPPED} (skip), but these failed: {failed}"
    elif status is Status.SKIP:
        message = _last(tests, Result.SKIP)
    elif status is Status.PASS and said is Result.FAIL:
        message = "exit status 0, though its own lines say FAIL"
    elif status is Status.FAIL and (failed := _names(tests, Result.FAIL)):
        message = f"{message}: {failed}"
    return Judgement(status, message, tuple(map(_outcome, tests)), report.faults)


def _said(tests: Sequence[Test]) -> Result | None:
    return worst(test.result for test in tests) if tests else None


def _by_end(end: End) -> tuple[Status, str]:
    if end.overrun:
        return Status.FAIL, f"not done within its limit of {end.limit:.0f} s"
    if end.flooded:
        return Status.FAIL, "it printed without an end"
    if end.exit_code == 0:
        return Status.PASS, ""
    if end.exit_code == SKIPPED:
        return Status.SKIP, ""
    if end.exit_code < 0:
        return Status.FAIL, f"killed by {_signal_name(-end.exit_code)}"
    return Status.FAIL, f"exit status {end.exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _by_report(status: Status, report: Report) -> tuple[Status, str]:
    """Return what KTAP makes of a test whose exit status blames nobody."""
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
    """Return what the last test with a result says of itself."""
    found = [test.message or test.name for test in _leaves(tests) if test.result is result]
    return found[-1] if found else ""


def _names(tests: Sequence[Test], result: Result) -> str:
    """Return the first tests with a result, by name."""
    names = [test.name for test in _leaves(tests) if test.result is result]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _leaves(tests: Iterable[Test]) -> Iterable[Test]:
    for test in tests:
        yield from test.leaves()


def _outcome(test: Test) -> Outcome:
    """Return a subtest as the exporters know it, with its last lines where it failed."""
    message = test.message
    if test.result is Result.XFAIL:
        message = f"failed as expected: {message}" if message else "failed as expected"
    kept = test.diagnostics[-_LINES:] if test.result is Result.FAIL else ()
    return Outcome(
        name=test.name,
        status=_STATUS[test.result],
        message=message,
        output="\n".join(kept),
        children=tuple(map(_outcome, test.subtests)),
    )
