"""`invoke bench --against`: two checkouts, taken in turn, each by a program of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.bench.against import PairedFigure, State, commands, measure, rows, table
from linklab.errors import UsageError
from linklab.host.run import CommandFailed
from linklab.report.grid import plain_text

_TASKS = '''
import time
from pathlib import Path
from invoke import task
import linklab

@task
def run(c):
    """Run."""

@task
def history(c, results=""):
    """Show."""
    assert len(list(Path(results).iterdir())) == {runs}, "one untimed, and the pairs"
    time.sleep({sleep})

@task
def compare(c, first, second, counts="", arms="", boot="", blocks="", output=""{clock}):
    """Compare."""
    Path(output).mkdir(parents=True)  # a second time into the same folder fails
    with open({log!r}, "a") as log:
        log.write("{name}\\n")

@task
def bench(c, kernel="", repeat=""{clock}):
    """Say one row that both have and one that only this state has."""
    assert linklab.NAME == "{name}"
    print("  boot direct, QEMU's start to hello   {boot} s   0.1   0.9      1")
    print("  only of {name}                       7 MB   7   7      1")
'''


@pytest.fixture
def states(tmp_path: Path) -> tuple[State, State, Path]:
    """Two checkouts: the older knows no clock, and its history takes longer."""
    log = tmp_path / "log"
    made = []
    for name, clock, boot, sleep in (("old", "", "0.5", "0.6"), ("new", ', clock=""', "0.25", "0")):
        folder = tmp_path / name
        (folder / "linklab").mkdir(parents=True)
        (folder / "linklab/__init__.py").write_text(f'NAME = "{name}"\n')
        text = _TASKS.format(name=name, clock=clock, boot=boot, sleep=sleep, log=str(log), runs=3)
        (folder / "tasks.py").write_text(text)
        made.append(State.of(folder, tmp_path / "results" / name))
    return made[0], made[1], log


def test_both_states_are_taken_in_turn_and_rows_of_one_name_are_paired(
    states: tuple[State, State, Path],
) -> None:
    there, here, log = states
    said: list[str] = []
    found = {
        figure.name: figure
        for figure in measure(
            there, here, "sysfs", "real", 2, lambda _turn, what: said.append(what)
        )
    }
    assert set(found) == {*commands("sysfs", "real"), "boot direct, QEMU's start to hello"}
    assert found["boot direct, QEMU's start to hello"].pairs == ((0.5, 0.25), (0.5, 0.25))
    assert all(before > 0.6 for before, _ in found["`invoke history`, of these"].pairs), (
        "it sleeps so long"
    )
    assert log.read_text().split() == ["old", "new", "old", "new", "old", "new"]  # once untimed
    assert len(said) == 2 * (len(commands("sysfs", "real")) + 1)  # as the bar expects
    shown = plain_text(table(there, list(found.values())))
    assert "0.50" in shown
    assert "worse" not in next(line for line in shown.splitlines() if "boot direct" in line)


def test_a_command_that_no_spelling_gets_through_is_an_error(
    states: tuple[State, State, Path],
) -> None:
    there, _, _ = states
    with pytest.raises(CommandFailed, match="nothing-like-it"):
        there.first_taken((("nothing-like-it",), ("nothing-like-it", "--again")))


@pytest.mark.parametrize("lacking", ["tasks.py", "linklab"])
def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, lacking: str) -> None:
    (tmp_path / "linklab").mkdir()
    (tmp_path / "tasks.py").touch()
    gone = tmp_path / lacking
    gone.rmdir() if gone.is_dir() else gone.unlink()
    with pytest.raises(UsageError, match=f"--against {tmp_path}: no checkout"):
        State.of(tmp_path, tmp_path)


def test_rows_are_read_off_a_benchs_table() -> None:
    printed = """
 TCG, emulated
 figure                                 median    least  most  runs  aim  of the aim
 ───────────────────────────────────────────────────────────────────────────────────
 request and reply, second UART of pc   2.5e-05 ms   1e-05  3     1    2 ms  0.00
 ISO with both kernels                  7.61 MB      7.61   7.61  1
"""
    assert rows(printed) == {
        ("request and reply, second UART of pc", "ms"): 2.5e-05,
        ("ISO with both kernels", "MB"): 7.61,
    }


def test_a_figure_is_worse_where_every_pair_says_so() -> None:
    assert PairedFigure("boot", "s", ((1.0, 1.06), (2.0, 2.2))).worse
    assert not PairedFigure("boot", "s", ((1.0, 1.06), (2.0, 2.0))).worse
