"""Stored results as suites of outcomes: one suite for each kernel.

What a run was to do stands in its plan; what came of it in its samples and
its faults. A cell of the plan that has neither is missing: an earlier fault,
or the lab, ended the run before it. In a comparison a kernel that is worse has
failed; one that does not tell is a skip: it blames nobody, and it is no pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import Any

from linklab.errors import Verdict
from linklab.results.comparison import Comparison, Effect
from linklab.results.model import KernelRecord, Run, Sample
from linklab.results.outcomes import (
    BUILD,
    KernelFacts,
    Outcome,
    Quantity,
    Status,
    Suite,
    family,
    status_of,
)
from linklab.results.result_kinds import CALIBRATION, COMPARISON, SERIES, is_series
from linklab.results.series import Change, Findings, Row, find
from linklab.results.shape import Cell, Metric, Value
from linklab.results.sweep import Checked, checked

BOOT = "boot"
_AT_BOOT = "at boot"
_LAB_ENDED = {
    Verdict.ERROR.value: "the lab failed before it",
    Verdict.INTERRUPTED.value: "the run was interrupted before it",
    None: "the run did not come to its end",
}
_EFFECTS = {Effect.WORSE: Status.FAIL, Effect.INCONCLUSIVE: Status.SKIP}  # any other passes


@dataclass(frozen=True)
class _Fault:
    """What a kernel did wrong, and at what; None where that is not recorded."""

    status: Status
    message: str
    evidence: str
    during: str
    setup: Cell
    cell: Cell | None

    def outcome(self, name: str, seconds: float | None = None, **more: Any) -> Outcome:
        """Return it as what came of a test."""
        return Outcome(name, self.status, seconds, self.message, self.evidence, **more)


def suites_of(run: Run) -> list[Suite]:
    """Return what a stored run found, a suite for each kernel in the run's order."""
    if is_series(run.about):
        return _suites_of_series(run)
    scenario = str(run.about.get("scenario", "run"))
    kernels = run.kernels[:1] if run.about.get("kind") == CALIBRATION else run.kernels
    return [
        suite(run.about, scenario, _outcomes(run, kernel.name), facts_of(run.about, kernel))
        for kernel in kernels
    ]


def suite(
    about: Mapping[str, Any], name: str, outcomes: Iterable[Outcome], kernel: KernelFacts
) -> Suite:
    """Return what was asked of a kernel, with the circumstances and times of a stored result."""
    start, end = (str(about.get(name) or "") for name in ("start", "end"))
    return Suite(name, tuple(outcomes), kernel, circumstances(about), start, end)


def suite_of_runs(
    found: Iterable[tuple[str, Cell, Comparison]], metric: Metric, a: str, b: str
) -> Suite:
    """Return the comparison of two stored runs as a suite of its own, by kernel and cell."""
    return Suite(f"{COMPARISON} {b}", (_compared(found, metric, a),))


def _outcomes(run: Run, kernel: str) -> Iterator[Outcome]:
    faults = list(_faults(run, kernel))
    setups = list(dict.fromkeys(cell.of(run.shape.per_guest) for cell in run.cells))
    setups = setups or list(dict.fromkeys(boot.cell for boot in run.boots))
    yield family(BOOT, [_boot(run, kernel, setup, faults) for setup in sorted(setups)])
    samples = [s for s in run.samples if s.kernel == kernel and s.trial > 0]
    cells = run.cells or list(dict.fromkeys(sample.cell for sample in samples))
    yield from _tree([(list(cell.values()), _cell(run, samples, cell, faults)) for cell in cells])
    for fault in faults:  # outside of what was to be tested: while a guest ended, or who knows when
        if fault.during not in (BOOT, "trial"):
            yield fault.outcome(fault.during or "fault")
    compared = run.about.get("comparison") or {}
    if compared and compared.get("b") == kernel:
        shape = run.shape
        metric = shape.metric_named(compared.get("metric") or shape.metric.name)
        each = compared["results"]
        found = [("", shape.cell_in(entry), Comparison.from_json(entry)) for entry in each]
        yield _compared(found, metric, str(compared["a"]))
    if checks := [c for c in checked(run) if c.place.kernel == kernel]:
        yield family("checks", [_check(run, each) for each in checks])
    if run.about.get("kind") == CALIBRATION and (verdict := run.about.get("verdict")):
        message = run.about.get("message") or ""
        yield Outcome(CALIBRATION, status_of(Verdict(verdict)), message=message)


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


def _boot(run: Run, kernel: str, setup: Cell, faults: Sequence[_Fault]) -> Outcome:
    done = [b.seconds for b in run.boots if (b.kernel, b.cell) == (kernel, setup)]
    name, seconds = setup.text or "guest", median(done) if done else None
    for fault in faults:
        if fault.during == BOOT and fault.setup == setup:
            return fault.outcome(name, seconds)
    if not done:
        return Outcome(name, Status.MISSING, message=_why_missing(run, faults))
    return Outcome(name, Status.PASS, seconds)


def _tree(leaves: Sequence[tuple[list[Value], Outcome]]) -> Iterator[Outcome]:
    """Yield the outcomes of cells as a tree: one level for each axis, in their order."""
    for name in dict.fromkeys(path[0] for path, _ in leaves):
        below = [(path[1:], outcome) for path, outcome in leaves if path[0] == name]
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
    figure = Quantity(value, metric.unit) if value is not None else None
    seconds = value if metric.is_time else None
    for fault in faults:
        if fault.cell == cell and fault.during == "trial":
            return fault.outcome(cell.text, seconds, figure=figure)
    wanted = 1 if run.about.get("comparison") else run.plan.get("repeat") or 1
    status = Status.PASS
    message = f"median of {len(valid)} trials" if len(valid) > 1 else ""
    if len(valid) < len(mine):
        status = Status.FAIL
        message = f"{len(mine) - len(valid)} of {len(mine)} trials left a wrong state"
    elif len(valid) < wanted:
        status = Status.MISSING
        done = f"{len(valid)} of {wanted} trials were done: " if valid else ""
        message = done + _why_missing(run, faults)
    return Outcome(cell.text, status, seconds, message, figure=figure)


def _check(run: Run, one: Checked) -> Outcome:
    """Return what became of a check at a place; its figure is the value, or the ratio."""
    status = Status.PASS if one.holds else Status.FAIL
    if one.value is None and run.about.get("verdict") != Verdict.FAIL.value:
        status = Status.MISSING
    unit = "x" if one.check.against else one.metric.unit
    figure = None if one.value is None else Quantity(one.value, unit)
    name = f"{one.place.cell.text}/{one.metric.name}"
    return Outcome(name, status, message=one.text(run.shape), figure=figure)


def _why_missing(run: Run, faults: Sequence[_Fault]) -> str:
    if faults:
        return f"the kernel failed before it: {faults[0].message}"
    why = _LAB_ENDED.get(run.about.get("verdict"), "it was not done")
    return ": ".join(filter(None, (why, run.about.get("message"))))


# Comparisons


def _compared(found: Iterable[tuple[str, Cell, Comparison]], metric: Metric, a: str) -> Outcome:
    """Return what comparisons with `a` say, a test for each; its figure is the effect."""
    return family(COMPARISON, [_comparison(*each, metric, a) for each in found])


def _comparison(kernel: str, cell: Cell, one: Comparison, metric: Metric, a: str) -> Outcome:
    times = "x" if one.by_ratio else ""
    said = f"{one.change:.3g}{times}{_interval(one.low, one.high, '.3g')} of {a}"
    word = one.verdict.word(metric)
    return Outcome(
        name="/".join(filter(None, (kernel, cell.text))),
        status=_EFFECTS.get(one.verdict, Status.PASS),
        message=f"{word}: {said}, p = {one.p_value:.2g}, {one.blocks} blocks",
        figure=Quantity(one.change, times or metric.unit),
    )


def _interval(low: float, high: float, form: str) -> str:
    """Return an interval behind a value; nothing where it has no ends."""
    return f" [{low:{form}}, {high:{form}}]" if isfinite(high - low) else ""


# Series


def _suites_of_series(run: Run) -> list[Suite]:
    """Return what a series found: the base first, then patch by patch."""
    findings = find(run)
    kernels = {kernel.name: kernel for kernel in run.kernels}
    rows = [row for rows in findings.rows.values() for row in rows]
    suites = []
    for row in sorted(rows, key=lambda row: row.state.number):
        state, kernel = row.state, kernels.get(row.state.measured_as)
        facts = facts_of(run.about, kernel) if kernel else KernelFacts("")
        applied = tuple(patch.sha256 for patch in findings.patches[: state.number])
        facts = replace(facts, name=state.kernel, patches=applied, config=state.flavour)
        suites.append(suite(run.about, SERIES, _state_outcomes(findings, row), facts))
    return suites


def _state_outcomes(findings: Findings, row: Row) -> Iterator[Outcome]:
    state, problem = row.state, row.problem
    if state.failure:
        yield Outcome(BUILD, Status.FAIL, state.seconds, state.failure, state.evidence)
        return
    new = len(state.new_warnings)
    said = f"{new} new compiler warning{'s' if new != 1 else ''}" if new else ""
    yield Outcome(BUILD, Status.PASS, state.seconds, said, "\n".join(state.new_warnings))
    name = BOOT if problem and problem.text.endswith(_AT_BOOT) else "scenario"
    fault = []
    if problem:
        status = status_of(problem.verdict)
        fault = [Outcome(name, status, None, problem.message, problem.evidence)]
    if name == BOOT:
        yield from fault
    else:
        is_up = state.booted or row.values or problem
        yield Outcome(BOOT, Status.PASS if is_up else Status.MISSING)
    for cell in findings.cells:
        yield _state_cell(findings, row, cell)
    if name != BOOT:
        yield from fault


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
        message=_change_text(change, metric) if change else "",
        figure=Quantity(value, metric.unit),
    )


def _change_text(change: Change, metric: Metric) -> str:
    one = change.comparison
    by = f"{one.change:+.3g}{_interval(one.low, one.high, '.3g')} {metric.unit}".rstrip()
    if one.by_ratio:
        percent, low, high = one.percent
        by = f"{percent:+.1f} %{_interval(low, high, '.1f')}"
    return f"{one.verdict.word(metric)}: {by} against the last patch that was measured"


# What a stored result knows of its kernels and its circumstances


def facts_of(about: Mapping[str, Any], kernel: KernelRecord) -> KernelFacts:
    """Return what a stored result knows of one of its kernels."""
    inputs = kernel.inputs
    patches = (about.get("patches") if inputs else None) or {}
    return KernelFacts(
        name=kernel.name,
        release=kernel.release,
        sha256=kernel.sha256,
        tree=str(inputs.get("tree", "")),
        commit=str(inputs.get("commit", "")),
        patches=tuple(map(str, patches.values())),
        compiler=str((inputs.get("tools") or [""])[0]),
        config=kernel.name if inputs else "",
    )


def circumstances(about: Mapping[str, Any]) -> dict[str, str]:
    """Return under which circumstances a stored result came about, as text."""
    qemu, host = about.get("qemu") or {}, about.get("host") or {}
    found = {name: about.get(name) for name in ("accel", "clock", "boot", "machine", "cpus")}
    found |= {
        "memory_mib": about.get("memory"),
        "qemu": qemu.get("version"),
        "host_cpu": host.get("cpu"),
        "host_kernel": host.get("kernel"),
        "command": about.get("command"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}
