"""The page's tables of figures: seconds, what they cost, how they grow, what was claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from linklab.report import pagetable as cells
from linklab.report import paper
from linklab.report.claims import Claim, Finding, claims
from linklab.report.compare import (
    Stored,
    cell_rows,
    operations_of,
)
from linklab.report.costs import Cost, costs, growths
from linklab.report.figures import Figures, kernel_title, seconds_text
from linklab.report.pagetable import Column, PageTable, Span, Value
from linklab.results.fit import Fit, Power

_BOTH = {"group", "process"}
_FINDING_KIND = {
    Finding.REPRODUCED: "good",
    Finding.IN_PART: "part",
    Finding.NOT_REPRODUCED: "bad",
    Finding.NOT_MEASURED: "quiet",
}


def seconds_table(figures: Figures, operation: str) -> PageTable:
    """Return one operation's table in the paper's shape: kernels and arms across."""
    arms = figures.arms(operation)
    with_ratio = set(arms) >= _BOTH
    columns = [Column("interfaces")]
    for _ in figures.kernels:
        columns += [Column(arm) for arm in arms]
        columns += [Column("ratio", kind="ratio")] * with_ratio
    rows = []
    for count in figures.counts(operation):
        row = [cells.count(count)]
        for kernel in figures.kernels:
            row += [measured(figures, operation, kernel, arm, count) for arm in arms]
            row += [cells.ratio(figures.ratio(operation, kernel, count))] * with_ratio
        rows.append(row)
    spans = [Span(kernel_title(name), len(arms) + with_ratio) for name in figures.kernels]
    return PageTable(f"{operation}: seconds in the guest", columns, rows, spans)


def measured(figures: Figures, operation: str, kernel: str, arm: str, count: int) -> Value:
    """Return a cell's median, with its interval and what was not valid as a remark."""
    cell = figures.cell(operation, kernel, arm, count)
    if cell.seconds is None:
        return Value("not valid", kind="invalid") if cell.invalid else Value("-", kind="quiet")
    remarks = []
    if cell.interval is not None:
        low, high = seconds_text(cell.interval.low), seconds_text(cell.interval.high)
        remarks.append(f"{low} to {high}")
    if cell.invalid:
        remarks.append(f"{cell.invalid} of {cell.valid + cell.invalid} not valid")
    kind = "invalid" if cell.invalid else ""
    return Value(seconds_text(cell.seconds), cell.seconds, ", ".join(remarks), kind)


def paper_table(figures: Figures) -> PageTable | None:
    """Return the paper's table for the kernels that it has, all of its counts."""
    kernels = [name for name in figures.kernels if name in paper.TABLE_I]
    if not kernels or "mtu" not in figures.operations:
        return None
    columns = [Column("interfaces")]
    columns += [Column("group"), Column("process"), Column("ratio", kind="ratio")] * len(kernels)
    rows = []
    for number, first in enumerate(paper.TABLE_I[kernels[0]]):
        row = [cells.count(first.interfaces)]
        for name in kernels:
            theirs = paper.TABLE_I[name][number]
            row += [Value(f"{s:.2f}", s) for s in (theirs.group, theirs.process)]
            row.append(cells.ratio(theirs.ratio))
        rows.append(row)
    spans = [Span(kernel_title(name), 3) for name in kernels]
    return PageTable(f"mtu in 2011, seconds ({paper.REFERENCE})", columns, rows, spans)


def comparison_table(runs: Sequence[Stored]) -> PageTable:
    """Return every cell of several runs: a column for each run, and what changed since A."""
    head = ["operation", "kernel", "arm"]
    later = [f"{stored.letter} against {runs[0].letter}" for stored in runs[1:]]
    columns = [
        *(Column(name, numeric=False) for name in head),
        Column("interfaces"),
        *(Column(stored.letter) for stored in runs),
        *(Column(name, kind="ratio") for name in later),
    ]
    rows = [
        [
            *(cells.word(text) for text in (found.operation, found.kernel, found.arm)),
            cells.count(found.interfaces),
            *(cells.seconds(seconds) for seconds in found.seconds),
            *(
                cells.change(first, seconds, within_spread=found.is_within_spread(number))
                for number, seconds in enumerate(found.seconds)
                if number
            ),
        ]
        for found in cell_rows(runs)
        for first in found.seconds[:1]
    ]
    spans = [Span("seconds in the guest", len(runs)), Span("change", len(runs) - 1)]
    return PageTable("the runs beside each other", columns, rows, spans, leading=4)


_COSTS: Sequence[tuple[str, Callable[[Cost], Value]]] = (
    ("seconds", lambda cost: cells.seconds(cost.seconds)),
    ("user", lambda cost: cells.seconds(cost.user_seconds)),
    ("system", lambda cost: cells.seconds(cost.system_seconds)),
    ("context switches", lambda cost: cells.count(cost.context_switches)),
    ("processes", lambda cost: cells.count(cost.processes)),
    ("netlink messages", lambda cost: cells.count(cost.messages)),
    ("system calls", lambda cost: cells.count(cost.system_calls)),
)
_HEARD: Sequence[tuple[str, Callable[[Cost], Value]]] = (
    ("listeners", lambda cost: cells.count(cost.listeners)),
    ("messages heard", lambda cost: cells.count(cost.notifications)),
    ("lost", lambda cost: cells.count(cost.notifications_lost)),
)


def cost_table(runs: Sequence[Stored], operation: str) -> PageTable | None:
    """Return what each arm cost at the most interfaces: medians of the valid samples."""
    found = [
        (_kernel_of(cost.kernel, stored), cost)
        for stored in runs
        if operation in stored.figures.operations
        for cost in costs(stored.figures, operation)
    ]
    if not found:
        return None
    heard = _HEARD if any(cost.listeners for _, cost in found) else ()
    counts = sorted({cost.interfaces for _, cost in found})
    at = [] if len(counts) == 1 else [Column("interfaces")]
    rows = [
        [
            cells.word(kernel),
            cells.word(cost.arm),
            *([cells.count(cost.interfaces)] * len(at)),
            *(value(cost) for _, value in (*_COSTS, *heard)),
        ]
        for kernel, cost in found
    ]
    columns = [*(Column(name, numeric=False) for name in ("kernel", "arm")), *at]
    columns += [Column(name) for name, _ in (*_COSTS, *heard)]
    spans = [Span("seconds in the guest", 3), Span("how often", 4)]
    spans += [Span("told of it", 3)] if heard else []
    where = "the most" if at else str(counts[0])
    return PageTable(f"{operation} at {where} interfaces", columns, rows, spans, 2 + len(at))


def _kernel_of(kernel: str, stored: Stored) -> str:
    return f"{kernel_title(kernel)} {stored.letter}".strip()


_UNITS = ((Power.FIXED, 1.0), (Power.LINEAR, 1e3), (Power.QUADRATIC, 1e6))


def fit_table(runs: Sequence[Stored], operation: str) -> PageTable | None:
    """Return how seconds grow with interfaces, where three counts or more can tell."""
    rows = [
        [
            cells.word(_kernel_of(growth.kernel, stored)),
            cells.word(growth.arm),
            *_fit_cells(growth.fit),
        ]
        for stored in runs
        for growth in growths(stored.figures, operation)
    ]
    if not rows:
        return None
    columns = [
        *(Column(name, numeric=False) for name in ("kernel", "arm")),
        *(Column(name) for name in ("a: fixed, s", "b: each, ms", "c: squared, µs", "error, %")),
        Column("grows", numeric=False),
    ]
    return PageTable(f"{operation}: seconds = a + b N + c N²", columns, rows, leading=2)


def _fit_cells(found: Fit) -> Iterator[Value]:
    for power, unit in _UNITS:
        term = found.terms.get(power)
        if term is None:
            yield Value("-" if power in found.tried else "?", kind="quiet")
            continue
        margin = f"± {_plain(term.margin * unit, 2)}" if term.margin is not None else ""
        yield Value(_plain(term.value * unit, 3), term.value, margin)
    yield Value(f"{100 * found.error:.1f}", found.error)
    yield cells.word(found.growth)


def _plain(value: float, digits: int) -> str:
    """Return a number with so many digits and no exponent."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.12f}".rstrip("0").rstrip(".") if "e" in text else text


def claims_table(runs: Sequence[Stored]) -> PageTable:
    """Return the paper's claims: its figure, ours, and whether it was reproduced."""
    each = [claims(stored.figures) for stored in runs]
    names = [f"here {stored.letter}".strip() for stored in runs]
    columns = [Column(name, numeric=False) for name in ("claim", "2011")]
    columns += [Column(name, numeric=False) for name in names]
    rows = [
        [cells.word(found[0].text), cells.word(found[0].theirs), *map(_judged, found)]
        for found in zip(*each, strict=True)
    ]
    return PageTable("each with its figure then and now", columns, rows, kind="prose")


def _judged(claim: Claim) -> Value:
    why = f": {claim.why}" if claim.why else ""
    return Value(
        claim.ours, remark=f"{claim.finding.value}{why}", kind=_FINDING_KIND[claim.finding]
    )


def tables_of(runs: Sequence[Stored]) -> list[PageTable]:
    """Return the tables of seconds: in the paper's shape, or of several runs side by side."""
    if len(runs) > 1:
        return [comparison_table(runs)]
    figures = runs[0].figures
    theirs = paper_table(figures)
    found = [seconds_table(figures, operation) for operation in operations_of(runs)]
    return [*found, *([theirs] if theirs else [])]
