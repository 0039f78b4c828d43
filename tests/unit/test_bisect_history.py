"""Where revisions come from, and that nothing of a person's repository is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tree import PATCH, make_tree
from gittree import git
from revisions import history_of, linear_tree

from linklab.bisect.history import GitHistory, SeriesHistory
from linklab.errors import LabError, UsageError
from linklab.kernel.kernel import BuildOptions
from linklab.kernel.series import numbered, read_series


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    linear_tree(tmp_path / "linux", "GGGBB")
    return tmp_path / "linux"


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in (folder / ".git").rglob("*") if p.is_file()}


def test_a_commit_is_known_by_whatever_names_it(tree: Path) -> None:
    history = history_of(tree)
    head = git(tree, "rev-parse", "HEAD")
    git(tree, "tag", "-a", "v1", "-m", "v1")
    assert {history.resolve("bad", word) for word in ("main", "v1", head[:10], "HEAD~0")} == {head}
    about = history.about(head)
    assert (about.subject, about.author, about.short) == ("net: change 4", "a <a@b>", head[:12])
    assert about.title == f'{head[:12]} "net: change 4"'
    assert history.origin == str(tree)


@pytest.mark.parametrize("word", ["nothing", "", "--all", "HEAD:net", "-n"])
def test_what_names_no_commit_is_refused(tree: Path, word: str) -> None:
    with pytest.raises(UsageError, match="there is no such commit"):
        history_of(tree).resolve("good", word)


def test_suspects_are_what_leads_to_bad_and_not_to_good_the_middle_first(tree: Path) -> None:
    commits = git(tree, "rev-list", "--reverse", "HEAD").split()
    found = history_of(tree).suspects(commits[4], [commits[0]])
    assert {each.revision for each in found} == set(commits[1:])
    assert found[0].revision == commits[2]
    assert found[-1].distance == 0


def test_reading_leaves_no_trace_in_the_repository(tree: Path) -> None:
    before = state_of(tree)
    history = history_of(tree)
    head = history.resolve("bad", "main")
    history.suspects(head, [history.resolve("good", "main~3")])
    history.forks(head, history.resolve("good", "main~3"))
    history.about(head)
    assert state_of(tree) == before


def test_each_commit_is_built_from_gits_objects_with_the_same_options(tree: Path) -> None:
    history = GitHistory(tree, BuildOptions(configs=(Path("a.config"),)))
    build = history.build_options("abc")
    assert (build.source, build.revision, build.configs) == (tree, "abc", (Path("a.config"),))


def test_what_good_and_bad_have_in_common_is_to_be_tested_where_neither_leads_to_the_other(
    tree: Path,
) -> None:
    git(tree, "checkout", "--quiet", "-b", "side", "main~2")
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "aside")
    history = history_of(tree)
    names = {word: history.resolve("good", word) for word in ("main", "side", "main~2", "main~4")}
    assert history.forks(names["main"], names["side"]) == [names["main~2"]]
    assert history.forks(names["main"], names["main~4"]) == []
    with pytest.raises(UsageError, match="an ancestor of --good"):
        history.forks(names["main~4"], names["main"])
    with pytest.raises(UsageError, match="the same commit"):
        history.forks(names["main"], names["main"])
    git(tree, "checkout", "--quiet", "--orphan", "other")
    git(tree, "commit", "--quiet", "-m", "other")
    with pytest.raises(UsageError, match="no commit in common"):
        history.forks(names["main"], history.resolve("good", "other"))


def test_what_is_no_git_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no git tree"):
        history_of(make_tree(tmp_path / "plain"))
    with pytest.raises(UsageError, match="is no git tree"):
        history_of(tmp_path / "nowhere")


def test_a_repository_that_lost_its_objects_is_the_hosts_fault(tree: Path) -> None:
    history = history_of(tree)
    head = history.resolve("bad", "main")
    parent, first = history.resolve("good", "main~1"), history.resolve("good", "main~4")
    (tree / ".git" / "objects" / parent[:2] / parent[2:]).unlink()
    with pytest.raises(LabError, match="git cannot read"):
        history.suspects(head, [first])


# --- a series ----------------------------------------------------------------


@pytest.fixture
def series(tmp_path: Path) -> SeriesHistory:
    (tmp_path / "one.patch").write_text(PATCH)
    (patch,) = read_series([tmp_path / "one.patch"]).patches
    return SeriesHistory(BuildOptions(patches=numbered([patch] * 5)))


def test_a_state_of_a_series_is_its_first_patches(series: SeriesHistory) -> None:
    assert len(series.build_options("3").patches) == 3
    assert series.build_options("0").patches == ()
    assert series.about("3").title == '3/5 "net: one becomes 1"'
    assert series.about("0").title == '0 "without the series"'
    assert series.origin == "a series of 5 patches"


def test_suspects_of_a_series_are_those_in_between(series: SeriesHistory) -> None:
    found = series.suspects("5", ["0", "1"])
    assert [each.revision for each in found] == ["3", "2", "4", "5"]


@pytest.mark.parametrize("word", ["6", "-1", "two", "", "\u0662"])
def test_a_number_of_patches_that_there_is_not_is_refused(series: SeriesHistory, word: str) -> None:
    with pytest.raises(UsageError, match="from 0 to 5"):
        series.resolve("bad", word)


def test_good_comes_before_bad(series: SeriesHistory) -> None:
    assert series.forks("5", series.resolve("good", "00")) == []
    with pytest.raises(UsageError, match="must come before"):
        series.forks("2", "2")
