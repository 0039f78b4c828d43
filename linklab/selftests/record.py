"""The results of self-tests, as run.json keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from linklab.errors import Verdict
from linklab.results.model import Run
from linklab.results.outcomes import Outcome, Status, Suite, worst
from linklab.results.result_kinds import SELFTEST
from linklab.results.suites import circumstances, facts_of

TESTS = "tests"
_VERDICTS = {
    Status.CRASH: Verdict.CRASH,
    Status.HANG: Verdict.HANG,
    Status.FAIL: Verdict.FAIL,
    Status.ERROR: Verdict.ERROR,
    Status.MISSING: Verdict.ERROR,
}


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


def to_json(record: TestRecord) -> dict[str, Any]:
    """Return a test as JSON takes it."""
    return asdict(record)


def from_json(data: Mapping[str, Any]) -> TestRecord:
    """Return a stored test. Raises `KeyError` or `TypeError` when something is missing."""
    attempts = tuple(_attempt(entry) for entry in data["attempts"])
    return TestRecord(data["name"], data["kernel"], attempts, tuple(data["lacking"]))


def _attempt(data: Mapping[str, Any]) -> Attempt:
    # A run that was stored before the host's seconds were kept has none.
    given = {"host_seconds": None, **data}
    known: dict[str, Any] = {name: given[name] for name in Attempt.__dataclass_fields__}
    known["status"] = Status(known["status"])
    known["subtests"] = tuple(map(_outcome, known["subtests"]))
    known["faults"] = tuple(known["faults"])
    return Attempt(**known)


def _outcome(data: Mapping[str, Any]) -> Outcome:
    return Outcome(
        name=data["name"],
        status=Status(data["status"]),
        seconds=data["seconds"],
        message=data["message"],
        output=data["output"],
        children=tuple(map(_outcome, data["children"])),
    )


def records_of(about: Mapping[str, Any]) -> list[TestRecord]:
    """Return the tests of a stored run."""
    return [from_json(entry) for entry in about.get(TESTS) or ()]


def suites_of(about: Mapping[str, Any]) -> list[Suite]:
    """Return a stored run as exporters take it: a suite for each kernel."""
    records = records_of(about)
    return [
        Suite(
            name=SELFTEST,
            outcomes=tuple(_exported(record) for record in records if record.kernel == kernel.name),
            kernel=facts_of(about, kernel),
            properties=circumstances(about),
            start=str(about.get("start") or ""),
            end=str(about.get("end") or ""),
        )
        for kernel in Run(about, ()).kernels
    ]


def _exported(record: TestRecord) -> Outcome:
    """Return a test with its subtests, and its own result as one more where theirs differs.

    Exporters go by the subtests alone. Those of a test that passed although
    its lines say FAIL are left out: its exit status counts.
    """
    last = record.last
    message = f"flaky: {tally(record)}" if record.flaky else last.message
    children = last.subtests
    said = worst(child.status for child in children) if children else last.status
    if children and said is not last.status:
        own = Outcome("the test itself", last.status, last.seconds, message, last.evidence)
        blamed = last.status in (Status.PASS, Status.SKIP)
        children = () if blamed else (*children, own)
    return Outcome(
        record.name, last.status, last.seconds, message, last.evidence, children=children
    )


def tally(record: TestRecord) -> str:
    """Return the result of each attempt, in order."""
    return ", then ".join(attempt.status.value for attempt in record.attempts)
