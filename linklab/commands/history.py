"""Past runs again: `invoke history`, `invoke show`, `invoke report` and `invoke rerun`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from linklab.commands.exit_status import print_document, print_shown
from linklab.errors import UsageError, Verdict, printable
from linklab.options import (
    JSON,
    OUTPUT,
    RESULTS,
    RUN,
    number,
    option,
    past_runs,
    split_list,
    word,
    words,
)
from linklab.report.by_kind import headline, in_a_line, list_of, shown
from linklab.report.compare import Stored, cell_rows, differences, obstacles
from linklab.results import result_kinds
from linklab.results.figures import VIRTUAL, Figure
from linklab.results.history import BROKEN, UNFINISHED, Entry, chosen, entries, find, kind_of
from linklab.results.model import Run
from linklab.results.result_kinds import is_selftest, is_series
from linklab.results.statistics import LEVEL
from linklab.results.store import PAGE_FILE, RUN_FILE, read_run
from linklab.scenarios import names, scenario_named

if TYPE_CHECKING:
    from linklab.commands.workflow import Finished

COMPARISON = "comparison.html"
_VERDICTS = (*(verdict.value for verdict in Verdict), UNFINISHED, BROKEN)


@dataclass(frozen=True)
class HistoryOptions:
    """The options of `invoke history`, as typed."""

    results: str = option("results", RESULTS)
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

    output: str = option("", OUTPUT)


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
    print_shown(list_of(newest))
    for entry in newest:
        if entry.about is None:
            print(f"{BROKEN}: {printable(entry.problem)}")
    if len(newest) < len(found):
        print(f"{len(found) - len(newest)} older ones are not shown: --limit 0 shows all")


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
        "figure" if entry.about is not None else "problem": in_a_line(entry),
    }


def show(options: ShowOptions) -> None:
    """Print a past run once more, as it was printed when it ended."""
    folder = find(options.run, Path(options.results))
    if kind := kind_of(folder):
        _show_other(folder, kind, as_json=options.as_json)
        return
    stored = with_claims(read_run(folder))
    if options.as_json:
        print_document({"folder": str(folder), **_document(stored)})
        return
    print_shown(shown(stored))
    print(f"\nverdict: {stored.about.get('verdict') or UNFINISHED}   results: {folder}")
    if is_series(stored.about):
        print(headline(stored))
    elif message := stored.about.get("message"):
        print(printable(str(message)))


def _document(stored: Run) -> dict[str, Any]:
    """Return all of a stored run of any kind, as its own command printed it."""
    if is_series(stored.about):
        from linklab.report.series import document as document_of_series
        from linklab.results.series import find as find_in_series  # brings numpy

        return document_of_series(stored, find_in_series(stored))
    if is_selftest(stored.about):
        return {"run": {**stored.about, "verdict": stored.about.get("verdict")}}
    from linklab.commands.run import document

    return document(stored)


def _show_other(folder: Path, kind: str, *, as_json: bool) -> None:
    about = result_kinds.read_other(folder, kind)
    if as_json:
        print_document({"folder": str(folder), kind: about})
        return
    print(printable(result_kinds.printed(folder)) or "It has not come to its end.")
    print(f"\nverdict: {result_kinds.verdict(kind, about) or UNFINISHED}   results: {folder}")


# invoke report


@dataclass(frozen=True)
class ReportOptions:
    """The options of `invoke report`, as typed."""

    runs: tuple[str, ...] = words(f"{RUN}; several are compared", past_runs)
    output: str = option(
        "",
        "the page's path; default report.html in the run's folder, comparison.html in the first "
        "one's",
    )
    results: str = option("results", RESULTS)


def report(options: ReportOptions) -> None:
    """Write the page of the runs that are named and print where it is."""
    from linklab.report.page import write_page

    folders = named(options.runs, Path(options.results))
    if len(folders) == 1 and kind_of(folders[0]) == result_kinds.PORT:
        from linklab.report import port

        about = result_kinds.read_other(folders[0], result_kinds.PORT)
        target = Path(options.output) if options.output else folders[0] / port.FILE
        print(f"report: {port.write_page(about, target)}")
        return
    for folder in folders:
        if kind := kind_of(folder):
            raise UsageError(
                f"{folder} holds a {result_kinds.NOUN[kind]}, of which there is no page: "
                f"`invoke show {folder}` prints it"
            )
    found = [(folder, with_claims(read_run(folder))) for folder in folders]
    target = (
        Path(options.output)
        if options.output
        else folders[0] / (PAGE_FILE if len(found) == 1 else COMPARISON)
    )
    print(f"report: {write_page(found, target)}")


def with_claims(run: Run) -> Run:
    """Return a run with what its scenario makes of it: the first release did not store that."""
    name = str(run.about.get("scenario", ""))
    # Nothing that a stored run names is executed, and a scenario may no longer be here.
    if "claims" in run.about or run.about.get("kind") or name not in names():
        return run
    kind = scenario_named(name)
    reference = kind.reference()
    claims = [claim.to_json() for claim in kind.claims(run)]
    more = {"reference": reference.to_json()} if reference else {}
    return replace(run, about={**run.about, "claims": claims, **more})


def named(runs: Sequence[str], results: Path) -> list[Path]:
    """Return the folders of several words, or of one that is a list with commas.

    A folder may have a comma in its name.
    """
    if len(runs) == 1 and not (Path(runs[0]) / RUN_FILE).is_file():
        runs = split_list("runs", runs[0])
    return [find(word, results) for word in runs]


# invoke rerun


def rerun(options: RerunOptions, command: Sequence[str]) -> Verdict:
    """Do a past run once more with the same inputs, and say what differs."""
    from linklab.commands.run import Running, repeated_by, revived

    class Again(Running):
        """The same run, beside what it found then."""

        says_how_to_go_on = False

        def document(self) -> dict[str, Any]:
            changed = [vars(difference) for difference in differences(before, self.stored)]
            return {**super().document(), "before": str(folder), "differences": changed}

        def present(self, finished: Finished) -> None:
            super().present(finished)
            if not self.options.as_json:
                now = Stored(finished.folder, self.stored)
                print_differences(Stored(folder, before), now)

    folder = find(options.run, Path(options.results))
    if kind := kind_of(folder):
        raise repeated_by(result_kinds.read_other(folder, kind))
    before = read_run(folder)
    again = revived(before.about, options.output, as_json=options.as_json)
    return Again(again, command).carry_out()


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
    if comparable and now.run.about.get("clock") != VIRTUAL and _has_no_spread(before, now):
        print(
            "Too few trials for a spread: a change may be noise of the host. `invoke compare` "
            "tells them apart, and `invoke run --repeat 6` gives each figure an interval"
        )
    if not comparable:
        print(f"The figures must not be compared: {_reasons(before.run, now.run)} differ.")


def _has_no_spread(before: Stored, now: Stored) -> bool:
    """Tell whether a change is shown of which nobody knows how much is noise."""

    def is_sure(figure: Figure | None) -> bool:
        return bool(figure and figure.interval and figure.interval.level >= LEVEL)

    rows = [row for row in cell_rows([before, now]) if None not in row.values]
    return not all(is_sure(figure) for row in rows for figure in row.figures)


def _reasons(before: Run, now: Run) -> str:
    return ", ".join(difference.what for difference in obstacles(before, now))
