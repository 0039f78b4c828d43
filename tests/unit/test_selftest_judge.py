"""Judging revisions by the kernel's own self-tests, with a fake `invoke selftest`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from revisions import journal_of

from linklab.bisect.driver import Classifier
from linklab.bisect.history import Revision
from linklab.bisect.search import Mark
from linklab.commands.judging import CriterionOptions, check_criterion, selftest_classifier
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.selftest import SelftestOptions, SelftestWork
from linklab.commands.workflow import Finished
from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.events import ignore
from linklab.results.codec import to_json
from linklab.results.outcomes import Status
from linklab.results.store import RunFolder
from linklab.selftests.record import Attempt, TestRecord, verdict_of

ONE = Revision("a" * 40, "aaaa", "net: one")


def attempt(status: Status) -> Attempt:
    return Attempt(status, "it said", 1.0, 9.0, 0, "", "", evidence="proof")


@dataclass
class FakeSelftest:
    """Says of each test what it is told; `error` is raised instead, `fault` ended it early."""

    found: dict[str, Status] = field(default_factory=dict)
    error: Exception | None = None
    fault: LabError | None = None
    asked: list[SelftestOptions] = field(default_factory=list)

    def run(self, options: SelftestOptions) -> Finished:
        self.asked.append(options)
        if self.error is not None:
            raise self.error
        records = [
            TestRecord(name, "nosysfs", (attempt(status),)) for name, status in self.found.items()
        ]
        folder = RunFolder(Path(options.output), {"kernels": [], "tests": []})
        folder.update(tests=[to_json(record) for record in records])
        faults = [self.fault] if self.fault else []
        return Finished(folder.path, verdict_of(records), faults)


MakeJudge = Callable[..., Classifier]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSelftest:
    made = FakeSelftest()
    monkeypatch.setattr(SelftestWork, "run", lambda work: made.run(work.options))
    return made


@pytest.fixture
def judge(fake: FakeSelftest, tmp_path: Path) -> MakeJudge:
    def make(fault: str = "", tries: str = "1") -> Classifier:
        options = CriterionOptions(selftest="net/a.sh", fault=fault, tries=tries, timeout="30")
        return selftest_classifier(
            check_criterion(options),
            lambda revision: KernelOptions("nosysfs", "linux", revision=revision.name),
            MachineOptions(boot="resume"),
            journal_of(tmp_path / "out", "g", "b"),
            ignore,
        )

    return make


def test_a_revision_whose_tests_pass_is_good(fake: FakeSelftest, judge: MakeJudge) -> None:
    fake.found = {"net/a.sh": Status.PASS, "net/b.sh": Status.SKIP}
    judged = judge().classify(ONE, 1)
    assert (judged.judgement, judged.why) == (Mark.GOOD, "every test passed")
    (asked,) = fake.asked
    assert (asked.tests, asked.kernels.revision, asked.timeout) == ("net/a.sh", ONE.name, "30")
    assert asked.machine.boot == "resume"


@pytest.mark.parametrize("status", [Status.FAIL, Status.CRASH, Status.HANG])
def test_a_test_that_blames_the_kernel_is_bad_with_its_words(
    fake: FakeSelftest, judge: MakeJudge, status: Status
) -> None:
    fake.found = {"net/a.sh": Status.PASS, "net/b.sh": status}
    judged = judge().classify(ONE, 1)
    assert (judged.judgement, judged.verdict) == (Mark.BAD, status.value)
    assert (judged.why, judged.evidence) == ("net/b.sh: it said", "proof")


def test_a_failure_is_a_skip_where_a_crash_is_looked_for(
    fake: FakeSelftest, judge: MakeJudge
) -> None:
    fake.found = {"net/a.sh": Status.FAIL}
    assert judge("crash").classify(ONE, 1).judgement is Mark.SKIP


def test_tests_that_come_and_go_are_run_again(fake: FakeSelftest, judge: MakeJudge) -> None:
    fake.found = {"net/a.sh": Status.PASS}
    judged = judge(tries="3").classify(ONE, 1)
    assert judged.why == "every test passed in 3 tries"
    assert len({asked.output for asked in fake.asked}) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.SKIP, "every test of net/a.sh was skipped"),
        (Status.MISSING, "net/a.sh was not done: it said"),
        (Status.ERROR, "net/a.sh was not done: it said"),
    ],
)
def test_what_was_not_done_says_nothing_of_a_revision(
    fake: FakeSelftest, judge: MakeJudge, status: Status, words: str
) -> None:
    fake.found = {"net/a.sh": status}
    judged = judge().classify(ONE, 1)
    assert (judged.judgement, judged.why) == (Mark.SKIP, words)


@pytest.mark.parametrize("error", [UsageError("no such test"), BuildSkipped("no such test")])
def test_a_revision_without_the_test_or_a_kernel_is_a_skip(
    fake: FakeSelftest, judge: MakeJudge, error: Exception
) -> None:
    fake.error = error
    judged = judge().classify(ONE, 1)
    assert (judged.judgement, judged.why) == (Mark.SKIP, "no such test")


def test_a_fault_of_the_lab_is_no_judgement(fake: FakeSelftest, judge: MakeJudge) -> None:
    fake.fault = LabError("disk full")
    with pytest.raises(LabError, match="disk full"):
        judge().classify(ONE, 1)


def test_self_tests_and_figures_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="choose one"):
        check_criterion(CriterionOptions(selftest="net", metric="mtu/group/1", above="1s"))
    assert check_criterion(CriterionOptions(selftest="net")).text == "any fault in net"
