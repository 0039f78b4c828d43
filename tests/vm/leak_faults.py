"""Kernels that keep what they should give back: each a patch, and the work that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faults import Fault, Scene

from linklab.errors import Verdict
from linklab.results.shape import Cell
from linklab.scenarios import scenario_named
from linklab.trials.guest import Close, GuestAtWork, Job, Open
from linklab.trials.plan import GuestSlot, Leaks, Plan, Turn

Axes = Mapping[str, str | int]
PATCHES = Path(__file__).parent / "patches" / "leaks"
NAMESPACES = str(Path(__file__).parent / "namespaces_scenario.py")
_LIMIT = 300.0  # s; before it calls something a leak the lab repeats it, and waits for 130
_GROUP: Axes = {"operation": "mtu", "arm": "group", "interfaces": 128}
_ROUTES: Axes = {"operation": "add", "arm": "netlink", "routes": 100}
_SPACES: Axes = {"arm": "ip", "namespaces": 2}


@dataclass(frozen=True)
class Work:
    """A guest's life: one trial of a cell, and its end."""

    scenario: str
    cell: Axes
    given: Axes

    def __call__(self, scene: Scene) -> None:
        """Let the fault that the guest's end finds out."""
        kind, cell = scenario_named(self.scenario), Cell(self.cell)
        given = {each.name: each.default for each in kind.parameters} | dict(self.given)
        plan = Plan(self.scenario, (cell,), given, leaks=Leaks.CHEAP)
        slot = GuestSlot(0, scene.subject.name, cell.of(plan.shape.per_guest))
        kind.load()
        guest = GuestAtWork(scene.lab, plan, scene.subject, slot, scene.folder / "console.log")
        jobs: list[Job] = [Open(), Turn(slot, cell, 1), Close()]
        for job in jobs:
            if isinstance(job, Close):
                scene.deadline()
            answer = guest.do(job, None)
            if answer.error is not None:
                raise answer.error


@dataclass(frozen=True)
class Leak:
    """A patch that leaks, and the fault that it is."""

    patch: Path
    fault: Fault


def _leak(
    name: str, patch: str, says: str, cell: Axes, scenario: str = "grouping",
    **given: str | int,
) -> Leak:  # fmt: skip
    work = Work(scenario, cell, given)
    how = f"`tests/vm/patches/leaks/{patch}.patch`"
    return Leak(PATCHES / f"{patch}.patch", Fault(name, how, Verdict.FAIL, says, _LIMIT, work))


# A trial of `mtu` sets each MTU twice, there and back; each time listeners are told once: an
# skb of 256 bytes, and 4096 of data.
LEAKS = (
    _leak(
        "16 bytes are leaked",
        "bytes",
        r"4[01]\d\d bytes of slab .* 3[1-3] for each of the 128",
        _GROUP,
    ),
    _leak(
        "an skb is leaked", "skb", r"111\d{4} bytes of slab .* 87\d\d for each of the 128", _GROUP
    ),
    _leak("a device's reference is leaked", "device", "unregister_netdevice: waiting", _GROUP),
    _leak(
        "a neighbour's reference is leaked",
        "neighbour",
        "unregister_netdevice: waiting",
        _ROUTES,
        "routes",
    ),
    _leak(
        "a namespace's reference is leaked",
        "namespace",
        r"leaves \d+ bytes of slab",
        _SPACES,
        NAMESPACES,
    ),
    _leak(
        "a namespace that was left stays",
        "namespace",
        "the network namespace kept0 is still there",
        {**_SPACES, "namespaces": 1},
        NAMESPACES,
        kept=1,
    ),
)
