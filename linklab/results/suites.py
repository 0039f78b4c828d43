"""Stored results as suites of outcomes: one suite for each kernel.

What a run was to do stands in its plan; what came of it in its samples and
its faults. A cell of the plan that has neither is missing: an earlier fault,
or the lab, ended the run before it. In a comparison a kernel that is worse has
failed; one that does not tell is a skip: it blames nobody, and it is no pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median
from typing import Any

from linklab.errors import Verdict
from linklab.results.comparison import Comparison, Effect
from linklab.results.kinds import CALIBRATION, is_series
from linklab.results.model import BootRecord, KernelRecord, Run, Sample
from linklab.results.outcomes import (
    BUILD,
    Figure,
    KernelFacts,
    Outcome,
    Status,
    Suite,
    family,
    status_of,
)
from linklab.results.series import Change, Findings, Row, find
from linklab.results.shape import Cell, Metric

BOOT = "boot"
SERIES = "series"
COMPARE = "compare"
_AT_BOOT = "at boot"
_LAB_ENDED = {
    Verdict.ERROR.value: "the lab failed before it",
    Verdict.INTERRUPTED.value: "the run was interrupted before it",
    None: "the run did not come to its end",
}
_EFFECTS = {
    Effect.WORSE: Status.FAIL,
    Effect.BETTER: Status.PASS,
    Effect.DIFFERENT: Status.PASS,
    Effect.SAME: Status.PASS,
    Effect.INCONCLUSIVE: Status.SKIP,
}


@dataclass(frozen=True)
class _Fault:
    """What a kernel did wrong, and at what; None where that is not recorded."""

    status: Status
    message: str
    evidence: str
    during: str
    setup: Cell
    cell: Cell | None


def suites_of(run: Run) -> list[Suite]:
    """Return what a stored run found, a suite for each kernel in the run's order."""
    if is_series(run.about):
        return _suites_of_series(run)
    if run.about.get("kind") == CALIBRATION:
        return [_suite_of_calibration(run)]
    return [_suite(run, kernel) for kernel in run.kernels]


def suite_of_runs(
    found: Iterable[tuple[str, Cell, Comparison]], metric: Metric, a: str, b: str
) -> Suite:
    """Return the comparison of two stored runs as a suite of its own, by kernel and cell."""
    return Suite(f"{COMPARE} {b}", (_compared(found, metric, a),))


def _suite(run: Run, kernel: KernelRecord) -> Suite:
    faults = list(_faults(run, kernel.name))
    outcomes = [_boots(run, kernel.name, faults), *_sheets(run, kernel.name, faults)]
    outcomes += [_fault_alone(fault) for fault in faults if fault.during not in (BOOT, "trial")]
    compared = run.about.get("comparison") or {}
    if compared and compared.get("b") == kernel.name:
        shape = run.shape
        metric = shape.metric_named(compared.get("metric") or shape.metric.name)
        each = compared["results"]
        found = [("", shape.cell_in(entry), Comparison.from_json(entry)) for entry in each]
        outcomes.append(_compared(found, metric, str(compared["a"])))
    return Suite(
        name=str(run.about.get("scenario", "run")),
        outcomes=tuple(outcomes),
        kernel=facts_of(run.about, kernel),
        properties=circumstances(run.about),
        start=str(run.about.get("start") or ""),
        end=str(run.about.get("end") or ""),
    )


def _suite_of_calibration(run: Run) -> Suite:
    """Return what a calibration found: the other kernel is a tool, slow on purpose."""
    suite = _suite(run, run.kernels[0])
    if (verdict := run.about.get("verdict")) is None:
        return suite
    aims = Outcome(CALIBRATION, status_of(Verdict(verdict)), message=run.about.get("message") or "")
    return replace(suite, outcomes=(*suite.outcomes, aims))


def _faults(run: Run, kernel: str) -> Iterator[_Fault]:
    shape = run.shape
    for entry in run.faults:
        if entry.get("kernel") == kernel:
            whole = all(axis.name in entry for axis in shape.axes)
            yield _Fault(
                status=status_of(Verdict(entry["verdict"])),
                message=str(entry.get("message", "")),
                evidence=str(entry.get("evidence", "")),
                during=str(entry.get("during", "")),
                setup=Cell((axis, entry[axis]) for axis in shape.per_guest if axis in entry),
                cell=shape.cell_in(entry) if whole else None,
            )


def _fault_alone(fault: _Fault) -> Outcome:
    """Return a fault outside of what was to be tested: while a guest ended, or who knows when."""
    name = fault.during or "fault"
    return Outcome(name, fault.status, message=fault.message, output=fault.evidence)


def _boots(run: Run, kernel: str, faults: Sequence[_Fault]) -> Outcome:
    setups = dict.fromkeys(cell.of(run.shape.per_guest) for cell in run.cells)
    setups |= dict.fromkeys(boot.cell for boot in run.boots) if not setups else {}
    return family(BOOT, [_boot(run, kernel, setup, faults) for setup in sorted(setups)])


def _boot(run: Run, kernel: str, setup: Cell, faults: Sequence[_Fault]) -> Outcome:
    done = [b for b in run.boots if (b.kernel, b.cell) == (kernel, setup)]
    name = setup.text or "guest"
    for fault in faults:
        if fault.during == BOOT and fault.setup == setup:
            seconds = _boot_seconds(done)
            return Outcome(name, fault.status, seconds, fault.message, fault.evidence)
    if not done:
        return Outcome(name, Status.MISSING, message=_why_missing(run, faults))
    return Outcome(name, Status.PASS, _boot_seconds(done))


def _boot_seconds(done: Sequence[BootRecord]) -> float | None:
    return median(boot.seconds for boot in done) if done else None


def _sheets(run: Run, kernel: str, faults: Sequence[_Fault]) -> Iterator[Outcome]:
    """Yield the outcomes of all cells as a tree: one level for each axis, in their order."""
    samples = [s for s in run.samples if s.kernel == kernel and s.trial > 0]
    cells = run.cells or list(dict.fromkeys(sample.cell for sample in samples))
    leaves = [(list(cell.values()), _cell(run, samples, cell, faults)) for cell in cells]
    yield from _tree(leaves)


def _tree(leaves: Sequence[tuple[list[Any], Outcome]]) -> Iterator[Outcome]:
    order = list(dict.fromkeys(path[0] for path, _ in leaves))
    for name, group in groupby(
        sorted(leaves, key=lambda leaf: order.index(leaf[0][0])), key=lambda leaf: leaf[0][0]
    ):
        below = [(path[1:], outcome) for path, outcome in group]
        if below[0][0]:
            yield family(str(name), list(_tree(below)))
        else:
            yield replace(below[0][1], name=str(name))


def _cell(run: Run, samples: Sequence[Sample], cell: Cell, faults: Sequence[_Fault]) -> Outcome:
    """Return what came of a cell."""
    metric = run.shape.metric
    mine = [s for s in samples if s.cell == cell]
    valid = [s.metrics[metric.name] for s in mine if s.verified]
    value = median(valid) if valid else None
    figure = Figure(value, metric.unit) if value is not None else None
    seconds = value if metric.is_time else None
    name = cell.text
    for fault in faults:
        if fault.cell == cell and fault.during == "trial":
            return Outcome(name, fault.status, seconds, fault.message, fault.evidence, figure)
    if len(valid) < len(mine):
        wrong = f"{len(mine) - len(valid)} of {len(mine)} trials left a wrong state"
        return Outcome(name, Status.FAIL, seconds, wrong, figure=figure)
    wanted = 1 if run.about.get("comparison") else run.plan.get("repeat") or 1
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


# Comparisons


def _compared(found: Iterable[tuple[str, Cell, Comparison]], metric: Metric, a: str) -> Outcome:
    """Return what comparisons with `a` say, a test for each; its figure is the effect."""
    return family(COMPARE, [_comparison(*each, metric, a) for each in found])


def _comparison(kernel: str, cell: Cell, one: Comparison, metric: Metric, a: str) -> Outcome:
    unit = "x" if one.by_ratio else metric.unit
    said = f"{one.change:.3g}{'x' if one.by_ratio else ''} [{one.low:.3g}, {one.high:.3g}] of {a}"
    word = one.verdict.word(metric)
    return Outcome(
        name="/".join(filter(None, (kernel, cell.text))),
        status=_EFFECTS[one.verdict],
        message=f"{word}: {said}, p = {one.p_value:.2g}, {one.blocks} blocks",
        figure=Figure(one.change, unit),
    )


# Series


def _suites_of_series(run: Run) -> list[Suite]:
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
    yield _state_boot(row)
    for cell in findings.cells:
        yield _state_cell(findings, row, cell)
    if row.trouble and not row.trouble.text.endswith(_AT_BOOT):
        yield _fault(row, "scenario")


def _state_boot(row: Row) -> Outcome:
    if row.trouble and row.trouble.text.endswith(_AT_BOOT):
        return _fault(row, BOOT)
    up = row.state.booted or row.values or row.trouble
    return Outcome(BOOT, Status.PASS if up else Status.MISSING)


def _fault(row: Row, name: str) -> Outcome:
    assert row.trouble is not None
    trouble = row.trouble
    return Outcome(name, status_of(trouble.verdict), None, trouble.message, trouble.evidence)


def _state_cell(findings: Findings, row: Row, cell: Cell) -> Outcome:
    """Return what a cell came to: measured, and, against the patch before, how."""
    value, metric = row.values.get(cell), findings.metric
    if value is None:
        return Outcome(cell.text, Status.MISSING, message="it was not measured")
    change = row.before.get(cell)
    worse = change is not None and findings.is_regression(change)
    return Outcome(
        name=cell.text,
        status=Status.FAIL if worse else Status.PASS,
        seconds=value if metric.is_time else None,
        message=_said(change, metric) if change else "",
        figure=Figure(value, metric.unit),
    )


def _said(change: Change, metric: Metric) -> str:
    one = change.comparison
    by = f"{one.change:+.3g} [{one.low:.3g}, {one.high:.3g}] {metric.unit}".rstrip()
    if one.by_ratio:
        percent, low, high = one.percent
        by = f"{percent:+.1f} % [{low:.1f}, {high:.1f}]"
    return f"{one.verdict.word(metric)}: {by} against the last patch that was measured"


# What a stored result knows of its kernels and its circumstances


def facts_of(about: Mapping[str, Any], kernel: KernelRecord) -> KernelFacts:
    """Return what a stored result knows of one of its kernels."""
    inputs = kernel.inputs
    tools = inputs.get("tools") or [""]
    patches = about.get("patches") if inputs else None
    return KernelFacts(
        name=kernel.name,
        release=kernel.release,
        sha256=kernel.sha256,
        tree=str(inputs.get("tree", "")),
        commit=str(inputs.get("commit", "")),
        patches=tuple(str(value) for value in (patches or {}).values()),
        compiler=str(tools[0]),
        config=kernel.name if inputs else "",
    )


def circumstances(about: Mapping[str, Any]) -> dict[str, str]:
    """Return under which circumstances a stored result came about, as text."""
    qemu, host = about.get("qemu") or {}, about.get("host") or {}
    found = {
        "accel": about.get("accel"),
        "clock": about.get("clock"),
        "boot": about.get("boot"),
        "machine": about.get("machine"),
        "cpus": about.get("cpus"),
        "memory_mib": about.get("memory"),
        "qemu": qemu.get("version"),
        "host_cpu": host.get("cpu"),
        "host_kernel": host.get("kernel"),
        "command": about.get("command"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}
