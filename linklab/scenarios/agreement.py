"""agreement: two nodes agree on a stack of protocols in a few messages, bind it, and talk over it.

"Protocol stack negotiation between different nodes" is what LANA's authors leave to the future
(ANCS 2011). One node proposes the chains that it offers, the best first, the other one takes
the first that it offers, too; each binds it between a link and a socket of its own, or neither
does (guest/fbctl/agree.c). Then they hold a conversation over these sockets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from linklab.errors import LabError, RequestRefused, WrongState
from linklab.lab.topology import Topology
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.scenario import Host, Hosts, Metrics, Parameter, Scenario
from linklab.scenarios.stack import Stack

if TYPE_CHECKING:
    from linklab.scenarios.stack.blocks import Block

__all__ = ["Agreement"]

_REQUESTS = "/tmp/agreement.requests"
_TALKERS = ("speak", "data", "end")  # the socket to agree over, what a chain is bound between
_ETHS = ("eth-control", "eth-data")  # what is agreed, and what is said over it, go by two links
_BUSY = "agreed1"  # what fbctl calls the first block of a chain


@dataclass(frozen=True)
class _Offers:
    """What each node offers, and what must come of it: a chain, or a reason that both hear."""

    proposes: tuple[str, ...]
    accepts: tuple[str, ...]
    chain: tuple[str, ...] = ()
    refusal: str = ""


_BOTH = ("fb_dummy+fb_counter:sequence=0+fb_dummy", "fb_dummy", "-")
_OFFERS: Mapping[str, _Offers] = {
    "alike": _Offers(_BOTH, _BOTH, ("fb_dummy", "fb_counter", "fb_dummy")),
    "second": _Offers(_BOTH, ("fb_tee", "-", "fb_dummy"), ("fb_dummy",)),
    "none": _Offers(_BOTH[:2], ("fb_tee", "-"), refusal="no chain in common"),
    "unknown": _Offers(("fb_cipher",), ("fb_cipher",), refusal="fb_cipher cannot be bound"),
    "busy": _Offers(_BOTH[1:2], _BOTH[1:2], refusal="fb_dummy cannot be bound"),
}


class Agreement(Scenario):
    """See above. The first host proposes, the second one answers."""

    name = "agreement"
    about = "two nodes agree on a stack of protocols, bind it, and talk over its sockets"
    shape = Shape(
        axes=(
            Axis(
                "offers",
                tuple(_OFFERS),
                among=tuple(_OFFERS),
                help="what both offer. alike: the same chains; second: the second of one is the "
                "last of the other; none: no chain is offered by both; unknown: one that no kernel "
                "has; busy: one that the other node cannot bind, as its name is taken there",
            ),
        ),
        metrics=(
            Metric(
                "agreed", "s", title="seconds until a chain is bound on both nodes, or refused",
                short="until agreed",
            ),
            Metric("words", short="words spoken"),
            Metric("requests", zero=True, short="requests to a kernel"),
            Metric("blocks", better=Better.NEITHER, zero=True, short="blocks bound"),
            Metric(
                "round_trip", "us", optional=True, title="a message and its answer, us, the median",
                short="round trip",
            ),
            Metric("messages", better=Better.MORE, optional=True, short="answered"),
            Metric("lost", zero=True, matters=1, optional=True, short="lost"),
            Metric("again", zero=True, matters=1, optional=True, short="twice or wrong"),
        ),
        rows="offers",
        text="offers {offers}",
    )  # fmt: skip
    topology = "a == b"
    parameters = (
        Parameter("messages", 200, "how many messages the conversation has", 1, 100_000),
        Parameter("size", 512, "bytes of a message", 64, 1400),
    )
    fragment, needs, image, modules = Stack.fragment, Stack.needs, Stack.image, Stack.modules
    stands_in = True
    compared: ClassVar = {"offers": ("alike",)}
    judged: ClassVar = {"offers": ("alike", "none")}
    profiled: ClassVar = {"offers": ("alike",)}

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        Stack.load()

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why two nodes cannot speak over a topology."""
        if len(network.hosts) != 2 or len(network.links) != 2:
            return "two hosts and two links are expected, as in `a == b`"
        return ""

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Note who is who."""
        self.a, self.b = (hosts[name] for name in self.drawn.hosts)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Take apart what is there; make a link to agree over, and one for what is agreed on."""
        from linklab.scenarios.stack import blocks

        base = [
            *(blocks.add("fb_eth", name) for name in _ETHS),
            *(blocks.add("fb_ethvlink", name) for name in ("control", "data")),
            *(blocks.add("fb_pflana", name) for name in ("speak", "end")),
            blocks.set_to("control", "tag", "1"),
            blocks.set_to("data", "tag", "2"),
            blocks.bind("control", "speak"),
            *map(blocks.bind, _ETHS, ("control", "data")),
        ]
        for host in (self.a, self.b):
            requests = [*blocks.undone(_blocks(host)), *base]
            ports = self.drawn.ports_of(host.name)
            for name, port in zip(_ETHS, ports, strict=True):
                requests.append(blocks.set_to(name, "dev", port.interface))
            if host is self.b and cell["offers"] == "busy":
                requests.append(blocks.add("fb_dummy", _BUSY))
            host.write(_REQUESTS, b"".join(requests))
            host.run([blocks.FBCTL, "send", _REQUESTS])

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Agree, and talk if that was possible."""
        from linklab.scenarios.stack.blocks import FBCTL

        offers = _OFFERS[str(cell["offers"])]
        accepting = self.b.start([FBCTL, "accept", *_TALKERS, *offers.accepts], "listening", cell)
        argv = [*self.a.inside, FBCTL, "propose", *_TALKERS, *offers.proposes]
        end = self.a.agent.run(argv, self.a.until(cell))
        self.heard = [end.output.decode(errors="replace") if end.wait_status else ""]
        try:
            accepting.end()
            self.heard.append("")
        except RequestRefused as refused:
            self.heard.append(str(refused))
        cost = re.findall(r"^(?:words|requests) (\d+)$", end.output.decode(), re.M)
        if len(cost) != 2:
            raise LabError("fbctl did not say what it took to agree", end.output.decode())
        self.chains = [_chain(_blocks(host)) for host in (self.a, self.b)]
        found: dict[str, float] = {
            "agreed": end.measure.seconds,
            "words": int(cost[0]),
            "requests": int(cost[1]),
            "blocks": len(self.chains[0] or ()),
        }
        self.talk = {} if any(self.heard) else self._talk(cell)
        return {**found, **self.talk}

    def _talk(self, cell: Cell) -> dict[str, float]:
        from linklab.scenarios.stack.blocks import FBCTL

        count, size = str(self.given["messages"]), str(self.given["size"])
        answering = self.b.start([FBCTL, "answer", "end", count], "listening", cell)
        said = self.a.said([FBCTL, "talk", "end", count, size], cell)
        answering.end()
        if not said.number("answered"):
            raise WrongState(f"none of {count} messages was answered")
        return {
            "round_trip": said.number("ns_p50") / 1e3,
            "messages": said.number("answered"),
            "lost": said.number("lost"),
            "again": said.number("again") + said.number("wrong"),
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what is bound, what was said, and what was answered against the offers."""
        offers = _OFFERS[str(cell["offers"])]
        wanted = None if offers.refusal else offers.chain
        for host, chain, heard in zip((self.a, self.b), self.chains, self.heard, strict=True):
            if chain != wanted or offers.refusal not in heard:
                raise WrongState(
                    f"{host.name} should have {_in_words(wanted)} bound, and has "
                    f"{_in_words(chain)}; it said: {heard or 'nothing'}"
                )
        if any(self.talk.get(name) for name in ("lost", "again")):
            raise WrongState(
                f"of {self.given['messages']} messages {self.talk['lost']:.0f} were lost, and "
                f"{self.talk['again']:.0f} came twice or changed"
            )


def _blocks(host: Host) -> dict[str, Block]:
    from linklab.scenarios.stack import blocks

    return blocks.listed(host.printed([blocks.FBCTL, "list"]))


def _chain(found: Mapping[str, Block]) -> tuple[str, ...] | None:
    """Return the types of the blocks between link and socket; None where nothing is bound."""
    _, lower, upper = _TALKERS
    kinds, at = [], lower
    while at != upper:
        if "up" not in found[at].said:
            return None
        at = found[at].said["up"]
        kinds.append(found[at].said["type"])
    return tuple(kinds[:-1])


def _in_words(chain: tuple[str, ...] | None) -> str:
    return "no chain" if chain is None else " ".join(chain) or "no block in between"
