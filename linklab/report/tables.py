"""The tables of a run as grids: what was measured, what it cost, how it grows, what was claimed.

From a stored run and its shape alone; no scenario is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.numbers import amount_text, duration_text, number_text, ratio_text
from linklab.report.compare import Stored, cell_rows
from linklab.report.grid import Column, Entry, Grid, word
from linklab.report.layout import TEXT_WIDTH, plain_text
from linklab.results.figures import Figure, Figures, seconds_are
from linklab.results.fit import Fit, Power, fit
from linklab.results.model import Run
from linklab.results.shape import Cell, Metric, Value
from linklab.results.statistics import LEVEL

_FINDING_TONE = {
    "reproduced": "good",
    "in part": "part",
    "not reproduced": "bad",
    "not measured": "quiet",
}
_TERMS = (Power.FIXED, Power.LINEAR, Power.QUADRATIC)


def render(run: Run) -> Group:
    """Return everything that a run has to say on a terminal, apart from its verdict."""
    figures = Figures(run)
    parts: list[RenderableType] = [heading(run)]
    for sheet in figures.sheets:
        parts += [Text(), main_grid(figures, sheet).on_terminal(), *_level_note(figures, sheet)]
        for grid in (cost_grid(figures, sheet), growth_grid(figures, sheet)):
            parts += [Text(), grid.on_terminal()] if grid else []
    if figures.sheets and run.about.get("reference"):
        theirs = reference_grid(figures)
        source = run.about["reference"].get("source", "")
        absent = f"{source} has no figures for these kernels and counts."
        parts += [Text(), theirs.on_terminal() if theirs else Text(absent)]
    if claims := claims_grid([run]):
        parts += [Text(), claims.on_terminal()]
    return Group(*parts)


def as_text(run: Run, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(run), width)


def heading(run: Run) -> Text:
    """Return what stands over the table: first what its seconds are."""
    about = run.about
    releases = ", ".join(f"{kernel.name} {kernel.release}" for kernel in run.kernels)
    text = Text()
    text.append(f"{seconds_are(about)}\n", style="bold")
    text.append(
        f"{about['boot']} boot, {about['machine']}, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; kernels: {releases}{given_text(run)}"
    )
    if note := _foreign_note(run):
        text.append(f"\n{note}", style="yellow")
    return text


def given_text(run: Run) -> str:
    """Return the scenario's parameters behind what goes before, where any is not 0 or empty."""
    given = run.plan.get("given") or {}
    return "".join(f"; {name} {value}" for name, value in given.items() if value)


def _foreign_note(run: Run) -> str:
    """Return what to bear in mind where kernels were configured by different hands."""
    kernels = run.about["kernels"]
    foreign = [str(kernel["name"]) for kernel in kernels if kernel.get("built_by_lab") is False]
    if not foreign or len(kernels) == 1:
        return ""
    return (
        f"not built by the lab: {', '.join(foreign)}. Kernels with configs of different hands "
        "(mitigations, security modules, debugging) differ in more than is compared here."
    )


def sheet_text(figures: Figures, sheet: Cell) -> str:
    """Return what a sheet is called: the values of its axes."""
    return figures.shape.in_words(sheet)


def metric_title(metric: Metric) -> str:
    """Return what stands over a table of a metric."""
    says_unit = not metric.unit or (metric.is_time and "seconds" in metric.name)
    return metric.title or (metric.name if says_unit else f"{metric.name}, {metric.unit}")


def key_figure(run: Run) -> str:
    """Return a plain run in a few words: its first sheet at the last row that has a figure.

    The ratio of the two columns that are compared, on each kernel; where one of
    them was not measured, the first column that was.
    """
    figures = Figures(run)
    for sheet in figures.sheets:
        for row in reversed(figures.rows(sheet)):
            if parts := list(_key_parts(figures, sheet, row)):
                named = sheet_text(figures, sheet)
                at = figures.shape.in_words({figures.shape.rows: row})
                head = f"{named} at {row}" if named else at
                return f"{head}: {', '.join(parts)}"
    return ""


def _key_parts(figures: Figures, sheet: Cell, row: Value) -> Iterator[str]:
    several = len(figures.kernels) > 1
    for kernel in figures.kernels:
        if text := _key_text(figures, kernel, sheet, row):
            yield f"{kernel} {text}" if several else text


def _key_text(figures: Figures, kernel: str, sheet: Cell, row: Value) -> str:
    columns = figures.columns(sheet)
    if ratio := figures.ratio(kernel, figures.cell(sheet, row, columns[0])):
        return ratio_text(ratio)
    for column in columns:
        value = figures.figure(kernel, figures.cell(sheet, row, column)).value
        if value is not None:
            unit = figures.metric.unit
            return f"{column} {number_text(value, unit)} {unit}".rstrip()
    return ""


def main_grid(figures: Figures, sheet: Cell) -> Grid:
    """Return a sheet: rows down, kernels and their columns across."""
    across = figures.columns(sheet)
    with_ratio = figures.has_ratio(sheet)
    columns = [Column(_row_name(figures), numeric=_is_numeric(figures))]
    for kernel in figures.kernels:
        over = figures.shape.kernel_title(kernel)
        columns += [Column(_column_name(figures, column), over=over) for column in across]
        columns += [Column("ratio", tone="ratio", over=over)] * with_ratio
    rows = []
    for row in figures.rows(sheet):
        entries = [_row_entry(row)]
        for kernel in figures.kernels:
            cells = [figures.cell(sheet, row, column) for column in across]
            entries += [entry_of(figures.figure(kernel, cell), figures.metric) for cell in cells]
            entries += [_ratio(figures.ratio(kernel, cells[0]))] * with_ratio
        rows.append(entries)
    what = metric_title(figures.metric) + _trials_text(figures, sheet)
    return Grid(what, columns, rows, head=sheet_text(figures, sheet))


def _column_name(figures: Figures, column: Value) -> str:
    """Return a column's name; of the only one the metric's."""
    return str(column) or figures.metric.short or figures.metric.name


def entry_of(figure: Figure, metric: Metric) -> Entry:
    """Return a figure with its interval, and with what was not valid."""
    if figure.value is None:
        return Entry("not valid", tone="invalid") if figure.invalid else Entry("-", tone="quiet")
    around, unit = figure.interval, metric.unit or "1"
    spread = (
        f"[{number_text(around.low, unit)}, {number_text(around.high, unit)}]" if around else ""
    )
    of = figure.valid + figure.invalid
    wrong = f"{figure.invalid} of {of} not valid" if figure.invalid else ""
    remark = ", ".join(filter(None, (spread, wrong)))
    tone = "invalid" if figure.invalid else ""
    return Entry(number_text(figure.value, unit), figure.value, remark, tone)


def _ratio(value: float | None) -> Entry:
    return Entry(ratio_text(value), value, tone="ratio")


def _row_name(figures: Figures) -> str:
    axis = figures.shape.axis(figures.shape.rows)
    return axis.title or axis.name


def _is_numeric(figures: Figures) -> bool:
    return figures.shape.axis(figures.shape.rows).is_numeric


def _row_entry(row: Value) -> Entry:
    return word(row) if isinstance(row, str) else Entry(f"{row:.10g}", row)


def _trials_text(figures: Figures, sheet: Cell) -> str:
    """Return how many trials stand behind the figures, where it is more than one each."""
    found = figures.sheet_figures(sheet)
    numbers = sorted({figure.valid for figure in found})
    levels = [figure.interval.level for figure in found if figure.interval]
    if not levels:
        return ""
    trials = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    brackets = f"{LEVEL:.0%} interval" if min(levels) >= LEVEL else "lowest, highest"
    return f", median of {trials} trials [{brackets}]"


def _level_note(figures: Figures, sheet: Cell) -> Iterator[RenderableType]:
    """Yield why the brackets are no 95 % intervals, where they are not."""
    levels = [f.interval.level for f in figures.sheet_figures(sheet) if f.interval]
    if levels and min(levels) < LEVEL:
        yield Text(
            f"Fewer than 6 trials are too few for a {LEVEL:.0%} interval of the median: "
            f"the lowest and the highest hold it with {floor(min(levels) * 100)}%."
        )


def cost_grid(figures: Figures, sheet: Cell, letter: str = "") -> Grid | None:
    """Return all metrics of a sheet's last row, and what was counted there.

    None where there is one column, or one metric: the table above says it then.
    """
    last = figures.rows(sheet)[-1]
    across = figures.columns(sheet)
    counted = {(t.kernel, t.cell): t.metrics for t in figures.run.tallies}
    names = {metric.name for metric in figures.shape.counted}
    metrics = [m for m in figures.shape.metrics if m.name not in names]
    found: list[tuple[str, Value, dict[str, float]]] = []
    for kernel in figures.kernels:
        for column in across:
            cell = figures.cell(sheet, last, column)
            samples = [s for s in figures.samples(kernel, cell) if s.verified]
            if samples:
                known = (m.name for m in metrics if all(m.name in s.metrics for s in samples))
                values = {name: median(s.metrics[name] for s in samples) for name in known}
                found.append((kernel, column, {**values, **counted.get((kernel, cell), {})}))
    shown = [m for m in metrics if not m.zero or any(values.get(m.name) for *_, values in found)]
    shown += figures.shape.counted
    told = any(values.get(m.name) for m in metrics if m.zero for *_, values in found)
    if len(shown) < 2 or (len({column for _, column, _ in found}) < 2 and not told):
        return None
    columns = [Column("kernel", numeric=False), Column(figures.shape.columns, numeric=False)]
    columns += [Column(metric.short or metric.name) for metric in shown]
    rows = [
        [
            word(f"{figures.shape.kernel_title(kernel)} {letter}".strip() if letter else kernel),
            word(str(column)),
            *(_amount(values.get(metric.name), metric) for metric in shown),
        ]
        for kernel, column, values in found
    ]
    at = figures.shape.in_words(Cell({figures.shape.rows: last}))
    what = f"what it cost, the same work for {at}"
    return Grid(what, columns, rows, sheet_text(figures, sheet), 2, titles=_titles(figures))


def _amount(value: float | None, metric: Metric) -> Entry:
    if value is None:
        return Entry("-", tone="quiet")
    if metric.unit:
        return Entry(amount_text(value, metric.unit), value)
    return Entry(f"{value:.0f}" if value >= 100 else f"{value:.10g}", value)


def growth_grid(figures: Figures, sheet: Cell, letter: str = "") -> Grid | None:
    """Return how a time grows with a number, where three numbers or more can tell."""
    if not (figures.metric.is_time and _is_numeric(figures)):
        return None
    rows = []
    for kernel in figures.kernels:
        for column in figures.columns(sheet):
            points = {
                float(row): value
                for row in figures.rows(sheet)
                if (value := figures.figure(kernel, figures.cell(sheet, row, column)).value)
            }
            if fitted := fit(points):
                title = figures.shape.kernel_title(kernel)
                name = f"{title} {letter}".strip() if letter else kernel
                rows.append([word(name), word(str(column)), *_terms(fitted)])
    if not rows:
        return None
    unit = _row_name(figures)
    columns = [Column("kernel", numeric=False), Column(figures.shape.columns, numeric=False)]
    columns += [Column(name) for name in ("a: fixed", "b: each", "c: squared", "grows", "error")]
    what = f"{figures.metric.name} = a + b N + c N² for N {unit}, as far as it is significant"
    return Grid(what, columns, rows, sheet_text(figures, sheet), 2, titles=_titles(figures))


def _terms(fitted: Fit) -> Iterator[Entry]:
    for power in _TERMS:
        term = fitted.terms.get(power)
        if term is None:
            yield Entry("-" if power in fitted.tried else "?", tone="quiet")
        else:
            margin = f"± {term.margin / abs(term.value):.0%}"
            yield Entry(duration_text(term.value), term.value, margin)
    yield Entry(fitted.growth)
    yield Entry(f"{fitted.error:.1%}", fitted.error)


def _titles(figures: Figures) -> dict[str, str]:
    return {kernel: figures.shape.kernel_title(kernel) for kernel in figures.kernels}


def reference_points(run: Run) -> dict[tuple[str, Cell], float]:
    """Return what others measured, by kernel and cell, as a stored run keeps it."""
    reference = run.about.get("reference") or {}
    return {
        (str(point["kernel"]), run.shape.cell_in(point)): float(point["value"])
        for point in reference.get("points", ())
    }


def reference_grid(figures: Figures) -> Grid | None:
    """Return what others measured for the same kernels and rows, in the same form."""
    points = reference_points(figures.run)
    shape = figures.shape
    sheets = {cell.of(shape.sheets) for _, cell in points}
    rows_here = [row for sheet in figures.sheets if sheet in sheets for row in figures.rows(sheet)]
    kernels = [k for k in figures.kernels if any(kernel == k for kernel, _ in points)]
    shown = [cell for kernel, cell in points if kernel in kernels and cell[shape.rows] in rows_here]
    if not shown:
        return None
    across = list(dict.fromkeys(map(shape.column_of, shown)))
    with_ratio = shape.versus is not None and set(shape.versus) <= set(across)
    columns = [Column(_row_name(figures), numeric=_is_numeric(figures))]
    for kernel in kernels:
        over = shape.kernel_title(kernel)
        columns += [Column(str(column), over=over) for column in across]
        columns += [Column("ratio", tone="ratio", over=over)] * with_ratio
    sheet = shown[0].of(shape.sheets)
    rows = []
    for row in dict.fromkeys(cell[shape.rows] for cell in shown):
        entries = [_row_entry(row)]
        for kernel in kernels:
            found = {c: points.get((kernel, figures.cell(sheet, row, c))) for c in across}
            entries += [Entry("-") if v is None else Entry(f"{v:.2f}", v) for v in found.values()]
            if with_ratio and shape.versus:
                more, less = (found[column] for column in shape.versus)
                entries.append(_ratio(more / less if more is not None and less else None))
        rows.append(entries)
    return Grid(str(figures.run.about["reference"]["title"]), columns, rows)


def claims_grid(runs: Sequence[Run], letters: Sequence[str] = ()) -> Grid | None:
    """Return a paper's claims: its figure, ours, and whether it was reproduced."""
    each: list[list[Mapping[str, Any]]] = [list(run.about.get("claims") or ()) for run in runs]
    if not all(each) or len({len(found) for found in each}) > 1:
        return None
    label = str((runs[0].about.get("reference") or {}).get("label", "theirs"))
    columns = [Column("claim", numeric=False, width=4), Column(label, numeric=False, width=3)]
    for letter in letters or [""]:
        columns.append(Column(f"here {letter}".strip(), numeric=False, width=3))
        columns.append(Column("", numeric=False, width=3))
    rows = []
    for found in zip(*each, strict=True):
        row = [word(str(found[0]["text"])), word(str(found[0]["theirs"]))]
        for claim in found:
            finding, why = str(claim["finding"]), str(claim.get("why") or "")
            row.append(word(str(claim["ours"])))
            row.append(Entry(f"{finding}{':' * bool(why)}", None, why, _FINDING_TONE[finding]))
        rows.append(row)
    return Grid("the paper's claims", columns, rows, kind="prose")


def comparison_grid(
    runs: Sequence[Stored], names: Sequence[str] = (), *, changes: bool = True
) -> Grid:
    """Return every cell of several runs, a column for each, and what changed since the first.

    With `names` for the runs, the columns have the unit, and no titles over them.
    """
    shape, metric = runs[0].run.shape, runs[0].figures.metric
    letters = list(names) or [stored.letter for stored in runs]
    head = [axis.name for axis in shape.axes]
    later = (
        [f"{letter} against {letters[0]}" for letter in letters[1:]] if not names else ["change"]
    )
    title, change = ("", "") if names else (metric_title(metric), "change")
    with_unit = f", {metric.unit}" if names and metric.unit else ""
    columns = [Column("kernel", numeric=False)]
    columns += [Column(name, numeric=shape.axis(name).is_numeric) for name in head]
    columns += [Column(f"{letter}{with_unit}", over=title) for letter in letters]
    columns += [Column(name, tone="ratio", over=change) for name in later] * changes
    rows = []
    for found in cell_rows(runs):
        row = [word(found.kernel), *(_row_entry(value) for value in found.cell.values())]
        unit = metric.unit or "1"
        row += [Entry(number_text(value, unit), value) for value in found.values]
        if changes:
            for number in range(1, len(runs)):
                first, value = found.values[0], found.values[number]
                row.append(_change(first, value, found.is_within_spread(number)))
        rows.append(row)
    return Grid("the runs beside each other", columns, rows, leading=1 + len(head))


def _change(before: float | None, now: float | None, is_within_spread: bool) -> Entry:
    if not before or now is None:
        return Entry("-", tone="quiet")
    text = f"{100 * (now / before - 1):+.1f} %"
    if is_within_spread:
        return Entry(text, now / before, "within the spread", "quiet")
    return Entry(text, now / before, tone="ratio")
