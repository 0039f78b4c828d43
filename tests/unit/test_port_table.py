"""The table: a sum, what is to be done by hand, what wants a look, and no more unless asked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from linklab.kernel.series import Patch, Series
from linklab.kernel.source import Source
from linklab.port.outcome import Conflict, Fault, FileOutcome, PatchOutcome, PatchStatus, worst
from linklab.port.porting import NewSeries, Ported
from linklab.port.table import as_text, headline, ranges, render

HERE = Path("/src/[linux].tar.xz")


def made(*outcomes: PatchOutcome) -> Ported:
    patches = tuple(
        Patch(o.number, len(outcomes), 1, o.subject, "", "", "", "", b"", HERE) for o in outcomes
    )
    files = {o.number: Path(f"{o.number:04}-x.patch") for o in outcomes if o.status.applies}
    source = Source(HERE, "0" * 40, "family", HERE)
    new = NewSeries(tuple(files.values()), "1" * 40)
    return Ported(Series(patches), source, "6.1.192", outcomes, new, files)


def conflict(number: int, *found: Conflict, subject: str = "net: [x] y") -> PatchOutcome:
    file = FileOutcome("net/a.c", PatchStatus.CONFLICT, conflicts=found)
    return PatchOutcome(number, subject, PatchStatus.CONFLICT, (file,))


def text_of(ported: Ported, *, everything: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(render(ported, everything=everything))
    return out.getvalue()


def place(line: int, lines: int = 1) -> Conflict:
    expected = tuple(f"old {line}.{n}" for n in range(lines))
    found = tuple(f"new {line}.{n}" for n in range(lines))
    return Conflict("net/a.c", Fault.TEXT, "it differs", 1, 2, line, expected, found)


def test_a_conflict_shows_its_first_place_and_a_few_lines_of_it() -> None:
    shown = text_of(made(conflict(3, place(10, 9), place(20))))
    for part in ("net: [x] y", "net/a.c:10, hunk 1 of 2: it differs", "- old 10.0", "+ new 10.2",
                 "... 6 more", "and in 1 more places"):  # fmt: skip
        assert part in shown
    assert "old 10.3" not in shown
    assert "net/a.c:20" not in shown


def test_all_shows_every_place_whole() -> None:
    shown = text_of(made(conflict(3, place(10, 9), place(20))), everything=True)
    assert "old 10.8" in shown
    assert "net/a.c:20" in shown


def test_a_thousand_conflicts_are_a_few_rows_and_a_number() -> None:
    ported = made(*(conflict(n, place(n)) for n in range(1, 1001)))
    shown = text_of(ported)
    assert "985 more conflicts: --all shows them, and table.txt has them" in shown
    assert len(shown.splitlines()) < 100
    assert as_text(ported).count("it differs") == 1000


def test_what_waits_for_a_conflict_stands_beside_it() -> None:
    waiting = [
        PatchOutcome(n, "w", PatchStatus.DEPENDS, needs=(1,), roots=(1,)) for n in (2, 3, 4, 9)
    ]
    shown = text_of(made(conflict(1, place(5)), *waiting))
    assert "2-4, 9" in shown
    assert "holds up" in shown


def test_a_place_that_is_about_a_failed_patch_names_it() -> None:
    about = Conflict("net/a.c", Fault.TEXT, "it differs", 1, 1, 7, needs=(4, 5))
    assert "(patch 4-5 changes it)" in text_of(made(conflict(6, about)))


def test_patches_to_files_that_are_not_there_are_told_by_folder() -> None:
    lacking = [
        conflict(n, Conflict(f"drivers/net/new/f{n}.c", Fault.NO_FILE, "")) for n in range(1, 8)
    ]
    shown = text_of(made(*lacking))
    assert "1-7" in shown
    assert "drivers/net/new/: f1.c, f2.c, f3.c, f4.c and 3 more" in shown
    assert "to do by hand: - is" not in shown
    assert "f7.c" in as_text(made(*lacking))


def test_a_torn_diff_has_no_place_and_a_patch_may_have_no_subject() -> None:
    shown = text_of(made(conflict(1, Conflict("", Fault.TORN, "cut short"), subject="")))
    assert "(no subject)" in shown
    assert "cut short" in shown


def test_moved_folders_are_counted_and_fuzz_is_listed() -> None:
    moved = FileOutcome("fs/smb/client/a.c", PatchStatus.MOVED, "fs/cifs/a.c", notes=("moved",))
    fuzz = FileOutcome(
        "net/a.c", PatchStatus.FUZZ, notes=("hunk 1 of 1: with 2 lines less context",)
    )
    shown = text_of(
        made(
            PatchOutcome(1, "smb", PatchStatus.MOVED, (moved,)),
            PatchOutcome(2, "net: fuzzy", PatchStatus.FUZZ, (fuzz,)),
            PatchOutcome(3, "net: fine", PatchStatus.CLEAN),
        )
    )
    assert "fs/smb/client" in shown
    assert "net: fuzzy" in shown
    assert "net: fine" not in shown
    assert "\nsmb" not in shown


def test_many_to_look_at_are_cut_short_too() -> None:
    file = FileOutcome("net/a.c", PatchStatus.FUZZ, notes=("less context",))
    ported = made(*(PatchOutcome(n, "x", PatchStatus.FUZZ, (file,)) for n in range(1, 31)))
    assert "15 more to look at" in text_of(ported)
    assert text_of(ported, everything=True).count("less context") >= 30


def test_the_sum_is_one_line() -> None:
    ported = made(
        PatchOutcome(1, "a", PatchStatus.CLEAN),
        PatchOutcome(2, "b", PatchStatus.THERE),
        conflict(3, place(1)),
    )
    assert headline(ported) == "1 of 3 patches apply, 1 there already or empty, 1 to do by hand"
    assert "[linux].tar.xz" in text_of(ported)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], ""),
        ([3], "3"),
        ([5, 3, 4, 9], "3-5, 9"),
        (list(range(1, 30, 2)), "1, 3, 5, 7, 9, 11 and 9 more"),
    ],
)
def test_numbers_are_written_as_ranges(numbers: list[int], expected: str) -> None:
    assert ranges(numbers) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], PatchStatus.EMPTY),
        ([PatchStatus.THERE, PatchStatus.THERE], PatchStatus.THERE),
        ([PatchStatus.THERE, PatchStatus.CLEAN], PatchStatus.PARTLY),
        ([PatchStatus.THERE, PatchStatus.FUZZ], PatchStatus.FUZZ),
        ([PatchStatus.OFFSET, PatchStatus.MOVED], PatchStatus.MOVED),
        ([PatchStatus.THERE, PatchStatus.DEPENDS], PatchStatus.DEPENDS),
        ([PatchStatus.CONFLICT, PatchStatus.DEPENDS], PatchStatus.CONFLICT),
    ],
)
def test_a_patch_is_what_its_worst_part_is(parts: list[PatchStatus], expected: PatchStatus) -> None:
    assert worst(parts) is expected
