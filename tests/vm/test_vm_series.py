"""Series of patches on real kernels: one warns, one needs sysfs, one is slow."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from guests import Invoke

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.source import open_source

pytestmark = pytest.mark.vm

TOUCHED = "drivers/net/dummy.c"  # one object, so a state takes one compiler and a link

UNUSED = """
static int dummy_unused(void)
{
	return 0;
}
"""
NEEDS_SYSFS = """
#ifndef CONFIG_SYSFS
#error dummy leans on sysfs
#endif
"""
SLOW = """
static int dummy_change_mtu(struct net_device *dev, int mtu)
{
	udelay(500);
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}
"""
AFTER = "static int numdummies = 1;\n"
HOOK = "	.ndo_change_carrier	= dummy_change_carrier,\n"


ASKS = "			err = validate_linkmsg(dev, tb, extack);\n"


def states(text: str) -> list[tuple[str, str]]:
    """Return what each patch is called and the file after it."""
    assert text.count(AFTER) == text.count(HOOK) == 1, "dummy.c is not what this test knows"
    warns = text.replace(AFTER, AFTER + UNUSED)
    leans = text.replace(AFTER, AFTER + UNUSED + NEEDS_SYSFS)
    slow = text.replace(AFTER, f"#include <linux/delay.h>\n{AFTER}{SLOW}")
    slow = slow.replace(HOOK, f"{HOOK}	.ndo_change_mtu		= dummy_change_mtu,\n")
    return [
        ("dummy: keep what nobody uses", warns),
        ("dummy: lean on sysfs", leans),
        ("dummy: think before each MTU", slow),
    ]


def write_mbox(path: Path, touched: str, text: str, made: list[tuple[str, str]]) -> None:
    """Write patches that make one state of a file of the next, the last of them first."""
    mails = []
    for number, (subject, after) in enumerate(made, 1):
        lines = (text.splitlines(keepends=True), after.splitlines(keepends=True))
        diff = "".join(difflib.unified_diff(*lines, f"a/{touched}", f"b/{touched}"))
        mails.append(
            f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A Person <a@example.org>\n"
            f"Subject: [PATCH net-next {number}/{len(made)}] {subject}\n\nA test.\n---\n{diff}\n"
        )
        text = after
    path.write_text("".join(reversed(mails)))


@pytest.fixture
def read(cache: Cache) -> Callable[[str], str]:
    """What a file of the source is before it is patched."""
    source = open_source(None, cache, ignore)
    assert source is not None
    store, tree = source.store, source.tree
    return lambda name: store.git(["cat-file", "blob", f"{tree}:{name}"]).stdout.decode()


def test_each_patch_of_a_series_gets_what_it_deserves(
    invoke: Invoke, read: Callable[[str], str], tmp_path: Path
) -> None:
    dummy = read(TOUCHED)
    write_mbox(tmp_path / "series.mbox", TOUCHED, dummy, states(dummy))
    done = invoke(
        *("series", "--patch", str(tmp_path / "series.mbox"), "--counts", "16"),
        *("--blocks", "8", "--trials", "1", "--output", str(tmp_path / "out"), "--json"),
    )
    assert done.status == 1, done.stderr
    document = done.document
    rows = {(row["flavour"], row["number"]): row for row in document["rows"]}
    (warning,) = rows["nosysfs", 1]["new_warnings"]
    assert warning.startswith(f"{TOUCHED}:") and "dummy_unused" in warning
    assert rows["nosysfs", 2]["verdict"] == "skip"
    assert "dummy leans on sysfs" in rows["nosysfs", 2]["evidence"]
    assert rows["sysfs", 2]["trouble"] is None
    for flavour in ("sysfs", "nosysfs"):
        assert rows[flavour, 3]["verdict"] == "fail"
        (change,) = rows[flavour, 3]["before"]
        assert change["low"] > 3, "16 times 500 us are several times what the rest takes"
    assert "patch 2/3 does not build on nosysfs (3/3 mends it)" in document["sentence"]
    assert "patch 1/3 adds 1 compiler warning on sysfs and nosysfs" in document["sentence"]
    assert all(sample["verified"] for sample in document["samples"])


def test_a_patch_that_slows_groups_is_found_by_their_scenarios(
    invoke: Invoke, read: Callable[[str], str], tmp_path: Path
) -> None:
    """By a tree of groups in a series, and by who changes one while others listen in a search."""
    touched, series = "net/core/rtnetlink.c", str(tmp_path / "groups.mbox")
    text = read(touched)
    assert text.count(ASKS) == 1, "rtnetlink.c is not what this test knows"
    alike = text.replace(ASKS, f"			cond_resched();\n{ASKS}")
    slow = alike.replace(ASKS, f"			udelay(5);\n{ASKS}")
    made = [("rtnetlink: let others run", alike), ("rtnetlink: think of each member", slow)]
    write_mbox(Path(series), touched, text, made)
    words = ("--kernel", "nosysfs", "--patch", series)
    done = invoke(
        *("series", *words, "--scenario", "tree", "--blocks", "8", "--trials", "1"),
        *("--output", str(tmp_path / "series"), "--json"),
    )
    assert done.status == 1, done.stderr
    rows = {row["number"]: row for row in done.document["rows"]}
    assert (rows[1]["verdict"], rows[2]["verdict"]) == ("pass", "fail")
    assert "patch 2/2 slows tree, 16 leaf groups, 512 interfaces" in done.document["sentence"]
    done = invoke(
        *("bisect", *words, "--scenario", "notify", "--metric", "seconds"),
        *("--cell", "arm=digest,listeners=1,interfaces=128"),
        *("--output", str(tmp_path / "bisect"), "--json"),
    )
    assert done.status == 0, done.stderr
    assert done.document["outcome"]["first_bad"] == "2"
