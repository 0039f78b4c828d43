"""The interfaces of one guest: made, read back, and checked one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from linklab.agent.client import Agent
from linklab.agent.replies import Measure
from linklab.errors import WrongState
from linklab.scenarios.grouping.change import (
    CHANGES,
    FIRST_NUMBER,
    GROUP,
    NAME_PREFIX,
    NEW,
    Change,
    LinkState,
    Operation,
)
from linklab.scenarios.grouping.messages import (
    IFINFOMSG_BYTES,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MTU,
    INDEX_IN_IFINFOMSG,
    LinkRun,
    dump_request,
    group_delete,
    group_transition,
    read_run,
    template,
)


class Links:
    """`count` dummy interfaces in a guest. `limit` is the seconds for one step of upkeep."""

    def __init__(self, agent: Agent, count: int, limit: float) -> None:
        self.agent = agent
        self.count = count
        self._limit = limit
        self._state: LinkState | None = None
        self._others = max((run.first + run.length - 1 for run in self._dump()), default=0)
        self.first_index = 0

    def deadline(self) -> float:
        """Return when a step of upkeep that begins now must be done (monotonic, s)."""
        return time.monotonic() + self._limit

    def bring_to(self, wanted: LinkState | None) -> Measure | None:
        """Bring the interfaces into a state, untimed, and check that they are in it.

        Returns the measure of creating them, where they had to be created.
        """
        made = None
        if self._state is not None and wanted is None:
            self._delete()
        elif wanted is not None:
            if self._state is None:
                made = self.each(CHANGES[Operation.CREATE], self.deadline())
                self.check(NEW, names=True)
            self._move(wanted)
        self.check(wanted)
        return made

    def each(self, change: Change, deadline: float) -> Measure:
        """Do a change with one netlink message for each interface."""
        message = template(change)
        first = FIRST_NUMBER if message.width else self.first_index
        return self.agent.netlink_each(
            message.request,
            first,
            self.count,
            offset=message.offset,
            width=message.width,
            deadline=deadline,
        )

    def check(self, expected: LinkState | None, *, names: bool = False) -> None:
        """Read all interfaces back and compare; remember the state they are in.

        Names are compared where asked for, that is after creation. Raises
        `WrongState`, naming the first interface that is wrong.
        """
        runs = self._ours(names=names, address=expected is not None and bool(expected.address))
        self._state = expected
        if expected is None:
            if runs:
                raise WrongState(f"{self._name_of(runs[0].first)} is still there after deletion")
            return
        self._check_presence(runs, names=names)
        self.first_index = runs[0].first
        for run in runs:
            if fault := _difference(run.state, expected):
                raise WrongState(f"{self._name_of(run.first)} has {fault}")

    def _check_presence(self, runs: list[LinkRun], names: bool) -> None:
        if names:
            present = {run.name for run in runs}
            for number in range(FIRST_NUMBER, FIRST_NUMBER + self.count):
                if f"{NAME_PREFIX}{number}" not in present:
                    raise WrongState(f"{NAME_PREFIX}{number} is missing")
        have = sum(run.length for run in runs)
        if have != self.count:
            raise WrongState(f"there are {have} interfaces instead of {self.count}")
        if runs[-1].first + runs[-1].length - runs[0].first != self.count:
            raise WrongState("the interfaces' indexes have a gap: something else made one")

    def _move(self, wanted: LinkState) -> None:
        """Change what differs from `wanted`, by group where a group can be told."""
        state = self._state
        assert state is not None
        if state.group != wanted.group:
            change = Change(Operation.GROUP, state, wanted)
            self.each(change, self.deadline())
        elif state != wanted:
            request = group_transition(GROUP, state, wanted)
            self.agent.netlink([request], self.deadline())
        self._state = wanted

    def _delete(self) -> None:
        state = self._state
        group = GROUP if state is None else state.group
        self.agent.netlink([group_delete(group)], self.deadline())

    def _dump(self, *extra: int) -> Iterator[LinkRun]:
        kept = (IFLA_MTU, IFLA_GROUP, *extra)
        runs = self.agent.dump(
            dump_request(),
            kept,
            self.deadline(),
            header=IFINFOMSG_BYTES,
            index=INDEX_IN_IFINFOMSG,
        )
        return (read_run(run) for run in runs)

    def _ours(self, *, names: bool, address: bool) -> list[LinkRun]:
        extra = (*((IFLA_IFNAME,) if names else ()), *((IFLA_ADDRESS,) if address else ()))
        return [run for run in self._dump(*extra) if run.first > self._others]

    def _name_of(self, index: int) -> str:
        for run in self._ours(names=True, address=False):
            if run.first == index:
                return f"{run.name} (ifindex {index})"
        return f"the interface with ifindex {index}"


def _difference(state: LinkState, expected: LinkState) -> str | None:
    """Return what is wrong with a state, in words, or None."""
    for what in ("mtu", "up", "group", "address"):
        is_, wanted = getattr(state, what), getattr(expected, what)
        if wanted is not None and is_ != wanted:
            return f"{what} {is_} instead of {wanted}"
    return None
