"""The interfaces of one guest: made, read back, and checked one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace

from linklab.agent.links import (
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MTU,
    dump_addresses,
    dump_links,
    group_delete,
)
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
from linklab.scenarios.grouping.messages import LinkRun, group_transition, read_run, template
from linklab.scenarios.scenario import Host


class Links:
    """`count` dummy interfaces of a host."""

    def __init__(self, host: Host, count: int) -> None:
        self.host = host
        self.count = count
        self._state: LinkState | None = None
        self._others = _states(self._dump())
        self._last_other = max(self._others, default=0)
        self.first_index = 0

    def seen_by(self, host: Host, count: int, times: float) -> Links:
        """Return the first `count` of the interfaces as a slower host sees them.

        To do something to them: in what state all are is not known after that,
        until they are checked, or made anew after `scrap`.
        """
        seen = copy(self)
        slow = replace(host, limit=lambda cell: times * host.limit(cell))
        seen.host, seen.count = slow, count
        return seen

    def scrap(self) -> None:
        """Delete what there is of the interfaces, whatever state each is in."""
        for group in sorted({run.state.group for run in self._ours(self._dump())}):
            self.host.agent.netlink([group_delete(group)], self.host.until())
        self.check(None)

    def bring_to(self, wanted: LinkState | None) -> Measure | None:
        """Bring the interfaces into a state, untimed, and check that they are in it.

        Returns the measure of creating them, where they had to be created.
        """
        made = None
        if self._state is not None and wanted is None:
            self._delete()
        elif wanted is not None:
            if self._state is None:
                made = self.each(CHANGES[Operation.CREATE], self.host.until())
                self.check(NEW, names=True)
            self._move(wanted)
        self.check(wanted)
        return made

    def each(self, change: Change, deadline: float) -> Measure:
        """Do a change with one netlink message for each interface."""
        message = template(change)
        first = FIRST_NUMBER if message.width else self.first_index
        return self.host.agent.netlink_each(
            message.request,
            first,
            self.count,
            offset=message.offset,
            width=message.width,
            deadline=deadline,
        )

    def regroup(self, groups: Sequence[int]) -> None:
        """Give equal parts of the interfaces, in order of their indexes, a group each."""
        part = self.count // len(groups)
        for number, group in enumerate(groups):
            wanted = replace(NEW, group=group)
            change = Change(Operation.GROUP, replace(NEW, group=group + 1), wanted)
            seen, more = copy(self), self.count % len(groups) if number + 1 == len(groups) else 0
            seen.first_index, seen.count = self.first_index + number * part, part + more
            seen.each(change, self.host.until())

    def check_parts(self, parts: Sequence[LinkState]) -> None:
        """Read all interfaces back: equal parts of them, as of `regroup`, are in a state each.

        Raises `WrongState`, naming the first interface that is wrong.
        """
        runs, size = self._ours(self._dump()), self.count // len(parts)
        self._check_presence(runs, names=False)
        for run in runs:
            for index in range(run.first, run.first + run.length):
                part = min((index - self.first_index) // size, len(parts) - 1)
                if fault := _difference(run.state, parts[part]):
                    raise WrongState(f"{self._name_of(index)} has {fault}")

    def names(self) -> Iterator[str]:
        """Yield the interfaces' names, in the order in which they were made."""
        return (f"{NAME_PREFIX}{FIRST_NUMBER + number}" for number in range(self.count))

    def addresses(self) -> Iterator[tuple[str, tuple[str, list[str]]]]:
        """Yield each interface's name, its MAC and its IPv4 addresses, as the kernel has them."""
        given = dict(dump_addresses(self.host.agent, self.host.until()))
        for run in self._ours(self._dump(IFLA_IFNAME, IFLA_ADDRESS)):
            yield str(run.name), (str(run.state.address), given.get(run.first, []))

    def check(self, expected: LinkState | None, *, names: bool = False) -> None:
        """Read all interfaces back and compare; remember the state they are in.

        Names are compared where asked for, that is after creation. Raises
        `WrongState`, naming the first interface that is wrong, be it one that
        was there before and should have been left alone.
        """
        wants_address = expected is not None and bool(expected.address)
        extra = ((IFLA_IFNAME, names), (IFLA_ADDRESS, wants_address))
        runs = self._dump(*(kind for kind, wanted in extra if wanted))
        self._state = expected
        self._check_ours(self._ours(runs), expected, names=names)
        self._check_others(runs)

    def _check_ours(self, runs: list[LinkRun], expected: LinkState | None, *, names: bool) -> None:
        if expected is None:
            if runs:
                raise WrongState(f"{self._name_of(runs[0].first)} is still there after deletion")
            return
        self._check_presence(runs, names=names)
        self.first_index = runs[0].first
        for run in runs:
            if fault := _difference(run.state, expected):
                raise WrongState(f"{self._name_of(run.first)} has {fault}")

    def _check_presence(self, runs: list[LinkRun], *, names: bool) -> None:
        have = sum(run.length for run in runs)
        whole = have == self.count and runs[-1].first + runs[-1].length - runs[0].first == have
        if whole and not names:
            return
        listed = runs if names else self._ours(self._dump(IFLA_IFNAME))
        present = {run.name for run in listed}
        numbers = range(FIRST_NUMBER, FIRST_NUMBER + self.count)
        wanted = dict.fromkeys(f"{NAME_PREFIX}{number}" for number in numbers)
        if missing := next((name for name in wanted if name not in present), None):
            raise WrongState(f"{missing} is missing")
        if odd := next((run for run in listed if run.name not in wanted), None):
            raise WrongState(f"{odd.name} (ifindex {odd.first}) is one too many")
        if not whole:
            raise WrongState("the interfaces' indexes have a gap: something else made one")

    def _check_others(self, runs: Iterable[LinkRun]) -> None:
        """Whoever changes a group must leave the interfaces outside of it alone."""
        now = _states(run for run in runs if run.first <= self._last_other)
        for index, before in self._others.items():
            state = now.get(index)
            fault = "gone" if state is None else _difference(state, before)
            if fault:
                is_ = "is" if state is None else "has"
                raise WrongState(f"{self._name_of(index)}, none of the group's, {is_} {fault}")

    def _move(self, wanted: LinkState) -> None:
        """Change what differs from `wanted`, by group where a group can be told."""
        state = self._state
        assert state is not None
        if state.group != wanted.group:
            change = Change(Operation.GROUP, state, wanted)
            self.each(change, self.host.until())
        elif state != wanted:
            request = group_transition(GROUP, state, wanted)
            self.host.agent.netlink([request], self.host.until())
        self._state = wanted

    def _delete(self) -> None:
        state = self._state
        group = GROUP if state is None else state.group
        self.host.agent.netlink([group_delete(group)], self.host.until())

    def _dump(self, *extra: int) -> list[LinkRun]:
        kept = (IFLA_MTU, IFLA_GROUP, *extra)
        runs = dump_links(self.host.agent, kept, self.host.until())
        return [read_run(run) for run in runs]

    def _ours(self, runs: Iterable[LinkRun]) -> list[LinkRun]:
        """Return what is behind the interfaces that were there before.

        A run goes over that border where both sides say the same.
        """
        return [
            run if run.first > self._last_other else _behind(run, self._last_other)
            for run in runs
            if run.first + run.length - 1 > self._last_other
        ]

    def _name_of(self, index: int) -> str:
        for run in self._dump(IFLA_IFNAME):
            if run.first == index:
                return f"{run.name} (ifindex {index})"
        return f"the interface with ifindex {index}"


def _behind(run: LinkRun, index: int) -> LinkRun:
    """Return the part of a run that is behind an index."""
    return replace(run, first=index + 1, length=run.first + run.length - 1 - index, name=None)


def _states(runs: Iterable[LinkRun]) -> dict[int, LinkState]:
    """Return the state of each interface, without its address, which not every dump has."""
    return {
        run.first + place: replace(run.state, address=None)
        for run in runs
        for place in range(run.length)
    }


def _difference(state: LinkState, expected: LinkState) -> str | None:
    """Return what is wrong with a state, in words, or None."""
    for what in ("mtu", "up", "group", "address"):
        is_, wanted = getattr(state, what), getattr(expected, what)
        if wanted is not None and is_ != wanted:
            return f"{what} {is_} instead of {wanted}"
    return None
