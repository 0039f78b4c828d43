"""A guest under gdb, with a fake QEMU and a fake gdb that are real processes."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from processes import wait_until_gone
from stage import Stage

from linklab.errors import LabError, MachineLost
from linklab.host.guests import find_guest, running_guests
from linklab.lab.debugger import Debugging, debug

pytestmark = pytest.mark.process

# Says what it was called with and which QEMU runs, then does as it is told.
GDB = """#!/bin/sh
while [ "$1" != -x ]; do shift; done
cat "$2" > "$SAID"
echo "$3" >> "$SAID"
pgrep -f "play=$PLAY" | head -n 1 > "$SAID.qemu"
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the fake gdb writes what it was called with."""
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("PLAY", str(tmp_path / "play.json"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "said"


def debugged(stage: Stage, folder: Path, gdb: str, limit: float = 30.0, **play: object) -> None:
    program = folder / "gdb"
    program.write_text(GDB + gdb)
    program.chmod(0o755)
    what = Debugging(Path("/vmlinux"), commands=("continue",), limit=limit)
    debug(stage.qemu, stage.spec(**play), what, stage.log)


def test_gdb_gets_the_socket_and_the_guest_ends_with_it(
    stage: Stage, tmp_path: Path, said: Path
) -> None:
    debugged(stage, tmp_path, "exit 0\n")
    words = said.read_text().splitlines()
    (target,) = [word for word in words if word.startswith("target remote ")]
    assert words[-1] == "/vmlinux"
    assert not Path(target.split()[2]).exists()
    wait_until_gone(int(said.with_name("said.qemu").read_text()))


def test_the_console_is_read_and_kept_meanwhile(stage: Stage, tmp_path: Path, said: Path) -> None:
    flood = [["hello", 1], ["flood beside", 0, 20_000]]
    debugged(stage, tmp_path, "sleep 2\n", boot=flood)
    assert b"for the 19999. time" in stage.log.read_bytes()


def test_gdb_that_fails_is_told(stage: Stage, tmp_path: Path, said: Path) -> None:
    with pytest.raises(LabError, match="gdb ended with status 3"):
        debugged(stage, tmp_path, "exit 3\n")


def test_commands_that_come_to_no_end_are_ended(stage: Stage, tmp_path: Path, said: Path) -> None:
    with pytest.raises(LabError, match="did not come to the end of its commands"):
        debugged(stage, tmp_path, "exec sleep 600\n", limit=0.5)


def test_qemu_that_does_not_come_up_is_a_lost_machine(
    stage: Stage, tmp_path: Path, said: Path
) -> None:
    words = "qemu-system-x86_64: no memory"
    with pytest.raises(MachineLost, match=words):
        debugged(stage, tmp_path, "exit 0\n", boot=[["stderr", words], ["exit", 1]])
    assert not said.exists()


def test_qemu_that_does_not_listen_is_a_lost_machine(
    stage: Stage, tmp_path: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linklab.lab.debugger._SOCKET_LIMIT", 0.3)
    with pytest.raises(MachineLost, match="did not listen for gdb"):
        debugged(stage, tmp_path, "exit 0\n", boot=[["hang"]])


def test_gdb_outlives_qemu_and_the_lab_waits_for_it(
    stage: Stage, tmp_path: Path, said: Path
) -> None:
    debugged(stage, tmp_path, "sleep 1\n", boot=[["hello", 1], ["close", "console"]])
    assert said.exists()


def test_its_console_is_a_persons_at_another_terminal(
    stage: Stage, tmp_path: Path, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    seen: list[bytes] = []

    def visit_it() -> None:
        until = time.monotonic() + 20
        while not running_guests():
            assert time.monotonic() < until
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(20)
            visitor.connect(str(find_guest("gdb").console))
            seen.append(visitor.recv(4096))

    person = threading.Thread(target=visit_it)
    person.start()
    debugged(stage, tmp_path, "sleep 2\n")
    person.join(20)
    assert b"the guest is yours" in seen[0]
