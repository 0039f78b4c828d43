"""The new series: that git takes it, with everything that a patch can hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from porting import FUNCTIONS, Files, Workshop, git

from linklab.events import Event, StepAdvanced, StepFinished, ignore
from linklab.kernel.series import Patch, Series, read_series
from linklab.kernel.source import Source
from linklab.port.porting import Ported, patch_files, port_series


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def made_source(shop: Workshop, files: Files) -> Source:
    tree = shop.tree_of(files)
    target = shop.folder / "cache" / "sources" / "family"
    if not target.exists():
        target.parent.mkdir(parents=True)
        target.symlink_to(shop.store.folder)
    return Source(shop.folder, tree, "family", shop.folder / "cache")


def mails(shop: Workshop, *words: str) -> Series:
    folder = shop.folder / "mails"
    git(shop.repo, "format-patch", "--quiet", "--binary", *words, "-o", folder, "base")
    return read_series([folder])


def ported(shop: Workshop, series: Series, onto: Files) -> Ported:
    return port_series(series, made_source(shop, onto), shop.folder / "out", ignore)


def applied(shop: Workshop, onto: Files, found: Ported) -> Path:
    """Apply the new series with git, on a tree of its own, and return that."""
    tree = shop.folder / "tree"
    tree.mkdir()
    git(tree, "init", "--quiet")
    git(tree, "config", "core.autocrlf", "false")
    for name, content in onto.items():
        assert content is not None
        path = tree / name.rstrip("*")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if name.endswith("*") else 0o644)
    git(tree, "add", "--all", "--force")
    git(tree, "commit", "--quiet", "-m", "base")
    git(tree, "am", "--quiet", "--keep-cr", *found.new.files)
    return tree


def test_git_takes_renames_modes_binary_files_and_odd_names(shop: Workshop) -> None:
    blob = bytes(range(256)) * 8
    base: Files = {
        "net/a.c": FUNCTIONS, "logo.bin": blob, "tool.sh": "#!/bin/sh\n", "gone.c": "int x;\n",
        "latin.c": b"/* gr\xfcn */\n", "dos.txt": "one\r\ntwo\r\n", "last": "no end",
    }  # fmt: skip
    shop.commit(base, "base")
    git(shop.repo, "tag", "base")
    shop.commit({"net/a.c": None, "net/b.c": FUNCTIONS.replace("beta_work", "beta_rest")})
    shop.commit({"tool.sh*": "#!/bin/sh\nexit 0\n", "gone.c": None})
    shop.commit({"logo.bin": blob + b"more", "new.bin": blob[::-1]})
    shop.commit({'od"d näme\t.c': "int odd;\n", "latin.c": b"/* gr\xfcner */\n"})
    shop.commit({"dos.txt": "one\r\nTWO\r\n", "last": "no end either", "empty": ""})
    onto = {**base, "net/a.c": "// more\n" + FUNCTIONS}
    found = ported(shop, mails(shop, "-M"), onto)
    assert [outcome.status for outcome in found.outcomes] == ["offset", *["clean"] * 4]
    tree = applied(shop, onto, found)
    assert git(tree, "rev-parse", "HEAD^{tree}").decode().strip() == found.new.tree
    assert os.access(tree / "tool.sh", os.X_OK)
    assert (tree / "net/b.c").read_text().startswith("// more\nint alpha")


MESSAGES = [
    "net: a subject that goes on and on until it is longer than a line of a mail may be, ünïcode",
    "net: short\n\nFrom here on it is prose.\n\nFrom the start.\n\n> quoted\n\nCc: x@example.org",
    "net: [not a tag] stays",
    "net: trailers\n\nText.\n\nFixes: 0123456789ab (\"net: ü\")\nSigned-off-by: A Ü <a@b.org>",
]  # fmt: skip


def test_a_message_with_a_diff_in_it_is_still_one_for_git(shop: Workshop) -> None:
    (small,) = shop.series({"net/a.c": FUNCTIONS}, {"net/a.c": FUNCTIONS + "int x;\n"})
    text = "It was:\n---\ndiff --git a/x b/x\n--- a/x\n+++ b/x\nIndex: x\n\nSigned-off-by: A <a@b>"
    patch = Patch(1, 1, 1, "net: x", "A <a@b>", "", "", text, small.diff, shop.folder)
    found = ported(shop, Series((patch,)), {"net/a.c": FUNCTIONS})
    tree = applied(shop, {"net/a.c": FUNCTIONS}, found)
    message = git(tree, "log", "-1", "--format=%B").decode()
    assert [line.strip() for line in message.splitlines()] == ["net: x", "", *text.splitlines(), ""]


def test_messages_authors_and_dates_stay_as_they_were(shop: Workshop) -> None:
    shop.commit({"net/a.c": FUNCTIONS}, "base")
    git(shop.repo, "tag", "base")
    text = FUNCTIONS
    for number, message in enumerate(MESSAGES):
        text += f"int more{number};\n"
        shop.commit({"net/a.c": text}, message)
    found = ported(shop, mails(shop), {"net/a.c": FUNCTIONS})
    tree = applied(shop, {"net/a.c": FUNCTIONS}, found)
    shape = ("log", "--reverse", "--format=%an <%ae> %ad%n%B", "--date=raw")
    assert git(tree, *shape, "HEAD~4..") == git(shop.repo, *shape, "base..")


def test_what_was_adapted_stands_below_the_line_that_ends_the_message(shop: Workshop) -> None:
    shop.commit({"net/a.c": FUNCTIONS}, "base")
    git(shop.repo, "tag", "base")
    shop.commit({"net/a.c": FUNCTIONS.replace("beta_work", "beta_rest")}, "net: rest")
    onto = {"net/a.c": FUNCTIONS.replace("int beta_result", "long beta_result")}
    found = ported(shop, mails(shop), onto)
    (path,) = found.new.files
    message, _, below = path.read_text().partition("\n---\n")
    assert "less context" not in message
    assert "- net/a.c, hunk 1 of 1: at line 14, with 2 lines less context" in below
    tree = applied(shop, onto, found)
    assert git(tree, "log", "-1", "--format=%B").decode().strip() == "net: rest"


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("A Person <a@example.org>", "A Person <a@example.org>"),
        ('"Person, A." <a@example.org>', '"Person, A." <a@example.org>'),
        ("a@example.org", '"a@example.org" <a@example.org>'),
        ("a@example.org (A Person)", "A Person <a@example.org>"),
        ("", "unknown <unknown@localhost>"),
    ],
)
def test_whoever_wrote_it_git_gets_a_name_and_an_address(
    shop: Workshop, author: str, expected: str
) -> None:
    (small,) = shop.series({"net/a.c": FUNCTIONS}, {"net/a.c": FUNCTIONS + "int x;\n"})
    patch = Patch(1, 1, 1, "net: x", author, "", "", "", small.diff, shop.folder)
    found = ported(shop, Series((patch,)), {"net/a.c": FUNCTIONS})
    head = found.new.files[0].read_text()
    assert f"From: {expected}\n" in head


def test_a_series_of_which_nothing_applies_leaves_the_source_as_it_is(shop: Workshop) -> None:
    (small,) = shop.series({"net/a.c": FUNCTIONS}, {"net/a.c": "int x;\n"})
    patch = Patch(1, 1, 1, "", "", "", "", "", small.diff, shop.folder)
    found = ported(shop, Series((patch,)), {"net/b.c": "int y;\n"})
    assert found.new.files == ()
    assert found.new.tree == found.source.tree
    assert patch_files(shop.folder / "out") == ()


def test_the_way_through_a_series_is_told(shop: Workshop) -> None:
    patches = shop.series({"net/a.c": ""}, *({"net/a.c": f"int x{n};\n"} for n in range(45)))
    series = Series(
        tuple(
            Patch(p.number, 45, 1, p.subject, "", "", "", "", p.diff, shop.folder) for p in patches
        )
    )
    events: list[Event] = []
    source = made_source(shop, {"net/a.c": ""})
    port_series(series, source, shop.folder / "out", events.append)
    assert [e.done for e in events if isinstance(e, StepAdvanced)] == [20, 40, 45]
    steps = [event.step for event in events if isinstance(event, StepFinished)]
    assert steps == ["read the source's files", "try the patches", "write the new series"]
