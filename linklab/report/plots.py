"""Plots as inline SVG: curves or bars on logarithmic or linear axes.

Colours, fonts and line widths are in `templates/plot.css`, so that a plot
follows the page into the dark and onto paper; here are the places alone. No
curve is told by its colour alone: each has a marker of its own shape and its
name beside its end. Matplotlib 3.11 writes colours into the paths and gives no
part a name to be read out; docs/architecture.md has what else it would cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

WIDTH, HEIGHT = 350, 300  # pixels, about what a telephone is wide: text keeps its size there
_LEFT, _TOP, _BOTTOM = 42, 30, 44
_CHARACTER = 6.1  # pixels, of a label's text
_HEAD_LINE = 15
_LABEL_GAP = 13  # pixels between two labels' lines
_MOST_TICKS = 7
_BAR = 14  # pixels, its width (plot.css)
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})

_MARKERS = {
    "circle": "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "square": "M-3-3h6v6h-6z",
    "up": "M0-4l3.8 6.6h-7.6z",
    "diamond": "M0-4.3l4.1 4.3l-4.1 4.3l-4.1-4.3z",
    "down": "M0 4l3.8-6.6h-7.6z",
    "cross": "M-3.2-3.2l6.4 6.4M3.2-3.2l-6.4 6.4",
}
_MARGIN = 0.06  # of the axis' length, left free at each end
_LEAST_DECADES = 0.3  # a single value, too, stands on an axis that has a length
_STEPS: tuple[tuple[float, ...], ...] = ((1, 2, 5), (1, 3), (1,))
_DECIMALS = 9


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` drawn from `start` to `end`, in pixels.

    On a logarithmic one all values are above 0.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = True

    def place(self, value: float) -> float:
        """Return where a value stands, rounded to what a screen can show."""
        share = (value - self.low) / (self.high - self.low)
        if self.is_log:
            share = log10(value / self.low) / log10(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, *, log: bool = True
    ) -> Scale:
        """Return an axis on which all of `values` have room; a linear one begins at 0.

        Raises `ValueError` when there are none, or on a logarithmic one a value
        that is not above 0.
        """
        known = sorted(values)
        if not known or (log and known[0] <= 0):
            raise ValueError("an axis needs values, a logarithmic one values above 0")
        if not log:
            low, high = min(0.0, known[0]), max(0.0, known[-1])
            margin = (high - low or 1.0) * _MARGIN
            return cls(low - margin * (low < 0), high + margin, start, end, is_log=False)
        low, high = log10(known[0]), log10(known[-1])
        lacking = max(0.0, _LEAST_DECADES - (high - low)) / 2
        low, high = low - lacking, high + lacking
        margin = (high - low) * _MARGIN
        return cls(10 ** (low - margin), 10 ** (high + margin), start, end)

    def ticks(self, most: int) -> list[float]:
        """Return round values on the axis: as many as fit."""
        if not self.is_log:
            length = self.high - self.low
            step = 10.0 ** floor(log10(length / most))
            step *= next(factor for factor in (1, 2, 5, 10) if length / (step * factor) <= most)
            numbers = range(ceil(self.low / step), floor(self.high / step) + 1)
            return [round(number * step, _DECIMALS) for number in numbers]
        exponents = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        found: list[float] = []
        for steps in _STEPS:
            exact = (round(step * 10.0**e, _DECIMALS) for e in exponents for step in steps)
            found = [value for value in exact if self.low <= value <= self.high]
            if len(found) <= most:
                return found
        return found[:: -(-len(found) // most)]

    def spread(self, values: Sequence[float], gap: float) -> list[float]:
        """Return those of `values` whose labels, `gap` pixels apart, do not touch.

        The last one, where curves end, always stays.
        """
        kept: list[float] = []
        for value in sorted(set(values), reverse=True):
            if not kept or abs(self.place(kept[-1]) - self.place(value)) >= gap:
                kept.append(value)
        return kept[::-1]


@dataclass(frozen=True)
class Point:
    """A point of a curve: its value, and the interval around it where that is known."""

    x: float
    y: float
    least: float | None = None
    most: float | None = None

    @property
    def extent(self) -> list[float]:
        """Its value, and the ends of the interval around it."""
        return [value for value in (self.y, self.least, self.most) if value is not None]


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
        """Return the points from left to right."""
        return sorted(self.points, key=lambda point: point.x)


@dataclass(frozen=True)
class Panel:
    """A plot: what it shows, its axes' names and its curves.

    `unit` stands after a value, `label` over the plot where several stand side
    by side. Values that are not above 0 make an axis linear, as does `log` of
    the horizontal one. With `names` the places are those words, from 0, and
    the curves are bars; `steps` keep a value until the next point, and a `smooth` curve is a
    cubic spline through its points, as gnuplot's `smooth csplines`. `is_course` is
    of so many points, over time, that they are a line without marks, and what is around them
    a band. `head` are lines above it.
    """

    identity: str
    title: str
    x_name: str
    y_name: str
    curves: Sequence[Curve]
    unit: str = ""
    label: str = ""
    log: bool = True
    names: Sequence[str] = ()
    steps: bool = False
    smooth: bool = False
    is_course: bool = False
    head: Sequence[str] = ()
    width: int = WIDTH
    height: int = HEIGHT

    def place(self, x: float) -> str:
        """Return a place on the horizontal axis in words."""
        return self.names[round(x)] if self.names else f"{_value_text(x)} {self.x_name}"

    def description(self) -> str:
        """Return in words what the curves show, for who does not see them."""
        parts = [f"{self.y_name} against {self.x_name}."]
        for curve in self.curves:
            points = curve.drawable()
            text = ", ".join(f"{_value_text(p.y)}{self.unit} at {self._at(p.x)}" for p in points)
            if self.is_course and points:
                least, most = (_value_text(of(p.y for p in points)) for of in (min, max))
                text = f"{least} to {most}{self.unit}"
                if band := [y for p in points if p.least is not None for y in p.extent]:
                    text += f", all from {_value_text(min(band))} to {_value_text(max(band))}"
            wrong = ", ".join(map(self._at, curve.invalid))
            said = "; ".join(filter(None, (text, wrong and f"not valid at {wrong}")))
            parts.append(f"{curve.name}: {said or 'nothing to show'}.")
        return " ".join(parts)

    def _at(self, x: float) -> str:
        return self.names[round(x)] if self.names else _value_text(x)


def svg(panel: Panel, y_like: Iterable[Panel] = (), x_like: Iterable[Panel] = ()) -> str:
    """Return a panel as SVG, or an empty string where it has nothing to show.

    Its vertical axis has room for the panels of `y_like` too, and its horizontal one for
    those of `x_like`: panels side by side are compared.
    """
    shown = [point for curve in panel.curves for point in curve.drawable()]
    own = _places(panel)
    places = [*own, *(place for other in x_like for place in _places(other))]
    all_curves = [*panel.curves, *(curve for other in y_like for curve in other.curves)]
    heights = [y for curve in all_curves for point in curve.points for y in point.extent]
    if not shown:
        return ""
    labelled = [curve for curve in panel.curves if curve.drawable()]
    beside = [c for other in x_like for c in other.curves if c.points]
    right = 12 + _CHARACTER * max(len(curve.name) for curve in (*labelled, *beside))
    x = _across(panel, places, panel.width - right)
    log = min(heights) > 0 and not (panel.names or panel.is_course)
    y = Scale.around(heights, panel.height - _BOTTOM, _TOP, log=log)
    above = _HEAD_LINE * len(panel.head)
    head = [_word("head", 4, 12 + _HEAD_LINE * line, text) for line, text in enumerate(panel.head)]
    title, about = f"{panel.identity}-title", f"{panel.identity}-desc"
    parts = [
        f'<svg class="plot" viewBox="0 0 {panel.width} {panel.height + above}" role="img" '
        f'aria-labelledby="{title}" aria-describedby="{about}">',
        f'<title id="{title}">{escape(panel.title)}</title>',
        f'<desc id="{about}">{escape(panel.description())}</desc>',
        *head,
        *([f'<g transform="translate(0 {above})">'] if above else []),
        *_axes(panel, x, y, own),
        *(part for number in range(len(panel.curves)) for part in _curve(panel, number, x, y)),
        *_names(labelled, x, y),
        *(["</g>"] if above else []),
        "</svg>",
    ]
    return "\n".join(parts)


def escape(text: str) -> str:
    """Return text as it may stand in an element or in a quoted attribute."""
    return text.translate(_ESCAPES)  # the library's `html` takes 2 ms to import


def _places(panel: Panel) -> list[float]:
    """Return where a panel has something to show."""
    found = [point.x for curve in panel.curves for point in curve.drawable()]
    return found + [x for curve in panel.curves for x in curve.invalid]


def _across(panel: Panel, places: Sequence[float], end: float) -> Scale:
    if panel.names:
        return Scale(-0.5, len(panel.names) - 0.5, _LEFT, end, is_log=False)
    if panel.log and min(places) > 0 and not panel.is_course:
        return Scale.around(places, _LEFT, end)
    low, high = min(places), max(places)
    margin = (high - low or 1.0) * _MARGIN
    return Scale(low - margin, high + margin, _LEFT, end, is_log=False)


def _value_text(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _word(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="{kind}" d="M{x1} {y1}L{x2} {y2}"/>'


def _axes(panel: Panel, x: Scale, y: Scale, places: Sequence[float]) -> Iterator[str]:
    """Yield grid, ticks and names. Places are ticked where something was measured."""
    for value in y.ticks(_MOST_TICKS):
        at = y.place(value)
        yield _line("grid", x.start, at, x.end, at)
        yield _word("y tick", _LEFT - 6, at + 4, tick_text(value))
    yield _line("axis", x.start, y.start, x.end, y.start)
    if panel.is_course:
        places = x.ticks(_MOST_TICKS)
    places = range(len(panel.names)) if panel.names else sorted(set(places))
    longest = max(len(tick_text(value)) for value in places)
    gap = _CHARACTER * min(5.5, longest + 1.5)
    named = places if panel.names else x.spread(places, gap=gap)
    for value in places:
        yield _line("axis", x.place(value), y.start, x.place(value), y.start + 4)
    for value in named:
        text = panel.names[int(value)] if panel.names else tick_text(value)
        yield _word("x tick", x.place(value), y.start + 17, text)
    yield _word("x name", round((x.start + x.end) / 2, 1), panel.height - 8, panel.x_name)
    yield _word("y name", 4, 14, panel.y_name)
    if panel.label:
        yield _word("label", x.end, 14, panel.label)


def _curve(panel: Panel, number: int, x: Scale, y: Scale) -> Iterator[str]:
    curve = panel.curves[number]
    # Bars of several curves stand beside each other.
    aside = _BAR * (number - (len(panel.curves) - 1) / 2) if panel.names else 0.0
    points = [(round(x.place(p.x) + aside, 1), y.place(p.y), p) for p in curve.drawable()]
    kind = " ".join(filter(None, ("curve", curve.tone, curve.dash, "ref" * curve.is_reference)))
    yield f'<g class="{escape(kind)}">'
    if panel.names:
        for across, up, _ in points:
            yield _line("bar", across, y.place(0), across, up)
    elif len(points) > 1:
        if panel.is_course and (band := _band(points, y)):
            yield f'<path class="band" d="{band}"/>'
        joint = "H{0}V{1}" if panel.steps else "L{0} {1}"
        path = "".join(joint.format(a, b) for a, b, _ in points[1:])
        if panel.smooth and len({across for across, _, _ in points}) == len(points):
            path = _spline([(across, up) for across, up, _ in points])
        yield f'<path class="run" d="M{points[0][0]} {points[0][1]}{path}"/>'
    for across, up, point in () if panel.is_course else points:
        if point.least is not None and point.most is not None and point.least < point.most:
            yield _line("range", across, y.place(point.least), across, y.place(point.most))
        words = f"{curve.name}, {panel.place(point.x)}: {_value_text(point.y)}{panel.unit}"
        yield _mark(curve.marker, across, up, words)
    for value in curve.invalid:
        words = f"{curve.name}, {panel.place(value)}: not valid"
        yield _mark("cross", x.place(value), y.start - 6, words)
    yield "</g>"


def _band(points: Sequence[tuple[float, float, Point]], y: Scale) -> str:
    """Return the outline of what is around points, nothing where there is nothing."""
    over = [f"{x} {y.place(p.most)}" for x, _, p in points if p.most is not None]
    under = [f"{x} {y.place(p.least)}" for x, _, p in points if p.least is not None]
    return f"M{'L'.join(over + under[::-1])}Z" if over else ""


def _spline(points: Sequence[tuple[float, float]]) -> str:
    """Return the natural cubic spline through points, from left to right, as Bezier curves.

    Its second derivatives are 0 at both ends, and continuous: a tridiagonal system, solved
    from the last row up.
    """
    joints = list(pairwise(points))
    steps = [b[0] - a[0] for a, b in joints]
    slopes = [(b[1] - a[1]) / step for (a, b), step in zip(joints, steps, strict=True)]
    ratios, rests = [0.0], [0.0]
    for (h, after), (slope, next_slope) in zip(pairwise(steps), pairwise(slopes), strict=True):
        pivot = 2 * (h + after) - h * ratios[-1]
        rests.append((6 * (next_slope - slope) - h * rests[-1]) / pivot)
        ratios.append(after / pivot)
    bends = [0.0]
    for ratio, rest in zip(reversed(ratios), reversed(rests), strict=True):
        bends.append(rest - ratio * bends[-1])
    bends.reverse()
    path = ""
    for (a, b), h, slope, (bend, next_bend) in zip(
        joints, steps, slopes, pairwise(bends), strict=True
    ):
        left, right = slope - h * (2 * bend + next_bend) / 6, slope + h * (bend + 2 * next_bend) / 6
        places = (a[0] + h / 3, a[1] + left * h / 3, b[0] - h / 3, b[1] - right * h / 3, *b)
        path += "C" + " ".join(f"{round(place, 1)}" for place in places)
    return path


def _mark(shape: str, x: float, y: float, words: str) -> str:
    place = f'class="mark {shape}" transform="translate({x} {y})"'
    return f'<path {place} d="{_MARKERS[shape]}"><title>{escape(words)}</title></path>'


def _names(curves: Sequence[Curve], x: Scale, y: Scale) -> Iterator[str]:
    """Yield each curve's name beside its end, with a hair line where it had to move."""
    ends = [curve.drawable()[-1] for curve in curves]
    wanted = [y.place(end.y) for end in ends]
    places = apart(wanted, _LABEL_GAP, _TOP, y.start)
    for curve, end, want, at in zip(curves, ends, wanted, places, strict=True):
        kind = escape(f"name {curve.tone}{' ref' if curve.is_reference else ''}")
        near, left = round(x.place(end.x) + 6, 1), round(x.end + 4, 1)
        if abs(at - want) > 2 or left - near > 12:
            yield f'<path class="leader {escape(curve.tone)}" d="M{near} {want}L{left - 2} {at}"/>'
        yield _word(kind, left, round(at + 4, 1), curve.name)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near the wanted ones, in their order, at least `gap` apart.

    They stay between `low` and `high` where there is room for them all.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(wanted[index], placed[-1] + gap if placed else low))
    limit = high
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - gap
    if placed and placed[0] < low:  # too many: evenly, from the top
        step = (high - low) / max(1, len(placed) - 1)
        placed = [low + number * step for number in range(len(placed))]
    return [round(placed[order.index(index)], 1) for index in range(len(wanted))]


def tick_text(value: float) -> str:
    """Return a tick's value as people write it: 0.001, 0.5, 20, 2000."""
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
