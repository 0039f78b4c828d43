"""Where guests work: in this process one job after the other, or in processes side by side.

A session blocks while its guest works, and children must be started by the
main thread of whoever lives as long as they may (`host.run.die_with_parent`).
So each guest that works beside others has a process of its own, a fork of this
one, which does one job at a time and sends what came of it. This process alone
writes results. A worker ends with this process and takes its QEMU with it, even
if this process is killed with SIGKILL.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from linklab.entry import ENDING
from linklab.errors import MachineLost
from linklab.host.run import die_with_parent
from linklab.trials.guest import Answer, Close, Cores, GuestAtWork, Job, Open
from linklab.trials.plan import GuestSlot

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_END_LIMIT = 5.0  # s for a worker whose guest has ended


Make = Callable[[GuestSlot], GuestAtWork]


class Place(Protocol):
    """Where guests work. A context manager: no guest outlives it."""

    def begin(self, slot: GuestSlot, job: Job, cores: Cores | None) -> None:
        """Give an idle guest a job, to be done on these CPUs."""

    def wait(self) -> tuple[GuestSlot, Answer]:
        """Return what came of a job that was begun, whichever is done first."""

    def drop(self, slot: GuestSlot) -> None:
        """End a guest at once, whatever it does; its answer is not waited for."""

    def __enter__(self) -> Place: ...

    def __exit__(self, *_exception: object) -> None: ...


class Here:
    """Guests of this very process: one job after the other."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._guests: dict[GuestSlot, GuestAtWork] = {}
        self._answers: list[tuple[GuestSlot, Answer]] = []

    def begin(self, slot: GuestSlot, job: Job, cores: Cores | None) -> None:
        """Do the job."""
        if isinstance(job, Open):
            self._guests[slot] = self._make(slot)
        answer = self._guests[slot].do(job, cores)
        if answer.error is not None or isinstance(job, Close):
            del self._guests[slot]
        self._answers.append((slot, answer))

    def wait(self) -> tuple[GuestSlot, Answer]:
        """Return what came of the job done first."""
        return self._answers.pop(0)

    def drop(self, slot: GuestSlot) -> None:
        """End a guest at once."""
        guest = self._guests.pop(slot, None)
        if guest is not None:
            guest.drop()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_exception: object) -> None:
        for slot in list(self._guests):
            self.drop(slot)


class Processes:
    """Guests of processes of their own. A context manager: none outlives it."""

    def __init__(self, make: Make) -> None:
        self._make = make
        import multiprocessing  # takes a while to import, and few need it

        self._context = multiprocessing.get_context("fork")
        self._workers: dict[GuestSlot, tuple[BaseProcess, Connection]] = {}

    def begin(self, slot: GuestSlot, job: Job, cores: Cores | None) -> None:
        """Send a job to the guest's worker, which is started for its first one."""
        if slot not in self._workers:
            self._workers[slot] = self._start(slot)
        with suppress(OSError):  # the worker may be gone, and `wait` will say so
            self._workers[slot][1].send((job, cores))

    def wait(self) -> tuple[GuestSlot, Answer]:
        """Return what came of a job, whichever is done first."""
        from multiprocessing.connection import Connection, wait

        slots = {connection: slot for slot, (_, connection) in self._workers.items()}
        ready = wait(list(slots))[0]
        assert isinstance(ready, Connection)
        slot = slots[ready]
        try:
            answer, last = ready.recv()
        except (EOFError, OSError):
            worker = self._workers[slot][0]
            self.drop(slot)
            guest = ", ".join((slot.kernel, *(f"{name} {at}" for name, at in slot.setup.items())))
            text = f"the process that drives {guest}, was killed"
            return slot, Answer(error=MachineLost(f"{text} (exit status {worker.exitcode})"))
        if last:
            worker, connection = self._workers.pop(slot)
            worker.join(_END_LIMIT)
            _end(worker, connection)
        return slot, answer

    def drop(self, slot: GuestSlot) -> None:
        """Kill a worker; its QEMU dies with it."""
        if slot in self._workers:
            _end(*self._workers.pop(slot))

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_exception: object) -> None:
        for slot in list(self._workers):
            self.drop(slot)

    def _start(self, slot: GuestSlot) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        prepare = die_with_parent()
        arguments = (self._make, slot, theirs, prepare)
        worker = self._context.Process(target=_work, args=arguments)
        worker.start()
        theirs.close()
        return worker, ours


def _end(worker: BaseProcess, connection: Connection) -> None:
    worker.kill()
    worker.join()
    connection.close()


def _work(
    make: Make,
    slot: GuestSlot,
    line: Connection,
    prepare: Callable[[], None],
) -> None:
    """Do what comes down the line, to the guest's end. Never returns."""
    # Ctrl-C is for the process that started us, and it ends us.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    prepare()
    status = 1
    try:
        guest = make(slot)
        last = False
        while not last:
            job, cores = line.recv()
            answer = guest.do(job, cores)
            last = isinstance(job, Close) or answer.error is not None
            line.send((answer, last))
        status = 0
    except (EOFError, OSError):
        pass  # nobody listens any more
    finally:
        # Not `exit`: what the other process had not yet written is not ours to write.
        os._exit(status)
