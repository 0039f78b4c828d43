"""A sweep as a matrix, as small plots of one scale, and what became of its checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from textwrap import wrap
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.report.compare import Stored, sheets_of
from linklab.report.curves import panels
from linklab.report.grid import Column, Entry, Grid, word
from linklab.report.plots import Panel, svg
from linklab.report.tables import (
    entry_of,
    heading,
    level_note,
    metric_title,
    row_entry,
    trials_text,
)
from linklab.results.figures import Figure, Figures
from linklab.results.model import Run
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.results.sweep import KERNEL, Checked, checked, metrics_of

_WIDTH, _HEIGHT = 235, 190  # pixels of a small plot: three stand beside each other on a page
_LINE = 33  # characters over one
_HOLDS, _FAILS, _UNKNOWN = "holds", "fails", "unknown"


def render(run: Run) -> Group:
    """Return everything that a sweep has to say on a terminal, apart from its verdict."""
    parts: list[RenderableType] = [heading(run)]
    if drawing := run.about.get("drawing"):
        parts += [Text(), Text(str(drawing), overflow="fold")]
    for grid in matrices(run):
        parts += [Text(), grid.on_terminal()]
    parts += level_note(_every_figure(Figures(run)))
    if checks := checks_grid(run):
        parts += [Text(), checks.on_terminal()]
    return Group(*parts)


def matrices(run: Run) -> list[Grid]:
    """Return a matrix of each metric that the sweep shows; none where nothing was measured."""
    return [matrix(Figures(run, metric)) for metric in metrics_of(run) if run.samples]


def matrix(figures: Figures) -> Grid:
    """Return a metric over everything: sets of parameters and rows down, kernels and arms across.

    What has one value in all of them stands in the title.
    """
    shape = figures.shape
    varying, fixed = _varying(shape, figures.sheets), _fixed(shape, figures.sheets)
    down = [*varying, shape.axis(shape.rows)]
    columns = [Column(_name(axis), numeric=axis.is_numeric) for axis in down]
    across = list(dict.fromkeys(c for sheet in figures.sheets for c in figures.columns(sheet)))
    several = len(figures.kernels) > 1
    only = figures.metric.short or figures.metric.name
    for kernel in figures.kernels:
        title = shape.kernel_title(kernel)
        names = [str(column) or (title if several else only) for column in across]
        columns += [Column(name, over=title if several else "") for name in names]
    rows = []
    for sheet in figures.sheets:
        for row in figures.rows(sheet):
            entries = [row_entry(sheet[axis.name]) for axis in varying]
            entries.append(row_entry(row))
            for kernel in figures.kernels:
                cells = (figures.cell(sheet, row, column) for column in across)
                entries += [entry_of(figures.figure(kernel, c), figures.metric) for c in cells]
            rows.append(entries)
    what = metric_title(figures.metric) + trials_text(_every_figure(figures))
    return Grid(what, columns, rows, head=shape.in_words(fixed), leading=len(down))


def _name(axis: Axis) -> str:
    return axis.parameter or axis.title or axis.name


def _varying(shape: Shape, sheets: Sequence[Cell]) -> list[Axis]:
    """Return the axes, neither down nor across, of which there are several values."""
    return [
        axis
        for axis in shape.axes
        if axis.name in shape.sheets and len({sheet[axis.name] for sheet in sheets}) > 1
    ]


def _fixed(shape: Shape, sheets: Sequence[Cell]) -> Cell:
    varying = {axis.name for axis in _varying(shape, sheets)}
    return sheets[0].of(name for name in shape.sheets if name not in varying) if sheets else Cell()


def _every_figure(figures: Figures) -> list[Figure]:
    return [figure for sheet in figures.sheets for figure in figures.sheet_figures(sheet)]


def checks_grid(run: Run) -> Grid | None:
    """Return each check at each of its cells: the value, the limit, and whether it holds.

    A ratio stands as `bbr / cubic` in the column of what its two cells differ in.
    """
    every, shape = checked(run), run.shape
    if not every:
        return None
    order = [*shape.sheets, shape.rows, *filter(None, [shape.columns])]
    axes = [shape.axis(name) for name in order if len({c[name] for c in run.cells}) > 1]
    several = len(run.kernels) > 1
    columns = [Column("check", numeric=False)]
    columns += [Column(name, numeric=False) for name in [KERNEL] * several + list(map(_name, axes))]
    columns += [Column("value"), Column("", numeric=False)]
    rows = []
    for each in every:
        values = each.place.values
        names = [KERNEL] * several + [axis.name for axis in axes]
        words = [
            f"{values[name]} / {each.check.against[name]}"
            if each.check.against.get(name, values[name]) != values[name]
            else str(values[name])
            for name in names
        ]
        became = _became(each)
        tone = {_HOLDS: "good", _FAILS: "bad"}.get(became, "quiet")
        said = Entry(f"{each.metric.name} {each.limits('≥', '≤')}", tone="brief")
        value = Entry(each.number_text, each.value)
        rows.append([said, *map(word, words), value, Entry(became, tone=f"{tone} brief")])
    held = sum(each.holds for each in every)
    return Grid(f"checks, {held} of {len(every)} hold", columns, rows)


def _became(one: Checked) -> str:
    if one.value is None:
        return _UNKNOWN
    return _HOLDS if one.holds else _FAILS


def checks_document(run: Run) -> list[dict[str, Any]]:
    """Return what became of the checks, for a script."""
    return [
        {
            **each.check.to_json(),
            "kernel": each.place.kernel,
            "cell": dict(each.place.cell),
            "value": None if each.value == inf else each.value,
            "holds": each.holds,
        }
        for each in checked(run)
    ]


# On a page


def multiples(runs: Sequence[Stored], metric: Metric) -> Mapping[str, Any]:
    """Return a metric's small plots, all on the same scales: one for each set of parameters.

    Along each stand the rows of a table, its columns are the lines; each kernel has its own.
    """
    drawn = [drawing for _, drawing in small_plots(runs, metric)]
    shape = runs[0].run.shape
    axis, fixed = shape.axis(shape.rows), _fixed(shape, sheets_of(runs))
    text = f"{metric_title(metric)} against {axis.title or axis.name}, all on the same scales"
    if fixed:
        text = f"{shape.in_words(fixed)}: {text}"
    if any('class="range"' in drawing for drawing in drawn):
        text += ". Medians; upright lines hold the median"
    return {"plots": drawn, "caption": f"{text}.", "small": True}


def small_plots(runs: Sequence[Stored], metric: Metric) -> Iterator[tuple[str, str]]:
    """Yield a metric's small plots: a name that no other has, and the drawing."""
    shown = [replace(stored, metric=metric) for stored in runs]
    sheets = sheets_of(shown)
    varying = [axis.name for axis in _varying(shown[0].run.shape, sheets)]
    found: list[tuple[Panel, str]] = []
    for sheet in sheets:
        each = panels(shown, sheet)
        for panel in each:
            words = shown[0].run.shape.in_words(sheet.of(varying))
            kernel = panel.label if len(each) > 1 else ""
            found.append((panel, ", ".join(filter(None, (words, kernel)))))
    heads = [wrap(text, _LINE) for _, text in found]
    lines = max(map(len, heads), default=0)
    small = [
        replace(
            panel, identity=f"sweep-{metric.name}-{number}", label="", width=_WIDTH,
            height=_HEIGHT, head=[*head, *[""] * (lines - len(head))],
        )
        for number, ((panel, _), head) in enumerate(zip(found, heads, strict=True), 1)
    ]  # fmt: skip
    for panel in small:
        if drawing := svg(panel, small, small):
            yield panel.identity, drawing
