"""What the scenarios of the packet path share: three hosts in a row, and who sends.

`a` sends to `b`, or through it to `c`. All three are namespaces of one guest and take turns
on one CPU, so what sending alone costs is measured with each trial and taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar

from linklab.errors import LabError
from linklab.lab.spaces import NETWORKS, TRAFFIC, build, shaped_links
from linklab.lab.topology import Topology
from linklab.paths import IMAGES
from linklab.results.shape import Better, Cell, Metric, Value
from linklab.scenarios.drop.programs import POLL, Packet, Stream, packed
from linklab.scenarios.drop.rungs import RULES, Place, Tool, listed
from linklab.scenarios.scenario import IP, Host, Hosts, Metrics, Parameter, Said, Scenario

PORT = 5001
OTHERS = 64  # packets that are on no list, at the end
FOLDER = "/tmp/drop"
PACKETS = Parameter("packets", 10_000, "how many packets are timed, in 64s", POLL, 10_000_000)
_NETWORK = "198.18.0.0/15"


@dataclass(frozen=True)
class Hook:
    """A program of BPF where packets come by: `xdp`, `generic` or `tc`."""

    kind: str
    space: str
    interface: str
    program: bytes


class Flooded(Scenario):
    """See above. Each trial finds its three hosts new: tables of iptables stay where they were."""

    topology = "a -- b -- c"
    fragment: ClassVar[tuple[Path, ...]] = (
        NETWORKS / "kernel.config",
        IMAGES / "drop" / "kernel.config",
    )
    image = IMAGES / "drop"

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why packets cannot be sent so."""
        if len(network.hosts) != 3 or len(network.links) != 2 or shaped_links(network):
            return (
                "three hosts in a row are expected, and links that do nothing, as in `a -- b -- c`"
            )
        return "" if in_one_guest else "all hosts are in one guest: --place spaces"

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Find out what the hosts and their interfaces are called."""
        network = self.drawn
        self.a, self.b, self.c = network.hosts
        ends = {end.host: end for end in network.ports[0]}
        beyond = {end.host: end for end in network.ports[1]}
        self.first, self.near = ends[self.a], ends[self.b]
        self.far, self.last = beyond[self.b], beyond[self.c]
        self.place = Place(self.near.interface, self.far.interface)
        return ()

    def lay(self, hosts: Hosts, between: str = "") -> Host:
        """Make the hosts anew, a script `between` the old and the new; return the middle one."""
        guest, middle = guest_of(hosts[self.b]), hosts[self.b]
        guest.run(["/bin/mkdir", "-p", FOLDER])
        for host in self.drawn.hosts:
            guest.ip(f"netns delete {host}")
        if between:
            guest.run(["/bin/sh", "-c", between])
        build(self.drawn, 0, guest.run, guest.write)
        middle.ip(f"route add {_NETWORK} via {self.drawn.address(self.a)}")
        middle.run([TRAFFIC, "napi", self.place.near])
        return middle

    def tell(
        self, host: Host, tool: Tool, cell: Cell, count: int = 0, held: str = RULES,
        *, tracked: bool = False,
    ) -> None:  # fmt: skip
        """Have a tool do what it is there for, with so many addresses."""
        lines = tool.lines(self.place, listed(count), held)
        names = {
            "told": self.write(host, "told", "".join(f"{line}\n" for line in lines).encode()),
            "list": self.write(host, "list", packed(count if held != RULES else 0)),
            "tracked": "tracked" if tracked else "plain",
            **vars(self.place),
        }
        for command in tool.commands(held):
            host.run(command.format_map(names).split(), cell)

    def flood(
        self,
        hosts: Hosts,
        cell: Cell,
        stream: Stream,
        hooks: Sequence[Hook] = (),
        *,
        beyond: bool,
        bridged: bool = False,
        words: Sequence[str] = (),
        socket_filter: bytes = b"",
        others: int = OTHERS,
    ) -> Said:
        """Send, first no further than the sender, and then `others` from an address of their own.

        They are for the last host where `beyond`, and `bridged` to its MAC.
        """
        guest, sender = guest_of(hosts[self.b]), hosts[self.a]
        target = self.drawn.address(self.c if beyond else self.b)
        # A bridge looks at the last one's MAC, all others are sent to themselves.
        to = self.last.mac if bridged else self.near.mac
        packet = Packet(mac_of(to) + mac_of(self.first.mac), IPv4Address(target), PORT)
        number = number_of(sender, self.first.interface)
        made = {
            "frame": packet.frame(),
            "sending": packet.sender(stream, number),
            "alone": packet.sender(stream, None),
            "other": packet.sender(replace(stream, addresses=0), number),
        }
        files = [self.write(guest, name, content) for name, content in made.items()]
        kept = self.write(guest, "filter", socket_filter) if socket_filter else "-"
        hooked = [
            word
            for at, hook in enumerate(hooks)
            for word in (
                hook.kind, hook.space, hook.interface,
                self.write(guest, f"hook{at}", hook.program),
            )
        ]  # fmt: skip
        counts = [str(stream.packets), str(others)]
        argv = ["flood", *counts, self.a, *files, self.b, str(PORT), kept, *hooked, *words]
        return guest.said([TRAFFIC, *argv], cell)

    def write(self, host: Host, name: str, content: bytes) -> str:
        """Write a file that is a trial's; return where it is."""
        path = f"{FOLDER}/{name}"
        host.write(path, content)
        return path


def rate_metrics(unit: str) -> tuple[Metric, ...]:
    """Return what every table of packets begins with; `unit` is the arm that costs are above."""
    return (
        Metric(
            "packets_per_second", "1/s", Better.MORE,
            title="packets a second, without what sending costs", short="packets a second",
        ),
        Metric(
            "instructions", zero=True,
            title=f"ns a packet above {unit}, in virtual time instructions",
            short=f"above {unit.rpartition(' ')[2].strip('`')}",
        ),
    )  # fmt: skip


def rate_of(ns: float, unit: float) -> dict[str, float]:
    """Return the two figures of a packet that took so many ns, and of the unit's."""
    return {"packets_per_second": 1e9 / ns if ns > 0 else 0.0, "instructions": ns - unit}


def polls(given: Mapping[str, Value]) -> int:
    """Return how many packets are timed in a run: whole polls."""
    return -(-int(given["packets"]) // POLL) * POLL


def took(said: Said, stream: Stream) -> float:
    """Return the ns that a packet took behind the one who sends it."""
    return (said.number("took_ns") - said.number("alone_ns")) / stream.timed


def guest_of(host: Host) -> Host:
    """Return the guest that a host is in."""
    return replace(host, inside=())


def mac_of(text: str) -> bytes:
    """Return a MAC as a packet has it."""
    return bytes.fromhex(text.replace(":", ""))


def number_of(host: Host, interface: str) -> int:
    """Return the number that the kernel knows an interface by."""
    said = host.printed([IP, "-o", "link", "show", "dev", interface]).partition(":")[0]
    if not said.isdigit():
        raise LabError(f"{host.name}: `ip` did not say which number {interface} has: {said!r}")
    return int(said)
