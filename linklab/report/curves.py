"""What the page plots: a metric and its ratios against the rows of a table, ours and others'."""

from __future__ import annotations

from collections.abc import Sequence

from linklab.report.compare import Stored, kernel_rows
from linklab.report.plots import Curve, Panel, Point
from linklab.report.tables import metric_title, reference_points, sheet_text
from linklab.results.figures import Figures
from linklab.results.shape import Cell, Shape, Value

_NAME_ROOM = 16  # characters beside a curve's end
_DASHES = ("", "dash2", "dash3", "dash4")
_TONES = ("tone1", "tone2", "tone3", "tone4", "tone5")
_MARKERS = ("circle", "square", "up", "diamond", "down")


def look_of(shape: Shape, column: Value, across: Sequence[Value] = ()) -> tuple[str, str]:
    """Return a column's colour, as a CSS class, and its marker: the same in every plot."""
    known = list(map(str, shape.axis(shape.columns).words or across)) if shape.columns else [""]
    place = known.index(str(column)) if str(column) in known else len(_TONES)
    if place >= len(_TONES):
        return "tone0", _MARKERS[place % len(_MARKERS)]
    return _TONES[place], _MARKERS[place]


def short(title: str) -> str:
    """Return a kernel's title cut to fit beside a curve; of a path its end."""
    return title if len(title) <= _NAME_ROOM else "…" + title[1 - _NAME_ROOM :]


def panels(runs: Sequence[Stored], sheet: Cell) -> list[Panel]:
    """Return a panel for each kernel: a curve for each column and run, and others' points.

    Where the rows are words, the curves are bars.
    """
    head = sheet_text(runs[0].figures, sheet)
    across = list(dict.fromkeys(c for s in runs for c in s.figures.columns(sheet)))
    found = []
    for number, kernel in enumerate(kernel_rows(runs)):
        curves = [
            _curve(stored, run_number, sheet, name, column, across, _words(runs, sheet))
            for column in across
            for run_number, (stored, name) in enumerate(zip(runs, kernel.names, strict=True))
            if name
        ]
        names = _words(runs, sheet)
        for name in dict.fromkeys(name for name in kernel.names if name and not names):
            curves += _reference_curves(runs[0], sheet, name, curves)
        found.append(
            _panel(
                runs,
                f"{_identity(runs, sheet)}-{number}",
                ", ".join(filter(None, (head, kernel.title))),
                metric_title(runs[0].figures.metric),
                [curve for curve in curves if curve.points or curve.invalid],
                f" {runs[0].figures.metric.unit}".rstrip(),
                short(kernel.title),
                names,
            )
        )
    return found


def _words(runs: Sequence[Stored], sheet: Cell) -> list[str]:
    """Return the rows where they are words, in their order, of any of the runs."""
    shape = runs[0].run.shape
    if shape.axis(shape.rows).is_numeric:
        return []
    rows = (row for s in runs if sheet in s.figures.sheets for row in s.figures.rows(sheet))
    return list(dict.fromkeys(map(str, rows)))


def _across(rows: Sequence[str], row: Value) -> float:
    """Return where a row stands: its number, or its place among words."""
    return float(rows.index(str(row))) if rows else float(row)


def _panel(
    runs: Sequence[Stored], identity: str, title: str, y: str, curves: list[Curve], unit: str,
    label: str = "", names: Sequence[str] = (),
) -> Panel:  # fmt: skip
    axis = runs[0].run.shape.axis(runs[0].run.shape.rows)
    return Panel(identity, title, axis.title or axis.name, y, curves, unit, label, axis.log, names)


def _identity(runs: Sequence[Stored], sheet: Cell) -> str:
    return "-".join(("plot", runs[0].figures.metric.name, *map(str, sheet.values())))


def _curve(
    stored: Stored,
    number: int,
    sheet: Cell,
    kernel: str,
    column: Value,
    across: Sequence[Value],
    words: Sequence[str],
) -> Curve:
    figures, shape = stored.figures, stored.run.shape
    points, invalid = [], []
    for row in figures.rows(sheet):
        figure = figures.figure(kernel, figures.cell(sheet, row, column))
        if figure.value is None:
            invalid += [_across(words, row)] * bool(figure.invalid)
            continue
        around = figure.interval
        ends = (around.low, around.high) if around else (None, None)
        points.append(Point(_across(words, row), figure.value, *ends))
    name = f"{column or figures.metric.name} {stored.letter}".strip()
    dash = _DASHES[number % len(_DASHES)]
    return Curve(name, *look_of(shape, column, across), points, dash, invalid=invalid)


def _reference_curves(
    stored: Stored, sheet: Cell, kernel: str, beside: Sequence[Curve]
) -> list[Curve]:
    """Return others' points for the columns that they have and we show, where our curves are."""
    shape, label = stored.run.shape, _label(stored.figures)
    found: dict[Value, list[Point]] = {}
    ours = [point.x for curve in beside for point in curve.points]
    for (name, cell), value in reference_points(stored.run).items():
        if name == kernel and cell.of(shape.sheets) == sheet and _within(cell, shape, ours):
            points = found.setdefault(shape.column_of(cell), [])
            points.append(Point(cell.number(shape.rows), value))
    return [
        Curve(f"{column} {label}", *look_of(shape, column), points, is_reference=True)
        for column, points in found.items()
        if any(curve.name.split()[0] == str(column) for curve in beside)
    ]


def _within(cell: Cell, shape: Shape, ours: Sequence[float]) -> bool:
    return bool(ours) and min(ours) <= cell.number(shape.rows) <= max(ours)


def _label(figures: Figures) -> str:
    return str((figures.run.about.get("reference") or {}).get("label", ""))


def ratio_panel(runs: Sequence[Stored], sheet: Cell) -> Panel:
    """Return how many times as much one column gives as another, a curve for each kernel."""
    shape = runs[0].run.shape
    curves = []
    versus = shape.versus or ("", "")
    is_numeric = shape.axis(shape.rows).is_numeric
    for number, kernel in enumerate(kernel_rows(runs) if is_numeric else ()):
        tone, marker = _TONES[number % len(_TONES)], _MARKERS[number % len(_MARKERS)]
        for run_number, (stored, name) in enumerate(zip(runs, kernel.names, strict=True)):
            if not name:
                continue
            figures = stored.figures
            found = {
                row: figures.ratio(name, figures.cell(sheet, row, versus[0]))
                for row in figures.rows(sheet)
            }
            points = [Point(float(row), ratio) for row, ratio in found.items() if ratio]
            dash = _DASHES[run_number % len(_DASHES)]
            title = short(shape.kernel_title(name))
            curves.append(Curve(f"{title} {stored.letter}".strip(), tone, marker, points, dash))
        for name in dict.fromkeys(name for name in kernel.names if name):
            if points := _reference_ratios(runs[0], sheet, name, curves):
                label = f"{name} {_label(runs[0].figures)}"
                curves.append(Curve(label, tone, marker, points, is_reference=True))
    if not any(curve.points for curve in curves if not curve.is_reference):
        curves = []
    metric = runs[0].figures.metric
    title = f"{sheet_text(runs[0].figures, sheet)}: {versus[0]} in times of {versus[1]}"
    name = f"{versus[0]} / {versus[1]}, {metric.name}"
    shown = [curve for curve in curves if curve.points]
    return _panel(runs, f"ratio-{_identity(runs, sheet)}", title, name, shown, " times")


def _reference_ratios(
    stored: Stored, sheet: Cell, kernel: str, beside: Sequence[Curve]
) -> list[Point]:
    shape = stored.run.shape
    if shape.versus is None:
        return []
    ours = [point.x for curve in beside for point in curve.points]
    points = reference_points(stored.run)
    found = []
    for (name, cell), value in points.items():
        less = points.get((name, cell.with_(**{shape.columns: shape.versus[1]})))
        is_more = cell[shape.columns] == shape.versus[0] and cell.of(shape.sheets) == sheet
        if name == kernel and is_more and less and _within(cell, shape, ours):
            found.append(Point(cell.number(shape.rows), value / less))
    return found
