"""Where the time goes: the costs of arms, and how they grow, of hand-made runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hand_made import PAPER_COUNTS, run_of, sample

from linklab.report.costs import costs, growths
from linklab.report.figures import Figures, duration_text
from linklab.report.table import as_text
from linklab.results.fit import Power
from linklab.results.model import Run, Sample


def trial(arm: str, count: int, seconds: float, **more: Any) -> Sample:
    return replace(sample("sysfs", arm, count, seconds), **more)


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


def test_costs_are_those_of_the_largest_count() -> None:
    run = growing({"group": 1e-4, "process": 1e-2})
    assert {(c.arm, c.interfaces, c.seconds) for c in costs(Figures(run), "mtu")} == {
        ("group", 2048, 1e-4 * 2048),
        ("process", 2048, 1e-2 * 2048),
    }


def test_costs_are_medians_of_the_trials_that_are_valid() -> None:
    trials = [
        trial("group", 8, 1.0, trial=1, context_switches=3, user_seconds=0.1),
        trial("group", 8, 3.0, trial=2, context_switches=9, user_seconds=0.3),
        trial("group", 8, 2.0, trial=3, context_switches=4, user_seconds=0.9),
        trial("group", 8, 0.0, trial=4, context_switches=999, verified=False),
        trial("batch", 8, 1.0),
    ]
    group, _ = costs(Figures(run_of(["sysfs"], trials)), "mtu")
    assert (group.seconds, group.context_switches, group.user_seconds) == (2.0, 4, 0.3)


def test_one_arm_has_nothing_to_be_compared_with() -> None:
    run = growing({"group": 1e-4})
    assert [cost.arm for cost in costs(Figures(run), "mtu")] == ["group"]
    assert "what it cost" not in as_text(run)


def test_an_arm_that_never_ended_well_is_left_out() -> None:
    trials = [trial("group", 8, 1.0), trial("process", 8, 1.0, verified=False)]
    assert [c.arm for c in costs(Figures(run_of(["sysfs"], trials)), "mtu")] == ["group"]


def test_what_was_counted_stands_beside_what_was_timed() -> None:
    trials = [trial("group", 8, 1.0), trial("process", 8, 2.0, processes=8)]
    tallies = [tally("group", 8, 150, 2), tally("process", 4, 99, 99)]
    text = as_text(run_of(["sysfs"], trials, tallies=tallies))
    assert row_of(text, "sysfs", "group")[-2:] == ["2", "150"]
    assert row_of(text, "sysfs", "process")[-3:] == ["8", "-", "-"], "not of another count"


def test_notifications_are_shown_where_somebody_listened() -> None:
    heard = {"listeners": 3, "notifications": 20, "notifications_lost": 4}
    text = as_text(run_of(["sysfs"], [trial("group", 8, 1.0, **heard), trial("batch", 8, 1.0)]))
    heard_by = text[text.index("what 3 listeners heard of 8 interfaces") :]
    assert row_of(heard_by, "sysfs", "group")[-2:] == ["20", "4"]
    quiet = as_text(run_of(["sysfs"], [trial("group", 8, 1.0), trial("batch", 8, 1.0)]))
    assert "lost" not in quiet


def test_what_listeners_heard_of_one_arm_is_shown_too() -> None:
    alone = trial("group", 8, 1.0, listeners=1, notifications=8)
    assert "what 1 listener heard" in as_text(run_of(["sysfs"], [alone]))


def test_growth_is_fitted_for_each_kernel_and_arm() -> None:
    found = growths(Figures(growing({"group": 1e-5, "process": 1e-2})), "mtu")
    assert [(g.kernel, g.arm) for g in found] == [("sysfs", "group"), ("sysfs", "process")]
    assert [g.fit.terms[Power.LINEAR].value for g in found] == pytest.approx([1e-5, 1e-2])


def test_growth_needs_three_counts() -> None:
    trials = [trial(arm, n, 0.1 * n) for arm in ("group", "batch") for n in (8, 16)]
    run = run_of(["sysfs"], trials)
    assert growths(Figures(run), "mtu") == []
    assert "b N" not in as_text(run)


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (3.46e-6, "3.46 us"),
        (0.0135, "13.5 ms"),
        (21.74, "21.7 s"),
        (217.4, "217 s"),
        (999.9e-9, "1.00 us"),
        (-0.002, "-2.00 ms"),
        (2.5e-9, "2.50 ns"),
    ],
)
def test_durations_have_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
