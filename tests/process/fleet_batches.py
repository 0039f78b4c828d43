"""Batches without guests, for workers: they wait, and give samples that were made up before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linklab.host.accel import Accel
from linklab.host.cache import Cached
from linklab.host.qemu import find_qemu
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, Clock
from linklab.results.shape import Cell
from linklab.trials.engine import Batch, Event
from linklab.trials.guest import Trial
from linklab.trials.plan import GuestSlot, Plan, Turn

KERNELS = ("a", "b")


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
    lab = Lab(
        find_qemu(), Accel.TCG, Boot.DIRECT, None, 1, 64, Cached(image), None, 60.0, clock=clock
    )
    turns = [
        Turn(GuestSlot(2 * block + at, kernel, setup), cell, block)
        for block in range(1, blocks + 1)
        for at, kernel in enumerate(KERNELS)
    ]
    subjects = {k: Subject(k, "6.12", "0" * 64, Cached(image), known=True) for k in KERNELS}
    consoles = {turn.slot: f"console-{turn.slot.number:03}.log" for turn in turns}
    return Made(lab, plan, subjects, turns, {}, consoles, seconds, poison, bulk, skewed)
