"""What an unshaped link costs, by the model of its network interfaces.

Two guests, joined by pairs of sockets and nothing else: a TCP connection as fast as it
goes, and requests of one byte, as the scenario `nic` has them. In real time, as guests that
hear each other are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich.table import Table

from linklab.bench.figures import empty_table
from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import Cached
from linklab.lab.guests import GuestPlace
from linklab.lab.lab import Lab, Subject
from linklab.lab.topology import parse
from linklab.machine.spec import NicModel
from linklab.results.shape import Cell
from linklab.scenarios import scenario_named
from linklab.scenarios.scenario import Host

MEMORY = 128  # MiB
SCENARIO = "nic"
TOPOLOGY = parse("a == b")
_STEP = "network interfaces"
_LIMIT = 120.0  # s for a program in the guest
_COLUMNS = (
    "--nic",
    "goodput Mbit/s",
    "sender's CPU s/Gbit",
    "receiver's CPU s/Gbit",
    "request ms",
    "request ms, 99 %",
)
_CAPTION = (
    "medians, and the least and the most. CPU: of the host, all that QEMU took, the guest in it; "
    "request: one byte there and one back over TCP"
)


@dataclass(frozen=True)
class NicCost:
    """What one run over a link gave. CPU time is the host's, of a whole QEMU."""

    goodput: float  # Mbit/s
    sender: float  # s for each Gbit that arrived
    receiver: float
    request: float  # ms, the median
    request_p99: float

    @property
    def values(self) -> tuple[float, ...]:
        """The figures in the order of the table's columns."""
        return self.goodput, self.sender, self.receiver, self.request, self.request_p99


def cost_of(lab: Lab, subject: Subject, wire: Cached, nic: NicModel, log: Path) -> NicCost:
    """Return what a link of one model costs, between new guests. Raises what a session raises."""
    place = GuestPlace(TOPOLOGY, wire, nic)
    with replace(lab, guests=place).network(subject, log, seed=0) as joined:
        limit = lab.slowness * _LIMIT
        hosts = {
            name: Host(
                name, session.agent, lambda _cell: limit, network=TOPOLOGY, outside=session.outside
            )
            for name, session in joined.sessions.items()
        }
        place.bring_up(hosts)
        kind = scenario_named(SCENARIO)
        scenario = kind({each.name: each.default for each in kind.parameters})
        setup, found = Cell({kind.nic_axis: nic.value}), dict[str, float]()
        list(scenario.set_up(hosts, setup))
        for load in kind.shape.axis(kind.shape.rows).values:
            found |= scenario.trial(hosts, Cell({kind.shape.rows: load, **setup}))
    return NicCost(
        goodput=found["goodput"],
        sender=found["sender_cpu"],
        receiver=found["receiver_cpu"],
        request=found["request"],
        request_p99=found["request_p99"],
    )


def cost_of_all(
    lab: Lab, subject: Subject, wire: Cached, repeat: int, listener: Listener
) -> dict[NicModel, list[NicCost]]:
    """Return the costs of each model; the models by turns, so that a busy host disturbs all."""
    found: dict[NicModel, list[NicCost]] = {model: [] for model in NicModel}
    turns = [model for _ in range(repeat) for model in NicModel]
    with (
        tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder,
        step(listener, _STEP, len(turns)),
    ):
        for done, model in enumerate(turns):
            listener(StepAdvanced(_STEP, done, model.value))
            log = Path(folder) / f"console-{done}.log"
            found[model].append(cost_of(lab, subject, wire, model, log))
    return found


def table(lab: Lab, subject: Subject, costs: Mapping[NicModel, Sequence[NicCost]]) -> Table:
    """Return the table, a row for each model, the accelerator over it."""
    about = "; an unshaped link of two guests"
    shown = empty_table(lab, subject, about, _COLUMNS, caption=_CAPTION)
    for model, runs in costs.items():
        shown.add_row(model.value, *map(_spread, zip(*(run.values for run in runs), strict=True)))
    return shown


def _spread(values: Sequence[float]) -> str:
    middle = f"{median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"
