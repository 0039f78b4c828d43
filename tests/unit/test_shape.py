"""The shape of an experiment: cells, metrics and axes, as values and as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.results.codec import SchemaError
from linklab.results.model import first_shape
from linklab.results.shape import (
    Axis,
    Better,
    Cell,
    Metric,
    Shape,
    values_on,
)

WORDS = st.text(min_size=1, max_size=8)
VALUES = st.text() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9)
AXES = st.builds(
    Axis,
    name=WORDS,
    values=st.lists(VALUES, max_size=3).map(tuple),
    title=st.text(),
    among=st.lists(WORDS, max_size=3).map(tuple),
    most=st.integers(1, 10**6),
    per_guest=st.booleans(),
    log=st.booleans(),
    alias=st.text(),
    help=st.text(),
)
METRICS = st.builds(
    Metric,
    name=WORDS,
    unit=st.text(),
    better=st.sampled_from(Better),
    zero=st.booleans(),
    title=st.text(),
    short=st.text(),
    matters=st.floats(0, 1e6),
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    axes = tuple(draw(st.lists(AXES, min_size=2, max_size=4, unique_by=lambda axis: axis.name)))
    names = [axis.name for axis in axes]
    return Shape(
        axes=axes,
        metrics=tuple(draw(st.lists(METRICS, min_size=1, max_size=3))),
        rows=draw(st.sampled_from(names)),
        columns=draw(st.sampled_from(names)),
        text=draw(st.text()),
        versus=draw(st.none() | st.tuples(WORDS, WORDS)),
        counted=tuple(draw(st.lists(METRICS, max_size=2))),
        kernels=tuple(draw(st.lists(st.tuples(WORDS, WORDS), max_size=2))),
    )


SIZE = Axis("size", (64, 1500), title="bytes", log=False)
SHAPE = Shape(
    axes=(Axis("mode", ("plain",), among=("plain", "fast")), SIZE, Axis("links", per_guest=True)),
    metrics=(Metric("goodput", "Mbit/s", Better.MORE), Metric("loss", "%", zero=True)),
    rows="size",
    columns="mode",
    kernels=(("new", "with the patch"),),
)
CELL = Cell({"mode": "fast", "size": 1500, "links": 4})


# Through JSON


@given(shapes())
def test_a_shape_survives_json(shape: Shape) -> None:
    assert Shape.from_json(json.loads(json.dumps(shape.to_json()))) == shape


@given(shapes())
def test_what_a_later_version_adds_to_a_shape_is_ignored(shape: Shape) -> None:
    data = shape.to_json() | {"later": 1}
    data["axes"] = [{**axis, "later": [1]} for axis in data["axes"]]
    data["metrics"] = [{**metric, "later": None} for metric in data["metrics"]]
    assert Shape.from_json(data) == shape


def test_what_is_at_its_default_is_not_stored() -> None:
    assert SHAPE.to_json()["axes"][2] == {"name": "links", "per_guest": True}
    assert SHAPE.to_json()["metrics"] == [
        {"name": "goodput", "unit": "Mbit/s", "better": "more"},
        {"name": "loss", "unit": "%", "zero": True},
    ]
    assert not {"text", "versus", "counted"} & set(SHAPE.to_json())


@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_a_cell_survives_json(values: dict[str, str | int | float]) -> None:
    cell = Cell(values)
    again = Cell(json.loads(json.dumps(dict(cell))))
    assert again == cell
    assert hash(again) == hash(cell)
    assert list(again) == list(values)


@pytest.mark.parametrize("missing", ["axes", "metrics", "rows"])
def test_a_shape_that_lacks_something_is_refused(missing: str) -> None:
    data = {name: value for name, value in SHAPE.to_json().items() if name != missing}
    with pytest.raises(SchemaError):
        Shape.from_json(data)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_a_table_by_an_axis_that_there_is_not_is_refused_and_those_there_are_named(
    axis: str,
) -> None:
    with pytest.raises(SchemaError, match=r"'speed'.*'mode', 'size', 'links'"):
        Shape.from_json({**SHAPE.to_json(), axis: "speed"})


# Cells


def test_a_cell_is_a_key_by_what_is_in_it() -> None:
    assert Cell([("mode", "fast"), ("size", 1500), ("links", 4)]) == CELL
    assert {CELL: 1}[Cell(dict(CELL))] == 1
    assert Cell({**CELL, "size": 64}) != CELL
    assert dict(CELL) != CELL, "another kind of value is another one"


@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_equal_cells_have_one_hash_whatever_their_order(values: dict[str, str | int]) -> None:
    one, other = Cell(values), Cell(reversed(values.items()))
    assert one == other
    assert hash(one) == hash(other)


def test_a_cell_is_typed_in_the_order_of_the_axes() -> None:
    assert CELL.text == "fast/1500/4"
    assert CELL.with_(size=64).text == "fast/64/4"
    assert CELL.of(["links", "mode"]).text == "4/fast"
    assert CELL.of(["nothing"]) == Cell()
    assert CELL.number("size") == 1500.0


def test_cells_are_sorted_by_words_and_by_size() -> None:
    cells = [Cell({"mode": m, "size": s}) for m in ("b", "a") for s in (1000, 9, 64)]
    assert [cell.text for cell in sorted(cells)] == [
        "a/9", "a/64", "a/1000", "b/9", "b/64", "b/1000",
    ]  # fmt: skip


def test_a_flat_line_has_its_cell_and_what_it_lacks_is_named() -> None:
    assert SHAPE.cell_in({"seconds": 1.0, "links": 4, "size": 1500, "mode": "fast"}) == CELL
    with pytest.raises(SchemaError, match="lacks size, links"):
        SHAPE.cell_in({"mode": "fast"})


def test_a_cell_in_a_sentence() -> None:
    assert SHAPE.in_words(CELL) == "fast, 1500 bytes, 4 links"
    assert SHAPE.in_words(CELL.of(["size"])) == "1500 bytes"
    first = first_shape()
    whole = Cell({"operation": "up", "arm": "batch", "interfaces": 8})
    assert first.in_words(whole) == "up by batch, 8 interfaces"
    assert first.in_words(whole.of(["operation", "interfaces"])) == "up, 8 interfaces"


# What a shape knows


def test_axes_and_metrics_are_found_by_name() -> None:
    assert SHAPE.axis("size") is SIZE
    assert SHAPE.metric.name == "goodput"
    assert SHAPE.metric_named("loss").zero
    with pytest.raises(SchemaError, match="speed: unknown; valid are goodput, loss"):
        SHAPE.metric_named("speed")


def test_an_axis_that_is_neither_down_nor_across_makes_sheets() -> None:
    assert SHAPE.sheets == ("links",)
    assert SHAPE.per_guest == ("links",)


def test_kernels_that_have_titles_come_first() -> None:
    assert SHAPE.kernel_order(["old", "new", "a"]) == ["new", "old", "a"]
    assert SHAPE.kernel_title("new") == "with the patch"
    assert SHAPE.kernel_title("old") == "old"


def test_values_come_once_numbers_by_size_and_words_as_listed() -> None:
    cells = [Cell({"mode": m, "size": s}) for m, s in (("b", 64), ("a", 9), ("c", 64), ("b", 1))]
    assert values_on("size", cells, [64, 9]) == [1, 9, 64]
    assert values_on("mode", cells, ["a", "b"]) == ["a", "b", "c"]
    assert values_on("mode", cells) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Metric("seconds", "s"), ("slower", "faster")),
        (Metric("uptime", "s", Better.MORE), ("less uptime", "more uptime")),
        (Metric("goodput", "Mbit/s", Better.MORE), ("less goodput", "more goodput")),
        (Metric("loss", "%", short="lost frames"), ("more lost frames", "less lost frames")),
    ],
    ids=lambda each: each.name if isinstance(each, Metric) else "",
)
def test_what_is_worse_is_said_in_the_metrics_words(metric: Metric, words: tuple[str, str]) -> None:
    assert metric.words == words
