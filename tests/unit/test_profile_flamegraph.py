"""The flame graph as SVG: well-formed, to scale, the same every time."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.profile.flamegraph import ROW, WIDTH, flame_graph
from linklab.profile.stacks import Stack

SVG = "{http://www.w3.org/2000/svg}"
STACKS: dict[Stack, int] = {
    ("ip", "outer_[k]", "inner_[k]"): 60,
    ("ip", "outer_[k]"): 20,
    ("ip", "[libc.so.6]"): 15,
    ("sh", "[sh]"): 5,
}


def graph(stacks: dict[Stack, int], title: str = "title") -> ET.Element:
    return ET.fromstring(flame_graph(stacks, title, ("one note", "another")))


def boxes(root: ET.Element) -> dict[str, ET.Element]:
    """Return each box by its name and kind."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None and title.text and rect is not None
        found[title.text.partition(":")[0]] = rect
    return found


def number(rect: ET.Element, name: str) -> float:
    return float(rect.attrib[name])


def test_a_box_is_as_wide_as_its_share_and_stands_on_its_caller() -> None:
    found = boxes(graph(STACKS))
    all_of_it = found["all (all)"]
    inner, outer = found["inner (kernel)"], found["outer (kernel)"]
    assert number(inner, "width") / number(all_of_it, "width") == pytest.approx(0.6, abs=0.001)
    assert number(outer, "y") - number(inner, "y") == ROW
    assert number(outer, "x") <= number(inner, "x")
    assert {name.rpartition(" ")[2] for name in found} == {
        "(all)",
        "(process)",
        "(user)",
        "(kernel)",
    }


def test_each_box_says_its_name_samples_and_share() -> None:
    svg = flame_graph(STACKS, "title", ())
    assert "inner (kernel): 60 samples, 60.00 %" in svg


def test_names_are_escaped() -> None:
    root = graph({("a<b>&\"'", "f_[k]"): 1}, title="<mtu> & more")
    assert "a<b>&\"' (process)" in boxes(root)
    heading = root.find(f"{SVG}title")
    assert heading is not None and heading.text == "<mtu> & more"


def test_it_names_itself_and_its_notes_and_holds_no_script_and_no_address() -> None:
    svg = flame_graph(STACKS, "Profile of mtu", ("TCG", "100 samples"))
    assert 'aria-labelledby="title"' in svg
    for text in ("Profile of mtu", "TCG", "100 samples", "kernel"):
        assert f">{text}<" in svg
    assert "<script" not in svg
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in svg


def test_the_order_of_the_samples_changes_nothing() -> None:
    backwards = dict(reversed(STACKS.items()))
    assert flame_graph(STACKS, "t", ()) == flame_graph(backwards, "t", ())


def test_labels_fit_into_their_boxes() -> None:
    long = "a_function_with_a_very_long_name_that_nobody_would_ever_write_down_in_one_word"
    root = graph({("ip", f"{long}_[k]"): 25, ("ip", "[b]"): 75})
    for group in root.iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        if text is not None and text.text:
            assert len(text.text) * 7.23 <= number(rect, "width")
    assert f"{long} (kernel)" in boxes(root)


def test_what_is_too_narrow_to_see_is_left_out() -> None:
    assert "rare (kernel)" not in boxes(graph({("ip", "rare_[k]"): 1, ("ip", "[b]"): 99_999}))


def test_rows_are_only_as_many_as_are_drawn() -> None:
    deep = tuple(f"f{number}_[k]" for number in range(50))
    rare = graph({("ip", *deep): 1, ("ip", "[b]"): 99_999})
    assert rare.attrib["viewBox"] == graph({("ip", "[b]"): 1}).attrib["viewBox"]


def test_no_samples_give_an_empty_graph() -> None:
    assert list(boxes(graph({}))) == []


FRAMES = st.sampled_from(["a_[k]", "b_[k]", "[c]", "d_[k]"])


@given(st.dictionaries(st.lists(FRAMES, min_size=2, max_size=6).map(tuple), st.integers(1, 50)))
def test_boxes_of_a_row_do_not_overlap_and_stay_inside(stacks: dict[Stack, int]) -> None:
    rows: dict[float, list[tuple[float, float]]] = {}
    root = graph(stacks)
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        row = rows.setdefault(number(rect, "y"), [])
        row.append((number(rect, "x"), number(rect, "x") + number(rect, "width")))
    for row in rows.values():
        edges = sorted(row)
        assert edges[0][0] >= 0 and edges[-1][1] <= WIDTH
        assert all(a[1] <= b[0] + 0.02 for a, b in itertools.pairwise(edges))
