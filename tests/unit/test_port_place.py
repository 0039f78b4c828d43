"""Where hunks go: against git itself, and the cases in which git guesses."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from porting import git

from linklab.kernel.diff import parse_diff
from linklab.port.outcome import HunkOutcome, PatchStatus
from linklab.port.place import Text, apply_hunks, hunk_outcomes, place_hunks

# Indented, so that none names a function; few enough to come twice.
LINES = st.lists(st.sampled_from([f"\tline {n};\n" for n in range(25)]), min_size=1, max_size=40)
EDIT = st.tuples(st.integers(0, 60), st.integers(0, 3), LINES.map(lambda lines: lines[:2]))
EDITS = st.lists(EDIT, min_size=1, max_size=3)


def edited(lines: Sequence[str], edits: Sequence[tuple[int, int, list[str]]]) -> list[str]:
    out = list(lines)
    for at, removed, added in edits:
        out[at : at + removed] = added
    return out


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    git(folder, "init", "--quiet")
    return folder


def diff_of(repo: Path, old: Sequence[str], new: Sequence[str]) -> bytes:
    for name, lines in (("old", old), ("new", new)):
        (repo / name).write_text("".join(lines))
    done = subprocess.run(
        ["git", "diff", "--no-index", "--no-prefix", "old", "new"],
        cwd=repo, check=False, capture_output=True,
    )  # fmt: skip
    return (
        done.stdout.replace(b"--- old", b"--- a/x")
        .replace(b"+++ new", b"+++ b/x")
        .replace(b"diff --git old new", b"diff --git a/x b/x")
    )


def git_applies(repo: Path, target: Sequence[str], diff: bytes) -> bytes | None:
    (repo / "x").write_text("".join(target))
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn"], cwd=repo, input=diff, check=False,
        capture_output=True,
    )  # fmt: skip
    return (repo / "x").read_bytes() if done.returncode == 0 else None


def tried(target: Sequence[str], diff: bytes) -> tuple[tuple[HunkOutcome, ...], bytes]:
    text = Text("".join(target).encode())
    (parsed,) = parse_diff(diff)
    placed = place_hunks(text, parsed.hunks)
    return hunk_outcomes(placed), apply_hunks(text, placed).content


@given(LINES, EDITS)
@settings(max_examples=60)
def test_a_patch_on_its_own_file_gives_what_it_was_made_of(
    repo: Path, base: list[str], edits: list[tuple[int, int, list[str]]]
) -> None:
    after = edited(base, edits)
    diff = diff_of(repo, base, after)
    if after and diff:
        outcomes, content = tried(base, diff)
        assert {outcome.status for outcome in outcomes} == {PatchStatus.CLEAN}
        assert content.decode() == "".join(after)


@given(LINES, EDITS, EDITS)
@settings(max_examples=120)
def test_what_fits_one_place_goes_where_git_puts_it(
    repo: Path,
    base: list[str],
    edits: list[tuple[int, int, list[str]]],
    others: list[tuple[int, int, list[str]]],
) -> None:
    after, target = edited(base, edits), edited(base, others)
    diff = diff_of(repo, base, after)
    if not (after and target and diff):
        return
    outcomes, content = tried(target, diff)
    theirs = git_applies(repo, target, diff)
    exact = {outcome.status for outcome in outcomes} <= {PatchStatus.CLEAN, PatchStatus.OFFSET}
    if exact and not any(outcome.rivals for outcome in outcomes):
        # Hunks that lie apart here may have come nearer than git lets them.
        assert theirs in (content, None)
    if theirs is not None:
        assert PatchStatus.CONFLICT not in {outcome.status for outcome in outcomes}


def lines(*words: str) -> list[str]:
    return [f"\t{word}\n" for word in words]


TEN = lines(*(f"word {n}" for n in range(10)))


def changed(at: int, word: str) -> list[str]:
    return edited(TEN, [(at, 1, lines(word))])


def test_at_the_beginning_of_a_file_less_must_match_when_it_is_no_longer_the_beginning(
    repo: Path,
) -> None:
    diff = diff_of(repo, TEN, changed(0, "first"))
    (outcome,), content = tried(lines("new", "newer") + TEN, diff)
    assert (outcome.status, outcome.fuzz) == (PatchStatus.FUZZ, 0)
    assert content.decode() == "".join(lines("new", "newer") + changed(0, "first"))


def test_a_last_line_without_an_end_stays_the_last_one(repo: Path) -> None:
    diff = diff_of(repo, [*TEN[:-1], "\tlast"], [*TEN[:-1], "\tvery last"])
    (outcome,), _ = tried([*TEN[:-1], "\tlast"], diff)
    assert outcome.status is PatchStatus.CLEAN
    (outcome,), _ = tried([*TEN[:-1], "\tlast\n", *lines("more")], diff)
    assert outcome.status is PatchStatus.CONFLICT


def test_with_less_context_one_of_several_places_is_no_place(repo: Path) -> None:
    pair = lines("before", "here", "after")
    one = [*lines("a1", "a2"), *pair, *lines("b1", "b2")]
    diff = diff_of(repo, one, edited(one, [(3, 1, lines("there"))]))
    target = [*lines("x"), *pair, *lines("y", "z"), *pair]
    (outcome,), _ = tried([*lines("far", "far away"), *target], diff)
    assert outcome.status is PatchStatus.CONFLICT


def test_braces_alone_are_no_place(repo: Path) -> None:
    block = lines("a", "b", "}", "}", "c", "d")
    diff = diff_of(repo, block, edited(block, [(3, 0, lines("added"))]))
    (outcome,), _ = tried([*TEN, *lines("}", "}"), *TEN], diff)
    assert outcome.status is PatchStatus.CONFLICT


def test_a_hunk_without_context_goes_nowhere_by_itself(repo: Path) -> None:
    bare = b"--- a/x\n+++ b/x\n@@ -3,0 +4 @@\n+\tadded\n"
    (outcome,), _ = tried(TEN, bare)
    assert outcome.status is PatchStatus.CONFLICT


def test_of_several_places_the_nearest_is_taken_and_said(repo: Path) -> None:
    twice = [*TEN, *TEN]
    diff = diff_of(repo, TEN, changed(5, "changed"))
    (outcome,), content = tried([*lines("one more"), *twice], diff)
    assert (outcome.status, outcome.rivals, outcome.offset) == (PatchStatus.OFFSET, 1, 1)
    assert content.decode() == "".join([*lines("one more"), *changed(5, "changed"), *TEN])


def test_a_deletion_whose_lines_are_gone_is_there_already(repo: Path) -> None:
    without = edited(TEN, [(5, 1, [])])
    diff = diff_of(repo, TEN, without)
    (outcome,), content = tried(without, diff)
    assert outcome.status is PatchStatus.THERE
    assert content.decode() == "".join(without)
