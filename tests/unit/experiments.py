"""The grouping scenario for tests: plans of it, and its trials in one fake guest, in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from fake_guest import FakeGuest
from fake_lab import lab_of
from hand_made import cell

from linklab.errors import WrongState
from linklab.host.accel import Accel
from linklab.results.shape import Cell
from linklab.scenarios.grouping import ARMS, Grouping
from linklab.scenarios.scenario import GUEST, Hosts, Metrics
from linklab.trials.guest import host_of
from linklab.trials.plan import Plan, cells_of

COUNT = 5
OPERATIONS = ("create", "mtu", "up", "down", "address", "group", "delete")
EVERY_ARM = tuple(ARMS)
EVERY_PAIR = [
    (operation, arm)
    for operation in OPERATIONS
    for arm in EVERY_ARM
    if not Grouping.refusal(cell(operation, arm, 1))
]


def plan_of(
    operations: Sequence[str] = ("mtu",),
    arms: Sequence[str] = ("group", "process"),
    counts: Sequence[int] = (COUNT,),
    *,
    listeners: int = 0,
    **more: Any,
) -> Plan:
    """Return a plan of everything that arms can do of some operations."""
    values = {"operation": operations, "arm": arms, "interfaces": counts}
    return Plan("grouping", cells_of(Grouping, values), {"listeners": listeners}, **more)


def hosts_of(
    guest: FakeGuest, count: int = COUNT, accel: Accel = Accel.TCG, limit: float | None = None
) -> Hosts:
    """Return a guest as the scenario sees it: where it works, and how long each step may take."""
    session: Any = SimpleNamespace(agent=guest)
    setup = Cell({"interfaces": count})
    return {GUEST: host_of(session, lab_of(accel=accel), Grouping, setup, limit)}


@dataclass(frozen=True)
class Tried:
    """One trial as it ended; `fault` says what is wrong with the state afterwards."""

    cell: Cell
    number: int
    metrics: Metrics
    fault: WrongState | None = None

    @property
    def operation(self) -> object:
        return self.cell["operation"]

    @property
    def arm(self) -> object:
        return self.cell["arm"]


def trials_in(
    guest: FakeGuest, plan: Plan, count: int = COUNT, accel: Accel = Accel.TCG
) -> Iterator[Tried]:
    """Yield each trial as it ends, first the creation; ends after one with a fault."""
    scenario, hosts = Grouping(plan.given), hosts_of(guest, count, accel, plan.limit)
    for made, metrics in scenario.set_up(hosts, Cell({"interfaces": count})):
        yield Tried(made, 0, metrics)
    for number in range(1, plan.repeat + 1):
        for each in plan.cells:
            scenario.prepare(hosts, each)
            metrics = scenario.trial(hosts, each)
            try:
                scenario.check(hosts, each)
            except WrongState as wrong:
                yield Tried(each, number, metrics, wrong)
                return
            yield Tried(each, number, metrics)
