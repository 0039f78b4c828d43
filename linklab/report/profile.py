"""Stored profiles, one or two subtracted: on the terminal, and as a flame graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.profile.flamegraph import difference_graph, flame_graph
from linklab.profile.stacks import Stacks, SymbolShare, symbol_shares
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
from linklab.report.grid import TEXT_WIDTH, plain_table, plain_text
from linklab.results.figures import VIRTUAL, seconds_are
from linklab.results.result_kinds import work_of

_ROWS = 25  # functions that are shown

# One profile


def render(profile: StoredProfile) -> Group:
    """Return everything that a profile has to say on a terminal."""
    about = profile.about
    symbols = [each for each in symbol_shares(profile.stacks)[:_ROWS] if each.own.samples]
    columns = (">self", ">95 % interval", ">with callees", "<space", "symbol")
    return _shown(
        about,
        _title(about),
        [*_lines(about), f"by task: {_tasks(profile.stacks)}"],
        plain_table("", columns, map(_symbol_row, symbols)),
    )


def _shown(
    about: Mapping[str, Any], title: str, lines: Sequence[str], *rest: RenderableType
) -> Group:
    head = (Text(seconds_are(about), style="bold"), Text(f"{title}\n"))
    return Group(*head, *map(Text, lines), Text(), *rest)


def as_text(profile: StoredProfile, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(profile), width)


def graph_of(profile: StoredProfile) -> str:
    """Return a profile's flame graph as SVG."""
    about, samples = profile.about, profile.about["samples"]
    machine = f"{seconds_are(about)}; {about['event']['name']}"
    kernel = 100 * about["shares"]["kernel"]["share"]
    count = f"{samples['work']} samples of the work, {kernel:.1f} % in the kernel"
    return flame_graph(profile.stacks, _title(about), (machine, count))


def _title(about: Mapping[str, Any]) -> str:
    return f"Profile of {work_of(about)}, kernel {_kernel(about)}"


def _kernel(about: Mapping[str, Any]) -> str:
    return f"{about['kernel']['name']} {about['kernel']['release']}"


def _effort(about: Mapping[str, Any]) -> str:
    rule = about["rule"]
    return (
        f"{about['samples']['work']} samples of the work in {len(about['sampled'])} repetitions; "
        f"{'enough' if rule['met'] else 'NOT ENOUGH when the time was over'}: {rule['text']}"
    )


def _lines(about: Mapping[str, Any]) -> Iterator[str]:
    samples, event, shares = about["samples"], about["event"], about["shares"]
    yield _effort(about)
    yield f"sampled by {event['name']}, {event['frequency']} a second and CPU: {event['why']}"
    idle = f"the idle CPU {_part(samples['idle'], samples['total'])}"
    if about.get("clock") == VIRTUAL:
        idle = "none of the idle CPU, which is not sampled"
    sampler = _part(samples["sampler"], samples["total"])
    yield f"left out of {samples['total']} samples: {idle}, perf itself {sampler}"
    yield "of the work: " + ", ".join(f"{k} {_interval(shares[k])}" for k in ("kernel", "user"))
    yield from _by_the_clock(about["sampled"], about["unsampled"])


def _by_the_clock(
    sampled: Sequence[Mapping[str, float]], unsampled: Sequence[Mapping[str, float]]
) -> Iterator[str]:
    """Say what getrusage(2) found, sampled or not, and what sampling cost.

    As far as the scenario's metrics tell that.
    """
    known = set(unsampled[0])
    if {"user_seconds", "system_seconds"} <= known:
        yield (
            f"kernel by getrusage(2): {_kernel_part(sampled)} of the same repetitions, "
            f"{_kernel_part(unsampled)} of those without samples"
        )
    if "seconds" in known:
        middle, without = (median(m["seconds"] for m in each) for each in (sampled, unsampled))
        yield (
            f"one repetition, median: {middle:.3f} s while sampled, {without:.3f} s without "
            f"({100 * (middle / without - 1):+.0f} %)"
        )


def _kernel_part(measures: Sequence[Mapping[str, float]]) -> str:
    user, system = (sum(m[name] for m in measures) for name in ("user_seconds", "system_seconds"))
    return _part(system, user + system)


def _tasks(stacks: Stacks) -> str:
    """Return the tasks that the samples come from, the busiest first."""
    tasks: Counter[str] = Counter()
    for stack, count in stacks.items():
        tasks[stack[0]] += count
    ordered = sorted(tasks, key=lambda task: (-tasks[task], task))
    return ", ".join(f"{task} {_part(tasks[task], tasks.total())}" for task in ordered)


def _part(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _interval(share: Mapping[str, float]) -> str:
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{100 * share['share']:.1f} % ({low:.1f} to {high:.1f})"


def _symbol_row(symbol: SymbolShare) -> list[RenderableType]:
    own = symbol.own
    return [
        f"{100 * own.share:.1f} %",
        f"{100 * own.low:.1f} to {100 * own.high:.1f}",
        f"{100 * symbol.total.share:.1f} %",
        symbol.space,
        Text(symbol.symbol),
    ]


# Two profiles, subtracted

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


@dataclass(frozen=True)
class _Scale:
    """How costs are written: in a unit that suits the whole, all with as many decimals."""

    size: float
    name: str
    decimals: int

    @classmethod
    def of(cls, difference: Difference) -> _Scale:
        whole = max(difference.whole.a, difference.whole.b)
        sizes = _SIZES[difference.unit]
        size, name = next((each for each in sizes if whole >= each[0]), sizes[-1])
        digits = floor(log10(whole / size)) if whole else 0
        return cls(size, name, max(0, _DIGITS - 1 - digits))

    def text(self, cost: float, sign: str = "") -> str:
        return f"{cost / self.size:{sign}.{self.decimals}f}"

    def costs(self, change: Change) -> tuple[str, str, str, str]:
        """Return what A and B cost, the difference, and the error of that."""
        a, b, error = map(self.text, (change.a, change.b, change.error))
        return a, b, self.text(change.difference, "+"), error

    def words(self, change: Change) -> str:
        """Return a change as the graph says it."""
        a, b, more, error = self.costs(change)
        return f"A {a}, B {b}, {more} ± {error} {self.name}"


def render_difference(a: StoredProfile, b: StoredProfile) -> Group:
    """Return everything that the difference of two profiles has to say on a terminal."""
    difference = subtract(a, b)
    scale = _Scale.of(difference)
    lines = [
        f"{_WHAT[difference.unit]}, below in {scale.name}",
        *(f"{name}: {_effort(each.about)}" for name, each in (("A", a), ("B", b))),
        f"±: {SURE:.0f} standard deviations of what chance gives in counting samples; a function "
        "is different beyond that only",
    ]
    unsampled = []
    if difference.unsampled is not None:
        first, second = difference.unsampled
        numbers = " and ".join(str(len(each.about["unsampled"])) for each in (a, b))
        unsampled.append(
            Text(
                f"without samples, from start to end: A {scale.text(first)}, "
                f"B {scale.text(second)}, {scale.text(second - first, '+')} {scale.name} "
                f"({100 * (second / first - 1):+.1f} %), medians of {numbers} repetitions"
            )
        )
    table = _difference_table(difference, scale)
    return _shown(a.about, _difference_title(a, b), lines, table, *unsampled)


def difference_graph_of(a: StoredProfile, b: StoredProfile) -> str:
    """Return the differential flame graph of two profiles as SVG."""
    difference = subtract(a, b)
    scale = _Scale.of(difference)
    lost = scale.text(gone(a.stacks, b.stacks) * difference.rate.a)
    notes = (
        f"{seconds_are(a.about)}; {a.about['event']['name']}; {_WHAT[difference.unit]}",
        f"in all {scale.words(difference.whole)}",
        "boxes are as wide as their part of B, coloured by what the function itself costs more "
        f"or less than on A; {lost} {scale.name} of A are in calls that B never makes",
    )
    title = _difference_title(a, b)
    return difference_graph(a.stacks, b.stacks, difference.rate, scale.words, title, notes)


def _difference_title(a: StoredProfile, b: StoredProfile) -> str:
    first, second = _kernel(a.about), _kernel(b.about)
    return f"Difference in {work_of(a.about)}: A is {first}, B is {second}"


def _difference_table(difference: Difference, scale: _Scale) -> RenderableType:
    """Return the functions that are different, all others in one row, and the whole."""
    whole = difference.whole

    def cells(change: Change, space: str, name: Text) -> list[RenderableType]:
        part = f"{100 * change.difference / whole.a:+.1f} %" if whole.a else "-"
        return [*scale.costs(change), part, space, name]

    different = [each for each in difference.functions if each.change.is_different]
    shown = different[:_ROWS]
    others = [each.change for each in difference.functions if each not in shown]
    columns = (">A", ">B", ">B - A", ">±", ">of A", "<space", "symbol, by itself")
    table = plain_table("", columns)
    for each in shown:
        style = "red" if each.change.difference > 0 else "green"
        table.add_row(*cells(each.change, each.space, Text(each.symbol)), style=style)
    left = len(different) - len(shown)
    more = f", {left} of them different" if left else ""
    rest = Text(f"the {len(others)} others together{more}")
    table.add_row(*cells(together(others), "", rest))
    table.add_section()
    table.add_row(*cells(whole, "", Text("in all")))
    return table
