"""The table on the terminal, in the paper's shape."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from linklab.report import paper
from linklab.report.claims import Claim, Finding, claims
from linklab.report.figures import Cell, Figures, ratio_text, seconds_text
from linklab.results.model import Run

ACCEL_TEXT = {
    "kvm": "KVM",
    "tcg": "TCG (software emulation: compare ratios, not seconds)",
}
_COLUMN_TITLE = {"nosysfs": "without sysfs", "sysfs": "with sysfs"}
_FINDING_STYLE = {
    Finding.REPRODUCED: "green",
    Finding.IN_PART: "yellow",
    Finding.NOT_REPRODUCED: "red",
    Finding.NOT_MEASURED: "dim",
}
TEXT_WIDTH = 110


def render(run: Run) -> Group:
    """Return everything that a run has to say on a terminal, apart from its verdict."""
    figures = Figures(run)
    parts: list[RenderableType] = [heading(run)]
    for operation in figures.operations:
        parts += [Text(), operation_table(figures, operation)]
    if "mtu" in figures.operations:
        parts += [Text(), *_paper_part(figures)]
    parts += [Text(), claims_table(claims(figures))]
    return Group(*parts)


def as_text(run: Run, width: int = TEXT_WIDTH) -> str:
    """Return the same as plain text, for a file."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(render(run))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def heading(run: Run) -> Text:
    """Return what stands over the table: the accelerator first."""
    about = run.about
    releases = ", ".join(f"{kernel.name} {kernel.release}" for kernel in run.kernels)
    text = Text()
    text.append(f"{ACCEL_TEXT[about['accel']]}\n", style="bold")
    text.append(
        f"{about['boot']} boot, {about['machine']}, {about['cpus']} CPU, {about['memory']} MiB, "
        f"QEMU {about['qemu']['version']}; kernels: {releases}"
    )
    return text


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def operation_table(figures: Figures, operation: str) -> Table:
    """Return one operation's table: interfaces down, kernels and arms across."""
    arms = figures.arms(operation)
    with_ratio = {"group", "process"} <= set(arms)
    table = _table(f"{operation}: seconds in the guest")
    table.add_column("\ninterfaces", justify="right", no_wrap=True)
    for kernel in figures.kernels:
        _add_kernel_columns(table, _COLUMN_TITLE.get(kernel, kernel), arms, with_ratio)
    for count in figures.counts(operation):
        table.add_row(str(count), *_cells(figures, operation, arms, count, with_ratio))
    return table


def _add_kernel_columns(table: Table, title: str, columns: list[str], with_ratio: bool) -> None:
    """Add a kernel's columns, its title over the first one."""
    for number, column in enumerate([*columns, *(["ratio"] if with_ratio else [])]):
        style = "bold" if column == "ratio" else ""
        over = title if number == 0 else ""
        table.add_column(f"{over}\n{column}", justify="right", style=style, no_wrap=True)


def _cells(
    figures: Figures, operation: str, arms: list[str], count: int, with_ratio: bool
) -> Iterator[str]:
    for kernel in figures.kernels:
        for arm in arms:
            yield _cell_text(figures.cell(operation, kernel, arm, count))
        if with_ratio:
            yield ratio_text(figures.ratio(operation, kernel, count))


def _cell_text(cell: Cell) -> str:
    if cell.seconds is None:
        return "not valid" if cell.invalid else "-"
    return seconds_text(cell.seconds)


def _paper_part(figures: Figures) -> Iterator[RenderableType]:
    """Yield the paper's table for the same kernels and counts, where it has them."""
    kernels = [name for name in figures.kernels if name in paper.TABLE_I]
    counts = [c for c in figures.counts("mtu") if any(paper.row(k, c) for k in kernels)]
    if not counts:
        yield Text(f"The paper ({paper.REFERENCE}) has no figures for these kernels and counts.")
        return
    table = _table(f"the same in 2011, under KVM ({paper.REFERENCE})")
    table.add_column("\ninterfaces", justify="right", no_wrap=True)
    for kernel in kernels:
        _add_kernel_columns(table, _COLUMN_TITLE[kernel], ["group", "process"], with_ratio=True)
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
    table = _table("the paper's claims")
    table.add_column("claim", ratio=4)
    table.add_column("2011", ratio=3)
    table.add_column("here", ratio=3)
    table.add_column("", ratio=3)
    for claim in found:
        finding = Text(claim.finding.value, style=_FINDING_STYLE[claim.finding])
        if claim.why:
            finding.append(f": {claim.why}", style="default")
        table.add_row(claim.text, claim.theirs, claim.ours, finding)
    return table
