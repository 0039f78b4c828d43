"""Guests that really run under KVM: the commands as a user types them, and what goes wrong.

Where this machine's KVM runs no guest, `invoke test --only kvm` lets this file
run in a guest of the lab's own whose CPU, emulated, has what KVM needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import descendant_named, wait_until_gone

from linklab.paths import ROOT

pytestmark = pytest.mark.kvm

INVOKE = str(Path(sys.executable).with_name("invoke"))
LIMIT = 900.0  # s; where KVM is itself emulated an ISO takes 20 s to boot on an idle host
BOTH = ("sysfs", "nosysfs")
GUEST_ENDED = 1
LAB_FAILED = 3


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INVOKE, *words], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@contextmanager
def command(script: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a guest, once it has printed its first line."""
    words = [INVOKE, "exec", "--accel", "kvm", "--kernel", "nosysfs", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as lab:
        try:
            assert lab.stdout is not None
            assert lab.stdout.readline() == "here\n"
            yield lab
        finally:
            if lab.poll() is None:
                lab.terminate()


def test_the_doctor_says_that_kvm_runs_a_guest() -> None:
    (row,) = (row for row in map(str.split, invoke("doctor").stdout.splitlines()) if "KVM" in row)
    assert row[:2] == ["KVM", "found"]


@pytest.mark.parametrize("boot", ["direct", "iso", "resume"])
def test_run_measures_on_both_kernels(tmp_path: Path, boot: str) -> None:
    done = invoke(
        *("run", "--accel", "kvm", "--boot", boot, "--kernel", ",".join(BOTH)),
        *("--counts", "16,64", "--output", str(tmp_path / "run"), "--json"),
    )
    print(done.stderr)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    run = document["run"]
    assert (run["verdict"], run["accel"], run["clock"]) == ("pass", "kvm", "real")
    measured = {
        (s["kernel"], s["arm"], s["interfaces"])
        for s in document["samples"]
        if s["operation"] == "mtu"
    }
    assert measured == {(k, arm, n) for k in BOTH for arm in ("group", "process") for n in (16, 64)}


def test_compare_finds_what_sysfs_costs(tmp_path: Path) -> None:
    """Creating interfaces is the one thing that the two kernels do not do alike."""
    done = invoke(
        *("compare", "nosysfs", "sysfs", "--accel", "kvm", "--boot", "resume", "--blocks", "6"),
        *("--cell", "operation=create,arm=netlink,interfaces=64", "--output", str(tmp_path / "c")),
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 1, "a kernel that is slower fails"
    assert "slower" in done.stdout
    assert json.loads((tmp_path / "c" / "run.json").read_text())["accel"] == "kvm"


def test_a_panic_is_a_crash() -> None:
    with command("echo here; sleep 2; echo c > /proc/sysrq-trigger; sleep 600") as lab:
        _, said = lab.communicate(timeout=LIMIT)
    assert lab.returncode == GUEST_ENDED
    assert "crash:" in said
    assert "sysrq triggered crash" in said


def test_a_command_that_never_ends_is_a_hang() -> None:
    done = invoke(
        *("exec", "--accel", "kvm", "--kernel", "nosysfs", "--timeout", "5"),
        "mkfifo /tmp/never; cat /tmp/never",
    )
    assert done.returncode == GUEST_ENDED
    assert "hang:" in done.stderr


def test_qemu_that_is_killed_is_no_fault_of_the_kernel() -> None:
    with command("echo here; sleep 600") as lab:
        os.kill(descendant_named(lab.pid, "qemu-system"), signal.SIGKILL)
        _, said = lab.communicate(timeout=LIMIT)
    assert lab.returncode == LAB_FAILED
    assert "QEMU was killed by signal 9" in said


def test_a_lab_that_is_killed_leaves_no_guest() -> None:
    with command("echo here; sleep 600") as lab:
        qemu = descendant_named(lab.pid, "qemu-system")
        lab.kill()
        wait_until_gone(qemu, seconds=60)
