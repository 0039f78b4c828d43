"""A range of a git tree as a series, and the tree that it stands on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_tree import make_tree
from gittree import git, make_checkout

from linklab.commands.kernels import KernelOptions
from linklab.errors import UsageError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Patch, range_series, read_series
from linklab.kernel.source import Source, open_source


def patched_trees(source: Source, patches: Sequence[Patch]) -> list[str]:
    """Return the tree after each of the patches."""
    return [patched_tree(source, patches[: number + 1]) for number in range(len(patches))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = make_checkout(make_tree(tmp_path / "linux"))
    git(folder, "checkout", "--quiet", "-b", "topic")
    commit(folder, "net/a.c", "// a\n1\ntwo\nthree\n", "net: one becomes 1\n\nBecause.")
    commit(folder, "net/new.c", "new\n", "net: new\n")
    return folder


def commit(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)


def opened(tree: Path, revision: str) -> Source:
    return open_source(tree, Cache(tree.parent / "cache"), ignore, revision=revision)


def tree_of(folder: Path, word: str) -> str:
    return git(folder, "rev-parse", f"{word}^{{tree}}")


def test_commits_become_patches_with_all_that_git_knows_of_them(tree: Path) -> None:
    found = range_series(tree, "topic~2..topic")
    first, second = found.patches
    assert (first.place, first.subject, first.description) == (
        "1/2", "net: one becomes 1", "Because.",
    )  # fmt: skip
    assert first.author == "a <a@b>"
    assert first.commit == git(tree, "rev-parse", "topic~1")
    assert first.date == git(tree, "log", "-1", "--format=%ad", "--date=raw", "topic~1")
    assert first.title == f'patch 1/2 "net: one becomes 1" ({first.commit[:12]})'
    assert second.diff.startswith(b"diff --git a/net/new.c")
    assert found.base == git(tree, "rev-parse", "topic~2")
    assert found.notes == ()


def test_the_states_in_between_are_those_of_the_commits(tree: Path) -> None:
    (tree / "net/a.c").write_text("uncommitted\n")
    found = range_series(tree, "topic~2..")
    source = opened(tree, found.base)
    assert source.tree == tree_of(tree, "topic~2")
    assert patched_trees(source, found.patches) == [
        tree_of(tree, word) for word in ("topic~1", "topic")
    ]


def test_a_base_that_went_on_is_taken_from_where_the_topic_left_it(tree: Path) -> None:
    fork = git(tree, "rev-parse", "topic~2")
    git(tree, "checkout", "--quiet", "-b", "main", fork)
    commit(tree, "net/b.c", "main\n", "main goes on")
    found = range_series(tree, "main..topic")
    assert (found.base, len(found.patches)) == (fork, 2)


def test_a_merge_counts_as_one_patch_and_is_named(tree: Path) -> None:
    git(tree, "checkout", "--quiet", "-b", "side", "topic~2")
    commit(tree, "net/b.c", "side 1\n", "side 1")
    commit(tree, "net/b.c", "side 2\n", "side 2")
    git(tree, "checkout", "--quiet", "topic")
    git(tree, "merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    found = range_series(tree, "topic~3..topic")
    assert [patch.subject for patch in found.patches][-1] == "Merge side"
    assert b"+side 2" in found.patches[-1].diff
    assert "Merge side" in found.notes[0]
    assert patched_trees(opened(tree, found.base), found.patches)[-1] == tree_of(tree, "topic")


def test_a_persons_configuration_does_not_change_the_diffs(tree: Path) -> None:
    plain = range_series(tree, "topic~2..topic").patches
    for name, value in (
        ("diff.noprefix", "true"), ("diff.context", "0"), ("diff.external", "false"),
        ("color.ui", "always"), ("log.showSignature", "true"), ("format.notes", "true"),
    ):  # fmt: skip
        git(tree, "config", name, value)
    assert range_series(tree, "topic~2..topic").patches == plain


def test_binary_and_empty_commits_are_carried(tree: Path) -> None:
    (tree / "blob").write_bytes(b"\0\1\xff" * 50)
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "blob")
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "nothing")
    found = range_series(tree, "topic~2..topic")
    states = patched_trees(opened(tree, found.base), found.patches)
    assert states == [tree_of(tree, "topic~1"), tree_of(tree, "topic")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("topic", "expected BASE..TOPIC"),
        ("a...b", "expected BASE..TOPIC"),
        ("..topic", "expected BASE..TOPIC"),
        ("absent..topic", "no commit 'absent'"),
        ("topic..topic~1", "right way round"),
        ("--all..topic", "no commit '--all'"),
    ],
)
def test_a_range_that_names_nothing_is_refused(tree: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        range_series(tree, text)


def test_a_folder_without_git_and_one_without_the_commit_are_refused(
    tree: Path, tmp_path: Path
) -> None:
    plain = make_tree(tmp_path / "plain")
    with pytest.raises(UsageError, match="is no git tree"):
        range_series(plain, "a..b")
    with pytest.raises(UsageError, match="has no commit abc: it is not the top of a git tree"):
        opened(plain, "abc")
    with pytest.raises(UsageError, match="has no commit abc"):
        opened(tree, "abc")
    with pytest.raises(UsageError, match="needs a git tree: name one with --source"):
        KernelOptions("sysfs", range="a..b").check()


@pytest.mark.parametrize("word", ["HEAD", "HEAD^", "topic", "v1", "topic@{0}"])
def test_a_commit_may_be_called_whatever_its_own_repository_calls_it(tree: Path, word: str) -> None:
    git(tree, "tag", "-a", "v1", "-m", "v1", "HEAD~2")
    assert opened(tree, word).tree == tree_of(tree, word)


def test_an_orphan_has_no_base(tree: Path) -> None:
    git(tree, "checkout", "--quiet", "--orphan", "other")
    git(tree, "commit", "--quiet", "-m", "first")
    with pytest.raises(UsageError, match="has no parent"):
        range_series(tree, "topic..other")


def test_options_put_a_range_before_patches(tree: Path, tmp_path: Path) -> None:
    patch = tmp_path / "more.diff"
    patch.write_text("--- a/net/b.c\n+++ b/net/b.c\n@@ -1 +1 @@\n-// b\n+more\n")
    options = KernelOptions("sysfs", str(tree), (str(patch),), range="topic~1..topic")
    built = options.build_options()
    assert [each.place for each in built.patches] == ["1/2", "2/2"]
    assert built.patches[1].origin == patch
    assert built.revision == git(tree, "rev-parse", "topic~1")
    assert not options.is_stock
    assert list(options.content()["patches"]) == [str(patch)]


def test_a_renamed_file_is_one_file_where_that_is_asked_for(tree: Path) -> None:
    git(tree, "mv", "net/a.c", "net/z.c")
    git(tree, "commit", "--quiet", "-m", "net: z")
    (plain,) = range_series(tree, "HEAD~..").patches
    (renamed,) = range_series(tree, "HEAD~..", renames=True).patches
    assert b"deleted file mode" in plain.diff
    assert b"rename from net/a.c\nrename to net/z.c\n" in renamed.diff


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--attach"],
        ["--inline"],
        ["--cover-letter", "-v3"],
        ["--stdout"],
        ["--thread=deep", "--base=topic~4", "--encode-email-headers"],
        ["--no-numbered"],
        ["--subject-prefix=RFC PATCH net-next"],
    ],
    ids=" ".join,
)
def test_what_git_format_patch_writes_gives_the_states_of_the_commits(
    tree: Path, tmp_path: Path, words: list[str]
) -> None:
    commit(tree, "net/b.c", "// grün\nFrom here 12:00:00 2020\n", "net: grüner\n\n-- \nno end")
    (tree / "net/blob").write_bytes(b"\0\1\xff" * 50)
    (tree / "net/a.c").write_bytes(b"// a\r\n\xf6\x0c\n--- x\n+++ y\n")
    (tree / "net/new.c").rename(tree / "net/moved.c")
    commit(tree, "net/crlf.c", "one\r\n", "[net] an odd one: ünd binary")
    folder = tmp_path / "series"
    argv = ["format-patch", *words, "topic~4..topic"]
    if "--stdout" in words:
        folder = tmp_path / "series.mbox"
        with folder.open("wb") as file:
            subprocess.run(["git", *argv], cwd=tree, check=True, stdout=file)
    else:
        git(tree, *argv, "-o", str(folder))
    found = read_series([folder])
    assert found.patches[2].subject == "net: grüner"
    source = opened(tree, git(tree, "rev-parse", "topic~4"))
    expected = [tree_of(tree, f"topic~{n}") for n in (3, 2, 1, 0)]
    assert patched_trees(source, found.patches) == expected
