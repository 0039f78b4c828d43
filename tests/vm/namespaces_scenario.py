"""namespaces: made, used and deleted again, or left for whoever ends the guest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.scenario import GUEST, IP, Host, Hosts, Metrics, Parameter, Scenario


class Namespaces(Scenario):
    """`kept` namespaces are made in set-up, and nobody deletes them here."""

    name = "namespaces"
    about = "network namespaces: made, their loopback interface changed, deleted"
    shape = Shape(
        axes=(Axis("arm", ("ip",), among=("ip",)), Axis("namespaces", (2,), most=100)),
        metrics=(Metric("seconds", "s"),),
        rows="namespaces",
        columns="arm",
    )
    parameters: ClassVar = (Parameter("kept", 0, "namespaces that stay, from set-up on", most=100),)

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Make what stays."""
        for number in range(int(self.given["kept"])):
            _made(hosts[GUEST], f"kept{number}")
        return ()

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Make and delete them one by one."""
        host, seconds = hosts[GUEST], 0.0
        for _ in range(int(cell["namespaces"])):
            seconds += _made(host, "passing")
            seconds += host.ip("netns delete passing").seconds
        return {"seconds": seconds}


def _made(host: Host, name: str) -> float:
    """Return the seconds for a namespace that was used; `ip -n` wants a sysfs to mount."""
    inside = ["/bin/nsenter", f"--net=/run/netns/{name}", IP, "link", "set", "lo", "mtu", "9000"]
    return host.ip(f"netns add {name}").seconds + host.run(inside).seconds
