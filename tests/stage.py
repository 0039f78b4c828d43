"""A fake QEMU on stage, and a session with it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linklab.console.report import NO_NOISE, Noise
from linklab.errors import LinklabError
from linklab.host.accel import Accel
from linklab.lab.session import Session, open_session
from linklab.machine.commandline import AGENT_PATH
from linklab.machine.spec import Clock, DirectBoot, IsoBoot, MachineSpec

FAKE_QEMU = Path(__file__).parent / "process" / "fake_qemu.py"

PANIC = (
    "[    2.100000] BUG: kernel NULL pointer dereference, address: 0000000000000010\r\n"
    "[    2.100001] Oops: Oops: 0000 [#1] SMP\r\n"
    "[    2.100002] RIP: 0010:rtnl_setlink+0x12/0x1230\r\n"
    "[    2.100003] Kernel panic - not syncing: Fatal exception\r\n"
)
WARNING = (
    "[    2.100000] ------------[ cut here ]------------\r\n"
    "[    2.100001] WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009 free_netdev+0x1a3/0x1f0\r\n"
    "[    2.100002] ---[ end trace 0000000000000000 ]---\r\n"
)
SOFT_LOCKUP = "[   30.100000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:51]\r\n"
DEVICE_LEAK = (
    "[   49.036187] unregister_netdevice: waiting for ll10000 to become free. Usage count = 14\r\n"
)

REQUEST_LIMIT = 20.0
SHORT = 0.5


class Stage:
    """What a test has on stage: a fake QEMU, and the log of its console."""

    def __init__(self, folder: Path, clock: Clock = Clock.REAL) -> None:
        self.clock = clock
        self.log = folder / "console.log"
        self._play = folder / "play.json"
        self.qemu = folder / "qemu-system-x86_64"
        program = shlex.quote(str(FAKE_QEMU))
        self.qemu.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -SE {program} "$@"\n')
        self.qemu.chmod(0o755)

    def spec(self, **play: Any) -> MachineSpec:
        self._play.write_text(json.dumps(play))
        words = ("console=ttyS0", f"rdinit={AGENT_PATH}", f"play={self._play}")
        boot = DirectBoot(Path("/bzImage"), Path("/initramfs"), words)
        return MachineSpec(boot, Accel.TCG, clock=self.clock)

    @contextmanager
    def session(
        self,
        boot_limit: float = 30,
        noise: Noise = NO_NOISE,
        private: bool = True,
        **play: Any,
    ) -> Iterator[Session]:
        """`private`: the agent is process 1, so no program can write to the console."""
        spec = self.spec(**play)
        if not private:
            spec = replace(spec, boot=_without_init(spec.boot))
        with open_session(self.qemu, spec, self.log, boot_limit, noise=noise) as opened:
            yield opened

    def verdict_at(self, when: str, actions: list[list[Any]]) -> LinklabError:
        """As `verdict`, for actions at a stage that varies."""
        return self.verdict(**{when: actions})  # type: ignore[arg-type]

    def verdict(self, boot_limit: float = 30, **play: Any) -> LinklabError:
        """Boot, ask for a file, and power off; return how that goes wrong."""
        error = self.error(boot_limit, **play)
        assert str(self.log) in error.evidence, "where the log is must be said"
        return error

    def error(self, boot_limit: float = 30, **play: Any) -> LinklabError:
        """As `verdict`, of the lab itself."""
        with (
            pytest.raises(LinklabError) as caught,
            self.session(boot_limit, **play) as opened,
        ):
            ask(opened)
        return caught.value


def _without_init(boot: DirectBoot | IsoBoot) -> DirectBoot:
    assert isinstance(boot, DirectBoot)
    words = tuple(word for word in boot.command_line if not word.startswith("rdinit="))
    return replace(boot, command_line=words)


def ask(session: Session, seconds: float = REQUEST_LIMIT) -> bytes:
    return session.agent.read_file("/etc/x", time.monotonic() + seconds)
