"""`invoke setup` and `invoke doctor`."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from linklab.commands.outcome import print_shown
from linklab.errors import Verdict
from linklab.host.doctor import Finding, healthy
from linklab.host.doctor import examine as examine_host
from linklab.host.packages import setup
from linklab.report.progress import progress


def set_up() -> None:
    """Install what is missing and say what that was."""
    with progress() as listener:
        outcome = setup(listener)
    installed = ", ".join(outcome.installed)
    print(f"installed: {installed}" if installed else "nothing is missing")


def _mark(finding: Finding) -> str:
    if finding.found:
        return "[green]found[/]"
    return "[red]missing[/]" if finding.required else "[yellow]no[/]"


def examine() -> Verdict:
    """Print each need: found or not, its version, and what to do."""
    findings = examine_host()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("need", no_wrap=True)
    for title in ("", "version", "what to do"):
        table.add_column(title)
    for finding in findings:
        cells = (finding.need, finding.version, finding.advice)
        need, version, advice = (escape(cell) for cell in cells)
        table.add_row(need, _mark(finding), version, advice)
    print_shown(table)
    return Verdict.PASS if healthy(findings) else Verdict.ERROR
