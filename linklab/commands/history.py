"""`invoke history`, `invoke show` and `invoke rerun`: past runs, again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from linklab.commands.outcome import concluded, print_document, print_shown
from linklab.errors import UsageError, Verdict, printable
from linklab.options import JSON, RESULTS, RUN, number, option, past_runs, word
from linklab.report.compare import Stored, differences, obstacles
from linklab.report.printed import headline, shown
from linklab.results import other
from linklab.results.figures import timed_by
from linklab.results.history import BROKEN, UNFINISHED, Entry, chosen, entries, find, kind_of
from linklab.results.kinds import is_selftest, is_series
from linklab.results.model import Run
from linklab.results.store import read_run

_VERDICTS = (*(verdict.value for verdict in Verdict), UNFINISHED, BROKEN)
_NAME_WIDTH = len("20260102T030405Z-calibrate")
_BEGUN_WIDTH = len("2026-01-02 03:04 UTC")
_VERDICT_STYLE = {"pass": "green", UNFINISHED: "yellow", "interrupted": "yellow", "skip": "yellow"}


@dataclass(frozen=True)
class HistoryOptions:
    """The options of `invoke history`, as typed."""

    results: str = option("results", "the folder below which the runs are")
    kernel: str = option("", "only runs with this kernel")
    scenario: str = option("", "only runs of this scenario")
    verdict: str = option(
        "", "only runs with this verdict; also unfinished, broken", values=_VERDICTS
    )
    limit: str = option("20", "how many at most, the newest; 0: all of them")
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class ShowOptions:
    """The options of `invoke show`, as typed."""

    run: str = word(RUN, past_runs)
    results: str = option("results", RESULTS)
    as_json: bool = option(False, JSON, "json")


@dataclass(frozen=True)
class RerunOptions(ShowOptions):
    """The options of `invoke rerun`, as typed."""

    output: str = option("", "a folder for the results; default results/<UTC time>-<scenario>")


def list_runs(options: HistoryOptions) -> None:
    """Print the runs below a results folder that are asked for, the newest first."""
    results, verdict = options.results, options.verdict
    if verdict and verdict not in _VERDICTS:
        raise UsageError(f"--verdict {verdict}: unknown; valid are {', '.join(_VERDICTS)}")
    most = number("limit", options.limit, 0, 1_000_000)
    asked = (options.kernel, options.scenario, verdict)
    found = [e for e in entries(Path(results)) if chosen(e, *asked)]
    newest = found[:most] if most else found
    if options.as_json:
        print_document([_as_json(entry) for entry in newest])
        return
    if not found:
        print(f"no such run below {results}")
        return
    print_shown(_table(newest))
    for entry in newest:
        if entry.about is None:
            print(f"{BROKEN}: {printable(entry.problem)}")
    if len(newest) < len(found):
        print(f"{len(found) - len(newest)} older ones are not shown: --limit 0 shows all")


def _said(entry: Entry) -> str:
    """Return a run's key figure, or what is wrong with it. One bad run stops no list."""
    if entry.about is None:
        return entry.problem
    try:
        if entry.other:
            return other.figure(entry.other, entry.about)
        return headline(read_run(entry.folder))
    except UsageError as error:
        return error.message
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        return f"its samples make no sense: {error}"


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "folder": str(entry.folder),
        "start": entry.start.isoformat(),
        "scenario": entry.word("scenario"),
        "kind": entry.kind or "run",
        "kernels": entry.kernels,
        "accel": entry.word("accel"),
        "clock": entry.word("clock") or "real",
        "boot": entry.word("boot"),
        "verdict": entry.verdict,
        "figure" if entry.about is not None else "problem": _said(entry),
    }


def _table(shown: Sequence[Entry]) -> Table:
    """Return the list, two lines a run: a name must fit, to be copied, into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    widest = max((len(entry.name) for entry in shown), default=0)
    table.add_column("run", overflow="fold", width=max(_BEGUN_WIDTH, min(widest, _NAME_WIDTH)))
    table.add_column("on", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("key figure", overflow="fold")
    for entry in shown:
        about = (
            entry.kind,
            entry.word("scenario"),
            timed_by(entry.about or {}),
            entry.word("boot"),
        )
        how = ", ".join(dict.fromkeys(filter(None, about)))
        begun = f"\n{entry.start.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(
            Text(entry.name).append(begun, style="dim"),
            Text("\n".join(filter(None, (", ".join(entry.kernels), how)))),
            Text(entry.verdict, style=_VERDICT_STYLE.get(entry.verdict, "red")),
            Text(_said(entry) if entry.about is not None else "see below"),
        )
    return table


def show(options: ShowOptions) -> None:
    """Print a past run once more, as it was printed when it ended."""
    from linklab.commands.report import with_claims
    from linklab.commands.run import document
    from linklab.commands.series import show as show_series

    as_json = options.as_json
    folder = find(options.run, Path(options.results))
    if kind := kind_of(folder):
        _show_other(folder, kind, as_json=as_json)
        return
    stored = read_run(folder)
    if is_series(stored.about):
        verdict = str(stored.about.get("verdict") or UNFINISHED)
        show_series(folder, stored, verdict, as_json=as_json)
        return
    if is_selftest(stored.about):
        from linklab.commands.selftest import present

        present(folder, as_json)
        return
    stored = with_claims(stored)
    if as_json:
        print_document(document(folder, stored))
        return
    print_shown(shown(stored))
    verdict = stored.about.get("verdict") or UNFINISHED
    print(f"\nverdict: {verdict}   results: {folder}")
    if message := stored.about.get("message"):
        print(printable(str(message)))


def _show_other(folder: Path, kind: str, *, as_json: bool) -> None:
    about = other.read_other(folder, kind)
    if as_json:
        print_document({"folder": str(folder), kind: about})
        return
    print(printable(other.printed(folder)) or "It has not come to its end.")
    print(f"\nverdict: {other.verdict(kind, about) or UNFINISHED}   results: {folder}")


def rerun(options: RerunOptions, command: Sequence[str]) -> Verdict:
    """Do a past run once more with the same inputs, and say what differs."""
    from linklab.commands.kept import repeated_by, revived
    from linklab.commands.run import document, present, write_reports
    from linklab.commands.run import run as do
    from linklab.report.progress import progress

    as_json = options.as_json
    folder = find(options.run, Path(options.results))
    if kind := kind_of(folder):
        raise repeated_by(other.read_other(folder, kind))
    before = read_run(folder)
    again = revived(before.about, options.output, as_json=as_json)
    with progress() as listener:
        finished = do(again, command, listener)
    now = finished.run
    if as_json:
        write_reports(finished.folder, now)
        changed = [vars(difference) for difference in differences(before, now)]
        both = {**document(finished.folder, now), "before": str(folder), "differences": changed}
        print_document(both)
    else:
        present(finished, as_json=False)
        print_differences(Stored(folder, before), Stored(finished.folder, now))
    return concluded(finished)


def print_differences(before: Stored, now: Stored) -> None:
    """Print what differs between two runs: their inputs, then their figures side by side."""
    from linklab.report.tables import comparison_grid

    console = Console(highlight=False)
    console.print(Text(f"\nagainst {before.folder}", style="bold"))
    found = differences(before.run, now.run)
    if found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("what differs", "then", "now"):
            table.add_column(name, overflow="fold")
        for difference in found:
            table.add_row(*(Text(t) for t in (difference.what, difference.before, difference.now)))
        console.print(table)
    else:
        print("every input is the same")
    comparable = not obstacles(before.run, now.run)
    grid = comparison_grid([before, now], ("then", "now"), changes=comparable)
    console.print(grid.on_terminal())
    if not comparable:
        print(f"The figures must not be compared: {_reasons(before.run, now.run)} differ.")


def _reasons(before: Run, now: Run) -> str:
    return ", ".join(difference.what for difference in obstacles(before, now))
