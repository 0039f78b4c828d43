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
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from linklab.entry import ENDING
from linklab.errors import LabError, MachineLost
from linklab.host.run import die_with_parent
from linklab.trials.guest import Answer, Close, Cores, GuestAtWork, Job, Open
from linklab.trials.plan import Seat

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_END_LIMIT = 5.0  # s for a worker whose guest has ended


Make = Callable[[Seat], GuestAtWork]


class Place(Protocol):
    """Where guests work. A context manager: no guest outlives it."""

    def begin(self, seat: Seat, job: Job, cores: Cores | None) -> None:
        """Give an idle guest a job, to be done on these CPUs."""

    def wait(self) -> tuple[Seat, Answer]:
        """Return what came of a job that was begun, whichever is done first."""

    def drop(self, seat: Seat) -> None:
        """End a guest at once, whatever it does; its answer is not waited for."""

    def __enter__(self) -> Place: ...

    def __exit__(self, *_exception: object) -> None: ...


class Here:
    """Guests of this very process: one job after the other."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._guests: dict[Seat, GuestAtWork] = {}
        self._answers: list[tuple[Seat, Answer]] = []

    def begin(self, seat: Seat, job: Job, cores: Cores | None) -> None:
        """Do the job."""
        if isinstance(job, Open):
            self._guests[seat] = self._make(seat)
        answer = self._guests[seat].do(job, cores)
        if answer.error is not None or isinstance(job, Close):
            del self._guests[seat]
        self._answers.append((seat, answer))

    def wait(self) -> tuple[Seat, Answer]:
        """Return what came of the job done first."""
        return self._answers.pop(0)

    def drop(self, seat: Seat) -> None:
        """End a guest at once."""
        guest = self._guests.pop(seat, None)
        if guest is not None:
            guest.drop()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_exception: object) -> None:
        for seat in list(self._guests):
            self.drop(seat)


class Processes:
    """Guests of processes of their own. A context manager: none outlives it."""

    def __init__(self, make: Make) -> None:
        self._make = make
        import multiprocessing  # takes a while to import, and few need it

        self._context = multiprocessing.get_context("fork")
        self._workers: dict[Seat, tuple[BaseProcess, Connection]] = {}

    def begin(self, seat: Seat, job: Job, cores: Cores | None) -> None:
        """Send a job to the guest's worker, which is started for its first one."""
        if seat not in self._workers:
            self._workers[seat] = self._start(seat)
        with suppress(OSError):  # the worker may be gone, and `wait` will say so
            self._workers[seat][1].send((job, cores))

    def wait(self) -> tuple[Seat, Answer]:
        """Return what came of a job, whichever is done first."""
        from multiprocessing.connection import Connection, wait

        seats = {connection: seat for seat, (_, connection) in self._workers.items()}
        ready = wait(list(seats))[0]
        assert isinstance(ready, Connection)
        seat = seats[ready]
        try:
            answer, last = ready.recv()
        except (EOFError, OSError):
            worker = self._workers[seat][0]
            self.drop(seat)
            guest = ", ".join((seat.kernel, *(f"{name} {at}" for name, at in seat.setup.items())))
            text = f"the process that drives {guest}, was killed"
            return seat, Answer(error=MachineLost(f"{text} (exit status {worker.exitcode})"))
        if last:
            worker, connection = self._workers.pop(seat)
            worker.join(_END_LIMIT)
            _end(worker, connection)
        return seat, answer

    def drop(self, seat: Seat) -> None:
        """Kill a worker; its QEMU dies with it."""
        if seat in self._workers:
            _end(*self._workers.pop(seat))

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_exception: object) -> None:
        for seat in list(self._workers):
            self.drop(seat)

    def _start(self, seat: Seat) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        prepare = die_with_parent()
        arguments = (self._make, seat, theirs, prepare)
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
    seat: Seat,
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
        guest = make(seat)
        last = False
        while not last:
            job, cores = line.recv()
            answer = _done(guest, job, cores)
            last = isinstance(job, Close) or answer.error is not None
            line.send((answer, last))
        status = 0
    except (EOFError, OSError):
        pass  # nobody listens any more
    finally:
        # Not `exit`: what the other process had not yet written is not ours to write.
        os._exit(status)


def _done(guest: GuestAtWork, job: Job, cores: Cores | None) -> Answer:
    try:
        return guest.do(job, cores)
    except Exception as error:
        told = traceback.format_exc().rstrip()
        return Answer(error=LabError(f"the lab itself has a fault: {error!r}", told))
