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
from dataclasses import dataclass, field
from typing import Protocol

from linklab.console.formats import Fault
from linklab.errors import GuestHung, LabError, LinklabError, RequestRefused, UsageError
from linklab.lab.topology import Port, Topology, Way
from linklab.machine.spec import capture_port
from linklab.paths import IMAGES

TRAFFIC = "/usr/lib/linklab/traffic"
NETWORKS = IMAGES / "networks"
"""What kernels and images need to have hosts and links in them."""
NEEDS = "spaces"
"""The group of images/needs.toml that a kernel must have beyond that to hold namespaces."""
CAPTURES = "captures"
"""... and to write down what crosses the links between them."""
_IP = "/bin/ip"
_SYSCTL = "/bin/sysctl -q -p"
_FOLDER = "/tmp"
_IN_A_SCRIPT = 50  # hosts: each takes an emulated guest a tenth of a second
_KIB_BEHIND = 512  # of memory for a host behind another: 200 measured, its sockets not among them
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

# Says which of some addresses is the first that does not answer.
_PING_ALL = "for i; do ping -q -c 1 -W 1 $i >/dev/null || { echo $i; break; }; done"

# Tells each capture to end, and says by link how many packets it missed.
_END_CAPTURES = f"""cd {_FOLDER}
for i in link-*.told; do read -r _ process <$i && kill $process; done
for i in link-*.told; do
    for turn in $(seq 1000); do
        read -r word missed <$i && [ "$word" = missed ] && break  # it is empty before it is written
        sleep 0.01
    done
    echo ${{i%.told}} $word $missed
done"""

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
    _configure_behind(topology, run, write)
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
    _set(host, _values(topology, host), run, write, prefix)
    _batch(host, host_lines(topology, host), prefix, run, write)


def _values(topology: Topology, host: str) -> tuple[tuple[str, str], ...]:
    """Return a host's sysctls."""
    interfaces = ("all", "default", *(port.interface for port in topology.ports_of(host)))
    own = (
        (f"ipv6/conf/{interface}/{name}", value)
        for interface in interfaces
        for name, value in _OF_AN_INTERFACE
    )
    return (*own, *_SYSCTLS, *(_FORWARDING if host in topology.routers else ()))


def _configure_behind(topology: Topology, run: Run, write: Write) -> None:
    """Bring up the hosts behind one, some by each script: they are many, and requests take time."""
    script = f"{_FOLDER}/behind.sh"
    for first in range(len(topology.links), len(topology.all_links), _IN_A_SCRIPT):
        lines = ["set -e"]
        for link in topology.all_links[first : first + _IN_A_SCRIPT]:
            path = f"{_FOLDER}/{link.a}-behind.sysctl"
            if link.b == f"{link.a}.1":  # the others have the same interface
                write(path, _sysctl_text(_values(topology, link.b)))
            enter = " ".join(inside(link.b))
            lines += [f"{enter} {_SYSCTL} {path}", f"{enter} {_IP} -batch - <<END"]
            lines += [*host_lines(topology, link.b), "END"]
        write(script, "".join(f"{line}\n" for line in lines).encode())
        run(["/bin/sh", script])


def await_answers(topology: Topology, hands: Mapping[str, Hands]) -> None:
    """Wait until a packet has come over each link and back.

    The kernel learns by and by that an interface may send (net/core/link_watch.c), and
    until then what is sent is lost; QEMU's e1000 takes none for a second. Raises `LabError`.
    """
    until = time.monotonic() + _PATIENCE
    drawn = len(topology.links)
    for number, (link, (near, far)) in enumerate(zip(topology.links, topology.ports, strict=False)):
        seconds = 1 + (link.there.delay + link.back.delay) // 10**9
        ping = f"ping -c 1 -W {seconds} {far.addresses[0].ip} || true"
        while " 1 packets received" not in hands[near.host].printed(["/bin/sh", "-c", ping]):
            if any(way.loss or way.corrupt for way in (link.there, link.back)):
                break  # how much of it comes is looked at with the rest
            if time.monotonic() > until:
                raise LabError(f"link {number + 1}, {link.a} -- {link.b}: no ping comes back")
    for hub, _ in topology.behind:
        far_ends = (far for near, far in topology.ports[drawn:] if near.host == hub)
        addresses = [str(far.addresses[0].ip) for far in far_ends]
        while silent := hands[hub].printed(["/bin/sh", "-c", _PING_ALL, "sh", *addresses]).strip():
            if time.monotonic() > until:
                raise LabError(f"{hub} has hosts behind it: no ping comes back from {silent}")


def write_names(topology: Topology, write: Write) -> None:
    """Write the hosts' names where programs look for them."""
    names = "".join(f"{address}\t{name}\n" for address, name in topology.names)
    write("/etc/hosts", f"127.0.0.1\tlocalhost\n{names}".encode())


def _set(
    space: str, values: Sequence[tuple[str, str]], run: Run, write: Write, prefix: Sequence[str]
) -> None:
    path = f"{_FOLDER}/{space}.sysctl"
    write(path, _sysctl_text(values))
    run([*prefix, *_SYSCTL.split(), path])


def _sysctl_text(values: Sequence[tuple[str, str]]) -> bytes:
    return "".join(f"net/{name} = {value}\n" for name, value in values).encode()


def _batch(name: str, lines: Iterable[str], prefix: Sequence[str], run: Run, write: Write) -> None:
    path = f"{_FOLDER}/{name}.batch"
    write(path, "".join(f"{line}\n" for line in lines).encode())
    run([*prefix, _IP, "-batch", path])


@dataclass(frozen=True)
class SpaceLinks:
    """The links of a topology that is in a guest, of which each can be cut while its hosts run."""

    topology: Topology
    seed: int
    run: Run
    cut: set[int] = field(default_factory=set)  # links that are down or dark now

    def pull(self, link: int) -> None:
        """Take a link down: neither end has a carrier, and what is on it is lost."""
        self._bring("down", link)

    def darken(self, link: int) -> None:
        """Let all vanish that is on a link and comes to it; its carrier stays."""
        self._bring("dark", link)

    def plug(self, link: int) -> None:
        """Let a link be as it was before."""
        self._bring("up", link)

    def _bring(self, state: str, link: int) -> None:
        """Change a link. Raises `LabError` for one that has nothing in its middle."""
        for argv in link_commands(self.topology, self.seed, link, state):
            self.run(argv)
        (self.cut.discard if state == "up" else self.cut.add)(link)


def link_commands(topology: Topology, seed: int, link: int, state: str) -> list[list[str]]:
    """Return what brings a link into a state, `up`, `down` or `dark`, by what is in its middle.

    Both halves go down, so the host at the other end of each sees no carrier; for a dark one
    both lose all. Raises `LabError` for a link with nothing in its middle.
    """
    if topology.all_links[link].is_clean:
        a, b = topology.all_links[link].ends
        raise LabError(
            f"link {link + 1}, {a} -- {b}, has nothing in its middle that could be {state}: a "
            "rate, a delay or a loss puts it there"
        )
    enter = inside(middle(link))
    if state == "dark":
        return [[*enter, TRAFFIC, "dark", "a", "b"]]
    found = [[*enter, _IP, "link", "set", "dev", half, state] for half in "ab"]
    if state == "up":
        shaped = enumerate(shaped_interfaces(topology))
        again = [(n, each) for n, each in shaped if each.space == middle(link)]
        found.append([*enter, TRAFFIC, "bare", "a", "b"])
        found += [[*enter, TRAFFIC, *shape_words(each, seed and seed + n)] for n, each in again]
    return found


def over_a_cut_link(
    topology: Topology, cut: Iterable[int], fault: GuestHung | RequestRefused
) -> LinklabError:
    """Return what a silence or a refusal means where a link is cut: nothing of the kernel.

    What the kernel itself says on its console is its fault wherever its packets go.
    """
    if any(report.fault is not Fault.SILENCE for report in fault.reports):
        return fault
    number = min(cut)
    a, b = topology.all_links[number].ends
    text = f"link {number + 1}, {a} -- {b}, was cut"
    return LabError(f"{text}: {fault.message}", fault.evidence)


def start_captures(topology: Topology, guest: Hands) -> None:
    """Begin to write down what crosses each link that is drawn, as its first end sees it.

    A link that shapes is heard in its middle, where what its first end sends has not been
    delayed yet, and what it gets has.
    """
    for number, (near, _) in enumerate(topology.ports[: len(topology.links)]):
        is_clean = topology.links[number].is_clean
        space, interface = (near.host, near.interface) if is_clean else (middle(number), "a")
        words = ("capture", interface, capture_port(number), f"{_FOLDER}/{middle(number)}.told")
        guest.run([*inside(space), TRAFFIC, *words])


def end_captures(guest: Hands) -> None:
    """Let all that was heard be written down. Raises `LabError` where something was missed."""
    for line in guest.printed(["/bin/sh", "-c", _END_CAPTURES]).splitlines():
        name, word, missed = line.split()
        what = f"the capture of {name.replace('-', ' ')}"
        if word != "missed":
            raise LabError(f"{what} did not end in order: process {missed} in the guest")
        if int(missed):
            raise LabError(f"{what} lacks {missed} packets: the guest's CPU had no time for them")


def memory(topology: Topology) -> int:
    """Return the MiB that the hosts behind others take in a guest, beside what others do."""
    return -(-sum(count for _, count in topology.behind) * _KIB_BEHIND // 1024)


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
    for host in topology.everyone:
        yield f"netns add {host}"
    for number, ends in enumerate(topology.ports):
        if topology.all_links[number].is_clean:
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
