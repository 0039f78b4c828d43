"""Parts without guests, for workers: what comes of them was made up before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from linklab.agent.replies import JobNews, Measure
from linklab.commands import selftest as command
from linklab.commands.kernels import KernelOptions
from linklab.commands.selftest import Prepared, SelftestOptions
from linklab.errors import Verdict
from linklab.host.accel import Accel
from linklab.host.cache import Cached
from linklab.host.qemu import find_qemu
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.results.shape import Cell
from linklab.selftests.catalogue import Collection, Selftest
from linklab.selftests.workplan import Ready, Wanted
from linklab.trials.engine import Batch, Event
from linklab.trials.guest import Trial
from linklab.trials.plan import GuestSlot, Plan, Turn

KERNELS = ("a", "b")
COLLECTION = Collection("net", (), (), (), (), ())
KERNEL = KernelOptions("sysfs")
AnyLab = TypeVar("AnyLab", bound=Lab)


@dataclass(frozen=True)
class Made(Batch):
    """Each trial takes `seconds`; those of the blocks in `poison` end their worker."""

    seconds: float = 0.0
    poison: frozenset[int] = frozenset()
    bulk: int = 0  # bytes in each console's log
    skewed: str = ""  # a host's variable that, where it is set, makes its figures others

    def events(self, folder: Path) -> Iterator[Event]:
        for slot in dict.fromkeys(turn.slot for turn in self.turns):
            (folder / self.consoles[slot]).write_text(
                f"{slot.kernel} {os.getppid()}\n" + " " * self.bulk
            )
        for turn in self.turns:
            if turn.number in self.poison:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            time.sleep(self.seconds)
            value = 0.001 * turn.number * (2 if self.skewed and os.environ.get(self.skewed) else 1)
            trial = Trial(turn.cell, turn.number, {"seconds": value})
            yield self.sample(turn.slot, trial, turn.number)


def made_of(
    blocks: int,
    seconds: float = 0.0,
    poison: frozenset[int] = frozenset(),
    image: str = "initramfs/0/initramfs.cpio",
    clock: Clock = Clock.VIRTUAL,
    skewed: str = "",
    bulk: int = 0,
) -> Made:
    """A comparison of two kernels in so many blocks."""
    cell = Cell({"operation": "mtu", "arm": "group", "interfaces": 16})
    setup = Cell({"interfaces": 16})
    plan = Plan("grouping", (cell,), jobs=2)
    lab = _lab_of(Lab, image, clock)
    turns = [
        Turn(GuestSlot(2 * block + at, kernel, setup), cell, block)
        for block in range(1, blocks + 1)
        for at, kernel in enumerate(KERNELS)
    ]
    subjects = {k: Subject(k, "6.12", "0" * 64, Cached(image), known=True) for k in KERNELS}
    consoles = {turn.slot: f"console-{turn.slot.number:03}.log" for turn in turns}
    return Made(lab, plan, subjects, turns, {}, consoles, seconds, poison, bulk, skewed)


def _lab_of(kind: type[AnyLab], image: str, clock: Clock) -> AnyLab:
    direct, qemu = Boot.DIRECT, find_qemu()
    return kind(qemu, Accel.TCG, direct, None, 1, 64, Cached(image), None, 60.0, clock=clock)


# Self-tests


@dataclass(frozen=True)
class Scripted(Lab):
    """Its guests do as a self-test's name says: see `Agent`."""

    @contextmanager
    def session(self, _subject: Subject, console_log: Path, draw: int = 0) -> Iterator[Any]:
        """Yield what a self-test needs of a session."""
        console_log.write_text(f"{draw} {os.getppid()}\n")
        yield SimpleNamespace(agent=Agent(draw))


@dataclass(frozen=True)
class Agent:
    """Runs tests: of the first attempt at a flaky one it says that it failed."""

    draw: int

    def follow_job(self, argv: Sequence[str], *_limits: object) -> JobNews:
        """Do what the test's name says."""
        name = argv[-1]
        if name.startswith("poison"):
            os.kill(os.getppid(), signal.SIGKILL)
        if name.startswith(("poison", "long")):
            time.sleep(60)
        time.sleep(0.2)
        fails = name.startswith("bad") or (name.startswith("flaky") and not self.draw)
        output = f"{name} in {os.getppid()}\n".encode()
        return JobNews(output, Measure(1.0, 1, 1, 0, 1, 0), int(fails) << 8)


def self_tests(names: Sequence[str]) -> Prepared:
    """Return a collection of self-tests that is ready to be run."""
    tests = tuple(Selftest(COLLECTION, name) for name in names)
    wanted = Wanted((), "net/config")
    ready = Ready(COLLECTION, tests, wanted, None, lacking={name: {} for name in names})
    image = "initramfs/0/initramfs.cpio"
    subject = Subject("a", "6.12", "0" * 64, Cached(image), known=True)
    lab = _lab_of(Scripted, image, Clock.VIRTUAL)
    return Prepared(ready, subject, lab, "tree", "net/config", ())


def run_self_tests(names: Sequence[str], **options: Any) -> Verdict:
    """Run them as `invoke selftest` does."""
    command.prepare = lambda *_words: [self_tests(names)]
    words = ["invoke", "selftest", "net"]
    return command.main(SelftestOptions(tests="net", kernels=KERNEL, **options), words)
