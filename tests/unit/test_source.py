"""Sources: what names them, how they are read, and that nobody's folder is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_tree import make_tarball, make_tree
from gittree import git, make_checkout

from linklab.errors import LabError, UsageError
from linklab.events import Event, StepAdvanced, StepStarted, ignore
from linklab.host.cache import Cache
from linklab.kernel import source as source_module
from linklab.kernel.source import Source, check_source, default_source, open_source, tarball_hash


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "linux")


def opened(path: Path, cache: Cache) -> Source:
    return open_source(path, cache, ignore)


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- a tarball ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar.xz", "w:xz"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar", "w")]
)
def test_a_tarball_is_read_however_it_is_packed(
    tree: Path, tmp_path: Path, cache: Cache, suffix: str, mode: str
) -> None:
    if suffix == "tar.bz2" and shutil.which("bzip2") is None:
        pytest.skip("bzip2 is not installed, and the lab does not ask for it")
    source = opened(make_tarball(tree, tmp_path / f"linux.{suffix}", mode), cache)
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/a.c").read_bytes() == (tree / "net/a.c").read_bytes()
    assert (source.store.tree / ".gitignore").exists()


def test_a_tarball_and_the_folder_it_was_made_of_are_the_same_tree(
    tree: Path, tmp_path: Path, cache: Cache
) -> None:
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz")
    assert opened(tarball, cache).tree == opened(tree, cache).tree == expected(tree)


def expected(tree: Path) -> str:
    make_checkout(tree)
    return git(tree, "rev-parse", "HEAD^{tree}")


def test_modes_links_and_odd_names_survive_a_tarball(
    tree: Path, tmp_path: Path, cache: Cache
) -> None:
    (tree / "tool.sh").write_text("#!/bin/sh\n")
    (tree / "tool.sh").chmod(0o755)
    (tree / "link").symlink_to("net/a.c")
    os.link(tree / "net/a.c", tree / "net/z.c")
    odd = ' "quoted" and \\ back\tslash'
    (tree / odd).write_text("odd")
    source = opened(make_tarball(tree, tmp_path / "linux.tar.xz"), cache)
    source.store.set_tree(source.tree)
    written = source.store.tree
    assert os.access(written / "tool.sh", os.X_OK)
    assert (written / "link").readlink() == Path("net/a.c")
    assert (written / "net/z.c").read_bytes() == (tree / "net/a.c").read_bytes()
    assert (written / odd).read_text() == "odd"


def test_ignored_files_of_a_tarball_count(tree: Path, tmp_path: Path, cache: Cache) -> None:
    (tree / "blob.o").write_text("shipped")
    source = opened(make_tarball(tree, tmp_path / "linux.tar.xz"), cache)
    assert "blob.o" in dict(source.store.files(source.tree))


def test_a_tarball_is_read_once(tree: Path, tmp_path: Path, cache: Cache) -> None:
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz")
    first: list[Event] = []
    again: list[Event] = []
    open_source(tarball, cache, first.append)
    open_source(tarball, cache, again.append)
    assert [event.step for event in first if isinstance(event, StepStarted)] == [
        "read linux.tar.xz"
    ]
    assert any(isinstance(event, StepAdvanced) for event in first)
    assert again == []


def test_the_hash_of_a_tarball_is_kept_until_the_file_changes(
    tree: Path, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz")
    first = tarball_hash(tarball, cache)
    monkeypatch.setattr(source_module, "hash_file", lambda _path: pytest.fail("hashed again"))
    assert tarball_hash(tarball, cache) == first
    monkeypatch.undo()
    tarball.write_bytes(b"other")
    assert tarball_hash(tarball, cache) != first


def test_a_memo_that_was_cut_short_is_made_again(tree: Path, tmp_path: Path, cache: Cache) -> None:
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz")
    first = opened(tarball, cache)
    (cache.root / "sources" / "tarballs.json").write_text('{"a')
    (first.store.folder / "base.json").write_text("[1]")
    assert opened(tarball, cache) == first


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w"])
def test_a_tarball_cut_short_is_refused_and_leaves_nothing(
    tree: Path, tmp_path: Path, cache: Cache, mode: str
) -> None:
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz", mode)
    tarball.write_bytes(tarball.read_bytes()[: 1500 if mode != "w" else 4000])
    for _ in range(2):
        with pytest.raises(UsageError, match=r"linux\.tar\.xz is cut short, or no tarball"):
            open_source(tarball, cache, ignore)
    assert not list(cache.root.glob("sources/*/git"))


def test_a_tarball_that_git_cannot_store_is_an_error_of_the_lab(
    tree: Path, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/git"
    shim.write_text(
        f"""#!/bin/sh
        case "$1" in fast-import) echo "fatal: no room" >&2; exit 128 ;; esac
        exec {real} "$@"
        """
    )
    shim.chmod(0o755)
    tarball = make_tarball(tree, tmp_path / "linux.tar.xz")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(LabError, match="git cannot store what is in") as error:
        open_source(tarball, cache, ignore)
    assert error.value.evidence == "fatal: no room"


def test_a_tarball_that_cannot_be_read_is_refused(common_folder: Path) -> None:
    tarball = common_folder / "linux.tar.xz"
    tarball.touch(mode=0)
    with pytest.raises(UsageError, match=r"linux\.tar\.xz cannot be read: Permission denied"):
        check_source(tarball)


def test_a_tarball_without_a_kernel_names_what_is_missing(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/Makefile").write_text("all:\n")
    (tmp_path / "other/Kconfig").write_text("")
    tarball = make_tarball(tmp_path / "other", tmp_path / "other.tar.gz", "w:gz")
    with pytest.raises(UsageError, match="lacks a Makefile with VERSION and PATCHLEVEL, arch/x86"):
        open_source(tarball, cache, ignore)


def test_a_file_that_is_no_tarball_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"a\.txt is neither a folder nor a tarball"):
        check_source(tmp_path / "a.txt")


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no source .*nowhere"):
        check_source(tmp_path / "nowhere")


def test_a_folder_that_is_no_kernel_tree_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\n")
    with pytest.raises(UsageError, match="is no kernel tree: it lacks Kconfig, arch/x86"):
        check_source(tmp_path)


def test_without_debians_source_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "kernel_sources", tuple)
    with pytest.raises(LabError, match="invoke setup"):
        default_source()


def test_debians_6_12_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [Path(f"/usr/src/linux-source-{v}.tar.xz") for v in ("6.1", "6.12", "6.16")]
    monkeypatch.setattr(source_module, "kernel_sources", lambda: tuple(names))
    assert default_source() == names[1]
    monkeypatch.setattr(source_module, "kernel_sources", lambda: (names[0],))
    assert default_source() == names[0]


# --- a folder ----------------------------------------------------------------


def test_a_dirty_checkout_gets_a_name_of_its_own_and_its_old_one_back(
    tree: Path, cache: Cache
) -> None:
    make_checkout(tree)
    clean = opened(tree, cache).tree
    assert clean == git(tree, "rev-parse", "HEAD^{tree}")
    old = (tree / "net/a.c").read_text()
    (tree / "net/a.c").write_text("changed\n")
    (tree / "net/new.c").write_text("// new\n")
    dirty = opened(tree, cache)
    assert dirty.tree != clean
    assert {"net/new.c", "net/a.c"} <= set(dict(dirty.store.files(dirty.tree)))
    (tree / "net/new.c").unlink()
    (tree / "net/a.c").write_text(old)
    assert opened(tree, cache).tree == clean


def test_reading_a_checkout_changes_nothing_in_it(tree: Path, cache: Cache) -> None:
    make_checkout(tree)
    (tree / "net/a.c").write_text("changed\n")
    (tree / "net/new.c").write_text("// new\n")
    status = git(tree, "status", "--porcelain")
    before = state_of(tree)
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    after = state_of(tree)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    # Git renews the time of objects that it finds there already, and nothing else.
    assert all(name.startswith(".git/objects/") for name in changed)
    assert {name: content for name, (_, content) in before.items()} == {
        name: content for name, (_, content) in after.items()
    }
    assert git(tree, "status", "--porcelain") == status


def test_a_change_within_the_clocks_tick_is_seen(tree: Path, cache: Cache) -> None:
    """The same size, the same time: git tells such a file by its index's age, and so must we."""
    make_checkout(tree)
    path = tree / "net/b.c"
    stamp = path.stat().st_mtime_ns
    os.utime(tree / ".git/index", ns=(stamp, stamp))
    path.write_text("// B\n")
    os.utime(path, ns=(stamp, stamp))
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/b.c").read_text() == "// B\n"


def test_changes_that_git_was_told_to_overlook_are_seen(tree: Path, cache: Cache) -> None:
    make_checkout(tree)
    git(tree, "update-index", "--assume-unchanged", "net/a.c")
    git(tree, "update-index", "--skip-worktree", "net/b.c", "tiny.config")
    (tree / "tiny.config").unlink()
    for name in ("net/a.c", "net/b.c"):
        (tree / name).write_text("// overlooked\n")
    assert git(tree, "status", "--porcelain") == ""
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/a.c").read_text() == "// overlooked\n"
    assert (source.store.tree / "net/b.c").read_text() == "// overlooked\n"
    assert (source.store.tree / "tiny.config").exists()  # as in a sparse checkout


def test_a_checkouts_ignored_files_do_not_count(tree: Path, cache: Cache) -> None:
    make_checkout(tree)
    clean = opened(tree, cache).tree
    (tree / "net/a.o").write_text("object")
    (tree / ".config").write_text("CONFIG_X=y")
    (tree / ".git/info").mkdir(exist_ok=True)
    (tree / ".git/info/exclude").write_text("notes.txt\n")
    (tree / "notes.txt").write_text("mine")
    assert opened(tree, cache).tree == clean


def test_a_linked_work_tree_is_read_like_a_checkout(
    tree: Path, tmp_path: Path, cache: Cache
) -> None:
    make_checkout(tree)
    git(tree, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    assert (tmp_path / "linked/.git").is_file()
    assert opened(tmp_path / "linked", cache).tree == git(tree, "rev-parse", "HEAD^{tree}")


def test_a_split_index_is_read_like_any_other(tree: Path, cache: Cache) -> None:
    """It lies in two files, one of which is only found in its place."""
    make_checkout(tree)
    git(tree, "update-index", "--split-index")
    (tree / "net/b.c").write_text("// other\n")
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/b.c").read_text() == "// other\n"
    assert (source.store.tree / "net/a.c").exists()


def test_a_checkout_in_the_middle_of_a_merge_is_taken_as_it_lies(tree: Path, cache: Cache) -> None:
    make_checkout(tree)
    git(tree, "checkout", "--quiet", "-b", "side")
    (tree / "net/b.c").write_text("side\n")
    git(tree, "commit", "--quiet", "-am", "side")
    git(tree, "checkout", "--quiet", "-")
    (tree / "net/b.c").write_text("ours\n")
    git(tree, "commit", "--quiet", "-am", "ours")
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "merge", "side")
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    assert "<<<<<<<" in (source.store.tree / "net/b.c").read_text()


def test_objects_that_the_checkout_has_lost_are_read_again(tree: Path, cache: Cache) -> None:
    make_checkout(tree)
    source = opened(tree, cache)
    lost = git(tree, "hash-object", "net/b.c")
    (tree / f".git/objects/{lost[:2]}/{lost[2:]}").unlink()
    assert opened(tree, cache) == source
    source.write(source.tree, ignore)
    assert (source.store.tree / "net/b.c").read_bytes() == (tree / "net/b.c").read_bytes()


def test_objects_that_a_tarball_has_lost_are_an_error_of_the_lab(
    tree: Path, tmp_path: Path, cache: Cache
) -> None:
    source = opened(make_tarball(tree, tmp_path / "linux.tar.xz"), cache)
    for pack in source.store.repository.rglob("*.pack"):
        pack.unlink()
    with pytest.raises(LabError, match="cannot be written"):
        source.write(source.tree, ignore)


def test_a_repository_of_another_hash_is_read(tree: Path, cache: Cache) -> None:
    opened(tree, cache)
    git(tree, "init", "--quiet", "--object-format=sha256")
    git(tree, "add", "--all")
    assert len(opened(tree, cache).tree) == 64


def test_what_git_was_told_by_its_caller_does_not_matter(
    tree: Path, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git bisect run` and hooks set GIT_DIR, which would lead every git astray."""
    make_checkout(tree)
    clean = git(tree, "rev-parse", "HEAD^{tree}")
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(tmp_path / "astray"))
    assert opened(tree, cache).tree == clean


def test_a_plain_folder_leaves_out_what_a_build_in_it_left(tree: Path, cache: Cache) -> None:
    clean = opened(tree, cache).tree
    (tree / "net/a.o").write_text("object")
    (tree / ".config").write_text("CONFIG_X=y")
    assert opened(tree, cache).tree == clean
    (tree / "net/a.c").write_text("changed\n")
    (tree / "net/b.c").unlink()
    changed = opened(tree, cache)
    assert changed.tree != clean
    assert "net/b.c" not in dict(changed.store.files(changed.tree))


def test_a_plain_folder_whose_ignore_file_ignores_everything_is_read(
    tree: Path, cache: Cache
) -> None:
    """Debian's linux-source ends its .gitignore with `/*`: it tracks its packaging alone."""
    (tree / ".gitignore").write_text("*.o\n/*\n!/debian/\n")
    (tree / "net/a.o").write_text("object")
    (tree / "scripts/.gitignore").write_text("# comment\n/conf\nlexer.c\n!kept.o\n")
    for name in ("scripts/conf", "scripts/deep/lexer.c", "scripts/deep/conf", "scripts/kept.o"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("")
    source = opened(tree, cache)
    files = set(dict(source.store.files(source.tree)))
    assert {"Makefile", "net/a.c", "scripts/deep/conf", "scripts/kept.o"} <= files
    assert not files & {"net/a.o", "scripts/conf", "scripts/deep/lexer.c"}


def test_a_folder_inside_another_repository_is_a_plain_one(tmp_path: Path, cache: Cache) -> None:
    git(tmp_path, "init", "--quiet")
    tree = make_tree(tmp_path / "vendor")
    assert "Makefile" in dict(opened(tree, cache).store.files(opened(tree, cache).tree))


def test_a_file_that_cannot_be_read_is_named(common_folder: Path) -> None:
    tree = make_tree(common_folder / "linux")
    (tree / "net/b.c").chmod(0)
    with pytest.raises(LabError, match=r"the source tree .*linux cannot be read") as error:
        open_source(tree, Cache(common_folder / "cache"), ignore)
    assert "net/b.c" in error.value.evidence


# --- the work tree -----------------------------------------------------------


def test_only_files_that_differ_get_a_new_time(tree: Path, cache: Cache) -> None:
    first = opened(tree, cache)
    first.store.set_tree(first.tree)
    before = state_of(first.store.tree)
    (tree / "net/a.c").write_text("changed\n")
    second = opened(tree, cache)
    second.store.set_tree(second.tree)
    after = state_of(first.store.tree)
    assert {name for name in before if before[name] != after[name]} == {"net/a.c"}
    assert first.store.changed(first.tree, second.tree) == ["net/a.c"]


def test_a_work_tree_that_was_tampered_with_is_repaired(tree: Path, cache: Cache) -> None:
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    (source.store.tree / "net/a.c").write_text("tampered\n")
    (source.store.tree / "net/b.c").unlink()
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/a.c").read_bytes() == (tree / "net/a.c").read_bytes()
    assert (source.store.tree / "net/b.c").exists()


def test_an_update_that_was_killed_is_finished(tree: Path, cache: Cache) -> None:
    source = opened(tree, cache)
    store = source.store
    store.set_tree(source.tree)
    (store.folder / "tree.updating").touch()
    (store.folder / "tree.index.lock").write_text("half an index")
    (store.tree / "net/a.c").write_text("half")
    (store.tree / "net/of_another_state.c").write_text("not ours\n")
    store.set_tree(source.tree)
    assert not (store.tree / "net/of_another_state.c").exists()
    assert (store.tree / "net/a.c").read_bytes() == (tree / "net/a.c").read_bytes()
    assert not (store.folder / "tree.updating").exists()


def test_a_broken_index_is_made_again(tree: Path, cache: Cache) -> None:
    source = opened(tree, cache)
    source.store.set_tree(source.tree)
    (source.store.folder / "tree.index").write_text("garbage")
    source.store.set_tree(source.tree)
    assert (source.store.tree / "net/a.c").exists()


def test_a_tree_that_git_does_not_have_is_an_error_of_the_lab(tree: Path, cache: Cache) -> None:
    source = opened(tree, cache)
    with pytest.raises(LabError, match=r"cannot be written: remove .* and try again") as error:
        source.store.set_tree("1" * 40)
    assert error.value.evidence
