"""`invoke profile` on a real kernel with a real perf in the guest."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from guests import Invoke

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
