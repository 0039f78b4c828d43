"""`invoke report`: one page about one run, or about several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.errors import UsageError
from linklab.options import RESULTS, RUN, option, past_runs, split_list, words
from linklab.report.page import FILE, page
from linklab.results.history import find, kind_of
from linklab.results.model import Run
from linklab.results.result_kinds import NOUN
from linklab.results.store import RUN_FILE, read_run
from linklab.scenarios import names, scenario_named

COMPARISON = "comparison.html"


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


def main(options: ReportOptions) -> None:
    """Write the page of the runs that are named and print where it is."""
    folders = named(options.runs, Path(options.results))
    for folder in folders:
        if kind := kind_of(folder):
            raise UsageError(
                f"{folder} holds a {NOUN[kind]}, of which there is no page: "
                f"`invoke show {folder}` prints it"
            )
    found = [(folder, with_claims(read_run(folder))) for folder in folders]
    target = (
        Path(options.output)
        if options.output
        else folders[0] / (FILE if len(found) == 1 else COMPARISON)
    )
    print(f"report: {write(found, target)}")


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


def write(found: Sequence[tuple[Path, Run]], target: Path) -> Path:
    """Write the page of stored runs.

    Raises `UsageError` when they must not be compared, or where it cannot be written.
    """
    text = page(found)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the page {target} cannot be written: {error.strerror or error}; "
            "--output names another place"
        ) from error
    return target
