"""The grouping experiment in one guest: its interfaces, and one trial after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from linklab.agent.client import Agent
from linklab.agent.replies import Heard, Measure
from linklab.errors import WrongState
from linklab.host.accel import Accel
from linklab.scenarios.grouping.arms import Work, perform, prepare
from linklab.scenarios.grouping.change import CHANGES, Operation
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.grouping.messages import RTNLGRP_LINK
from linklab.scenarios.grouping.plan import Plan, time_limit
from linklab.scenarios.grouping.ways import Arm

LISTENER_ROOM = 1 << 20
"""The receive buffer that a listener asks for, in bytes, as `ip monitor` does
(rcvbuf in iproute2's lib/libnetlink.c); net.core.rmem_max bounds what it gets."""


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
    heard: Heard = Heard(0, 0)


@dataclass(frozen=True)
class Guest:
    """Where an experiment runs: an agent, how many interfaces, how fast a machine."""

    agent: Agent
    count: int
    accel: Accel


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

    def trial(self, operation: Operation, arm: Arm, number: int) -> Trial:
        """Do one operation by one arm and return it, with its fault if the state is wrong."""
        change, links = CHANGES[operation], self._links
        links.bring_to(change.before)
        prepare(arm, Work(links, change, links.deadline()))
        measure, heard = self._listening(
            lambda: perform(arm, Work(links, change, time.monotonic() + self._limit(arm)))
        )
        fault = None
        try:
            links.check(change.after, names=operation is Operation.CREATE)
        except WrongState as wrong:
            wrong.message = f"after `{operation}` with arm `{arm}`: {wrong.message}"
            fault = wrong
        return Trial(operation, arm, number, measure, fault, heard)

    def _limit(self, arm: Arm | None) -> float:
        return self._plan.limit or time_limit(arm, self._guest.count, self._guest.accel)

    def _listening(self, work: Callable[[], Measure]) -> tuple[Measure, Heard]:
        """Do some work while the plan's listeners listen; starting them is not timed."""
        if not self._plan.listeners:
            return work(), Heard(0, 0)
        agent, links = self._guest.agent, self._links
        agent.listen(self._plan.listeners, RTNLGRP_LINK, links.deadline(), room=LISTENER_ROOM)
        measure = work()
        ears = agent.listened(links.deadline())
        return measure, Heard(sum(ear.received for ear in ears), sum(ear.lost for ear in ears))
