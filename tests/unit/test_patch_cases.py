"""Patches as people send and keep them, each a case in `cases/patches` with its right answer.

What each is about stands in its `.expect`; `tree` there is the source.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from porting import git

from linklab.errors import BuildSkipped, UsageError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import read_series
from linklab.kernel.source import Source, open_source
from linklab.port.porting import Ported, port_series

CASES = Path(__file__).parent / "cases" / "patches"
COUNTERS, GATE = "net/core/counters.c", "net/core/gate.c"


@dataclass(frozen=True)
class Right:
    """What is right for a case. `holds` are lines of the files afterwards.

    `refusal` is what `--patch` says where it does not take the patches; without
    it, it makes the same tree as `port`.
    """

    statuses: tuple[str, ...]
    holds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subjects: tuple[str, ...] = ()
    cover: str = ""
    author: str = ""
    description: str = ""
    note: str = ""
    why: str = ""
    refusal: str = ""


def long(*numbers: int) -> dict[str, tuple[str, ...]]:
    """Return the lines of counters.c of which only these are long."""
    return {
        COUNTERS: tuple(f"{'long' if n in numbers else 'int'} counter_{n};" for n in range(1, 61))
    }


OPEN_2, OPEN_3 = {GATE: ("\tg->open = 2;",)}, {GATE: ("\tg->open = 3;",)}

RIGHT = {
    "01-no-file-lines.patch": Right(("clean",), {**long(12), **OPEN_2}),
    "02-combined-diff.patch": Right(
        ("conflict",), why="line 2 of the diff", refusal="it is of a combined diff"
    ),
    "03-moved-file": Right(
        ("conflict", "conflict"),
        {"net/new/moved.c": ("\treturn 1;",)},
        why="there is no such file in this source",
        refusal="net/old/moved.c: does not exist",
    ),
    "05-cover-with-a-diff.mbox": Right(
        ("clean", "clean"),
        long(12, 22),
        subjects=("counters: one", "counters: two"),
        cover="counters: two long ones",
    ),
    "06-numbered-then-v2-without-number.mbox": Right(
        ("clean",), OPEN_3, note="holds v1 too: v2 is taken"
    ),
    "07-charset-with-nul.eml": Right(("clean",), OPEN_2),
    "08-format-flowed.eml": Right(
        ("clean",),
        OPEN_2,
        description="Twice, as the first attempt is often lost.\n"
        "Signed-off-by: Test Author <test@example.com>",
    ),
    "09-utf8-in-a-header.patch": Right(
        ("clean",),
        OPEN_2,
        subjects=("gate: öffne zweimal",),
        author="Tést Äuthor <test@example.com>",
    ),
    "10-reroll-with-another-subject.mbox": Right(
        ("clean",), OPEN_3, note='holds v1 of "gate: open twice" too: v2 is taken'
    ),
    "11-sent-again-without-version.mbox": Right(
        ("clean",),
        OPEN_3,
        note="the last one is taken, of 2025-01-07 10:40 +0000, <i2@example.com>",
    ),
    "13-version-on-the-first-only.mbox": Right(("clean", "clean"), long(12, 22)),
    "14-folder-by-names": Right(
        ("clean",) * 3,
        long(12, 22, 32),
        subjects=("counters: one", "counters: two", "counters: three"),
    ),
    "15-folded-subject-in-the-body.patch": Right(
        ("clean",),
        OPEN_2,
        subjects=("gate: open twice as the first attempt is often lost",),
        author="Other Author <other@example.com>",
        description="Twice.\nSigned-off-by: Test Author <test@example.com>",
    ),
    "17-blanks-before-the-time.patch": Right(("clean",), OPEN_2),
    "18b-scrubbed-index-changed-file.patch": Right(("clean",), OPEN_2),
    "19-heading-of-the-function-before.patch": Right(
        ("offset",), {GATE: ("\tg->open = !g->open;", "\treturn 1;")}
    ),
    "21-quilt-p0": Right(("clean",), OPEN_2),
    "22-evidence-one-line-off.patch": Right(
        ("conflict",),
        refusal="  - int gate_toggle(struct gate *g, int how)\n"
        "  + int gate_toggle(struct gate *g)\n",
    ),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("cases")
    shutil.copytree(CASES / "tree", folder / "tree")
    return open_source(folder / "tree", Cache(folder / "cache"), ignore)


def ported(name: str, source: Source, folder: Path) -> Ported:
    folder.mkdir(exist_ok=True)
    return port_series(read_series([CASES / name]), source, folder, ignore)


def content(source: Source, tree: str, path: str) -> list[str]:
    return source.store.git(["cat-file", "blob", f"{tree}:{path}"]).stdout.decode().splitlines()


def test_every_case_has_its_right_answer() -> None:
    names = {path.name for path in CASES.iterdir() if path.suffix not in (".expect", ".txt")} - {
        "tree"
    }
    assert names == set(RIGHT)
    assert names == {f"{path.stem}{suffix}" for path in CASES.glob("*.expect")
                     for suffix in ("", ".patch", ".mbox", ".eml")} & names  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_port_gives_the_right_answer(name: str, source: Source, tmp_path: Path) -> None:
    right = RIGHT[name]
    found = ported(name, source, tmp_path / "out")
    assert tuple(each.status for each in found.outcomes) == right.statuses
    subjects = tuple(patch.subject for patch in found.series.patches)
    assert right.subjects in ((), subjects)
    first = found.series.patches[0]
    assert right.author in ("", first.author)
    assert right.description in ("", first.description)
    assert found.series.cover == right.cover
    assert right.note in "\n".join(found.series.notes)
    assert bool(right.note) == bool(found.series.notes)
    assert right.why in "\n".join(c.why for each in found.outcomes for c in each.conflicts)


@pytest.mark.parametrize("name", [name for name, right in RIGHT.items() if right.holds])
def test_the_new_series_makes_the_files_that_are_right(
    name: str, source: Source, tmp_path: Path
) -> None:
    found = ported(name, source, tmp_path / "out")
    repo = tmp_path / "repo"
    shutil.copytree(CASES / "tree", repo)
    git(repo, "init", "--quiet")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "-m", "base")
    if found.new.files:
        git(repo, "am", "--quiet", *found.new.files)
    for path, lines in RIGHT[name].holds.items():
        there = (repo / path).read_text().splitlines()
        assert [line for line in lines if line not in there] == []
    log = git(repo, "log", "-1", "--format=%an <%ae>%n%s").decode().splitlines()
    if RIGHT[name].author:
        assert log == [RIGHT[name].author, RIGHT[name].subjects[-1]]


@pytest.mark.parametrize("name", RIGHT)
def test_the_patch_option_gives_the_right_answer(name: str, source: Source, tmp_path: Path) -> None:
    right, series = RIGHT[name], read_series([CASES / name])
    if right.refusal:
        with pytest.raises((BuildSkipped, UsageError)) as refused:
            patched_tree(source, series.patches)
        assert right.refusal in f"{refused.value.message}\n{refused.value.evidence}"
    else:
        tree = patched_tree(source, series.patches)
        assert tree == ported(name, source, tmp_path / "out").new.tree != source.tree
