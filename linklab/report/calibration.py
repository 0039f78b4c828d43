"""What a calibration found, as a table: false alarms, and differences found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.report.comparison import trials_text
from linklab.report.grid import plain_table
from linklab.results.comparison import SECONDS, Comparison, Effect
from linklab.results.figures import VIRTUAL, seconds_are
from linklab.results.model import Run
from linklab.results.shape import Better, Metric
from linklab.results.statistics import share_interval

_SHOWN = (Effect.BETTER, Effect.WORSE, Effect.SAME, Effect.MINOR, Effect.INCONCLUSIVE)
_ALARMS = frozenset({Effect.WORSE, Effect.BETTER, Effect.DIFFERENT})
# The aims: the largest share of false alarms, and the smallest of slowdowns found. 80 comparisons
# of which none is wrong can show them.
_REAL = (0.05, 0.9)
_VIRTUAL = (0.05, 0.95)


@dataclass(frozen=True)
class Case:
    """Comparisons of one kind, and how many of them said what they should not, or should."""

    title: str
    comparisons: Sequence[Comparison]
    counted: str  # what is counted of them
    effects: frozenset[Effect]
    aim: str
    most: float = 1.0
    fewest: float = 0.0

    @property
    def hits(self) -> int:
        """How many said what is counted."""
        return sum(one.verdict in self.effects for one in self.comparisons)

    @property
    def _interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the share; that of nothing measured has it all."""
        count = len(self.comparisons)
        return share_interval(self.hits, count) if count else (0.0, 1.0)

    @property
    def met(self) -> bool:
        """Whether the aim is surely met: the whole interval is on its side."""
        low, high = self._interval
        return self.fewest <= low and high <= self.most

    @property
    def missed(self) -> bool:
        """Whether the aim is surely missed, or nothing was measured that could meet it."""
        low, high = self._interval
        return not self.comparisons or high < self.fewest or low > self.most

    @property
    def share_text(self) -> str:
        """The share that was seen, with its exact 95 % interval."""
        low, high = self._interval
        share = 100 * self.hits / len(self.comparisons)
        return f"{share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True)
class Slowed:
    """What a kernel was to be slowed by, with how many loops, and by what it was."""

    slowdown: float
    loops: int
    measured: Comparison | None


@dataclass(frozen=True)
class Calibration:
    """A stored calibration: a case of the kernel with itself, then one for each slowed kernel."""

    about: Mapping[str, Any]
    cases: Sequence[Case]
    slowed: Sequence[Slowed]
    metric: Metric = SECONDS

    @property
    def missed(self) -> bool:
        """Whether an aim is surely missed."""
        return any(case.missed for case in self.cases)

    def summary(self) -> str:
        """Return what was counted in a few words."""
        counts = (f"{c.counted}: {c.hits} of {len(c.comparisons)}" for c in self.cases)
        return ", ".join(counts)


def calibration_of(about: Mapping[str, Any]) -> Calibration:
    """Return the calibration that a run.json holds."""
    stored = about["calibration"]
    most, fewest = _VIRTUAL if about.get("clock") == VIRTUAL else _REAL
    same = [Comparison.from_json(entry) for entry in stored["same"]]
    aim = f"at most {100 * most:g} %"
    cases = [Case("with itself", same, "False alarms", _ALARMS, aim, most=most)]
    slowed = []
    # The first release had one slowed kernel, which stood beside the rest.
    for entry in stored.get("slowed", [stored]):
        percent = f"{100 * entry['slowdown']:g} %"
        each = entry["comparisons"] if "slowed" in stored else stored["slower"]
        cases.append(
            Case(
                f"with itself, slowed by {percent}",
                [Comparison.from_json(one) for one in each],
                f"{percent} found",
                frozenset({Effect.WORSE}),
                f"at least {100 * fewest:g} %",
                fewest=fewest,
            )
        )
        measured = Comparison.from_json(entry["measured"]) if entry["measured"] else None
        slowed.append(Slowed(entry["slowdown"], entry["loops"], measured))
    metric = SECONDS  # all that the first release had, and no shape
    if "shape" in about:
        shape = Run(about, ()).shape
        metric = shape.metric_named(stored.get("metric") or shape.metric.name)
    return Calibration(about, cases, slowed, metric)


def render(found: Calibration) -> Group:
    """Return the heading, the table and what it cost."""
    about, plan, stored = found.about, found.about["plan"], found.about["calibration"]
    said = {one.verdict for case in found.cases for one in case.comparisons}
    shown = [effect for effect in _SHOWN if effect is not Effect.MINOR or effect in said]
    columns = (f">{effect.word(found.metric)}" for effect in shown)
    parts: list[RenderableType] = [
        Text(seconds_are(about), style="bold"),
        Text(
            f"kernel {stored['kernel']}, {stored['work']}; {about['boot']} boot, "
            f"{plan['repeat']} blocks, {trials_text(plan['trials'])}\n"
        ),
        plain_table(
            "the kernel compared, and what was said of the second one",
            ("", ">comparisons", *columns),
            (_row(case, shown) for case in found.cases),
        ),
        Text(),
        *(_aim_text(case) for case in found.cases),
        *(Text(_slowed_text(one, found.metric)) for one in found.slowed),
    ]
    if stored["seconds"]:
        parts.append(Text(f"A comparison takes {median(stored['seconds']):.0f} s here."))
    return Group(*parts)


def _row(case: Case, shown: Sequence[Effect]) -> list[RenderableType]:
    numbers = Counter(one.verdict for one in case.comparisons)
    return [case.title, *(str(n) for n in (numbers.total(), *(numbers[e] for e in shown)))]


def _aim_text(case: Case) -> Text:
    """Return what was counted, against the aim."""
    seen = "nothing measured"
    if case.comparisons:
        seen = f"{case.hits} of {len(case.comparisons)}, {case.share_text}"
    text = Text(f"{case.counted}: {seen}, aim: {case.aim}: ")
    if case.met or case.missed:
        return text.append(*(("met", "green") if case.met else ("missed", "red")))
    return text.append("not shown, neither way: more comparisons would", style="yellow")


def _slowed_text(found: Slowed, metric: Metric) -> str:
    percent, one = f"{100 * found.slowdown:g} %", found.measured
    if one is None:
        return f"A slowed kernel was to be slower by {percent}."
    middle, low, high = one.percent
    if metric.better is Better.MORE:  # twice as slow is half the rate, and 100 % slower
        middle, high, low = (100 * (1 / each - 1) for each in (one.change, one.low, one.high))
    be, was, much = "be", "was", f"worse in {metric.short or metric.name}"
    if metric.is_time:
        be, was, much = "take", "took", "longer"
    return (
        f"A slowed kernel ({found.loops} loops for each piece of work, to {be} {percent} {much}) "
        f"{was} {middle:.2f} % {much} [{low:.2f}, {high:.2f}] over all {one.blocks} blocks."
    )
