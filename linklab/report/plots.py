"""Plots as inline SVG: a panel of curves on two logarithmic axes.

Colours, fonts and line widths are in `templates/plot.css`, so that a plot
follows the page into the dark and onto paper; here are the places alone. No
curve is told by its colour alone: each has a marker of its own shape and its
name beside its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from linklab.report.axes import LogAxis, apart, tick_text

WIDTH, HEIGHT = 350, 300  # pixels, about what a telephone is wide: text keeps its size there
_LEFT, _TOP, _BOTTOM = 42, 30, 44
_CHARACTER = 6.1  # pixels, of a label's text
_LABEL_GAP = 13  # pixels between two labels' lines
_MOST_TICKS = 7
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})

_MARKERS = {
    "circle": "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "square": "M-3-3h6v6h-6z",
    "up": "M0-4l3.8 6.6h-7.6z",
    "diamond": "M0-4.3l4.1 4.3l-4.1 4.3l-4.1-4.3z",
    "down": "M0 4l3.8-6.6h-7.6z",
    "cross": "M-3.2-3.2l6.4 6.4M3.2-3.2l-6.4 6.4",
}


@dataclass(frozen=True)
class Point:
    """A point of a curve: its value, and the interval around it where that is known."""

    x: float
    y: float
    least: float | None = None
    most: float | None = None

    @property
    def is_drawable(self) -> bool:
        """Whether it has a place on logarithmic axes."""
        return self.x > 0 and self.y > 0 and (self.least is None or self.least > 0)


@dataclass(frozen=True)
class Curve:
    """A curve with its name. `tone` names its colour, `dash` its line; both are CSS classes.

    A reference (the paper's points) is drawn hollow and thin. `invalid` are
    places where nothing valid was measured: crosses on the axis.
    """

    name: str
    tone: str
    marker: str
    points: Sequence[Point]
    dash: str = ""
    is_reference: bool = False
    invalid: Sequence[float] = ()

    def drawable(self) -> list[Point]:
        """Return the points that logarithmic axes can show, from left to right."""
        return sorted((p for p in self.points if p.is_drawable), key=lambda point: point.x)


@dataclass(frozen=True)
class Panel:
    """A plot: what it shows, its axes' names and its curves.

    `unit` stands after a value, `label` over the plot where several stand side by side.
    """

    identity: str
    title: str
    x_name: str
    y_name: str
    curves: Sequence[Curve]
    unit: str = ""
    label: str = ""

    def description(self) -> str:
        """Return in words what the curves show, for who does not see them."""
        parts = []
        for curve in self.curves:
            points = curve.drawable()
            text = ", ".join(f"{_text(p.y)}{self.unit} at {_text(p.x)}" for p in points)
            wrong = ", ".join(_text(x) for x in curve.invalid)
            text += f"{'; ' if text else ''}not valid at {wrong}" if wrong else ""
            parts.append(f"{curve.name}: {text or 'nothing to show'}.")
        return f"{self.y_name} against {self.x_name}. " + " ".join(parts)


def svg(panel: Panel, y_like: Iterable[Panel] = ()) -> str:
    """Return a panel as SVG, or an empty string where it has nothing to show.

    Its vertical axis has room for the panels of `y_like` too: panels side by
    side are compared.
    """
    shown = [point for curve in panel.curves for point in curve.drawable()]
    places = [p.x for p in shown] + [x for curve in panel.curves for x in curve.invalid if x > 0]
    all_curves = [*panel.curves, *(curve for other in y_like for curve in other.curves)]
    heights = [y for curve in all_curves for p in curve.drawable() for y in _extent(p)]
    if not shown:
        return ""
    labelled = [curve for curve in panel.curves if curve.drawable()]
    right = 12 + _CHARACTER * max(len(curve.name) for curve in labelled)
    x = LogAxis.around(places, _LEFT, WIDTH - right)
    y = LogAxis.around(heights, HEIGHT - _BOTTOM, _TOP)
    title, about = f"{panel.identity}-title", f"{panel.identity}-desc"
    return "\n".join(
        [
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{title}" aria-describedby="{about}">',
            f'<title id="{title}">{escape(panel.title)}</title>',
            f'<desc id="{about}">{escape(panel.description())}</desc>',
            *_axes(panel, x, y, places),
            *(part for curve in panel.curves for part in _curve(panel, curve, x, y)),
            *_names(labelled, x, y),
            "</svg>",
        ]
    )


def escape(text: str) -> str:
    """Return text as it may stand in an element or in a quoted attribute."""
    return text.translate(_ESCAPES)  # the library's `html` takes 2 ms to import


def _extent(point: Point) -> Sequence[float]:
    return [value for value in (point.y, point.least, point.most) if value is not None]


def _text(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _word(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="{kind}" d="M{x1} {y1}L{x2} {y2}"/>'


def _axes(panel: Panel, x: LogAxis, y: LogAxis, places: Sequence[float]) -> Iterator[str]:
    """Yield grid, ticks and names. Interfaces are ticked where they were measured."""
    for value in y.ticks(_MOST_TICKS):
        at = y.place(value)
        yield _line("grid", x.start, at, x.end, at)
        yield _word("y tick", _LEFT - 6, at + 4, tick_text(value))
    yield _line("axis", x.start, y.start, x.end, y.start)
    for value in sorted(set(places)):
        yield _line("axis", x.place(value), y.start, x.place(value), y.start + 4)
    for value in x.spread(places, gap=_CHARACTER * 5.5):
        yield _word("x tick", x.place(value), y.start + 17, tick_text(value))
    yield _word("x name", round((x.start + x.end) / 2, 1), HEIGHT - 8, panel.x_name)
    yield _word("y name", 4, 14, panel.y_name)
    if panel.label:
        yield _word("label", x.end, 14, panel.label)


def _curve(panel: Panel, curve: Curve, x: LogAxis, y: LogAxis) -> Iterator[str]:
    points = [(x.place(p.x), y.place(p.y), p) for p in curve.drawable()]
    kind = " ".join(filter(None, ("curve", curve.tone, curve.dash, "ref" * curve.is_reference)))
    yield f'<g class="{escape(kind)}">'
    if len(points) > 1:
        yield '<path class="run" d="M' + "L".join(f"{a} {b}" for a, b, _ in points) + '"/>'
    for across, up, point in points:
        if point.least is not None and point.most is not None and point.least < point.most:
            yield _line("range", across, y.place(point.least), across, y.place(point.most))
        words = f"{curve.name}, {_text(point.x)} {panel.x_name}: {_text(point.y)}{panel.unit}"
        yield _mark(curve.marker, across, up, words)
    for value in curve.invalid:
        if value > 0:
            words = f"{curve.name}, {_text(value)} {panel.x_name}: not valid"
            yield _mark("cross", x.place(value), y.start - 6, words)
    yield "</g>"


def _mark(shape: str, x: float, y: float, words: str) -> str:
    place = f'class="mark {shape}" transform="translate({x} {y})"'
    return f'<path {place} d="{_MARKERS[shape]}"><title>{escape(words)}</title></path>'


def _names(curves: Sequence[Curve], x: LogAxis, y: LogAxis) -> Iterator[str]:
    """Yield each curve's name beside its end, with a hair line where it had to move."""
    ends = [curve.drawable()[-1] for curve in curves]
    wanted = [y.place(end.y) for end in ends]
    for curve, end, want, at in zip(
        curves, ends, wanted, apart(wanted, _LABEL_GAP, _TOP, y.start), strict=True
    ):
        kind = escape(f"name {curve.tone}{' ref' if curve.is_reference else ''}")
        near = round(x.place(end.x) + 6, 1)
        left = round(x.end + 4, 1)
        if abs(at - want) > 2 or left - near > 12:
            yield f'<path class="leader {escape(curve.tone)}" d="M{near} {want}L{left - 2} {at}"/>'
        yield _word(kind, left, round(at + 4, 1), curve.name)
