"""A series of patches on real kernels: one warns, one needs sysfs, one is slow."""

from __future__ import annotations

import difflib
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


def write_mbox(path: Path, text: str) -> None:
    made = states(text)
    mails = []
    for number, (subject, after) in enumerate(made, 1):
        lines = (text.splitlines(keepends=True), after.splitlines(keepends=True))
        diff = "".join(difflib.unified_diff(*lines, f"a/{TOUCHED}", f"b/{TOUCHED}"))
        mails.append(
            f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A Person <a@example.org>\n"
            f"Subject: [PATCH net-next {number}/{len(made)}] {subject}\n\nA test.\n---\n{diff}\n"
        )
        text = after
    path.write_text("".join(reversed(mails)))


def test_each_patch_of_a_series_gets_what_it_deserves(
    invoke: Invoke, cache: Cache, tmp_path: Path
) -> None:
    source = open_source(None, cache, ignore)
    assert source is not None
    dummy = source.store.git(["cat-file", "blob", f"{source.tree}:{TOUCHED}"]).stdout.decode()
    write_mbox(tmp_path / "series.mbox", dummy)
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
