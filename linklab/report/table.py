"""The table on the terminal, in the paper's shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report import paper
from linklab.report.claims import Claim, Finding, claims
from linklab.report.costs_table import cost_tables
from linklab.report.figures import (
    Cell,
    Figures,
    kernel_title,
    ratio_text,
    seconds_are,
    seconds_text,
)
from linklab.report.layout import TEXT_WIDTH, Fitting, plain_table, plain_text
from linklab.results.model import Run
from linklab.results.statistics import LEVEL

_FINDING_STYLE = {
    Finding.REPRODUCED: "green",
    Finding.IN_PART: "yellow",
    Finding.NOT_REPRODUCED: "red",
    Finding.NOT_MEASURED: "dim",
}


def render(run: Run) -> Group:
    """Return everything that a run has to say on a terminal, apart from its verdict."""
    figures = Figures(run)
    parts: list[RenderableType] = [heading(run)]
    for operation in figures.operations:
        parts += [Text(), operation_tables(figures, operation), *_level_note(figures, operation)]
        parts += cost_tables(figures, operation)
    if "mtu" in figures.operations:
        parts += [Text(), *_paper_part(figures)]
    parts += [Text(), claims_table(claims(figures))]
    return Group(*parts)


def as_text(run: Run, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    return plain_text(render(run), width)


def heading(run: Run) -> Text:
    """Return what stands over the table: first what its seconds are."""
    about = run.about
    releases = ", ".join(f"{kernel.name} {kernel.release}" for kernel in run.kernels)
    text = Text()
    text.append(f"{seconds_are(about)}\n", style="bold")
    text.append(
        f"{about['boot']} boot, {about['machine']}, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; kernels: {releases}"
    )
    if note := _foreign_note(run):
        text.append(f"\n{note}", style="yellow")
    return text


def _foreign_note(run: Run) -> str:
    """Return what to bear in mind where kernels were configured by different hands."""
    kernels = run.about["kernels"]
    foreign = [str(kernel["name"]) for kernel in kernels if kernel.get("built_by_lab") is False]
    if not foreign or len(kernels) == 1:
        return ""
    return (
        f"not built by the lab: {', '.join(foreign)}. Kernels with configs of different hands "
        "(mitigations, security modules, debugging) differ in more than is compared here."
    )


def operation_tables(figures: Figures, operation: str) -> RenderableType:
    """Return one operation's table: interfaces down, kernels and arms across.

    Where the kernels do not fit beside each other, each has a table of its own.
    """
    what = f"seconds in the guest{_trials_text(figures, operation)}"
    whole = plain_table(f"{operation}: {what}")
    _fill(whole, figures, operation, {name: f"{kernel_title(name)}\n" for name in figures.kernels})
    parts: list[RenderableType] = []
    for name in figures.kernels:
        part = plain_table("")
        _fill(part, figures, operation, {name: ""})
        title = Text(f"{operation}, {kernel_title(name)}: {what}", style="italic", overflow="fold")
        parts += [title, part]
    return Fitting(whole, parts)


def _trials_text(figures: Figures, operation: str) -> str:
    """Return how many trials stand behind the figures, where it is more than one each."""
    cells = figures.cells(operation)
    numbers = sorted({cell.valid for cell in cells})
    levels = [cell.interval.level for cell in cells if cell.interval]
    if not levels:
        return ""
    trials = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    brackets = f"{LEVEL:.0%} interval" if min(levels) >= LEVEL else "lowest, highest"
    return f", median of {trials} trials [{brackets}]"


def _level_note(figures: Figures, operation: str) -> Iterator[RenderableType]:
    """Yield why the brackets are no 95 % intervals, where they are not."""
    levels = [cell.interval.level for cell in figures.cells(operation) if cell.interval]
    if levels and min(levels) < LEVEL:
        yield Text(
            f"Fewer than 6 trials are too few for a {LEVEL:.0%} interval of the median: "
            f"the lowest and the highest hold it with {floor(min(levels) * 100)}%."
        )


def _fill(table: Table, figures: Figures, operation: str, titles: Mapping[str, str]) -> None:
    """Add the columns and rows of some kernels; `titles` stand over their columns."""
    arms = figures.arms(operation)
    with_ratio = {"group", "process"} <= set(arms)
    table.add_column("interfaces", justify="right", overflow="fold")
    for title in titles.values():
        _add_kernel_columns(table, title, arms, with_ratio)
    for count in figures.counts(operation):
        table.add_row(str(count), *_cells(figures, operation, list(titles), count))


def _add_kernel_columns(table: Table, title: str, columns: list[str], with_ratio: bool) -> None:
    """Add a kernel's columns, its title over the first one."""
    for number, column in enumerate([*columns, *(["ratio"] if with_ratio else [])]):
        style = "bold" if column == "ratio" else ""
        header = Text(f"{title if number == 0 else ''}{column}")
        table.add_column(header, justify="right", style=style, overflow="fold")


def _cells(figures: Figures, operation: str, kernels: Sequence[str], count: int) -> Iterator[str]:
    arms = figures.arms(operation)
    for kernel in kernels:
        for arm in arms:
            yield _cell_text(figures.cell(operation, kernel, arm, count))
        if {"group", "process"} <= set(arms):
            yield ratio_text(figures.ratio(operation, kernel, count))


def _cell_text(cell: Cell) -> str:
    if cell.seconds is None:
        return "not valid" if cell.invalid else "-"
    wrong = f", {cell.invalid} not valid" if cell.invalid else ""
    around = cell.interval
    spread = f" [{seconds_text(around.low)}, {seconds_text(around.high)}]" if around else ""
    return seconds_text(cell.seconds) + spread + wrong


def _paper_part(figures: Figures) -> Iterator[RenderableType]:
    """Yield the paper's table for the same kernels and counts, where it has them."""
    kernels = [name for name in figures.kernels if name in paper.TABLE_I]
    counts = [c for c in figures.counts("mtu") if any(paper.row(k, c) for k in kernels)]
    if not counts:
        yield Text(f"The paper ({paper.REFERENCE}) has no figures for these kernels and counts.")
        return
    table = plain_table(f"the same in 2011, under KVM ({paper.REFERENCE})")
    table.add_column("interfaces", justify="right", overflow="fold")
    for kernel in kernels:
        title = f"{kernel_title(kernel)}\n"
        _add_kernel_columns(table, title, ["group", "process"], with_ratio=True)
    for count in counts:
        cells = []
        for kernel in kernels:
            found = paper.row(kernel, count)
            assert found is not None
            cells += [f"{found.group:.2f}", f"{found.process:.2f}", ratio_text(found.ratio)]
        table.add_row(str(count), *cells)
    yield table


def claims_table(found: list[Claim]) -> Table:
    """Return the paper's claims: its figure, ours, reproduced or not."""
    table = plain_table("the paper's claims")
    for title, ratio in (("claim", 4), ("2011", 3), ("here", 3), ("", 3)):
        table.add_column(title, ratio=ratio, overflow="fold")
    for claim in found:
        finding = Text(claim.finding.value, style=_FINDING_STYLE[claim.finding])
        if claim.why:
            finding.append(f": {claim.why}", style="default")
        table.add_row(Text(claim.text), Text(claim.theirs), Text(claim.ours), finding)
    return table
