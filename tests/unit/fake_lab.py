"""A lab whose guests are fake: everything of a run is real but QEMU and the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_guest import FakeGuest

from linklab.host.accel import Accel
from linklab.host.cache import Cached
from linklab.host.qemu import Qemu
from linklab.lab.kernel_reports import FiledReport
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot

MakeGuest = Callable[[str, int], FakeGuest]


def well(_kernel: str, _count: int) -> FakeGuest:
    """Return a guest whose kernel does everything right."""
    return FakeGuest()


@dataclass(frozen=True)
class FakeLab(Lab):
    """Boots the `FakeGuest` that `make` gives for a kernel and a number of interfaces.

    The number is the last word of the console's name; 0 where that is none.
    """

    make: MakeGuest = well
    booted: list[tuple[str, int]] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)  # what each guest draws its numbers from
    ignored: tuple[FiledReport, ...] = ()  # what each guest's kernel reports, and is known

    @property
    def running(self) -> int:
        """How many guests run now."""
        return len(self.booted) - len(self.ended)

    @contextmanager
    def session(self, subject: Subject, console_log: Path, draw: int = 0) -> Iterator[Any]:
        """Yield what the trials need of a session."""
        last = console_log.stem.rpartition("-")[2]
        guest = subject.name, int(last) if last.isdigit() else 0
        self.booted.append(guest)
        self.draws.append(draw)
        self.logs.append(console_log.name)
        console_log.write_text("booting\n")
        hello = SimpleNamespace(clocksource="tsc", clock_resolution=1e-9)
        machine = SimpleNamespace(pid=os.getpid(), spec=SimpleNamespace(captures=()))
        try:
            agent = self.make(*guest)
            yield SimpleNamespace(
                agent=agent,
                hello=hello,
                boot_seconds=0.4567891,
                machine=machine,
                ignored=self.ignored,
            )
        finally:
            self.ended.append(guest)


def lab_of(make: MakeGuest = well, accel: Accel = Accel.TCG, boot: Boot = Boot.DIRECT) -> FakeLab:
    """Return a lab with such guests."""
    return FakeLab(
        qemu=Qemu(Path("/usr/bin/qemu-system-x86_64"), "7.2.22"),
        accel=accel,
        boot=boot,
        machine=None,
        cpus=1,
        memory=256,
        initramfs=Cached("initramfs/ab/initramfs.cpio"),
        tsc_khz=None,
        boot_limit=60.0,
        image={"agent": "12", "initramfs": "34"},
        make=make,
    )


def subject(name: str) -> Subject:
    """Return a kernel of the lab's own."""
    return Subject(
        name,
        "6.12.0",
        "0" * 64,
        Cached(f"kernel/{name}/vmlinux"),
        known=True,
        inputs={"config": "ab"},
    )
