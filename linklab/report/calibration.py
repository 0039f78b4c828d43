"""What a calibration found, as a table: false alarms, and differences found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linklab.report.layout import plain_table
from linklab.results.comparison import SECONDS, Comparison, Effect
from linklab.results.figures import VIRTUAL, seconds_are
from linklab.results.shape import Better, Metric, Shape
from linklab.results.statistics import share_interval


@dataclass(frozen=True)
class Aims:
    """What a calibration is to show: shares of false alarms, and of slowdowns found."""

    most_false_alarms: float
    fewest_found: float


_SHOWN = (Effect.BETTER, Effect.WORSE, Effect.SAME, Effect.INCONCLUSIVE)
_REAL = Aims(0.05, 0.9)
_VIRTUAL = Aims(0.0, 0.99)


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
    def met(self) -> bool:
        """Whether the aim is met. Nothing measured meets none."""
        count = len(self.comparisons)
        return bool(count) and self.fewest * count <= self.hits <= self.most * count

    @property
    def share_text(self) -> str:
        """The share that was seen, with its exact 95 % interval."""
        low, high = share_interval(self.hits, len(self.comparisons))
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

    cases: Sequence[Case]
    slowed: Sequence[Slowed]
    seconds: Sequence[float]
    blocks: int
    trials: int
    seconds_are: str
    boot: str
    kernel: str
    work: str
    metric: Metric = SECONDS

    @property
    def met(self) -> bool:
        """Whether every aim is met."""
        return all(case.met for case in self.cases)

    def summary(self) -> str:
        """Return what was counted in a few words."""
        counts = (f"{c.counted}: {c.hits} of {len(c.comparisons)}" for c in self.cases)
        return ", ".join(counts)


def calibration_of(about: Mapping[str, Any]) -> Calibration:
    """Return the calibration that a run.json holds."""
    stored, plan = about["calibration"], about["plan"]
    aims = _VIRTUAL if about.get("clock") == VIRTUAL else _REAL
    most, fewest = aims.most_false_alarms, aims.fewest_found
    alarms = frozenset({Effect.WORSE, Effect.BETTER, Effect.DIFFERENT})
    same = [Comparison.from_json(entry) for entry in stored["same"]]
    aim = f"at most {100 * most:g} %" if most else "none"
    cases = [Case("with itself", same, "False alarms", alarms, aim, most=most)]
    slowed = []
    for entry in _slowed_in(stored):
        percent = f"{100 * entry['slowdown']:g} %"
        cases.append(
            Case(
                f"with itself, slowed by {percent}",
                [Comparison.from_json(one) for one in entry["comparisons"]],
                f"{percent} found",
                frozenset({Effect.WORSE}),
                f"at least {100 * fewest:g} %",
                fewest=fewest,
            )
        )
        measured = entry["measured"]
        known = Comparison.from_json(measured) if measured else None
        slowed.append(Slowed(entry["slowdown"], entry["loops"], known))
    return Calibration(
        cases=cases,
        slowed=slowed,
        seconds=stored["seconds"],
        blocks=plan["repeat"],
        trials=plan["trials"],
        seconds_are=seconds_are(about),
        boot=about["boot"],
        kernel=stored["kernel"],
        work=stored["work"],
        metric=_metric_of(about),
    )


def _metric_of(about: Mapping[str, Any]) -> Metric:
    """Return what was compared; the first release had times alone, and no shape."""
    if "shape" not in about:
        return SECONDS
    shape = Shape.from_json(about["shape"])
    return shape.metric_named(about["calibration"].get("metric") or shape.metric.name)


def _slowed_in(stored: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the slowed kernels; the first release had one, which stood beside the rest."""
    if "slowed" in stored:
        return list(stored["slowed"])
    one = {name: stored[name] for name in ("slowdown", "loops", "measured")}
    return [{**one, "comparisons": stored["slower"]}]


def render(found: Calibration) -> Group:
    """Return the heading, the table and what it cost."""
    trials = "1 trial" if found.trials == 1 else f"{found.trials} trials"
    parts: list[RenderableType] = [
        Text(found.seconds_are, style="bold"),
        Text(
            f"kernel {found.kernel}, {found.work}; {found.boot} boot, {found.blocks} blocks, "
            f"{trials} in each guest\n"
        ),
        _table(found),
        Text(),
        *(_aim_text(case) for case in found.cases),
        *(Text(_slowed_text(one, found.metric)) for one in found.slowed),
    ]
    if found.seconds:
        parts.append(Text(f"A comparison takes {median(found.seconds):.0f} s here."))
    return Group(*parts)


def _table(found: Calibration) -> RenderableType:
    table = plain_table("the kernel compared, and what was said of the second one")
    table.add_column("", overflow="fold")
    for name in ("comparisons", *(effect.word(found.metric) for effect in _SHOWN)):
        table.add_column(name, justify="right", no_wrap=True)
    for case in found.cases:
        numbers = Counter(one.verdict for one in case.comparisons)
        counts = (str(numbers[effect]) for effect in _SHOWN)
        table.add_row(case.title, str(len(case.comparisons)), *counts)
    return table


def _aim_text(case: Case) -> Text:
    """Return what was counted, against the aim."""
    seen = "nothing measured"
    if case.comparisons:
        seen = f"{case.hits} of {len(case.comparisons)}, {case.share_text}"
    text = Text(f"{case.counted}: {seen}, aim: {case.aim}: ")
    return text.append("met" if case.met else "missed", style="green" if case.met else "red")


def _slowed_text(found: Slowed, metric: Metric) -> str:
    percent = f"{100 * found.slowdown:g} %"
    if found.measured is None:
        return f"A slowed kernel was to be slower by {percent}."
    one = found.measured
    middle, low, high = one.percent
    if metric.better is Better.MORE:  # twice as slow is half the rate, and 100 % slower
        middle, high, low = (100 * (1 / each - 1) for each in (one.change, one.low, one.high))
    be, was, much = "take", "took", "longer"
    if not metric.is_time:
        be, was, much = "be", "was", f"worse in {metric.short or metric.name}"
    return (
        f"A slowed kernel ({found.loops} loops for each piece of work, to {be} {percent} {much}) "
        f"{was} {middle:.2f} % {much} [{low:.2f}, {high:.2f}] over all {one.blocks} blocks."
    )
