"""A terminal that was lent, to QEMU, to gdb, to a visitor: as it was, whatever ends the lab."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from linklab.commands.exit_status import status_of
from linklab.commands.guests import hold_here
from linklab.commands.shell import attend
from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.accel import Accel
from linklab.host.guests import RunningGuest
from linklab.lab.debugger import Debugging, debug
from linklab.machine.spec import DirectBoot, MachineSpec, TerminalPort
from linklab.paths import ROOT

pytestmark = pytest.mark.process

LIMIT = 60.0
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT]

# As QEMU does: raw, and not blocking. As QEMU does not: it leaves it so.
RUDE = f"""#!{sys.executable} -SE
import os, signal, sys, time, tty
for word in sys.argv:
    if word.startswith("unix:"):  # QEMU, for gdb
        open(word[5:].partition(",")[0], "w").close()
        time.sleep(60)
tty.setraw(0)
os.set_blocking(0, False)
os.write(1, b"it is mine\\n")
time.sleep(60)
"""


@dataclass
class Window:
    """A person's terminal, and what was shown on it."""

    master: int
    slave: int
    shown: bytes = b""
    at_first: object = field(init=False)

    def __post_init__(self) -> None:
        self.at_first = self.state

    @property
    def state(self) -> object:
        return termios.tcgetattr(self.slave), fcntl.fcntl(self.slave, fcntl.F_GETFL)

    def begin(self, folder: Path, who: str) -> subprocess.Popen[bytes]:
        """Start this file at the terminal, in front."""
        return subprocess.Popen(
            [sys.executable, __file__, who, str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{folder}:{os.environ['PATH']}"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def wait_for(self, text: bytes) -> None:
        until = time.monotonic() + LIMIT
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 4096)


@pytest.fixture
def window() -> Iterator[Window]:
    master, slave = pty.openpty()
    yield Window(master, slave)
    os.close(master)
    os.close(slave)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a rude QEMU, and a gdb that is no better."""
    for name in ("qemu-system-x86_64", "gdb"):
        (tmp_path / name).write_text(RUDE)
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("who", "number"),
    [
        (who, number)
        for who in ("shell", "gdb", "kept")
        for number in SIGNALS
        if (who, number) != ("gdb", signal.SIGINT)  # that is gdb's, to stop the guest by
    ],
)
def test_a_terminal_that_was_lent_is_as_it_was_after_a_signal(
    who: str, number: signal.Signals, window: Window, folder: Path
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    lab = window.begin(folder, who)
    try:
        window.wait_for(b"it is mine")
        assert window.state != window.at_first
        lab.send_signal(number)
        assert lab.wait(LIMIT) == 130
        assert window.state == window.at_first
    finally:
        lab.kill()
        lab.wait()


def test_a_terminal_is_as_it_was_after_a_program_that_failed(window: Window, folder: Path) -> None:
    rude = RUDE.replace("time.sleep(60)\n", "sys.exit('that is all')\n")
    (folder / "qemu-system-x86_64").write_text(rude)
    lab = window.begin(folder, "shell")
    window.wait_for(b"it is mine")
    assert lab.wait(LIMIT) == 3
    window.wait_for(b"error: QEMU ended with status 1: that is all")
    assert window.state == window.at_first


# At the terminal


def work(who: str, folder: Path) -> None:
    qemu = folder / "qemu-system-x86_64"
    spec = MachineSpec(DirectBoot(Path("/bzImage"), Path("/initramfs")), Accel.TCG)
    if who == "shell":
        attend(qemu, replace(spec, console=TerminalPort()))
    elif who == "gdb":
        debug(qemu, spec, Debugging(Path("/vmlinux")), folder / "log")
    else:
        keep(folder)


def keep(folder: Path) -> None:
    """Hold a guest, whose console is a socket, for who sits here."""
    guest = RunningGuest("console", str(folder / "log"), os.getpid(), time.time(), folder)
    with socket.socket(socket.AF_UNIX) as console:
        console.bind(str(guest.console))
        console.listen()
        with hold_here(ignore)(guest, LabError("it failed")) as person:
            visitor, _ = console.accept()
            visitor.sendall(b"it is mine\r\n")
            person.wait()


if __name__ == "__main__":
    sys.exit(status_of(lambda: work(sys.argv[1], Path(sys.argv[2]))))
