"""A topology in guests: each host a machine, each link a pair of sockets between them.

What a host gets besides, addresses, names, routes, is what it gets as a namespace
(`linklab/lab/spaces.py`), by the same commands. Links that do something to packets
go through the wire (`linklab/lab/wire.py`), so that no machine shapes itself.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from linklab.errors import LabError
from linklab.host.cache import Cached
from linklab.lab.captures import capture_of, cut_to_packets, given_up, why_not_written
from linklab.lab.session import Session
from linklab.lab.spaces import Hands, await_answers, configure, write_names
from linklab.lab.topology import Topology
from linklab.lab.wire import Counters, Wire
from linklab.machine.qmp import set_carrier
from linklab.machine.spec import Nic, NicModel, nic_name
from linklab.paths import IMAGES

_IP = "/bin/ip"
_NAMES = "/tmp/interfaces.batch"
_MARKS = ("most_packets", "most_bytes", "latest_ns")  # that begin anew when they were told
_NEGOTIATION_LIMIT = 30.0  # s for an interface to find out that it has a carrier
_NEGOTIATION_LOOK = 0.1  # s
_LATE_NS = 1_000_000  # and less is no reason for anything
_GAVE_UP = "network dump write error"
_CARRIER_LIMIT = 10.0  # s for QEMU to pull a cable


@dataclass(frozen=True)
class GuestPlace:
    """The place `guests`: what its machines are beyond a lab's usual ones.

    `wire` is the program for links that shape. `nics` are the models of hosts
    that have another one than `nic`; `captures` says whether QEMU writes down
    what crosses each link.
    """

    topology: Topology
    wire: Cached
    nic: NicModel = NicModel.VIRTIO
    nics: Mapping[str, NicModel] = field(default_factory=dict)
    captures: bool = False

    def model(self, host: str) -> NicModel:
        """Return the model of a host's interfaces."""
        return self.nics.get(host, self.nic)

    @property
    def needs(self) -> tuple[str, ...]:
        """The groups of images/needs.toml with the drivers of all interfaces."""
        models = (self.model(host) for host in self.topology.everyone)
        return tuple(dict.fromkeys(f"nic-{model}" for model in models))

    def interfaces(self, host: str) -> tuple[Nic, ...]:
        """Return a host's interfaces, which lead nowhere yet."""
        return tuple(Nic(self.model(host), port.mac) for port in self.topology.ports_of(host))

    def joined(self, host: str, wire: Wire, log: Path) -> tuple[Nic, ...]:
        """Return the same with their sockets, and the files beside a log that they go into.

        Each link is captured at its first end.
        """
        found = []
        ports = self.topology.ports_of(host)
        for nic, port in zip(self.interfaces(host), ports, strict=True):
            side = int(self.topology.ports[port.link][0].host != host)
            path = capture_of(log, port.link) if self.captures and side == 0 else None
            found.append(replace(nic, fd=wire.ends[port.link][side].fileno(), capture=path))
        return tuple(found)

    def bring_up(self, hands: Mapping[str, Hands]) -> None:
        """Give the booted hosts what the topology says they have."""
        for host, hand in hands.items():
            _name_interfaces(self.topology, host, hand, self.model(host))
            configure(self.topology, host, hand.run, hand.write)
            write_names(self.topology, hand.write)
        until = time.monotonic() + _NEGOTIATION_LIMIT
        for host, hand in hands.items():
            _await_carrier(self.topology, host, hand, until)
        await_answers(self.topology, hands)


def _drivers(model: NicModel) -> list[str]:
    """Return the kernel's options for a model's driver."""
    return list(tomllib.loads((IMAGES / "needs.toml").read_text())[f"nic-{model}"])


def _name_interfaces(topology: Topology, host: str, hand: Hands, model: NicModel) -> None:
    """Call interfaces after their peers, whatever order the kernel found them in."""
    found = {
        words[words.index("link/ether") + 1]: words[1].rstrip(":")
        for words in map(str.split, hand.printed([_IP, "-o", "link", "show"]).splitlines())
        if "link/ether" in words
    }
    ports = topology.ports_of(host)
    if missing := [port for port in ports if port.mac not in found]:
        raise LabError(
            f"host {host} has no interface {missing[0].mac}, its end of link "
            f"{missing[0].link + 1}: has its kernel the driver? --nic {model} takes "
            f"{' and '.join(_drivers(model))}"
        )
    # First out of each other's way: a peer may be called as an interface is.
    lines = [f"link set dev {found[port.mac]} name linklab-{port.link}" for port in ports]
    lines += [f"link set dev linklab-{port.link} name {port.interface}" for port in ports]
    hand.write(_NAMES, "".join(f"{line}\n" for line in lines).encode())
    hand.run([_IP, "-batch", _NAMES])


def _await_carrier(topology: Topology, host: str, hand: Hands, until: float) -> None:
    """Wait until a host may send: some interfaces take seconds to say that they have a carrier."""
    waiting = {port.interface for port in topology.ports_of(host)}
    while True:
        lines = hand.printed([_IP, "-o", "link", "show", "up"]).splitlines()
        has_carrier = {line.split()[1].rstrip(":") for line in lines if "LOWER_UP" in line}
        waiting -= has_carrier
        if not waiting:
            return
        if time.monotonic() > until:
            missing = ", ".join(sorted(waiting))
            raise LabError(f"host {host} has no carrier on its link to {missing}")
        time.sleep(_NEGOTIATION_LOOK)


@dataclass(frozen=True)
class GuestNetwork:
    """Guests that are up, by host, and the links between them."""

    topology: Topology
    sessions: Mapping[str, Session]
    wire: Wire
    cut: set[int] = field(default_factory=set)  # links that are down or dark now

    def pull(self, link: int) -> None:
        """Take a link down: neither end has a carrier, and what is on it is lost."""
        self.cut.add(link)
        if not self.topology.all_links[link].is_clean:
            self.wire.darken(link)
        self._carrier(link, up=False)

    def plug(self, link: int) -> None:
        """Let a link be up again."""
        if not self.topology.all_links[link].is_clean:
            self.wire.light(link)
        self._carrier(link, up=True)
        self.cut.discard(link)

    def darken(self, link: int) -> None:
        """Let all vanish that goes over a link; its carrier stays. Raises `LabError`."""
        self.wire.darken(link)
        self.cut.add(link)

    def counters(self, link: int) -> tuple[Counters, Counters]:
        """Return what a link did, there and back. Raises `LabError`."""
        return self.wire.counters(link)

    def watch(self) -> Callable[[], dict[str, int]]:
        """Begin to count what links do that shape; return what tells it, as a sample has it.

        `link1_there_lost` is what the first link lost of what its first host sent.
        That raises `LabError` where the wire had no memory for what was on a link, and as
        `check_captures`.
        """
        before = self._counts()

        def told() -> dict[str, int]:
            self.check_captures()
            after = self._counts()
            found = {
                name: count - (0 if name.endswith(_MARKS) else before[name])
                for name, count in after.items()
            }
            if full := [name for name, count in found.items() if "overflowed" in name and count]:
                raise LabError(f"{full[0]} = {found[full[0]]}: the wire's memory was full")
            return found

        return told

    def lateness(self) -> str:
        """Return in words how late the wire was since last asked, where it was; it is never early.

        It wants a CPU for microseconds, and gets it late where many others want one.
        """
        late = max(
            (n for name, n in self._counts().items() if name.endswith("latest_ns")), default=0
        )
        if late < _LATE_NS:
            return ""
        return f"; the wire was up to {late / 1e6:.1f} ms late: this host is too busy for real time"

    def check_captures(self) -> None:
        """Raise `LabError` where what crosses a link is no longer written down: its disk is full.

        QEMU says that on its standard error, and goes on without (dump_receive_iov in its
        net/dump.c). What is there of the file is then cut to whole packets.
        """
        for session in self.sessions.values():
            machine = session.machine
            if _GAVE_UP in machine.last_words:
                for path in (nic.capture for nic in machine.spec.nics if nic.capture):
                    if why := why_not_written(path):
                        cut_to_packets(path)
                        raise given_up(path, why)
                raise LabError(f"guest {session.name}: QEMU no longer writes what crosses a link")

    def _counts(self) -> dict[str, int]:
        return {
            f"link{number + 1}_{way}_{name}": count
            for number, link in enumerate(self.topology.links)
            if not link.is_clean
            for way, counts in zip(("there", "back"), self.counters(number), strict=True)
            for name, count in counts.items()
        }

    def _carrier(self, link: int, *, up: bool) -> None:
        for end in self.topology.ports[link]:
            number = self.topology.ports_of(end.host).index(end)
            control = self.sessions[end.host].machine.control
            set_carrier(control, nic_name(number), up=up, limit=_CARRIER_LIMIT)
