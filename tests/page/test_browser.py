"""The page in a real browser: it renders, sorts, fits, and asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser

PAGES = ("common", "everything", "comparison", "another", "sweep", "empty")
COLUMN = """
[...document.querySelectorAll("table")][%d].tBodies[0].rows.length &&
[...[...document.querySelectorAll("table")][%d].tBodies[0].rows].map(row => row.cells[%d].firstChild.textContent)
"""  # noqa: E501
HEADS = """[...document.querySelectorAll("table")[0].tHead.rows].at(-1).cells"""
# What sticks out of the window and is not in a box that scrolls by itself.
OUTSIDE = """
[...document.querySelectorAll("body *")].filter(element => {
  const place = element.getBoundingClientRect();
  return (place.right > innerWidth + 0.5 || place.left < -0.5) && !element.closest(".box");
}).map(element => element.tagName + ": " + element.textContent.slice(0, 40))
"""
# Where two texts of one plot stand on each other, or one leaves the plot.
COLLISIONS = """
[...document.querySelectorAll("svg.plot")].flatMap(plot => {
  const frame = plot.getBoundingClientRect();
  const words = [...plot.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  return words.flatMap(([one, a], number) => [
    ...(a.left < frame.left - 1 || a.right > frame.right + 1 ? [one + " leaves the plot"] : []),
    ...words.slice(number + 1).filter(([, b]) =>
      a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
    ).map(([other]) => one + " on " + other)]);
})
"""  # noqa: E501
# The least contrast (WCAG 2) of any text with the page's colour, and which text it is.
CONTRAST = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(value => value / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  const found = [...document.querySelectorAll("body *")].filter(element =>
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()) &&
    !["SCRIPT", "STYLE", "title", "desc"].includes(element.tagName)
  ).map(element => {
    const style = getComputedStyle(element);
    const ink = light(element.closest("svg") ? style.fill : style.color);
    return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), element.textContent];
  });
  return found.sort((a, b) => a[0] - b[0])[0];
})()
"""


def column(window: Browser, number: int, table: int = 0) -> list[str]:
    found: list[str] = window.ask(COLUMN % (table, table, number))
    return found


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_renders_without_a_complaint_and_asks_for_nothing(
    window: Browser, pages: dict[str, Path], name: str, dark: bool
) -> None:
    window.view(1100, dark=dark)
    window.open(pages[name])
    assert window.ask("document.querySelector('h1').textContent.length > 3")
    assert window.ask("document.querySelector('h1').getBoundingClientRect().height > 10")
    assert window.complaints == []
    assert window.requests == [pages[name].as_uri()]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_overflows_the_window(
    window: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    window.view(width)
    window.open(pages[name])
    assert window.ask("document.documentElement.scrollWidth") <= width
    assert window.ask(OUTSIDE) == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [360, 1100])
def test_no_word_in_a_plot_stands_on_another_one(
    window: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    window.view(width)
    window.open(pages[name])
    assert window.ask(COLLISIONS) == []


def test_a_wide_table_scrolls_in_its_own_box(window: Browser, pages: dict[str, Path]) -> None:
    window.view(360)
    window.open(pages["everything"])
    box = "document.querySelector('.box')"
    assert window.ask(f"{box}.scrollWidth > {box}.clientWidth")
    assert window.ask(f"{box}.scrollLeft = 100, {box}.scrollLeft") == 100


def test_a_click_on_a_columns_name_sorts_and_another_one_turns_it_round(
    window: Browser, pages: dict[str, Path]
) -> None:
    window.view(1100)
    window.open(pages["common"])
    assert column(window, 2) == ["0.500", "0.900", "2.00", "3.10", "5.20"]
    for expected, order in (
        (["0.500", "0.900", "2.00", "3.10", "5.20"], "ascending"),
        (["5.20", "3.10", "2.00", "0.900", "0.500"], "descending"),
        (["0.500", "0.900", "2.00", "3.10", "5.20"], "ascending"),
    ):
        window.ask(f"{HEADS}[2].querySelector('button').click()")
        assert column(window, 2) == expected
        sorts = window.ask(f"[...{HEADS}].map(head => head.getAttribute('aria-sort'))")
        assert [sort for sort in sorts if sort] == [order]
        assert sorts[2] == order


def test_rows_stay_together_when_they_are_sorted(window: Browser, pages: dict[str, Path]) -> None:
    window.view(1100)
    window.open(pages["common"])
    for _ in range(2):
        window.ask(f"{HEADS}[0].querySelector('button').click()")
    assert column(window, 0) == ["2048", "1024", "512", "256", "128"]
    assert column(window, 3) == ["520x", "310x", "200x", "90x", "50x"]


def test_a_table_sorts_by_keyboard(window: Browser, pages: dict[str, Path]) -> None:
    window.view(1100)
    window.open(pages["common"])
    for _ in range(30):
        window.press("Tab")
        if window.ask("document.activeElement.tagName") == "BUTTON":
            break
    for _ in range(2):
        window.press("Enter")
    assert column(window, 0) == ["2048", "1024", "512", "256", "128"]


def test_a_cell_without_a_figure_comes_last_either_way(
    window: Browser, pages: dict[str, Path]
) -> None:
    window.view(1100)
    window.open(pages["everything"])
    for _ in range(2):
        window.ask(f"{HEADS}[1].querySelector('button').click()")
        assert column(window, 1)[-1] == "not valid"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_word_can_be_read_on_its_paper(
    window: Browser, pages: dict[str, Path], dark: bool
) -> None:
    window.view(1100, dark=dark)
    for name in ("everything", "sweep"):
        window.open(pages[name])
        least, text = window.ask(CONTRAST)
        assert least >= 4.5, text


def test_small_plots_are_of_one_size_and_one_scale(window: Browser, pages: dict[str, Path]) -> None:
    window.view(1100)
    window.open(pages["sweep"])
    plots = "[...document.querySelectorAll('.panels.small')][0].querySelectorAll('svg.plot')"
    assert window.ask(f"{plots}.length") == 2 * 2 * 2  # topologies, flows, kernels
    sizes = f"[...new Set([...{plots}].map(p => p.getAttribute('viewBox')))]"
    assert len(window.ask(sizes)) == 1
    ticks = "[...plot.querySelectorAll('.tick')].map(t => [t.textContent, t.getAttribute('y')])"
    assert len(window.ask(f"[...new Set([...{plots}].map(plot => String({ticks})))]")) == 1
    tops = window.ask(f"[...{plots}].map(plot => plot.getBoundingClientRect().top)")
    assert [round(top) for top in tops].count(round(tops[0])) == 3


def test_light_and_dark_differ(window: Browser, pages: dict[str, Path]) -> None:
    def paper(dark: bool) -> str:
        window.view(1100, dark=dark)
        window.open(pages["common"])
        return str(window.ask("getComputedStyle(document.documentElement).backgroundColor"))

    assert paper(True) != paper(False)


def test_a_screen_reader_finds_the_plots_by_their_titles(
    window: Browser, pages: dict[str, Path]
) -> None:
    window.view(1100)
    window.open(pages["common"])
    window.call("Accessibility.enable")
    nodes = window.call("Accessibility.getFullAXTree")["nodes"]
    images = [n for n in nodes if n["role"]["value"] in {"image", "img"}]
    names = [n["name"]["value"] for n in images]
    assert "mtu, without sysfs" in names
    described = [n.get("description", {}).get("value", "") for n in images]
    assert any("process: 0.5 s at 128" in text for text in described)


def test_on_paper_it_is_black_on_white_and_cuts_nothing_off(
    window: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    window.view(700, dark=True, media="print")
    window.open(pages["common"])
    style = "getComputedStyle(document.documentElement)"
    assert window.ask(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert window.ask(f"{style}.color") == "rgb(0, 0, 0)"
    assert window.ask(OUTSIDE) == []
    window.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
