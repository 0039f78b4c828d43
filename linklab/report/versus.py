"""A comparison as a person reads it: a table, and a sentence for a review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.numbers import amount_text, digits_text
from linklab.report.compare import kernel_rows, together
from linklab.report.layout import plain_table
from linklab.report.tables import metric_title
from linklab.results.comparison import Comparison, Effect, Pair, Rule, compare, values_of
from linklab.results.figures import seconds_are, timed_by
from linklab.results.model import Run
from linklab.results.shape import Cell, Metric, Shape

_STYLE = {
    Effect.WORSE: "red",
    Effect.BETTER: "green",
    Effect.DIFFERENT: "yellow",
    Effect.SAME: "",
    Effect.INCONCLUSIVE: "yellow",
}


@dataclass(frozen=True)
class Row:
    """One comparison of the table. `kernel` is empty where A and B are the kernels."""

    cell: Cell
    comparison: Comparison
    kernel: str = ""


@dataclass(frozen=True)
class Versus:
    """Two subjects and what is known of them in a metric.

    `seconds` says what the seconds are that were compared; `setting` how they
    were measured, in words for a sentence.
    """

    a: str
    b: str
    rows: Sequence[Row]
    threshold: float
    seconds: str
    setting: str
    shape: Shape
    metric: Metric

    def place(self, row: Row) -> str:
        """Return where a row was measured, in words."""
        text = self.shape.in_words(row.cell)
        return f"{text}, kernel {row.kernel}" if row.kernel else text

    def sentence(self) -> str:
        """Return what to quote: what B is, by how much, how sure, and where it was measured."""
        if not self.rows:
            return f"Nothing was measured of both {self.a} and {self.b}."
        if len(self.rows) == 1:
            return f"{self._one(self.rows[0])} ({self.setting})."
        return f"{self._several()} ({self.setting})."

    def summary(self) -> str:
        """Return what B is, in a few words."""
        if len(self.rows) == 1:
            (row,) = self.rows
            said = f"{row.comparison.verdict.word(self.metric)}, {self._amount(row.comparison)}"
            return f"{said} in {self.shape.in_words(row.cell)}"
        numbers = Counter(row.comparison.verdict for row in self.rows)
        return ", ".join(
            f"{numbers[effect]} {effect.word(self.metric)}" for effect in Effect if numbers[effect]
        )

    def _amount(self, one: Comparison) -> str:
        """Return by how much B is more than A."""
        if one.by_ratio:
            return f"{one.percent[0]:+.1f} %"
        return _signed(one.change, self.metric)

    def _one(self, row: Row) -> str:
        one, place, name = row.comparison, self.place(row), self.metric.short or self.metric.name
        span = span_text(one, self.metric)
        sure = f"95 % interval {span}, p = {p_text(one.p_value)}, {one.blocks} blocks"
        takes = self.metric.is_time
        match one.verdict:
            case Effect.WORSE | Effect.BETTER | Effect.DIFFERENT:
                verb = "takes" if takes else "has"
                than = f"{verb} {change_text(one, self.metric)} than {self.a} in {place}"
                return f"{self.b} {than}: {sure}"
            case Effect.SAME:
                what = "takes as long as" if takes else f"has the same {name} as"
                return f"{self.b} {what} {self.a} in {place}{self._within(', ')}: {sure}"
            case Effect.INCONCLUSIVE:
                what = "takes longer than" if takes else f"has more or less {name} than"
                open_ = f"Whether {self.b} {what} {self.a} in {place} is not known"
                return f"{open_}: {sure}; {more_text(one)}"

    def _several(self) -> str:
        found: dict[Effect, list[Row]] = {effect: [] for effect in Effect}
        for row in self.rows:
            found[row.comparison.verdict].append(row)
        parts = [
            f"{effect.word(self.metric)} in {'; '.join(map(self._how_much, found[effect]))}"
            for effect in (Effect.WORSE, Effect.BETTER, Effect.DIFFERENT)
            if found[effect]
        ]
        if same := found[Effect.SAME]:
            parts.append(f"the same{self._within(' ')} in {len(same)}")
        if unsettled := found[Effect.INCONCLUSIVE]:
            parts.append(f"inconclusive in {len(unsettled)}")
        return f"{self.b} against {self.a} in {len(self.rows)} comparisons: {', '.join(parts)}"

    def _how_much(self, row: Row) -> str:
        one = row.comparison
        span = span_text(one, self.metric)
        return f"{self.place(row)} ({change_text(one, self.metric)}, 95 % interval {span})"

    def _within(self, before: str) -> str:
        """Return the largest change that does not matter; nothing where any one does."""
        if not self.metric.zero:
            return f"{before}within {100 * self.threshold:g} %"
        matters = self.metric.matters
        return f"{before}within {amount_text(matters, self.metric.unit)}" if matters else ""


def versus_of(run: Run) -> Versus:
    """Return the comparison that a stored run holds."""
    about, shape, plan = run.about, run.shape, run.plan
    stored = about["comparison"]
    metric = shape.metric_named(stored.get("metric") or shape.metric.name)
    rows = [Row(shape.cell_in(entry), Comparison.from_json(entry)) for entry in stored["results"]]
    trials = "1 trial" if plan["trials"] == 1 else f"{plan['trials']} trials"
    setting = f"{timed_by(about)}, {about['boot']} boot, {trials} in each guest"
    return Versus(
        stored["a"], stored["b"], rows, stored["threshold"], seconds_are(about), setting, shape,
        metric,
    )  # fmt: skip


def versus_of_runs(
    one: tuple[Path, Run], other: tuple[Path, Run], rule: Rule, metric: Metric | None = None
) -> Versus:
    """Return what two stored runs say of each other, kernel by kernel and cell by cell.

    In their first metric unless another is named. Their trials were not taken
    side by side, so what changed on the host between the runs counts as an
    effect. Raises `UsageError` where they must not be compared.
    """
    runs = together([one, other])
    shape = one[1].shape
    metric = metric or shape.metric
    values = [values_of(stored.run.samples, metric) for stored in runs]
    pairs: dict[tuple[str, Cell], Pair] = {}
    for row in kernel_rows(runs):
        title = " / ".join(dict.fromkeys(name for name in row.names if name))
        for cell in sorted(values[0].keys() & values[1].keys()):
            a, b = (
                list(found[cell].get(name or "", {}).values())
                for found, name in zip(values, row.names, strict=True)
            )
            if min(len(a), len(b)) >= 2:
                pairs[title, cell] = Pair(a, b, paired=False, metric=metric)
    found = compare(pairs, rule)
    several = len({title for title, _ in pairs}) > 1
    rows = [Row(cell, c, title if several else "") for (title, cell), c in found.items()]
    about = one[1].about
    names = [stored.name for stored in runs]
    setting = f"{timed_by(about)}, two runs at different times"
    return Versus(
        names[0], names[1], rows, rule.threshold, seconds_are(about), setting, shape, metric
    )


def render(versus: Versus) -> Group:
    """Return the heading, the table and the sentence."""
    parts: list[RenderableType] = [
        Text(versus.seconds, style="bold"),
        Text(f"A: {versus.a}\nB: {versus.b}\n"),
    ]
    if versus.rows:
        parts += [_table(versus), Text(), *_notes(versus)]
    return Group(*parts, Text(versus.sentence()))


def _table(versus: Versus) -> RenderableType:
    numbers = sorted({row.comparison.blocks for row in versus.rows})
    many = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    titled = any(row.kernel for row in versus.rows)
    title = metric_title(versus.metric)
    table = plain_table(f"{title}, medians of {many} blocks")
    for name in ("", *(["kernel"] * titled)):
        table.add_column(name, overflow="fold")
    effect = "B - A" if versus.metric.zero else "B / A"
    for name in ("A", "B", f"{effect} [95 % interval]", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(numbers) > 1:
        table.add_column("blocks", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in versus.rows:
        one = row.comparison
        table.add_row(
            versus.shape.in_words(row.cell),
            *([Text(row.kernel)] * titled),
            *(_median_text(value, versus.metric) for value in (one.median_a, one.median_b)),
            _effect_text(one, versus.metric),
            p_text(one.p_value),
            *([str(one.blocks)] * (len(numbers) > 1)),
            Text(one.verdict.word(versus.metric), style=_STYLE[one.verdict]),
        )
    return table


def _notes(versus: Versus) -> Iterator[RenderableType]:
    """Yield what would settle what is not settled; of a single one the sentence says it."""
    unsettled = [row for row in versus.rows if not row.comparison.conclusive]
    if len(versus.rows) > 1 and unsettled:
        for row in unsettled:
            yield Text(f"{versus.place(row)}: {more_text(row.comparison)}")
        yield Text()


def _median_text(value: float, metric: Metric) -> str:
    """Return a median for a column: of a time with the unit that suits it, else the title has it.

    The columns that say what was compared need the room.
    """
    return amount_text(value, metric.unit) if metric.is_time else digits_text(value)


def _effect_text(one: Comparison, metric: Metric) -> str:
    if one.by_ratio:
        return f"{one.change:.3f} [{one.low:.3f}, {one.high:.3f}]"
    low, high = (amount_text(value, metric.unit) for value in (one.low, one.high))
    return f"{_signed(one.change, metric)} [{low}, {high}]"


def _signed(value: float, metric: Metric) -> str:
    return f"{'+' if value > 0 else ''}{amount_text(value, metric.unit)}"


def more_text(one: Comparison) -> str:
    """Return how many more blocks would settle it."""
    if one.more_blocks_needed is None:
        return "the effect is too near the threshold to be settled"
    return f"about {one.more_blocks_needed} more blocks would settle it"


def change_text(one: Comparison, metric: Metric) -> str:
    """Return a change in words: 9.8 % longer, 12 % less time, 3 % less goodput."""
    is_more = one.change >= (1 if one.by_ratio else 0)
    amount = amount_text(abs(one.change), metric.unit)
    if one.by_ratio:
        amount = f"{abs(one.percent[0]):.1f} %"
    if metric.is_time:
        return f"{amount} longer" if is_more else f"{amount} less time"
    return f"{amount} {'more' if is_more else 'less'} {metric.short or metric.name}"


def p_text(p_value: float) -> str:
    """Return a p value as it is printed; one that resampling cannot tell from 0 as a bound."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def span_text(one: Comparison, metric: Metric) -> str:
    """Return an interval as changes, in per cent where they are ratios."""
    if one.by_ratio:
        return f"{one.percent[1]:+.1f} to {one.percent[2]:+.1f} %"
    return f"{_signed(one.low, metric)} to {_signed(one.high, metric)}"
