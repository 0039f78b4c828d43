"""The grouping experiment in one guest: its interfaces, and one trial after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from linklab.agent.client import Agent, TracedAgent
from linklab.agent.replies import Heard, Measure, Tally
from linklab.errors import WrongState
from linklab.host.accel import Accel
from linklab.scenarios.grouping.arms import Work, perform, prepare, start_once
from linklab.scenarios.grouping.change import CHANGES, Operation
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.grouping.messages import RTNLGRP_LINK
from linklab.scenarios.grouping.plan import Plan, time_limit
from linklab.scenarios.grouping.ways import Arm

LISTENER_ROOM = 1 << 20
"""The receive buffer that a listener asks for, in bytes, as `ip monitor` does
(rcvbuf in iproute2's lib/libnetlink.c); net.core.rmem_max bounds what it gets."""
WATCHED_ROW = 9  # processes
_WATCHED_LIMIT = 10  # times the limit of the same work when nobody watches
NOTHING_HEARD = Heard(0, 0)


@dataclass(frozen=True)
class Trial:
    """One trial as it ended. `fault` says what is wrong with the state afterwards.

    `heard` is what all listeners got together.
    """

    operation: Operation
    arm: Arm
    number: int
    measure: Measure
    fault: WrongState | None = None
    heard: Heard = NOTHING_HEARD


@dataclass(frozen=True)
class Guest:
    """Where an experiment runs: an agent, how many interfaces, how fast a machine."""

    agent: Agent
    count: int
    accel: Accel
    slowness: float = 1.0


Around = Callable[[], AbstractContextManager[None]]


class Experiment:
    """A guest with interfaces. Every trial begins in the same, checked state.

    Whatever the agent raises comes through.
    """

    def __init__(self, guest: Guest, plan: Plan) -> None:
        self._guest = guest
        self._plan = plan
        self._links = Links(guest.agent, guest.count, self._limit(None))

    def create(self) -> Trial:
        """Make the interfaces. To be called once, before any trial.

        They are needed anyway, so what making them takes is kept: the paper
        compares it, too. As trial 0: it is set-up, whatever else is asked.
        """
        made = self._links.bring_to(CHANGES[Operation.MTU].before)
        assert made is not None
        return Trial(Operation.CREATE, Arm.NETLINK, 0, made)

    def warm_up(self) -> None:
        """Have the arms' program in memory before the first trial, if that one is kept."""
        if self._plan.begins_cold and any(arm is not Arm.NETLINK for arm in self._plan.arms):
            start_once(self._links)

    def trial(
        self, operation: Operation, arm: Arm, number: int, around: Around = nullcontext
    ) -> Trial:
        """Do one operation by one arm and return it, with its fault if the state is wrong.

        `around` makes a context for the operation alone, without what goes
        before and after it.
        """
        change, links = CHANGES[operation], self._links
        links.bring_to(change.before)
        prepare(arm, Work(links, change, links.deadline()))

        def work() -> Measure:
            with around():
                return perform(arm, Work(links, change, time.monotonic() + self._limit(arm)))

        measure, heard = self._listening(work)
        fault = None
        try:
            links.check(change.after, names=operation is Operation.CREATE)
        except WrongState as wrong:
            wrong.message = f"after `{operation}` with arm `{arm}`: {wrong.message}"
            fault = wrong
        return Trial(operation, arm, number, measure, fault, heard)

    def tally(self, operation: Operation, arm: Arm) -> Tally:
        """Count what one operation by one arm asks of the kernel. To be done last, untimed.

        The work is done once more, watched, which takes several times as long.
        Of a long row of processes, one for each interface, the first few are
        watched, and all others taken to do what those behind the first did on
        average: where a program's memory happens to lie makes a difference of
        a few system calls.
        """
        if arm not in (Arm.PROCESS, Arm.DUMP) or self._guest.count <= WATCHED_ROW:
            return self._watched(operation, arm, self._guest.count)
        one, row = (self._watched(operation, arm, count) for count in (1, WATCHED_ROW))
        return one + (row - one) * (self._guest.count - 1) // (WATCHED_ROW - 1)

    def _watched(self, operation: Operation, arm: Arm, count: int) -> Tally:
        change, links = CHANGES[operation], self._links
        links.bring_to(change.before)
        prepare(arm, Work(links, change, links.deadline()))
        watched = TracedAgent(self._guest.agent)
        limit = _WATCHED_LIMIT * self._limit(arm)
        perform(arm, Work(links.seen_by(watched, count), change, time.monotonic() + limit))
        if count == links.count:
            links.check(change.after, names=operation is Operation.CREATE)
        else:
            links.scrap()
        return watched.tally

    def _limit(self, arm: Arm | None) -> float:
        guest = self._guest
        return self._plan.limit or guest.slowness * time_limit(arm, guest.count, guest.accel)

    def _listening(self, work: Callable[[], Measure]) -> tuple[Measure, Heard]:
        """Do some work while the plan's listeners listen; starting them is not timed."""
        if not self._plan.listeners:
            return work(), NOTHING_HEARD
        agent, links = self._guest.agent, self._links
        agent.listen(self._plan.listeners, RTNLGRP_LINK, links.deadline(), room=LISTENER_ROOM)
        measure = work()
        ears = agent.listened(links.deadline())
        return measure, Heard(sum(ear.received for ear in ears), sum(ear.lost for ear in ears))
