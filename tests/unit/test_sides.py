"""The two kernel_pair of a comparison, from words to what is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tree import make_tree
from gittree import git, make_checkout

from linklab.commands.kernels import KernelOptions, KernelSide, is_kernel, kernel_pair, pair_against
from linklab.errors import UsageError

DIFF = """--- a/{name}
+++ b/{name}
@@ -0,0 +1 @@
+new
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    for name in ("fix.patch", "v2.patch", "third.patch"):
        Path(name).write_text(DIFF.format(name=name))
    Path("own.config").write_text("CONFIG_NET=y\n")


def both(a: str, b: str, **common: object) -> tuple[KernelSide, KernelSide]:
    return kernel_pair(a, b, KernelOptions("", **common))  # type: ignore[arg-type]


def test_two_flavours_are_what_they_are_called() -> None:
    a, b = both("nosysfs", "sysfs")
    assert (a.label, b.label) == ("nosysfs", "sysfs")
    assert (a.options.names, b.options.names) == ("nosysfs", "sysfs")
    assert a.options.is_stock
    assert b.options.is_stock


def test_what_begins_with_a_plus_is_the_first_with_a_patch_on_top() -> None:
    a, b = both("nosysfs", "+fix.patch")
    assert (a.label, b.label) == ("nosysfs", "nosysfs+fix.patch")
    assert a.options.is_stock
    assert (b.options.names, b.options.patches) == ("nosysfs", ("fix.patch",))


def test_patches_of_the_first_stay_below_those_of_the_second() -> None:
    _, b = both("nosysfs+fix.patch", "+v2.patch")
    assert b.options.patches == ("fix.patch", "v2.patch")
    assert b.label == "nosysfs+fix.patch+v2.patch"


def test_two_versions_of_a_patch_each_stand_on_the_same() -> None:
    a, b = both("nosysfs+fix.patch", "nosysfs+v2.patch")
    assert (a.options.patches, b.options.patches) == (("fix.patch",), ("v2.patch",))


def test_the_option_patch_is_for_the_second_alone() -> None:
    a, b = both("nosysfs", "nosysfs", patches=("fix.patch",))
    assert (a.options.patches, b.options.patches) == ((), ("fix.patch",))
    assert (a.label, b.label) == ("nosysfs", "nosysfs+fix.patch")


def test_many_patches_are_counted_and_not_listed() -> None:
    _, b = both("nosysfs", "+fix.patch+v2.patch+third.patch")
    assert b.label == "nosysfs+3 patches"


def test_the_same_twice_still_has_two_names() -> None:
    a, b = both("nosysfs", "nosysfs")
    assert (a.label, b.label) == ("nosysfs", "nosysfs#2")
    assert a.options == b.options


def test_config_fragments_are_for_both() -> None:
    a, b = both("nosysfs", "sysfs", configs=("own.config",))
    assert a.options.configs == b.options.configs == ("own.config",)


def test_a_source_behind_an_at_sign_is_the_sides_own(tmp_path: Path) -> None:
    make_tree(tmp_path / "linux-a")
    make_tree(tmp_path / "linux-b")
    a, b = both("nosysfs@linux-a", "@linux-b")
    assert (a.options.source, b.options.source) == ("linux-a", "linux-b")
    assert (a.label, b.label) == ("nosysfs@linux-a", "nosysfs@linux-b")
    a, b = both("nosysfs@linux-a+fix.patch", "+v2.patch")
    assert (b.options.source, b.options.patches) == ("linux-a", ("fix.patch", "v2.patch"))


def test_a_commit_behind_an_at_sign_is_one_of_the_source(tmp_path: Path) -> None:
    tree = make_checkout(make_tree(tmp_path / "linux"))
    a, b = both("nosysfs", "@HEAD", source=str(tree))
    assert (a.options.revision, b.options.revision) == ("", "HEAD")
    assert b.options.source == str(tree)
    assert b.options.build_options().revision == "HEAD"
    assert not b.options.is_stock


def test_a_range_is_compared_with_the_commit_that_it_stands_on(tmp_path: Path) -> None:
    tree = make_checkout(make_tree(tmp_path / "linux"))
    base = git(tree, "rev-parse", "HEAD")
    (tree / "new.c").write_text("int new;\n")
    git(tree, "add", "new.c")
    git(tree, "commit", "-qm", "net: something new")
    a, b = both("nosysfs", "nosysfs", source=str(tree), range="HEAD~1..HEAD")
    assert a.options.build_options().revision == base == b.options.build_options().revision
    assert (a.options.series.patches, len(b.options.series.patches)) == ((), 1)
    assert b.label == "nosysfs+HEAD~1..HEAD"


def test_a_kernel_with_patches_and_one_beside_it_that_leaves_them_out_or_not() -> None:
    mine = KernelOptions("nosysfs", patches=("fix.patch",), configs=("own.config",))
    a, b = pair_against(mine, "+v2.patch")
    assert (a.label, b.label) == ("nosysfs+fix.patch", "nosysfs+fix.patch+v2.patch")
    assert a.options == mine
    _, other = pair_against(mine, "sysfs")
    assert (other.label, other.options) == ("sysfs", KernelOptions("sysfs", configs=mine.configs))


def test_a_patch_beside_a_range_stands_on_top_of_it(tmp_path: Path) -> None:
    tree = make_checkout(make_tree(tmp_path / "linux"))
    (tree / "new.c").write_text("int new;\n")
    git(tree, "add", "new.c")
    git(tree, "commit", "-qm", "net: something new")
    a, b = pair_against(KernelOptions("nosysfs", str(tree), range="HEAD~1..HEAD"), "+fix.patch")
    assert [len(side.options.series.patches) for side in (a, b)] == [1, 2]
    assert a.options.build_options().revision == b.options.build_options().revision
    assert b.label == "nosysfs+HEAD~1..HEAD+fix.patch"


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("frob", "nosysfs", "there is no kernel 'frob'"),
        ("nosysfs", "", "'' is no kernel"),
        ("nosysfs", "sysfs+", "'sysfs+' is no kernel"),
        ("+fix.patch", "nosysfs", "+fix.patch names no kernel"),
        ("nosysfs", "+none.patch", "none.patch"),
        ("nosysfs", "@v9", "@v9: there is no such source"),
        ("nosysfs", "nosysfs,sysfs", "exactly one kernel"),
    ],
)
def test_what_is_no_kernel_is_refused(a: str, b: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        both(a, b)
    assert says in caught.value.message


def test_a_kernel_that_is_taken_as_it_is_takes_no_patch(tmp_path: Path) -> None:
    built = tmp_path / "built" / "arch/x86/boot"
    built.mkdir(parents=True)
    (built / "bzImage").write_bytes(b"\0" * 1024)
    with pytest.raises(UsageError, match="built"):
        both("nosysfs", "built", patches=("fix.patch",))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("nosysfs", True),
        ("nosysfs@linux", True),
        ("sysfs+a.patch", True),
        ("+a.patch", True),
        ("@v6.12", True),
        ("20260101T000000Z-grouping", False),
        ("last", False),
        ("", False),
    ],
)
def test_a_word_for_a_kernel_is_told_from_one_for_a_run(word: str, expected: bool) -> None:
    assert is_kernel(word) is expected
