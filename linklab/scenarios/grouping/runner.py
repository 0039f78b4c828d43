"""A run of the grouping scenario: every kernel, every count, into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from linklab.errors import KernelFault, LinklabError
from linklab.events import Listener, StepAdvanced, step
from linklab.lab import Lab, Subject
from linklab.results.model import BootRecord, Sample
from linklab.results.store import RunFolder
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.experiment import Guest, Trial, run_trials
from linklab.scenarios.grouping.plan import NAME, Plan
from linklab.scenarios.grouping.ways import Arm
from linklab.session import Session

STEP = "measuring"


@dataclass
class Outcome:
    """What became of a run: the kernels' faults, in the order they came."""

    faults: list[LinklabError] = field(default_factory=list)


class Runner:
    """Works through a plan; keeps each sample before the next one is taken."""

    def __init__(self, lab: Lab, plan: Plan, folder: RunFolder, listener: Listener) -> None:
        self._lab = lab
        self._plan = plan
        self._folder = folder
        self._listener = listener
        self.outcome = Outcome()  # also of a run that an exception ended
        self._order = 0
        self._done = 0

    def run(self, subjects: Sequence[Subject]) -> Outcome:
        """Measure every kernel. A kernel that fails ends its own part, not the run.

        Raises what is the lab's own fault.
        """
        each = sum(_cost(self._plan, count) for count in self._plan.counts)
        with step(self._listener, STEP, each * len(subjects)):
            for number, subject in enumerate(subjects):
                try:
                    for count in self._plan.counts:
                        self._one_guest(subject, count)
                except KernelFault as fault:
                    fault.message = f"kernel {subject.name}: {fault.message}"
                    self.outcome.faults.append(fault)
                    self._folder.add_fault(subject.name, fault)
                self._done = each * (number + 1)
        return self.outcome

    def _one_guest(self, subject: Subject, count: int) -> None:
        log = self._folder.console_log(subject.label, count)
        self._tell(subject, count, "booting")
        with self._lab.session(subject, log) as session:
            self._note_boot(subject, count, session)
            guest = Guest(session.agent, count, self._lab.accel)

            def about_to(operation: Operation, arm: Arm, number: int) -> None:
                trial = f", trial {number}" if self._plan.repeat > 1 and number else ""
                self._tell(subject, count, f"{operation} by {arm}{trial}")

            for trial in run_trials(guest, self._plan, about_to):
                self._keep(subject, count, trial)
                if trial.fault is not None:
                    raise trial.fault

    def _tell(self, subject: Subject, count: int, what: str) -> None:
        detail = f"{subject.name}, {count} interfaces: {what}"
        self._listener(StepAdvanced(STEP, self._done, detail))

    def _note_boot(self, subject: Subject, count: int, session: Session) -> None:
        hello = session.hello
        self._folder.add_boot(
            BootRecord(
                kernel=subject.name,
                interfaces=count,
                seconds=round(session.boot_seconds, 6),
                clocksource=hello.clocksource,
                clock_resolution=hello.clock_resolution,
            )
        )

    def _keep(self, subject: Subject, count: int, trial: Trial) -> None:
        measure = trial.measure
        self._folder.add_sample(
            Sample(
                scenario=NAME,
                kernel=subject.name,
                boot=self._lab.boot.value,
                accel=self._lab.accel.value,
                operation=trial.operation.value,
                arm=trial.arm.value,
                interfaces=count,
                trial=trial.number,
                seconds=measure.seconds,
                user_seconds=measure.user_seconds,
                system_seconds=measure.system_seconds,
                context_switches=measure.context_switches,
                messages=measure.messages,
                processes=measure.processes,
                order=self._order,
                verified=trial.fault is None,
            )
        )
        self._order += 1
        self._done += _weight(trial.arm, count)


def _cost(plan: Plan, count: int) -> int:
    """Return how long a guest takes, in units of the progress bar."""
    trials = sum(_weight(arm, count) for _, arm in plan.pairs())
    return _weight(Arm.NETLINK, count) + trials * plan.repeat


def _weight(arm: Arm, count: int) -> int:
    # A process for each interface takes some fifty times as long as a message.
    return 50 + (count if arm in (Arm.PROCESS, Arm.DUMP) else count // 50)
