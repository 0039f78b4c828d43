"""`invoke report`: one page about one run, or about several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linklab.commands.words import SEPARATOR
from linklab.errors import UsageError
from linklab.options import split_list
from linklab.report.page import FILE, page
from linklab.results.history import find, kind_of
from linklab.results.model import Run
from linklab.results.other import NOUN
from linklab.results.store import RUN_FILE, read_run

COMPARISON = "comparison.html"


def main(runs: str, output: str, results: str) -> None:
    """Write the page of the runs that are named and print where it is."""
    folders = named(runs, Path(results))
    for folder in folders:
        if kind := kind_of(folder):
            raise UsageError(
                f"{folder} holds a {NOUN[kind]}, of which there is no page: "
                f"`invoke show {folder}` prints it"
            )
    found = [(folder, read_run(folder)) for folder in folders]
    target = Path(output) if output else folders[0] / (FILE if len(found) == 1 else COMPARISON)
    print(f"report: {write(found, target)}")


def named(runs: str, results: Path) -> list[Path]:
    """Return the folders of several words, or of a list with commas.

    A folder may have a comma in its name.
    """
    if SEPARATOR in runs:
        return [find(word, results) for word in runs.split(SEPARATOR)]
    if (Path(runs) / RUN_FILE).is_file():
        return [Path(runs)]
    return [find(word, results) for word in split_list("runs", runs)]


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
