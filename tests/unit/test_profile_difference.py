"""Two profiles subtracted: figures, their errors, the table, the differential graph."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.errors import LabError
from linklab.profile.stacks import Stack
from linklab.profile.store import SURE, StoredProfile, Unit, as_stored, gone, subtract
from linklab.report.grid import plain_text
from linklab.report.profile import difference_graph_of as graph_of
from linklab.report.profile import render_difference as render

SVG = "{http://www.w3.org/2000/svg}"
BASE: dict[Stack, int] = {
    ("ip", "[ip]", "send_[k]", "walk_[k]"): 1000,
    ("ip", "[ip]", "send_[k]"): 500,
    ("ip", "[ip]", "old_[k]"): 300,
    ("ip", "[libc.so.6]"): 200,
}
SLOWED: dict[Stack, int] = {
    ("ip", "[ip]", "send_[k]", "walk_[k]"): 1010,
    ("ip", "[ip]", "send_[k]", "loop_[k]"): 2000,
    ("ip", "[ip]", "send_[k]"): 500,
    ("ip", "[libc.so.6]"): 100,
}


def profile(
    stacks: dict[Stack, int],
    name: str = "nosysfs",
    repetitions: int = 10,
    seconds: float = 0.02,
    **about: Any,
) -> StoredProfile:
    measure = {"seconds": seconds, "user_seconds": 0.0, "system_seconds": seconds}
    work = sum(stacks.values())
    whole = {
        "command": "invoke profile",
        "start": "2026-01-01T10:00:00+00:00",
        "end": "2026-01-01T10:01:00+00:00",
        "scenario": "grouping",
        "operation": "mtu",
        "arm": "group",
        "interfaces": 8,
        "kernel": {"name": name, "release": "6.12.0"},
        "accel": "tcg",
        "clock": "virtual",
        "event": {"name": "cpu-clock", "frequency": 1000, "why": "emulated"},
        "rule": {"text": "as many as there are", "met": True},
        "samples": {"work": work, "idle": 0, "sampler": 0, "total": work},
        "unsampled": [measure] * 3,
        "sampled": [measure] * repetitions,
    }
    return StoredProfile({**whole, **about}, stacks)


A, B = profile(BASE), profile(SLOWED, "nosysfs+slow.patch", seconds=0.03)


def test_in_virtual_time_costs_are_instructions_of_one_operation() -> None:
    difference = subtract(A, B)
    assert difference.unit is Unit.INSTRUCTIONS
    # A million instructions between two samples, ten repetitions.
    assert difference.whole.a == pytest.approx(2000 * 1e5)
    assert difference.whole.difference == pytest.approx(1610 * 1e5)
    assert difference.unsampled == pytest.approx((2e7, 3e7))


def test_in_real_time_and_in_profiles_that_name_no_clock_they_are_seconds() -> None:
    about = {name: value for name, value in A.about.items() if name != "clock"}
    old = StoredProfile(about, BASE)
    difference = subtract(old, profile(SLOWED, clock="real"))
    assert difference.unit is Unit.SECONDS
    assert difference.whole.a == pytest.approx(0.2)


def test_repetitions_and_frequencies_need_not_be_the_same() -> None:
    twice = {stack: 4 * count for stack, count in BASE.items()}
    event = {**A.about["event"], "frequency": 2000}
    whole = subtract(A, profile(twice, repetitions=20, event=event)).whole
    assert whole.difference == pytest.approx(0)
    # Four times the samples: half the error on that side.
    assert whole.error == pytest.approx(SURE * 1e5 * math.sqrt(2000 + 2000 / 4))


def test_functions_are_sorted_by_the_size_of_the_difference() -> None:
    functions = subtract(A, B).functions
    assert [(each.symbol, each.space) for each in functions] == [
        ("loop", "kernel"),
        ("old", "kernel"),
        ("[libc.so.6]", "user"),
        ("walk", "kernel"),
        ("send", "kernel"),
    ]
    assert [each.change.is_different for each in functions] == [True, True, True, False, False]


def test_a_function_that_one_side_does_not_know_costs_nothing_there() -> None:
    found = {each.symbol: each.change for each in subtract(A, B).functions}
    assert (found["loop"].a, found["loop"].b) == pytest.approx((0, 2e8))
    assert (found["old"].a, found["old"].b) == pytest.approx((3e7, 0))
    assert found["loop"].error == pytest.approx(SURE * 1e5 * math.sqrt(2000))


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS)
def test_only_what_chance_does_not_give_is_different(before: int, after: int) -> None:
    change = subtract(A, B).rate.change(before, after)
    assert change.is_different == ((after - before) ** 2 > SURE**2 * (before + after))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_a_few_samples_on_one_side_alone_may_be_chance(count: int) -> None:
    assert not subtract(A, B).rate.change(0, count).is_different
    assert subtract(A, B).rate.change(0, 17).is_different


FRAMES = st.sampled_from(["a_[k]", "b_[k]", "[c]", "d_[k]"])
STACKS = st.dictionaries(
    st.lists(FRAMES, min_size=1, max_size=4).map(lambda frames: ("ip", *frames)),
    st.integers(1, 500),
    min_size=1,
)


@given(STACKS, STACKS)
def test_functions_sum_up_to_the_whole(a: dict[Stack, int], b: dict[Stack, int]) -> None:
    difference = subtract(profile(a), profile(b))
    parts = sum(each.change.difference for each in difference.functions)
    assert parts == pytest.approx(difference.whole.difference)
    assert subtract(profile(b), profile(a)).whole.difference == pytest.approx(-parts)
    assert not any(each.change.difference for each in subtract(profile(a), profile(a)).functions)


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({"interfaces": 16, "arm": "process"}, "arm, interfaces"),
        ({"scenario": "rate"}, "scenario"),
        ({"given": {"listeners": 3}}, "given"),
        ({"axes": ["size"], "size": 3}, "size"),
        ({"clock": "real"}, "clock"),
        ({"accel": "kvm"}, "accel"),
    ],
)
def test_profiles_of_different_work_are_not_subtracted(about: dict[str, Any], named: str) -> None:
    with pytest.raises(LabError, match=f"they differ in {named}$"):
        subtract(A, profile(SLOWED, **about))


def test_what_is_stored_says_what_was_found_and_of_what() -> None:
    stored = as_stored(A, B)
    assert (stored["operation"], stored["arm"], stored["interfaces"]) == ("mtu", "group", 8)
    assert stored["work"] == "mtu by group, 8 interfaces"
    assert stored["unit"] == "instructions" and stored["clock"] == "virtual"
    assert [kernel["name"] for kernel in stored["kernels"]] == ["nosysfs", "nosysfs+slow.patch"]
    assert stored["whole"]["different"] and stored["repetitions"] == [10, 10]
    top = stored["symbols"][0]
    assert (top["symbol"], top["space"], top["different"]) == ("loop", "kernel", True)
    assert top["difference"] == pytest.approx(2e8) and top["error"] > 0
    assert stored["unsampled"]["difference"] == pytest.approx(1e7)


# The table


def text_of(a: StoredProfile, b: StoredProfile) -> str:
    return plain_text(render(a, b))


def rows_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if " % " in line and "%)" not in line]


def test_the_table_has_what_is_different_then_the_others_then_the_whole() -> None:
    rows = rows_of(text_of(A, B))
    assert rows[0] == ["0.0", "200.0", "+200.0", "17.9", "+100.0", "%", "kernel", "loop"]
    assert [row[-1] for row in rows[:3]] == ["loop", "old", "[libc.so.6]"]
    assert " ".join(rows[3]).endswith("the 2 others together")
    assert rows[4][:3] == ["200.0", "361.0", "+161.0"] and rows[4][-2:] == ["in", "all"]
    assert len(rows) == 5
    for column in range(3):
        parts = sum(float(row[column]) for row in rows[:4])
        assert parts == pytest.approx(float(rows[4][column]), abs=0.2)


def test_it_says_what_was_compared_in_what_unit_and_what_no_sample_disturbed() -> None:
    text = " ".join(text_of(A, B).split())
    assert text.startswith("virtual time: 1 ns for each instruction")
    for part in (
        "Difference in mtu by group, 8 interfaces",
        "A is nosysfs 6.12.0, B is nosysfs+slow.patch 6.12.0",
        "instructions of one repetition, below in million instructions",
        "2000 samples of the work in 10 repetitions",
        "without samples, from start to end: A 20.0, B 30.0, +10.0 million instructions (+50.0 %)",
        "medians of 3 and 3 repetitions",
    ):
        assert part in text, part


def test_a_side_that_the_time_ended_is_said_to_lack_samples() -> None:
    rule = {"text": "the 10 repetitions of the kernel", "met": False}
    text = " ".join(text_of(A, profile(SLOWED, rule=rule)).split())
    assert "B: 3610 samples of the work in 10 repetitions; NOT ENOUGH" in text


def test_what_is_the_same_has_no_row_of_its_own() -> None:
    text = text_of(A, profile(BASE, clock="virtual"))
    assert "the 4 others together" in " ".join(text.split())
    assert "walk" not in text


def test_more_rows_than_fit_are_counted() -> None:
    many: dict[Stack, int] = {("ip", f"f{number:02}_[k]"): 100 for number in range(30)}
    text = " ".join(text_of(profile({("ip", "g_[k]"): 50}), profile(many)).split())
    assert "the 6 others together, 6 of them different" in text


# The graph


def boxes(svg: str) -> dict[str, ET.Element]:
    """Return each box by its name and kind."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None and title.text and rect is not None
        rect.set("title", title.text)
        found[title.text.partition(":")[0]] = rect
    return found


def test_boxes_are_as_wide_as_on_b_and_what_a_alone_did_has_none() -> None:
    found = boxes(graph_of(A, B))
    assert "old (kernel)" not in found
    width = float(found["all (all)"].attrib["width"])
    loop = float(found["loop (kernel)"].attrib["width"])
    assert loop / width == pytest.approx(2000 / 3610, abs=0.001)
    assert gone(BASE, SLOWED) == 300
    assert "30.0 million instructions of A are in calls that B never makes" in graph_of(A, B)


def test_a_box_is_red_where_the_function_itself_costs_more_and_blue_where_less() -> None:
    found = boxes(graph_of(A, B))
    paint = {name: rect.attrib["class"] for name, rect in found.items()}
    assert paint["loop (kernel)"] == "more3"
    assert paint["[libc.so.6] (user)"].startswith("less")
    # Neither what chance gives nor what its callees cost colours a function.
    assert {paint[f"{name} (kernel)"] for name in ("walk", "send")} == {"same"}
    assert paint["all (all)"] == paint["ip (process)"] == "same"


def test_colours_are_stronger_the_larger_the_difference() -> None:
    before: dict[Stack, int] = {("ip", f"f{n}_[k]"): 1000 for n in range(4)}
    grown = [1000, 1500, 3000, 9000]
    after: dict[Stack, int] = {("ip", f"f{n}_[k]"): count for n, count in enumerate(grown)}
    found = boxes(graph_of(profile(before), profile(after)))
    paints = [found[f"f{n} (kernel)"].attrib["class"] for n in range(4)]
    assert paints == ["same", "more1", "more2", "more3"]
    found = boxes(graph_of(profile(after), profile(before)))
    paints = [found[f"f{n} (kernel)"].attrib["class"] for n in range(4)]
    assert paints == ["same", "less1", "less2", "less3"]


def test_each_box_says_both_costs_and_the_difference() -> None:
    title = boxes(graph_of(A, B))["send (kernel)"].attrib["title"]
    assert title.startswith("send (kernel): A 150.0, B 351.0, +201.0 ± ")
    assert "itself A 50.0, B 50.0, +0.0 ±" in title
    assert title.endswith("million instructions")


def test_every_colour_is_one_of_the_template_in_light_and_in_dark() -> None:
    svg = graph_of(A, B)
    for paint in ("same", *(f"{change}{n}" for change in ("more", "less") for n in (1, 2, 3))):
        assert svg.count(f".{paint} {{ fill:") == 2
    for words in ("costs more on B", "costs less on B", "no difference beyond chance"):
        assert f">{words}<" in svg


@given(STACKS, STACKS)
def test_the_same_profiles_give_the_same_bytes(a: dict[Stack, int], b: dict[Stack, int]) -> None:
    backwards = profile(dict(reversed(b.items())))
    assert graph_of(profile(a), profile(b)) == graph_of(profile(a), backwards)
