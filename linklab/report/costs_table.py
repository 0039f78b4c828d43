"""Costs and fits on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.costs import Cost, Growth, costs, growths
from linklab.report.figures import Figures, duration_text, seconds_text
from linklab.report.layout import plain_table
from linklab.results.fit import Fit, Power

Column = tuple[str, Callable[[Cost], str]]

_COLUMNS: tuple[Column, ...] = (
    ("seconds", lambda cost: seconds_text(cost.seconds)),
    ("user", lambda cost: seconds_text(cost.user_seconds)),
    ("system", lambda cost: seconds_text(cost.system_seconds)),
    ("context\nswitches", lambda cost: f"{cost.context_switches:.0f}"),
    ("processes", lambda cost: f"{cost.processes:.0f}"),
    ("netlink\nmessages", lambda cost: _count_text(cost.messages)),
    ("system\ncalls", lambda cost: _count_text(cost.system_calls)),
)
_HEARD: tuple[Column, ...] = (
    ("notifi-\ncations", lambda cost: f"{cost.notifications:.0f}"),
    ("lost", lambda cost: f"{cost.notifications_lost:.0f}"),
)
_TERMS = (
    ("a: fixed", Power.FIXED),
    ("b: one interface", Power.LINEAR),
    ("c: squared", Power.QUADRATIC),
)


def cost_tables(figures: Figures, operation: str) -> list[RenderableType]:
    """Return the costs of the arms and the fits of their times, as far as there are any."""
    tables: list[RenderableType] = []
    if found := costs(figures, operation):
        tables += [Text(), _costs_table(operation, found)]
    if grown := growths(figures, operation):
        tables += [Text(), _growths_table(operation, grown)]
    return tables


def _costs_table(operation: str, found: Sequence[Cost]) -> Table:
    listeners = max(cost.listeners for cost in found)
    heard = f", {listeners} listening" if listeners else ""
    title = f"{operation}: what it cost, the same work for {found[0].interfaces} interfaces{heard}"
    table = _by_arm(title)
    columns = _COLUMNS + (_HEARD if listeners else ())
    for name, _ in columns:
        table.add_column(name, justify="right", overflow="fold")
    for cost in found:
        figures = (text(cost) for _, text in columns)
        table.add_row(Text(cost.kernel), cost.arm, *figures)
    return table


def _growths_table(operation: str, found: Sequence[Growth]) -> Table:
    what = "seconds = a + b N + c N² for N interfaces, as far as it is significant"
    table = _by_arm(f"{operation}: {what}")
    for name, _ in _TERMS:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("grows", overflow="fold")
    table.add_column("error", justify="right", overflow="fold")
    for growth in found:
        terms = (_term_text(growth.fit, power) for _, power in _TERMS)
        error = f"{growth.fit.error:.1%}"
        table.add_row(Text(growth.kernel), growth.arm, *terms, growth.fit.growth, error)
    return table


def _by_arm(title: str) -> Table:
    table = plain_table(title)
    table.add_column("kernel", overflow="fold")
    table.add_column("arm", overflow="fold")
    return table


def _count_text(number: int | None) -> str:
    return "-" if number is None else str(number)


def _term_text(fitted: Fit, power: Power) -> str:
    """Return a term with its 95 % margin; "?" where there are too few counts to tell."""
    if power not in fitted.tried:
        return "?"
    term = fitted.terms.get(power)
    if term is None:
        return "-"
    return f"{duration_text(term.value)} ± {term.margin / abs(term.value):.0%}"
