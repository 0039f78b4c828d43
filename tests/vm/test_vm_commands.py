"""The commands as a user types them, on real kernels and guests."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pexpect
import pytest
from documented import documented_scenario
from guests import INVOKE, LIMIT, Invoke
from processes import descendant_named

from linklab.host.cache import hash_file
from linklab.paths import ROOT
from linklab.scenarios.grouping import Grouping
from linklab.trials.plan import cells_of

pytestmark = pytest.mark.vm

EVERYTHING = {axis.name: axis.among or (4,) for axis in Grouping.shape.axes}
POSSIBLE = len(cells_of(Grouping, EVERYTHING))


def test_run_measures_and_verifies_everything_on_both_kernels(
    invoke: Invoke, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = invoke(
        *("run", "--counts", "4,9", "--operations", "all", "--arms", "all"),
        *("--output", str(out), "--json"),
    )
    assert done.status == 0, done.stderr
    document = done.document
    assert document["run"]["verdict"] == "pass"
    samples = document["samples"]
    assert len(samples) == 2 * 2 * (POSSIBLE + 1)
    assert all(sample["verified"] and sample["seconds"] > 0 for sample in samples)
    assert {s["kernel"] for s in samples} == {"sysfs", "nosysfs"}
    assert [s["order"] for s in samples] == list(range(len(samples)))
    by_process = [s for s in samples if s["arm"] == "process"]
    assert all(s["processes"] == s["interfaces"] for s in by_process)
    assert len(list(out.glob("console-*.log"))) == 4
    assert "without sysfs" in (out / "table.txt").read_text()


def test_the_scenario_of_the_docs_is_measured(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "sysctl.py"
    path.write_text(documented_scenario())
    done = invoke(
        *("run", "--scenario", str(path), "--kernel", "nosysfs", "--axis", "reads=5,20"),
        *("--boot", "resume", "--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = done.document["samples"]
    assert {(s["arm"], s["reads"]) for s in samples} == {
        (arm, reads) for arm in ("cat", "dd") for reads in (5, 20)
    }
    assert all(s["rate"] > 0 and s["lost"] == 0 for s in samples)


def test_run_from_the_iso_with_the_table_on_the_terminal(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke(
        *("run", "--kernel", "nosysfs", "--counts", "3,6", "--boot", "iso"),
        *("--output", str(tmp_path / "run")),
    )
    assert done.status == 0, done.stderr
    assert re.search(r"^ *6 +\d", done.stdout, re.MULTILINE)
    assert "iso boot" in done.stdout
    assert "verdict: pass" in done.stdout


def test_killed_lab_leaves_no_qemu_and_its_samples_readable(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [INVOKE, "run", "--kernel", "nosysfs", "--counts", "400", "--output", str(out)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as lab:
        _wait_until((out / "samples.jsonl").exists)
        qemu = descendant_named(lab.pid, "qemu-system")
        lab.kill()
    _wait_until(lambda: not Path(f"/proc/{qemu}").exists())
    lines = (out / "samples.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["operation"] == "create"
    assert json.loads((out / "run.json").read_text())["verdict"] is None


def test_interrupted_lab_says_so_and_keeps_its_samples(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [INVOKE, "run", "--kernel", "nosysfs", "--counts", "400", "--output", str(out)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as lab:
        _wait_until((out / "samples.jsonl").exists)
        qemu = descendant_named(lab.pid, "qemu-system")
        lab.send_signal(signal.SIGINT)
        assert lab.wait(LIMIT) == 130
    _wait_until(lambda: not Path(f"/proc/{qemu}").exists())
    assert json.loads((out / "run.json").read_text())["verdict"] == "interrupted"


def test_iso_is_the_same_to_the_byte_and_small(invoke: Invoke, tmp_path: Path) -> None:
    hashes = set()
    for name in ("one.iso", "two.iso"):
        done = invoke("build-iso", "--kernel", "nosysfs", "--output", str(tmp_path / name))
        assert done.status == 0, done.stderr
        assert "busybox" in done.stdout
        hashes.add(hash_file(tmp_path / name))
    assert len(hashes) == 1
    # 4.5 MB on Debian 12; on 13 libraries stand in for what `ip` loads and never uses.
    assert (tmp_path / "one.iso").stat().st_size <= 5_000_000


def test_iso_with_two_kernels_offers_both_and_boots_the_one_chosen(
    invoke: Invoke, tmp_path: Path
) -> None:
    iso = tmp_path / "both.iso"
    done = invoke("build-iso", "--kernel", "sysfs,nosysfs", "--output", str(iso))
    assert done.status == 0, done.stderr
    qemu = [
        "-M",
        "pc",
        "-accel",
        "tcg",
        "-m",
        "256",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]
    words = [*qemu, "-cdrom", str(iso), "-boot", "d", "-serial", "stdio"]
    console = pexpect.spawn("qemu-system-x86_64", words, timeout=LIMIT, encoding="latin-1")
    try:
        console.expect("nosysfs")
        console.send("\x1b[B\r")  # down, return
        _use_shell(console)
        console.sendline("ls -d /sys/class; poweroff")
        console.expect("No such file")
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)


def test_shell_gives_a_person_the_real_ip(tmp_path: Path) -> None:
    console = pexpect.spawn(
        INVOKE, ["shell", "--kernel", "sysfs"], cwd=str(ROOT), timeout=LIMIT, encoding="latin-1"
    )
    try:
        _use_shell(console)
        console.sendline("poweroff")
        console.expect(pexpect.EOF)
        console.wait()
        assert console.exitstatus == 0
    finally:
        console.close(force=True)


def test_a_persons_shell_knows_his_window_and_ends_the_guest() -> None:
    words = ["shell", "--kernel", "nosysfs"]
    console = pexpect.spawn(
        INVOKE, words, cwd=str(ROOT), timeout=LIMIT, encoding="latin-1", dimensions=(33, 101)
    )
    try:
        console.expect("# ")
        _expect_window(console, "33 101")
        console.setwinsize(40, 120)
        _expect_window(console, "40 120")
        console.sendline("sh")  # one within is a matter of its own
        console.expect("# ")
        console.sendline("exit")
        _expect_window(console, "40 120")
        console.sendline("exit")
        console.expect(pexpect.EOF)
        console.wait()
        assert console.exitstatus == 0
    finally:
        console.close(force=True)


def test_a_person_goes_from_host_to_host() -> None:
    words = ["shell", "--kernel", "nosysfs", "--topology", "a -- r -- b: 10mbit 20ms"]
    console = pexpect.spawn(INVOKE, words, cwd=str(ROOT), timeout=LIMIT, encoding="latin-1")
    try:
        console.expect("10mbit 20ms")
        console.expect("the hosts are there: a r b")
        console.sendline("")
        console.expect("# ")
        console.sendline("a ping -c 1 b")
        console.expect(r"time=(\d+)\.\d+ ms")
        assert int(console.match[1]) >= 80  # two links, there and back
        console.expect("# ")
        console.sendline("b")
        console.expect("b .*# ")
        console.sendline("exit")
        console.expect("# ")
        console.sendline("exit")
        console.expect(pexpect.EOF)
        console.wait()
        assert console.exitstatus == 0
    finally:
        console.close(force=True)


def _expect_window(console: pexpect.spawn, size: str) -> None:
    """See that the console gets a size, soon: the agent tells it beside the shell."""
    console.sendline(f"until stty size | grep -x '{size}'; do sleep 0.1; done")
    console.expect(rf"\n{size}\r")
    console.expect("# ")


def _use_shell(console: pexpect.spawn) -> None:
    """Group an interface at the prompt: busybox's own `ip` could not."""
    console.expect("# ")
    console.sendline(
        "ip link add d7 type dummy && ip link set dev d7 group 7; ip -d link show group 7"
    )
    console.expect(r"d7: .*mtu 1500")
    console.expect("# ")


def _wait_until(holds: object) -> None:
    assert callable(holds)
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.02)
