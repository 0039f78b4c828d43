"""Templates: nothing is ever left empty by mistake, and quoting holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.errors import LabError
from linklab.templating import quoted_for_mtree, render


def test_holes_are_filled_and_the_last_newline_stays(tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello {{ who }}\n")

    assert render("greeting", tmp_path, who="world") == "hello world\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [("{{ who }}", "'who' is undefined"), ("{{ a.b }}", "has no attribute"), ("{% if %}", "")],
)
def test_a_hole_that_nobody_fills_is_an_error(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "broken").write_text(text)

    with pytest.raises(LabError, match=f"template {tmp_path / 'broken'} cannot .*{why}"):
        render("broken", tmp_path, a={})


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="absent is missing"):
        render("absent", tmp_path)


def test_shell_words_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("cd {{ folder | shell }}\n")

    assert render("script", tmp_path, folder="a b; rm") == "cd 'a b; rm'\n"


def test_only_what_a_browser_reads_is_escaped(tmp_path: Path) -> None:
    for name in ("page.html", "plot.svg", "init"):
        (tmp_path / name).write_text("{{ text }}")

    rendered = [render(name, tmp_path, text="a<b") for name in ("page.html", "plot.svg", "init")]
    assert rendered == ["a&lt;b", "a&lt;b", "a<b"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_path_is_one_word_and_means_the_same(path: str) -> None:
    quoted = quoted_for_mtree(path)

    assert not re.search(r"[\s#]|[^\x21-\x7e]", quoted)
    plain = re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8)]), quoted.encode())
    assert plain.decode() == path
