"""Two stored profiles subtracted: on the terminal, and as a differential flame graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.profile.flamegraph import difference_graph
from linklab.profile.store import (
    SURE,
    Change,
    Difference,
    StoredProfile,
    Unit,
    gone,
    subtract,
    together,
)
from linklab.results.figures import seconds_are
from linklab.results.other import work_of

ROWS = 25
_SIZES = {
    Unit.SECONDS: ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    Unit.INSTRUCTIONS: (
        (1e9, "billion instructions"),
        (1e6, "million instructions"),
        (1e3, "thousand instructions"),
        (1.0, "instructions"),
    ),
}
_WHAT = {
    Unit.SECONDS: "CPU time of one repetition",
    Unit.INSTRUCTIONS: "instructions of one repetition",
}
_DIGITS = 4  # of the whole
_STYLE = {True: "red", False: "green"}  # by whether it costs more


@dataclass(frozen=True)
class _Scale:
    """How costs are written: in a unit that suits the whole, all with as many decimals."""

    size: float
    name: str
    decimals: int

    def text(self, cost: float) -> str:
        return f"{cost / self.size:.{self.decimals}f}"

    def signed(self, cost: float) -> str:
        return f"{cost / self.size:+.{self.decimals}f}"

    def words(self, change: Change) -> str:
        """Return a change as the graph says it."""
        said = f"A {self.text(change.a)}, B {self.text(change.b)}, {self.signed(change.difference)}"
        return f"{said} ± {self.text(change.error)} {self.name}"


def _scale_of(difference: Difference) -> _Scale:
    whole = max(difference.whole.a, difference.whole.b)
    sizes = _SIZES[difference.unit]
    size, name = next((each for each in sizes if whole >= each[0]), sizes[-1])
    digits = floor(log10(whole / size)) if whole else 0
    return _Scale(size, name, max(0, _DIGITS - 1 - digits))


def render(a: StoredProfile, b: StoredProfile, rows: int = ROWS) -> Group:
    """Return everything that the difference of two profiles has to say on a terminal."""
    difference = subtract(a, b)
    scale = _scale_of(difference)
    parts: list[RenderableType] = [
        Text(seconds_are(a.about), style="bold"),
        Text(f"{_title(a.about, b.about)}\n"),
        *(Text(line) for line in _lines(difference, scale, a.about, b.about)),
        Text(),
        _table(difference, scale, rows),
        *(Text(line) for line in _unsampled(difference, scale, a.about, b.about)),
    ]
    return Group(*parts)


def graph_of(a: StoredProfile, b: StoredProfile) -> str:
    """Return the differential flame graph of two profiles as SVG."""
    difference = subtract(a, b)
    scale = _scale_of(difference)
    lost = scale.text(gone(a.stacks, b.stacks) * difference.rate.a)
    notes = (
        f"{seconds_are(a.about)}; {a.about['event']['name']}; {_WHAT[difference.unit]}",
        f"in all {scale.words(difference.whole)}",
        "boxes are as wide as their part of B, coloured by what the function itself costs more "
        f"or less than on A; {lost} {scale.name} of A are in calls that B never makes",
    )
    words = _title(a.about, b.about)
    return difference_graph(a.stacks, b.stacks, difference.rate, scale.words, words, notes)


def _title(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    first, second = (f"{each['kernel']['name']} {each['kernel']['release']}" for each in (a, b))
    work = work_of(a)
    return f"Difference in {work}: A is {first}, B is {second}"


def _lines(
    difference: Difference, scale: _Scale, a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[str]:
    yield f"{_WHAT[difference.unit]}, below in {scale.name}"
    for name, about in (("A", a), ("B", b)):
        rule = about["rule"]
        yield (
            f"{name}: {about['samples']['work']} samples of the work in {len(about['sampled'])} "
            f"repetitions; {'enough' if rule['met'] else 'NOT ENOUGH when the time was over'}: "
            f"{rule['text']}"
        )
    yield (
        f"±: {SURE:.0f} standard deviations of what chance gives in counting samples; a function "
        "is different beyond that only"
    )


def _table(difference: Difference, scale: _Scale, rows: int) -> Table:
    """Return the functions that are different, all others in one row, and the whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("A", "B", "B - A", "±", "of A"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("space", no_wrap=True)
    table.add_column("symbol, by itself", overflow="fold")
    different = [each for each in difference.functions if each.change.is_different]
    shown = different[:rows]
    others = [each.change for each in difference.functions if each not in shown]
    for each in shown:
        style = _STYLE[each.change.difference > 0]
        cells = _cells(each.change, difference.whole, scale)
        table.add_row(*cells, each.space, Text(each.symbol), style=style)
    left = len(different) - len(shown)
    more = f", {left} of them different" if left else ""
    said = f"the {len(others)} others together{more}"
    table.add_row(*_cells(together(others), difference.whole, scale), "", Text(said))
    table.add_section()
    table.add_row(*_cells(difference.whole, difference.whole, scale), "", Text("in all"))
    return table


def _cells(change: Change, whole: Change, scale: _Scale) -> tuple[str, ...]:
    part = f"{100 * change.difference / whole.a:+.1f} %" if whole.a else "-"
    costs = (scale.text(change.a), scale.text(change.b), scale.signed(change.difference))
    return (*costs, scale.text(change.error), part)


def _unsampled(
    difference: Difference, scale: _Scale, a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[str]:
    if difference.unsampled is None:
        return
    first, second = difference.unsampled
    numbers = " and ".join(str(len(about["unsampled"])) for about in (a, b))
    yield (
        f"without samples, from start to end: A {scale.text(first)}, B {scale.text(second)}, "
        f"{scale.signed(second - first)} {scale.name} ({100 * (second / first - 1):+.1f} %), "
        f"medians of {numbers} repetitions"
    )
