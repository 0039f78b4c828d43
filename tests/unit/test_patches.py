"""Patches applied to a tree's name, and what is said of one that does not apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tree import PATCH, STALE_PATCH, make_tree

from linklab.errors import BuildSkipped, UsageError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Patch, read_series
from linklab.kernel.source import Source, open_source


def patched_trees(source: Source, patches: Sequence[Patch]) -> list[str]:
    """Return the tree after each of the patches."""
    return [patched_tree(source, patches[: number + 1]) for number in range(len(patches))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "linux")


def opened(tree: Path) -> Source:
    return open_source(tree, Cache(tree.parent / "cache"), ignore)


def patches(folder: Path, *texts: str) -> tuple[Patch, ...]:
    paths = [folder / f"{number:04}.patch" for number in range(1, len(texts) + 1)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return read_series(paths).patches


def content(source: Source, tree: str, name: str = "net/a.c") -> str:
    return source.store.git(["cat-file", "blob", f"{tree}:{name}"]).stdout.decode()


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


SECOND = PATCH.replace("-one\n+1", "-1\n+uno")


def test_a_patched_tree_holds_the_change_and_the_folder_does_not(tree: Path) -> None:
    before = state_of(tree)
    source = opened(tree)
    one = patches(tree.parent, PATCH)
    name = patched_tree(source, one)
    assert content(source, name) == "// a\n1\ntwo\nthree\n"
    assert state_of(tree) == before
    assert patched_tree(source, one) == name != source.tree
    assert patched_tree(source, []) == source.tree


def test_patches_are_applied_in_order(tree: Path) -> None:
    source = opened(tree)
    both = patches(tree.parent, PATCH, SECOND)
    assert content(source, patched_tree(source, both)) == "// a\nuno\ntwo\nthree\n"
    with pytest.raises(BuildSkipped, match=r"patch 2/2 .*0002\.patch\) does not apply"):
        patched_tree(source, both[::-1])


def test_each_state_of_a_series_has_a_tree_and_the_last_is_that_of_all(tree: Path) -> None:
    source = opened(tree)
    both = patches(tree.parent, PATCH, SECOND)
    states = [content(source, tree) for tree in patched_trees(source, both)]
    assert states == ["// a\n1\ntwo\nthree\n", "// a\nuno\ntwo\nthree\n"]
    with pytest.raises(BuildSkipped, match=r"patch 2/2 .* does not apply to .* after 1/2, 2/2: "):
        patched_trees(source, [*both, both[1]])


def test_a_commit_that_changes_nothing_leaves_the_tree(tree: Path) -> None:
    source = opened(tree)
    empty = replace(patches(tree.parent, PATCH)[0], diff=b"")
    assert patched_trees(source, [empty]) == [source.tree]


def test_a_patch_that_does_not_apply_is_named_with_what_stands_there_instead(tree: Path) -> None:
    source = opened(tree)
    with pytest.raises(BuildSkipped) as error:
        patched_tree(source, patches(tree.parent, STALE_PATCH))
    assert error.value.message.startswith("patch (0001.patch) does not apply to ")
    assert error.value.message.endswith("net/a.c, hunk 1 at line 1")
    assert "  - something else\n  + one\n    two\n" in error.value.evidence
    assert "patch does not apply" in error.value.evidence
    assert error.value.verdict.status == 125
    assert not list(source.store.folder.glob("scratch*"))


def test_of_many_patches_the_first_that_does_not_apply_is_found(tree: Path) -> None:
    (tree / "net/b.c").write_text("0\n")
    texts = [
        f"--- a/net/b.c\n+++ b/net/b.c\n@@ -1 +1 @@\n-{n if n != 7 else 'x'}\n+{n + 1}\n"
        for n in range(12)
    ]
    source = opened(tree)
    with pytest.raises(BuildSkipped, match=r"patch 8/12 .* after 7 others: net/b\.c, hunk 1"):
        patched_tree(source, patches(tree.parent, *texts))
    texts[7] = texts[7].replace("-x", "-7")
    assert content(source, patched_tree(source, patches(tree.parent, *texts)), "net/b.c") == "12\n"


def test_a_patch_that_is_already_in_the_source_is_said_to_be(tree: Path) -> None:
    source = opened(tree)
    twice = patches(tree.parent, PATCH, PATCH)
    with pytest.raises(BuildSkipped, match=r"patch 2/2 .* after 1/2: .*in there already"):
        patched_tree(source, twice)


def test_of_several_files_and_hunks_the_one_that_fails_is_named(tree: Path) -> None:
    lines = [f"line {n}" for n in range(1, 41)]
    (tree / "net/b.c").write_text("\n".join([*lines, ""]))
    first = PATCH.partition("diff --git")[2]
    text = (
        f"diff --git{first}"
        "diff --git a/net/b.c b/net/b.c\n--- a/net/b.c\n+++ b/net/b.c\n"
        "@@ -1,2 +1,2 @@\n-line 1\n+one\n line 2\n"
        "@@ -20,2 +20,2 @@\n-line XX\n+twenty\n line 21\n"
    )
    with pytest.raises(BuildSkipped, match=r"net/b\.c, hunk 2 at line 20"):
        patched_tree(opened(tree), patches(tree.parent, text))


def test_a_patch_for_a_file_that_is_not_there_names_it(tree: Path) -> None:
    absent = patches(tree.parent, STALE_PATCH.replace("net/a.c", "net/absent.c"))
    with pytest.raises(BuildSkipped, match=r"net/absent\.c: does not exist in index"):
        patched_tree(opened(tree), absent)


def test_a_patch_cut_short_is_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"0001\.patch\) is not a whole patch"):
        patched_tree(opened(tree), patches(tree.parent, PATCH[: PATCH.index(" two")]))


def test_the_place_most_like_a_hunk_is_shown_even_far_from_where_it_was(tree: Path) -> None:
    lines = [*(f"other {n}" for n in range(300)), "int f(void)", "{", "\treturn 1;", "}", ""]
    (tree / "net/b.c").write_text("\n".join(lines))
    text = (
        "--- a/net/b.c\n+++ b/net/b.c\n@@ -10,4 +10,4 @@ context\n"
        " int f(void)\n {\n-\treturn 0;\n+\treturn 2;\n }\n"
    )
    with pytest.raises(BuildSkipped) as error:
        patched_tree(opened(tree), patches(tree.parent, text))
    assert "net/b.c at line 301: " in error.value.evidence
    assert "    {\n  - \treturn 0;\n  + \treturn 1;\n    }" in error.value.evidence


def test_a_hunk_that_is_like_nothing_in_the_file_is_shown_alone(tree: Path) -> None:
    (tree / "net/b.c").write_text("quite other\n")
    text = "--- a/net/b.c\n+++ b/net/b.c\n@@ -1,2 +1 @@\n--- gone\n-never\n+new\n"
    with pytest.raises(BuildSkipped, match="hunk 1 at line 1") as error:
        patched_tree(opened(tree), patches(tree.parent, text))
    assert "nothing in net/b.c is like what the hunk expects" in error.value.evidence
    assert "  - -- gone\n  - never\n" in error.value.evidence
