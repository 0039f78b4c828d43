"""The ways that a connection can take, and when they die: what trials and claims both know."""

from __future__ import annotations

from dataclasses import dataclass

from linklab.lab.topology import Port, Topology, Way

SPEAKS = ("mptcp", "backup", "fullmesh")
FALLS_BACK = ("plain-listener", "disabled", "stripped")
DIES = {  # when paths end and come back, in parts of the time that is sent, and which path
    "failover": ((1 / 3, 0, False), (1.0, 0, True)),
    "dark": ((1 / 3, 0, False), (1.0, 0, True)),
    "failback": ((1 / 4, 0, False), (1 / 2, 0, True), (3 / 4, 1, False), (1.0, 1, True)),
    "preference": ((1 / 2, 0, False), (1.0, 0, True)),
}


@dataclass(frozen=True)
class Path:
    """A link from the sender to the receiver: its ends, and what it does on the way there."""

    near: Port
    far: Port
    way: Way

    @property
    def addresses(self) -> tuple[str, str]:
        """Its ends' addresses."""
        return str(self.near.addresses[0].ip), str(self.far.addresses[0].ip)


def paths_of(network: Topology) -> list[Path]:
    """Return the links from the first host to the last one, the best one first."""
    a, b = network.hosts[0], network.hosts[-1]
    found = []
    for link, (near, far) in zip(network.links, network.ports, strict=True):
        if (near.host, far.host) == (a, b):
            found.append(Path(near, far, link.there))
        elif (near.host, far.host) == (b, a):
            found.append(Path(far, near, link.back))
    return sorted(found, key=lambda path: (-(path.way.rate or 1 << 62), path.way.delay))
