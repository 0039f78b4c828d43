"""A comparison as a person reads it: a table, and a sentence for a review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.report.figures import duration_text, seconds_are, timed_by
from linklab.report.layout import plain_table
from linklab.results.comparison import Comparison, Effect
from linklab.results.work import Work

_STYLE = {
    Effect.SLOWER: "red",
    Effect.FASTER: "green",
    Effect.SAME: "",
    Effect.INCONCLUSIVE: "yellow",
}


@dataclass(frozen=True)
class Row:
    """One comparison of the table. `kernel` is empty where A and B are the kernels."""

    work: Work
    comparison: Comparison
    kernel: str = ""

    @property
    def place(self) -> str:
        """Where it was measured, in words."""
        return f"{self.work.text}, kernel {self.kernel}" if self.kernel else self.work.text


@dataclass(frozen=True)
class Versus:
    """Two subjects and what is known of them.

    `seconds` says what the seconds are that were compared; `setting` how they
    were measured, in words for a sentence.
    """

    a: str
    b: str
    rows: Sequence[Row]
    threshold: float
    seconds: str
    setting: str

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
            one = self.rows[0].comparison
            return f"{one.verdict}, {100 * (one.ratio - 1):+.1f} % in {self.rows[0].work.text}"
        numbers = Counter(row.comparison.verdict for row in self.rows)
        return ", ".join(f"{numbers[effect]} {effect}" for effect in Effect if numbers[effect])

    def _one(self, row: Row) -> str:
        one, place = row.comparison, row.place
        sure = f"95 % interval {_span(one)}, p = {p_text(one.p_value)}, {one.blocks} blocks"
        match one.verdict:
            case Effect.SLOWER | Effect.FASTER:
                return f"{self.b} takes {change_text(one.ratio)} than {self.a} in {place}: {sure}"
            case Effect.SAME:
                same = f"{self.b} takes as long as {self.a} in {place}, within {self._within}"
                return f"{same}: {sure}"
            case Effect.INCONCLUSIVE:
                open_ = f"Whether {self.b} takes longer than {self.a} in {place} is not known"
                return f"{open_}: {sure}; {more_text(one)}"

    def _several(self) -> str:
        found: dict[Effect, list[Row]] = {effect: [] for effect in Effect}
        for row in self.rows:
            found[row.comparison.verdict].append(row)
        parts = [
            f"{effect} in {'; '.join(_how_much(row) for row in found[effect])}"
            for effect in (Effect.SLOWER, Effect.FASTER)
            if found[effect]
        ]
        if same := found[Effect.SAME]:
            parts.append(f"the same within {self._within} in {len(same)}")
        if unsettled := found[Effect.INCONCLUSIVE]:
            parts.append(f"inconclusive in {len(unsettled)}")
        return f"{self.b} against {self.a} in {len(self.rows)} comparisons: {', '.join(parts)}"

    @property
    def _within(self) -> str:
        return f"{100 * self.threshold:g} %"


def versus_of(about: Mapping[str, Any]) -> Versus:
    """Return the comparison that a run.json holds."""
    stored = about["comparison"]
    rows = [
        Row(Work(entry["operation"], entry["arm"], entry["interfaces"]), comparison_of(entry))
        for entry in stored["results"]
    ]
    plan = about["plan"]
    trials = "1 trial" if plan["trials"] == 1 else f"{plan['trials']} trials"
    setting = f"{timed_by(about)}, {about['boot']} boot, {trials} in each guest"
    return Versus(stored["a"], stored["b"], rows, stored["threshold"], seconds_are(about), setting)


def comparison_of(entry: Mapping[str, Any]) -> Comparison:
    """Return one comparison as run.json holds it; what is not known is ignored."""
    known = {field.name: entry[field.name] for field in fields(Comparison)}
    return Comparison(**known | {"verdict": Effect(entry["verdict"])})


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
    table = plain_table(f"seconds in the guest, medians of {many} blocks")
    for name in ("", *(["kernel"] * titled)):
        table.add_column(name, overflow="fold")
    for name in ("A", "B", "B / A [95 % interval]", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(numbers) > 1:
        table.add_column("blocks", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in versus.rows:
        one = row.comparison
        table.add_row(
            f"{row.work.operation} by {row.work.arm}, {row.work.interfaces}",
            *([Text(row.kernel)] * titled),
            duration_text(one.median_a),
            duration_text(one.median_b),
            f"{one.ratio:.3f} [{one.low:.3f}, {one.high:.3f}]",
            p_text(one.p_value),
            *([str(one.blocks)] * (len(numbers) > 1)),
            Text(one.verdict.value, style=_STYLE[one.verdict]),
        )
    return table


def _notes(versus: Versus) -> Iterator[RenderableType]:
    """Yield what would settle what is not settled; of a single one the sentence says it."""
    unsettled = [row for row in versus.rows if not row.comparison.conclusive]
    if len(versus.rows) > 1 and unsettled:
        for row in unsettled:
            yield Text(f"{row.place}: {more_text(row.comparison)}")
        yield Text()


def _how_much(row: Row) -> str:
    one = row.comparison
    return f"{row.place} ({change_text(one.ratio)}, 95 % interval {_span(one)})"


def more_text(one: Comparison) -> str:
    """Return how many more blocks would settle it."""
    if one.more_blocks_needed is None:
        return "the effect is too near the threshold to be settled"
    return f"about {one.more_blocks_needed} more blocks would settle it"


def change_text(ratio: float) -> str:
    """Return a ratio in words: 9.8 % longer, 12 % less time."""
    percent = f"{abs(100 * (ratio - 1)):.1f} %"
    return f"{percent} longer" if ratio >= 1 else f"{percent} less time"


def p_text(p_value: float) -> str:
    """Return a p value as it is printed; one that resampling cannot tell from 0 as a bound."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def _span(one: Comparison) -> str:
    """Return an interval as changes in per cent."""
    return f"{100 * (one.low - 1):+.1f} to {100 * (one.high - 1):+.1f} %"
