"""A comparison as a person reads it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hand_made import run_of, sample

from linklab.errors import UsageError
from linklab.report.layout import plain_text
from linklab.report.versus import Row, Versus, p_text, render, versus_of
from linklab.report.versusruns import versus_of_runs
from linklab.results.comparison import Comparison, Effect, Rule
from linklab.results.kinds import has_comparison
from linklab.results.model import Run
from linklab.results.work import Work

SLOWER = Comparison(1.098, 1.071, 1.126, 0.0004, Effect.SLOWER, 0, 20, 0.036, 0.0395, 0.95)
FASTER = replace(SLOWER, ratio=0.88, low=0.85, high=0.9, verdict=Effect.FASTER)
SAME = replace(SLOWER, ratio=1.002, low=0.991, high=1.013, p_value=0.7, verdict=Effect.SAME)
OPEN = replace(
    SAME, low=0.96, high=1.09, verdict=Effect.INCONCLUSIVE, more_blocks_needed=35, blocks=14
)
WORK = Work("mtu", "group", 1024)
TCG = "TCG (software emulation: compare ratios, not seconds)"


def versus(*comparisons: Comparison) -> Versus:
    rows = [Row(replace(WORK, interfaces=n), one) for n, one in enumerate(comparisons, 1024)]
    return Versus("nosysfs", "nosysfs+fix.patch", rows, 0.03, TCG, "TCG, resume boot")


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (
            SLOWER,
            "nosysfs+fix.patch takes 9.8 % longer than nosysfs in mtu by group, 1024 interfaces: "
            "95 % interval +7.1 to +12.6 %, p = 0.0004, 20 blocks (TCG, resume boot).",
        ),
        (
            FASTER,
            "nosysfs+fix.patch takes 12.0 % less time than nosysfs in mtu by group, "
            "1024 interfaces: 95 % interval -15.0 to -10.0 %, p = 0.0004, 20 blocks "
            "(TCG, resume boot).",
        ),
        (
            SAME,
            "nosysfs+fix.patch takes as long as nosysfs in mtu by group, 1024 interfaces, "
            "within 3 %: 95 % interval -0.9 to +1.3 %, p = 0.7, 20 blocks (TCG, resume boot).",
        ),
        (
            OPEN,
            "Whether nosysfs+fix.patch takes longer than nosysfs in mtu by group, "
            "1024 interfaces is not known: 95 % interval -4.0 to +9.0 %, p = 0.7, 14 blocks; "
            "about 35 more blocks would settle it (TCG, resume boot).",
        ),
    ],
)
def test_one_comparison_is_one_sentence(comparison: Comparison, sentence: str) -> None:
    assert versus(comparison).sentence() == sentence


def test_several_comparisons_are_one_sentence_too() -> None:
    assert versus(SLOWER, FASTER, SAME, SAME, OPEN).sentence() == (
        "nosysfs+fix.patch against nosysfs in 5 comparisons: "
        "slower in mtu by group, 1024 interfaces (9.8 % longer, 95 % interval +7.1 to +12.6 %), "
        "faster in mtu by group, 1025 interfaces (12.0 % less time, "
        "95 % interval -15.0 to -10.0 %), the same within 3 % in 2, inconclusive in 1 "
        "(TCG, resume boot)."
    )


def test_in_a_list_of_runs_it_is_a_few_words() -> None:
    assert versus(SLOWER).summary() == "slower, +9.8 % in mtu by group, 1024 interfaces"
    assert versus(SAME, OPEN, SAME).summary() == "2 same, 1 inconclusive"


def test_nothing_measured_is_not_taken_for_the_same() -> None:
    shown = plain_text(render(versus()))
    assert "Nothing was measured of both nosysfs and nosysfs+fix.patch." in shown
    assert "same" not in shown


def test_the_table_has_what_a_reviewer_asks_for() -> None:
    shown = plain_text(render(versus(SLOWER)), width=80)
    assert TCG in shown
    assert "medians of 20 blocks" in shown
    for part in ("36.0 ms", "39.5 ms", "1.098 [1.071, 1.126]", "0.0004", "slower"):
        assert part in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_what_is_open_says_below_the_table_what_would_settle_it() -> None:
    shown = plain_text(render(versus(SLOWER, OPEN, replace(OPEN, more_blocks_needed=None))), 200)
    assert "medians of 14 to 20 blocks" in shown
    assert "mtu by group, 1025 interfaces: about 35 more blocks would settle it" in shown
    assert "1026 interfaces: the effect is too near the threshold to be settled" in shown


def test_kernels_have_a_column_where_runs_are_compared() -> None:
    rows = [Row(WORK, SAME, "sysfs"), Row(WORK, SLOWER, "nosysfs[x]")]
    shown = plain_text(render(Versus("one", "other", rows, 0.03, "KVM", "KVM")), 200)
    assert "nosysfs[x]" in shown
    assert "mtu by group, 1024 interfaces, kernel nosysfs[x] (9.8 % longer" in shown


def test_a_p_value_that_cannot_be_told_from_0_is_a_bound() -> None:
    assert p_text(0.00005) == "< 0.0001"
    assert p_text(0.0312) == "0.031"


def test_a_stored_comparison_is_read_back_as_it_was() -> None:
    about = {
        "kind": "compare",
        "accel": "tcg",
        "boot": "resume",
        "plan": {"trials": 5},
        "comparison": {
            "a": "nosysfs",
            "b": "nosysfs+fix.patch",
            "threshold": 0.03,
            "results": [{**asdict(WORK), **asdict(SLOWER)}],
        },
    }
    found = versus_of(about)
    assert found == replace(
        versus(SLOWER), setting="TCG, resume boot, 5 trials in each guest", rows=found.rows
    )
    assert list(found.rows) == [Row(WORK, SLOWER)]
    assert has_comparison(about)
    assert not has_comparison({})


# Stored runs


def stored(kernels: dict[str, float], **about: Any) -> Run:
    """A run in which each kernel took so many seconds, a little more or less."""
    samples = [
        sample(kernel, "group", 128, seconds * (1 + 0.001 * (trial % 5)), trial=trial)
        for kernel, seconds in kernels.items()
        for trial in range(1, 13)
    ]
    return run_of(list(kernels), samples, **{"scenario": "grouping", **about})


def against(one: Run, other: Run) -> Versus:
    return versus_of_runs((Path("then"), one), (Path("now"), other), Rule(draws=500))


def test_two_runs_are_compared_kernel_by_kernel() -> None:
    found = against(
        stored({"sysfs": 0.02, "nosysfs": 0.01}), stored({"nosysfs": 0.01, "sysfs": 0.024})
    )
    assert (found.a, found.b) == ("then", "now")
    verdicts = {row.kernel: row.comparison.verdict for row in found.rows}
    assert verdicts == {"sysfs": Effect.SLOWER, "nosysfs": Effect.SAME}
    assert "at different times" in found.sentence()


def test_kernels_that_are_left_over_stand_for_each_other() -> None:
    (row,) = against(stored({"nosysfs": 0.02}), stored({"nosysfs+fix.patch": 0.01})).rows
    assert row.comparison.verdict is Effect.FASTER
    assert row.comparison.ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("accelerator", {"accel": "kvm"}),
        ("boot", {"boot": "resume"}),
        ("QEMU version", {"qemu": {"version": "10.0.0"}}),
        ("image: initramfs", {"image": {"initramfs": "12"}}),
        ("host CPU", {"host": {"cpu": "another"}}),
        ("guest for each trial", {"plan": {"fresh_guest": True}}),
        ("trials in each guest", {"plan": {"trials": 5}}),
    ],
)
def test_runs_that_differ_in_what_makes_the_seconds_are_refused(
    what: str, about: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="must not be compared") as caught:
        against(stored({"sysfs": 0.02}), stored({"sysfs": 0.02}, **about))
    assert what in caught.value.evidence


def test_runs_that_have_nothing_in_common_say_so() -> None:
    empty = run_of(["sysfs"], [], scenario="grouping")
    found = against(stored({"sysfs": 0.02}), empty)
    assert found.sentence() == "Nothing was measured of both then and now."
