"""Networks: hosts, and the links between them, in one line of text.

    a -- b                              two hosts, one link
    a == b: 10mbit 20ms | 3mbit 5ms 1%  two links between the same hosts
    a -- r -- b: 10mbit 20ms queue=50   a router between; both links are alike
    a -- b: 10mbit 20ms queue=64kb      a queue that is full by bytes, not by packets
    a -- b: 10mbit/1mbit 20ms           from a to b, and back
    a -- r: 1gbit; r -- b: 10mbit       links that differ
    a -- b[400]                         400 hosts behind b, a link to each: b.1, b.2 and so on

A rate is in bit/s of whole frames, a delay is that of one way. What the text says is
what `str()` of its value says, in the same words each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Interface, ip_network, summarize_address_range
from typing import Any

from linklab.errors import UsageError

Address = IPv4Interface | IPv6Interface

FRAME = 1514
"""Bytes of a full Ethernet frame, without what a wire carries beside it."""
MOST_HOSTS = 250
"""Host i ends in .i; what is behind a host does not count."""
MOST_BEHIND = 10_000
_BEHIND = 254  # what all of those end in, each on a link of its own
_QUEUE = 1000  # packets: netem's own default
_MOST_BYTES = 64 << 20  # of a queue
_MOST_RATE = 400 * 10**9
_MOST_DELAY = 60 * 10**9
_MOST_NAME = 11  # an interface is called after its peer and may get a number
_MOST_INTERFACE = 15  # IFNAMSIZ is 16
_TAKEN = ("lo", "all", "default", "localhost")  # what Linux calls an interface, or a host, itself

_RATES = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3, "bit": 1}
_TIMES = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_SIZES = {"mb": 1 << 20, "kb": 1 << 10, "b": 1}  # as tc(8) has them
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_RATE = re.compile(rf"{_NUMBER}({'|'.join(_RATES)})")
_TIME = re.compile(rf"{_NUMBER}(s|ms|us|ns)")
_SIZE = re.compile(rf"{_NUMBER}({'|'.join(_SIZES)})")
_SHARE = re.compile(rf"{_NUMBER}%")
_NODE = re.compile(r"([a-z][a-z0-9]*)(?:\[([0-9]{1,12})\])?")
# A name ends where a link begins, written without blanks too; `queue=5` is no name.
_WORD = re.compile(r"\s*([a-z][a-z0-9]*(?:\[\d*\])?(?!=[^=]|[%./\w\[])|--|==|[;:|]|[^\s;:|]+)")

_CLEAN = "clean"  # a link of several that has no properties
_NAMED = ("queue", "dup", "reorder", "corrupt", "overhead", "coalesce", "mark")


@dataclass(frozen=True)
class Way:
    """What happens to packets on one way of a link. 0 is as fast as it goes, and nothing.

    `rate` is in bit/s, `delay` in ns, `queue` in packets that wait, or, `in_bytes`, in the
    bytes of their frames; `loss`, `dup`, `reorder` and `corrupt` are in parts per million of
    the packets; `overhead` is the bytes that a frame takes on the wire beside its own.
    Packets arrive together, every `coalesce` ns, as from a network card that interrupts no
    more often. Packets that have waited for `mark` ns are marked (ECN, RFC 3168), where the
    sender understands it.
    """

    rate: int = 0
    delay: int = 0
    loss: int = 0
    queue: int = _QUEUE
    in_bytes: bool = False
    dup: int = 0
    reorder: int = 0
    corrupt: int = 0
    overhead: int = 0
    coalesce: int = 0
    mark: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing shapes it."""
        return self == Way(queue=self.queue, in_bytes=self.in_bytes, overhead=self.overhead)

    @property
    def packets(self) -> int:
        """The full frames that fit into its queue."""
        return self.queue // FRAME if self.in_bytes else self.queue


CLEAN = Way()


@dataclass(frozen=True)
class Link:
    """A link of two hosts: what it does on the way from `a` to `b`, and back."""

    a: str
    b: str
    there: Way = CLEAN
    back: Way = CLEAN

    @property
    def ends(self) -> tuple[str, str]:
        """Its two hosts."""
        return self.a, self.b

    @property
    def is_clean(self) -> bool:
        """Whether nothing shapes it, in either direction."""
        return self.there.is_clean and self.back.is_clean

    @property
    def properties(self) -> str:
        """What it does, in the words of the text form; nothing where it is clean."""
        return _properties(self.there, self.back)


@dataclass(frozen=True)
class Port:
    """One end of a link: the interface of a host, its addresses, and its peer's."""

    host: str
    interface: str
    link: int  # from 0
    peer: str
    addresses: tuple[Address, ...]
    mac: str


@dataclass(frozen=True)
class Route:
    """What a host reaches over another one."""

    network: str
    via: str
    interface: str


@dataclass(frozen=True)
class Topology:
    """Hosts and the links between them. `behind` says how many hosts are behind one.

    `hosts` and `links` are those that are drawn, `everyone` and `all_links` have those behind
    a host, too: n of b are b.1 to b.n, each at the other end of a link that does nothing.
    """

    hosts: tuple[str, ...]
    links: tuple[Link, ...] = ()
    behind: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        linked = {end for link in self.links for end in link.ends}
        for host in self.hosts:
            if len(self.hosts) > 1 and host not in linked:
                raise UsageError(f"topology: the host {host} has no link")
        if len(self.hosts) > MOST_HOSTS:
            raise UsageError(f"topology: {len(self.hosts)} hosts; at most {MOST_HOSTS} have names")

    def __str__(self) -> str:
        return _text(self)

    @cached_property
    def all_links(self) -> tuple[Link, ...]:
        """The links that are drawn, and behind them those to the hosts behind one."""
        behind = ((host, number) for host, count in self.behind for number in range(1, count + 1))
        return (*self.links, *(Link(host, f"{host}.{number}") for host, number in behind))

    @cached_property
    def everyone(self) -> tuple[str, ...]:
        """The hosts that are drawn, and those behind one."""
        return (*self.hosts, *(link.b for link in self.all_links[len(self.links) :]))

    @property
    def roll(self) -> tuple[str, ...]:
        """The names of all; those behind a host are one, the first to the last of them."""
        behind = (f"{host}.1" + f" to {host}.{n}" * (n > 1) for host, n in self.behind)
        return (*self.hosts, *behind)

    @cached_property
    def ports(self) -> tuple[tuple[Port, Port], ...]:
        """The two ends of each link."""
        used: dict[str, set[str]] = {host: set() for host in self.everyone}
        return tuple(
            (
                self._port(number, link.a, link.b, used),
                self._port(number, link.b, link.a, used),
            )
            for number, link in enumerate(self.all_links)
        )

    def _port(self, link: int, host: str, peer: str, used: dict[str, set[str]]) -> Port:
        name, again = peer, 1
        while name in used[host] or (again > 1 and name in self.hosts):
            again += 1
            name = f"{peer}{again}"
        used[host].add(name)
        number = link + 1
        end = self.hosts.index(host) + 1 if host in self.hosts else _BEHIND
        high, low = divmod(number, 256)
        return Port(
            host=host,
            interface=name,
            link=link,
            peer=peer,
            addresses=(
                IPv4Interface(f"10.{high}.{low}.{end}/24"),
                IPv6Interface(f"fd00:{number:x}::{end:x}/64"),
            ),
            mac=f"02:00:{high:02x}:{low:02x}:00:{end:02x}",
        )

    @cached_property
    def _ports(self) -> dict[str, list[Port]]:
        found: dict[str, list[Port]] = {host: [] for host in self.everyone}
        for port in (port for ends in self.ports for port in ends):
            found[port.host].append(port)
        return found

    def ports_of(self, host: str) -> tuple[Port, ...]:
        """Return the interfaces of a host, in the order of its links."""
        return tuple(self._ports.get(host, ()))

    def address(self, host: str, link: int | None = None, family: int = 4) -> str:
        """Return a host's address: of its first link, or of one that it has."""
        for port in self.ports_of(host):
            if link is None or port.link == link:
                return str(next(a.ip for a in port.addresses if a.version == family))
        raise KeyError(host)

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Each host's addresses and its name, as /etc/hosts has them.

        One that others are behind is known by its addresses on the links that are drawn.
        """
        drawn = [(h, p) for h in self.everyone for p in self.ports_of(h) if self._is_named(p)]
        return tuple((str(address.ip), h) for h, port in drawn for address in port.addresses)

    def _is_named(self, port: Port) -> bool:
        return port.link < len(self.links) or port.host not in self.hosts or not self.links

    def routes(self, host: str) -> tuple[Route, ...]:
        """Return how a host reaches the links that it has no end of, by the fewest hops.

        Who is behind another has that one for everything.
        """
        if host not in self.hosts:
            ((via, out),) = (self.ports[port.link] for port in self.ports_of(host))
            return _routes(_EVERYTHING, (out, via))
        first = self._first_hops(host)
        own = {port.link for port in self.ports_of(host)}
        found: tuple[Route, ...] = ()
        for number, ends in enumerate(self.ports[: len(self.links)]):
            if number in own:
                continue
            near = min(ends, key=lambda p: first[p.host][0] if p.host in first else 1 << 30)
            if near.host not in first:
                continue
            found += _routes([str(a.network) for a in near.addresses], first[near.host][1])
        for hub, networks in self._behind_networks:
            if hub in first:
                found += _routes(networks, first[hub][1])
        return found

    @cached_property
    def _behind_networks(self) -> list[tuple[str, list[str]]]:
        """Who has others behind, and the fewest networks that hold the links to them."""
        found, number = [], len(self.links)
        for host, count in self.behind:
            ends = (number + 1, number + count)
            number += count
            v4 = [ip_network(f"10.{n >> 8}.{n & 255}.0/24") for n in ends]
            v6 = [ip_network(f"fd00:{n:x}::/32") for n in ends]
            all_of = (
                summarize_address_range(low.network_address, high.broadcast_address)
                for low, high in (v4, v6)
            )
            found.append((host, [str(network) for each in all_of for network in each]))
        return found

    def _first_hops(self, host: str) -> dict[str, tuple[int, tuple[Port, Port]]]:
        """Return for every other host how far it is, and by which link the way to it begins."""
        found: dict[str, tuple[int, tuple[Port, Port]]] = {}
        edge: list[tuple[str, tuple[Port, Port] | None]] = [(host, None)]
        hops = 0
        while edge:
            hops += 1
            reached: list[tuple[str, tuple[Port, Port] | None]] = []
            for here, first in edge:
                for ends in self.ports[: len(self.links)]:
                    for near, far in (ends, ends[::-1]):
                        if near.host != here or far.host == host or far.host in found:
                            continue
                        found[far.host] = (hops, first or (near, far))
                        reached.append((far.host, found[far.host][1]))
            edge = reached
        return found

    @cached_property
    def routers(self) -> tuple[str, ...]:
        """The hosts that packets of others go through."""
        owner = dict(self.names)
        through = {owner[route.via] for host in self.hosts for route in self.routes(host)}
        through |= {host for host, _ in self.behind}
        return tuple(host for host in self.hosts if host in through)

    def drawing(self) -> str:
        """Return it as lines for a terminal: each link with what it does, and the addresses.

        The links to all hosts behind one are one line.
        """
        width = max(map(len, self.hosts))
        lines = [self._line(number, width) for number in range(len(self.links))]
        number = len(self.links)
        for _, count in self.behind:
            last = self.ports[number + count - 1][1]
            more = f" to {last.addresses[0].ip} {last.host}: {count} hosts"
            lines.append(self._line(number, width) + (more if count > 1 else ""))
            number += count
        return "\n".join(lines or [self.hosts[0]])

    def _line(self, number: int, width: int) -> str:
        link, (a, b) = self.all_links[number], self.ports[number]
        wire = "────" if link.is_clean else "~~~~"
        near, far = (end.addresses[0].ip for end in (a, b))
        ends = f"{link.a:>{width}} {near!s:>12} {wire} {far!s:<12} {link.b:<{width}}"
        return f"{ends}  {link.properties}".rstrip()


_EVERYTHING = ("0.0.0.0/0", "::/0")


def _routes(networks: Iterable[str], hop: tuple[Port, Port]) -> tuple[Route, ...]:
    """Return the routes to networks over a link, from its near end to its far one."""
    near, far = hop
    via = {":" in str(address): str(address.ip) for address in far.addresses}
    return tuple(Route(network, via[":" in network], near.interface) for network in networks)


class _Reader:
    """Reads the text form, word by word; knows where it is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [(m.group(1), m.start(1)) for m in _WORD.finditer(text)]
        self._at = 0

    @property
    def word(self) -> str:
        """The word that comes next; nothing at the end."""
        return self._words[self._at][0] if self._at < len(self._words) else ""

    def take(self) -> str:
        word = self.word
        self._at += 1
        return word

    def fault(self, why: str, back: int = 0) -> UsageError:
        """Return an error that points at the next word, or at one so many before."""
        at = self._at - back
        column = self._words[at][1] if at < len(self._words) else len(self._text.rstrip())
        return UsageError(f"topology: {why}\n  {self._text}\n  {' ' * column}^")


def parse(text: str) -> Topology:
    """Return what a text says. Raises `UsageError`, which points at what is wrong."""
    text = " ".join(text.split("\n"))
    reader = _Reader(text)
    hosts: dict[str, int] = {}  # and how many are behind each
    links: list[Link] = []
    while True:
        pairs = _chain(reader, hosts)
        ways = [(CLEAN, CLEAN)] * len(pairs)
        if reader.word == ":":
            reader.take()
            said = [_ways(reader)]
            while reader.word == "|":
                reader.take()
                said.append(_ways(reader))
            if len(said) == 1:
                said *= len(pairs)
            if len(said) != len(pairs):
                raise reader.fault(
                    f"properties of {len(said)} links, where {len(pairs)} "
                    f"{'link is' if len(pairs) == 1 else 'links are'} drawn", 1
                )  # fmt: skip
            ways = said
        links += [Link(a, b, *both) for (a, b), both in zip(pairs, ways, strict=True)]
        if not reader.word:
            break
        if reader.take() != ";":
            raise reader.fault("a link, `--` or `==`, is expected here, `:` or `;`", 1)
        if not reader.word:
            break
    linked = {end for link in links for end in link.ends}
    for host in hosts:
        if len(hosts) > 1 and host not in linked:
            raise UsageError(f"topology: the host {host} has no link\n  {text}")
    return Topology(tuple(hosts), tuple(links), tuple((h, n) for h, n in hosts.items() if n))


def _chain(reader: _Reader, hosts: dict[str, int]) -> list[tuple[str, str]]:
    """Read hosts and the links that join them; return the links' ends."""
    here = _host(reader, hosts)
    pairs = []
    while reader.word in ("--", "=="):
        drawn = reader.take()
        there = _host(reader, hosts)
        if there == here:
            raise reader.fault(f"a link from {here} to itself", 1)
        pairs += [(here, there)] * (2 if drawn == "==" else 1)
        here = there
    return pairs


def _host(reader: _Reader, hosts: dict[str, int]) -> str:
    word = reader.word
    found = _NODE.fullmatch(word)
    if found is None:
        raise reader.fault(
            "the name of a host is expected here: small letters and digits"
            if word
            else "the name of a host is expected at the end"
        )
    name, behind = found[1], int(found[2] or 0)
    if name in _TAKEN:
        raise reader.fault(f"`{name}` is a name of Linux's own: call the host something else")
    if len(name) > _MOST_NAME:
        raise reader.fault(f"{name} is too long: at most {_MOST_NAME} letters")
    if found[2] and not 1 <= behind <= MOST_BEHIND:
        raise reader.fault(f"1 to {MOST_BEHIND} hosts can be behind {name}")
    if len(f"{name}.{behind}") > _MOST_INTERFACE:
        raise reader.fault(
            f"{name}.{behind} is too long for the name of an interface: at most "
            f"{_MOST_INTERFACE} letters"
        )
    reader.take()
    hosts[name] = behind or hosts.get(name, 0)
    return name


def _ways(reader: _Reader) -> tuple[Way, Way]:
    """Read the properties of a link."""
    seen: set[str] = set()
    there: dict[str, Any] = {}
    back: dict[str, Any] = {}
    if reader.word == _CLEAN:
        reader.take()
        return CLEAN, CLEAN
    while reader.word and reader.word not in (";", "|"):
        name, fields_there, fields_back = _property(reader)
        if name in seen:
            raise reader.fault(f"the {name} is there twice")
        seen.add(name)
        there |= fields_there
        back |= fields_back
        reader.take()
    if any(way.get("mark") and not way.get("rate") for way in (there, back)):
        raise reader.fault("nothing waits where there is no rate, so there is nothing to mark")
    return Way(**there), Way(**back)


def _property(reader: _Reader) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the name of the property that comes next, and its fields there and back."""
    word = reader.word
    named, _, value = word.rpartition("=")
    if named and named not in _NAMED:
        raise reader.fault(f"no such property; there are {', '.join(_NAMED)}")
    parts = value.split("/")
    if len(parts) > 2:
        raise reader.fault("one value, or two: there/back")
    values = [_value(reader, named, part) for part in parts]
    kinds = {kind for kind, _ in values}
    if len(kinds) > 1:
        raise reader.fault("unlike values there and back")
    (name,) = kinds
    each = [{name: amount} for _, amount in values]
    if name == "queue":
        for found, part in zip(each, parts, strict=True):
            found["in_bytes"] = part.endswith("b")
    return name, each[0], each[-1]


def _whole(reader: _Reader, named: str, text: str) -> int:
    """Return the packets or the bytes of a queue, or the bytes of an overhead."""
    if named == "queue" and (found := _SIZE.fullmatch(text)):
        size = round(float(found[1]) * _SIZES[found[2]])
        if not FRAME <= size <= _MOST_BYTES:
            raise reader.fault(f"a queue in bytes is from {FRAME}b, a full frame, to 64mb")
        return size
    least, most = (1, 10_000_000) if named == "queue" else (-1000, 1000)
    if not re.fullmatch(r"-?[0-9]{1,12}", text) or not least <= int(text) <= most:
        or_bytes = ", or bytes, as in queue=64kb" if named == "queue" else ""
        raise reader.fault(f"{named}= takes a number from {least} to {most}{or_bytes}")
    return int(text)


def _value(reader: _Reader, named: str, text: str) -> tuple[str, int]:
    if named in ("queue", "overhead"):
        return named, _whole(reader, named, text)
    if found := _SHARE.fullmatch(text):
        millionths = round(float(found[1]) * 10_000)
        if millionths > 1_000_000 or (millionths == 0 and float(found[1]) > 0):
            raise reader.fault("a share is from 0.0001% to 100%")
        return named or "loss", millionths
    if named in ("coalesce", "mark"):
        if not (found := _TIME.fullmatch(text)) or float(found[1]) * _TIMES[found[2]] > 10**9:
            raise reader.fault(f"{named}= takes a time up to 1s, as in {named}=100us")
        return named, round(float(found[1]) * _TIMES[found[2]])
    if named:
        raise reader.fault(f"{named}= takes a share, as in {named}=1%")
    if found := _RATE.fullmatch(text):
        rate = round(float(found[1]) * _RATES[found[2]])
        if rate and not 1000 <= rate <= _MOST_RATE:
            raise reader.fault("a rate is from 1kbit to 400gbit, or 0bit: as fast as it goes")
        return "rate", rate
    if found := _TIME.fullmatch(text):
        delay = round(float(found[1]) * _TIMES[found[2]])
        if delay > _MOST_DELAY:
            raise reader.fault("a delay is at most 60s")
        return "delay", delay
    raise reader.fault(
        "a rate (10mbit), a delay (20ms), a loss (1%) or a property is expected "
        f"({', '.join(f'{name}=' for name in _NAMED)})"
    )


def _text(topology: Topology) -> str:
    """Return the text form: links that follow one another are one chain."""
    behind = dict(topology.behind)
    shown: set[str] = set()

    def node(host: str) -> str:
        many = f"[{behind[host]}]" if host in behind and host not in shown else ""
        shown.add(host)
        return host + many

    if not topology.links:
        return node(topology.hosts[0])
    return "; ".join(_chain_text(chain, node) for chain in _chains(topology.links))


def _chains(links: Sequence[Link]) -> Iterator[list[list[Link]]]:
    """Yield chains of links: each a list of single and double links, end to end."""
    groups: list[list[Link]] = []
    for link in links:
        if groups and groups[-1][0].ends == link.ends and len(groups[-1]) == 1:
            groups[-1].append(link)
        else:
            groups.append([link])
    chain: list[list[Link]] = []
    for group in groups:
        if chain and chain[-1][0].b != group[0].a:
            yield chain
            chain = []
        chain.append(group)
    yield chain


def _chain_text(chain: Sequence[Sequence[Link]], node: Callable[[str], str]) -> str:
    words = [node(chain[0][0].a)]
    for group in chain:
        words += ["==" if len(group) == 2 else "--", node(group[0].b)]
    said = [link.properties for group in chain for link in group]
    if not any(said):
        return " ".join(words)
    each = said[:1] if len(set(said)) == 1 else [one or _CLEAN for one in said]
    return f"{' '.join(words)}: {' | '.join(each)}"


def _properties(there: Way, back: Way) -> str:
    words = []
    for field in fields(Way):
        texts = [_written(field.name, way) for way in (there, back)]
        if texts == [_written(field.name, CLEAN)] * 2 or field.name == "in_bytes":
            continue
        prefix = f"{field.name}=" if field.name in _NAMED else ""
        words.append(prefix + "/".join(dict.fromkeys(texts)))
    return " ".join(words)


def _written(name: str, way: Way) -> str:
    value = getattr(way, name)
    match name:
        case "queue" if way.in_bytes:
            return _in_units(value, _SIZES)
        case "rate":
            return _in_units(value, _RATES)
        case "delay" | "coalesce" | "mark":
            return _in_units(value, _TIMES)
        case "queue" | "overhead":
            return str(value)
        case _:
            return f"{value / 10_000:.4f}".rstrip("0").rstrip(".") + "%"


def _in_units(value: int, units: dict[str, int]) -> str:
    """Return a number in the largest unit that leaves it whole; 0 in the smallest."""
    if not value:
        return f"0{min(units, key=lambda name: units[name])}"
    unit = next(name for name, size in units.items() if value % size == 0)
    return f"{value // units[unit]}{unit}"
