"""The page of a ported series: what of it is of which kind, by time and by folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from linklab.port.outcome import PatchStatus
from linklab.report.port import KINDS, _whole, kind_of, page, write_page


def patch(number: int, status: str, *files: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {
        "number": number, "subject": f"net: <{number}>", "status": status, "date": "", "roots": [],
        "holds_up": [], "remarks": [],
        "files": [{"path": p, "status": s, "conflicts": []} for p, s in files],
    } | more  # fmt: skip


def document(*patches: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": "invoke port a --onto b", "start": "2026-01-02T03:04:05+00:00",
        "verdict": "fail", "patches": list(patches),
        "series": {"cover": "", "base": "", "files": {"/a/1.patch": "ab"}},
        "source": {"release": "6.1.192", "origin": "/b.tar.xz"},
    }  # fmt: skip


def tables(*patches: dict[str, Any]) -> dict[str, list[list[str]]]:
    return {g.what: [[entry.text for entry in row] for row in g.rows] for g in _whole(patches)}


def test_every_status_is_of_the_kind_that_it_says() -> None:
    for status in PatchStatus:
        wanted = {
            (True, False): "as it is", (True, True): "adapted", (False, False): "there already",
        }.get((status.applies, status.needs_look), "")  # fmt: skip
        assert kind_of(status.value) == ("by hand" if status.failed else wanted)
    assert kind_of("of a later version") == "by hand"


def test_patches_are_counted_by_kind_and_outcome() -> None:
    statuses = ["conflict", "clean", "conflict", "offset", "empty", "fuzz"]
    found = tables(*(patch(n, status) for n, status in enumerate(statuses, 1)))
    assert found["all patches"] == [
        ["as it is", "clean", "1"], ["as it is", "offset", "1"], ["adapted", "fuzz", "1"],
        ["there already", "empty", "1"], ["by hand", "conflict", "2"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dates", "periods"),
    [
        (["2024-03-01T00:00:00+00:00", "2024-03-02T00:00:00+00:00"], ["2024-03-01", "2024-03-02"]),
        # 01:00 in an eastern zone is the day before where the table's days are.
        (["2024-03-01T01:00:00+02:00"], ["2024-02-29"]),
        ([f"2024-03-{day:02}T00:00:00+00:00" for day in range(1, 26)], ["2024-03"]),
        ([f"20{year}-06-01T00:00:00+00:00" for year in range(10, 34)],
         [f"20{year}-06-01" for year in range(10, 34)]),
        ([f"{1990 + n // 12}-{n % 12 + 1:02}-01T00:00:00+00:00" for n in range(25)],
         ["1990", "1991", "1992"]),
        (["2024-03-01T00:00:00+00:00", ""], ["2024-03-01", "no date"]),
    ],
)  # fmt: skip
def test_time_is_in_the_finest_periods_that_are_not_too_many(
    dates: list[str], periods: list[str]
) -> None:
    found = tables(*(patch(n, "clean", date=date) for n, date in enumerate(dates, 1)))
    rows = found["patches, by their authors' dates"]
    assert [row[0] for row in rows] == periods
    assert sum(int(row[1]) for row in rows) == len(dates)


def test_a_series_without_dates_has_no_table_of_time() -> None:
    assert "patches, by their authors' dates" not in tables(patch(1, "clean"))


def test_files_are_by_folder_and_those_with_conflicts_first() -> None:
    found = tables(
        patch(1, "conflict", ("net/core/dev.c", "conflict"), ("net/core/a/b.c", "clean")),
        patch(2, "depends", ("net/core/dev.c", "depends"), holds_up=[3, 4], roots=[1]),
        patch(3, "moved", ("lib/x.c", "moved"), ("Makefile", "already there")),
    )
    title = "files, each once for each patch that changes it"
    assert found[title] == [
        ["net/core", "1", "", "", "2", "67 %"],
        [".", "", "", "1", "", "0 %"],
        ["lib", "", "1", "", "", "0 %"],
    ]
    assert found["files with something to do by hand"] == [["net/core/dev.c", "2", "2", "1, 2"]]


def test_where_nothing_is_left_by_hand_no_file_is_listed() -> None:
    assert "files with something to do by hand" not in tables(patch(1, "clean", ("a", "clean")))


def test_the_page_says_the_sum_and_every_patch(tmp_path: Path) -> None:
    conflict = [{"path": "net/a.c", "status": "conflict", "conflicts": [{"file": "net/a.c"}]}]
    about = document(
        patch(1, "conflict", date="2024-03-01T00:00:00+00:00") | {"files": conflict, "roots": [1]},
        patch(2, "depends", roots=[1]),
        patch(3, "fuzz", remarks=["net/b.c, hunk 1 of 1: with less context"]),
    )
    text = page(about)
    for said in (
        "3 patches onto Linux 6.1.192", "0 as it is, 1 adapted, 0 there already, 2 by hand",
        "net: &lt;2&gt;", "waits for 1", "conflicts in net/a.c", "with less context",
        "invoke port a --onto b", "2026-01-02 03:04 UTC",
    ):  # fmt: skip
        assert said in text
    assert "waits for 1; conflicts" not in text, "a conflict does not wait for itself"
    assert not re.search(r"(src|href)=|https?:", text), "it needs no network"
    assert write_page(about, tmp_path / "page.html").read_text() == text
    assert set(KINDS) <= set(re.findall(r"as it is|adapted|there already|by hand", text))


def test_what_the_first_ones_stored_without_dates_has_a_page() -> None:
    old = patch(1, "clean", ("a.c", "clean"))
    del old["date"]
    assert "1 as it is" in page(document(old))
