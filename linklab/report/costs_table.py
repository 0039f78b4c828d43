"""Costs and fits on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report.costs import Cost, Growth, costs, growths
from linklab.report.figures import Figures, duration_text, kernel_title
from linklab.report.layout import Fitting, plain_table, title_line
from linklab.results.fit import Fit, Power

Column = tuple[str, Callable[[Cost], str]]
Row = tuple[str, str, Sequence[str]]  # kernel, arm, figures

_COLUMNS: tuple[Column, ...] = (
    ("time", lambda cost: duration_text(cost.seconds)),
    ("user", lambda cost: duration_text(cost.user_seconds)),
    ("system", lambda cost: duration_text(cost.system_seconds)),
    ("context\nswitches", lambda cost: f"{cost.context_switches:.0f}"),
    ("pro-\ncesses", lambda cost: f"{cost.processes:.0f}"),
    ("netlink\nmessages", lambda cost: _count_text(cost.messages)),
    ("system\ncalls", lambda cost: _count_text(cost.system_calls)),
)
_HEARD: tuple[Column, ...] = (
    ("time", lambda cost: duration_text(cost.seconds)),
    ("messages", lambda cost: f"{cost.notifications:.0f}"),
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
    found = costs(figures, operation)
    if len({cost.arm for cost in found}) > 1:
        tables += [Text(), _costs_table(operation, found)]
    if any(cost.listeners for cost in found):
        tables += [Text(), _heard_table(operation, found)]
    if grown := growths(figures, operation):
        tables += [Text(), _growths_table(operation, grown)]
    return tables


def _costs_table(operation: str, found: Sequence[Cost]) -> RenderableType:
    what = f"what it cost, the same work for {found[0].interfaces} interfaces"
    return _by_arm(operation, what, [name for name, _ in _COLUMNS], _rows(found, _COLUMNS))


def _heard_table(operation: str, found: Sequence[Cost]) -> RenderableType:
    most = max(cost.listeners for cost in found)
    who = "1 listener" if most == 1 else f"{most} listeners"
    what = f"what {who} heard of {found[0].interfaces} interfaces"
    return _by_arm(operation, what, [name for name, _ in _HEARD], _rows(found, _HEARD))


def _rows(found: Sequence[Cost], columns: Sequence[Column]) -> list[Row]:
    return [(cost.kernel, cost.arm, [text(cost) for _, text in columns]) for cost in found]


def _growths_table(operation: str, found: Sequence[Growth]) -> RenderableType:
    columns = [*(name for name, _ in _TERMS), "grows", "error"]
    rows = [(growth.kernel, growth.arm, _growth_texts(growth.fit)) for growth in found]
    what = "seconds = a + b N + c N² for N interfaces, as far as it is significant"
    return _by_arm(operation, what, columns, rows)


def _growth_texts(fitted: Fit) -> list[str]:
    terms = [_term_text(fitted, power) for _, power in _TERMS]
    return [*terms, fitted.growth, f"{fitted.error:.1%}"]


def _by_arm(
    operation: str, what: str, columns: Sequence[str], rows: Sequence[Row]
) -> RenderableType:
    """Return a table of all kernels, or where that is too wide one for each."""
    whole = plain_table(f"{operation}: {what}")
    whole.add_column("kernel", overflow="fold")
    _fill(whole, columns, [(Text(kernel), Text(arm), *texts) for kernel, arm, texts in rows])
    parts: list[RenderableType] = []
    for name in dict.fromkeys(kernel for kernel, _, _ in rows):
        part = plain_table("")
        _fill(part, columns, [(Text(arm), *texts) for kernel, arm, texts in rows if kernel == name])
        parts += [title_line(f"{operation}, {kernel_title(name)}: {what}"), part]
    return Fitting(whole, parts)


def _fill(table: Table, columns: Sequence[str], rows: Sequence[Sequence[RenderableType]]) -> None:
    table.add_column("arm", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    for cells in rows:
        table.add_row(*cells)


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
