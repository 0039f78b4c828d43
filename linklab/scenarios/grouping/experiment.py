"""The grouping experiment in one guest: every operation with every arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from linklab.agent.client import Agent
from linklab.agent.replies import Measure
from linklab.errors import WrongState
from linklab.host.accel import Accel
from linklab.scenarios.grouping.arms import Work, perform, prepare
from linklab.scenarios.grouping.change import CHANGES, Operation
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.grouping.plan import Plan, time_limit
from linklab.scenarios.grouping.ways import Arm


@dataclass(frozen=True)
class Trial:
    """One trial as it ended. `fault` says what is wrong with the state afterwards."""

    operation: Operation
    arm: Arm
    number: int
    measure: Measure
    fault: WrongState | None = None


@dataclass(frozen=True)
class Guest:
    """Where an experiment runs: an agent, how many interfaces, how fast a machine."""

    agent: Agent
    count: int
    accel: Accel


Watcher = Callable[[Operation, Arm, int], None]


def run_trials(guest: Guest, plan: Plan, about_to: Watcher) -> Iterator[Trial]:
    """Yield each trial as it ends; the first one is how the interfaces were created.

    Every trial begins in the same, checked state. Ends after a trial that left
    a wrong state, which it yields with its fault. Raises whatever the agent does.
    """
    links = Links(
        guest.agent, guest.count, plan.limit or time_limit(None, guest.count, guest.accel)
    )
    about_to(Operation.CREATE, Arm.NETLINK, 0)
    # Interfaces are needed anyway, so what making them takes is kept: the
    # paper compares it, too.  Number 0: it is set-up, whatever else is asked.
    made = links.bring_to(CHANGES[Operation.MTU].before)
    assert made is not None
    yield Trial(Operation.CREATE, Arm.NETLINK, 0, made)
    for number in range(1, plan.repeat + 1):
        for operation, arm in plan.pairs():
            about_to(operation, arm, number)
            trial = _one_trial(links, plan, guest, operation, arm, number)
            yield trial
            if trial.fault is not None:
                return


def _one_trial(
    links: Links, plan: Plan, guest: Guest, operation: Operation, arm: Arm, number: int
) -> Trial:
    change = CHANGES[operation]
    links.bring_to(change.before)
    limit = plan.limit or time_limit(arm, guest.count, guest.accel)
    prepare(arm, Work(links, change, links.deadline()))
    work = Work(links, change, time.monotonic() + limit)
    measure = perform(arm, work)
    try:
        links.check(change.after, names=operation is Operation.CREATE)
    except WrongState as fault:
        fault.message = f"after `{operation}` with arm `{arm}`: {fault.message}"
        return Trial(operation, arm, number, measure, fault)
    return Trial(operation, arm, number, measure)
