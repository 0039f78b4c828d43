"""Axes, curves and the SVG that they become."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from hand_made import both_arms, run_of, sample
from hypothesis import given
from hypothesis import strategies as st

from linklab.report.axes import LogAxis, apart, tick_text
from linklab.report.compare import Stored
from linklab.report.curves import ratio_panel, seconds_panels, short, tone_of
from linklab.report.plots import WIDTH, Curve, Panel, Point, svg
from linklab.results.model import Run

POSITIVE = st.floats(min_value=1e-9, max_value=1e9)


def parsed(drawing: str) -> ET.Element:
    """The drawing as a document: it must be well-formed."""
    return ET.fromstring(drawing)


def words(drawing: str, kind: str = "") -> list[str]:
    return [
        text.text or ""
        for text in parsed(drawing).iter("text")
        if kind in text.get("class", "").split() or not kind
    ]


def panel(*curves: Curve) -> Panel:
    return Panel("p", "a title", "interfaces", "seconds", curves, " s")


def curve(name: str, *points: tuple[float, float], **more: object) -> Curve:
    return Curve(name, "arm-group", "circle", [Point(*p) for p in points], **more)  # type: ignore[arg-type]


def stored(run: Run, letter: str = "") -> Stored:
    return Stored(Path("x"), run, letter)


class TestAxis:
    @given(st.lists(POSITIVE, min_size=1, max_size=20))
    def test_every_value_stands_on_it(self, values: list[float]) -> None:
        axis = LogAxis.around(values, 40, 300)
        assert all(40 <= axis.place(value) <= 300 for value in values)

    @given(st.lists(POSITIVE, min_size=2, max_size=20))
    def test_a_larger_value_never_stands_before_a_smaller_one(self, values: list[float]) -> None:
        axis = LogAxis.around(values, 40, 300)
        places = [axis.place(value) for value in sorted(values)]
        assert places == sorted(places)

    def test_equal_factors_are_equal_distances(self) -> None:
        axis = LogAxis(1, 1000, 0, 300)
        assert [axis.place(value) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]

    def test_an_axis_upwards_counts_from_below(self) -> None:
        axis = LogAxis(1, 100, 200, 0)
        assert (axis.place(1), axis.place(10), axis.place(100)) == (200, 100, 0)

    @pytest.mark.parametrize("values", [[], [0.0], [-1.0, 1.0]])
    def test_what_has_no_logarithm_is_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="above 0"):
            LogAxis.around(values, 0, 1)

    @given(st.lists(POSITIVE, min_size=1, max_size=20), st.integers(2, 9))
    def test_ticks_are_on_the_axis_and_not_too_many(self, values: list[float], most: int) -> None:
        axis = LogAxis.around(values, 0, 100)
        ticks = axis.ticks(most)
        assert len(ticks) <= most
        assert all(axis.low <= tick <= axis.high for tick in ticks)

    def test_ticks_are_round(self) -> None:
        assert LogAxis(0.9, 12, 0, 100).ticks(7) == [1, 2, 5, 10]
        assert LogAxis(0.009, 150, 0, 100).ticks(7) == [0.01, 0.1, 1, 10, 100]

    def test_labels_that_would_touch_are_left_out_but_the_last(self) -> None:
        axis = LogAxis(1, 1000, 0, 300)
        assert axis.spread([1, 1.1, 10, 990, 1000], 30) == [1.1, 10, 1000]

    @pytest.mark.parametrize(
        ("value", "text"), [(0.001, "0.001"), (0.5, "0.5"), (20, "20"), (2048.0, "2048")]
    )
    def test_ticks_read_as_people_write(self, value: float, text: str) -> None:
        assert tick_text(value) == text


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
        assert svg(panel(curve("group", (128, 0.0)))) == ""

    def test_what_logarithmic_axes_cannot_show_is_left_out(self) -> None:
        drawing = parsed(svg(panel(curve("group", (128, 0.0), (256, 1.0)))))
        assert len([p for p in drawing.iter("path") if "mark" in p.get("class", "")]) == 1

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
        drawing = parsed(svg(panel(curve("group", *points))))
        for mark in drawing.iter("path"):
            if place := mark.get("transform"):
                x, y = map(float, place.removeprefix("translate(").rstrip(")").split())
                assert 0 <= x <= WIDTH and 0 <= y <= 300


class TestPanels:
    def test_each_kernel_has_a_panel_with_a_curve_for_each_arm(self) -> None:
        samples = [s for k in ("sysfs", "nosysfs") for s in both_arms(k, {128: 10, 256: 20})]
        panels = seconds_panels([stored(run_of(["sysfs", "nosysfs"], samples))], "mtu")
        assert [panel.label for panel in panels] == ["without sysfs", "with sysfs"]
        ours = [c.name for c in panels[0].curves if not c.is_reference]
        assert ours == ["group", "process"]
        assert [point.y for point in panels[0].curves[1].points] == pytest.approx([0.1, 0.2])

    def test_the_papers_points_stand_beside_ours(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {100: 10, 512: 10}))
        panels = seconds_panels([stored(run)], "mtu")
        theirs = {c.name: c.points for c in panels[0].curves if c.is_reference}
        assert set(theirs) == {"group 2011", "process 2011"}
        process = [Point(128, 0.53), Point(256, 1.15), Point(512, 2.59)]
        assert theirs["process 2011"] == process

    def test_the_paper_has_no_points_for_other_operations_or_kernels(self) -> None:
        up = [sample("sysfs", "group", 128, 1, operation="up")]
        panels = seconds_panels([stored(run_of(["sysfs"], up))], "up")
        panels += seconds_panels([stored(run_of(["mine"], both_arms("mine", {128: 10})))], "mtu")
        assert not [c for panel in panels for c in panel.curves if c.is_reference]

    def test_a_cell_without_a_valid_sample_is_marked_as_such(self) -> None:
        wrong = [sample("sysfs", "group", 128, 1, verified=False)]
        found = seconds_panels([stored(run_of(["sysfs"], wrong))], "mtu")[0].curves[0]
        assert (list(found.points), list(found.invalid)) == ([], [128])

    def test_repeated_trials_give_an_interval(self) -> None:
        samples = [sample("sysfs", "group", 128, s, trial=n) for n, s in enumerate((1, 2, 3), 1)]
        found = seconds_panels([stored(run_of(["sysfs"], samples))], "mtu")[0].curves[0]
        assert found.points == [Point(128, 2, 1, 3)]

    def test_runs_beside_each_other_have_curves_of_their_own(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {128: 10}))
        panels = seconds_panels([stored(run, "A"), stored(run, "B")], "mtu")
        ours = [(c.name, c.dash) for c in panels[0].curves if not c.is_reference]
        assert ours == [
            ("group A", ""),
            ("group B", "dash2"),
            ("process A", ""),
            ("process B", "dash2"),
        ]

    def test_the_ratio_is_that_of_the_table_and_of_the_paper(self) -> None:
        run = run_of(["sysfs"], both_arms("sysfs", {128: 10, 256: 20}))
        ours, theirs = ratio_panel([stored(run)], "mtu").curves
        assert [round(point.y) for point in ours.points] == [10, 20]
        assert [round(point.y) for point in theirs.points] == [53, 38]

    def test_without_both_arms_there_is_no_ratio_to_plot(self) -> None:
        run = run_of(["sysfs"], [sample("sysfs", "group", 128, 1)])
        assert svg(ratio_panel([stored(run)], "mtu")) == ""

    def test_of_a_long_name_the_end_is_shown(self) -> None:
        assert short("/home/a/linux/arch/x86/boot/bzImage") == "…86/boot/bzImage"
        assert short("sysfs") == "with sysfs"

    def test_an_arm_that_is_not_known_has_a_colour_all_the_same(self) -> None:
        assert tone_of("teleport") == "arm-other"
