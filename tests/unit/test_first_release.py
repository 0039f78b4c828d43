"""A run folder that the first release wrote: read, shown, exported, compared as before."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from linklab.commands.history import with_claims
from linklab.commands.run import revived
from linklab.report.by_kind import headline
from linklab.report.comparison import comparison_of_runs
from linklab.report.page import page
from linklab.report.tables import as_text
from linklab.results.comparison import Effect, Rule
from linklab.results.history import entries
from linklab.results.model import Run
from linklab.results.outcomes import Status
from linklab.results.shape import Cell
from linklab.results.store import RUN_FILE, SAMPLES_FILE, read_run
from linklab.results.suites import suites_of

FOLDER = Path(__file__).parents[1] / "golden" / "first-release"


@pytest.fixture
def run() -> Run:
    return with_claims(read_run(FOLDER))


def cell(operation: str, arm: str, interfaces: int) -> Cell:
    return Cell({"operation": operation, "arm": arm, "interfaces": interfaces})


def test_its_samples_are_read(run: Run) -> None:
    lines = (FOLDER / SAMPLES_FILE).read_text().splitlines()
    assert len(run.samples) == len(lines) == 72
    assert {sample.cell for sample in run.samples if sample.trial} == set(run.cells)
    assert cell("mtu", "group", 32) in run.cells
    assert all(sample.clock == "real" for sample in run.samples)
    assert all("notifications" in sample.metrics for sample in run.samples)


def test_its_boots_and_tallies_are_read(run: Run) -> None:
    assert len(run.boots) == 8
    assert {tally.cell["interfaces"] for tally in run.tallies} == {32}
    assert all(tally.metrics["system_calls"] > 0 for tally in run.tallies)


def test_its_tables_have_the_figures_that_were_printed_then(run: Run) -> None:
    now = as_text(run)
    before = (FOLDER / "table.txt").read_text()
    rows = [line.split() for line in before.splitlines() if re.match(r"\s+(4|8|16|32)\s", line)]
    assert len(rows) == 16  # four counts of two operations on two kernels
    shown = [line.split() for line in now.splitlines()]
    assert all(row in shown for row in rows)


def test_its_claims_are_worked_out_again(run: Run) -> None:
    found = {claim["text"]: claim["finding"] for claim in run.about["claims"]}
    assert len(found) == 4
    assert all(f"{text[:20]}" in (FOLDER / "table.txt").read_text() for text in found)


def test_a_list_of_runs_has_its_key_figure(run: Run) -> None:
    assert re.fullmatch(r"mtu at 32: nosysfs [\d.]+x, sysfs [\d.]+x", headline(run))


def test_it_makes_a_page(run: Run) -> None:
    text = page([(FOLDER, run)])
    assert text.count("<svg") >= 4
    assert "invoke run --kernel sysfs,nosysfs" in text


def test_it_is_exported(run: Run) -> None:
    suites = suites_of(run)
    assert [suite.kernel.name for suite in suites if suite.kernel] == ["sysfs", "nosysfs"]
    leaves = {"/".join(path): outcome for path, outcome in suites[0].leaves()}
    assert leaves["mtu/group/32"].status is Status.PASS
    assert leaves["boot/4"].status is Status.PASS


def test_it_is_compared_with_another_of_its_kind(run: Run) -> None:
    versus = comparison_of_runs((FOLDER, run), (FOLDER, run), Rule())
    assert len(versus.rows) == 32  # two operations, two arms, four counts, two kernels
    assert {row.comparison.change for row in versus.rows} == {1.0}
    assert Effect.WORSE not in {row.comparison.verdict for row in versus.rows}


def test_it_can_be_done_again(run: Run) -> None:
    again = revived(run.about, "", as_json=False)
    assert again.param == ("listeners=1",)
    assert set(again.cells({})) == set(run.cells)
    assert again.machine.clock == "real"


def test_history_lists_it(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "run")
    (entry,) = entries(tmp_path)
    assert (entry.verdict, entry.kernels) == ("pass", ["sysfs", "nosysfs"])
    assert (tmp_path / "run" / RUN_FILE).is_file()
