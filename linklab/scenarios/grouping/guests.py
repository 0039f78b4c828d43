"""Guests at work: one job at a time for each, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from linklab.errors import GuestIncomplete, LinklabError
from linklab.host.cpus import pin
from linklab.lab.findings import Finding
from linklab.lab.lab import Lab, Subject
from linklab.lab.session import Session
from linklab.results.model import BootRecord, TallyRecord
from linklab.scenarios.grouping.experiment import Experiment, Guest, Trial
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.schedule import Count, Seat, Turn

Cores = frozenset[int]
_SEEDS = 1 << 32


@dataclass(frozen=True)
class Open:
    """Boot the guest, its console into a file, and make its interfaces."""

    console_log: Path


@dataclass(frozen=True)
class Close:
    """End the guest in order."""


Job = Open | Turn | Count | Close


@dataclass(frozen=True)
class Answer:
    """What came of a job. After an error the guest is gone.

    There is no tally where the guest's kernel cannot count.
    """

    boot: BootRecord | None = None
    trials: tuple[Trial, ...] = ()
    tally: TallyRecord | None = None
    error: LinklabError | None = None
    ignored: tuple[Finding, ...] = ()  # known noise, once the guest has ended


class Host(Protocol):
    """Where guests run. A context manager: no guest outlives it."""

    def begin(self, seat: Seat, job: Job, cores: Cores | None) -> None:
        """Give an idle guest a job, to be done on these CPUs."""

    def wait(self) -> tuple[Seat, Answer]:
        """Return what came of a job that was begun, whichever is done first."""

    def drop(self, seat: Seat) -> None:
        """End a guest at once, whatever it does; its answer is not waited for."""


class OneGuest:
    """A guest from its boot to its end."""

    def __init__(self, lab: Lab, plan: Plan, subject: Subject, count: int, draw: int = 0) -> None:
        self._lab = lab
        self._plan = plan
        self._subject = subject
        self._count = count
        self._draw = (plan.seed + draw) % _SEEDS  # warm-up rounds count from 0 downwards
        self._stack = ExitStack()
        self._session: Session
        self._experiment: Experiment
        self._is_warm = False

    def do(self, job: Job, cores: Cores | None) -> Answer:
        """Do a job; whatever is wrong is in the answer. A signal to end comes through."""
        try:
            match job:
                case Open(console_log):
                    return self._open(console_log, cores)
                case Turn():
                    return self._trial(job, cores)
                case Count():
                    return self._count_calls(job)
                case Close():
                    self._stack.close()
                    return Answer(ignored=self._session.ignored)
        except LinklabError as error:
            return Answer(error=error, ignored=self._ignored())

    def _ignored(self) -> tuple[Finding, ...]:
        return self._session.ignored if hasattr(self, "_session") else ()

    def drop(self) -> None:
        """End it without asking whether it is well."""
        dropped = _Dropped()
        self._stack.__exit__(type(dropped), dropped, None)

    def _open(self, console_log: Path, cores: Cores | None) -> Answer:
        opened = self._lab.session(self._subject, console_log, self._draw)
        self._session = self._stack.enter_context(opened)
        with self._judged():
            self._pin(cores)
            lab = self._lab
            guest = Guest(self._session.agent, self._count, lab.accel, lab.slowness)
            self._experiment = Experiment(guest, self._plan)
            return self._kept([self._experiment.create()], self._boot_record())

    def _trial(self, turn: Turn, cores: Cores | None) -> Answer:
        with self._judged():
            self._pin(cores)
            if not self._is_warm:
                self._experiment.warm_up()
                self._is_warm = True
            return self._kept(self._trials(turn))

    def _trials(self, turn: Turn) -> list[Trial]:
        """Return the trials of a turn that are kept, or, of a wrong state, the one that left it."""
        kept: list[Trial] = []
        for number in range(1 - self._plan.settling, self._plan.trials + 1):
            named = number if self._plan.trials > 1 else turn.number
            trial = self._experiment.trial(turn.operation, turn.arm, named)
            if number > 0 or trial.fault is not None:
                kept.append(trial)
            if trial.fault is not None:
                break
        return kept

    def _count_calls(self, job: Count) -> Answer:
        with self._judged():
            try:
                tally = self._experiment.tally(job.operation, job.arm)
            except GuestIncomplete:
                return Answer()
        return Answer(
            tally=TallyRecord(
                kernel=self._subject.name,
                operation=job.operation.value,
                arm=job.arm.value,
                interfaces=self._count,
                system_calls=tally.system_calls,
                messages=tally.messages,
            )
        )

    def _pin(self, cores: Cores | None) -> None:
        if cores:
            pin(self._session.machine.pid, cores)

    def _kept(self, trials: Sequence[Trial], boot: BootRecord | None = None) -> Answer:
        """Return an answer; a trial that left a wrong state is the guest's last one."""
        if trials[-1].fault is None:
            return Answer(boot, tuple(trials))
        try:
            with self._judged():
                raise trials[-1].fault
        except LinklabError as judged:
            return Answer(boot, tuple(trials), error=judged, ignored=self._ignored())

    def _boot_record(self) -> BootRecord:
        hello = self._session.hello
        return BootRecord(
            kernel=self._subject.name,
            interfaces=self._count,
            seconds=round(self._session.boot_seconds, 6),
            clocksource=hello.clocksource,
            clock_resolution=hello.clock_resolution,
        )

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Let the session say what an exception means; the guest ends with it."""
        try:
            yield
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._stack.__exit__(*sys.exc_info())


class _Dropped(Exception):
    """Nobody is interested in the guest any more."""


class GuestsHere:
    """Guests of this very process: one job after the other."""

    def __init__(self, make: Callable[[Seat], OneGuest]) -> None:
        self._make = make
        self._guests: dict[Seat, OneGuest] = {}
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

    def __enter__(self) -> GuestsHere:
        return self

    def __exit__(self, *_exception: object) -> None:
        for seat in list(self._guests):
            self.drop(seat)


def guest_maker(
    lab: Lab, plan: Plan, subjects: Mapping[str, Subject]
) -> Callable[[Seat], OneGuest]:
    """Return what makes the guest of a seat."""
    return lambda seat: OneGuest(lab, plan, subjects[seat.kernel], seat.count, seat.draw)
