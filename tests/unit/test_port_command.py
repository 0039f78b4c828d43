"""`invoke port` as a person types it: what it writes, prints and refuses, and with what status."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_tree import make_tarball, make_tree
from porting import git

from linklab.commands.history import ReportOptions, report
from linklab.commands.port import PortOptions, main
from linklab.errors import UsageError, Verdict


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "240")


LONG = "".join(f"line {n}\n" for n in range(1, 31))


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    """A person's git tree: `base`, and a branch `topic` with a series on it."""
    tree = make_tree(tmp_path / "linux")
    (tree / "net/long.c").write_text(LONG)
    git(tree, "init", "--quiet", "-b", "master")
    commit(tree, "base")
    git(tree, "tag", "base")
    git(tree, "checkout", "--quiet", "-b", "topic")
    return tree


def commit(tree: Path, message: str, **files: str | None) -> None:
    for name, content in files.items():
        path = tree / "net" / f"{name}.c"
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", message)


TRAILERS = 'Why it is so.\n\nFixes: 123456789abc ("net: x")\nSigned-off-by: Ané Person <a@b.org>'


@pytest.fixture
def series(linux: Path, tmp_path: Path) -> Path:
    """Four patches: one that applies, one that conflicts, one on top of that, one new file."""
    one = LONG.replace("line 20\n", "line twenty\n")
    commit(linux, f"net: twenty is a word\n\n{TRAILERS}", long=one)
    two = one.replace("line 5\n", "line five\nline five and a half\n")
    commit(linux, "net: five is a word", long=two)
    three = two.replace("line five and a half\n", "line 5.5\n")
    commit(linux, "net: a half is a number", long=three)
    commit(linux, "net: a new file", new="int x;\n")
    folder = tmp_path / "series"
    git(linux, "format-patch", "--quiet", "--cover-letter", "-o", folder, "base")
    return folder


@pytest.fixture
def onto(tmp_path: Path) -> Path:
    """Another kernel, in which line 5 reads otherwise and more lines come first."""
    tree = make_tree(tmp_path / "other")
    (tree / "net/long.c").write_text("first\n" + LONG.replace("line 5\n", "line V\n"))
    return tree


def ported(series: Path | str, onto: Path | str, **options: Any) -> Verdict:
    return main(PortOptions(series=str(series), onto=str(onto), **options), ["invoke", "port"])


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "port.json").read_text())
    return found


def test_a_series_is_tried_to_its_end_and_told_in_a_table(
    series: Path, onto: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ported(series, onto, output="out") is Verdict.FAIL
    out = capsys.readouterr().out
    assert "2 of 4 patches apply, 2 to do by hand" in out
    assert "onto Linux 6.6.6" in out
    assert "net/long.c:6, hunk 1 of 1: the lines that it changes are other ones" in out
    assert "- line 5" in out
    assert "+ line V" in out
    assert "git am out/*.patch" in out
    assert "verdict: fail" in out


def test_what_is_kept_for_programs(series: Path, onto: Path, tmp_path: Path) -> None:
    ported(series, onto, output="out")
    about = document(tmp_path / "out")
    assert about["schema"] == 1
    assert about["verdict"] == "fail"
    assert about["counts"]["conflict"] == about["counts"]["depends"] == 1
    assert [p["status"] for p in about["patches"]] == ["offset", "conflict", "depends", "clean"]
    assert about["patches"][1]["holds_up"] == [3]
    assert about["patches"][2]["roots"] == [2]
    assert about["patches"][0]["file"] == "0001-net-twenty-is-a-word.patch"
    assert about["patches"][1]["file"] is None
    (conflict,) = about["patches"][1]["files"][0]["conflicts"]
    assert (conflict["fault"], conflict["hunk"], conflict["line"]) == ("other text", 1, 6)
    assert all(len(digest) == 64 for digest in about["series"]["files"].values())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0001-net-twenty-is-a-word.patch", "0002-net-a-new-file.patch",
                     "port.json", "report.html", "table.txt"]  # fmt: skip
    assert all(p["date"].startswith("20") for p in about["patches"])
    page = tmp_path / "out/report.html"
    first = page.read_text()
    assert "4 patches onto Linux" in first and "2 by hand" in first
    page.unlink()
    report(ReportOptions((str(tmp_path / "out"),)))
    assert page.read_text() == first, "it is made from what is stored alone"
    assert "net: a half is a number" in (tmp_path / "out/table.txt").read_text()


def test_of_a_plain_folder_only_the_files_of_the_series_are_read(
    series: Path, onto: Path, tmp_path: Path
) -> None:
    """A kernel's 90,000 files take minutes where they are not in memory."""
    unread = onto / "net/unread.c"
    os.mkfifo(unread)  # whoever reads it waits for ever
    ported(series, onto, output="out")
    unread.unlink()
    git(onto, "init", "--quiet")
    git(onto, "add", "--force", "Makefile", "net/long.c")
    git(onto, "commit", "--quiet", "-m", "base")
    git(onto, "am", "--quiet", *sorted((tmp_path / "out").glob("*.patch")))
    tree = git(onto, "rev-parse", "HEAD^{tree}").decode().strip()
    assert tree == document(tmp_path / "out")["tree"]


def test_git_takes_the_new_series_as_it_is(series: Path, onto: Path, tmp_path: Path) -> None:
    git(onto, "init", "--quiet")
    git(onto, "add", "--all", "--force")
    git(onto, "commit", "--quiet", "-m", "base")
    ported(series, onto, output="out")
    git(onto, "am", "--quiet", *sorted((tmp_path / "out").glob("*.patch")))
    assert (
        git(onto, "rev-parse", "HEAD^{tree}").decode().strip() == document(tmp_path / "out")["tree"]
    )
    log = git(onto, "log", "-2", "--format=%an <%ae> %ad%n%B", "--date=raw").decode()
    assert "Ané Person <ane@example.org> 1700000000 +0200" in log
    assert f"net: twenty is a word\n\n{TRAILERS}\n" in log
    assert "Notes" not in log


def test_a_series_that_applies_passes(series: Path, linux: Path, tmp_path: Path) -> None:
    assert ported(series, linux, commit="base", output="out") is Verdict.PASS
    assert len(list((tmp_path / "out").glob("*.patch"))) == 4
    about = document(tmp_path / "out")
    assert about["tree"] == git(linux, "rev-parse", "topic^{tree}").decode().strip()


def test_commits_of_a_git_tree_are_a_series_and_lend_what_merges_need(
    linux: Path, onto: Path, tmp_path: Path
) -> None:
    text = LONG.replace("line 20\n", "line twenty\n")
    commit(linux, "net: twenty is a word", long=text)
    git(linux, "mv", "net/long.c", "net/longer.c")
    git(linux, "commit", "--quiet", "-m", "net: longer")
    near = "first\n" + LONG.replace("line 18\n", "line 18\nmore\n").replace("line 22", "line XXII")
    (onto / "net/long.c").write_text(near)
    assert ported(linux, onto, range="base..topic", output="out") is Verdict.PASS
    about = document(tmp_path / "out")
    assert [p["status"] for p in about["patches"]] == ["merged", "clean"]
    assert about["series"]["base"] == git(linux, "rev-parse", "base").decode().strip()
    assert "Notes (port):" in (tmp_path / "out/0001-net-twenty-is-a-word.patch").read_text()
    assert "rename to net/longer.c" in (tmp_path / "out/0002-net-longer.patch").read_text()


def test_a_tarball_will_do_and_a_bare_diff_gets_a_name(
    linux: Path, onto: Path, tmp_path: Path
) -> None:
    commit(linux, "net: b", b="// b\nint b;\n")
    diff = tmp_path / "fix.diff"
    diff.write_bytes(git(linux, "diff", "base", "topic"))
    tarball = make_tarball(onto, tmp_path / "other.tar.xz")
    assert ported(diff, tarball, output="out") is Verdict.PASS
    text = (tmp_path / "out/0001-fix.patch").read_text()
    assert "Subject: [PATCH] fix\n" in text
    assert "From: unknown <unknown@localhost>\n" in text


def test_the_document_is_all_that_json_prints(
    series: Path, onto: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ported(series, onto, output="out", as_json=True)
    assert json.loads(capsys.readouterr().out) == document(tmp_path / "out")


def test_all_shows_a_row_for_every_patch(
    series: Path, onto: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ported(series, onto, everything=True)
    out = capsys.readouterr().out
    assert "every patch" in out
    assert "waits for 2" in out
    assert "results/" in out


def test_files_that_the_source_lacks_are_told_by_folder(
    linux: Path, onto: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        git(linux, "checkout", "--quiet", "topic")
        commit(linux, "net: base of it", **{f"only{number}": "int x;\n"})
    git(linux, "tag", "later")
    for number in (1, 2, 3):
        commit(linux, f"net: change {number}", **{f"only{number}": "int y;\n"})
    assert ported(linux, onto, range="later..topic") is Verdict.FAIL
    out = capsys.readouterr().out
    assert "1-3" in out
    assert "net/: only1.c, only2.c, only3.c" in out


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (("nothing", "other"), {}, "there is no series nothing: expected a patch, an mbox"),
        (("--help", "other"), {}, "`invoke port --help` lists the options"),
        (("series", "nothing"), {}, "there is no source nothing"),
        (("series", "other"), {"commit": "v9"}, "there is no commit 'v9'"),
        (("series", "other"), {"output": "full"}, "already holds patches"),
        (("other", "other"), {}, "holds no patches"),
        (("linux", "other"), {"range": "base..nowhere"}, "there is no commit 'nowhere'"),
        (("series", "other.tar.xz"), {"commit": "v9"}, "is no git tree"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_started(
    series: Path,
    onto: Path,
    tmp_path: Path,
    words: tuple[str, str],
    options: dict[str, str],
    said: str,
) -> None:
    make_tarball(onto, tmp_path / "other.tar.xz")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/0001-x.patch").touch()
    with pytest.raises(UsageError, match=said):
        ported(*words, **options)
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "cache/sources").exists()


def test_a_port_that_does_not_end_leaves_nothing_behind(
    series: Path, onto: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_ported: object) -> str:
        assert list((tmp_path / "out").glob("*.patch"))
        raise KeyboardInterrupt

    monkeypatch.setattr("linklab.port.table.as_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ported(series, onto, output="out")
    assert not (tmp_path / "out").exists()


def test_a_series_that_is_there_already_passes_and_leaves_no_patch(
    series: Path, linux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ported(series, linux, output="out") is Verdict.PASS
    assert not list((tmp_path / "out").glob("*.patch"))
    assert "0 of 4 patches apply, 4 there already or empty" in capsys.readouterr().out
