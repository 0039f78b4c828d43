"""What the page plots: a metric and its ratios against the rows of a table, ours and others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from linklab.report.compare import Stored, kernel_rows
from linklab.report.plots import Curve, Panel, Point
from linklab.report.tables import metric_title, reference_points, sheet_text
from linklab.results.figures import Figures
from linklab.results.shape import Cell, Course, Shape, Value

_LONGEST_NAME = 16  # characters beside a curve's end
_DASHES = ("", "dash2", "dash3", "dash4")
_TONES = ("tone1", "tone2", "tone3", "tone4", "tone5")
_MARKERS = ("circle", "square", "up", "diamond", "down")


def look_of(shape: Shape, column: Value, across: Sequence[Value] = ()) -> tuple[str, str]:
    """Return a column's colour, as a CSS class, and its marker: the same in every plot."""
    known = list(map(str, shape.axis(shape.columns).words or across)) if shape.columns else [""]
    place = known.index(str(column)) if str(column) in known else len(_TONES)
    tone = _TONES[place] if place < len(_TONES) else "tone0"
    return tone, _MARKERS[place % len(_MARKERS)]


def short(title: str) -> str:
    """Return a kernel's title cut to fit beside a curve; of a path its end."""
    return title if len(title) <= _LONGEST_NAME else "…" + title[1 - _LONGEST_NAME :]


def panels(runs: Sequence[Stored], sheet: Cell) -> list[Panel]:
    """Return a panel for each kernel: a curve for each column and run, and others' points.

    Where the rows are words, the curves are bars.
    """
    figures = runs[0].figures
    across = list(dict.fromkeys(c for s in runs for c in s.figures.columns(sheet)))
    words = _words(runs, sheet)
    found = []
    for number, kernel in enumerate(kernel_rows(runs)):
        curves = [
            _curve(stored, dash, sheet, name, column, across, words)
            for column in across
            for stored, name, dash in _dashed(runs, kernel.names)
        ]
        for name in dict.fromkeys(name for name in kernel.names if name and not words):
            curves += _reference_curves(figures, sheet, name, curves)
        found.append(
            _panel(
                runs,
                f"{_identity(runs, sheet)}-{number}",
                ", ".join(filter(None, (sheet_text(figures, sheet), kernel.title))),
                metric_title(figures.metric),
                [curve for curve in curves if curve.points or curve.invalid],
                f" {figures.metric.unit}".rstrip(),
                label=short(kernel.title),
                names=words,
            )
        )
    return found


def course_panels(stored: Stored, sheet: Cell, row: Value) -> list[Panel]:
    """Return how the trials of a row went: a panel for each quantity and kernel.

    A curve is the first trial of a column that left a right state.
    """
    figures, shape = stored.figures, stored.run.shape
    across = figures.columns(sheet)
    wrong = {(s.kernel, s.cell, s.trial) for s in stored.run.samples if not s.verified}
    found: dict[tuple[str, str, str], dict[Value, Course]] = {}
    for each in stored.run.courses:
        in_row = each.cell.of(shape.sheets) == sheet and each.cell[shape.rows] == row
        if in_row and (each.kernel, each.cell, each.trial) not in wrong:
            key = each.kernel, each.course.quantity, each.course.unit
            found.setdefault(key, {}).setdefault(shape.column_of(each.cell), each.course)
    panels = []
    for (kernel, quantity, unit), courses in found.items():
        curves = [
            Curve(
                str(column or quantity),
                *look_of(shape, column, across),
                [Point(*each) for each in zip(*filter(None, _columns(course)), strict=True)],
            )
            for column in across
            if (course := courses.get(column))
        ]
        title = f"{shape.in_words({**sheet, shape.rows: row})}, {shape.kernel_title(kernel)}"
        names = "-".join((kernel, quantity, *map(str, sheet.values()), str(row)))
        panels.append(
            Panel(
                "course-" + "".join(c if c.isalnum() else "-" for c in names),
                f"{title}: {quantity}",
                "seconds",
                ", ".join(filter(None, (quantity, unit))),
                curves,
                f" {unit}".rstrip(),
                label=short(shape.kernel_title(kernel)),
                is_course=True,
            )
        )
    return panels


def _columns(course: Course) -> tuple[tuple[float, ...], ...]:
    """Return a course as a `Point` takes it: places, values, and what is around them."""
    return course.at, course.values, course.least, course.most


def _dashed(
    runs: Sequence[Stored], names: Sequence[str | None]
) -> Iterator[tuple[Stored, str, str]]:
    """Yield the runs that have a kernel, its name there, and how the run's curves are dashed."""
    for number, (stored, name) in enumerate(zip(runs, names, strict=True)):
        if name:
            yield stored, name, _DASHES[number % len(_DASHES)]


def _words(runs: Sequence[Stored], sheet: Cell) -> list[str]:
    """Return the rows where they are words, in their order, of any of the runs."""
    shape = runs[0].run.shape
    if shape.axis(shape.rows).is_numeric:
        return []
    rows = (row for s in runs if sheet in s.figures.sheets for row in s.figures.rows(sheet))
    return list(dict.fromkeys(map(str, rows)))


def _panel(
    runs: Sequence[Stored], identity: str, title: str, y: str, curves: list[Curve], unit: str,
    **more: Any,
) -> Panel:  # fmt: skip
    axis = runs[0].run.shape.axis(runs[0].run.shape.rows)
    drawn = {"log": axis.log, "smooth": axis.smooth, **more}
    return Panel(identity, title, axis.title or axis.name, y, curves, unit, **drawn)


def _identity(runs: Sequence[Stored], sheet: Cell) -> str:
    return "-".join(("plot", runs[0].figures.metric.name, *map(str, sheet.values())))


def _curve(
    stored: Stored,
    dash: str,
    sheet: Cell,
    kernel: str,
    column: Value,
    across: Sequence[Value],
    words: Sequence[str],
) -> Curve:
    figures = stored.figures
    points, invalid = [], []
    for row in figures.rows(sheet):
        place = float(words.index(str(row)) if words else row)
        figure = figures.figure(kernel, figures.cell(sheet, row, column))
        if figure.value is not None:
            around = figure.interval
            ends = (around.low, around.high) if around else (None, None)
            points.append(Point(place, figure.value, *ends))
        elif figure.invalid:
            invalid.append(place)
    name = f"{column or figures.metric.name} {stored.letter}".strip()
    return Curve(name, *look_of(figures.shape, column, across), points, dash, invalid=invalid)


def _reference_curves(
    figures: Figures, sheet: Cell, kernel: str, beside: Sequence[Curve]
) -> list[Curve]:
    """Return others' points for the columns that they have and we show, where our curves are."""
    shape = figures.shape
    found: dict[Value, list[Point]] = {}
    for cell, value in _reference_cells(figures, sheet, kernel, beside):
        points = found.setdefault(shape.column_of(cell), [])
        points.append(Point(cell.number(shape.rows), value))
    return [
        Curve(f"{column} {_label(figures)}", *look_of(shape, column), points, is_reference=True)
        for column, points in found.items()
        if any(curve.name.split()[0] == str(column) for curve in beside)
    ]


def _reference_cells(
    figures: Figures, sheet: Cell, kernel: str, beside: Sequence[Curve]
) -> Iterator[tuple[Cell, float]]:
    """Yield what others measured on a kernel in a sheet, where our curves are."""
    shape, ours = figures.shape, [point.x for curve in beside for point in curve.points]
    for (name, cell), value in reference_points(figures.run).items():
        is_here = ours and name == kernel and cell.of(shape.sheets) == sheet
        if is_here and min(ours) <= cell.number(shape.rows) <= max(ours):
            yield cell, value


def _label(figures: Figures) -> str:
    return str((figures.run.about.get("reference") or {}).get("label", ""))


def ratio_panel(runs: Sequence[Stored], sheet: Cell) -> Panel:
    """Return how many times as much one column gives as another, a curve for each kernel."""
    first, shape = runs[0].figures, runs[0].run.shape
    more, less = shape.versus or ("", "")
    is_numeric = shape.axis(shape.rows).is_numeric
    curves: list[Curve] = []
    for number, kernel in enumerate(kernel_rows(runs) if is_numeric else ()):
        look = _TONES[number % len(_TONES)], _MARKERS[number % len(_MARKERS)]
        for stored, name, dash in _dashed(runs, kernel.names):
            figures = stored.figures
            points = [
                Point(float(row), ratio)
                for row in figures.rows(sheet)
                if (ratio := figures.ratio(name, figures.cell(sheet, row, more)))
            ]
            title = f"{short(shape.kernel_title(name))} {stored.letter}".strip()
            curves.append(Curve(title, *look, points, dash))
        for name in dict.fromkeys(name for name in kernel.names if name and shape.versus):
            known = reference_points(first.run)
            points = [
                Point(cell.number(shape.rows), value / other)
                for cell, value in _reference_cells(first, sheet, name, curves)
                if cell[shape.columns] == more
                and (other := known.get((name, cell.with_(**{shape.columns: less}))))
            ]
            label = f"{name} {_label(first)}"
            curves += [Curve(label, *look, points, is_reference=True)] * bool(points)
    if not any(curve.points for curve in curves if not curve.is_reference):
        curves = []
    title = f"{sheet_text(first, sheet)}: {more} in times of {less}"
    name = f"{more} / {less}, {first.metric.name}"
    shown = [curve for curve in curves if curve.points]
    return _panel(runs, f"ratio-{_identity(runs, sheet)}", title, name, shown, " times")
