"""A stored series as suites of outcomes: one for each flavour's kernel of each state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from linklab.results.model import KernelRecord, Run
from linklab.results.outcomes import BUILD, Figure, KernelFacts, Outcome, Status, Suite, status_of
from linklab.results.runfacts import circumstances, facts_of
from linklab.results.series import Change, Findings, Row, find
from linklab.results.work import Work

BOOT = "boot"
SERIES = "series"
_AT_BOOT = "at boot"


def suites_of_series(run: Run) -> list[Suite]:
    """Return what a series found: the base first, then patch by patch."""
    findings = find(run)
    rows = [row for rows in findings.rows.values() for row in rows]
    kernels = {kernel.name: kernel for kernel in run.kernels}
    return [
        Suite(
            name=SERIES,
            outcomes=tuple(_outcomes(findings, row)),
            kernel=_facts(run, findings, row, kernels.get(row.state.measured_as)),
            properties=circumstances(run.about),
            start=str(run.about.get("start") or ""),
            end=str(run.about.get("end") or ""),
        )
        for row in sorted(rows, key=lambda row: row.state.number)
    ]


def _facts(run: Run, findings: Findings, row: Row, kernel: KernelRecord | None) -> KernelFacts:
    facts = facts_of(run.about, kernel) if kernel else KernelFacts("")
    applied = tuple(patch.sha256 for patch in findings.patches[: row.state.number])
    return replace(facts, name=row.state.kernel, patches=applied, config=row.state.flavour)


def _outcomes(findings: Findings, row: Row) -> Iterator[Outcome]:
    state = row.state
    if state.failure:
        yield Outcome(BUILD, Status.FAIL, state.seconds, state.failure, state.evidence)
        return
    warnings = len(state.new_warnings)
    said = f"{warnings} new compiler warning{'s' if warnings != 1 else ''}" if warnings else ""
    yield Outcome(BUILD, Status.PASS, state.seconds, said, "\n".join(state.new_warnings))
    yield _boot(row)
    for work in findings.works:
        yield _work(findings, row, work)
    if row.trouble and not row.trouble.text.endswith(_AT_BOOT):
        yield _fault(row, "scenario")


def _boot(row: Row) -> Outcome:
    if row.trouble and row.trouble.text.endswith(_AT_BOOT):
        return _fault(row, BOOT)
    up = row.state.booted or row.seconds or row.trouble
    return Outcome(BOOT, Status.PASS if up else Status.MISSING)


def _fault(row: Row, name: str) -> Outcome:
    assert row.trouble is not None
    trouble = row.trouble
    return Outcome(name, status_of(trouble.verdict), None, trouble.message, trouble.evidence)


def _work(findings: Findings, row: Row, work: Work) -> Outcome:
    """Return what an operation came to: measured, and, against the patch before, how."""
    name = f"{work.operation}/{work.arm}/{work.interfaces}"
    seconds = row.seconds.get(work)
    if seconds is None:
        return Outcome(name, Status.MISSING, message="it was not measured")
    change = row.before.get(work)
    worse = change is not None and findings.is_regression(change)
    return Outcome(
        name=name,
        status=Status.FAIL if worse else Status.PASS,
        seconds=seconds,
        message=_said(change) if change else "",
        figure=Figure(seconds),
    )


def _said(change: Change) -> str:
    percent, low, high = change.percent
    return (
        f"{change.comparison.verdict.value}: {percent:+.1f} % [{low:.1f}, {high:.1f}] "
        "against the last patch that was measured"
    )
