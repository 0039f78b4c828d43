"""A topology in one guest: each host a network namespace, veth between them.

A link that does something to packets has a namespace of its own in its middle, a
bridge whose two ports shape what leaves by them. So no sender shapes itself: netem
orphans what it queues (skb_orphan_partial in the kernel's net/sched/sch_netem.c), and
a sender's TCP would no longer see how much of it waits.

What is here makes lines for `ip -batch` and `sysctl`, and runs them. It needs no
sysfs: `ip netns exec` does, to mount it for the namespace; `nsenter` does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from linklab.errors import LabError, UsageError
from linklab.lab.topology import Port, Topology, Way
from linklab.paths import IMAGES

TRAFFIC = "/usr/lib/linklab/traffic"
NETWORKS = IMAGES / "networks"
"""What kernels and images need to have hosts and links in them."""
NEEDS = "spaces"
"""The group of images/needs.toml that a kernel must have beyond that to hold namespaces."""
_IP = "/bin/ip"
_FOLDER = "/tmp"
_PATIENCE = 30.0  # s for all links to carry something
_OF_AN_INTERFACE = (  # each has values of its own, from before its host was told
    # Addresses are there at once, and stay when their interface goes down.
    ("accept_dad", "0"),
    ("keep_addr_on_down", "1"),
    # Nobody speaks by himself.
    ("accept_ra", "0"),
    ("router_solicitations", "0"),
)
_SYSCTLS = (
    # A connection knows nothing of the one before it.
    ("ipv4/tcp_no_metrics_save", "1"),
    # What TCP does is Linux's own, whatever a kernel was configured to: what packetdrill's
    # defaults.sh pins (google/bbr, gtests/net/common), each at the value that Linux has.
    ("ipv4/tcp_timestamps", "1"),
    ("ipv4/tcp_syn_retries", "6"),
    ("ipv4/tcp_synack_retries", "5"),
    ("ipv4/tcp_fastopen", "1"),
    ("ipv4/tcp_sack", "1"),
    ("ipv4/tcp_dsack", "1"),
    ("ipv4/tcp_reordering", "3"),
    ("ipv4/tcp_frto", "2"),
    ("ipv4/tcp_early_retrans", "3"),
    ("ipv4/tcp_recovery", "1"),
    ("ipv4/tcp_slow_start_after_idle", "1"),
    ("ipv4/tcp_tso_win_divisor", "3"),
    ("ipv4/tcp_pacing_ss_ratio", "200"),
    ("ipv4/tcp_pacing_ca_ratio", "120"),
    ("ipv4/tcp_notsent_lowat", "4294967295"),
    ("ipv4/tcp_ecn", "2"),
    # Buffers as on a machine with memory enough, however small this guest is.
    ("ipv4/tcp_rmem", "4096 131072 6291456"),
    ("ipv4/tcp_wmem", "4096 16384 4194304"),
)
_OF_THE_GUEST = (
    # Packets are lost where a link's queue is full, and not between two interfaces of a pair.
    ("core/netdev_max_backlog", "1000000"),
)
_SILENT = (("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1"))
_MIDDLE = (  # joins the two halves of a link that shapes
    "link add wire type bridge",
    "link set dev a master wire",
    "link set dev b master wire",
    "link set dev a up",
    "link set dev b up",
    "link set dev wire up",
)
_FORWARDING = (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))

Run = Callable[[Sequence[str]], object]
Write = Callable[[str, bytes], object]


class Hands(Protocol):
    """What works on a host. Raises where what it runs fails."""

    def run(self, argv: Sequence[str]) -> object:
        """Run a program."""

    def printed(self, argv: Sequence[str]) -> str:
        """Run a program; return what it printed."""

    def write(self, path: str, content: bytes) -> object:
        """Write a file."""


@dataclass(frozen=True)
class Shaped:
    """An interface in the middle of a link, and what it does to packets that leave by it."""

    space: str
    interface: str
    way: Way


def inside(space: str) -> tuple[str, ...]:
    """Return the words before a command that is to run in a namespace."""
    return ("/bin/nsenter", f"--net=/run/netns/{space}")


def middle(link: int) -> str:
    """Return the name of the namespace in the middle of a link. No host can be called so."""
    return f"link-{link + 1}"


def check(topology: Topology) -> None:
    """Raise `UsageError` for what no namespaces can do."""
    for number in shaped_links(topology):
        link = topology.links[number]
        if link.there.in_bytes or link.back.in_bytes:
            raise UsageError(
                f"topology: link {number + 1}, {link.a} -- {link.b}: {link.properties}: between "
                "namespaces netem holds the queue, and counts packets, not bytes: queue=PACKETS, "
                "or --place guests, where the lab's own wire counts bytes"
            )


def build(topology: Topology, seed: int, run: Run, write: Write) -> None:
    """Make a topology's hosts and links in a guest, with what can run and write there.

    `seed` decides which packets a lossy link loses (Linux 6.6; before that the kernel
    draws it); 0 leaves it to the kernel. Raises `UsageError` as `check`.
    """
    check(topology)
    _set("root", _OF_THE_GUEST, run, write, ())
    _batch("root", root_lines(topology), (), run, write)
    for host in topology.hosts:
        configure(topology, host, run, write, inside(host))
    for space in map(middle, shaped_links(topology)):
        _set(space, _SILENT, run, write, inside(space))
        _batch(space, _MIDDLE, inside(space), run, write)
    for space, interfaces in plain_interfaces(topology).items():
        run([*inside(space), TRAFFIC, "plain", *interfaces])
    for number, shaped in enumerate(shaped_interfaces(topology)):
        run([*inside(shaped.space), TRAFFIC, *shape_words(shaped, seed and seed + number)])
    write_names(topology, write)


def configure(
    topology: Topology, host: str, run: Run, write: Write, prefix: Sequence[str] = ()
) -> None:
    """Bring up a host whose interfaces are there; `prefix` stands before what runs on it."""
    interfaces = ("all", "default", *(port.interface for port in topology.ports_of(host)))
    own = [
        (f"ipv6/conf/{interface}/{name}", value)
        for interface in interfaces
        for name, value in _OF_AN_INTERFACE
    ]
    router = _FORWARDING if host in topology.routers else ()
    _set(host, (*own, *_SYSCTLS, *router), run, write, prefix)
    _batch(host, host_lines(topology, host), prefix, run, write)


def await_answers(topology: Topology, hands: Mapping[str, Hands]) -> None:
    """Wait until a packet has come over each link and back.

    The kernel learns by and by that an interface may send (net/core/link_watch.c), and
    until then what is sent is lost; QEMU's e1000 takes none for a second. Raises `LabError`.
    """
    until = time.monotonic() + _PATIENCE
    for number, (link, (near, far)) in enumerate(zip(topology.links, topology.ports, strict=True)):
        seconds = 1 + (link.there.delay + link.back.delay) // 10**9
        ping = f"ping -c 1 -W {seconds} {far.addresses[0].ip} || true"
        while " 1 packets received" not in hands[near.host].printed(["/bin/sh", "-c", ping]):
            if any(way.loss or way.corrupt for way in (link.there, link.back)):
                break  # how much of it comes is looked at with the rest
            if time.monotonic() > until:
                raise LabError(f"link {number + 1}, {link.a} -- {link.b}: no ping comes back")


def write_names(topology: Topology, write: Write) -> None:
    """Write the hosts' names where programs look for them."""
    names = "".join(f"{address}\t{name}\n" for address, name in topology.names)
    write("/etc/hosts", f"127.0.0.1\tlocalhost\n{names}".encode())


def _set(
    space: str, values: Sequence[tuple[str, str]], run: Run, write: Write, prefix: Sequence[str]
) -> None:
    path = f"{_FOLDER}/{space}.sysctl"
    write(path, "".join(f"net/{name} = {value}\n" for name, value in values).encode())
    run([*prefix, "/bin/sysctl", "-q", "-p", path])


def _batch(name: str, lines: Iterable[str], prefix: Sequence[str], run: Run, write: Write) -> None:
    path = f"{_FOLDER}/{name}.batch"
    write(path, "".join(f"{line}\n" for line in lines).encode())
    run([*prefix, _IP, "-batch", path])


def shaped_links(topology: Topology) -> tuple[int, ...]:
    """Return the numbers of the links that do something to packets."""
    return tuple(k for k, link in enumerate(topology.links) if not link.is_clean)


def slowest_link(topology: Topology) -> int | None:
    """Return the number of the link with the least rate, of those that do something to packets."""
    links = topology.links
    return min(
        shaped_links(topology), key=lambda k: links[k].there.rate or float("inf"), default=None
    )


def root_lines(topology: Topology) -> Iterator[str]:
    """Yield what makes the namespaces, and the interfaces in them."""
    for host in topology.hosts:
        yield f"netns add {host}"
    for number, ends in enumerate(topology.ports):
        if topology.links[number].is_clean:
            a, b = ends
            yield f"{_end('link add', a)} type veth peer {_end('', b)}"
            continue
        yield f"netns add {middle(number)}"
        for port, inner in zip(ends, "ab", strict=True):
            here = _end("link add", port)
            yield f"{here} type veth peer name {inner} netns {middle(number)}"


def _end(verb: str, port: Port) -> str:
    return f"{verb} name {port.interface} netns {port.host} address {port.mac}".strip()


def host_lines(topology: Topology, host: str) -> Iterator[str]:
    """Yield what brings a host up: addresses, neighbours, so that nobody asks, and routes."""
    yield "link set dev lo up"
    for port in topology.ports_of(host):
        for address in port.addresses:
            yield f"address add {address} dev {port.interface}" + (
                " nodad" if address.version == 6 else ""
            )
        yield f"link set dev {port.interface} up"
        far = next(end for end in topology.ports[port.link] if end.host != host)
        for address in far.addresses:
            yield (
                f"neighbour add {address.ip} lladdr {far.mac} nud permanent dev {port.interface}"
            )
    for route in topology.routes(host):
        yield f"route add {route.network} via {route.via} dev {route.interface}"


def plain_interfaces(topology: Topology) -> dict[str, list[str]]:
    """Return the interfaces without segmentation offload, by their namespace.

    Those of links that shape: netem takes 64 KB that are one packet to the hosts for one.
    """
    found: dict[str, list[str]] = {}
    for link in shaped_links(topology):
        for port in topology.ports[link]:
            found.setdefault(port.host, []).append(port.interface)
        found[middle(link)] = ["a", "b"]
    return found


def shaped_interfaces(topology: Topology) -> Iterator[Shaped]:
    """Yield what shapes: the way to b is shaped where b's half begins."""
    for number in shaped_links(topology):
        link = topology.links[number]
        for inner, way in (("b", link.there), ("a", link.back)):
            if not way.is_clean:
                yield Shaped(middle(number), inner, way)


def shape_words(shaped: Shaped, seed: int) -> tuple[str, ...]:
    """Return what the traffic program is told, to shape an interface."""
    way = shaped.way
    first = (way.rate, way.delay, way.queue, way.loss, seed, way.overhead)
    last = (way.dup, way.reorder, way.corrupt, way.coalesce, *([way.mark] if way.mark else []))
    return ("shape", shaped.interface, *map(str, first + (last if any(last) else ())))
