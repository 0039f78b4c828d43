"""`invoke profile` on a real kernel with a real perf in the guest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from guests import Invoke

from linklab.scenarios.grouping import Grouping

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("perf"), reason="perf is not installed (linux-perf)"),
]


def test_a_profile_finds_the_work_in_the_kernel_and_in_user_space(
    invoke: Invoke, tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    done = invoke(
        *("profile", "--kernel", "nosysfs", "--operations", "mtu", "--arms", "process"),
        *("--counts", "32", "--samples", "600", "--output", str(out), "--json"),
    )
    assert done.status == 0, done.stderr
    profile = done.document["profile"]
    assert profile["rule"]["met"]
    assert profile["samples"]["work"] >= 600
    symbols = {symbol["symbol"]: symbol for symbol in profile["symbols"]}
    # A process for each interface: some of it loads the program, some of it runs it ...
    assert symbols["do_syscall_64"]["total"]["share"] > 0.1
    assert "rtnetlink_rcv_msg" in symbols
    assert profile["shares"]["user"]["share"] > 0.05
    assert {"[ip]", "[ld-linux-x86-64.so.2]", "[libc.so.6]"} & set(symbols)
    # ... and call chains lead from what ran to where the kernel was entered.
    chains = (out / "folded.txt").read_text().splitlines()
    assert any("do_syscall_64_[k];" in chain for chain in chains)
    svg = ET.parse(out / "flamegraph.svg").getroot()
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}rect"))) > 50


def test_a_function_that_was_made_slower_is_found_by_subtracting_profiles(
    invoke: Invoke, tmp_path: Path
) -> None:
    # The parameter's default in place of a kernel command line, and a function of its own.
    assert Grouping.slower
    text, name = Grouping.slower.patch.read_text(), Grouping.slower.parameter
    text = text.replace(f"unsigned int {name};", f"unsigned int {name} = 4000;")
    text = text.replace("static void linklab_slow_down", "static noinline void linklab_slow_down")
    (tmp_path / "slow.patch").write_text(text)
    out = tmp_path / "difference"
    done = invoke(
        *("profile", "--kernel", "nosysfs", "--against", f"+{tmp_path / 'slow.patch'}"),
        *("--operations", "mtu", "--arms", "group", "--counts", "256"),
        *("--frequency", "4999", "--samples", "1000", "--output", str(out), "--json"),
        timeout=1800,
    )
    assert done.status == 0, done.stderr
    difference = done.document["difference"]
    top = difference["symbols"][0]
    assert (top["symbol"], top["different"], top["a"]) == ("linklab_slow_down", True, 0)
    assert difference["whole"]["difference"] > 0 and difference["unsampled"]["difference"] > 0
    a, b = (json.loads((out / side / "profile.json").read_text()) for side in "ab")
    assert len(a["sampled"]) == len(b["sampled"])
    titles = ET.parse(out / "flamegraph.svg").getroot().iter("{http://www.w3.org/2000/svg}g")
    painted = {str(group[0].text).partition(" ")[0]: group[1].get("class") for group in titles}
    assert painted["linklab_slow_down"] == "more3"
