"""Dependence on failed patches: against a record of who wrote each line."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff

from hypothesis import given
from hypothesis import strategies as st

from linklab.kernel.diff import FileDiff, parse_diff
from linklab.port.follow import FailedChanges

LINES = 40
# Where a patch edits, how many lines it takes there, and how many it puts in their place.
EDIT = st.tuples(st.integers(0, LINES), st.integers(0, 4), st.integers(1, 3))
PATCHES = st.lists(
    st.tuples(st.booleans(), st.lists(EDIT, min_size=1, max_size=3)), min_size=2, max_size=8
)


def diff_of(old: list[str], new: list[str]) -> FileDiff:
    text = "".join(unified_diff(old, new, "a/x", "b/x"))
    (diff,) = parse_diff(text.encode())
    return diff


@given(PATCHES)
def test_a_hunk_depends_on_whoever_wrote_the_lines_that_it_looks_at(
    patches: list[tuple[bool, list[tuple[int, int, int]]]],
) -> None:
    lines = [f"line {n}\n" for n in range(LINES)]
    writers: list[int | None] = [None] * LINES
    failures = FailedChanges()
    for number, (failed, edits) in enumerate(patches, 1):
        after = list(lines)
        for n, (at, removed, added) in enumerate(edits):
            after[at : at + removed] = [f"patch {number}.{n}.{k}\n" for k in range(added)]
        if after == lines:
            continue
        diff = diff_of(lines, after)
        for hunk in diff.hunks:
            looked_at = writers[hunk.start : hunk.end]
            assert failures.of_hunk(diff, hunk) == {w for w in looked_at if w is not None}
        failures.follow(diff, number if failed else None)
        writers = _written(lines, after, writers, number if failed else None)
        lines = after


def _written(
    old: list[str], new: list[str], writers: list[int | None], writer: int | None
) -> list[int | None]:
    out: list[int | None] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes():
        out += writers[a:b] if kind == "equal" else [writer] * (d - c)
    return out


def removal(of: int) -> tuple[FileDiff, list[str], list[str]]:
    lines = [f"line {n}\n" for n in range(20)]
    after = lines[:of] + lines[of + 1 :]
    return diff_of(lines, after), lines, after


def test_a_place_where_a_failed_patch_removes_lines_counts_inside_a_hunk_only() -> None:
    diff, _, after = removal(10)
    failures = FailedChanges()
    failures.follow(diff, 1)
    inside = diff_of(after, [*after[:11], "new\n", *after[11:]])
    edge = diff_of(after, [*after[:13], "new\n", *after[13:]])
    assert failures.of_hunk(inside, inside.hunks[0]) == {1}
    assert edge.hunks[0].start == 10
    assert failures.of_hunk(edge, edge.hunks[0]) == set()


def test_hunks_that_are_there_already_leave_no_mark() -> None:
    diff, _, after = removal(10)
    failures = FailedChanges()
    failures.follow(diff, 1, there={1})
    later = diff_of(after, [*after[:11], "new\n", *after[11:]])
    assert failures.of_hunk(later, later.hunks[0]) == set()


def test_marks_and_names_follow_a_file_that_is_renamed_copied_or_deleted() -> None:
    diff, _, after = removal(10)
    failures = FailedChanges()
    failures.follow(diff, 1)
    failures.follow(FileDiff("x", "copy", is_copy=True), None)
    failures.follow(FileDiff("x", "y"), None)
    later = diff_of(after, [*after[:11], "new\n", *after[11:]])
    for name, expected in (("x", set()), ("y", {1}), ("copy", {1})):
        moved = FileDiff(name, name, later.hunks)
        assert failures.of_hunk(moved, later.hunks[0]) == expected
    failures.follow(FileDiff("y", "z"), 4)
    assert failures.of_file(FileDiff("z", "z")) == {4}
    assert failures.of_file(FileDiff("y", None)) == {4}
    failures.follow(FileDiff("z", None), None)
    assert failures.of_file(FileDiff(None, "z")) == set()
    assert failures.of_any(FileDiff("copy", "copy")) == {1}
