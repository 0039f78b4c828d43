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
from linklab.report.grid import plain_table
from linklab.report.tables import metric_title
from linklab.results.comparison import Comparison, Effect, Pair, Rule, compare, unit_of, values_of
from linklab.results.figures import seconds_are, timed_by
from linklab.results.model import Run
from linklab.results.shape import Cell, Metric, Shape

_STYLE = {
    Effect.WORSE: "red",
    Effect.BETTER: "green",
    Effect.DIFFERENT: "yellow",
    Effect.MINOR: "yellow",
    Effect.INCONCLUSIVE: "yellow",
}


@dataclass(frozen=True)
class ComparedCell:
    """One comparison of the table. `kernel` is empty where A and B are the kernels."""

    cell: Cell
    comparison: Comparison
    kernel: str = ""


@dataclass(frozen=True)
class Compared:
    """Two subjects and what is known of them in a metric.

    `seconds` says what the seconds are that were compared; `setting` how they
    were measured, in words for a sentence.
    """

    a: str
    b: str
    rows: Sequence[ComparedCell]
    threshold: float
    seconds: str
    setting: str
    shape: Shape
    metric: Metric

    def place(self, row: ComparedCell) -> str:
        """Return where a row was measured, in words."""
        text = self.shape.in_words(row.cell)
        return f"{text}, kernel {row.kernel}" if row.kernel else text

    def sentence(self) -> str:
        """Return what to quote: what B is, by how much, how sure, and where it was measured."""
        if not self.rows:
            return f"Nothing was measured of both {self.a} and {self.b}."
        said = self._one(self.rows[0]) if len(self.rows) == 1 else self._several()
        return f"{said} ({self.setting})."

    def summary(self) -> str:
        """Return what B is, in a few words."""
        if len(self.rows) == 1:
            cell, one = self.rows[0].cell, self.rows[0].comparison
            by = f"{one.percent[0]:+.1f} %" if one.by_ratio else _signed(one.change, self.metric)
            return f"{one.verdict.word(self.metric)}, {by} in {self.shape.in_words(cell)}"
        numbers = Counter(row.comparison.verdict for row in self.rows)
        found = (effect for effect in Effect if numbers[effect])
        return ", ".join(f"{numbers[effect]} {effect.word(self.metric)}" for effect in found)

    def _one(self, row: ComparedCell) -> str:
        one, place, name = row.comparison, self.place(row), self.metric.short or self.metric.name
        interval = "no 95 % interval of so few"
        if one.bounded:
            interval = f"95 % interval {span_text(one, self.metric)}"
        sure = f"{interval}, p = {p_text(one.p_value)}, {one.blocks} blocks"
        takes = self.metric.is_time
        match one.verdict:
            case Effect.SAME:
                what = "takes as long as" if takes else f"has the same {name} as"
                return f"{self.b} {what} {self.a} in {place}{self._within(', ')}: {sure}"
            case Effect.INCONCLUSIVE:
                what = "takes longer than" if takes else f"has more or less {name} than"
                open_ = f"Whether {self.b} {what} {self.a} in {place} is not known"
                return f"{open_}: {sure}; {more_text(one)}"
            case _:
                change = f"{'takes' if takes else 'has'} {change_text(one, self.metric)}"
                less = ""
                if one.verdict is Effect.MINOR:
                    less = f", as it seems less than the {self._least} that matter"
                return f"{self.b} {change} than {self.a} in {place}{less}: {sure}"

    def _several(self) -> str:
        found: dict[Effect, list[ComparedCell]] = {effect: [] for effect in Effect}
        for row in self.rows:
            found[row.comparison.verdict].append(row)
        parts = [
            f"{effect.word(self.metric)} in {'; '.join(map(self._how_much, found[effect]))}"
            for effect in (Effect.WORSE, Effect.BETTER, Effect.DIFFERENT, Effect.MINOR)
            if found[effect]
        ]
        if same := found[Effect.SAME]:
            parts.append(f"the same{self._within(' ')} in {len(same)}")
        if unsettled := found[Effect.INCONCLUSIVE]:
            parts.append(f"inconclusive in {len(unsettled)}")
        return f"{self.b} against {self.a} in {len(self.rows)} comparisons: {', '.join(parts)}"

    def _how_much(self, row: ComparedCell) -> str:
        one = row.comparison
        span = span_text(one, self.metric)
        return f"{self.place(row)} ({change_text(one, self.metric)}, 95 % interval {span})"

    def _within(self, before: str) -> str:
        """Return the largest change that does not matter; nothing where any one does."""
        return f"{before}within {self._least}" if self._least else ""

    @property
    def _least(self) -> str:
        """The smallest change that matters; nothing where any one does."""
        if not self.metric.zero:
            return f"{100 * self.threshold:g} %"
        matters = self.metric.matters
        return amount_text(matters, self.metric.unit) if matters else ""


def stored_comparison(run: Run) -> Compared:
    """Return the comparison that a stored run holds."""
    about, shape, stored = run.about, run.shape, run.about["comparison"]
    metric = shape.metric_named(stored.get("metric") or shape.metric.name)
    rows = [
        ComparedCell(shape.cell_in(entry), Comparison.from_json(entry))
        for entry in stored["results"]
    ]
    boots = {sample.saved for sample in run.samples if sample.saved}
    spread = f" from {len(boots)} saved guests of each" if boots else ""
    setting = f"{timed_by(about)}, {about['boot']} boot{spread}, {trials_text(run.plan['trials'])}"
    names, threshold = (stored["a"], stored["b"]), stored["threshold"]
    return Compared(*names, rows, threshold, seconds_are(about), setting, shape, metric)


def trials_text(trials: int) -> str:
    """Return how many trials each guest was for, in words."""
    return f"{trials} trial{'s' if trials != 1 else ''} in each guest"


def comparison_of_runs(
    one: tuple[Path, Run], other: tuple[Path, Run], rule: Rule, metric: Metric | None = None
) -> Compared:
    """Return what two stored runs say of each other, kernel by kernel and cell by cell.

    In their first metric unless another is named. Their trials were not taken
    side by side, so what changed on the host between the runs counts as an
    effect. Raises `UsageError` where they must not be compared.
    """
    runs = together([one, other])
    about, shape = one[1].about, one[1].shape
    metric = metric or shape.metric
    values = [values_of(each.run.samples, metric, unit_of(each.run)) for each in runs]
    pairs: dict[tuple[str, Cell], Pair] = {}
    for row in kernel_rows(runs):
        title = " / ".join(dict.fromkeys(name for name in row.names if name))
        for cell in sorted(values[0].keys() & values[1].keys()):
            a, b = (
                list(found[cell].get(name or "", {}).values())
                for found, name in zip(values, row.names, strict=True)
            )
            if min(len(a), len(b)) >= 1:
                pairs[title, cell] = Pair(a, b, paired=False, metric=metric)
    several = len({title for title, _ in pairs}) > 1
    rows = [
        ComparedCell(cell, comparison, title if several else "")
        for (title, cell), comparison in compare(pairs, rule).items()
    ]
    names = runs[0].name, runs[1].name
    setting = f"{timed_by(about)}, two runs at different times"
    return Compared(*names, rows, rule.threshold, seconds_are(about), setting, shape, metric)


def render(compared: Compared) -> Group:
    """Return the heading, the table and the sentence."""
    parts: list[RenderableType] = [
        Text(compared.seconds, style="bold"),
        Text(f"A: {compared.a}\nB: {compared.b}\n"),
    ]
    if compared.rows:
        parts += [_table(compared), Text(), *_notes(compared)]
    return Group(*parts, Text(compared.sentence()))


def _table(compared: Compared) -> RenderableType:
    metric, rows = compared.metric, compared.rows
    blocks = sorted({row.comparison.blocks for row in rows})
    several, titled = len(blocks) > 1, any(row.kernel for row in rows)
    many = f"{blocks[0]} to {blocks[-1]}" if several else str(blocks[0])
    effect = "B - A" if metric.zero else "B / A"

    def cells(row: ComparedCell) -> Iterator[RenderableType]:
        one = row.comparison
        yield compared.shape.in_words(row.cell)
        if titled:
            yield Text(row.kernel)
        # A time has the unit that suits it; of another the title has it: the columns that say
        # what was compared need the room.
        for value in (one.median_a, one.median_b):
            yield amount_text(value, metric.unit) if metric.is_time else digits_text(value)
        yield _effect_text(one, metric)
        yield p_text(one.p_value)
        if several:
            yield str(one.blocks)
        yield Text(one.verdict.word(metric), style=_STYLE.get(one.verdict, ""))

    columns = ["", *["kernel"] * titled, ">A", ">B", f">{effect} [95 % interval]", ">p"]
    columns += [*[">blocks"] * several, "<verdict"]
    title = f"{metric_title(metric)}, medians of {many} blocks"
    return plain_table(title, columns, map(cells, rows))


def _notes(compared: Compared) -> Iterator[RenderableType]:
    """Yield what intervals are worth and what would settle what is not settled, of several."""
    if (count := sum(row.comparison.bounded for row in compared.rows)) > 1:
        text = (
            f"Each interval holds 95 times in 100 by itself; that one of {count} does not is more"
        )
        yield Text(
            f"{text}\nlikely, up to {min(100, 5 * count)} times in 100. p is corrected for all.\n"
        )
    unsettled = [row for row in compared.rows if not row.comparison.conclusive]
    if len(compared.rows) > 1 and unsettled:
        for row in unsettled:
            yield Text(f"{compared.place(row)}: {more_text(row.comparison)}")
        yield Text()


def _effect_text(one: Comparison, metric: Metric) -> str:
    change = f"{one.change:.3f}" if one.by_ratio else _signed(one.change, metric)
    if not one.bounded:
        return f"{change} (no interval)"
    if one.by_ratio:
        return f"{change} [{one.low:.3f}, {one.high:.3f}]"
    low, high = (amount_text(value, metric.unit) for value in (one.low, one.high))
    return f"{change} [{low}, {high}]"


def _signed(value: float, metric: Metric) -> str:
    return f"{'+' if value > 0 else ''}{amount_text(value, metric.unit)}"


def more_text(one: Comparison) -> str:
    """Return how many more blocks would settle it."""
    if one.blocks == 1:
        return "one guest, or one boot, on a side settles nothing: --fresh-guest makes more"
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
    """Return a p value as it is printed; a very small one as a bound."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def span_text(one: Comparison, metric: Metric) -> str:
    """Return an interval as changes, in per cent where they are ratios."""
    if one.by_ratio:
        return f"{one.percent[1]:+.1f} to {one.percent[2]:+.1f} %"
    return f"{_signed(one.low, metric)} to {_signed(one.high, metric)}"
