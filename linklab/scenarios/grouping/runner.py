"""A run of the grouping scenario: every kernel, every count, into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from linklab.errors import KernelFault, LinklabError
from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host.cpus import own_cores, share_out
from linklab.lab.findings import Finding
from linklab.lab.lab import Lab, Subject, host_memory_available
from linklab.machine.spec import Clock
from linklab.results.model import Sample
from linklab.results.store import RunFolder
from linklab.scenarios.grouping.course import Course, total_cost
from linklab.scenarios.grouping.experiment import Trial
from linklab.scenarios.grouping.guests import (
    Answer,
    Close,
    Cores,
    GuestsHere,
    Host,
    Job,
    Open,
    guest_maker,
)
from linklab.scenarios.grouping.plan import NAME, Plan
from linklab.scenarios.grouping.schedule import Count, Seat, Turn, countings, schedule

STEP = "measuring"
MOST_OPEN = 64  # guests at a time: each has a dozen open files and wakes up now and then
_QEMU_MIB = 96  # what a QEMU takes beside its guest's memory, measured under TCG: 60 to 80
_MEMORY_SHARE = 0.8  # of what the host has available


@dataclass
class Outcome:
    """What became of a run: the kernels' faults, in the order they came."""

    faults: list[LinklabError] = field(default_factory=list)


class _HostContext(Host, AbstractContextManager["_HostContext"], Protocol):
    """A host of guests for the length of a run."""


class Runner:
    """Works through a plan; keeps each sample before the next one of its guest is taken.

    `lab` may be exchanged for another one like it between two calls.
    """

    def __init__(self, lab: Lab, plan: Plan, folder: RunFolder, listener: Listener) -> None:
        self.lab = lab
        self._plan = plan
        self._folder = folder
        self._listener = listener
        self.outcome = Outcome()  # also of a run that an exception ended
        self._subjects: dict[str, Subject] = {}
        self._stops_at_faults = False
        self._noise: set[str] = set()  # what was said of it
        self._order = 0
        self._done = 0

    def run(self, subjects: Sequence[Subject]) -> Outcome:
        """Measure every kernel. A kernel that fails ends its own part, not the run.

        Raises what is the lab's own fault.
        """
        turns = schedule(self._plan, [subject.name for subject in subjects], self._room())
        self._note_room(self._room(), turns)
        self._work(subjects, turns, countings(self._plan, turns))
        return self.outcome

    def measure(self, subjects: Sequence[Subject], turns: Sequence[Turn]) -> None:
        """Work through some turns: for who decides from time to time what comes next.

        Raises a kernel's fault, too, once it is noted: whoever compares has no
        use for the one kernel without the other.
        """
        self._stops_at_faults = True
        self._work(subjects, turns, {})

    def _work(
        self,
        subjects: Sequence[Subject],
        turns: Sequence[Turn],
        counts: Mapping[Seat, Sequence[Count]],
    ) -> None:
        self._subjects = {subject.name: subject for subject in subjects}
        self._done = 0
        with step(self._listener, STEP, total_cost(turns)), self._host() as host:
            Course(self, host, turns, counts, self._slots(), self._room()).run()

    def _host(self) -> _HostContext:
        make = guest_maker(self.lab, self._plan, self._subjects)
        if self._plan.jobs == 1:
            return GuestsHere(make)
        from linklab.scenarios.grouping.workers import Workers  # brings multiprocessing

        return Workers(make)

    def _slots(self) -> list[Cores | None]:
        """Return for each guest at work at the same time where it may run, None for anywhere."""
        jobs = self._plan.jobs
        if jobs == 1 or self.lab.clock is Clock.VIRTUAL:
            return [None] * jobs  # there nobody disturbs anybody's figures
        cores = own_cores()
        shares = share_out(jobs, self.lab.cpus, cores)
        if shares is None:
            guests = f"{jobs} guests with {self.lab.cpus} CPU each"
            text = f"--jobs {jobs}: {guests} on {len(cores)} cores disturb each other's timings"
            self._listener(Note(f"{text}: use fewer for figures that you want to defend"))
            return [None] * jobs
        return list(shares)

    def _room(self) -> int:
        """Return how many guests this host has the memory for at a time."""
        available = host_memory_available()
        if available is None:
            return MOST_OPEN
        room = int(available * _MEMORY_SHARE) // (self.lab.memory + _QEMU_MIB)
        return max(1, min(room, MOST_OPEN))

    def _note_room(self, room: int, turns: Sequence[Turn]) -> None:
        seats = len({turn.seat for turn in turns})
        if not self._plan.fresh_guest and len(turns) > len(set(_works(turns))) and seats > room:
            self._listener(
                Note(
                    f"this host has room for {room} of the {seats} guests at a time: "
                    f"trials are interleaved over {room} guests, then over the next"
                )
            )

    # What a course tells

    def tell(self, seat: Seat, job: Job) -> None:
        """Say what a guest begins to do."""
        detail = f"{seat.kernel}, {seat.count} interfaces: {_in_words(job, self._plan)}"
        self._listener(StepAdvanced(STEP, self._done, detail))

    def log_for(self, seat: Seat) -> Open:
        """Return the job that opens a guest, with a log that no other has."""
        label = self._subjects[seat.kernel].label
        return Open(self._folder.console_log(label, seat.count))

    def keep(self, seat: Seat, answer: Answer, turn: Turn | None) -> None:
        """Put what came of a job on disk."""
        if answer.boot is not None:
            self._folder.add_boot(answer.boot)
        if answer.tally is not None:
            self._folder.add_tally(answer.tally)
        for finding in answer.ignored:
            self._note_noise(seat, finding)
        block = turn.number if turn else 0
        for trial in answer.trials:
            if turn is None or turn.number > 0 or trial.fault:
                self._folder.add_sample(self._sample(seat, trial, block))
                self._order += 1

    def _note_noise(self, seat: Seat, finding: Finding) -> None:
        """Say, once for each, that a report did not count."""
        self._folder.add_ignored(seat.kernel, finding.to_json(), interfaces=seat.count)
        title = f"kernel {seat.kernel}: {finding.report.title}"
        if title not in self._noise:
            self._noise.add(title)
            self._listener(Note(f"{title}: known noise, it does not count ({finding.path})"))

    def blame(self, seat: Seat, fault: KernelFault, job: Job | None) -> None:
        """Note a kernel's fault, and what its guest was at."""
        fault.message = f"kernel {seat.kernel}: {fault.message}"
        self.outcome.faults.append(fault)
        self._folder.add_fault(seat.kernel, fault, interfaces=seat.count, **_place(job))
        if self._stops_at_faults:
            raise fault

    def advance(self, cost: int) -> None:
        """Move the progress bar on, for what is done or will not be."""
        self._done += cost

    def _sample(self, seat: Seat, trial: Trial, block: int) -> Sample:
        measure = trial.measure
        return Sample(
            scenario=NAME,
            kernel=seat.kernel,
            boot=self.lab.boot.value,
            accel=self.lab.accel.value,
            operation=trial.operation.value,
            arm=trial.arm.value,
            interfaces=seat.count,
            trial=trial.number,
            seconds=measure.seconds,
            user_seconds=measure.user_seconds,
            system_seconds=measure.system_seconds,
            context_switches=measure.context_switches,
            messages=measure.messages,
            processes=measure.processes,
            order=self._order,
            verified=trial.fault is None,
            listeners=self._plan.listeners if trial.number else 0,
            notifications=trial.heard.received,
            notifications_lost=trial.heard.lost,
            block=block,
            clock=self.lab.clock_name,
        )


def _place(job: Job | None) -> dict[str, str | int]:
    """Return what a guest was at, as run.json keeps it."""
    match job:
        case Turn():
            at = {"operation": job.operation.value, "arm": job.arm.value, "trial": job.number}
            return {"during": "trial", **at}
        case Count():
            return {"during": "count", "operation": job.operation.value, "arm": job.arm.value}
        case Open():
            return {"during": "boot"}
        case Close():
            return {"during": "end"}
        case None:
            return {}


def _works(turns: Sequence[Turn]) -> list[tuple[Seat, object, object]]:
    return [(turn.seat, turn.operation, turn.arm) for turn in turns]


def _in_words(job: Job, plan: Plan) -> str:
    match job:
        case Open():
            return "booting"
        case Count():
            return f"{job.operation} by {job.arm}, counting system calls"
        case Close():
            return "ending"
        case Turn(number=number) if number < 1:
            return f"{job.operation} by {job.arm}, warming up"
        case Turn():
            trial = f", trial {job.number}" if plan.repeat > 1 else ""
            return f"{job.operation} by {job.arm}{trial}"
