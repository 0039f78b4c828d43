"""All trials of a plan in one fake guest, one after the other, as they are listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fake_guest import FakeGuest

from linklab.host.accel import Accel
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.experiment import Experiment, Guest, Trial
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.ways import Arm

COUNT = 5


def plan_of(
    operations: Sequence[Operation],
    arms: Sequence[Arm],
    *,
    repeat: int = 1,
    limit: float | None = None,
    listeners: int = 0,
) -> Plan:
    """Return a plan; how many interfaces is up to the guest."""
    return Plan(
        operations=tuple(operations),
        arms=tuple(arms),
        repeat=repeat,
        limit=limit,
        listeners=listeners,
    )


def trials_in(
    guest: FakeGuest, plan: Plan, count: int = COUNT, accel: Accel = Accel.TCG
) -> Iterator[Trial]:
    """Yield each trial as it ends, first the creation; ends after one with a fault."""
    experiment = Experiment(Guest(guest, count, accel), plan)
    yield experiment.create()
    for number in range(1, plan.repeat + 1):
        for operation, arm in plan.pairs():
            trial = experiment.trial(operation, arm, number)
            yield trial
            if trial.fault:
                return
