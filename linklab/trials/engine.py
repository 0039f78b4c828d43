"""The engine: turns of guests in, a stream of events out; and who keeps them in a run's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from linklab.errors import KernelFault, LinklabError, Verdict
from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host.cpus import own_cores, share_out
from linklab.lab.findings import Finding
from linklab.lab.lab import Lab, Subject, host_memory_available
from linklab.machine.spec import Clock
from linklab.results.model import BootRecord, Sample, TallyRecord
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, utc_now
from linklab.trials.guest import Close, Cores, GuestMaker, Job, Open, Trial, authors_code
from linklab.trials.places import Here, Place, Processes
from linklab.trials.plan import Count, Plan, Seat, Turn, blocks, countings, schedule

STEP = "measuring"
MOST_OPEN = 64  # guests at a time: each has a dozen open files and wakes up now and then
_QEMU_MIB = 96  # what a QEMU takes beside its guest's memory, measured under TCG: 60 to 80
_MEMORY_SHARE = 0.8  # of what the host has available


@dataclass(frozen=True)
class Measured:
    """A trial was done, in a block; set-up has 0."""

    seat: Seat
    trial: Trial
    block: int


@dataclass(frozen=True)
class Booted:
    """A guest is up."""

    boot: BootRecord


@dataclass(frozen=True)
class Counted:
    """What a cell's work asks of the kernel is known."""

    tally: TallyRecord


@dataclass(frozen=True)
class Ignored:
    """A kernel reported something that does not count."""

    seat: Seat
    finding: Finding


@dataclass(frozen=True)
class Failed:
    """A kernel is at fault. What was left to be done with it is left out."""

    seat: Seat
    job: Job | None
    fault: KernelFault


Event = Measured | Booted | Counted | Ignored | Failed


class _Batch:
    """Some turns on their way: who works, who waits, who is gone."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        turns: Sequence[Turn],
        counts: Mapping[Seat, Sequence[Count]],
        slots: Sequence[Cores | None],
        room: int,
        log_for: Callable[[Seat], Path],
        listener: Listener,
    ) -> None:
        self._plan = plan
        self._place = place
        self._turns = list(turns)
        self._counts = {seat: list(each) for seat, each in counts.items()}
        self._slots = list(slots)
        self._room = room
        self._log_for = log_for
        self._listener = listener
        self._left = Counter(turn.seat for turn in turns)
        self._open: set[Seat] = set()
        self._opened: set[Seat] = set()  # ever
        self._working: dict[Seat, tuple[Job, Cores | None]] = {}
        self._done = 0  # in units of the progress bar

    def events(self) -> Iterator[Event]:
        """Give out jobs and yield what comes of them. Raises the lab's own faults."""
        while True:
            while self._slots and (found := self._next()):
                self._begin(*found)
            if not self._working:
                return
            seat, answer = self._place.wait()
            job = self._end(seat)
            block = job.number if isinstance(job, Turn) else 0
            if answer.boot is not None:
                yield Booted(answer.boot)
            if answer.tally is not None:
                yield Counted(answer.tally)
            for finding in answer.ignored:
                yield Ignored(seat, finding)
            for trial in answer.trials:
                if not isinstance(job, Turn) or job.number > 0 or not trial.verified:
                    yield Measured(seat, trial, block)
            self._done += _cost(self._plan, seat, job) if job else 0
            if isinstance(answer.error, KernelFault):
                self._give_up(seat.kernel)
                yield Failed(seat, job, answer.error)
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
                return turn.seat, Open(self._log_for(turn.seat))
        return None

    def _begin(self, seat: Seat, job: Job) -> None:
        cores = self._slots.pop(0)
        if isinstance(job, Open):
            self._open.add(seat)
            self._opened.add(seat)
        self._working[seat] = job, cores
        self._listener(StepAdvanced(STEP, self._done, _in_words(seat, job, self._plan)))
        self._place.begin(seat, job, cores)

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
            self._place.drop(seat)
            self._end(seat)
            self._open.discard(seat)
        out = [turn for turn in self._turns if turn.seat.kernel == kernel]
        self._turns = [turn for turn in self._turns if turn.seat.kernel != kernel]
        self._done += total_cost(self._plan, out, self._opened)


def total_cost(plan: Plan, turns: Sequence[Turn], opened: Collection[Seat] = ()) -> int:
    """Return how long turns take, with their guests' start, in units of a progress bar."""
    seats = {turn.seat for turn in turns}.difference(opened)
    starts = sum(_cost(plan, seat, None) for seat in seats)
    return starts + sum(_cost(plan, turn.seat, turn) for turn in turns)


def _cost(plan: Plan, seat: Seat, job: Job | None) -> int:
    if isinstance(job, (Close, Count)):
        return 0
    with authors_code(plan.kind):
        return plan.kind.cost(job.cell if isinstance(job, Turn) else seat.setup)


class Engine:
    """Works through turns; each sample is in the folder before its guest's next one is taken.

    `samples` and `faults` are what came out so far, also of a run that an
    exception ended. `lab` may be exchanged for another one like it between two
    calls.
    """

    def __init__(self, lab: Lab, plan: Plan, folder: RunFolder, listener: Listener) -> None:
        self.lab = lab
        self.samples: list[Sample] = []
        self.faults: list[LinklabError] = []
        self.failed = ""  # the kernel of the last fault
        self._plan = plan
        self._folder = folder
        self._listener = listener
        self._random = Random(plan.seed)
        self._noise: set[str] = set()  # what was said of it
        self._is_loaded = False

    def run(self, subjects: Sequence[Subject]) -> None:
        """Do all of the plan. A kernel that fails ends its own part, not the run.

        Raises what is the lab's own fault.
        """
        turns = schedule(self._plan, [subject.name for subject in subjects], self._room())
        self._note_room(turns)
        for event in self._events(subjects, turns, countings(self._plan, turns)):
            self._keep(event)

    def measure(self, subjects: Sequence[Subject], cells: Sequence[Cell], numbers: range) -> None:
        """Measure cells on some kernels in so many blocks.

        Raises a kernel's fault, too, once it is noted: whoever compares has no
        use for the one kernel without the other.
        """
        names = [subject.name for subject in subjects]
        turns = blocks(self._plan, cells, names, numbers, self._random)
        for event in self._events(subjects, turns, {}):
            self._keep(event)
            if isinstance(event, Failed):
                raise event.fault

    def end(self, error: LinklabError | None = None) -> None:
        """Note in the folder that all is done, or what ended it."""
        verdict = error.verdict if error else Verdict.PASS
        message = error.message if error else ""
        self._folder.update(end=utc_now(), verdict=verdict.value, message=message)

    def _events(
        self,
        subjects: Sequence[Subject],
        turns: Sequence[Turn],
        counts: Mapping[Seat, Sequence[Count]],
    ) -> Iterator[Event]:
        known = {subject.name: subject for subject in subjects}
        make = GuestMaker(self.lab, self._plan, known)
        kind = Here if self._plan.jobs == 1 else Processes

        def log_for(seat: Seat) -> Path:
            setup = [str(value).replace("_", "-") for value in seat.setup.values()]
            return self._folder.console_log(known[seat.kernel].label, *setup)

        if not self._is_loaded:
            with authors_code(self._plan.kind):
                self._plan.kind.load()
        self._is_loaded = True
        total = total_cost(self._plan, turns)
        with step(self._listener, STEP, total), kind(make) as place:
            yield from _Batch(
                self._plan,
                place,
                turns,
                counts,
                self._slots(),
                self._room(),
                log_for,
                self._listener,
            ).events()

    def _slots(self) -> list[Cores | None]:
        """Return for each guest at work at the same time where it may run, None for anywhere."""
        jobs = self._plan.jobs
        if jobs == 1 or self.lab.clock is Clock.VIRTUAL:
            return [None] * jobs  # there nobody disturbs anybody's figures
        cores = own_cores()
        shares = share_out(jobs, self.lab.cpus * self.lab.machines, cores)
        if shares is None:
            guests = f"{jobs} guests with {self.lab.cpus} CPU each"
            text = f"--jobs {jobs}: {guests} on {len(cores)} cores disturb each other's timings"
            self._listener(Note(f"{text}: use fewer for figures that you want to defend"))
            return [None] * jobs
        return list(shares)

    def _room(self) -> int:
        """Return how many guests, or networks of guests, this host has the memory for at a time."""
        available = host_memory_available()
        if available is None:
            return MOST_OPEN
        each = (self.lab.memory + _QEMU_MIB) * self.lab.machines
        room = int(available * _MEMORY_SHARE) // each
        return max(1, min(room, MOST_OPEN))

    def _note_room(self, turns: Sequence[Turn]) -> None:
        room, seats = self._room(), len({turn.seat for turn in turns})
        repeats = len(turns) > len({(turn.seat, turn.cell) for turn in turns})
        if not self._plan.fresh_guest and repeats and seats > room:
            self._listener(
                Note(
                    f"this host has room for {room} of the {seats} guests at a time: "
                    f"trials are interleaved over {room} guests, then over the next"
                )
            )

    def _keep(self, event: Event) -> None:
        """Put an event on disk."""
        match event:
            case Measured(seat, trial, block):
                sample = self._sample(seat, trial, block)
                self.samples.append(sample)
                self._folder.add_sample(sample)
            case Booted(boot):
                self._folder.add_boot(boot)
            case Counted(tally):
                self._folder.add_tally(tally)
            case Ignored(seat, finding):
                self._folder.add_ignored(seat.kernel, finding.to_json(), **seat.setup)
                title = f"kernel {seat.kernel}: {finding.report.title}"
                if title not in self._noise:  # said once for each
                    self._noise.add(title)
                    note = f"{title}: known noise, it does not count ({finding.path})"
                    self._listener(Note(note))
            case Failed(seat, job, fault):
                fault.message = f"kernel {seat.kernel}: {fault.message}"
                self.faults.append(fault)
                self.failed = seat.kernel
                at = {"guest": fault.guest, **seat.setup, **_place(job)}
                self._folder.add_fault(seat.kernel, fault, **at)

    def _sample(self, seat: Seat, trial: Trial, block: int) -> Sample:
        return Sample(
            scenario=self._plan.kind.name,
            kernel=seat.kernel,
            boot=self.lab.boot.value,
            accel=self.lab.accel.value,
            cell=trial.cell,
            trial=trial.number,
            metrics=trial.metrics,
            order=len(self.samples),
            verified=trial.verified,
            block=block,
            clock=self.lab.clock_name,
            place=self._plan.place_in(self.lab),
            links=trial.links,
        )


def _place(job: Job | None) -> dict[str, str | int | float]:
    """Return what a guest was at, as a run keeps it."""
    match job:
        case Turn():
            return {"during": "trial", **job.cell, "trial": job.number}
        case Count():
            return {"during": "count", **job.cell}
        case Open():
            return {"during": "boot"}
        case Close():
            return {"during": "end"}
        case None:
            return {}


def _in_words(seat: Seat, job: Job, plan: Plan) -> str:
    shape = plan.shape
    if isinstance(job, (Open, Close)):
        guest = ", ".join(filter(None, (seat.kernel, shape.in_words(seat.setup))))
        return f"{guest}: {'booting' if isinstance(job, Open) else 'ending'}"
    work = f"{seat.kernel}: {shape.in_words(job.cell)}"
    match job:
        case Count():
            return f"{work}, counting system calls"
        case Turn(number=number) if number < 1:
            return f"{work}, warming up"
        case _:
            return work + (f", trial {job.number}" if plan.repeat > 1 else "")
