"""What the work of an experiment cost, and how that grows, of hand-made runs."""

from __future__ import annotations

from typing import Any

import pytest
from hand_made import PAPER_COUNTS, run_of, sample, sample_in

from linklab.report.grid import Entry, Grid
from linklab.report.tables import as_text, cost_grid, growth_grid
from linklab.results.figures import Figures
from linklab.results.model import Run, Sample, first_shape
from linklab.results.shape import Axis, Better, Cell, Metric, Shape

MTU = Cell({"operation": "mtu"})


def trial(arm: str, count: int, seconds: float, **more: Any) -> Sample:
    return sample("sysfs", arm, count, seconds, **more)


def tally(arm: str, count: int, calls: int, messages: int) -> dict[str, Any]:
    return {
        "kernel": "sysfs",
        "operation": "mtu",
        "arm": arm,
        "interfaces": count,
        "system_calls": calls,
        "messages": messages,
    }


def growing(arms: dict[str, float]) -> Run:
    samples = [trial(arm, n, each * n) for arm, each in arms.items() for n in PAPER_COUNTS]
    return run_of(["sysfs"], samples)


def row_of(text: str, *begin: str) -> list[str]:
    return next(
        line.split() for line in text.splitlines() if line.split()[: len(begin)] == [*begin]
    )


def cost(run: Run, letter: str = "") -> Grid:
    grid = cost_grid(Figures(run), MTU, letter)
    assert grid is not None
    return grid


def by_arm(grid: Grid) -> dict[str, dict[str, Entry]]:
    """What stands in each row, by the arm and the column's name."""
    names = [column.name for column in grid.columns]
    return {row[1].text: dict(zip(names, row, strict=True)) for row in grid.rows}


def test_costs_are_those_of_the_largest_count() -> None:
    grid = cost(growing({"group": 1e-4, "process": 1e-2}))
    assert {arm: row["time"].number for arm, row in by_arm(grid).items()} == {
        "group": 1e-4 * 2048,
        "process": 1e-2 * 2048,
    }
    assert grid.caption == "mtu: what it cost, the same work for 2048 interfaces"


def test_costs_are_medians_of_the_trials_that_are_valid() -> None:
    trials = [
        trial("group", 8, 1.0, trial=1, context_switches=3, user_seconds=0.1),
        trial("group", 8, 3.0, trial=2, context_switches=9, user_seconds=0.3),
        trial("group", 8, 2.0, trial=3, context_switches=4, user_seconds=0.9),
        trial("group", 8, 0.0, trial=4, context_switches=999, verified=False),
        trial("batch", 8, 1.0),
    ]
    group = by_arm(cost(run_of(["sysfs"], trials)))["group"]
    assert (group["time"].number, group["context switches"].number) == (2.0, 4)
    assert (group["user"].number, group["user"].text) == (0.3, "300 ms")


def test_one_arm_has_nothing_to_be_compared_with() -> None:
    run = growing({"group": 1e-4})
    assert cost_grid(Figures(run), MTU) is None
    assert "what it cost" not in as_text(run)


def test_an_arm_that_never_ended_well_is_left_out() -> None:
    trials = [trial(arm, 8, 1.0) for arm in ("group", "batch")]
    trials.append(trial("process", 8, 1.0, verified=False))
    assert list(by_arm(cost(run_of(["sysfs"], trials)))) == ["group", "batch"]
    assert cost_grid(Figures(run_of(["sysfs"], trials[1:])), MTU) is None


def test_without_a_valid_sample_there_is_no_cost() -> None:
    wrong = [trial(arm, 9, 1.0, verified=False) for arm in ("group", "process")]
    assert cost_grid(Figures(run_of(["sysfs"], wrong)), MTU) is None


def test_of_several_runs_each_row_says_whose_it_is() -> None:
    run = growing({"group": 1e-4, "process": 1e-2})
    assert [row[0].text for row in cost(run, "B").rows] == ["with sysfs B"] * 2
    assert [row[0].text for row in cost(run).rows] == ["sysfs"] * 2


def test_what_was_counted_stands_beside_what_was_timed() -> None:
    trials = [trial("group", 8, 1.0), trial("process", 8, 2.0, processes=8)]
    tallies = [tally("group", 8, 150, 2), tally("process", 4, 99, 99)]
    text = as_text(run_of(["sysfs"], trials, tallies=tallies))
    assert row_of(text, "sysfs", "group")[-2:] == ["2", "150"]
    assert row_of(text, "sysfs", "process")[-3:] == ["8", "-", "-"], "not of another count"


def test_notifications_are_shown_where_somebody_listened() -> None:
    heard = {"notifications": 20, "notifications_lost": 4}
    run = run_of(["sysfs"], [trial("group", 8, 1.0, **heard), trial("batch", 8, 1.0)])
    rows = by_arm(cost(run))
    assert [rows["group"][name].text for name in ("messages heard", "lost")] == ["20", "4"]
    assert [rows["batch"][name].text for name in ("messages heard", "lost")] == ["0", "0"]
    assert row_of(as_text(run), "sysfs", "group")[-4:-2] == ["20", "4"]
    quiet = as_text(run_of(["sysfs"], [trial("group", 8, 1.0), trial("batch", 8, 1.0)]))
    assert "lost" not in quiet and "heard" not in quiet


def test_what_listeners_heard_of_one_arm_is_shown_too() -> None:
    alone = trial("group", 8, 1.0, notifications=8)
    assert by_arm(cost(run_of(["sysfs"], [alone])))["group"]["messages heard"].text == "8"


def test_of_another_experiment_all_metrics_are_costs() -> None:
    shape = Shape(
        axes=(Axis("mode", among=("plain", "fast")), Axis("size")),
        metrics=(
            Metric("goodput", "Mbit/s", Better.MORE),
            Metric("cpu", "s", short="processor"),
            Metric("loss", "%", zero=True),
        ),
        rows="size",
        columns="mode",
    )
    samples = [
        sample_in("k", Cell({"mode": mode, "size": 64}), metrics)
        for mode, metrics in (
            ("plain", {"goodput": 9.5, "cpu": 0.002, "loss": 0.0}),
            ("fast", {"goodput": 19.5, "cpu": 0.001, "loss": 1.5}),
        )
    ]
    grid = cost_grid(Figures(run_of(["k"], samples, shape=shape.to_json())), Cell())
    assert grid is not None
    assert grid.caption == "what it cost, the same work for 64 size"
    assert [column.name for column in grid.columns] == [
        "kernel", "mode", "goodput", "processor", "loss",
    ]  # fmt: skip
    assert [[entry.text for entry in row[2:]] for row in grid.rows] == [
        ["9.50 Mbit/s", "2.00 ms", "0 %"],
        ["19.5 Mbit/s", "1.00 ms", "1.50 %"],
    ]
    only = Shape(shape.axes, shape.metrics[:1], "size", "mode")
    assert cost_grid(Figures(run_of(["k"], samples, shape=only.to_json())), Cell()) is None


def growth(run: Run) -> Grid | None:
    return growth_grid(Figures(run), MTU)


def test_growth_is_fitted_for_each_kernel_and_arm() -> None:
    grid = growth(growing({"group": 1e-5, "process": 1e-2}))
    assert grid is not None
    rows = [[entry.text for entry in row] for row in grid.rows]
    assert [row[:2] for row in rows] == [["sysfs", "group"], ["sysfs", "process"]]
    linear = [by["b: each"] for by in by_arm(grid).values()]
    assert [entry.number for entry in linear] == pytest.approx([1e-5, 1e-2])
    assert [entry.text for entry in linear] == ["10.0 us", "10.0 ms"]
    assert rows[1][2] == rows[1][4] == "-", "what is not significant"
    assert rows[1][-2] == "linear"


def test_growth_needs_three_counts() -> None:
    trials = [trial(arm, n, 0.1 * n) for arm in ("group", "batch") for n in (8, 16)]
    run = run_of(["sysfs"], trials)
    assert growth(run) is None
    assert "b N" not in as_text(run)


def test_only_a_time_against_a_number_has_a_growth() -> None:
    """A rate may fall with the number of whatever it is, and words have no order."""
    samples = [trial("group", n, 0.1 * n) for n in PAPER_COUNTS]
    first = first_shape()
    rate = Shape(first.axes, (Metric("seconds", "1/s"),), first.rows, first.columns)
    assert growth(run_of(["sysfs"], samples, shape=rate.to_json())) is None
    words = Shape(first.axes, first.metrics, "arm", "interfaces")
    assert growth(run_of(["sysfs"], samples, shape=words.to_json())) is None
    assert growth(run_of(["sysfs"], samples, shape=first.to_json())) is not None


def test_the_fits_stand_under_the_costs_with_units() -> None:
    text = as_text(growing({"group": 1e-5, "process": 1e-2}))
    fits = text[text.index("b N") :]
    row = row_of(fits, "sysfs", "process")
    assert row[2] == "-", "no fixed cost"
    assert row[3:5] == ["10.0", "ms"]
    assert "linear" in row
    assert text.index("what it cost") < text.index("b N")


def test_of_three_counts_the_square_is_a_question() -> None:
    trials = [trial("group", n, 0.1 * n) for n in (8, 16, 32)]
    assert "?" in row_of(as_text(run_of(["sysfs"], trials)), "sysfs", "group")
