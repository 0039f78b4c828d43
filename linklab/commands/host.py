"""`invoke setup` and `invoke doctor`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from linklab.errors import Verdict
from linklab.host.doctor import examine as examine_host
from linklab.host.doctor import healthy
from linklab.host.setup import setup
from linklab.report.progress import progress


def set_up() -> None:
    """Install what is missing and say what that was."""
    with progress() as listener:
        outcome = setup(listener)
    installed = ", ".join(outcome.installed)
    print(f"installed: {installed}" if installed else "nothing is missing")


def examine() -> Verdict:
    """Print each need: found or not, its version, and what to do."""
    findings = examine_host()
    table = Table()
    for title in ("need", "", "version", "what to do"):
        table.add_column(title)
    for finding in findings:
        mark = "[green]found[/]" if finding.found else "[red]missing[/]"
        table.add_row(finding.need, mark, finding.version, finding.advice)
    Console(highlight=False).print(table)
    return Verdict.PASS if healthy(findings) else Verdict.ERROR
