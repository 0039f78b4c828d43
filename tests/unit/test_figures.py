"""Figures worked out of hand-made runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hand_made import both_arms, cell, created, run_of, sample, sample_in

from linklab.results.figures import Figure, Figures
from linklab.results.model import first_shape
from linklab.results.shape import Axis, Better, Cell, Metric, Shape

MTU = Cell({"operation": "mtu"})


def test_a_cell_is_the_median_of_what_is_valid() -> None:
    samples = [
        sample("sysfs", "group", 128, seconds, trial=trial)
        for trial, seconds in enumerate((0.3, 0.1, 0.9), 1)
    ]
    wrong = sample("sysfs", "group", 128, 0.0001, trial=4, verified=False)
    figures = Figures(run_of(["sysfs"], [*samples, wrong]))
    found = figures.figure("sysfs", cell("mtu", "group", 128))
    assert (found.value, found.valid, found.invalid) == (0.3, 3, 1)
    assert found.interval is not None
    assert found.interval.low >= 0.1, "what is not valid is not in it"


def test_a_cell_of_wrong_states_alone_has_no_figure() -> None:
    figures = Figures(run_of(["sysfs"], [sample("sysfs", "group", 128, 0.1, verified=False)]))
    assert figures.figure("sysfs", cell("mtu", "group", 128)) == Figure(None, 0, 1)


def test_a_cell_that_was_not_measured_is_empty() -> None:
    figures = Figures(run_of(["sysfs"], both_arms("sysfs", {128: 40})))
    for kernel, place in (
        ("sysfs", cell("up", "group", 128)),
        ("nosysfs", cell("mtu", "group", 128)),
        ("sysfs", cell("mtu", "batch", 128)),
        ("sysfs", cell("mtu", "group", 256)),
    ):
        assert figures.figure(kernel, place) == Figure(None, 0, 0)


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
        assert figures.figure(one.kernel, one.cell) == Figure(one.metrics["seconds"], 1, 0)


def test_the_creation_of_the_set_up_is_kept_apart_from_the_operation() -> None:
    trial = sample("sysfs", "netlink", 128, 5.0, operation="create")
    figures = Figures(run_of(["sysfs"], [created("sysfs", 128, 1.0), trial]))
    create = cell("create", "netlink", 128)
    assert figures.set_up("sysfs", create) == 1.0
    assert figures.figure("sysfs", create) == Figure(5.0, 1, 0)
    only_set_up = Figures(run_of(["sysfs"], [created("sysfs", 128, 1.0)]))
    assert only_set_up.sheets == []
    assert only_set_up.rows(create.of(["operation"])) == []
    assert only_set_up.set_up("nosysfs", create) is None
    wrong = replace(created("sysfs", 128, 1.0), verified=False)
    assert Figures(run_of(["sysfs"], [wrong])).set_up("sysfs", create) is None


def test_columns_come_as_in_the_paper_and_rows_by_size() -> None:
    samples = both_arms("sysfs", {2048: 60, 128: 40})
    figures = Figures(run_of(["my/bzImage", "sysfs", "nosysfs"], samples))
    assert figures.kernels == ["nosysfs", "sysfs", "my/bzImage"]
    assert figures.rows(MTU) == [128, 2048]
    assert figures.columns(MTU) == ["group", "process"]


def test_arms_beside_the_group_come_in_the_order_they_were_measured() -> None:
    arms = ("netlink", "process", "group", "batch")
    figures = Figures(run_of(["sysfs"], [sample("sysfs", arm, 128, 1) for arm in arms]))
    assert figures.columns(MTU) == ["group", "netlink", "process", "batch"]


def test_arms_and_operations_come_as_they_were_listed_in_whatever_order_they_were_measured() -> (
    None
):
    plan = {"operations": ["mtu", "up"], "arms": ["process", "netlink", "group"]}
    tried = [("up", "netlink"), ("mtu", "group"), ("mtu", "netlink"), ("mtu", "process")]
    samples = [sample("sysfs", arm, 128, 1, operation=operation) for operation, arm in tried]
    figures = Figures(run_of(["sysfs"], samples, plan=plan))
    assert [sheet.text for sheet in figures.sheets] == ["mtu", "up"]
    assert figures.columns(MTU) == ["group", "process", "netlink"]


def test_operations_come_in_the_order_they_were_measured() -> None:
    samples = [sample("sysfs", "group", 1, 1, operation=o) for o in ("up", "mtu", "up", "down")]
    sheets = Figures(run_of(["sysfs"], samples)).sheets
    assert [sheet.text for sheet in sheets] == ["up", "mtu", "down"]


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
    found = Figures(run_of(["sysfs"], samples)).ratio("sysfs", cell("mtu", "group", 128))
    assert found == (pytest.approx(ratio) if ratio is not None else None)


def test_counts_of_set_up_are_those_of_any_kernel_by_size() -> None:
    samples = [created("sysfs", c, 1) for c in (512, 128, 256)]
    samples += [created("nosysfs", c, 1) for c in (512, 64)]
    samples += [sample("sysfs", "group", 1024, 1)]
    figures = Figures(run_of(["sysfs", "nosysfs", "other"], samples))
    assert figures.set_up_values("interfaces") == [64, 128, 256, 512]
    assert Figures(run_of(["sysfs"])).set_up_values("interfaces") == []


def test_the_boot_is_the_median_of_all_boots() -> None:
    assert Figures(run_of(["sysfs"], boots=[0.9, 0.5, 0.6])).boot_seconds() == 0.6
    assert Figures(run_of(["sysfs"])).boot_seconds() is None


# Another experiment


SHAPE = Shape(
    axes=(
        Axis("links", per_guest=True),
        Axis("mode", among=("plain", "fast")),
        Axis("size", log=False),
    ),
    metrics=(Metric("goodput", "Mbit/s", Better.MORE), Metric("loss", "%", zero=True)),
    rows="size",
    columns="mode",
    versus=("fast", "plain"),
)


def sent(mode: str, size: int, goodput: float, links: int = 1, **metrics: float) -> Figures:
    place = Cell({"links": links, "mode": mode, "size": size})
    return Figures(
        run_of(["k"], [sample_in("k", place, {"goodput": goodput, **metrics})],
               shape=SHAPE.to_json())
    )  # fmt: skip


def test_a_run_is_asked_by_its_own_axes_and_metrics() -> None:
    figures = sent("fast", 64, 9.5, loss=0.0)
    (sheet,) = figures.sheets
    assert sheet == Cell({"links": 1})
    place = figures.cell(sheet, 64, "fast")
    assert place == Cell({"links": 1, "mode": "fast", "size": 64})
    assert list(place) == ["links", "mode", "size"], "in the order of the axes"
    assert figures.figure("k", place) == Figure(9.5, 1, 0)
    loss = SHAPE.metric_named("loss")
    assert figures.figure("k", place, loss) == Figure(0.0, 1, 0), "nothing lost is a figure"


def test_a_metric_that_was_not_measured_has_no_figure() -> None:
    figures = sent("fast", 64, 9.5)
    place = figures.cell(figures.sheets[0], 64, "fast")
    assert figures.figure("k", place, SHAPE.metric_named("loss")) == Figure(None, 0, 0)


def test_a_ratio_is_the_first_of_the_two_columns_by_the_second() -> None:
    rows = [("fast", 9.0), ("plain", 6.0)]
    samples = [
        sample_in("k", Cell({"links": 1, "mode": m, "size": 64}), {"goodput": v}) for m, v in rows
    ]
    figures = Figures(run_of(["k"], samples, shape=SHAPE.to_json()))
    (sheet,) = figures.sheets
    assert figures.columns(sheet) == ["plain", "fast"], "what is divided by stands first"
    assert figures.has_ratio(sheet)
    assert figures.ratio("k", figures.cell(sheet, 64, "plain")) == 1.5
    without = replace(SHAPE, versus=None)
    figures = Figures(run_of(["k"], samples, shape=without.to_json()))
    assert not figures.has_ratio(sheet)
    assert figures.ratio("k", figures.cell(sheet, 64, "plain")) is None


def test_sheets_of_numbers_come_by_size() -> None:
    samples = [
        sample_in("k", Cell({"links": n, "mode": "fast", "size": 64}), {"goodput": 1.0})
        for n in (16, 2, 4)
    ]
    figures = Figures(run_of(["k"], samples, shape=SHAPE.to_json()))
    assert [sheet["links"] for sheet in figures.sheets] == [2, 4, 16]


def test_values_come_as_a_plan_lists_them_by_axis_or_as_the_first_release_did() -> None:
    samples = [sample("k", arm, 8, 1.0) for arm in ("dump", "batch", "netlink")]
    for plan in (
        {"axes": {"arm": ["netlink", "dump", "batch"]}},
        {"arms": ["netlink", "dump", "batch"]},
    ):
        found = Figures(run_of(["k"], samples, plan=plan)).columns(MTU)
        assert found == ["netlink", "dump", "batch"]
    assert first_shape().axis("arm").alias == "arms"
