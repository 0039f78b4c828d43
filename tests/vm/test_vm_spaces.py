"""Hosts that are namespaces of one guest: many of them, links that are cut, and captures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from guests import Invoke, packets_of

pytestmark = pytest.mark.vm

MANY = Path(__file__).with_name("many_scenario.py")
CUT = Path(__file__).with_name("cut_scenario.py")
SHAPED = "a -- r -- b: clean | 2mbit 20ms queue=20"


@pytest.mark.parametrize(("place", "count"), [("spaces", 30), ("guests", 2)])
def test_hosts_behind_one_are_reached_by_name_from_everywhere(
    invoke: Invoke, tmp_path: Path, place: str, count: int
) -> None:
    done = invoke(
        *("run", "--scenario", str(MANY), "--kernel", "nosysfs", "--place", place),
        *("--param", f"topology=a -- b[{count}]", "--output", str(tmp_path / "run"), "--json"),
        *("--leaks", "all") if place == "spaces" else (),
    )
    assert done.status == 0, done.stderr
    (sample,) = done.document["samples"]
    assert sample["answered"] == 2 * count
    drawn = done.document["run"]["drawing"].splitlines()
    assert len(drawn) == 2
    assert drawn[1].endswith(f"b.{count}: {count} hosts")


@pytest.mark.parametrize("place", ["spaces", "guests"])
def test_a_scenario_cuts_a_link_and_brings_it_back(
    invoke: Invoke, tmp_path: Path, place: str
) -> None:
    done = invoke(
        *("run", "--scenario", str(CUT), "--kernel", "nosysfs", "--place", place),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    assert {s["arm"]: s["answers"] for s in done.document["samples"]} == {"down": 0, "dark": 0}


@pytest.mark.parametrize("clock", ["virtual", "real"])
def test_what_crosses_links_in_a_guest_is_captured(
    invoke: Invoke, tmp_path: Path, clock: str
) -> None:
    """And is what tshark reads: in virtual time with instants of the guest's own."""
    done = invoke(
        *("run", "--scenario", "congestion", "--kernel", "nosysfs", "--leaks", "none"),
        *("--axis", "arm=cubic", "--param", "seconds=2", "--param", f"topology={SHAPED}"),
        *("--clock", clock, "--capture", "--output", str(tmp_path / "run"), "--json"),
    )
    captures = sorted((tmp_path / "run").glob("link-*.pcap"))
    if clock == "real" and done.status:  # a host that is too busy for real time
        assert done.document["run"]["message"].startswith("link "), done.stderr
    else:
        assert done.status == 0, done.stderr
    assert len(captures) == 2
    for capture, (a, b) in zip(captures, (("1", "2"), ("2", "3")), strict=True):
        packets = packets_of(capture, "nanoseconds")
        ip = [packet for packet in packets if packet[12:14] == b"\x08\x00"]
        assert len(ip) > 100
        assert {packet[6:12].hex(":")[-2:] for packet in ip} == {f"0{a}", f"0{b}"}
    if shutil.which("tshark") is None:
        return
    for capture in captures:
        words = ["tshark", "-r", str(capture), "-T", "fields", "-e", "frame.time_epoch"]
        words += ["-o", "ip.check_checksum:TRUE", "-Y"]
        for condition, expected in (
            ("frame", len(packets_of(capture, "nanoseconds"))),
            ("_ws.malformed || ip.checksum.status == 0", 0),
        ):
            found = subprocess.run([*words, condition], capture_output=True, text=True, check=True)
            assert len(found.stdout.splitlines()) == expected
            assert "cut short" not in found.stderr
