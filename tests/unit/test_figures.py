"""Figures worked out of hand-made runs, and how they are written."""

from __future__ import annotations

import re

import pytest
from hand_made import both_arms, created, run_of, sample
from hypothesis import given
from hypothesis import strategies as st

from linklab.report.figures import Cell, Figures, ratio_text, seconds_text


def test_a_cell_is_the_median_of_what_is_valid() -> None:
    samples = [
        sample("sysfs", "group", 128, seconds, trial=trial)
        for trial, seconds in enumerate((0.3, 0.1, 0.9), 1)
    ]
    wrong = sample("sysfs", "group", 128, 0.0001, trial=4, verified=False)
    figures = Figures(run_of(["sysfs"], [*samples, wrong]))
    cell = figures.cell("mtu", "sysfs", "group", 128)
    assert (cell.seconds, cell.valid, cell.invalid) == (0.3, 3, 1)
    assert cell.interval is not None
    assert cell.interval.low >= 0.1, "what is not valid is not in it"


def test_a_cell_of_wrong_states_alone_has_no_figure() -> None:
    figures = Figures(run_of(["sysfs"], [sample("sysfs", "group", 128, 0.1, verified=False)]))
    assert figures.cell("mtu", "sysfs", "group", 128) == Cell(None, 0, 1)


def test_a_cell_that_was_not_measured_is_empty() -> None:
    figures = Figures(run_of(["sysfs"], both_arms("sysfs", {128: 40})))
    for cell in (("up", "sysfs", "group", 128), ("mtu", "nosysfs", "group", 128)):
        assert figures.cell(*cell) == Cell(None, 0, 0)
    assert figures.cell("mtu", "sysfs", "batch", 128) == Cell(None, 0, 0)
    assert figures.cell("mtu", "sysfs", "group", 256) == Cell(None, 0, 0)


def test_samples_of_different_cells_are_not_mixed() -> None:
    samples = [
        sample(kernel, arm, count, seconds, operation=operation)
        for seconds, (kernel, arm, count, operation) in enumerate(
            (
                ("sysfs", "group", 128, "mtu"),
                ("nosysfs", "group", 128, "mtu"),
                ("sysfs", "process", 128, "mtu"),
                ("sysfs", "group", 256, "mtu"),
                ("sysfs", "group", 128, "up"),
            ),
            1,
        )
    ]
    figures = Figures(run_of(["sysfs", "nosysfs"], samples))
    for one in samples:
        cell = figures.cell(one.operation, one.kernel, one.arm, one.interfaces)
        assert cell == Cell(one.seconds, 1, 0)


def test_the_creation_of_the_set_up_is_kept_apart_from_the_operation() -> None:
    trial = sample("sysfs", "netlink", 128, 5.0, operation="create")
    figures = Figures(run_of(["sysfs"], [created("sysfs", 128, 1.0), trial]))
    assert figures.creation("sysfs", 128) == 1.0
    assert figures.cell("create", "sysfs", "netlink", 128) == Cell(5.0, 1, 0)
    only_set_up = Figures(run_of(["sysfs"], [created("sysfs", 128, 1.0)]))
    assert only_set_up.operations == []
    assert only_set_up.counts("create") == []


def test_columns_come_as_in_the_paper_and_rows_by_size() -> None:
    samples = both_arms("sysfs", {2048: 60, 128: 40})
    figures = Figures(run_of(["my/bzImage", "sysfs", "nosysfs"], samples))
    assert figures.kernels == ["nosysfs", "sysfs", "my/bzImage"]
    assert figures.counts("mtu") == [128, 2048]
    assert figures.arms("mtu") == ["group", "process"]


def test_arms_beside_the_group_come_in_the_order_they_were_measured() -> None:
    arms = ("netlink", "process", "group", "batch")
    figures = Figures(run_of(["sysfs"], [sample("sysfs", arm, 128, 1) for arm in arms]))
    assert figures.arms("mtu") == ["group", "netlink", "process", "batch"]


def test_arms_and_operations_come_as_they_were_listed_in_whatever_order_they_were_measured() -> (
    None
):
    plan = {"operations": ["mtu", "up"], "arms": ["process", "netlink", "group"]}
    tried = [("up", "netlink"), ("mtu", "group"), ("mtu", "netlink"), ("mtu", "process")]
    samples = [sample("sysfs", arm, 128, 1, operation=operation) for operation, arm in tried]
    figures = Figures(run_of(["sysfs"], samples, plan=plan))
    assert figures.operations == ["mtu", "up"]
    assert figures.arms("mtu") == ["group", "process", "netlink"]


def test_operations_come_in_the_order_they_were_measured() -> None:
    samples = [sample("sysfs", "group", 1, 1, operation=o) for o in ("up", "mtu", "up", "down")]
    assert Figures(run_of(["sysfs"], samples)).operations == ["up", "mtu", "down"]


@pytest.mark.parametrize(
    ("group", "process", "ratio"),
    [(0.01, 0.49, 49), (0.5, 0.25, 0.5), (0.0, 0.25, None), (0.01, None, None), (None, 1.0, None)],
)
def test_a_ratio_needs_both_arms(
    group: float | None, process: float | None, ratio: float | None
) -> None:
    samples = [
        sample("sysfs", arm, 128, seconds)
        for arm, seconds in (("group", group), ("process", process))
        if seconds is not None
    ]
    found = Figures(run_of(["sysfs"], samples)).ratio("mtu", "sysfs", 128)
    assert found == (pytest.approx(ratio) if ratio is not None else None)


def test_counts_of_creation_are_those_that_all_the_kernels_have() -> None:
    samples = [created("sysfs", c, 1) for c in (128, 256, 512)]
    samples += [created("nosysfs", c, 1) for c in (512, 256)]
    figures = Figures(run_of(["sysfs", "nosysfs", "other"], samples))
    assert figures.creation_counts(["sysfs", "nosysfs"]) == [256, 512]
    assert figures.creation_counts(["sysfs", "other"]) == []
    assert figures.creation_counts([]) == []


def test_the_boot_is_the_median_of_all_boots() -> None:
    assert Figures(run_of(["sysfs"], boots=[0.9, 0.5, 0.6])).boot_seconds() == 0.6
    assert Figures(run_of(["sysfs"])).boot_seconds() is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.00312, "0.00312"),
        (0.312, "0.312"),
        (3.12, "3.12"),
        (31.2, "31.2"),
        (312.0, "312"),
        (3123.0, "3123"),
        (0.0123456, "0.0123"),
        (0.9994, "0.999"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (0.000000123, "0.000000123"),
    ],
)
def test_seconds_have_three_digits_that_count(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@given(st.floats(1e-6, 1e5))
def test_seconds_as_text_are_the_seconds_to_half_a_percent(seconds: float) -> None:
    text = seconds_text(seconds)
    assert float(text) == pytest.approx(seconds, rel=0.0051)
    digits = re.sub(r"^[0.]*", "", text).replace(".", "")
    assert len(digits) == 3 or seconds > 999


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "-"),
        (0.5, "0.5x"),
        (1.0, "1x"),
        (1.44, "1.4x"),
        (9.94, "9.9x"),
        (9.99, "10x"),
        (10.4, "10x"),
        (40.7, "41x"),
        (312.4, "312x"),
        (12345.0, "12345x"),
    ],
)
def test_a_factor_has_two_or_three_digits(ratio: float | None, text: str) -> None:
    assert ratio_text(ratio) == text
