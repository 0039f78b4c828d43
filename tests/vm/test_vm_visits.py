"""A second terminal in a real guest, and a guest that is kept when it has failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from guests import INVOKE, LIMIT, Invoke, Opener, soon

from linklab.errors import KernelCrashed, LinklabError, WrongState
from linklab.host.guests import RunningGuest
from linklab.lab.lab import Lab
from linklab.paths import ROOT

pytestmark = pytest.mark.vm


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def spawn(*words: str) -> pexpect.spawn:
    return pexpect.spawn(
        INVOKE, list(words), cwd=str(ROOT), timeout=LIMIT, encoding="latin-1", env=os.environ
    )


def test_a_guest_at_work_can_be_looked_at_and_taken_over(invoke: Invoke, tmp_path: Path) -> None:
    work = ("--kernel", "nosysfs", "--counts", "1000", "--arms", "process", "--repeat", "50")
    run = spawn("run", *work, "--output", str(tmp_path / "run"))
    person = None
    try:
        _wait_for(tmp_path / "run" / "samples.jsonl")
        assert "nosysfs-1000" in invoke("guests").stdout
        person = spawn("shell", "--guest", "nosysfs-1000")
        person.expect("you look on")
        person.send("reboot\r")  # goes nowhere
        person.expect("you look on")
        person.send("\x01t")
        person.expect("the guest is yours")
        person.send("\r")
        person.expect("# ")
        person.send("ip link show | wc -l; poweroff\r")
        person.expect(r"\n2\d\d\d\r")  # two lines each
        person.expect("the guest has ended")
        run.expect("verdict: interrupted")
        run.expect(pexpect.EOF)
        run.wait()
        assert run.exitstatus == 130
    finally:
        run.close(force=True)
        if person is not None:
            person.close(force=True)


def _wait_for(path: Path) -> None:
    until = soon()
    while not path.exists():
        assert soon(0) < until, f"{path} never came to be"
        time.sleep(0.02)


class Person:
    """Looks at a guest that is kept, on a terminal of his own."""

    def __init__(self, *typed: tuple[str, str]) -> None:
        self.typed = typed
        self.seen = ""

    @contextmanager
    def __call__(
        self, guest: RunningGuest, verdict: LinklabError
    ) -> Iterator[subprocess.Popen[bytes]]:
        typed = (word for pair in self.typed for word in pair)
        words = [sys.executable, __file__, str(guest.console), *typed]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            yield process
            assert process.stdout is not None
            self.seen = process.stdout.read().decode("latin-1")
        assert process.returncode == 0, self.seen


def look(console: str, *typed: str) -> None:
    """Type, each when a text has come."""
    visitor = pexpect.spawn(
        sys.executable,
        ["-m", "linklab.lab.console_access", console],
        cwd=str(ROOT),
        timeout=LIMIT,
        encoding="latin-1",
    )
    visitor.logfile_read = sys.stdout
    for text, keys in zip(typed[::2], typed[1::2], strict=True):
        visitor.expect_exact(text)
        visitor.send(keys)
    visitor.expect(pexpect.EOF)


def test_a_guest_in_a_wrong_state_is_kept_with_a_shell(guest: Opener, lab: Lab) -> None:
    person = Person(("is yours", "\r"), ("# ", "id\r"), ("uid=0", "\x01x"))
    with pytest.raises(WrongState), guest(with_lab=replace(lab, hold=person)):
        raise WrongState("t7 has mtu 1500 instead of 1400")
    assert "gid=0(root)" in person.seen  # a static busybox knows no name for the user


def test_a_kernel_that_panicked_stays_and_lets_gdb_in(guest: Opener, lab: Lab) -> None:
    person = Person(("end Kernel panic", ""), ("is yours", "\x01g"), ("target remote", "\x01x"))
    with (
        pytest.raises(KernelCrashed, match="sysrq triggered crash"),
        guest(with_lab=replace(lab, hold=person)) as session,
    ):
        session.agent.write_file("/proc/sysrq-trigger", b"c", soon())
    assert "gdb can attach: gdb vmlinux -ex 'target remote /" in person.seen


if __name__ == "__main__":
    look(*sys.argv[1:])
