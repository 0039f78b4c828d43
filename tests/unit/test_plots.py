"""Axes, curves and the SVG that they become."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from hand_made import both_arms, run_of, sample, sample_in
from hypothesis import given
from hypothesis import strategies as st

from linklab.commands.history import with_claims
from linklab.paths import TEMPLATES
from linklab.report.compare import Stored
from linklab.report.curves import look_of, panels, ratio_panel, short
from linklab.report.page import page
from linklab.report.plots import HEIGHT, WIDTH, Curve, Panel, Point, Scale, apart, svg, tick_text
from linklab.results.model import Run, first_shape
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.aliases import Aliases

POSITIVE = st.floats(min_value=1e-9, max_value=1e9)
NUMBERS = st.floats(min_value=-1e6, max_value=1e6).map(lambda value: round(value, 3))
MTU, UP = Cell({"operation": "mtu"}), Cell({"operation": "up"})


def parsed(drawing: str) -> ET.Element:
    """The drawing as a document: it must be well-formed."""
    return ET.fromstring(drawing)


def words(drawing: str, kind: str = "") -> list[str]:
    return [
        text.text or ""
        for text in parsed(drawing).iter("text")
        if kind in text.get("class", "").split() or not kind
    ]


def panel(*curves: Curve, **more: object) -> Panel:
    return Panel("p", "a title", "interfaces", "seconds", curves, " s", **more)  # type: ignore[arg-type]


def curve(name: str, *points: tuple[float, float], **more: object) -> Curve:
    return Curve(name, "arm-group", "circle", [Point(*p) for p in points], **more)  # type: ignore[arg-type]


def stored(run: Run, letter: str = "") -> Stored:
    return Stored(Path("x"), with_claims(run), letter)


def marks(drawing: str) -> list[tuple[float, float]]:
    """Where the marks of all curves stand, in pixels."""
    transforms = [path.get("transform") for path in parsed(drawing).iter("path")]
    return [
        (float(x), float(y))
        for place in transforms
        if place
        for x, y in [place.removeprefix("translate(").rstrip(")").split()]
    ]


def paths(drawing: str, kind: str) -> list[str]:
    return [p.get("d", "") for p in parsed(drawing).iter("path") if p.get("class") == kind]


class TestLogarithmic:
    @given(st.lists(POSITIVE, min_size=1, max_size=20))
    def test_every_value_stands_on_it(self, values: list[float]) -> None:
        axis = Scale.around(values, 40, 300)
        assert all(40 <= axis.place(value) <= 300 for value in values)

    @given(st.lists(POSITIVE, min_size=2, max_size=20))
    def test_a_larger_value_never_stands_before_a_smaller_one(self, values: list[float]) -> None:
        axis = Scale.around(values, 40, 300)
        places = [axis.place(value) for value in sorted(values)]
        assert places == sorted(places)

    def test_equal_factors_are_equal_distances(self) -> None:
        axis = Scale(1, 1000, 0, 300)
        assert [axis.place(value) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]

    def test_an_axis_upwards_counts_from_below(self) -> None:
        axis = Scale(1, 100, 200, 0)
        assert (axis.place(1), axis.place(10), axis.place(100)) == (200, 100, 0)

    @pytest.mark.parametrize("values", [[], [0.0], [-1.0, 1.0]])
    def test_what_has_no_logarithm_is_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="above 0"):
            Scale.around(values, 0, 1)

    @given(st.lists(POSITIVE, min_size=1, max_size=20), st.integers(2, 9))
    def test_ticks_are_on_the_axis_and_not_too_many(self, values: list[float], most: int) -> None:
        axis = Scale.around(values, 0, 100)
        ticks = axis.ticks(most)
        assert len(ticks) <= most
        assert all(axis.low <= tick <= axis.high for tick in ticks)

    def test_ticks_are_round(self) -> None:
        assert Scale(0.9, 12, 0, 100).ticks(7) == [1, 2, 5, 10]
        assert Scale(0.009, 150, 0, 100).ticks(7) == [0.01, 0.1, 1, 10, 100]

    def test_labels_that_would_touch_are_left_out_but_the_last(self) -> None:
        axis = Scale(1, 1000, 0, 300)
        assert axis.spread([1, 1.1, 10, 990, 1000], 30) == [1.1, 10, 1000]

    @pytest.mark.parametrize(
        ("value", "text"), [(0.001, "0.001"), (0.5, "0.5"), (20, "20"), (2048.0, "2048")]
    )
    def test_ticks_read_as_people_write(self, value: float, text: str) -> None:
        assert tick_text(value) == text


class TestLinear:
    @given(st.lists(NUMBERS, min_size=1, max_size=20))
    def test_every_value_stands_on_it_and_so_does_0(self, values: list[float]) -> None:
        axis = Scale.around(values, 40, 300, log=False)
        assert all(40 <= axis.place(value) <= 300 for value in [*values, 0])

    @given(st.lists(NUMBERS, min_size=2, max_size=20))
    def test_a_larger_value_never_stands_before_a_smaller_one(self, values: list[float]) -> None:
        axis = Scale.around(values, 40, 300, log=False)
        places = [axis.place(value) for value in sorted(values)]
        assert places == sorted(places)

    def test_equal_amounts_are_equal_distances(self) -> None:
        axis = Scale(0, 30, 0, 300, is_log=False)
        assert [axis.place(value) for value in (0, 10, 20, 30)] == [0, 100, 200, 300]

    def test_it_begins_at_0_where_nothing_is_below(self) -> None:
        assert Scale.around([5, 10], 0, 100, log=False).low == 0
        assert Scale.around([-5, 10], 0, 100, log=False).low < -5
        assert Scale.around([-5, -1], 0, 100, log=False).high >= 0

    def test_zeros_alone_have_an_axis_too(self) -> None:
        axis = Scale.around([0, 0], 200, 0, log=False)
        assert axis.high > axis.low
        assert axis.place(0) == 200

    def test_of_no_values_there_is_none(self) -> None:
        with pytest.raises(ValueError, match="needs values"):
            Scale.around([], 0, 1, log=False)

    @given(st.lists(NUMBERS, min_size=1, max_size=20), st.integers(2, 9))
    def test_ticks_are_on_the_axis_and_not_too_many(self, values: list[float], most: int) -> None:
        axis = Scale.around(values, 0, 100, log=False)
        ticks = axis.ticks(most)
        assert 1 <= len(ticks) <= most + 1
        assert all(axis.low <= tick <= axis.high for tick in ticks)

    def test_ticks_are_round(self) -> None:
        assert Scale(0, 10.6, 0, 100, is_log=False).ticks(7) == [0, 2, 4, 6, 8, 10]
        assert Scale(0, 0.53, 0, 100, is_log=False).ticks(7) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
        assert Scale(-3, 3, 0, 100, is_log=False).ticks(7) == [-3, -2, -1, 0, 1, 2, 3]
        assert [tick_text(value) for value in Scale(-3, 3, 0, 9, is_log=False).ticks(3)] == [
            "-2", "0", "2",
        ]  # fmt: skip


class TestApart:
    @given(st.lists(st.floats(30, 250), max_size=12))
    def test_labels_do_not_touch_and_stay_inside(self, wanted: list[float]) -> None:
        found = sorted(apart(wanted, 13, 30, 250))
        assert all(b - a >= 12.8 for a, b in pairwise(found))
        assert all(30 <= place <= 250 for place in found)

    def test_what_has_room_stays(self) -> None:
        assert apart([100, 50, 200], 13, 0, 300) == [100, 50, 200]

    def test_the_order_is_kept(self) -> None:
        found = apart([100, 99, 101], 13, 0, 300)
        assert found[1] < found[0] < found[2]

    def test_too_many_share_the_room(self) -> None:
        found = apart([50.0] * 30, 13, 0, 290)
        assert (min(found), max(found)) == (0, 290)


class TestSvg:
    def test_a_screen_reader_finds_title_and_description(self) -> None:
        drawing = parsed(svg(panel(curve("group", (128, 0.01), (256, 0.02)))))
        title, description = drawing.find("title"), drawing.find("desc")
        assert drawing.get("role") == "img"
        assert title is not None and title.get("id") == drawing.get("aria-labelledby")
        assert description is not None and description.get("id") == drawing.get("aria-describedby")
        assert description.text is not None
        assert "group: 0.01 s at 128, 0.02 s at 256." in description.text

    def test_each_curve_has_its_name_beside_it(self) -> None:
        drawing = svg(panel(curve("group", (1, 1)), curve("process", (1, 2))))
        assert words(drawing, "name") == ["interfaces", "seconds", "group", "process"]

    def test_nothing_to_show_is_no_drawing(self) -> None:
        assert svg(panel()) == ""
        assert svg(panel(curve("group"))) == ""
        assert svg(panel(curve("group", invalid=[256]))) == ""

    def test_a_value_that_has_no_logarithm_makes_the_axis_linear(self) -> None:
        drawing = svg(panel(curve("group", (128, 0.0), (256, 1.0), (512, 2.0))))
        (_, zero), (_, one), (_, two) = marks(drawing)
        assert zero - one == pytest.approx(one - two, abs=0.2)
        assert "0" in words(drawing, "y")
        (axis,) = (d for d in paths(drawing, "axis") if d.startswith("M42 "))
        assert axis.startswith(f"M42 {zero:g}L"), "the zero stands on the lower edge"

    def test_a_zero_across_makes_that_axis_linear_alone(self) -> None:
        drawing = svg(panel(curve("group", (0, 1.0), (10, 10.0), (20, 100.0))))
        places = marks(drawing)
        assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
        assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1], abs=0.2)

    def test_an_axis_across_may_be_linear_without_a_zero(self) -> None:
        points = [(64, 1.0), (782, 1.0), (1500, 1.0)]
        for log in (False, True):
            first, middle, last = (x for x, _ in marks(svg(panel(curve("a", *points), log=log))))
            assert (middle - first == pytest.approx(last - middle, abs=0.2)) is not log

    def test_a_panel_beside_one_with_zeros_is_linear_too(self) -> None:
        low, high = panel(curve("a", (1, 0.0))), panel(curve("a", (1, 1.0), (2, 2.0), (3, 3.0)))
        (_, one), (_, two), (_, three) = marks(svg(high, [low, high]))
        assert one - two == pytest.approx(two - three, abs=0.2)

    def test_words_across_have_bars_from_0(self) -> None:
        bars = panel(curve("group", (0, 4.0), (1, 0.0), (2, 2.0)), names=["eth", "ip", "tcp"])
        drawing = svg(bars)
        assert words(drawing, "x")[:3] == ["eth", "ip", "tcp"]
        assert paths(drawing, "run") == []
        found = [list(map(float, d[1:].replace("L", " ").split())) for d in paths(drawing, "bar")]
        assert [x1 for x1, *_ in found] == [x2 for _, _, x2, _ in found], "upright"
        (ground,) = {start for _, start, _, _ in found}
        heights = [ground - end for *_, end in found]
        assert heights[1] == 0
        assert heights[0] == pytest.approx(2 * heights[2], abs=0.3)
        assert [x for x, *_ in found] == [x for x, _ in marks(drawing)]

    def test_bars_begin_at_0_though_all_values_have_a_logarithm(self) -> None:
        drawing = svg(panel(curve("group", (0, 4.0), (1, 2.0)), names=["a", "b"]))
        (_, high), (_, low) = marks(drawing)
        ground = Scale.around([4.0, 2.0], HEIGHT - 44, 30, log=False).place(0)
        assert ground - high == pytest.approx(2 * (ground - low), abs=0.3)

    def test_bars_may_go_below_0(self) -> None:
        drawing = svg(panel(curve("group", (0, -2.0), (1, 2.0)), names=["a", "b"]))
        bars = (d[1:].replace("L", " ").split() for d in paths(drawing, "bar"))
        down, up = (list(map(float, bar)) for bar in bars)
        assert down[3] > down[1] == up[1] > up[3]

    def test_steps_keep_a_value_until_the_next_point(self) -> None:
        points = ((1, 1.0), (10, 2.0), (100, 4.0))
        (line,), (stairs,) = (
            paths(svg(panel(curve("a", *points), steps=steps)), "run") for steps in (False, True)
        )
        places = marks(svg(panel(curve("a", *points))))
        assert "L" in line and not {"H", "V"} & set(line)
        assert stairs == f"M{places[0][0]} {places[0][1]}" + "".join(
            f"H{x}V{y}" for x, y in places[1:]
        )

    def test_what_is_not_valid_is_a_cross_with_words(self) -> None:
        drawing = parsed(svg(panel(curve("group", (128, 1.0), invalid=[256]))))
        crosses = [p for p in drawing.iter("path") if "cross" in p.get("class", "")]
        assert [cross.findtext("title") for cross in crosses] == [
            "group, 256 interfaces: not valid"
        ]
        assert "not valid at 256" in (drawing.findtext("desc") or "")

    def test_a_curve_is_told_by_more_than_its_colour(self) -> None:
        other = Curve("process", "arm-process", "square", [Point(1, 2)])
        drawing = parsed(svg(panel(curve("group", (1, 1)), other)))
        marks = [p.get("d") for p in drawing.iter("path") if "mark" in p.get("class", "")]
        assert len(set(marks)) == 2

    def test_an_interval_is_drawn_where_there_is_one(self) -> None:
        def ranges(*points: Point) -> int:
            drawing = parsed(svg(panel(Curve("group", "arm-group", "circle", points))))
            return sum("range" in p.get("class", "") for p in drawing.iter("path"))

        assert ranges(Point(1, 1, 0.5, 2), Point(2, 1)) == 1

    def test_panels_side_by_side_share_their_vertical_axis(self) -> None:
        low, high = panel(curve("a", (1, 0.01))), panel(curve("a", (1, 100)))
        alone = words(svg(low), "tick")
        assert "100" not in alone
        assert "100" in words(svg(low, [low, high]), "tick")

    @given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
    def test_any_name_is_text_and_never_markup(self, name: str) -> None:
        drawing = svg(panel(curve(name, (1, 1))))
        assert words(drawing, "name")[-1] == name

    @given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=8))
    def test_every_mark_is_inside(self, points: list[tuple[float, float]]) -> None:
        places = marks(svg(panel(curve("group", *points))))
        assert len(places) == len(points)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)

    @given(
        st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8),
        st.booleans(),
        st.booleans(),
    )
    def test_every_mark_of_any_numbers_is_inside(
        self, points: list[tuple[float, float]], log: bool, steps: bool
    ) -> None:
        places = marks(svg(panel(curve("group", *points), log=log, steps=steps)))
        assert len(places) == len(points)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


class TestPanels:
    def test_each_kernel_has_a_panel_with_a_curve_for_each_arm(self) -> None:
        samples = [s for k in ("sysfs", "nosysfs") for s in both_arms(k, {128: 10, 256: 20})]
        found = panels([stored(run_of(["sysfs", "nosysfs"], samples))], MTU)
        assert [panel.label for panel in found] == ["without sysfs", "with sysfs"]
        assert [panel.title for panel in found] == ["mtu, without sysfs", "mtu, with sysfs"]
        assert (found[0].x_name, found[0].y_name) == ("interfaces", "seconds in the guest")
        ours = [c.name for c in found[0].curves if not c.is_reference]
        assert ours == ["group", "process"]
        assert [point.y for point in found[0].curves[1].points] == pytest.approx([0.1, 0.2])

    def test_the_papers_points_stand_beside_ours(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {100: 10, 512: 10}))
        (found,) = panels([stored(run)], MTU)
        theirs = {c.name: c.points for c in found.curves if c.is_reference}
        assert set(theirs) == {"group 2011", "process 2011"}
        process = [Point(128, 0.53), Point(256, 1.15), Point(512, 2.59)]
        assert theirs["process 2011"] == process

    def test_the_paper_has_no_points_for_other_operations_or_kernels(self) -> None:
        up = [sample("sysfs", "group", 128, 1, operation="up")]
        found = panels([stored(run_of(["sysfs"], up))], UP)
        found += panels([stored(run_of(["mine"], both_arms("mine", {128: 10})))], MTU)
        assert len(found) == 2
        assert not [c for panel in found for c in panel.curves if c.is_reference]

    def test_a_cell_without_a_valid_sample_is_marked_as_such(self) -> None:
        wrong = [sample("sysfs", "group", 128, 1, verified=False)]
        found = panels([stored(run_of(["sysfs"], wrong))], MTU)[0].curves[0]
        assert (list(found.points), list(found.invalid)) == ([], [128])

    def test_repeated_trials_give_an_interval(self) -> None:
        samples = [sample("sysfs", "group", 128, s, trial=n) for n, s in enumerate((1, 2, 3), 1)]
        found = panels([stored(run_of(["sysfs"], samples))], MTU)[0].curves[0]
        assert found.points == [Point(128, 2, 1, 3)]

    def test_runs_beside_each_other_have_curves_of_their_own(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {128: 10}))
        (found,) = panels([stored(run, "A"), stored(run, "B")], MTU)
        ours = [(c.name, c.dash) for c in found.curves if not c.is_reference]
        assert ours == [
            ("group A", ""),
            ("group B", "dash2"),
            ("process A", ""),
            ("process B", "dash2"),
        ]

    def test_the_ratio_is_that_of_the_table_and_of_the_paper(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {128: 10, 256: 20}))
        found = ratio_panel([stored(run)], MTU)
        assert found.y_name == "process / group, seconds"
        ours, theirs = found.curves
        assert (ours.name, theirs.name) == ("with sysfs", "sysfs 2011")
        assert [round(point.y) for point in ours.points] == [10, 20]
        assert [round(point.y) for point in theirs.points] == [53, 38]

    def test_a_kernel_that_one_of_two_runs_lacks_has_the_curves_of_the_other(self) -> None:
        both = [s for k in ("mine", "sysfs") for s in both_arms(k, {128: 10})]
        runs = [
            stored(run_of(["sysfs"], both_arms("sysfs", {128: 10})), "A"),
            stored(run_of(["mine", "sysfs"], both), "B"),
        ]
        found = {panel.label: panel for panel in panels(runs, MTU)}
        assert [c.name for c in found["mine"].curves] == ["group B", "process B"]
        ours = [c.name for c in ratio_panel(runs, MTU).curves if not c.is_reference]
        assert ours == ["with sysfs A", "with sysfs B", "mine B"]

    def test_without_both_arms_there_is_no_ratio_to_plot(self) -> None:
        run = run_of(["sysfs"], [sample("sysfs", "group", 128, 1)])
        assert svg(ratio_panel([stored(run)], MTU)) == ""

    def test_of_a_long_name_the_end_is_shown(self) -> None:
        assert short("/home/a/linux/arch/x86/boot/bzImage") == "…86/boot/bzImage"
        assert short("with sysfs") == "with sysfs"

    def test_a_column_looks_the_same_in_every_plot_and_is_told_by_its_marker_too(self) -> None:
        shape = first_shape()
        looks = [look_of(shape, arm) for arm in shape.axis("arm").among]
        assert len(set(looks)) == len({tone for tone, _ in looks}) == len(looks)
        assert len({marker for _, marker in looks}) == len(looks)

    def test_columns_that_are_numbers_look_different_and_the_same_in_every_panel(self) -> None:
        axes = (Axis("size", (1, 2)), Axis("links", (1, 2, 8)))
        shape = Shape(axes, (Metric("rate"),), rows="size", columns="links")
        run = run_of(
            ["a", "b"],
            [
                sample_in(kernel, Cell({"size": size, "links": links}), {"rate": 1.0})
                for kernel, across in (("a", (1, 2, 8)), ("b", (2, 8)))
                for links in across
                for size in (1, 2)
            ],
            shape=shape.to_json(),
        )
        a, b = panels([Stored(Path("x"), run, "")], Cell())
        looks, others = ({c.name: (c.tone, c.marker) for c in one.curves} for one in (a, b))
        assert len(set(looks.values())) == len(looks) == 3
        assert "tone0" not in {tone for tone, _ in looks.values()}
        assert others == {name: looks[name] for name in ("2", "8")}

    def test_a_column_that_is_not_known_has_a_colour_all_the_same(self) -> None:
        assert look_of(first_shape(), "teleport")[0] == "tone0"
        assert look_of(first_shape(), 5)[0] == "tone0"

    def test_every_colour_of_a_curve_is_in_the_style(self) -> None:
        style = (TEMPLATES / "plot.css").read_text()
        shape = first_shape()
        for column in (*shape.axis("arm").among, "teleport"):
            assert re.search(rf"\.{look_of(shape, column)[0]}\b", style), column


RATES = Shape(
    axes=(Axis("mode", among=("plain", "fast")), Axis("size", title="bytes", log=False)),
    metrics=(Metric("goodput", "Mbit/s", Better.MORE, zero=True),),
    rows="size",
    columns="mode",
    versus=("fast", "plain"),
)


class TestAnotherExperiment:
    def run(self, shape: Shape = RATES) -> Run:
        return run_of(
            ["k"],
            [
                sample_in("k", Cell({"mode": mode, "size": size}), {"goodput": value})
                for mode, size, value in (
                    ("plain", 64, 0.0), ("plain", 1500, 9.0),
                    ("fast", 64, 2.0), ("fast", 1500, 18.0),
                )
            ],
            shape=shape.to_json(),
            scenario="another",
        )  # fmt: skip

    def test_has_its_own_names_and_unit(self) -> None:
        (found,) = panels([stored(self.run())], Cell())
        assert (found.title, found.x_name, found.y_name) == ("k", "bytes", "goodput, Mbit/s")
        assert not found.log
        assert [c.name for c in found.curves] == ["plain", "fast"]
        assert "plain: 0 Mbit/s at 64, 9 Mbit/s at 1500." in found.description()

    def test_is_drawn_with_its_zero(self) -> None:
        (found,) = panels([stored(self.run())], Cell())
        assert len(marks(svg(found))) == 4

    def test_has_a_ratio_where_that_can_be(self) -> None:
        (ours,) = ratio_panel([stored(self.run())], Cell()).curves
        assert ours.points == [Point(1500, 2.0)], "of nothing there is none"
        without = Shape(RATES.axes, RATES.metrics, "size", "mode")
        assert svg(ratio_panel([stored(self.run(without))], Cell())) == ""

    def test_rows_that_are_words_are_bars_beside_each_other(self) -> None:
        turned = Shape(RATES.axes, RATES.metrics, "mode", "size", versus=("1500", "64"))
        run = self.run(turned)
        (bars,) = panels([stored(run)], Cell())
        drawn = parsed(svg(bars))
        assert list(bars.names) == ["plain", "fast"]
        lines = [path.get("d", "") for path in drawn.iter() if path.get("class") == "bar"]
        places = [line.split("L")[0] for line in lines]
        assert len(places) == len(set(places)) == 2 * len(bars.curves)
        assert svg(ratio_panel([stored(run)], Cell())) == ""
        assert "plain" in page([(Path("x"), run)]), "and a page with its table"


@given(
    st.lists(
        st.tuples(st.integers(1, 250), st.integers(1, 900)),
        min_size=3,
        max_size=13,
        unique_by=lambda p: p[0],
    )
)
def test_a_smooth_curve_goes_through_its_points_without_a_corner(
    points: list[tuple[int, int]],
) -> None:
    drawing = svg(panel(curve("c", *points), log=False, smooth=True))
    (run,) = paths(drawing, "run")
    begin, *pieces = run.removeprefix("M").split("C")
    joints = [tuple(map(float, begin.split()))]
    before: tuple[float, float] | None = None
    for piece in pieces:
        one_x, one_y, two_x, two_y, x, y = map(float, piece.split())
        last_x, last_y = joints[-1]
        if before is not None and min(one_x - last_x, last_x - before[0]) > 5:
            slopes = (
                (one_y - last_y) / (one_x - last_x),
                (last_y - before[1]) / (last_x - before[0]),
            )
            assert slopes[0] == pytest.approx(slopes[1], abs=0.05, rel=0.05)
        joints.append((x, y))
        before = (two_x, two_y)
    assert joints == marks(drawing)


def test_a_smooth_curve_of_two_points_is_a_line_and_its_ends_do_not_bend() -> None:
    (line,) = paths(svg(panel(curve("c", (1, 1), (4, 4)), log=False, smooth=True)), "run")
    x0, y0, *rest = map(float, re.findall(r"[\d.]+", line))
    assert (rest[1] - y0) / (rest[0] - x0) == pytest.approx(
        (rest[5] - y0) / (rest[4] - x0), rel=0.01
    )


def test_the_curve_over_addresses_is_smooth_as_the_articles_and_others_are_not() -> None:
    assert [axis.name for axis in Aliases.shape.axes if axis.smooth] == ["addresses"]
    assert not Aliases.shape.axis("addresses").log
    run = paths(svg(panel(curve("c", (1, 1), (2, 3), (4, 4)))), "run")
    assert "C" not in run[0]
