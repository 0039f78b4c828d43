"""A table as a value: on a terminal, in parts where it is too wide, and in a page."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from linklab.commands.exit_status import print_shown
from linklab.report.grid import Column, Entry, Grid, Span, plain_text, word
from linklab.templating import render

ONE, OTHER = "the one kernel", "the other kernel"
GRID = Grid(
    what="seconds",
    head="mtu",
    columns=[
        Column("interfaces"),
        *(Column(name, over=over) for over in (ONE, OTHER) for name in ("group", "process")),
    ],
    rows=[
        [Entry(str(n), n), *(Entry(f"{n * k:.2f}", n * k) for k in (1.01, 2.02, 3.03, 4.04))]
        for n in (8, 16)
    ],
)
COSTS = Grid(
    what="what it cost",
    head="mtu",
    columns=[Column("kernel", False), Column("arm", False), Column("time"), Column("calls")],
    rows=[
        [word(kernel), word(arm), Entry(f"{t} ms", t / 1000), Entry(str(t), t)]
        for kernel, arm, t in (("a", "group", 1), ("a", "batch", 2), ("b", "group", 3))
    ],
    leading=2,
    titles={"a": "without it", "c": "not here"},
)


def lines(grid: Grid, width: int) -> list[str]:
    return [line.strip() for line in plain_text(grid.on_terminal(), width).splitlines() if line]


def words(grid: Grid, width: int) -> list[list[str]]:
    return [line.split() for line in lines(grid, width)]


# On a terminal


def test_one_that_fits_is_one_table_with_its_titles_over_the_columns() -> None:
    shown = lines(GRID, 100)
    assert shown[0] == "mtu: seconds"
    assert shown[1].index(ONE) < shown[1].index(OTHER)
    assert shown[2].split() == ["interfaces", "group", "process", "group", "process"]
    assert [line.split() for line in shown[4:]] == [
        ["8", "8.08", "16.16", "24.24", "32.32"],
        ["16", "16.16", "32.32", "48.48", "64.64"],
    ]


def test_one_that_is_too_wide_is_cut_by_the_titles_over_its_columns() -> None:
    shown = lines(GRID, 50)
    titles = [place for place, line in enumerate(shown) if line.endswith("seconds")]
    assert [shown[place] for place in titles] == [f"mtu, {ONE}: seconds", f"mtu, {OTHER}: seconds"]
    first, second = shown[: titles[1]], shown[titles[1] :]
    for part, figures in ((first, ["8.08", "16.16"]), (second, ["24.24", "32.32"])):
        assert part[1].split() == ["interfaces", "group", "process"], "without the titles"
        assert part[3].split() == ["8", *figures]
        assert part[4].split()[0] == "16", "the leading column is in each"
    assert len(first) == len(second) == 5


def test_without_such_titles_it_is_cut_by_what_the_first_column_says() -> None:
    assert words(COSTS, 80)[1] == ["kernel", "arm", "time", "calls"]
    shown = lines(COSTS, 24)
    rows = [line.split() for line in shown if "ms" in line]
    assert rows == [["group", "1", "ms", "1"], ["batch", "2", "ms", "2"], ["group", "3", "ms", "3"]]
    text = " ".join(shown)
    assert text.index("mtu, without it: what it cost") < text.index("mtu, b: what it cost")
    assert "kernel" not in text and "not here" not in text


def test_one_that_cannot_be_cut_is_drawn_as_it_is() -> None:
    alone = replace(GRID, columns=GRID.columns[:3], rows=[row[:3] for row in GRID.rows])
    assert lines(alone, 20)[0] == "mtu: seconds"
    assert any("16.16" in line for line in lines(alone, 30))
    same = replace(COSTS, rows=COSTS.rows[:2])
    assert " ".join(lines(same, 20)).startswith("mtu: what it cost")


def test_a_table_that_is_the_only_one_has_no_head() -> None:
    alone = replace(GRID, head="")
    assert alone.caption == lines(alone, 100)[0] == "seconds"
    assert f"{ONE}: seconds" in lines(alone, 50)


def test_a_remark_stands_behind_its_figure() -> None:
    entry = Entry("2.00", 2, "[1.00, 3.00], 1 not valid", "invalid")
    grid = Grid("x", [Column("a"), Column("b")], [[Entry("1", 1), entry]])
    assert lines(grid, 80)[-1].split(maxsplit=1)[1] == "2.00 [1.00, 3.00], 1 not valid"


def test_a_long_title_over_figures_is_broken_at_its_spaces_and_words_are_not() -> None:
    grid = Grid("x", [Column("a name", False), Column("context switches")],
                [[word("k"), Entry("7", 7)]])  # fmt: skip
    assert "a name" in plain_text(grid.on_terminal())
    assert "context switches" not in plain_text(grid.on_terminal())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(24, 140),
)
def test_every_figure_is_shown_once_however_narrow_it_is(
    kernels: int, columns: int, rows: int, width: int
) -> None:
    numbers = iter(range(100, 1000))
    grid = Grid(
        "x",
        [Column("n"), *(Column("c", over=f"k{k}") for k in range(kernels) for _ in range(columns))],
        [
            [Entry("n", 0), *(Entry(str(next(numbers)), 0) for _ in range(kernels * columns))]
            for _ in range(rows)
        ],
    )
    shown = plain_text(grid.on_terminal(), width)
    assert max(map(len, shown.splitlines())) <= width
    found = sorted(word for word in shown.split() if word.isdigit())
    assert found == [str(100 + n) for n in range(kernels * columns * rows)]


def test_the_titles_over_columns_are_spans() -> None:
    assert GRID.spans == [Span(ONE, 2), Span(OTHER, 2)]
    assert COSTS.spans == []


def test_a_short_word_stays_on_its_line_in_a_page() -> None:
    assert word("group").tone == "brief"
    assert word("a sentence of some length").tone == ""


# In a page


class Table(HTMLParser):
    """The first table of a page, with what a cell says and what it is sorted by."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.spans: list[list[str]] = []
        self.heads: list[str] = []
        self.rows: list[list[dict[str, str | None]]] = []
        self.labels: list[str | None] = []
        self._open: list[str] = []
        empty = dict.fromkeys(("summary", "heads", "parts", "tables", "again", "courses"), ())
        self.feed(render("report.html", title="", metric="seconds", claims=grid, **empty))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._open.append(tag)
        if tag == "tr" and "tbody" in self._open:
            self.rows.append([])
        elif tag in {"th", "td"} and "tbody" in self._open:
            self.rows[-1].append({"text": "", "small": "", **said})
        elif tag == "th" and said.get("scope") == "colgroup":
            self.spans.append([said.get("colspan") or "", ""])
        elif tag == "th":
            self.heads.append("")
        elif said.get("role") == "region":
            self.labels.append(said.get("aria-label"))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"th", "td"} & set(self._open):
            return
        if "tbody" in self._open:
            cell, name = self.rows[-1][-1], "small" if "small" in self._open else "text"
            cell[name] = f"{cell[name]}{data}"
        elif "span" in self._open:
            self.spans[-1][1] += data
        elif "th" in self._open:
            self.heads[-1] += data


@pytest.mark.parametrize("grid", [GRID, COSTS], ids=["spans", "no spans"])
def test_a_page_has_the_same_table(grid: Grid) -> None:
    table = Table(grid)
    assert table.labels == [grid.caption]
    assert table.heads == [column.name for column in grid.columns]
    assert table.spans == [[str(span.columns), span.name] for span in grid.spans]
    assert [[cell["text"] for cell in row] for row in table.rows] == [
        [entry.text for entry in row] for row in grid.rows
    ]


def test_a_page_sorts_a_column_by_its_numbers_and_not_by_what_they_look_like() -> None:
    found = [[cell.get("data-value") for cell in row] for row in Table(COSTS).rows]
    assert [row[:2] for row in found] == [[None, None]] * 3
    assert [float(str(row[2])) for row in found] == [0.001, 0.002, 0.003]


def test_a_pages_remark_is_small_and_its_tone_a_class() -> None:
    entry = Entry("reproduced:", 0.0, "but <b>not</b> here", "part")
    ((cell,),) = Table(Grid("x", [Column("a")], [[entry]], kind="prose")).rows
    assert (cell["text"], cell["small"]) == ("reproduced:", "but <b>not</b> here")
    assert cell["class"] == "number part"
    assert cell["data-value"] == "0.0", "0 is a number, too"
    assert cell["data-name"] == "a", "for where a window is too narrow for columns"


MARKUP = st.text("<>&\"'[]/b{}%é核", min_size=1, max_size=10)


@settings(max_examples=30, deadline=None)
@given(MARKUP, MARKUP, MARKUP)
def test_what_looks_like_markup_stays_text_in_both(name: str, text: str, remark: str) -> None:
    columns = [Column(name, numeric=False), Column("b", numeric=False)]
    grid = Grid("x", columns, [[Entry("one"), Entry(text, remark=remark)]])
    table = Table(grid)
    assert table.heads[0] == name
    assert (table.rows[0][1]["text"], table.rows[0][1]["small"]) == (text, remark)
    shown = plain_text(grid.on_terminal())
    assert name in shown
    assert f"{text} {remark}" in shown


def test_what_a_terminal_would_act_on_is_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and messages in a table may come from a guest, or from a stored run."""
    evil = Text("net\x1b]0;evil\x1b\\", style="bold red")
    assert plain_text(evil) == "net\\x1b]0;evil\\x1b\\\n"
    print_shown(evil)
    assert capsys.readouterr().out == "net\\x1b]0;evil\\x1b\\\n"
