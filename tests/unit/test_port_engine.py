"""A series on another source: what becomes of each patch, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from porting import FUNCTIONS, Files, Workshop, git, small_patch, words

from linklab.port.outcome import Fault, PatchOutcome

NAME = "net/core/dev.c"


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


WORKED = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a + 1);\n")


def only(outcomes: list[PatchOutcome]) -> PatchOutcome:
    (outcome,) = outcomes
    return outcome


# --- what applies --------------------------------------------------------------


def test_a_patch_on_its_own_source_is_clean(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    (tried,), tree = shop.tried(patches, {NAME: FUNCTIONS})
    assert tried.outcome.status == "clean"
    file = tree.get(NAME)
    assert file is not None
    assert file.content.decode() == WORKED


def test_lines_in_front_of_it_give_an_offset_and_are_counted(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    outcome = only(shop.outcomes(patches, {NAME: "// one\n// two\n" + FUNCTIONS}))
    assert outcome.status == "offset"
    assert outcome.files[0].hunks[0].offset == 2
    assert not outcome.needs_look


def test_other_context_gives_fuzz_and_the_patch_is_to_be_looked_at(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    other = edited(FUNCTIONS, "\tint beta_result = 0;\n", "\tlong beta_result = 0;\n")
    (tried,), tree = shop.tried(patches, {NAME: other})
    assert tried.outcome.status == "fuzz"
    assert tried.outcome.needs_look
    assert "less context" in tried.outcome.remarks[0]
    file = tree.get(NAME)
    assert file is not None
    assert b"long beta_result" in file.content
    assert b"beta_work(a + 1)" in file.content


def test_an_earlier_patch_of_the_series_moves_a_later_one(shop: Workshop) -> None:
    first = "// new\n" * 5 + FUNCTIONS
    second = edited(first, "\tbeta_work(a);\n", "\tbeta_work(a + 1);\n")
    patches = shop.series({NAME: FUNCTIONS}, {NAME: first}, {NAME: second})
    assert words(shop.outcomes(patches, {NAME: FUNCTIONS})) == ["clean", "clean"]


def test_of_twins_the_one_in_the_function_that_the_patch_names_is_taken(shop: Workshop) -> None:
    twin = "{\n\tint i;\n\n\tlock();\n\twork();\n\tunlock();\n\n\treturn 0;\n}\n\n"
    before = f"int one(void)\n{twin}int two(void)\n{twin}"
    after = f"int one(void)\n{twin}int two(void)\n{twin.replace('work', 'rest')}"
    patches = shop.series({NAME: before}, {NAME: after})
    # Fourteen lines more, so that the twin in one() is nearer than two() is.
    pushed = "// more\n" * 14 + before
    (tried,), tree = shop.tried(patches, {NAME: pushed})
    file = tree.get(NAME)
    assert file is not None
    assert file.content.decode() == "// more\n" * 14 + after
    assert tried.outcome.status == "offset"


def test_a_hunk_never_goes_into_another_function_than_its_own(shop: Workshop) -> None:
    body = "{\n\tint i;\n\n\tlock();\n\twork();\n\tunlock();\n\n\treturn 0;\n}\n\n"
    before = f"int one(void)\n{body}int two(void)\n{body}"
    after = f"int one(void)\n{body}int two(void)\n{body.replace('work', 'rest')}"
    onto = f"int one(void)\n{body}int two(void)\n{{\n\treturn 0;\n}}\n\n"
    patches = shop.series({NAME: before}, {NAME: after})
    outcome = only(shop.outcomes(patches, {NAME: onto}))
    (conflict,) = outcome.conflicts
    assert conflict.fault is Fault.ELSEWHERE
    assert "`int one(void)`" in conflict.why
    assert "`int two(void)`" in conflict.why


# --- what is there already -------------------------------------------------------


def test_a_patch_that_the_source_has_is_there_already(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    (tried,), _ = shop.tried(patches, {NAME: "// more\n" + WORKED})
    assert tried.outcome.status == "already there"
    assert not tried.changes


def test_a_patch_of_which_one_hunk_is_there_applies_the_rest(shop: Workshop) -> None:
    both = edited(WORKED, "\tdelta_work(a);\n", "\tdelta_work(a + 2);\n")
    patches = shop.series({NAME: FUNCTIONS}, {NAME: both})
    (tried,), tree = shop.tried(patches, {NAME: WORKED})
    assert tried.outcome.status == "partly there"
    assert "hunk 1 of 2: there already" in tried.outcome.remarks[0]
    file = tree.get(NAME)
    assert file is not None
    assert file.content.decode() == both


def test_new_files_and_deletions_can_be_there_already(shop: Workshop) -> None:
    patches = shop.series(
        {NAME: FUNCTIONS, "net/old.c": "old\n"}, {"net/new.c": "new\n"}, {"net/old.c": None}
    )
    onto = {NAME: FUNCTIONS, "net/new.c": "new\n"}
    assert words(shop.outcomes(patches, onto)) == ["already there", "already there"]


def test_what_the_series_did_itself_does_not_count_as_there_already(shop: Workshop) -> None:
    body = "{\n\tlock();\n\twork();\n\tunlock();\n\treturn 0;\n}\n\n"
    before = f"int one(void)\n{body}int two(void)\n{body}"
    first = f"int one(void)\n{body.replace('work', 'rest')}int two(void)\n{body}"
    second = before.replace("work", "rest")
    onto = before.replace("int two(void)\n" + body, "int two(void)\n{\n\treturn 1;\n}\n")
    patches = shop.series({NAME: before}, {NAME: first}, {NAME: second})
    assert words(shop.outcomes(patches, {NAME: onto})) == ["clean", "conflict"]


# --- conflicts ---------------------------------------------------------------------


def test_a_conflict_says_where_what_was_expected_and_what_is_there(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    other = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a, 0);\n")
    outcome = only(shop.outcomes(patches, {NAME: "// more\n" + other}))
    (conflict,) = outcome.conflicts
    assert conflict.place == "net/core/dev.c:18, hunk 1 of 1"
    assert conflict.expected == ("\tbeta_work(a);",)
    assert conflict.found == ("\tbeta_work(a, 0);",)
    assert conflict.why == "the lines that it changes are other ones"


def test_a_conflict_in_white_space_is_called_one(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    outcome = only(shop.outcomes(patches, {NAME: FUNCTIONS.replace("\t", "    ")}))
    (conflict,) = outcome.conflicts
    assert conflict.why == "it differs in white space only"


def test_a_failed_patch_leaves_nothing_behind_and_the_next_one_goes_on(shop: Workshop) -> None:
    bad = {NAME: WORKED, "net/other.c": "int new;\n"}
    good = {"net/third.c": "int third;\n"}
    patches = shop.series({NAME: FUNCTIONS}, bad, good)
    tried, tree = shop.tried(patches, {NAME: "int nothing;\n"})
    assert [each.outcome.status for each in tried] == ["conflict", "clean"]
    assert tree.get("net/other.c") is None
    assert tree.get("net/third.c") is not None


@pytest.mark.parametrize(
    ("change", "onto", "fault"),
    [
        ({NAME: WORKED}, {"net/x.c": "x\n"}, Fault.NO_FILE),
        ({"net/new.c": "new\n"}, {NAME: FUNCTIONS, "net/new.c": "another\n"}, Fault.EXISTS),
        ({NAME: None}, {NAME: WORKED}, Fault.DIFFERS),
        ({NAME: "int x;\n" + "\n" * 40}, {NAME: "nothing alike\n"}, Fault.TEXT),
    ],
)
def test_conflicts_of_whole_files_are_named(
    shop: Workshop,
    change: dict[str, str | None],
    onto: dict[str, str],
    fault: Fault,
) -> None:
    patches = shop.series({NAME: FUNCTIONS}, change)
    outcome = only(shop.outcomes(patches, onto))
    assert [conflict.fault for conflict in outcome.conflicts] == [fault]


def test_a_torn_diff_is_a_conflict_of_its_patch_alone(shop: Workshop) -> None:
    (patch,) = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    torn = small_patch(1, "torn", patch.diff[:-40])
    outcomes = shop.outcomes([torn, patch], {NAME: FUNCTIONS})
    assert words(outcomes) == ["conflict", "clean"]
    assert "cut short" in next(outcomes[0].conflicts).why


# --- dependence ----------------------------------------------------------------------


def test_a_patch_on_lines_that_a_failed_one_adds_depends_on_it(shop: Workshop) -> None:
    first = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_more(a);\n\tbeta_work(a + 1);\n")
    second = edited(first, "\tbeta_more(a);\n", "\tbeta_more(a, 2);\n")
    third = edited(second, "\tbeta_more(a, 2);\n", "\tbeta_more(a, 3);\n")
    free = edited(third, "\tdelta_work(a);\n", "\tdelta_work(a + 1);\n")
    patches = shop.series(
        {NAME: FUNCTIONS}, {NAME: first}, {NAME: second}, {NAME: third}, {NAME: free}
    )
    onto = {NAME: edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a, 0);\n")}
    outcomes = shop.outcomes(patches, onto)
    assert words(outcomes) == ["conflict", "depends", "depends", "offset"]
    assert [outcome.roots for outcome in outcomes] == [(), (1,), (1,), ()]
    assert outcomes[1].needs == (1,)


def test_a_patch_that_undoes_a_failed_one_is_not_taken_for_there_already(shop: Workshop) -> None:
    first = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_more(a);\n\tbeta_work(a);\n")
    both = {NAME: first, "net/gone.c": "int x;\nint y;\n"}
    patches = shop.series({NAME: FUNCTIONS, "net/gone.c": "int x;\n"}, both, {NAME: FUNCTIONS})
    outcomes = shop.outcomes(patches, {NAME: FUNCTIONS})
    assert words(outcomes) == ["conflict", "depends"]
    assert "undoes a change that was left out" in next(outcomes[1].conflicts).why


def test_a_patch_to_a_file_that_a_failed_one_makes_depends_on_it(shop: Workshop) -> None:
    patches = shop.series(
        {NAME: FUNCTIONS},
        {NAME: WORKED, "net/new.c": "int one;\n"},
        {"net/new.c": "int one;\nint two;\n"},
        {"net/new.c": None},
    )
    outcomes = shop.outcomes(patches, {NAME: "int nothing;\n"})
    assert words(outcomes) == ["conflict", "depends", "depends"]
    assert outcomes[2].roots == (1,)


def test_a_patch_with_a_conflict_of_its_own_is_a_conflict_whatever_else_it_needs(
    shop: Workshop,
) -> None:
    first = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a + 1);\n")
    second = edited(first, "\tbeta_work(a + 1);\n", "\tbeta_work(a + 2);\n")
    second = edited(second, "\tdelta_work(a);\n", "\tdelta_work(a + 2);\n")
    onto = FUNCTIONS.replace("beta_work(a)", "beta_work(a, 0)").replace("delta_work", "d_work")
    patches = shop.series({NAME: FUNCTIONS}, {NAME: first}, {NAME: second})
    outcomes = shop.outcomes(patches, {NAME: onto})
    assert words(outcomes) == ["conflict", "conflict"]
    assert [conflict.needs for conflict in outcomes[1].conflicts] == [(1,), ()]


def test_lines_that_a_failed_patch_should_have_removed_make_a_later_one_depend(
    shop: Workshop,
) -> None:
    first = edited(FUNCTIONS, "\tbeta_prepare(a);\n", "")
    second = edited(first, "\tbeta_work(a);\n", "\tbeta_work(a + 1);\n")
    onto = FUNCTIONS.replace("\tbeta_prepare(a);\n", "\tx();\n\ty();\n\tz();\n\tbeta_prepare(b);\n")
    onto = onto.replace("\tbeta_finish(a);\n", "\tbeta_finish(b);\n").replace("beta_result", "r")
    patches = shop.series({NAME: FUNCTIONS}, {NAME: first}, {NAME: second})
    outcomes = shop.outcomes(patches, {NAME: onto})
    assert words(outcomes) == ["conflict", "depends"]


# --- names, modes, binary content -----------------------------------------------------


def test_renames_modes_and_binary_files_apply(shop: Workshop) -> None:
    blob, other = bytes(range(256)) * 4, bytes(reversed(range(256))) * 4
    base: Files = {NAME: FUNCTIONS, "logo.bin": blob, "tool.sh": "#!/bin/sh\n"}
    patches = shop.series(
        base,
        {NAME: None, "net/moved.c": WORKED},
        {"logo.bin": other},
        {"tool.sh*": "#!/bin/sh\n"},
        {"logo.bin": other + b"more"},
        {"new.bin": blob},
        {"logo.bin": None},
        {},
    )
    tried, tree = shop.tried(patches, base)
    assert [each.outcome.status for each in tried] == ["clean"] * 6 + ["empty"]
    assert tree.get(NAME) is None
    for path, content in (("net/moved.c", WORKED.encode()), ("new.bin", blob)):
        file = tree.get(path)
        assert file is not None
        assert file.content == content
    tool = tree.get("tool.sh")
    assert tool is not None
    assert tool.mode == 0o100755


def test_modes_binary_files_and_renames_can_be_there_already(shop: Workshop) -> None:
    base: Files = {NAME: FUNCTIONS, "logo.bin": b"\0one", "tool.sh": "#!/bin/sh\n"}
    patches = shop.series(
        base,
        {"logo.bin": b"\0two"},
        {"tool.sh*": "#!/bin/sh\n"},
        {NAME: None, "net/moved.c": WORKED},
    )
    onto: Files = {"net/moved.c": WORKED, "logo.bin": b"\0two", "tool.sh*": "#!/bin/sh\n"}
    assert words(shop.outcomes(patches, onto)) == ["already there"] * 3


def test_a_binary_file_that_is_another_one_is_a_conflict(shop: Workshop) -> None:
    patches = shop.series({"logo.bin": b"\0one"}, {"logo.bin": b"\0two"})
    outcome = only(shop.outcomes(patches, {"logo.bin": b"\0three"}))
    assert next(outcome.conflicts).fault is Fault.DIFFERS


def test_binary_content_that_the_diff_lacks_is_asked_for(shop: Workshop) -> None:
    shop.series({"logo.bin": b"\0one"}, {"logo.bin": b"\0two"})
    diff = git(shop.repo, "diff", "HEAD~", "HEAD")
    assert b"Binary files" in diff
    outcome = only(shop.outcomes([small_patch(1, "", diff)], {"logo.bin": b"\0one"}))
    assert next(outcome.conflicts).fault is Fault.NO_CONTENT


def test_files_in_a_folder_that_has_another_path_are_found_and_new_ones_follow(
    shop: Workshop,
) -> None:
    base = {"fs/smb/client/connect.c": FUNCTIONS, "fs/smb/client/Makefile": "obj-y += connect.o\n"}
    patches = shop.series(
        base,
        {"fs/smb/client/Makefile": "obj-y += connect.o new.o\n", "fs/smb/client/new.c": "int x;\n"},
        {"fs/smb/client/connect.c": WORKED},
    )
    onto = {"fs/cifs/connect.c": FUNCTIONS, "fs/cifs/Makefile": "obj-y += connect.o\n"}
    tried, tree = shop.tried(patches, onto)
    assert [each.outcome.status for each in tried] == ["moved", "moved"]
    assert tree.get("fs/cifs/new.c") is not None
    assert any("fs/cifs/connect.c in this source" in note for note in tried[1].outcome.remarks)


def test_a_file_of_the_same_name_with_another_content_is_no_new_place(shop: Workshop) -> None:
    patches = shop.series({"net/a/core.c": FUNCTIONS}, {"net/a/core.c": WORKED})
    outcome = only(shop.outcomes(patches, {"net/b/core.c": "int main;\n"}))
    (conflict,) = outcome.conflicts
    assert conflict.fault is Fault.NO_FILE
    assert conflict.why.endswith("of its name: net/b/core.c")


def test_with_the_file_that_it_was_made_for_a_patch_is_merged(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    near = edited(FUNCTIONS, "\tbeta_prepare(a);\n", "\tint more;\n\n\tbeta_prepare(a);\n")
    assert words(shop.outcomes(patches, {NAME: near})) == ["fuzz"]
    shop.tree_of({NAME: FUNCTIONS})  # now the repository knows what the patch was made for
    (tried,), tree = shop.tried(patches, {NAME: near})
    assert tried.outcome.status == "merged"
    assert tried.outcome.remarks == (f"{NAME}, hunk 1 of 1: by a three-way merge",)
    file = tree.get(NAME)
    assert file is not None
    assert file.content.decode() == near.replace("beta_work(a)", "beta_work(a + 1)")


def test_a_merge_with_a_conflict_is_none(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED})
    shop.tree_of({NAME: FUNCTIONS})
    other = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a, 0);\n")
    assert words(shop.outcomes(patches, {NAME: other})) == ["conflict"]


# --- a source that has half of the series ------------------------------------------------


def steps() -> list[dict[str, str | bytes | None]]:
    """A series of which later patches change again what earlier ones did."""
    one = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a + 1);\n\tbeta_more(a);\n")
    two = edited(one, "\tbeta_more(a);\n", "\tbeta_more(a, 2);\n")
    three = edited(two, "\tdelta_work(a);\n", "\tdelta_work(a + 3);\n")
    four = edited(three, "\tbeta_more(a, 2);\n", "")
    five = edited(four, "int delta(int a)\n", "int delta(long a)\n")
    return [
        {NAME: one, "net/new.c": "int one;\n"},
        {NAME: two, "net/new.c": "int one;\nint two;\n"},
        {NAME: three},
        {NAME: four, "net/new.c": "int one;\nint two;\nint four;\n"},
        {NAME: five},
        {NAME: None, "net/device.c": five},
        {"net/device.c": five + "int last;\n"},
    ]


@pytest.mark.parametrize("taken", range(8))
def test_a_source_that_took_the_first_patches_gets_the_others(shop: Workshop, taken: int) -> None:
    changes = steps()
    patches = shop.series({NAME: FUNCTIONS}, *changes)
    states: list[dict[str, str | bytes]] = [{NAME: FUNCTIONS}]
    for change in changes:
        after = {**states[-1], **change}
        states.append({path: text for path, text in after.items() if text is not None})
    tried, tree = shop.tried(patches, states[taken])
    assert [each.outcome.status for each in tried[:taken]] == ["already there"] * taken
    assert {each.outcome.status for each in tried[taken:]} <= {"clean"}
    for path in {path for state in states for path in state}:
        file = tree.get(path)
        wanted = states[-1].get(path)
        assert (file and file.content.decode()) == wanted


def test_what_the_series_undoes_itself_is_done_and_undone_again(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {NAME: WORKED}, {NAME: FUNCTIONS})
    tried, tree = shop.tried(patches, {NAME: FUNCTIONS})
    assert [each.outcome.status for each in tried] == ["clean", "clean"]
    file = tree.get(NAME)
    assert file is not None
    assert file.content.decode() == FUNCTIONS


def test_a_file_that_a_later_patch_deletes_may_be_gone_already(shop: Workshop) -> None:
    base: Files = {NAME: FUNCTIONS, "net/old.c": "int one;\n"}
    patches = shop.series(base, {"net/old.c": "int two;\n"}, {"net/old.c": None})
    outcomes = shop.outcomes(patches, {NAME: FUNCTIONS})
    assert words(outcomes) == ["already there", "already there"]
    assert outcomes[0].files[0].hunks[0].later == 2


def test_a_change_that_is_there_in_a_later_form_says_of_which_patch(shop: Workshop) -> None:
    one = edited(FUNCTIONS, "\tbeta_work(a);\n", "\tbeta_work(a);\n\tbeta_more(a);\n")
    two = edited(one, "\tbeta_more(a);\n", "\tbeta_more(a, 2);\n")
    first, second = shop.series({NAME: FUNCTIONS}, {NAME: one, "net/x.c": "x\n"}, {NAME: two})
    outcomes = shop.outcomes([first, second], {NAME: two})
    assert words(outcomes) == ["partly there", "already there"]
    assert outcomes[0].files[0].hunks[0].later == 2
    assert "as patch 2 leaves it" in outcomes[0].remarks[0]


# --- several files at once ---------------------------------------------------------------


def test_two_files_may_change_names(shop: Workshop) -> None:
    other = FUNCTIONS.replace("a", "z")
    base = {"net/one.c": FUNCTIONS, "net/two.c": other}
    shop.commit(base, "base")
    diff = (
        b"diff --git a/net/one.c b/net/two.c\nsimilarity index 100%\n"
        b"rename from net/one.c\nrename to net/two.c\n"
        b"diff --git a/net/two.c b/net/one.c\nsimilarity index 100%\n"
        b"rename from net/two.c\nrename to net/one.c\n"
    )
    (tried,), tree = shop.tried([small_patch(1, "swap", diff)], base)
    assert tried.outcome.status == "clean"
    one, two = tree.get("net/one.c"), tree.get("net/two.c")
    assert one is not None
    assert two is not None
    assert (one.content.decode(), two.content.decode()) == (other, FUNCTIONS)


def test_a_file_never_takes_the_place_of_a_folder_or_the_other_way_round(shop: Workshop) -> None:
    patches = shop.series({NAME: FUNCTIONS}, {"net/sub": "a file\n"}, {"lib/deep/x.c": "x\n"})
    onto = {NAME: FUNCTIONS, "net/sub/y.c": "y\n", "lib/deep": "a file\n"}
    outcomes = shop.outcomes(patches, onto)
    assert [next(each.conflicts).fault for each in outcomes] == [Fault.EXISTS] * 2
    assert "a folder in this source, with net/sub/y.c" in next(outcomes[0].conflicts).why
    assert "lib/deep is a file" in next(outcomes[1].conflicts).why


def test_a_folder_whose_files_all_go_makes_room_for_a_file(shop: Workshop) -> None:
    base: Files = {NAME: FUNCTIONS, "net/sub/y.c": "y\n"}
    diff = (
        b"diff --git a/net/sub b/net/sub\nnew file mode 100644\n--- /dev/null\n+++ b/net/sub\n"
        b"@@ -0,0 +1 @@\n+file\n"
        b"diff --git a/net/sub/y.c b/net/sub/y.c\ndeleted file mode 100644\n"
        b"--- a/net/sub/y.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-y\n"
    )
    (tried,), tree = shop.tried([small_patch(1, "room", diff)], base)
    assert tried.outcome.status == "clean"
    assert tree.get("net/sub/y.c") is None


@pytest.mark.parametrize("path", ["../x.c", "net/../../x.c", ".git/config", "net//x.c"])
def test_a_patch_that_leads_out_of_the_tree_is_refused(shop: Workshop, path: str) -> None:
    diff = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n".encode()
    outcome = only(shop.outcomes([small_patch(1, "out", diff)], {NAME: FUNCTIONS}))
    assert "no path in a source tree" in next(outcome.conflicts).why


def test_links_and_submodules_are_no_files_to_edit(shop: Workshop) -> None:
    diff = (
        b"diff --git a/net/x b/net/x\nindex 1234567..1234568 120000\n--- a/net/x\n+++ b/net/x\n"
        b"@@ -1 +1 @@\n-there\n\\ No newline at end of file\n+here\n\\ No newline at end of file\n"
    )
    sub = diff.replace(b"120000", b"160000")
    outcomes = shop.outcomes(
        [small_patch(1, "", diff), small_patch(2, "", sub)], {"net/x": "there"}
    )
    assert [next(each.conflicts).fault for each in outcomes] == [Fault.KIND] * 2
