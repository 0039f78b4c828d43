"""The tables of a run as grids: what was measured, what it cost, how it grows, what was claimed.

From a stored run and its shape alone; no scenario is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import floor
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.numbers import amount_text, duration_text, number_text, ratio_text
from linklab.report.compare import Stored, cell_rows
from linklab.report.grid import TEXT_WIDTH, Column, Entry, Grid, plain_text, word
from linklab.results.figures import Figure, Figures, seconds_are
from linklab.results.fit import Fit, Power, fit
from linklab.results.model import Run
from linklab.results.shape import Cell, Metric, Value
from linklab.results.statistics import LEVEL

_NOT_MEASURED = "not measured"
_FINDING_TONE = {
    "reproduced": "good",
    "in part": "part",
    "not reproduced": "bad",
    _NOT_MEASURED: "quiet",
}
_NONE = Entry("-", tone="quiet")


def render(run: Run) -> Group:
    """Return everything that a run has to say on a terminal, apart from its verdict."""
    figures = Figures(run)
    parts: list[RenderableType] = [heading(run)]
    if drawing := run.about.get("drawing"):
        parts += [Text(), Text(str(drawing), overflow="fold")]
    for sheet in figures.sheets:
        parts += [
            Text(),
            main_grid(figures, sheet).on_terminal(),
            *level_note(figures.sheet_figures(sheet)),
        ]
        for grid in (cost_grid(figures, sheet), growth_grid(figures, sheet)):
            parts += [Text(), grid.on_terminal()] if grid else []
    if figures.sheets and run.about.get("reference"):
        theirs = reference_grid(figures)
        source = run.about["reference"].get("source", "")
        absent = f"{source} has no figures for these kernels and counts."
        parts += [Text(), theirs.on_terminal() if theirs else Text(absent)]
    return Group(*parts, *_claims(run))


def _claims(run: Run) -> Iterator[RenderableType]:
    """Yield a paper's claims; where few could be judged, those, and how many could not."""
    every = list(run.about.get("claims") or ())
    judged = [claim for claim in every if claim["finding"] != _NOT_MEASURED]
    if len(judged) * 2 > len(every):
        judged = every
    if judged and (grid := claims_grid([Run({**run.about, "claims": judged}, run.samples)])):
        yield from (Text(), grid.on_terminal())
    if left := len(every) - len(judged):
        some = f"{left} of the paper's {len(every)} claims"
        yield from (Text(), Text(f"not measured: {some}; the page says what each needs"))


def as_text(run: Run, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(run), width)


def heading(run: Run) -> Text:
    """Return what stands over the table: first what its seconds are."""
    about = run.about
    releases = ", ".join(f"{kernel.name} {kernel.release}" for kernel in run.kernels)
    text = Text.assemble(
        (f"{seconds_are(about)}\n", "bold"),
        f"{about['boot']} boot, {about['machine']}, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; kernels: {releases}{given_text(run)}",
    )
    kernels = about["kernels"]
    foreign = [str(kernel["name"]) for kernel in kernels if kernel.get("built_by_lab") is False]
    if foreign and len(kernels) > 1:
        text.append(
            f"\nnot built by the lab: {', '.join(foreign)}. Kernels with configs of different "
            "hands (mitigations, security modules, debugging) differ in more than is compared "
            "here.",
            style="yellow",
        )
    return text


def given_text(run: Run) -> str:
    """Return the scenario's parameters behind what goes before, where any is not 0 or empty."""
    given = run.plan.get("given") or {}
    return "".join(f"; {name} {value}" for name, value in given.items() if value)


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
    several = len(figures.kernels) > 1
    for sheet in figures.sheets:
        for row in reversed(figures.rows(sheet)):
            texts = {kernel: _key_text(figures, kernel, sheet, row) for kernel in figures.kernels}
            parts = [f"{k} {text}" if several else text for k, text in texts.items() if text]
            if parts:
                named = sheet_text(figures, sheet)
                at = figures.shape.in_words({figures.shape.rows: row})
                return f"{f'{named} at {row}' if named else at}: {', '.join(parts)}"
    return ""


def _key_text(figures: Figures, kernel: str, sheet: Cell, row: Value) -> str:
    columns = figures.columns(sheet)
    if ratio := figures.ratio(kernel, figures.cell(sheet, row, columns[0])):
        return ratio_text(ratio)
    unit = figures.metric.unit
    for column in columns:
        value = figures.figure(kernel, figures.cell(sheet, row, column)).value
        if value is not None:
            return f"{column} {number_text(value, unit)} {unit}".rstrip()
    return ""


def main_grid(figures: Figures, sheet: Cell) -> Grid:
    """Return a sheet: rows down, kernels and their columns across."""
    across = figures.columns(sheet)
    only = figures.metric.short or figures.metric.name  # of the only column, the metric's name

    def entry(kernel: str, row: Value, column: Value) -> Entry:
        cell = figures.cell(sheet, row, column)
        return entry_of(figures.figure(kernel, cell), figures.metric)

    def ratio(kernel: str, row: Value) -> float | None:
        return figures.ratio(kernel, figures.cell(sheet, row, across[0]))

    what = metric_title(figures.metric) + trials_text(figures.sheet_figures(sheet))
    columns = {column: str(column) or only for column in across}
    shown = ratio if figures.has_ratio(sheet) else None
    grid = _grid(figures, figures.kernels, columns, figures.rows(sheet), entry, shown)
    return Grid(what, *grid, head=sheet_text(figures, sheet))


def _grid(
    figures: Figures,
    kernels: Sequence[str],
    across: Mapping[Value, str],
    down: Iterable[Value],
    entry: Callable[[str, Value, Value], Entry],
    ratio: Callable[[str, Value], float | None] | None,
) -> tuple[list[Column], list[list[Entry]]]:
    """Return the columns and rows of a sheet: of each kernel its columns, and their ratio."""
    axis = figures.shape.axis(figures.shape.rows)
    columns = [Column(axis.title or axis.name, numeric=axis.is_numeric)]
    for kernel in kernels:
        over = figures.shape.kernel_title(kernel)
        columns += [Column(name, over=over) for name in across.values()]
        columns += [Column("ratio", tone="ratio", over=over)] * bool(ratio)
    rows = []
    for row in down:
        entries = [row_entry(row)]
        for kernel in kernels:
            entries += [entry(kernel, row, column) for column in across]
            if ratio:
                factor = ratio(kernel, row)
                entries.append(Entry(ratio_text(factor), factor, tone="ratio"))
        rows.append(entries)
    return columns, rows


def entry_of(figure: Figure, metric: Metric) -> Entry:
    """Return a figure with its interval, and with what was not valid."""
    if figure.value is None:
        return Entry("not valid", tone="invalid") if figure.invalid else _NONE
    around, unit = figure.interval, metric.unit or "1"
    remarks = []
    if around:
        remarks.append(f"[{number_text(around.low, unit)}, {number_text(around.high, unit)}]")
    if figure.invalid:
        remarks.append(f"{figure.invalid} of {figure.valid + figure.invalid} not valid")
    tone = "invalid" if figure.invalid else ""
    return Entry(number_text(figure.value, unit), figure.value, ", ".join(remarks), tone)


def row_entry(row: Value) -> Entry:
    """Return a value of an axis as it stands beside what was measured there."""
    return word(row) if isinstance(row, str) else Entry(f"{row:.10g}", row)


def trials_text(found: Sequence[Figure]) -> str:
    """Return how many trials stand behind the figures, where it is more than one each."""
    levels = [figure.interval.level for figure in found if figure.interval]
    if not levels:
        return ""
    numbers = sorted({figure.valid for figure in found})
    trials = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    brackets = f"{LEVEL:.0%} interval" if min(levels) >= LEVEL else "lowest, highest"
    return f", median of {trials} trials [{brackets}]"


def level_note(found: Sequence[Figure]) -> Iterator[RenderableType]:
    """Yield why the brackets are no 95 % intervals, where they are not."""
    levels = [figure.interval.level for figure in found if figure.interval]
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
    counted = {(t.kernel, t.cell): t.metrics for t in figures.run.tallies}
    names = {metric.name for metric in figures.shape.counted}
    metrics = [m for m in figures.shape.metrics if m.name not in names]
    found: list[tuple[str, Value, dict[str, float]]] = []
    for kernel in figures.kernels:
        for column in figures.columns(sheet):
            cell = figures.cell(sheet, last, column)
            if samples := [s for s in figures.samples(kernel, cell) if s.verified]:
                known = (m.name for m in metrics if all(m.name in s.metrics for s in samples))
                values = {name: median(s.metrics[name] for s in samples) for name in known}
                found.append((kernel, column, {**values, **counted.get((kernel, cell), {})}))
    shown = [m for m in metrics if not m.zero or any(values.get(m.name) for *_, values in found)]
    told = any(m.zero for m in shown)
    shown += figures.shape.counted
    if len(shown) < 2 or (len({column for _, column, _ in found}) < 2 and not told):
        return None
    rows = [
        [
            _kernel_entry(figures, kernel, letter),
            word(str(column)),
            *(_amount(values.get(metric.name), metric) for metric in shown),
        ]
        for kernel, column, values in found
    ]
    at = figures.shape.in_words(Cell({figures.shape.rows: last}))
    what = f"what it cost, the same work for {at}"
    return _grid_of_kernels(figures, sheet, what, [m.short or m.name for m in shown], rows)


def _grid_of_kernels(
    figures: Figures, sheet: Cell, what: str, names: Iterable[str], rows: list[list[Entry]]
) -> Grid:
    """Return a grid of which a row is a kernel and a column of the sheet."""
    columns = [Column(name, numeric=False) for name in ("kernel", figures.shape.columns)]
    columns += map(Column, names)
    titles = {kernel: figures.shape.kernel_title(kernel) for kernel in figures.kernels}
    return Grid(what, columns, rows, sheet_text(figures, sheet), 2, titles=titles)


def _kernel_entry(figures: Figures, kernel: str, letter: str) -> Entry:
    return word(f"{figures.shape.kernel_title(kernel)} {letter}".strip() if letter else kernel)


def _amount(value: float | None, metric: Metric) -> Entry:
    if value is None:
        return _NONE
    if metric.unit:
        return Entry(amount_text(value, metric.unit), value)
    return Entry(f"{value:.0f}" if value >= 100 else f"{value:.4g}", value)


def growth_grid(figures: Figures, sheet: Cell, letter: str = "") -> Grid | None:
    """Return how a time grows with a number, where three numbers or more can tell."""
    axis = figures.shape.axis(figures.shape.rows)
    if not (figures.metric.is_time and axis.is_numeric):
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
                name = _kernel_entry(figures, kernel, letter)
                rows.append([name, word(str(column)), *_terms(fitted)])
    if not rows:
        return None
    unit = axis.title or axis.name
    what = f"{figures.metric.name} = a + b N + c N² for N {unit}, as far as it is significant"
    names = ("a: fixed", "b: each", "c: squared", "grows", "error")
    return _grid_of_kernels(figures, sheet, what, names, rows)


def _terms(fitted: Fit) -> Iterator[Entry]:
    for power in Power:
        if term := fitted.terms.get(power):
            margin = f"± {term.margin / abs(term.value):.0%}"
            yield Entry(duration_text(term.value), term.value, margin)
        else:
            yield Entry("-" if power in fitted.tried else "?", tone="quiet")
    yield Entry(fitted.growth)
    yield Entry(f"{fitted.error:.1%}", fitted.error)


def reference_points(run: Run) -> dict[tuple[str, Cell], float]:
    """Return what others measured, by kernel and cell, as a stored run keeps it."""
    reference = run.about.get("reference") or {}
    return {
        (str(point["kernel"]), run.shape.cell_in(point)): float(point["value"])
        for point in reference.get("points", ())
    }


def reference_grid(figures: Figures) -> Grid | None:
    """Return what others measured for the same kernels and rows, in the same form."""
    points, shape = reference_points(figures.run), figures.shape
    sheets = {cell.of(shape.sheets) for _, cell in points}
    rows_here = [row for sheet in figures.sheets if sheet in sheets for row in figures.rows(sheet)]
    kernels = [k for k in figures.kernels if any(kernel == k for kernel, _ in points)]
    shown = [cell for kernel, cell in points if kernel in kernels and cell[shape.rows] in rows_here]
    if not shown:
        return None
    sheet = shown[0].of(shape.sheets)
    across = {column: str(column) for column in map(shape.column_of, shown)}

    def value(kernel: str, row: Value, column: Value) -> float | None:
        return points.get((kernel, figures.cell(sheet, row, column)))

    def entry(kernel: str, row: Value, column: Value) -> Entry:
        found = value(kernel, row, column)
        return Entry("-") if found is None else Entry(f"{found:.2f}", found)

    def ratio(kernel: str, row: Value) -> float | None:
        more, less = (value(kernel, row, column) for column in shape.versus or ())
        return more / less if more is not None and less else None

    has_ratio = shape.versus is not None and set(shape.versus) <= set(across)
    rows = dict.fromkeys(cell[shape.rows] for cell in shown)
    grid = _grid(figures, kernels, across, rows, entry, ratio if has_ratio else None)
    return Grid(str(figures.run.about["reference"]["title"]), *grid)


def claims_grid(runs: Sequence[Run], letters: Sequence[str] = ()) -> Grid | None:
    """Return a paper's claims: its figure, ours, and whether it was reproduced."""
    each: list[list[Mapping[str, Any]]] = [list(run.about.get("claims") or ()) for run in runs]
    if not all(each) or len({len(found) for found in each}) > 1:
        return None
    label = str((runs[0].about.get("reference") or {}).get("label", "theirs"))
    columns = [Column("claim", numeric=False, width=4), Column(label, numeric=False, width=3)]
    for letter in letters or [""]:
        names = (f"here {letter}".strip(), "")
        columns += [Column(name, numeric=False, width=3) for name in names]
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
    later = ["change"] if names else [f"{each} against {letters[0]}" for each in letters[1:]]
    title, change = ("", "") if names else (metric_title(metric), "change")
    with_unit = f", {metric.unit}" if names and metric.unit else ""
    columns = [Column("kernel", numeric=False)]
    cells = list(cell_rows(runs))
    said = [a for a in shape.axes if any(a.says(found.cell[a.name]) for found in cells)]
    columns += [Column(axis.name, numeric=axis.is_numeric) for axis in said]
    columns += [Column(f"{letter}{with_unit}", over=title) for letter in letters]
    columns += [Column(name, tone="ratio", over=change) for name in later] * changes
    rows = []
    for found in cells:
        row = [word(found.kernel), *(row_entry(found.cell[axis.name]) for axis in said)]
        row += [Entry(number_text(value, metric.unit or "1"), value) for value in found.values]
        for number in range(1, len(runs) * changes):
            first, value = found.values[0], found.values[number]
            row.append(_change(first, value, found.is_within_spread(number)))
        rows.append(row)
    return Grid("the runs beside each other", columns, rows, leading=1 + len(said))


def _change(before: float | None, now: float | None, is_within_spread: bool) -> Entry:
    if not before or now is None:
        return _NONE
    text = f"{100 * (now / before - 1):+.1f} %"
    if is_within_spread:
        return Entry(text, now / before, "within the spread", "quiet")
    return Entry(text, now / before, tone="ratio")
