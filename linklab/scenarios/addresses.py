"""addresses: adding, listing and deleting many addresses of an interface, and connecting to them.

What the kernel does with an address is a list in its interface and a hash over all of
them (`inet_addr_lst` in `net/ipv4/devinet.c`): the first is walked when one is added,
the second is asked for every packet that comes in.

`assign` is another experiment: so many interfaces are each given a MAC and an IPv4 address
of their own, which the 2011 paper on interface groups calls its hardest problem. It says that
this cannot be done efficiently by programs, for all the system calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar

from linklab.agent.replies import Measure
from linklab.errors import WrongState
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import Topology
from linklab.numbers import ratio_text, seconds_text
from linklab.results.shape import Axis, Cell, Metric, Shape
from linklab.scenarios.aliases import not_a_to_b
from linklab.scenarios.grouping.change import FIRST_NUMBER, GROUP, NAME, NEW
from linklab.scenarios.scenario import (
    GROUPS,
    IP,
    Claim,
    Finding,
    Host,
    Hosts,
    Metrics,
    Parameter,
    Preset,
    Scenario,
)

if TYPE_CHECKING:
    from linklab.scenarios.grouping.links import Links

__all__ = ["Addresses"]

_FIRST = IPv4Address("10.200.0.1")
_NETWORK = "10.200.0.0/16"
_ELSEWHERE = "192.0.2.1"
_PORT = 5002
_SCRIPT = "/tmp/assign.sh"
_FIRST_MAC = 0x02_00_00_00_00_01
_MOST_ASSIGNED = 10_000
_LINK_KIB = 64  # of an interface
_EFFICIENT = 10.0  # times as fast as a process for each is efficient


class Addresses(Scenario):
    """See above. `b` has the addresses, `a` connects to them."""

    name = "addresses"
    about = "adding, listing and deleting many addresses; giving many interfaces one each"
    shape = Shape(
        axes=(
            Axis(
                "operation",
                ("add", "list", "delete", "connect"),
                among=("add", "list", "delete", "connect", "assign"),
                help="add, list, delete: one `ip`, for all of them; connect: the median time of "
                "a TCP connection's set-up, to one after the other; assign: a MAC and an address "
                "to each of so many interfaces",
            ),
            Axis(
                "arm",
                ("batch",),
                among=("process", "batch", "agent"),
                help="of assign: an `ip` for each MAC and each address, all in one `ip -batch`, or "
                "one `linklab-group assign`",
                silent=True,
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
    presets: ClassVar = {
        "interfaces": Preset(
            "2048 interfaces get a MAC and an IPv4 address each, by a process for each, by one "
            "batch, and by the grouping agent",
            {
                "operation": ("assign",),
                "arm": ("process", "batch", "agent"),
                "addresses": (2048,),
            },
        )
    }
    compared: ClassVar = {"operation": ("add", "connect"), "addresses": (1000,)}
    judged: ClassVar = {"addresses": (100,)}
    profiled: ClassVar = {"operation": ("add",), "addresses": (10_000,)}

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the addresses, each with its routes."""
        count = int(cell.number("addresses"))
        return 256 + count // 200 + (count * _LINK_KIB // 1024 if _assigns(cell) else 0)

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why an arm is not there, or so many interfaces."""
        if not _assigns(cell):
            return "" if cell["arm"] == "batch" else f"only assign has the arm {cell['arm']}"
        many = cell.number("addresses") > _MOST_ASSIGNED
        return f"assign: at most {_MOST_ASSIGNED} interfaces" if many else ""

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """A process for each takes some fifty times as long as a message."""
        if not _assigns(cell):
            return super().cost(cell)
        count = int(cell["addresses"])
        return 50 + (2 * count if cell["arm"] == "process" else count // 10)

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        from linklab.scenarios.grouping import links  # noqa: F401

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why nobody sends to anybody."""
        return not_a_to_b(network)

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for so many addresses: each addition walks those there are."""
        each = 0.6 if _assigns(cell) else 0.05
        return 60 + float(cell.get("addresses", 0)) * (each if emulated else each / 5)

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Let the one who connects find the addresses."""
        hosts["a"].ip(f"route add {_NETWORK} via {hosts['b'].address()}")
        self.there = 0
        self.links: Links | None = None
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have all addresses there, or none before they are added."""
        host, count = hosts["b"], int(cell["addresses"])
        if self.links:
            self.links.scrap()
            self.links = None
        if _assigns(cell):
            self._make(_whole(host), count, str(cell["arm"]))
            return
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
        if _assigns(cell):
            took = _assign(_whole(host), count, cell)
            return {"seconds": took.seconds, "system_seconds": took.system_seconds}
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
        """Ask the kernel how many of them it has, or each interface what it has."""
        if _assigns(cell):
            self._check_interfaces(int(cell["addresses"]))
            return
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

    def _make(self, host: Host, count: int, arm: str) -> None:
        """Make the interfaces, and write down what is to be done to them."""
        from linklab.scenarios.grouping.links import Links

        self.links = Links(host, count)
        self.links.bring_to(NEW)
        if arm == "batch":
            host.write_batch(_assigned(count))
        elif arm == "process":
            host.write(_SCRIPT, "".join(f"{IP} {line}\n" for line in _assigned(count)).encode())

    def _check_interfaces(self, count: int) -> None:
        """Read the MAC and the IPv4 address of each interface. Raises `WrongState`."""
        assert self.links is not None
        found = dict(self.links.addresses())
        for number, name in enumerate(self.links.names()):
            wanted = (_mac(number), [str(_FIRST + number)])
            if found.get(name) != wanted:
                raise WrongState(f"{name} has {found.get(name)} instead of {wanted}")

    def tear_down(self, hosts: Hosts) -> None:
        """Delete the interfaces."""
        if self.links:
            self.links.scrap()

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the paper says of addresses that count up, with our figures."""
        from linklab.results.figures import Figures

        figures = Figures(run)
        counts = {int(s.cell["addresses"]) for s in run.samples if _assigns(s.cell)}
        if not counts:
            return ()
        text = "addresses that count up cannot be given efficiently by a program"
        theirs = "a system call for each saturates them (section VII)"
        most = max(counts)
        by_arm = {
            arm: figures.by_kernel(Cell({"operation": "assign", "arm": arm, "addresses": most}))
            for arm in ("process", "batch", "agent")
        }
        both = [name for name in by_arm["process"] if name in by_arm["agent"]]
        if not both:
            return [Claim.unmeasured(text, theirs, "needs the arms process and agent")]
        factors = [by_arm["process"][name] / by_arm["agent"][name] for name in both]
        ours = "; ".join(
            f"{name}: {most} interfaces take a process for each "
            f"{seconds_text(by_arm['process'][name])} s, linklab-group "
            f"{seconds_text(by_arm['agent'][name])} s ({ratio_text(factor)})"
            for name, factor in zip(both, factors, strict=True)
        )
        finding = Finding.of(factor < _EFFICIENT for factor in factors)
        return [Claim(text, theirs, ours, finding, "many messages go in one system call")]


def _assigns(cell: Cell) -> bool:
    return cell.get("operation") == "assign"


def _whole(host: Host) -> Host:
    """Return the guest that a host is in: its agent sends its messages there."""
    return replace(host, inside=())


def _mac(number: int) -> str:
    return (_FIRST_MAC + number).to_bytes(6).hex(":")


def _assigned(count: int) -> Iterator[str]:
    """Yield what `ip` is told to give each interface its own."""
    for number in range(count):
        name = NAME.format(FIRST_NUMBER + number)
        yield f"link set dev {name} address {_mac(number)}"
        yield f"address add {_FIRST + number}/16 dev {name}"


def _assign(host: Host, count: int, cell: Cell) -> Measure:
    """Give each interface its own by an arm."""
    if cell["arm"] == "process":
        return host.run(["/bin/sh", _SCRIPT], cell)
    if cell["arm"] == "batch":
        return host.ip_batch(cell)
    words = ["assign", str(GROUP), "mac", _mac(0), "inet", f"{_FIRST}/16"]
    return host.run([GROUPS, *words], cell)


def _lines(hosts: Hosts, verb: str, count: int) -> Iterable[str]:
    device = hosts["b"].interface
    return (f"address {verb} {_FIRST + number}/32 dev {device}" for number in range(count))
