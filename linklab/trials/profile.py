"""A profile of a scenario: one cell's work, again and again, until there are enough samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from linklab.errors import LabError
from linklab.events import Listener, StepAdvanced, step
from linklab.profile.recorder import FILE_MIB, Recorder, decode
from linklab.profile.stacks import Samples, SamplingRule
from linklab.results.shape import Cell
from linklab.scenarios.scenario import Hosts, Metrics, Scenario

STEP = "profiling"

# Measured: the image with perf in it is 36 MB, there twice while it is
# unpacked; perf itself takes 30 MB, its buffers 8 on each CPU.
_PERF_MIB = 160
_BUFFER_MIB = 8
_UNSAMPLED = 5
_UNSAMPLED_SECONDS = 3.0


def profile_memory(kind: type[Scenario], cell: Cell, cpus: int) -> int:
    """Return the MiB that a guest needs to be profiled at a cell's work."""
    return kind.memory(cell, cpus) + _PERF_MIB + _BUFFER_MIB * cpus + FILE_MIB


@dataclass(frozen=True)
class Task:
    """What to profile, when there are enough samples, and when to stop in any case.

    `seconds` is the host's time, after which no further repetition begins. With
    `repetitions` there are so many, and the rule does not count: for a profile
    that another one is to be subtracted from.
    """

    cell: Cell
    rule: SamplingRule
    seconds: float
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
    unsampled: list[Metrics] = field(default_factory=list)
    sampled: list[Metrics] = field(default_factory=list)


class Profiler:
    """A scenario's guest with perf in it."""

    def __init__(
        self, scenario: Scenario, hosts: Hosts, recorder: Recorder, task: Task, listener: Listener
    ) -> None:
        self._scenario = scenario
        self._hosts = hosts
        self._recorder = recorder
        self._task = task
        self._listener = listener
        self._profile = Profile()

    def take(self, setup: Cell) -> Profile:
        """Repeat the work while perf samples, until the rule is met or the time is over.

        Raises `WrongState` when the kernel does not do what it is told, `LabError`
        when perf fails or takes no samples.
        """
        task, profile = self._task, self._profile
        until = time.monotonic() + task.seconds
        with step(self._listener, STEP, 100):
            self._listener(StepAdvanced(STEP, 0, "without samples"))
            for _ in self._scenario.set_up(self._hosts, setup):
                pass
            profile.unsampled += self._unsampled()
            symbols = self._recorder.kernel_symbols()
            while missing := task.missing(profile):
                if profile.sampled and time.monotonic() > until:
                    break
                profile.samples.add(decode(self._round(missing, until), symbols))
                if not profile.samples.work:
                    raise LabError("perf took no sample of the work: more of it takes longer")
        return profile

    def _unsampled(self) -> Iterator[Metrics]:
        """Yield repetitions without perf: several if they are short, as the first is slower."""
        until = time.monotonic() + _UNSAMPLED_SECONDS
        for _ in range(_UNSAMPLED):
            yield self._trial(sampled=False)
            if time.monotonic() > until:
                break

    def _round(self, missing: int, until: float) -> bytes:
        """Repeat the work until what is missing is to be expected; return perf's file."""
        profile, task = self._profile, self._task
        by_number = task.repetitions is not None
        have, expected = len(profile.sampled) if by_number else profile.samples.work, 0.0
        shape = self._scenario.shape
        with self._recorder.recording() as stop:
            for number in count(len(profile.sampled) + 1):
                percent = int(100 * (have + expected) / (have + missing))
                detail = f"{shape.in_words(task.cell)}, {number}"
                self._listener(StepAdvanced(STEP, percent, detail))
                metrics = self._trial(sampled=True)
                profile.sampled.append(metrics)
                if by_number or "seconds" not in metrics:  # the file is read to know
                    expected += 1 if by_number else missing
                else:
                    expected += max(1.0, metrics["seconds"] * self._recorder.frequency)
                if expected >= missing or time.monotonic() >= until:
                    return stop()
        raise AssertionError("a round ends by itself")

    def _trial(self, *, sampled: bool) -> Metrics:
        """Do the work once; perf samples the trial alone, without what goes before and after."""
        self._scenario.prepare(self._hosts, self._task.cell)
        if sampled:
            with self._recorder.sampling():
                metrics = self._scenario.trial(self._hosts, self._task.cell)
        else:
            metrics = self._scenario.trial(self._hosts, self._task.cell)
        self._scenario.check(self._hosts, self._task.cell)
        return metrics
