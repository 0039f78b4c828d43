"""/init, run by the real busybox against a /proc and /dev made up for it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from linklab.host import run
from linklab.host.run import find_program
from linklab.image.userland import read_manifest
from linklab.templating import render

TWO_UARTS = "0: uart:16550A port:000003F8 irq:4\n1: uart:16550A port:000002F8 irq:3\n"
ONE_UART = "0: uart:16550A port:000003F8 irq:4\n1: uart:unknown port:000002F8 irq:3\n"
NO_UART = "0: uart:unknown port:000003F8 irq:4\n1: uart:unknown port:000002F8 irq:3\n"


@dataclass(frozen=True)
class Guest:
    """A folder that stands for the guest's root, and what its programs wrote down."""

    root: Path

    @property
    def terminals(self) -> list[str]:
        """The lines that /init added for busybox's init."""
        return (self.root / "etc/inittab").read_text().splitlines()

    @property
    def console(self) -> str:
        """What was said on the console, which is the last thing that happens to an agent."""
        return waited_for(self.root / "dev/console")

    @property
    def agent_port(self) -> str:
        """The port that the agent was started on; /init does not wait for it."""
        return waited_for(self.root / "agent-port").removeprefix(f"{self.root}/dev/")

    @property
    def has_no_agent(self) -> bool:
        time.sleep(0.2)
        return not (self.root / "agent-port").exists() and not self.console_now

    @property
    def console_now(self) -> str:
        return (self.root / "dev/console").read_text()


def waited_for(file: Path) -> str:
    """Return what a file holds as soon as it holds something."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"nothing came to {file}")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    for folder in ("bin", "dev", "etc", "proc/tty/driver"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dev/console").touch()
    for device in ("null", "tty1"):
        (tmp_path / "dev" / device).symlink_to("/dev/null")
    program(tmp_path, "mount", "exit 0")
    loads = f"[ $1 != --load-modules ] || exec {tmp_path}/bin/loader"
    program(tmp_path, "loader", "exit 0")
    program(tmp_path, "linklab-agent", f"{loads}; printf %s $1 >{tmp_path}/agent-port; exit 7")
    program(tmp_path, "busybox", f"printf %s $1 >{tmp_path}/init-started")
    return Guest(tmp_path)


def program(root: Path, name: str, script: str) -> None:
    (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (root / "bin" / name).chmod(0o755)


def boot(guest: Guest, serial: str | None = TWO_UARTS, command_line: str = "quiet") -> None:
    """Run /init to its end, which is where busybox's init takes over."""
    if serial is not None:
        ports = guest.root / "proc/tty/driver/serial"
        ports.write_text(f"serinfo:1.0 driver revision:\n{serial}")
    (guest.root / "proc/cmdline").write_text(f"{command_line}\n")
    script = render("init", **read_manifest().values)
    # A path begins a word; what is written down for busybox's init does not.
    script = re.sub(r'(?<=[\s"<>])/(bin|dev|etc|proc)/', rf"{guest.root}/\1/", script)
    script = script.replace("PATH=/bin:/sbin", f"PATH={guest.root}/bin")
    run.run([find_program("busybox", "-"), "sh", "-u", "-c", script], deadline=20)
    assert (guest.root / "init-started").read_text() == "init"


def test_the_agent_gets_the_second_port_and_a_person_the_first_and_the_screen(
    guest: Guest,
) -> None:
    boot(guest)

    assert guest.agent_port == "ttyS1"
    assert guest.terminals == ["ttyS0::respawn:-/bin/sh", "tty1::respawn:-/bin/sh"]


def test_the_end_of_the_agent_is_told_on_the_console(guest: Guest) -> None:
    boot(guest)

    assert guest.console == "linklab-init: the agent ended: status 7\n"


def test_a_module_that_does_not_load_leaves_a_shell_and_no_agent(guest: Guest) -> None:
    program(guest.root, "loader", "echo module hello did not load; exit 1")
    boot(guest)

    assert guest.console == "module hello did not load\n"
    assert not (guest.root / "agent-port").exists()
    assert guest.terminals == ["ttyS0::respawn:-/bin/sh", "tty1::respawn:-/bin/sh"]


def test_without_a_second_port_there_is_no_agent_and_no_word_of_it(guest: Guest) -> None:
    boot(guest, ONE_UART)

    assert guest.has_no_agent
    assert guest.terminals == ["ttyS0::respawn:-/bin/sh", "tty1::respawn:-/bin/sh"]


def test_without_any_port_the_screen_alone_has_a_shell(guest: Guest) -> None:
    boot(guest, NO_UART)

    assert guest.terminals == ["tty1::respawn:-/bin/sh"]


def test_without_a_screen_the_first_port_alone_has_a_shell(guest: Guest) -> None:
    (guest.root / "dev/tty1").unlink()
    boot(guest)

    assert guest.terminals == ["ttyS0::respawn:-/bin/sh"]


def test_the_kernels_command_line_may_give_the_agent_the_only_port(guest: Guest) -> None:
    boot(guest, ONE_UART, "console=tty0 linklab.port=ttyS0 quiet")

    assert guest.agent_port == "ttyS0"
    assert guest.terminals == ["tty1::respawn:-/bin/sh"]


def test_the_agent_may_have_a_port_that_is_no_serial_one(guest: Guest) -> None:
    (guest.root / "dev/vport0p1").symlink_to("/dev/null")
    boot(guest, ONE_UART, "linklab.port=vport0p1")

    assert guest.agent_port == "vport0p1"


def test_a_kernel_without_serial_ports_still_comes_to_its_shell(guest: Guest) -> None:
    boot(guest, serial=None)

    assert guest.has_no_agent
    assert guest.terminals == ["tty1::respawn:-/bin/sh"]
