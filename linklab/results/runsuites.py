"""A stored run as suites of outcomes: one suite for each of its kernels.

What a run was to do stands in its plan; what came of it in its samples and
its faults. A test of the plan that has neither is missing: an earlier fault,
or the lab, ended the run before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from linklab.errors import Verdict
from linklab.results.comparesuites import comparison_outcomes
from linklab.results.kinds import is_series
from linklab.results.model import BootRecord, KernelRecord, Run, Sample
from linklab.results.outcomes import (
    Figure,
    Outcome,
    Status,
    Suite,
    family,
    status_of,
)
from linklab.results.runfacts import circumstances, facts_of
from linklab.results.seriessuites import suites_of_series

BOOT = "boot"
_LAB_ENDED = {
    Verdict.ERROR.value: "the lab failed before it",
    Verdict.INTERRUPTED.value: "the run was interrupted before it",
    None: "the run did not come to its end",
}


@dataclass(frozen=True)
class _Fault:
    """What a kernel did wrong, and at what; None where that is not recorded."""

    status: Status
    message: str
    evidence: str
    during: str
    interfaces: int | None
    operation: str | None
    arm: str | None

    def hits(self, operation: str, arm: str, interfaces: int) -> bool:
        here = (self.operation, self.arm, self.interfaces) == (operation, arm, interfaces)
        return here and self.during == "trial"


def suites_of(run: Run) -> list[Suite]:
    """Return what a stored run found, a suite for each kernel in the run's order."""
    if is_series(run.about):
        return suites_of_series(run)
    return [_suite(run, kernel) for kernel in run.kernels]


def _suite(run: Run, kernel: KernelRecord) -> Suite:
    faults = list(_faults(run, kernel.name))
    outcomes = [_boots(run, kernel.name, faults), *_operations(run, kernel.name, faults)]
    outcomes += [_fault_alone(fault) for fault in faults if fault.during not in ("boot", "trial")]
    compared = run.about.get("comparison") or {}
    if compared and compared.get("b") == kernel.name:
        outcomes.append(comparison_outcomes(compared["results"], str(compared["a"])))
    return Suite(
        name=str(run.about.get("scenario", "run")),
        outcomes=tuple(outcomes),
        kernel=facts_of(run.about, kernel),
        properties=circumstances(run.about),
        start=str(run.about.get("start") or ""),
        end=str(run.about.get("end") or ""),
    )


def _faults(run: Run, kernel: str) -> Iterator[_Fault]:
    for entry in run.about.get("faults") or ():
        if entry.get("kernel") == kernel:
            yield _Fault(
                status=status_of(Verdict(entry["verdict"])),
                message=str(entry.get("message", "")),
                evidence=str(entry.get("evidence", "")),
                during=str(entry.get("during", "")),
                interfaces=entry.get("interfaces"),
                operation=entry.get("operation"),
                arm=entry.get("arm"),
            )


def _fault_alone(fault: _Fault) -> Outcome:
    """Return a fault outside of what was to be tested: while a guest ended, or who knows when."""
    name = fault.during or "fault"
    return Outcome(name, fault.status, message=fault.message, output=fault.evidence)


def _boots(run: Run, kernel: str, faults: Sequence[_Fault]) -> Outcome:
    counts = _planned(run, "counts") or sorted({boot.interfaces for boot in run.boots})
    return family(BOOT, [_boot(run, kernel, count, faults) for count in counts])


def _boot(run: Run, kernel: str, count: int, faults: Sequence[_Fault]) -> Outcome:
    done = [b for b in run.boots if (b.kernel, b.interfaces) == (kernel, count)]
    for fault in faults:
        if fault.during == BOOT and fault.interfaces == count:
            seconds = _boot_seconds(done)
            return Outcome(str(count), fault.status, seconds, fault.message, fault.evidence)
    if not done:
        return Outcome(str(count), Status.MISSING, message=_why_missing(run, faults))
    return Outcome(str(count), Status.PASS, _boot_seconds(done))


def _boot_seconds(done: Sequence[BootRecord]) -> float | None:
    return median(boot.seconds for boot in done) if done else None


def _operations(run: Run, kernel: str, faults: Sequence[_Fault]) -> Iterator[Outcome]:
    pairs = _pairs(run)
    samples = [s for s in run.samples if s.kernel == kernel and s.trial > 0]
    for operation in dict.fromkeys(operation for operation, _ in pairs):
        arms = [arm for each, arm in pairs if each == operation]
        children = []
        for arm in arms:
            cells = [
                _cell(run, samples, (operation, arm, count), faults)
                for count in _planned(run, "counts") or sorted({s.interfaces for s in samples})
            ]
            children.append(family(arm, cells))
        yield family(operation, children)


def _pairs(run: Run) -> list[tuple[str, str]]:
    """Return what was to be measured: operation and arm.

    Of a run that did not record the pairs, those that any kernel has a sample of.
    """
    planned = _planned(run, "pairs")
    found = [(str(operation), str(arm)) for operation, arm in planned]
    return found or list(dict.fromkeys((s.operation, s.arm) for s in run.samples if s.trial > 0))


def _planned(run: Run, what: str) -> list[Any]:
    return list((run.about.get("plan") or {}).get(what) or ())


def _cell(
    run: Run, samples: Sequence[Sample], key: tuple[str, str, int], faults: Sequence[_Fault]
) -> Outcome:
    """Return what came of one operation by one arm at one number of interfaces."""
    mine = [s for s in samples if (s.operation, s.arm, s.interfaces) == key]
    valid = [s.seconds for s in mine if s.verified]
    seconds = median(valid) if valid else None
    figure = Figure(seconds) if seconds is not None else None
    name = str(key[2])
    for fault in faults:
        if fault.hits(*key):
            return Outcome(name, fault.status, seconds, fault.message, fault.evidence, figure)
    if len(valid) < len(mine):
        wrong = f"{len(mine) - len(valid)} of {len(mine)} trials left a wrong state"
        return Outcome(name, Status.FAIL, seconds, wrong, figure=figure)
    wanted = 1 if run.about.get("comparison") else (run.about.get("plan") or {}).get("repeat") or 1
    if len(valid) < wanted:
        done = f"{len(valid)} of {wanted} trials were done: " if valid else ""
        why = done + _why_missing(run, faults)
        return Outcome(name, Status.MISSING, seconds, why, figure=figure)
    trials = f"median of {len(valid)} trials" if len(valid) > 1 else ""
    return Outcome(name, Status.PASS, seconds, trials, figure=figure)


def _why_missing(run: Run, faults: Sequence[_Fault]) -> str:
    if faults:
        return f"the kernel failed before it: {faults[0].message}"
    verdict = run.about.get("verdict")
    message = run.about.get("message") or ""
    why = _LAB_ENDED.get(verdict, "it was not done")
    return f"{why}: {message}" if message else why
