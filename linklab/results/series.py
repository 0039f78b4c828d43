"""A series of patches as it was tested: what is stored of it, and what that says.

Every patch makes a state of the source: the base and the patches up to it. Of
each state there is one kernel for each flavour. All that were built are
measured in the same blocks, so any two of them can be compared; of interest
are each state and the one before it, which is what the patch did, and each
state and the base, which is what the series did so far.

Pure: a stored run in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from linklab.errors import Verdict
from linklab.results.codec import from_json
from linklab.results.comparison import (
    DEFAULT_THRESHOLD,
    Comparison,
    Effect,
    Rule,
    compare,
    pairs_of,
    values_of,
)
from linklab.results.model import STATES, Run
from linklab.results.result_kinds import SERIES
from linklab.results.shape import Better, Cell, Metric, Shape

BASE = 0

# What outweighs what: a kernel at fault before one that there is not.
_ORDER = (Verdict.CRASH, Verdict.HANG, Verdict.FAIL, Verdict.SKIP, Verdict.PASS)


def kernel_name(flavour: str, number: int) -> str:
    """Return what samples call a flavour's kernel with the first `number` patches."""
    return f"{flavour}@{number or 'base'}"


@dataclass(frozen=True)
class PatchRecord:
    """A patch of the series. `sha256` is its diff's."""

    number: int
    total: int
    subject: str
    author: str
    version: int
    message_id: str
    commit: str
    origin: str
    sha256: str

    @property
    def place(self) -> str:
        """Its place as mail subjects have it: `3/5`."""
        return f"{self.number}/{self.total}"


@dataclass(frozen=True)
class StateRecord:
    """One flavour's kernel of one state.

    `failure` says why there is none, `evidence` proves it. `new_warnings` and
    `new_lines` (of the console) are those that the last state before it with a
    kernel did not have. `same_as` is the state whose kernel is the same, byte
    for byte, where there is one: it was measured for both. `seconds` is what
    the build took on the host.
    """

    flavour: str
    number: int
    seconds: float
    failure: str = ""
    evidence: str = ""
    warnings: int = 0
    new_warnings: tuple[str, ...] = ()
    same_as: int | None = None
    booted: bool = False
    new_lines: tuple[str, ...] = ()

    @property
    def kernel(self) -> str:
        """What samples and faults call it."""
        return kernel_name(self.flavour, self.number)

    @property
    def measured_as(self) -> str:
        """What they call the kernel that was measured for it."""
        return self.kernel if self.same_as is None else kernel_name(self.flavour, self.same_as)


@dataclass(frozen=True)
class Problem:
    """Why a state was not measured, or not to the end."""

    verdict: Verdict
    text: str  # what follows "patch 4/5": "does not build", "crashes at boot"
    message: str
    evidence: str = ""


@dataclass(frozen=True)
class Change:
    """What a cell gives in a state, against another state of the same flavour."""

    against: int
    comparison: Comparison


@dataclass(frozen=True)
class Row:
    """What is known of one flavour's kernel of one state."""

    state: StateRecord
    problem: Problem | None
    values: Mapping[Cell, float]
    before: Mapping[Cell, Change]
    base: Mapping[Cell, Change]


@dataclass(frozen=True)
class Findings:
    """What a series does, state by state. `rows` has flavours, then the base and each patch."""

    patches: Sequence[PatchRecord]
    rows: Mapping[str, Sequence[Row]]
    cells: Sequence[Cell]
    fail_above: float  # per cent
    threshold: float  # per cent
    shape: Shape
    metric: Metric

    def is_regression(self, change: Change) -> bool:
        """Tell whether a metric is worse, and by more than is allowed, surely.

        By the same test as two kernels are, corrected for all patches, cells and flavours;
        and, of one that is compared by its ratio, by the whole interval.
        """
        one = change.comparison
        if one.verdict is not Effect.WORSE or not one.by_ratio:
            return one.verdict is Effect.WORSE
        _, low, high = one.percent
        limit = self.fail_above
        return high < -limit if self.metric.better is Better.MORE else low > limit

    def verdict_of(self, row: Row) -> Verdict:
        """Return what a patch's row says; a base that fails leaves nothing to test."""
        if row.problem is not None:
            return row.problem.verdict if row.state.number else Verdict.SKIP
        if any(self.is_regression(change) for change in row.before.values()):
            return Verdict.FAIL
        return Verdict.PASS

    @property
    def verdict(self) -> Verdict:
        """The worst of all rows, and of what the whole series does."""
        found = {self.verdict_of(row) for rows in self.rows.values() for row in rows}
        if any(self.is_regression(change) for _, change in self.overall()):
            found.add(Verdict.FAIL)
        return next((verdict for verdict in _ORDER if verdict in found), Verdict.PASS)

    def overall(self) -> Iterator[tuple[str, Change]]:
        """Yield the flavour and the change of the last state, against the base."""
        for flavour, rows in self.rows.items():
            for change in rows[-1].base.values() if rows else ():
                yield flavour, change


def rule_of(fail_above: float, seed: int) -> Rule:
    """Return when an effect matters: from what is not allowed, or from the usual size, on."""
    return Rule(threshold=min(DEFAULT_THRESHOLD, fail_above / 100 or DEFAULT_THRESHOLD), seed=seed)


def metric_of(run: Run) -> Metric:
    """Return the metric that a series is judged by."""
    name = (run.about.get(SERIES) or {}).get("metric")
    return run.shape.metric_named(name) if name else run.shape.metric


def find(run: Run) -> Findings:
    """Return what a stored run of a series says, finished or not."""
    entry = run.about.get(SERIES) or {}
    patches = [from_json(PatchRecord, each) for each in entry.get("patches", ())]
    lines = (*entry.get(STATES, ()), *run.lines.get(STATES, ()))
    kept = [from_json(StateRecord, each) for each in lines]
    newest = {(state.number, state.flavour): state for state in kept}
    states = sorted(newest.values(), key=lambda state: state.number)
    fail_above = float(entry.get("fail_above", 0.0))
    rule = rule_of(fail_above, int(run.plan.get("seed", 0)))
    metric = metric_of(run)
    values = values_of(run.samples, metric)
    measured = {kernel for kernels in values.values() for kernel in kernels}
    problems = dict(_problems(run, states))
    flavours = {
        flavour: [state for state in states if state.flavour == flavour]
        for flavour in dict.fromkeys(state.flavour for state in kept)
    }
    before, base = _changes(run, metric, flavours, measured, rule)

    def row(state: StateRecord) -> Row:
        name = state.measured_as
        found = {cell: each[name] for cell, each in values.items() if name in each}
        medians = {cell: median(blocks.values()) for cell, blocks in found.items()}
        changes = before.get(state.kernel, {}), base.get(name, {})
        return Row(state, problems.get(name), medians, *changes)

    rows = {flavour: list(map(row, each)) for flavour, each in flavours.items()}
    threshold = rule.threshold * 100
    return Findings(patches, rows, sorted(values), fail_above, threshold, run.shape, metric)


_Changes = dict[str, dict[Cell, Change]]


def _changes(
    run: Run,
    metric: Metric,
    flavours: Mapping[str, Sequence[StateRecord]],
    measured: set[str],
    rule: Rule,
) -> tuple[_Changes, _Changes]:
    """Return each measured kernel against the one measured before it, and against the base.

    All of them are one family: each p value is corrected for every patch, cell and flavour.
    """
    steps: list[tuple[StateRecord, StateRecord]] = []
    wholes: list[tuple[StateRecord, StateRecord]] = []
    for states in flavours.values():
        there = [state for state in states if state.kernel in measured]
        steps += pairwise(there)
        if there and there[0].number == BASE:
            wholes += [(there[0], state) for state in there[1:]]

    pairs = {
        (a.number, b.kernel, cell): pair
        for a, b in (*steps, *wholes)
        for cell, pair in pairs_of(run.samples, metric, a.kernel, b.kernel).items()
    }
    compared = compare(pairs, rule)

    def changes(wanted: Sequence[tuple[StateRecord, StateRecord]]) -> _Changes:
        among, found = {(a.number, b.kernel) for a, b in wanted}, _Changes()
        for (number, kernel, cell), comparison in compared.items():
            if (number, kernel) in among:
                found.setdefault(kernel, {})[cell] = Change(number, comparison)
        return found

    return changes(steps), changes(wholes)


_DOES = {Verdict.CRASH: "crashes", Verdict.HANG: "hangs"}


def _problems(run: Run, states: Iterable[StateRecord]) -> Iterator[tuple[str, Problem]]:
    """Yield what went wrong with each kernel; the last that is yielded of it came first."""
    for state in states:
        if state.failure:
            text = "does not build"
            yield state.kernel, Problem(Verdict.SKIP, text, state.failure, state.evidence)
    for fault in reversed(run.faults):
        verdict, message = Verdict(fault["verdict"]), fault["message"]
        text = _what(run.shape, verdict, fault)
        yield str(fault.get("kernel")), Problem(verdict, text, message, fault.get("evidence", ""))


def _what(shape: Shape, verdict: Verdict, fault: Mapping[str, Any]) -> str:
    """Return what a kernel did and at what: `crashes at mtu by group, 512 interfaces`."""
    place = str(fault.get("during") or "")
    if all(axis.name in fault for axis in shape.axes):
        place = shape.in_words(shape.cell_in(fault))
    return f"{_DOES.get(verdict, 'fails')}{f' at {place}' if place else ''}"
