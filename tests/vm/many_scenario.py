"""many: hosts behind a host, each asked by its name, and each asking."""

from __future__ import annotations

from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import Hosts, Metrics, Scenario

_ASK = "for i; do ping -q -c 1 -W 1 $i >/dev/null && echo $i; done"


class Many(Scenario):
    """`a` asks all that are behind `b`, and all that are there ask `a`."""

    name = "many"
    about = "hosts behind a host, each asked by its name"
    shape = Shape(
        axes=(Axis("arm", ("names",), among=("names",)),),
        metrics=(Metric("answered", better=Better.MORE, zero=True),),
        rows="arm",
    )
    topology = "a -- b[3]"

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Count the answers."""
        behind = self.drawn.everyone[len(self.drawn.hosts) :]
        said = hosts["a"].printed(["/bin/sh", "-c", _ASK, "sh", *behind])
        said += "".join(hosts[one].printed(["/bin/sh", "-c", _ASK, "sh", "a"]) for one in behind)
        return {"answered": len(said.split())}
