"""The results of self-tests, as run.json keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linklab.errors import Verdict
from linklab.results.codec import from_json
from linklab.results.model import Run
from linklab.results.outcomes import Outcome, Status, Suite, worst
from linklab.results.result_kinds import SELFTEST
from linklab.results.suites import facts_of, suite

TESTS = "tests"
_VERDICTS = {
    Status.CRASH: Verdict.CRASH,
    Status.HANG: Verdict.HANG,
    Status.FAIL: Verdict.FAIL,
    Status.ERROR: Verdict.ERROR,
    Status.MISSING: Verdict.ERROR,
}  # the worst first


@dataclass(frozen=True)
class Attempt:
    """One run of one test. `seconds` are the guest's, None where it did not end there.

    `output` and `console` are files of the run's folder; `limit` is in the
    guest's seconds in virtual time, else in the host's; `evidence` is the
    console's end where the kernel or the lab ended the guest; `host_seconds`
    are the host's from the test's start to its end.
    """

    status: Status
    message: str
    seconds: float | None
    limit: float
    exit_code: int | None
    output: str
    console: str
    subtests: tuple[Outcome, ...] = ()
    faults: tuple[str, ...] = ()
    evidence: str = ""
    host_seconds: float | None = None


@dataclass(frozen=True)
class TestRecord:
    """A test and each attempt at it, in order. `lacking` are tools that the image lacked."""

    __test__ = False  # pytest need not look into it

    name: str
    kernel: str
    attempts: tuple[Attempt, ...]
    lacking: tuple[str, ...] = ()

    @property
    def last(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def flaky(self) -> bool:
        """Whether it failed and then did not."""
        blamed = [attempt.status.blames_kernel for attempt in self.attempts]
        return any(blamed) and not blamed[-1]


def verdict_of(records: Sequence[TestRecord]) -> Verdict:
    """Return the verdict of tests together: without a failure it is a pass, even of skips alone."""
    found = {record.last.status for record in records}
    return next((_VERDICTS[status] for status in _VERDICTS if status in found), Verdict.PASS)


def records_of(about: Mapping[str, Any]) -> list[TestRecord]:
    """Return the tests of a stored run."""
    return [from_json(TestRecord, entry, "a test") for entry in about.get(TESTS) or ()]


def suites_of(about: Mapping[str, Any]) -> list[Suite]:
    """Return a stored run as exporters take it: a suite for each kernel."""
    records = records_of(about)
    return [
        suite(
            about,
            SELFTEST,
            (_exported(record) for record in records if record.kernel == kernel.name),
            facts_of(about, kernel),
        )
        for kernel in Run(about, ()).kernels
    ]


def _exported(record: TestRecord) -> Outcome:
    """Return a test with its subtests, and its own result as one more where theirs differs.

    Exporters go by the subtests alone. Those of a test that passed although
    its lines say FAIL are left out: its exit status counts.
    """
    last, children = record.last, record.last.subtests
    message = f"flaky: {tally(record)}" if record.flaky else last.message
    own = Outcome("the test itself", last.status, last.seconds, message, last.evidence)
    if children and worst(child.status for child in children) is not last.status:
        is_good = last.status in (Status.PASS, Status.SKIP)
        children = () if is_good else (*children, own)
    return replace(own, name=record.name, children=children)


def tally(record: TestRecord) -> str:
    """Return the result of each attempt, in order."""
    return ", then ".join(attempt.status.value for attempt in record.attempts)
