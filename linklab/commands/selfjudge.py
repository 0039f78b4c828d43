"""Judging revisions by the kernel's own self-tests: `--selftest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from linklab.bisect.history import Revision
from linklab.bisect.journal import Journal
from linklab.bisect.verdicts import SelftestJudge, Tries
from linklab.commands.judging import Criterion
from linklab.commands.prepare import KernelOptions, MachineOptions
from linklab.errors import (
    BuildSkipped,
    GuestHung,
    KernelCrashed,
    KernelFault,
    LinklabError,
    UsageError,
    Verdict,
    WrongState,
)
from linklab.events import Listener
from linklab.results.outcomes import Status
from linklab.results.store import read_about
from linklab.selftests.record import TestRecord, records_of

_FAULTS: dict[Status, type[KernelFault]] = {
    Status.FAIL: WrongState,
    Status.CRASH: KernelCrashed,
    Status.HANG: GuestHung,
}


def selftest_judge(
    criterion: Criterion,
    kernels: Callable[[Revision], KernelOptions],
    machine: MachineOptions,
    journal: Journal,
    listener: Listener,
) -> SelftestJudge:
    """Return what judges revisions by the tests that the criterion names."""

    def run(revision: Revision, folder: Path, attempt: int) -> Sequence[LinklabError]:
        return _run(criterion, kernels(revision), machine, folder, attempt, listener)

    return SelftestJudge(run, Tries(criterion.rule, criterion.tries, journal))


def _run(
    criterion: Criterion,
    kernels: KernelOptions,
    machine: MachineOptions,
    folder: Path,
    attempt: int,
    listener: Listener,
) -> list[LinklabError]:
    from linklab.commands import selftest

    options = selftest.SelftestOptions(
        criterion.tests,
        kernels,
        machine,
        timeout=f"{criterion.plan.limit or 0:g}",
        output=str(folder),
    )
    try:
        finished = selftest.run(options, ["invoke", "selftest"], listener, attempt)
    except UsageError as error:  # options are right by now: this revision lacks the test
        raise BuildSkipped(error.message, error.evidence) from error
    if finished.faults:
        raise finished.faults[0]
    records = records_of(read_about(finished.folder))
    faults = list(_faults(records))
    if not faults and finished.verdict is not Verdict.PASS:
        undone = next(record for record in records if record.last.status is not Status.PASS)
        raise BuildSkipped(f"{undone.name} was not done: {undone.last.message}")
    if not any(record.last.status is Status.PASS for record in records) and not faults:
        raise BuildSkipped(f"every test of {criterion.tests} was skipped")
    return faults


def _faults(records: Sequence[TestRecord]) -> Iterator[LinklabError]:
    for record in records:
        if kind := _FAULTS.get(record.last.status):
            yield kind(f"{record.name}: {record.last.message}", record.last.evidence)
