"""The course of a run: which guest works when, on which CPUs, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from linklab.errors import KernelFault
from linklab.scenarios.grouping.guests import Answer, Close, Cores, Host, Job, Open
from linklab.scenarios.grouping.schedule import Count, Seat, Turn
from linklab.scenarios.grouping.ways import Arm


class Book(Protocol):
    """Who keeps what a run gives."""

    def tell(self, seat: Seat, job: Job) -> None:
        """Say what a guest begins to do."""

    def log_for(self, seat: Seat) -> Open:
        """Return the job that opens a guest, with a log that no other has."""

    def keep(self, seat: Seat, answer: Answer, turn: Turn | None) -> None:
        """Put what came of a job on disk."""

    def blame(self, seat: Seat, fault: KernelFault, job: Job | None) -> None:
        """Note a kernel's fault, and what its guest was at."""

    def advance(self, cost: int) -> None:
        """Move on, for what is done or will not be."""


class Course:
    """The way of one run through its turns: who works, who waits, who is gone."""

    def __init__(
        self,
        book: Book,
        host: Host,
        turns: Sequence[Turn],
        counts: Mapping[Seat, Sequence[Count]],
        slots: Sequence[Cores | None],
        room: int,
    ) -> None:
        self._book = book
        self._host = host
        self._turns = list(turns)
        self._counts = {seat: list(each) for seat, each in counts.items()}
        self._slots = list(slots)
        self._room = room
        self._left = Counter(turn.seat for turn in turns)
        self._open: set[Seat] = set()
        self._opened: set[Seat] = set()  # ever
        self._working: dict[Seat, tuple[Job, Cores | None]] = {}

    def run(self) -> None:
        """Give out jobs and take answers until nothing is left. Raises the lab's own faults."""
        while True:
            while self._slots and (found := self._next()):
                self._begin(*found)
            if not self._working:
                return
            seat, answer = self._host.wait()
            job = self._end(seat)
            self._book.keep(seat, answer, job if isinstance(job, Turn) else None)
            self._book.advance(_cost_of(seat, job) if job else 0)
            if isinstance(answer.error, KernelFault):
                self._book.blame(seat, answer.error, job)
                self._give_up(seat.kernel)
            elif answer.error is not None:
                raise answer.error

    def _next(self) -> tuple[Seat, Job] | None:
        """Return the next job that can be done now: guests that are done end first."""
        for seat in self._open:
            if not self._left[seat] and seat not in self._working:
                counts = self._counts.get(seat)
                return seat, counts.pop(0) if counts else Close()
        for place, turn in enumerate(self._turns):
            if turn.seat in self._working:
                continue
            if turn.seat in self._open:
                self._left[turn.seat] -= 1
                return turn.seat, self._turns.pop(place)
            if len(self._open) < self._room:
                return turn.seat, self._book.log_for(turn.seat)
        return None

    def _begin(self, seat: Seat, job: Job) -> None:
        cores = self._slots.pop(0)
        if isinstance(job, Open):
            self._open.add(seat)
            self._opened.add(seat)
        self._working[seat] = job, cores
        self._book.tell(seat, job)
        self._host.begin(seat, job, cores)

    def _end(self, seat: Seat) -> Job | None:
        """Return the job that a guest was at, if any, and give its slot back."""
        if seat not in self._working:
            return None
        job, cores = self._working.pop(seat)
        self._slots.append(cores)
        if isinstance(job, Close):
            self._open.discard(seat)
        return job

    def _give_up(self, kernel: str) -> None:
        """Leave out all that is left of a kernel."""
        for seat in [seat for seat in self._open if seat.kernel == kernel]:
            self._host.drop(seat)
            self._end(seat)
            self._open.discard(seat)
        out = [turn for turn in self._turns if turn.seat.kernel == kernel]
        self._turns = [turn for turn in self._turns if turn.seat.kernel != kernel]
        self._book.advance(total_cost(out, self._opened))


def total_cost(turns: Sequence[Turn], opened: Collection[Seat] = ()) -> int:
    """Return how long turns take, with their guests' start, in units of a progress bar."""
    seats = {turn.seat for turn in turns}.difference(opened)
    starts = sum(_cost_of(seat, None) for seat in seats)
    return starts + sum(_cost_of(turn.seat, turn) for turn in turns)


def _cost_of(seat: Seat, job: Job | None) -> int:
    match job:
        case Close() | Count():
            return 0
        case Turn(arm=Arm.PROCESS | Arm.DUMP):
            # A process for each interface takes some fifty times as long as a message.
            return 50 + seat.count
        case _:
            return 50 + seat.count // 50
