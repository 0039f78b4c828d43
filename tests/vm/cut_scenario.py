"""cut: a link between two hosts goes down or dark, is seen to, and comes back."""

from __future__ import annotations

from typing import ClassVar

from linklab.errors import WrongState
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.scenario import Hosts, Metrics, Parameter, Scenario

_LOST = "ping -q -c 3 -i 0.2 -W 1 $0 | sed -n 's/.* \\([0-9]*\\) packets received.*/\\1/p'"
_STATE = "until ip -o link show dev $0 | grep -q $1; do sleep 0.1; done"


class Cut(Scenario):
    """`a` pings `b` over a link that is cut; with `waits` it goes on until there is an answer."""

    name = "cut"
    about = "pings over a link that is cut"
    shape = Shape(
        axes=(Axis("arm", ("down", "dark"), among=("down", "dark")),),
        metrics=(Metric("answers", zero=True),),
        rows="arm",
    )
    topology = "a -- b: 10mbit 5ms"
    parameters: ClassVar = (Parameter("waits", 0, "wait for an answer for ever", most=1),)

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds that a program here may take."""
        return 30.0

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Cut it, ping, and let it be as before."""
        a, links = hosts["a"], hosts["a"].links
        cut = links.pull if cell["arm"] == "down" else links.darken
        cut(0)
        for host, interface in (("a", "b"), ("b", "a")):
            word = "NO-CARRIER" if cell["arm"] == "down" else "LOWER_UP"
            hosts[host].run(["/bin/sh", "-c", _STATE, interface, word])
        if self.given["waits"]:
            a.run(["/bin/sh", "-c", "until ping -q -c 1 -W 1 $0; do :; done", hosts["b"].address()])
        answers = self._answers(hosts)
        links.plug(0)
        for host, interface in (("a", "b"), ("b", "a")):
            hosts[host].run(["/bin/sh", "-c", _STATE, interface, "LOWER_UP"])
        if not self._answers(hosts):
            raise WrongState("nothing comes over a link that was brought back")
        return {"answers": answers}

    def _answers(self, hosts: Hosts) -> float:
        said = hosts["a"].printed(["/bin/sh", "-c", _LOST, hosts["b"].address()])
        return float(said)
