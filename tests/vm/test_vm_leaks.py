"""Kernels that leak, as each command tells of them; those that do not, and their figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from guests import Invoke
from leak_faults import PATCHES

pytestmark = pytest.mark.vm

BYTES, DEVICE, SKB = (str(PATCHES / f"{name}.patch") for name in ("bytes", "device", "skb"))
VIRTUAL = ("--clock", "virtual", "--boot", "resume")
TITLE = "memory leak: 4096 bytes of slab memory a trial in mtu by group, 128 interfaces"


def test_a_leak_is_the_runs_verdict_and_stands_in_all_that_it_writes(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--kernel", "nosysfs", "--patch", BYTES, "--counts", "128", "--arms", "group"),
        *(*VIRTUAL, "--output", str(tmp_path / "run"), "--junit", str(tmp_path / "junit.xml")),
        "--json",
    )
    assert done.status == 1, done.stderr
    run = done.document["run"]
    assert run["verdict"] == "fail"
    (fault,) = run["faults"]
    assert (fault["title"], fault["class"]) == (TITLE, "memory leak")
    assert (fault["guest"], fault["during"], fault["kernel"]) == ("guest", "end", "nosysfs")
    assert "leaves 4096 bytes of slab memory behind, 32 for each of the 128" in done.stderr
    assert TITLE in (tmp_path / "run" / fault["file"]).read_text()
    assert (
        "slab memory"
        in ElementTree.tostring(ElementTree.parse(tmp_path / "junit.xml").getroot()).decode()
    )
    assert all(sample["verified"] for sample in done.document["samples"])


def test_a_device_that_is_not_let_go_is_told_in_the_kernels_words(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--kernel", "nosysfs", "--patch", DEVICE, "--counts", "128", "--arms", "group"),
        *(*VIRTUAL, "--output", str(tmp_path / "run")),
    )
    assert done.status == 1, done.stderr
    assert "unregister_netdevice: waiting for a device to become free" in done.stderr
    told = "".join(path.read_text() for path in (tmp_path / "run").glob("report-*.txt"))
    assert "unregister_netdevice: waiting for ll100" in told  # any of them


def test_where_kernels_are_compared_it_is_the_fault_of_one(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke(
        *("compare", "nosysfs", f"+{DEVICE}", "--counts", "64", *VIRTUAL),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 1, done.stderr
    (fault,) = done.document["run"]["faults"]
    assert "device.patch" in fault["kernel"]
    assert fault["title"].startswith("unregister_netdevice: waiting for")


def test_what_is_looked_for_afterwards_is_in_no_figure(invoke: Invoke, tmp_path: Path) -> None:
    """To the nanosecond: the guests do the same until their last trial is over."""

    def measured(leaks: str) -> list[dict[str, object]]:
        done = invoke(
            *("run", "--kernel", "nosysfs", "--counts", "64", "--arms", "group,netlink"),
            *("--operations", "mtu,up", "--repeat", "2", "--jobs", "1", *VIRTUAL),
            *("--leaks", leaks, "--output", str(tmp_path / leaks), "--json"),
        )
        assert done.status == 0, done.stderr
        return list(done.document["samples"])

    without, quick = measured("none"), measured("cheap")
    assert [{**s, "seconds": 0, "user_seconds": 0, "system_seconds": 0} for s in without] == [
        {**s, "seconds": 0, "user_seconds": 0, "system_seconds": 0} for s in quick
    ]
    # A request reaches its guest some thousand instructions sooner or later (virtual-time.md).
    seconds = [float(str(sample["seconds"])) for sample in without]
    assert [float(str(sample["seconds"])) for sample in quick] == pytest.approx(seconds, rel=0.002)


def test_a_kernel_with_kmemleak_names_the_function(invoke: Invoke, tmp_path: Path) -> None:
    """Without sysfs, where debugfs has no place of its own; and all leaks, not the first alone."""
    kernel = ("--kernel", "debug-nosysfs", "--counts", "16", "--arms", "group")
    words = ("run", *kernel, "--clock", "virtual", "--json", "--output")
    done = invoke(*words, str(tmp_path / "healthy"), timeout=7200)
    assert done.status == 0, done.stderr
    done = invoke(*words, str(tmp_path / "leaks"), "--patch", BYTES, "--patch", SKB, timeout=7200)
    assert done.status == 1, done.stderr
    (fault,) = done.document["run"]["faults"]
    titles = {report["title"] for report in fault["reports"]}
    assert {"memory leak in rtnl_note_mtu", "memory leak in skb_copy"} <= titles
