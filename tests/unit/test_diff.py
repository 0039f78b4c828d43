"""Diffs taken apart: what git and diff(1) write, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from porting import Workshop, git

from linklab.kernel.diff import Binary, Block, DiffError, parse_diff, unpack

PLAIN = b"""--- a/net/a.c\t2024-01-01 00:00:00.000000000 +0100
+++ b/net/a.c\t2024-01-02 00:00:00.000000000 +0100
@@ -2,3 +2,4 @@ int f(void)
 two
-three
+3
+three and a half
 four
"""


def test_a_hunk_is_its_text_before_and_after_and_what_it_changes() -> None:
    (diff,) = parse_diff(PLAIN)
    (hunk,) = diff.hunks
    assert (diff.old, diff.new) == ("net/a.c", "net/a.c")
    assert hunk.old == (b"two\n", b"three\n", b"four\n")
    assert hunk.new == (b"two\n", b"3\n", b"three and a half\n", b"four\n")
    assert (hunk.start, hunk.end, hunk.heading) == (1, 4, b"int f(void)")
    assert (hunk.context, hunk.blocks) == ((1, 1), (Block(2, 1, 2),))
    assert hunk.added == (b"3\n", b"three and a half\n")
    assert hunk.removed == (b"three\n",)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+x\n", None, "x.c"),
        ("--- a/x.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "x.c", None),
        ("--- a/x.c\t1970-01-01 01:00:00.0 +0100\n+++ b/x.c\n@@ -0,0 +1 @@\n+x\n", None, "x.c"),
        ("--- a/x.c\n+++ b/x.c\t1970-01-01 00:00:00 +0000\n@@ -1 +0,0 @@\n-x\n", "x.c", None),
        ("--- a/x.c.orig\n+++ b/x.c\n@@ -1 +1 @@\n-x\n+y\n", "x.c", "x.c"),
        ('--- "a/g\\303\\274n \\"q\\".c"\n+++ b/x\n@@ -1 +1 @@\n-x\n+y\n', "x", "x"),
        ("diff --git a/x y.c b/x y.c\nnew file mode 100755\n", None, "x y.c"),
        ("diff --git a/x y.c b/x y.c\nold mode 100644\nnew mode 100755\n", "x y.c", "x y.c"),
        ('diff --git "a/\\ttab" "b/\\ttab"\ndeleted file mode 100644\n', "\ttab", None),
        ("diff --git a/a.c b/b.c\nsimilarity index 100%\nrename from a.c\nrename to b.c\n",
         "a.c", "b.c"),
    ],
)  # fmt: skip
def test_names_are_read_from_wherever_they_stand(
    text: str, old: str | None, new: str | None
) -> None:
    (diff,) = parse_diff(text.encode())
    assert (diff.old, diff.new) == (old, new)


def test_modes_are_known_where_they_are_named() -> None:
    (diff,) = parse_diff(b"diff --git a/x b/x\nold mode 100644\nnew mode 100755\n")
    assert (diff.old_mode, diff.new_mode) == (0o100644, 0o100755)
    (diff,) = parse_diff(b"diff --git a/x b/x\nnew file mode 120000\nindex 0000000..1de5659\n")
    assert (diff.old_mode, diff.new_mode, diff.old_blob) == (None, 0o120000, "")


def test_a_last_line_without_an_end_keeps_none() -> None:
    text = PLAIN.replace(b" four\n", b" four\n\\ No newline at end of file\n")
    (hunk,) = parse_diff(text)[0].hunks
    assert hunk.old[-1] == hunk.new[-1] == b"four"


def test_blank_context_that_a_mailer_cut_off_is_context() -> None:
    (hunk,) = parse_diff(PLAIN.replace(b" two\n", b"\n"))[0].hunks
    assert hunk.old[0] == b"\n"


def test_carriage_returns_and_form_feeds_end_no_line() -> None:
    (hunk,) = parse_diff(PLAIN.replace(b"+3\n", b"+3\r4\x0c5\r\n"))[0].hunks
    assert hunk.added[0] == b"3\r4\x0c5\r\n"


def test_what_stands_around_a_diff_is_passed_over() -> None:
    text = b"Why.\n--- not a name\n\n" + PLAIN + b"-- \n2.39.5\n"
    (diff,) = parse_diff(text)
    assert len(diff.hunks) == 1


@pytest.mark.parametrize(
    "text",
    [
        PLAIN[:-7],
        PLAIN.replace(b"-2,3", b"-2,2"),
        PLAIN.replace(b" four", b"?four"),
        b"diff --git a/x b/y\nindex 1234567..1234568 100644\n",
        b'--- "a/x\n+++ "b/x\n@@ -1 +1 @@\n-x\n+y\n',
        b'--- "a/\\q"\n+++ "b/\\q"\n@@ -1 +1 @@\n-x\n+y\n',
        b"diff --git a/x b/x\nGIT binary patch\nnonsense\n",
        b"diff --git a/x b/x\nold mode 100644\nnew mode 10o755\n",
    ],
)
def test_a_torn_diff_is_refused(text: bytes) -> None:
    with pytest.raises(DiffError):
        parse_diff(text)


# --- binary content --------------------------------------------------------------


def binary_diff(shop: Workshop, old: bytes | None, new: bytes) -> Binary:
    shop.commit({"x": old} if old is not None else {"other": "y"})
    shop.commit({"x": new})
    (diff,) = parse_diff(git(shop.repo, "show", "--format=", "--binary", "HEAD"))
    assert diff.binary is not None
    return diff.binary


@settings(max_examples=12)
@given(st.integers(0, 2**32), st.integers(1, 90_000))
def test_binary_content_comes_back_whole_or_as_a_delta(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int
) -> None:
    drawn = random.Random(seed)
    old = b"\0" + drawn.randbytes(size)
    at = drawn.randrange(len(old))
    new = old[:at] + drawn.randbytes(drawn.randrange(200)) + old[at + drawn.randrange(200) :]
    shop = Workshop(tmp_path_factory.mktemp("binary"))
    if new != old:
        assert unpack(binary_diff(shop, old, new + b"\0"), old) == new + b"\0"


def test_a_delta_is_used_for_a_small_change_and_needs_its_base(tmp_path: Path) -> None:
    old = b"\0" + random.Random(1).randbytes(200_000)
    binary = binary_diff(Workshop(tmp_path), old, old + b"more" + old[:100])
    assert binary.is_delta
    assert unpack(binary, old) == old + b"more" + old[:100]
    with pytest.raises(DiffError, match=r"not to 3$"):
        unpack(binary, b"abc")


@pytest.mark.parametrize(
    ("packed", "size", "is_delta"),
    [
        (b"!!!\n", 3, False),
        (b"HcmZQzWMT#Y01f~L\n", 3, False),
        (b"EcmZQzWMT#Y01f~L", 9, False),
    ],
)
def test_torn_binary_content_is_refused(packed: bytes, size: int, is_delta: bool) -> None:
    with pytest.raises(DiffError):
        unpack(Binary(packed, size, is_delta), b"")


@pytest.mark.parametrize("delta", [b"\x00", b"\x00\x80", b"\x00\x05\x91", b"\x00\x05\x01a"])
def test_a_delta_that_is_cut_short_is_refused(delta: bytes) -> None:
    import base64
    import zlib

    data = zlib.compress(delta)
    line = bytes([len(data) + 64]) + base64.b85encode(data, pad=True) + b"\n"
    with pytest.raises(DiffError):
        unpack(Binary(line, len(delta), True), b"")
