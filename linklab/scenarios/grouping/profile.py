"""A profile of the grouping scenario: one operation by one arm, until there are enough samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from linklab.agent.replies import Measure
from linklab.errors import LabError
from linklab.events import Listener, StepAdvanced, step
from linklab.profile.recorder import FILE_MIB, Recorder, decode
from linklab.profile.stacks import Rule, Samples
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.experiment import Experiment, Guest, Trial
from linklab.scenarios.grouping.plan import Plan, memory_needed
from linklab.scenarios.grouping.ways import Arm

STEP = "profiling"

# Measured: the image with perf in it is 36 MB, there twice while it is
# unpacked; perf itself takes 30 MB, its buffers 8 on each CPU.
_PERF_MIB = 160
_BUFFER_MIB = 8
_UNSAMPLED = 5
_UNSAMPLED_SECONDS = 3.0


def profile_memory(count: int, cpus: int) -> int:
    """Return the MiB that a guest with `count` interfaces needs to be profiled."""
    return memory_needed(count, cpus) + _PERF_MIB + _BUFFER_MIB * cpus + FILE_MIB


@dataclass(frozen=True)
class Task:
    """What to profile, when there are enough samples, and when to stop in any case.

    `seconds` is the host's time, after which no further repetition begins;
    `limit` the guest's for one operation, as in a `Plan`. With `repetitions`
    there are so many, and the rule does not count: for a profile that another
    one is to be subtracted from.
    """

    operation: Operation
    arm: Arm
    rule: Rule
    seconds: float
    limit: float | None = None
    repetitions: int | None = None

    @property
    def text(self) -> str:
        """What there is to be, in words."""
        if self.repetitions is not None:
            return f"the {self.repetitions} repetitions of the kernel that it is compared with"
        return self.rule.text

    def missing(self, profile: Profile) -> int:
        """Return how many more samples it takes; or repetitions, where it goes by those."""
        if self.repetitions is not None:
            return max(0, self.repetitions - len(profile.sampled))
        return self.rule.missing(profile.samples.stacks)


@dataclass
class Profile:
    """What came out: the samples, and what the repetitions took that they come from.

    `unsampled` are the repetitions before them, with perf not yet started.
    """

    samples: Samples = field(default_factory=Samples)
    unsampled: list[Measure] = field(default_factory=list)
    sampled: list[Measure] = field(default_factory=list)


def take_profile(guest: Guest, recorder: Recorder, task: Task, listener: Listener) -> Profile:
    """Repeat an operation while perf samples, until the rule is met or the time is over.

    Raises `WrongState` when the kernel does not do what it is told, `LabError`
    when perf fails or takes no samples.
    """
    plan = Plan((guest.count,), (task.operation,), (task.arm,), limit=task.limit)
    experiment = Experiment(guest, plan)
    until = time.monotonic() + task.seconds
    with step(listener, STEP, 100):
        listener(StepAdvanced(STEP, 0, "without samples"))
        experiment.create()
        profile = Profile(unsampled=list(_unsampled(experiment, task)))
        symbols = recorder.kernel_symbols()
        while missing := task.missing(profile):
            if profile.sampled and time.monotonic() > until:
                break
            data = _round(experiment, recorder, task, profile, missing, until, listener)
            profile.samples.add(decode(data, symbols))
            if not profile.samples.work:
                raise LabError("perf took no sample of the work: more interfaces take longer")
    return profile


def _unsampled(experiment: Experiment, task: Task) -> Iterator[Measure]:
    """Yield repetitions without perf: several if they are short, as the first is slower."""
    until = time.monotonic() + _UNSAMPLED_SECONDS
    for number in range(_UNSAMPLED):
        yield _verified(experiment.trial(task.operation, task.arm, number))
        if time.monotonic() > until:
            break


def _round(
    experiment: Experiment,
    recorder: Recorder,
    task: Task,
    profile: Profile,
    missing: int,
    until: float,
    listener: Listener,
) -> bytes:
    """Repeat the operation until what is missing is to be expected; return perf's file."""
    by_number = task.repetitions is not None
    have, expected = len(profile.sampled) if by_number else profile.samples.work, 0.0
    with recorder.recording() as stop:
        while not expected or (expected < missing and time.monotonic() < until):
            percent = int(100 * (have + expected) / (have + missing))
            number = len(profile.sampled) + 1
            listener(StepAdvanced(STEP, percent, f"{task.operation} by {task.arm}, {number}"))
            trial = experiment.trial(task.operation, task.arm, number, around=recorder.sampling)
            profile.sampled.append(_verified(trial))
            expected += 1 if by_number else max(1.0, trial.measure.seconds * recorder.frequency)
        return stop()


def _verified(trial: Trial) -> Measure:
    if trial.fault is not None:
        raise trial.fault
    return trial.measure
