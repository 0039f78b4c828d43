"""aliases: throughput to many addresses of one interface.

Two hosts and a Gigabit link, as in "Performance of Linux IP Aliased Network
Interfaces" (2012), which saw more throughput the more aliases it used. There every
alias had a connection of its own; here the two are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import Topology
from linklab.results.shape import Axis, Better, Cell, Metric, Shape, Value
from linklab.scenarios.aliases.article import (
    ARTICLE_ADDRESSES,
    REFERENCE,
    TOPOLOGY,
    ceiling_of,
    claims,
)
from linklab.scenarios.scenario import Claim, Host, Hosts, Metrics, Parameter, Reference, Scenario

__all__ = ["Aliases"]

_FIRST = IPv4Address("10.200.0.1")
_NETWORK = "10.200.0.0/16"
_MOST_FLOWS = 1000
_PORT = 5001
_BUFFERS = "4096 16384 131072"
"""What a sender may have under way, bytes: so much that no queue overflows, as iperf's window."""
_POSSIBLE = 1.01
"""Of what the link can carry; more is a fault of the measurement. A hole that is filled hands
over at once what came behind it, some of it from before the window."""
_AT_ONCE = 0.03  # s of a busy host


class Aliases(Scenario):
    """See above. `a` sends, `b` has the addresses; each trial finds as many as its cell says."""

    name = "aliases"
    about = "throughput to many addresses of one interface, over a link"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ("aliases",),
                among=("aliases", "flows", "idle", "labels"),
                help="aliases: so many addresses, a connection to each; flows: as many "
                "connections, to one address; idle: as many addresses, one connection; "
                "labels: as aliases, each address with a label (`b:7`)",
            ),
            # Drawn as in the article: points and a smooth curve, on a linear axis.
            Axis("addresses", ARTICLE_ADDRESSES, "addresses", most=10_000, log=False, smooth=True),
        ),
        metrics=(
            Metric(
                "goodput",
                "Mbit/s",
                Better.MORE,
                title="goodput at the receiver, Mbit/s",
                short="goodput",
            ),
            Metric("senders_sum", "Mbit/s", Better.NEITHER, short="sum of the senders' averages"),
            Metric("fairness", better=Better.MORE, short="fairness"),
            Metric("sender_seconds", "s/Gbit", zero=True, short="sender's CPU"),
            Metric("receiver_seconds", "s/Gbit", zero=True, short="receiver's CPU"),
            Metric("retransmissions", zero=True, short="retransmissions"),
        ),
        rows="addresses",
        columns="arm",
        text="{arm}, {addresses} addresses",
    )
    topology = TOPOLOGY
    parameters = (Parameter("seconds", 4, "how long each connection sends", 1, 600),)
    compared: ClassVar = {"arm": ("aliases",), "addresses": (1, 254)}
    judged: ClassVar = {"arm": ("aliases", "labels"), "addresses": (16,)}
    profiled: ClassVar = {"arm": ("aliases",), "addresses": (64,)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why so many connections are not made."""
        if cell["arm"] != "idle" and cell.number("addresses") > _MOST_FLOWS:
            return f"at most {_MOST_FLOWS} connections send at a time: arm idle has one"
        return ""

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why nobody sends to anybody."""
        return not_a_to_b(network)

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Let the sender find the addresses."""
        hosts["a"].ip(f"route add {_NETWORK} via {hosts['b'].address()}")
        hosts["a"].run(["/bin/sysctl", "-q", "-w", f"net.ipv4.tcp_wmem={_BUFFERS}"])
        self.there: tuple[int, bool] = (0, False)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Give the receiver its addresses."""
        wanted = (_addresses(cell), cell["arm"] == "labels")
        if wanted == self.there:
            return
        host = hosts["b"]
        host.write_batch(_lines(host, "del", *self.there))
        if self.there[0]:
            host.ip_batch()
        host.write_batch(_lines(host, "add", *wanted))
        host.ip_batch()
        self.there = wanted

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send for a while, and look at what arrived while all sent."""
        flows = 1 if cell["arm"] == "idle" else int(cell["addresses"])
        targets = 1 if cell["arm"] == "flows" else _addresses(cell)
        seconds = int(self.given["seconds"])
        sink = [TRAFFIC, "sink", "tcp", str(_PORT), str(flows), str(seconds + 60)]
        running = hosts["b"].start(sink, "listening", cell)
        words = ("tcp", str(_FIRST), str(_PORT), str(flows), str(targets), str(seconds))
        sent = hosts["a"].said([TRAFFIC, "send", *words], cell)
        got = running.end()
        if got.number("wrong"):
            raise WrongState(f"{got.number('wrong'):.0f} connections brought other bytes than sent")
        if sum(got["bytes"]) != sum(sent["sent"]):
            raise WrongState(
                f"{sum(sent['sent']):.0f} bytes were sent, {sum(got['bytes']):.0f} arrived"
            )
        window = (got.number("end") - got.number("start")) / 1e9
        if window <= 0:
            raise LabError(
                f"the {flows} connections never sent at the same time: --param seconds= takes more"
            )
        goodput = sum(got["inner"]) * 8 / window / 1e6
        self._check_ceiling(hosts["b"], goodput, window)
        gigabits = sum(got["bytes"]) * 8 / 1e9
        return {
            "goodput": goodput,
            "senders_sum": _senders_sum(sent),
            "fairness": jain(got["inner"]),
            "sender_seconds": sent.number("cpu_ns") / 1e9 / gigabits,
            "receiver_seconds": got.number("cpu_ns") / 1e9 / gigabits,
            "retransmissions": sent.number("retransmitted"),
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Look whether the receiver has the addresses that it should have."""
        found = hosts["b"].printed(["/bin/ip", "-o", "-4", "address", "show"]).count(" 10.200.")
        if found != self.there[0]:
            raise WrongState(f"b has {found} addresses of ours, {self.there[0]} should be there")

    @staticmethod
    def _check_ceiling(host: Host, goodput: float, window: float) -> None:
        """Raise `LabError` for a figure that no link can have.

        A guest of its own is in real time: it may see at once what came a little before.
        """
        possible = _POSSIBLE + (0 if host.inside else _AT_ONCE / window)
        assert host.network is not None
        way = host.network.links[0].there
        ceiling = ceiling_of(way.rate, way.overhead)
        if way.rate and goodput > ceiling * possible:
            raise LabError(
                f"{goodput:.1f} Mbit/s arrived over a link that carries {ceiling:.1f}: "
                "this is a fault of the measurement, not a figure"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the article and its follow-up claim, each with our figure."""
        return claims(run)

    @classmethod
    def reference(cls) -> Reference:
        """Return the article's table."""
        return REFERENCE


def not_a_to_b(network: Topology) -> str:
    """Return what is expected of a topology that is not one link from a to b."""
    is_it = set(network.hosts) == {"a", "b"} and len(network.links) == 1
    return "" if is_it else "two hosts and one link between them are expected, as in `a -- b`"


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness of shares: 1 where all are alike, 1/n where one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _senders_sum(sent: Mapping[str, Sequence[float]]) -> float:
    """Return the sum of each sender's average over its own time, as the article took it."""
    each = zip(sent["sent"], sent["began"], sent["ended"], strict=True)
    return sum(amount * 8e3 / (ended - began) for amount, began, ended in each)


def _addresses(cell: Mapping[str, Value]) -> int:
    return 1 if cell["arm"] == "flows" else int(cell["addresses"])


def _lines(host: Host, verb: str, count: int, labelled: bool) -> Iterator[str]:
    for number in range(count):
        label = f" label {host.interface}:{number}" if labelled else ""
        yield f"address {verb} {_FIRST + number}/32 dev {host.interface}{label}"
