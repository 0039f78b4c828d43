"""Topologies: the text form and back, addresses, routes, and what namespaces are made with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.errors import LabError, UsageError
from linklab.lab import spaces
from linklab.lab.topology import Link, Route, Topology, Way, parse

NAMES = ("a", "b", "c", "r", "s1", "client", "far")

queues = st.one_of(
    st.builds(lambda packets: {"queue": packets}, st.sampled_from([1, 50, 1000, 1514, 10_000_000])),
    st.builds(lambda size: {"queue": size, "in_bytes": True}, st.integers(1514, 64 << 20)),
    st.builds(lambda kib: {"queue": kib << 10, "in_bytes": True}, st.integers(2, 64 << 10)),
)
shapes = st.builds(
    Way,
    rate=st.sampled_from([0, 1000, 10_000_000, 2_500_000, 10**9, 400 * 10**9, 1_234_567]),
    delay=st.sampled_from([0, 1, 1500, 20_000_000, 60 * 10**9]),
    loss=st.integers(0, 1_000_000),
    dup=st.sampled_from([0, 1, 10_000]),
    reorder=st.sampled_from([0, 500_000]),
    corrupt=st.sampled_from([0, 123]),
    overhead=st.integers(-1000, 1000),
).flatmap(
    lambda way: st.sampled_from([0, 1000, 242_000] if way.rate else [0]).map(
        lambda mark: replace(way, mark=mark)
    )
)
ways = st.builds(lambda shape, queue: replace(shape, **queue), shapes, queues)


@st.composite
def links(draw: st.DrawFn) -> tuple[Link, ...]:
    """Links of which each begins where an earlier one was, so that all hosts are joined."""
    known = [draw(st.sampled_from(NAMES))]
    made: list[Link] = []
    for _ in range(draw(st.integers(1, 6))):
        a = draw(st.sampled_from(known))
        b = draw(st.sampled_from([name for name in NAMES if name != a]))
        known += [] if b in known else [b]
        there = draw(ways)
        made.append(Link(a, b, there, draw(st.one_of(st.just(there), ways))))
    return tuple(made)


@st.composite
def topologies(draw: st.DrawFn, most: int = 10_000) -> Topology:
    made = draw(links())
    hosts = tuple(dict.fromkeys(end for link in made for end in link.ends))
    behind = draw(st.dictionaries(st.sampled_from(hosts), st.integers(1, most), max_size=2))
    return Topology(hosts, made, tuple((h, behind[h]) for h in hosts if h in behind))


@given(topologies())
def test_the_text_says_all_that_the_value_holds(topology: Topology) -> None:
    text = str(topology)
    assert parse(text) == topology
    assert str(parse(text)) == text
    assert text == text.strip()


@given(topologies(most=300))
def test_addresses_interfaces_and_macs_are_nobody_elses(topology: Topology) -> None:
    ports = [port for ends in topology.ports for port in ends]
    addresses = [str(address) for port in ports for address in port.addresses]
    assert len(set(addresses)) == len(addresses) == 2 * len(ports)
    assert len({port.mac for port in ports}) == len(ports)
    assert len({(port.host, port.interface) for port in ports}) == len(ports)
    assert all(len(port.interface) <= 15 for port in ports)
    for a, b in topology.ports:
        assert [x.network for x in a.addresses] == [x.network for x in b.addresses]


@given(topologies(most=5))
@settings(max_examples=50)
def test_every_packet_gets_there_by_the_fewest_hops(topology: Topology) -> None:
    owner = {str(a.ip): p.host for ends in topology.ports for p in ends for a in p.addresses}
    hops_from = {
        host: [(ip_network(route.network), owner[route.via]) for route in topology.routes(host)]
        for host in topology.everyone
    }
    for start, target in combinations(topology.everyone, 2):
        for port, family in ((p, n) for p in topology.ports_of(target) for n in (0, 1)):
            address = port.addresses[family].ip
            here, hops = start, 0
            while not any(
                address in a.network for p in topology.ports_of(here) for a in p.addresses
            ):
                assert here == start or here in topology.routers
                (here,) = {via for network, via in hops_from[here] if address in network}
                hops += 1
            assert hops == _distance(topology, start, port.link)


def _is_near(topology: Topology, host: str, address: IPv4Address | IPv6Address) -> bool:
    """Whether a host has an end of the link that an address is on."""
    return any(address in each.network for p in topology.ports_of(host) for each in p.addresses)


def _distance(topology: Topology, start: str, link: int) -> int:
    """Return the hops from a host to the nearer end of a link."""
    reached, hops = {start}, 0
    while not reached & set(topology.all_links[link].ends):
        near = [each.ends for each in topology.all_links if set(each.ends) & reached]
        reached |= {end for ends in near for end in ends}
        hops += 1
    return hops


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a--b", "a -- b"),
        ("a==b:10mbit 20ms|3mbit 5ms 1%", "a == b: 10mbit 20ms | 3mbit 5ms 1%"),
        ("a -- r: 20ms 10mbit; r -- b: 10mbit 20ms", "a -- r -- b: 10mbit 20ms"),
        ("a -- b: 0.5gbit 1.5ms", "a -- b: 500mbit 1500us"),
        ("a -- b -- c: 1mbit | clean", "a -- b -- c: 1mbit | clean"),
        ("a -- b: 10mbit/10mbit", "a -- b: 10mbit"),
        ("a -- b: 10mbit/0bit", "a -- b: 10mbit/0bit"),
        ("a -- b: queue=0.5mb", "a -- b: queue=512kb"),
        ("a -- b: 1mbit queue=64kb/50", "a -- b: 1mbit queue=64kb/50"),
        ("a -- b: queue=1000", "a -- b"),
        ("a -- b: queue=2000b", "a -- b: queue=2000b"),
        ("a -- b[400]", "a -- b[400]"),
        ("a", "a"),
    ],
)
def test_what_is_typed_is_said_in_the_usual_words(text: str, same: str) -> None:
    assert str(parse(text)) == same


@pytest.mark.parametrize(
    ("text", "column", "why"),
    [
        ("a -= b", 2, "`--` or `==`"),
        ("a --", 4, "the name of a host"),
        ("a -- b: 10mb", 8, "10mbit"),
        ("a -- b: 0.1kbit", 8, "1kbit to 400gbit"),
        ("a -- b: 61s", 8, "at most 60s"),
        ("a -- b: 101%", 8, "0.0001% to 100%"),
        ("a -- a", 5, "to itself"),
        ("a -- lo", 5, "Linux's own"),
        ("a -- b: 1% 2%", 11, "twice"),
        ("a -- b: 1% | 2%", 13, "2 links"),
        ("a -- b[0]", 5, "can be behind b"),
        ("a -- b[10001]", 5, "1 to 10000 hosts"),
        ("a -- elevenchars[1000]", 5, "elevenchars.1000 is too long"),
        ("a -- b: queue=0", 8, "from 1 to"),
        ("a -- b: queue=64k", 8, "or bytes, as in queue=64kb"),
        ("a -- b: queue=1kb", 8, "from 1514b, a full frame"),
        ("a -- b: queue=65mb", 8, "to 64mb"),
        ("a -- b: queue=50 queue=64kb", 17, "the queue is there twice"),
        ("a -- b: dup=3", 8, "dup=1%"),
        ("a -- b: 1mbit mark=2s", 14, "mark=100us"),
        ("a -- b: mark=1ms", 16, "nothing waits"),
        ("a -- b: 1mbit/0bit mark=1ms", 27, "nothing waits"),
        ("a -- b: color=3", 8, "there are queue"),
        ("a -- b: 10mbit/2ms", 8, "unlike"),
        ("a -- b: 1%/2%/3%", 8, "there/back"),
        ("A -- b", 0, "small letters"),
        ("a -- verylongname", 5, "too long"),
        ("", 0, "the name of a host"),
    ],
)
def test_an_error_points_at_what_is_wrong(text: str, column: int, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    lines = str(refused.value).splitlines()
    assert why in lines[0]
    assert lines[2].index("^") == column + 2


def test_a_host_without_a_link_is_refused() -> None:
    with pytest.raises(UsageError, match="the host c has no link"):
        parse("a -- b; c")


def test_the_drawing_has_a_line_for_each_link() -> None:
    drawn = parse("a -- r -- b: clean | 10mbit 20ms").drawing().splitlines()
    assert [line.split() for line in drawn] == [
        ["a", "10.0.1.1", "────", "10.0.1.2", "r"],
        ["r", "10.0.2.2", "~~~~", "10.0.2.3", "b", "10mbit", "20ms"],
    ]


def test_hosts_behind_one_have_names_addresses_and_a_route_and_are_drawn_as_one_line() -> None:
    topology = parse("a -- b[400]: 10mbit")
    assert len(topology.everyone) == 402
    assert topology.everyone[2:4] == ("b.1", "b.2")
    assert [str(route) for route in topology.routes("b.400")] == [
        str(Route("0.0.0.0/0", "10.1.145.2", "b")), str(Route("::/0", "fd00:191::2", "b")),
    ]  # fmt: skip
    assert {r.via for r in topology.routes("a")} == {"10.0.1.2", "fd00:1::2"}
    assert len(topology.routes("a")) == 20, "networks that lie together are one"
    assert topology.routes("b") == ()
    assert topology.routers == ("b",)
    named = {name: address for address, name in reversed(topology.names)}
    assert (named["b"], named["b.1"], named["b.400"]) == ("10.0.1.2", "10.0.2.254", "10.1.145.254")
    assert [line.split() for line in topology.drawing().splitlines()] == [
        ["a", "10.0.1.1", "~~~~", "10.0.1.2", "b", "10mbit"],
        [
            "b",
            "10.0.2.2",
            "────",
            "10.0.2.254",
            "b.1",
            "to",
            "10.1.145.254",
            "b.400:",
            "400",
            "hosts",
        ],
    ]
    assert "10.0.1.1" in parse("a[1] -- b").drawing()


class Guest:
    """Takes what would be run and written in a guest."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.files: dict[str, str] = {}

    def run(self, argv: Sequence[str]) -> None:
        self.ran.append(list(argv))

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content.decode()


def built(text: str, seed: int = 7) -> Guest:
    guest = Guest()
    spaces.build(parse(text), seed, guest.run, guest.write)
    return guest


def test_who_shapes_is_never_a_sender() -> None:
    guest = built("a -- b: 10mbit/1mbit 20ms 1% queue=50 overhead=24")
    shaped = [argv for argv in guest.ran if "shape" in argv]
    assert [argv[1] for argv in shaped] == ["--net=/run/netns/link-1"] * 2
    assert [argv[4:] for argv in shaped] == [
        ["b", "10000000", "20000000", "50", "10000", "7", "24"],
        ["a", "1000000", "20000000", "50", "10000", "8", "24"],
    ]
    plain = {argv[1]: argv[4:] for argv in guest.ran if "plain" in argv}
    assert plain["--net=/run/netns/a"] == ["b"]
    assert plain["--net=/run/netns/link-1"] == ["a", "b"]


def test_a_clean_link_has_nothing_in_its_middle() -> None:
    guest = built("a -- b")
    assert not any("shape" in argv or "plain" in argv for argv in guest.ran)
    assert "netns add link" not in guest.files["/tmp/root.batch"]
    assert (
        "link add name b netns a address 02:00:00:01:00:01 type veth peer name a netns b"
        in (guest.files["/tmp/root.batch"])
    )


def test_what_is_in_a_links_middle_cuts_it_and_brings_it_back() -> None:
    drawn = parse("a -- r -- b: clean | 10mbit/0bit 20ms/0ms queue=50/1000")
    ran: list[list[str]] = []
    links = spaces.SpaceLinks(drawn, 7, lambda argv: ran.append(list(argv)))
    links.pull(1)
    links.darken(1)
    assert links.cut == {1}
    links.plug(1)
    assert links.cut == set()
    enter = "/bin/nsenter --net=/run/netns/link-2"
    assert list(map(" ".join, ran)) == [
        f"{enter} /bin/ip link set dev a down",
        f"{enter} /bin/ip link set dev b down",
        f"{enter} {spaces.TRAFFIC} dark a b",
        f"{enter} /bin/ip link set dev a up",
        f"{enter} /bin/ip link set dev b up",
        f"{enter} {spaces.TRAFFIC} bare a b",
        f"{enter} {spaces.TRAFFIC} shape b 10000000 20000000 50 0 7 0",
    ]
    shaped = [argv for argv in built(str(drawn)).ran if "shape" in argv]
    assert ran[-1] == shaped[0], "as when it was made"
    with pytest.raises(LabError, match="link 1, a -- r, has nothing in its middle"):
        links.pull(0)


def test_hosts_behind_one_are_brought_up_by_a_script_and_each_is_a_namespace() -> None:
    guest = built("a -- b[3]: 10mbit")
    script = guest.files["/tmp/behind.sh"].splitlines()
    assert sum("/bin/sysctl" in line for line in script) == 3
    third = script.index("/bin/nsenter --net=/run/netns/b.3 /bin/ip -batch - <<END")
    assert "address add 10.0.4.254/24 dev b" in script[third:]
    assert script[-2:] == ["route add ::/0 via fd00:4::2 dev b", "END"]
    assert guest.ran.count(["/bin/sh", "/tmp/behind.sh"]) == 1
    made = guest.files["/tmp/root.batch"]
    assert "netns add b.3\n" in made
    ends = "name b.3 netns b address 02:00:00:04:00:02 type veth peer name b netns b.3 address"
    assert f"link add {ends} 02:00:00:04:00:fe\n" in made
    assert "behind.sh" not in "".join(built("a -- b: 10mbit").files)
    assert spaces.memory(parse("a -- b[400]")) == 200


def test_routers_forward_and_others_do_not() -> None:
    guest = built("a -- r -- b")
    forwards = {
        name for name in ("a", "r", "b") if "ip_forward" in guest.files[f"/tmp/{name}.sysctl"]
    }
    assert forwards == {"r"}
    assert "route add 10.0.2.0/24 via 10.0.1.2 dev r" in guest.files["/tmp/a.batch"]
    assert re.search(r"^fd00:2::3\tb$", guest.files["/etc/hosts"], re.MULTILINE)


def test_each_interface_is_told_not_to_probe_for_its_addresses() -> None:
    told = built("a -- r -- b").files["/tmp/r.sysctl"]
    for interface in ("a", "b", "default"):
        assert f"net/ipv6/conf/{interface}/accept_dad = 0\n" in told


def test_a_seed_of_0_leaves_the_losses_to_the_kernel() -> None:
    assert [argv[-2] for argv in built("a -- b: 1%", 0).ran if "shape" in argv] == ["0", "0"]


def test_namespaces_refuse_a_queue_in_bytes_which_netem_cannot_count() -> None:
    network = parse("a -- r -- b: clean | 10mbit queue=50/64kb")
    with pytest.raises(UsageError, match=r"link 2, r -- b: .*netem .* counts packets, not bytes"):
        spaces.check(network)
    spaces.check(parse("a -- b: 10mbit queue=50"))


@pytest.mark.parametrize("long", ["9" * 400, "9" * 5000, "\uff11\uff10"])
@pytest.mark.parametrize(
    "form", ["{}mbit", "{}ms", "{}%", "queue={}", "queue={}kb", "overhead={}", "mark={}ms"]
)
def test_numbers_longer_than_any_are_refused_and_so_are_other_digits(form: str, long: str) -> None:
    with pytest.raises(UsageError, match="topology"):
        parse(f"a -- b: {form.format(long)}")
    with pytest.raises(UsageError, match="topology"):
        parse(f"a -- b[{long}]")
