"""What the page plots: seconds and ratios against interfaces, ours and the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from linklab.report import paper
from linklab.report.compare import Stored, arms_of, kernel_rows
from linklab.report.figures import kernel_title
from linklab.report.plots import Curve, Panel, Point

X_NAME = "interfaces"
_NAME_ROOM = 16  # characters beside a curve's end
_DASHES = ("", "dash2", "dash3", "dash4")
_MARKERS = {
    "group": "circle",
    "process": "square",
    "netlink": "up",
    "batch": "diamond",
    "dump": "down",
}
_TONES = ("tone1", "tone2", "tone3", "tone4", "tone5")
_SHAPES = tuple(_MARKERS.values())


def tone_of(arm: str) -> str:
    """Return an arm's colour, as a CSS class; one that is not known has none."""
    return f"arm-{arm}" if arm in _MARKERS else "arm-other"


def short(name: str) -> str:
    """Return a kernel's title cut to fit beside a curve; of a path its end."""
    title = kernel_title(name)
    return title if len(title) <= _NAME_ROOM else "…" + title[1 - _NAME_ROOM :]


def _named(name: str, stored: Stored) -> str:
    return f"{name} {stored.letter}".strip()


def seconds_panels(runs: Sequence[Stored], operation: str) -> list[Panel]:
    """Return a panel for each kernel: a curve for each arm and run, and the paper's points."""
    panels = []
    for number, kernel in enumerate(kernel_rows(runs)):
        curves = [
            _seconds_curve(stored, run_number, operation, name, arm)
            for arm in arms_of(runs, operation)
            for run_number, (stored, name) in enumerate(zip(runs, kernel.names, strict=True))
            if name
        ]
        if operation == "mtu":
            for name in dict.fromkeys(name for name in kernel.names if name):
                curves += _paper_curves(name, curves)
        panels.append(
            Panel(
                f"seconds-{operation}-{number}",
                f"{operation}, {kernel.title}",
                X_NAME,
                "seconds in the guest",
                [curve for curve in curves if curve.points or curve.invalid],
                " s",
                short(kernel.title),
            )
        )
    return panels


def _seconds_curve(stored: Stored, number: int, operation: str, kernel: str, arm: str) -> Curve:
    points, invalid = [], []
    for count in stored.figures.counts(operation):
        cell = stored.figures.cell(operation, kernel, arm, count)
        if cell.seconds is None:
            invalid += [float(count)] * bool(cell.invalid)
            continue
        ends = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
        points.append(Point(count, cell.seconds, *ends))
    marker, dash = _MARKERS.get(arm, "circle"), _DASHES[number % len(_DASHES)]
    return Curve(_named(arm, stored), tone_of(arm), marker, points, dash, invalid=invalid)


def _paper_rows(kernel: str, beside: Sequence[Curve]) -> list[paper.PaperRow]:
    """Return the paper's rows where our curves are, so that ours fill the plot."""
    ours = [point.x for curve in beside for point in curve.points]
    rows = paper.TABLE_I.get(kernel, ())
    return [row for row in rows if ours and min(ours) <= row.interfaces <= max(ours)]


def _paper_curves(kernel: str, beside: Sequence[Curve]) -> list[Curve]:
    """Return the paper's points for the arms that it has and we show."""
    rows = _paper_rows(kernel, beside)
    group = [Point(row.interfaces, row.group) for row in rows]
    process = [Point(row.interfaces, row.process) for row in rows]
    return [
        Curve(f"{arm} 2011", tone_of(arm), _MARKERS[arm], points, is_reference=True)
        for arm, points in (("group", group), ("process", process))
        if points and any(curve.name.split()[0] == arm for curve in beside)
    ]


def ratio_panel(runs: Sequence[Stored], operation: str) -> Panel:
    """Return how many times faster the group is, a curve for each kernel and run."""
    curves = []
    for number, kernel in enumerate(kernel_rows(runs)):
        tone, marker = _TONES[number % len(_TONES)], _SHAPES[number % len(_SHAPES)]
        for run_number, (stored, name) in enumerate(zip(runs, kernel.names, strict=True)):
            if not name:
                continue
            found = {
                c: stored.figures.ratio(operation, name, c) for c in _counts(stored, operation)
            }
            points = [Point(count, ratio) for count, ratio in found.items() if ratio]
            dash = _DASHES[run_number % len(_DASHES)]
            curves.append(Curve(_named(short(name), stored), tone, marker, points, dash))
        for name in dict.fromkeys(name for name in kernel.names if name):
            if operation == "mtu" and (rows := _paper_rows(name, curves)):
                points = [Point(row.interfaces, row.ratio) for row in rows]
                label = f"{name} 2011"
                curves.append(Curve(label, tone, marker, points, is_reference=True))
    if not any(curve.points for curve in curves if not curve.is_reference):
        curves = []
    title = f"{operation}: how many times faster one request for the group is"
    name = "process / group, seconds"
    shown = [curve for curve in curves if curve.points]
    return Panel(f"ratio-{operation}", title, X_NAME, name, shown, " times")


def _counts(stored: Stored, operation: str) -> list[int]:
    return stored.figures.counts(operation)
