"""routes: adding, looking up and deleting many IPv4 routes.

Each is a host route in the main table, so what is measured is the trie of
`net/ipv4/fib_trie.c`, and the way of a request to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import ClassVar

from linklab.agent.client import NETWORK_ORDER
from linklab.agent.replies import Measure
from linklab.errors import WrongState
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import GUEST, Host, Hosts, Metrics, Scenario

__all__ = ["Routes"]

_FIRST = int(IPv4Address("10.0.0.0"))
_VIA = "192.0.2.2"
_LINK = "routes0"
_ROUTE_KIB = 6
_FEW = 10_000  # what a process each is patient for
_MAIN = 254  # linux/rtnetlink.h: RT_TABLE_MAIN


class Routes(Scenario):
    """See above. A guest has one dummy interface, and no route of ours between trials."""

    name = "routes"
    about = "adding, looking up and deleting many IPv4 routes"
    shape = Shape(
        axes=(
            Axis("operation", ("add", "get", "delete"), among=("add", "get", "delete")),
            Axis(
                "arm",
                ("batch", "netlink"),
                among=("netlink", "batch", "process"),
                help="netlink: a message each, one socket; batch: one `ip -batch`; process: an "
                f"`ip` each, up to {_FEW} routes",
            ),
            Axis("routes", (100, 1000, 10_000), "routes", most=1_000_000),
        ),
        metrics=(
            Metric("rate", "1/s", Better.MORE, title="routes a second", short="rate"),
            Metric("seconds", "s", short="time"),
            Metric("system_seconds", "s", zero=True, short="system"),
            Metric("context_switches", zero=True, short="context switches"),
        ),
        rows="routes",
        columns="arm",
        text="{operation} by {arm}, {routes} routes",
    )
    compared: ClassVar = {"operation": ("add", "get"), "arm": ("netlink",), "routes": (10_000,)}
    judged: ClassVar = {
        "operation": ("add", "get", "delete"),
        "arm": ("netlink",),
        "routes": (100,),
    }
    profiled: ClassVar = {"operation": ("get",), "arm": ("netlink",), "routes": (10_000,)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why so many processes are not started."""
        if cell["arm"] == "process" and cell.number("routes") > _FEW:
            return f"a process for each of more than {_FEW} routes would take minutes"
        return ""

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the routes, and for `ip`, which keeps a batch's requests."""
        return 256 + int(cell.number("routes")) * _ROUTE_KIB // 1024

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for so many requests, or processes."""
        each = 0.1 if cell.get("arm") == "process" else 0.002
        return 60 + float(cell.get("routes", 0)) * each * (5 if emulated else 1)

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """Processes take some fifty times as long as messages."""
        routes = int(cell.get("routes", 0))
        return 50 + (routes if cell.get("arm") == "process" else routes // 50)

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        _request("add")

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Make the interface that the routes lead over."""
        host = hosts[GUEST]
        host.ip(f"link add {_LINK} type dummy")
        host.ip(f"addr add 192.0.2.1/24 dev {_LINK}")
        host.ip(f"link set {_LINK} up")
        self.known = 0  # routes that are there
        self.others = self._counted(host)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have all routes there, or none before they are added."""
        host, count = hosts[GUEST], int(cell["routes"])
        wanted = 0 if cell["operation"] == "add" else count
        if self.known and self.known != wanted:
            self._each(host, "delete", self.known)
        if wanted and self.known != wanted:
            self._each(host, "add", wanted)
        self.known = wanted
        if cell["arm"] == "batch":
            words = _words(str(cell["operation"]))
            host.write_batch(words.replace("{.}", str(a)) for a in _addresses(count))

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Do the operation to every route."""
        host, operation, count = hosts[GUEST], str(cell["operation"]), int(cell["routes"])
        match cell["arm"]:
            case "netlink":
                took = self._each(host, operation, count, cell)
            case "batch":
                took = host.ip_batch(cell)
            case _:
                took = host.ip_each(_words(operation).split(), _FIRST, count, cell)
        self.known = {"add": count, "get": self.known, "delete": 0}[operation]
        return {
            "rate": count / took.seconds,
            "seconds": took.seconds,
            "system_seconds": took.system_seconds,
            "context_switches": took.context_switches,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Ask the kernel how many routes it has now."""
        found = self._counted(hosts[GUEST]) - self.others
        if found != self.known:
            raise WrongState(
                f"after `{cell['operation']}` with arm `{cell['arm']}`: the kernel has {found} "
                f"routes of ours, {self.known} should be there"
            )

    @staticmethod
    def _counted(host: Host) -> int:
        """Return the leaves of the trie: a dump of many routes would take minutes on the line."""
        said = host.agent.read_file("/proc/net/fib_triestat", host.until()).decode()
        leaves = [line.split()[1] for line in said.splitlines() if "Leaves:" in line]
        return max(map(int, leaves), default=0)

    @staticmethod
    def _each(host: Host, operation: str, count: int, cell: Cell | None = None) -> Measure:
        request, offset = _request(operation)
        return host.agent.netlink_each(
            request, _FIRST, count, offset=offset, width=NETWORK_ORDER, deadline=host.until(cell)
        )


def _words(operation: str) -> str:
    """Return what `ip` is told, `{.}` for the address."""
    verb = {"add": "add", "get": "get", "delete": "del"}[operation]
    where = f" via {_VIA} dev {_LINK}" if operation == "add" else ""
    return f"route {verb} {{.}}{where}"


def _addresses(count: int) -> Iterator[IPv4Address]:
    return (IPv4Address(number) for number in range(_FIRST, _FIRST + count))


def _request(operation: str) -> tuple[bytes, int]:
    """Return the message for the first route, and where its address stands."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    kind = {"add": RTM_NEWROUTE, "get": RTM_GETROUTE, "delete": RTM_DELROUTE}[operation]
    first = IPv4Address(_FIRST)
    message = rtmsg()
    message.update({"family": 2, "dst_len": 32})
    attrs = [("RTA_DST", str(first))]
    if operation != "get":
        message["table"] = _MAIN
    if operation == "add":
        message.update({"proto": 4, "type": 1})  # static, unicast
        attrs.append(("RTA_GATEWAY", _VIA))
    message["attrs"] = attrs
    message["header"]["type"] = kind
    new = NLM_F_CREATE | NLM_F_EXCL if operation == "add" else 0
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | new
    message.encode()
    request = bytes(message.data)
    return request, request.index(first.packed)
