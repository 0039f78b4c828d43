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
from linklab.report.table import ACCEL_TEXT
from linklab.report.versus import comparison_of
from linklab.results.comparison import Comparison, Effect
from linklab.results.statistics import share_interval

MOST_FALSE_ALARMS = 0.05
FEWEST_FOUND = 0.9


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
class Calibration:
    """A stored calibration. `slowdown` is what the slowed kernel was to be slowed by."""

    cases: tuple[Case, Case]
    slowdown: float
    loops: int
    measured: Comparison | None
    seconds: Sequence[float]
    blocks: int
    trials: int
    accel: str
    boot: str
    kernel: str
    work: str

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
    percent = f"{100 * stored['slowdown']:g} %"
    same, slower = ([comparison_of(entry) for entry in stored[name]] for name in ("same", "slower"))
    cases = (
        Case(
            "with itself",
            same,
            "False alarms",
            frozenset({Effect.SLOWER, Effect.FASTER}),
            f"at most {100 * MOST_FALSE_ALARMS:g} %",
            most=MOST_FALSE_ALARMS,
        ),
        Case(
            f"with itself, slowed by {percent}",
            slower,
            f"{percent} found",
            frozenset({Effect.SLOWER}),
            f"at least {100 * FEWEST_FOUND:g} %",
            fewest=FEWEST_FOUND,
        ),
    )
    measured = stored["measured"]
    return Calibration(
        cases=cases,
        slowdown=stored["slowdown"],
        loops=stored["loops"],
        measured=comparison_of(measured) if measured else None,
        seconds=stored["seconds"],
        blocks=plan["repeat"],
        trials=plan["trials"],
        accel=about["accel"],
        boot=about["boot"],
        kernel=stored["kernel"],
        work=stored["work"],
    )


def render(found: Calibration) -> Group:
    """Return the heading, the table and what it cost."""
    trials = "1 trial" if found.trials == 1 else f"{found.trials} trials"
    parts: list[RenderableType] = [
        Text(ACCEL_TEXT.get(found.accel, found.accel), style="bold"),
        Text(
            f"kernel {found.kernel}, {found.work}; {found.boot} boot, {found.blocks} blocks, "
            f"{trials} in each guest\n"
        ),
        _table(found),
        Text(),
        *(_aim_text(case) for case in found.cases),
        Text(_slowed_text(found)),
    ]
    if found.seconds:
        parts.append(Text(f"A comparison takes {median(found.seconds):.0f} s here."))
    return Group(*parts)


def _table(found: Calibration) -> RenderableType:
    table = plain_table("the kernel compared, and what was said of the second one")
    table.add_column("", overflow="fold")
    for name in ("comparisons", *(effect.value for effect in Effect)):
        table.add_column(name, justify="right", no_wrap=True)
    for case in found.cases:
        numbers = Counter(one.verdict for one in case.comparisons)
        counts = (str(numbers[effect]) for effect in Effect)
        table.add_row(case.title, str(len(case.comparisons)), *counts)
    return table


def _aim_text(case: Case) -> Text:
    """Return what was counted, against the aim."""
    seen = "nothing measured"
    if case.comparisons:
        seen = f"{case.hits} of {len(case.comparisons)}, {case.share_text}"
    text = Text(f"{case.counted}: {seen}, aim: {case.aim}: ")
    return text.append("met" if case.met else "missed", style="green" if case.met else "red")


def _slowed_text(found: Calibration) -> str:
    percent = f"{100 * found.slowdown:g} %"
    if found.measured is None:
        return f"The slowed kernel was to be slower by {percent}."
    one = found.measured
    return (
        f"The slowed kernel ({found.loops} loops for each interface, to take {percent} longer) "
        f"took {100 * (one.ratio - 1):.1f} % longer [{100 * (one.low - 1):.1f}, "
        f"{100 * (one.high - 1):.1f}] over all {one.blocks} blocks."
    )
