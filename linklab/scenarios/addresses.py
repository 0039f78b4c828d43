"""addresses: adding, listing and deleting many addresses of an interface, and connecting to them.

What the kernel does with an address is a list in its interface and a hash over all of
them (`inet_addr_lst` in `net/ipv4/devinet.c`): the first is walked when one is added,
the second is asked for every packet that comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import ClassVar

from linklab.errors import WrongState
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import Topology
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.aliases import not_a_to_b
from linklab.scenarios.scenario import IP, Hosts, Metrics, Parameter, Scenario

__all__ = ["Addresses"]

_FIRST = IPv4Address("10.200.0.1")
_NETWORK = "10.200.0.0/16"
_ELSEWHERE = "192.0.2.1"
_PORT = 5002


class Addresses(Scenario):
    """See above. `b` has the addresses, `a` connects to them."""

    name = "addresses"
    about = "adding, listing and deleting many addresses, and connecting to them"
    shape = Shape(
        axes=(
            Axis(
                "operation",
                ("add", "list", "delete", "connect"),
                among=("add", "list", "delete", "connect"),
                help="add, list, delete: one `ip`, for all of them; connect: the median time of "
                "a TCP connection's set-up, to one after the other",
            ),
            Axis("addresses", (10, 100, 1000, 10_000), "addresses", most=60_000),
        ),
        metrics=(
            Metric("seconds", "s", short="time"),
            Metric("system_seconds", "s", zero=True, short="system"),
        ),
        rows="addresses",
        columns="operation",
        text="{operation}, {addresses} addresses",
    )
    topology = "a -- b"
    parameters = (Parameter("connections", 200, "how many a trial of `connect` makes", 1, 1000),)
    compared: ClassVar = {"operation": ("add", "connect"), "addresses": (1000,)}
    judged: ClassVar = {"addresses": (100,)}
    profiled: ClassVar = {"operation": ("add",), "addresses": (10_000,)}

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the addresses, each with its routes."""
        return 256 + int(cell.number("addresses")) // 200

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why nobody sends to anybody."""
        return not_a_to_b(network)

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for so many addresses: each addition walks those there are."""
        return 60 + float(cell.get("addresses", 0)) * (0.05 if emulated else 0.01)

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Let the one who connects find the addresses."""
        hosts["a"].ip(f"route add {_NETWORK} via {hosts['b'].address()}")
        self.there = 0
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have all addresses there, or none before they are added."""
        host, count = hosts["b"], int(cell["addresses"])
        wanted = 0 if cell["operation"] == "add" else count
        if self.there and self.there != wanted:
            self._change(hosts, "del", self.there)
        if wanted and self.there != wanted:
            self._change(hosts, "add", wanted)
        if cell["operation"] in ("add", "delete"):
            host.write_batch(_lines(hosts, str(cell["operation"])[:3], count))

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Do the operation to all of them; connect to some."""
        host, count = hosts["b"], int(cell["addresses"])
        if cell["operation"] == "connect":
            return self._connect(hosts, count, cell)
        if cell["operation"] == "list":
            # All are asked for, and one that is not there is looked for among them.
            took = host.run([IP, "-4", "address", "show", "to", _ELSEWHERE], cell)
        else:
            took = host.ip_batch(cell)
            self.there = count if cell["operation"] == "add" else 0
        return {"seconds": took.seconds, "system_seconds": took.system_seconds}

    def _connect(self, hosts: Hosts, count: int, cell: Cell) -> Metrics:
        made = str(self.given["connections"])
        server = [TRAFFIC, "sink", "tcp", str(_PORT), made, "60"]
        running = hosts["b"].start(server, "listening", cell)
        words = (str(_FIRST), str(count), str(_PORT), made)
        said = hosts["a"].said([TRAFFIC, "connect", *words], cell)
        running.end()
        return {"seconds": said.number("connect_median_ns") / 1e9, "system_seconds": 0.0}

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Ask the kernel how many of them it has."""
        shown = hosts["b"].printed([IP, "-o", "-4", "address", "show", "to", _NETWORK])
        if (found := shown.count("\n")) != self.there:
            raise WrongState(
                f"after `{cell['operation']}`: b has {found} addresses of ours, "
                f"{self.there} should be there"
            )

    def _change(self, hosts: Hosts, verb: str, count: int) -> None:
        hosts["b"].write_batch(_lines(hosts, verb, count))
        hosts["b"].ip_batch()
        self.there = count if verb == "add" else 0


def _lines(hosts: Hosts, verb: str, count: int) -> Iterable[str]:
    device = hosts["b"].interface
    return (f"address {verb} {_FIRST + number}/32 dev {device}" for number in range(count))
