"""The engine: a batch of turns in, a stream of events out; and who reads it into a run's folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from linklab.errors import GuestHung, KernelCrashed, KernelFault, LinklabError, Verdict
from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host.cpus import own_cores, share_out
from linklab.lab.kernel_reports import FiledReport
from linklab.lab.lab import Lab, Subject, host_memory_available
from linklab.machine.spec import Boot, Clock
from linklab.results.model import BootRecord, CourseRecord, Sample, TallyRecord
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, utc_now
from linklab.trials.guest import Close, Cores, GuestAtWork, Job, Open, Trial, authors_code
from linklab.trials.places import Here, Place, Processes
from linklab.trials.plan import (
    CountSyscalls,
    GuestSlot,
    Plan,
    Turn,
    blocks,
    countings,
    left_of,
    schedule,
)

STEP = "measuring"
MOST_OPEN = 64  # guests at a time: each has a dozen open files and wakes up now and then
_QEMU_MIB = 96  # what a QEMU takes beside its guest's memory, measured under TCG: 60 to 80
_LATE_MS = 5.0  # of a link between guests; samples keep it
_MEMORY_SHARE = 0.8  # of what the host has available
_FAULTS: Mapping[str, type[KernelFault]] = {
    Verdict.CRASH.value: KernelCrashed,
    Verdict.HANG.value: GuestHung,
}
_LONGEST_WORD = 40  # characters of a set-up's value in the name of a console's log


@dataclass(frozen=True)
class Begun:
    """A guest begins a job, with `done` of the batch's cost behind it."""

    slot: GuestSlot
    job: Job
    done: int


@dataclass(frozen=True)
class Ignored:
    """A kernel reported something that does not count."""

    slot: GuestSlot
    finding: FiledReport


@dataclass(frozen=True)
class Failed:
    """A kernel is at fault. What was left to be done with it is left out."""

    slot: GuestSlot
    job: Job | None
    fault: KernelFault


Event = Begun | Sample | CourseRecord | BootRecord | TallyRecord | Ignored | Failed | Note
"""What comes of a batch. Samples are in no order yet: that is whose who puts them together."""


@dataclass(frozen=True)
class Batch:
    """Turns that belong on one host, and all that it takes to do them there.

    It can be sent: what boots is named as the caches of all hosts name it. `consoles` are
    the names of the guests' logs, as whoever stores them wants them.
    """

    lab: Lab
    plan: Plan
    subjects: Mapping[str, Subject]  # by the kernel's name
    turns: Sequence[Turn]
    counts: Mapping[GuestSlot, Sequence[CountSyscalls]]
    consoles: Mapping[GuestSlot, str]

    @property
    def name(self) -> str:
        """What it is called where it cannot be done: its guests, by their logs."""
        return f"that of {', '.join(self.consoles.values())}"

    def cost(self, slot: GuestSlot, job: Job) -> int:
        """Return how long a job takes, in units of a progress bar."""
        if isinstance(job, (Close, CountSyscalls)):
            return 0
        with authors_code(self.plan.kind):
            cell = job.cell if isinstance(job, Turn) else slot.setup
            return self.plan.kind.cost(self.plan.known(cell))

    def total_cost(self, turns: Iterable[Turn], opened: Collection[GuestSlot] = ()) -> int:
        """Return how long turns take, with the start of guests that are not open yet."""
        done = list(turns)
        starts = sum(self.cost(s, Open()) for s in {t.slot for t in done}.difference(opened))
        return starts + sum(self.cost(turn.slot, turn) for turn in done)

    def events(self, folder: Path) -> Iterator[Event]:
        """Do it here and yield what comes of it; the consoles' logs go into `folder`.

        Raises the lab's own faults.
        """
        with authors_code(self.plan.kind):
            self.plan.kind.load()
        lab, jobs = self.lab, self.plan.jobs
        cores: Sequence[Cores | None] = [None] * jobs
        if jobs > 1 and lab.clock is not Clock.VIRTUAL:  # there nobody disturbs anybody's figures
            own = own_cores()
            if shares := share_out(jobs, lab.cpus * lab.machines, own):
                cores = shares
            else:
                guests = f"{jobs} guests with {lab.cpus} CPU each"
                text = f"--jobs {jobs}: {guests} on {len(own)} cores disturb each other's timings"
                yield Note(f"{text}: use fewer for figures that you want to defend")
        kind = Here if jobs == 1 else Processes
        with kind(partial(self.guest, folder)) as place:
            yield from _Scheduler(self, place, cores).events()

    def guest(self, folder: Path, slot: GuestSlot) -> GuestAtWork:
        """Return a guest of it, which is not open yet."""
        subject, log = self.subjects[slot.kernel], folder / self.consoles[slot]
        return GuestAtWork(self.lab, self.plan, subject, slot, log)

    def sample(self, slot: GuestSlot, trial: Trial, block: int) -> Sample:
        """Return a trial as a sample."""
        several = self.lab.boot is Boot.RESUME and self.lab.boots > 1
        return Sample(
            scenario=self.plan.kind.name,
            kernel=slot.kernel,
            boot=self.lab.boot.value,
            accel=self.lab.accel.value,
            cell=trial.cell,
            trial=trial.number,
            metrics=trial.metrics,
            order=0,
            verified=trial.verified,
            block=block,
            clock=self.lab.clock_name,
            place=self.plan.place_in(self.lab),
            links=trial.links or None,
            saved=self.lab.saved_number(self.plan.draw_of(slot)) if several else 0,
        )


class _Scheduler:
    """A batch on its way: who works, who waits, who is gone."""

    def __init__(self, batch: Batch, place: Place, cores: Sequence[Cores | None]) -> None:
        self._batch = batch
        self._place = place
        self._turns = list(batch.turns)
        self._counts = {slot: list(each) for slot, each in batch.counts.items()}
        self._cores = list(cores)
        self._capacity = capacity_of(batch.lab)
        self._left = Counter(turn.slot for turn in batch.turns)
        self._open: set[GuestSlot] = set()
        self._opened: set[GuestSlot] = set()  # ever
        self._working: dict[GuestSlot, tuple[Job, Cores | None]] = {}
        self._done = 0  # in units of the progress bar

    def events(self) -> Iterator[Event]:
        """Give out jobs and yield what comes of them. Raises the lab's own faults."""
        while True:
            while self._cores and (found := self._next()):
                yield Begun(*found, self._done)
                self._begin(*found)
            if not self._working:
                return
            slot, answer = self._place.wait()
            job = self._end(slot)
            block = job.number if isinstance(job, Turn) else 0
            yield from filter(None, (answer.boot, answer.tally))
            for finding in answer.ignored:
                yield Ignored(slot, finding)
            for trial in answer.trials:
                if not isinstance(job, Turn) or job.number > 0 or not trial.verified:
                    yield self._batch.sample(slot, trial, block)
                    for course in trial.courses:
                        yield CourseRecord(slot.kernel, trial.cell, trial.number, course)
            self._done += self._batch.cost(slot, job) if job else 0
            if isinstance(answer.error, KernelFault):
                self._give_up(slot.kernel)
                yield Failed(slot, job, answer.error)
            elif answer.error is not None:
                raise answer.error

    def _next(self) -> tuple[GuestSlot, Job] | None:
        """Return the next job that can be done now: guests that are done end first."""
        for slot in self._open:
            if not self._left[slot] and slot not in self._working:
                counts = self._counts.get(slot)
                return slot, counts.pop(0) if counts else Close()
        for place, turn in enumerate(self._turns):
            if turn.slot in self._working:
                continue
            if turn.slot in self._open:
                self._left[turn.slot] -= 1
                return turn.slot, self._turns.pop(place)
            if len(self._open) < self._capacity:
                return turn.slot, Open()
        return None

    def _begin(self, slot: GuestSlot, job: Job) -> None:
        cores = self._cores.pop(0)
        if isinstance(job, Open):
            self._open.add(slot)
            self._opened.add(slot)
        self._working[slot] = job, cores
        self._place.begin(slot, job, cores)

    def _end(self, slot: GuestSlot) -> Job | None:
        """Return the job that a guest was at, if any, and give its cores back."""
        if slot not in self._working:
            return None
        job, cores = self._working.pop(slot)
        self._cores.append(cores)
        if isinstance(job, Close):
            self._open.discard(slot)
        return job

    def _give_up(self, kernel: str) -> None:
        """Leave out all that is left of a kernel."""
        for slot in [slot for slot in self._open if slot.kernel == kernel]:
            self._place.drop(slot)
            self._end(slot)
            self._open.discard(slot)
        out = [turn for turn in self._turns if turn.slot.kernel == kernel]
        self._turns = [turn for turn in self._turns if turn.slot.kernel != kernel]
        self._done += self._batch.total_cost(out, self._opened)


def capacity_of(lab: Lab) -> int:
    """Return how many guests, or networks of guests, this host has the memory for at a time."""
    available = host_memory_available()
    if available is None:
        return MOST_OPEN
    each = (lab.memory + _QEMU_MIB) * lab.machines
    capacity = int(available * _MEMORY_SHARE) // each
    return max(1, min(capacity, MOST_OPEN))


class Engine:
    """Reads the events of batches into a run's folder, and shows how far they are.

    `samples` and `faults` are what came out so far, also of a run that an
    exception ended. `lab` may be exchanged for another one like it between two
    calls. What the folder has of a run that is gone on with is not measured again:
    it comes out where it is asked for.
    """

    def __init__(self, lab: Lab, plan: Plan, folder: RunFolder, listener: Listener) -> None:
        self.lab = lab
        before = folder.before
        self.samples: list[Sample] = []
        self.faults: list[LinklabError] = [*map(_fault, before.faults)] if before else []
        self.failed = ""  # the kernel of the last fault
        self._plan = plan
        self._folder = folder
        self._listener = listener
        self._random = Random(plan.seed)
        self._order = len(before.samples) if before else 0
        self._known: dict[tuple[str, Cell, int], list[Sample]] = {}
        for sample in before.samples if before else ():
            self._known.setdefault((sample.kernel, sample.cell, sample.block), []).append(sample)
        self._noise: set[str] = set()  # what was said of it
        self._is_late = False

    def run(self, subjects: Sequence[Subject]) -> None:
        """Do all of the plan. A kernel that fails ends its own part, not the run.

        Raises what is the lab's own fault.
        """
        capacity = capacity_of(self.lab)
        turns = schedule(self._plan, [subject.name for subject in subjects], capacity)
        turns = self._left_of(turns)
        self._note_capacity(turns, capacity)
        self._read(self._batch(subjects, turns, countings(self._plan, turns)))

    def measure(
        self,
        subjects: Sequence[Subject],
        cells: Sequence[Cell],
        numbers: range,
        *,
        together: bool = True,
    ) -> None:
        """Measure cells on some kernels in so many blocks.

        Where they are wanted `together`, the first kernel's fault is raised once it is
        noted: a comparison needs both. Else a kernel that fails ends its own part, and
        what the work asks of each is counted, too.
        """
        names = [subject.name for subject in subjects]
        turns = blocks(self._plan, cells, names, numbers, self._random)
        turns = self._left_of(turns, in_blocks=True)
        counts = {} if together else countings(self._plan, turns)
        self._read(self._batch(subjects, turns, counts), together=together)

    def _left_of(self, turns: Sequence[Turn], *, in_blocks: bool = False) -> list[Turn]:
        """Take what was measured before, and return what is left to do of some turns.

        A block of which a part was measured before is not completed in real time: its
        kernels would not have been measured beside each other.
        """
        if self._folder.before is None:
            return list(turns)
        keys = [(turn.slot.kernel, turn.cell, turn.number) for turn in turns]
        done = {key for key in keys if key in self._known}
        self.samples += (each for key in keys for each in self._known.pop(key, ()))
        if in_blocks and self.lab.clock is not Clock.VIRTUAL:
            spent = {(cell, number) for _, cell, number in done}
            done |= {key for key in keys if key[1:] in spent}
        return left_of(turns, done, self._folder.failed_before)

    def end(self, error: LinklabError | None = None) -> None:
        """Note in the folder that all is done, or what ended it."""
        verdict = error.verdict if error else Verdict.PASS
        message = error.message if error else ""
        self._folder.update(end=utc_now(), verdict=verdict.value, message=message)

    def _batch(
        self,
        subjects: Sequence[Subject],
        turns: Sequence[Turn],
        counts: Mapping[GuestSlot, Sequence[CountSyscalls]],
    ) -> Batch:
        known = {subject.name: subject for subject in subjects}
        consoles = {}
        for slot in dict.fromkeys(turn.slot for turn in turns):
            consoles[slot] = self._folder.console_log(known[slot.kernel].label, *_words(slot))
        return Batch(self.lab, self._plan, known, turns, counts, consoles)

    def _read(self, batch: Batch, *, together: bool = False) -> None:
        """Take a batch's events as they come."""
        if not batch.turns:
            return
        with step(self._listener, STEP, batch.total_cost(batch.turns)):
            fleet = self.lab.fleet
            folder = self._folder.path
            for event in fleet.events(batch, folder) if fleet else batch.events(folder):
                self._take(event)
                if together and isinstance(event, Failed):
                    raise event.fault

    def _note_capacity(self, turns: Sequence[Turn], capacity: int) -> None:
        slots = len({turn.slot for turn in turns})
        repeats = len(turns) > len({(turn.slot, turn.cell) for turn in turns})
        if not self._plan.fresh_guest and repeats and slots > capacity:
            self._listener(
                Note(
                    f"this host has room for {capacity} of the {slots} guests at a time: "
                    f"trials are interleaved over {capacity} guests, then over the next"
                )
            )

    def _take(self, event: Event) -> None:
        """Show an event, or put it on disk."""
        match event:
            case Begun(slot, job, done):
                self._listener(StepAdvanced(STEP, done, _in_words(slot, job, self._plan)))
            case Note():
                self._listener(event)
            case Sample():
                self.samples.append(replace(event, order=self._order))
                self._order += 1
                self._folder.add_sample(self.samples[-1])
                self._note_lateness(event)
            case CourseRecord():
                self._folder.add_course(event)
            case BootRecord():
                self._folder.add_boot(event)
            case TallyRecord():
                self._folder.add_tally(event)
            case Ignored(slot, finding):
                self._folder.add_ignored(slot.kernel, finding.to_json(), **slot.setup)
                title = f"kernel {slot.kernel}: {finding.report.title}"
                if title not in self._noise:  # said once for each
                    self._noise.add(title)
                    note = f"{title}: known noise, it does not count ({finding.path})"
                    self._listener(Note(note))
            case Failed(slot, job, fault):
                fault.message = f"kernel {slot.kernel}: {fault.message}"
                self.faults.append(fault)
                self.failed = slot.kernel
                at = {"guest": fault.guest, **slot.setup, **_place(job)}
                self._folder.add_fault(slot.kernel, fault, **at)

    def _note_lateness(self, sample: Sample) -> None:
        links = (sample.links or {}).items()
        late = max((ns for name, ns in links if name.endswith("latest_ns")), default=0) / 1e6
        if late >= _LATE_MS and not self._is_late:  # said once
            self._is_late = True
            text = f"a link handed packets over up to {late:.0f} ms late in a trial"
            self._listener(Note(f"{text}: this host is too busy for figures in real time"))


def _fault(entry: Mapping[str, Any]) -> KernelFault:
    """Return a stored fault as what it was."""
    kind = _FAULTS.get(str(entry.get("verdict")), KernelFault)
    return kind(str(entry.get("message", "")), str(entry.get("evidence", "")))


def _words(slot: GuestSlot) -> list[str]:
    """Return a guest's set-up as words of a file's name: of a topology what a name can have."""
    words = (re.sub(r"[^A-Za-z0-9.+]+", "-", str(value)) for value in slot.setup.values())
    return [word[:_LONGEST_WORD].strip("-") for word in words]


def _place(job: Job | None) -> dict[str, str | int | float]:
    """Return what a guest was at, as a run keeps it."""
    match job:
        case Turn():
            return {"during": "trial", **job.cell, "trial": job.number}
        case CountSyscalls():
            return {"during": "count", **job.cell}
        case Open():
            return {"during": "boot"}
        case Close():
            return {"during": "end"}
        case None:
            return {}


def _in_words(slot: GuestSlot, job: Job, plan: Plan) -> str:
    shape = plan.shape
    if isinstance(job, (Open, Close)):
        guest = ", ".join(filter(None, (slot.kernel, shape.in_words(slot.setup))))
        return f"{guest}: {'booting' if isinstance(job, Open) else 'ending'}"
    work = f"{slot.kernel}: {shape.in_words(job.cell)}"
    match job:
        case CountSyscalls():
            return f"{work}, counting system calls"
        case Turn(number=number) if number < 1:
            return f"{work}, warming up"
        case _:
            return work + (f", trial {job.number}" if plan.repeat > 1 else "")
