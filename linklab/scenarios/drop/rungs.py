"""The rungs of the ladder: what is set up on the host in the middle, and who counts there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from linklab.scenarios.drop.programs import address_at

FILL = "/usr/lib/linklab/fill"
"""The program that fills sets of addresses and a switch, in guest/fill."""

RULES, SET, PREFIXES = "rules", "set", "prefixes"
HELD = (RULES, SET, PREFIXES)
MOST_RULES = 10_000
_MOST_CLASSIC = 2000  # BPF_MAXINSNS is 4096, and each takes two


class Counter(StrEnum):
    """Who says how many packets a rung dropped."""

    HOOK = "hook"
    """The program of BPF itself."""
    SOCKET = "socket"
    READER = "reader"
    TOOL = "tool"
    NOBODY = "nobody"
    """Nothing is dropped: it is forwarded."""


@dataclass(frozen=True)
class Place:
    """The names of the middle host's interfaces: to who sends, and to who is sent to beyond it."""

    near: str
    far: str


@dataclass(frozen=True)
class Tool:
    """Commands that set something up, what they read in a file, and how they say what it did."""

    commands: Callable[[str], Sequence[str]]
    """Of how addresses are held; with {told}, the file of the lines, {list}, the one of the
    addresses as numbers, {near}, {far}, and {tracked}: `tracked` or `plain`."""
    lines: Callable[[Place, Iterable[str], str], Iterator[str]]
    """Of the interfaces, the addresses, and how they are held."""
    asked: str = ""
    """To a shell, which knows `$near`."""
    pattern: str = ""

    def dropped(self, said: str) -> int:
        """Return the packets that were dropped, as the tool says: the sum of all it names."""
        return sum(map(int, re.findall(self.pattern, said)))


@dataclass(frozen=True)
class Rung:
    """Where packets end, what is needed for it, and what it can hold addresses in."""

    counter: Counter
    held: tuple[str, ...] = ()
    """Nothing where it looks at no address."""
    hook: str = ""
    """Where a program of BPF is attached: `xdp`, `generic` or `tc`."""
    tools: tuple[Tool, ...] = ()
    most_rules: int = MOST_RULES
    tracked: bool = False
    """Whether it cannot do without connection tracking."""
    tracks: str = "ip"
    """The family of nftables that is told to track; none where the rung's tool is."""

    @property
    def forwards(self) -> bool:
        """Whether packets are for the host beyond."""
        return self.counter is Counter.NOBODY


def _only(*commands: str) -> Callable[[str], Sequence[str]]:
    return lambda _held: commands


def _nothing(_place: Place, _addresses: Iterable[str], _held: str) -> Iterator[str]:
    yield from ()


_NFT, _TC, _IP = (
    _only("/bin/nft -f {told}"),
    _only("/bin/tc -batch {told}"),
    _only("/bin/ip -batch {told}"),
)


def _nft(family: str, hook: str, priority: int) -> Tool:
    def lines(place: Place, addresses: Iterable[str], held: str) -> Iterator[str]:
        device = f" device {place.near}" if family == "netdev" else ""
        yield f"table {family} ladder {{"
        if held != RULES:
            flags = " flags interval;" if held == PREFIXES else ""
            yield f"set listed {{ type ipv4_addr;{flags} }}"
        yield "chain drops {"
        yield f"type filter hook {hook}{device} priority {priority};"
        for each in addresses if held == RULES else ["@listed"]:
            yield f"ip saddr {each} counter drop"
        yield "}"
        yield "}"

    def commands(held: str) -> Sequence[str]:
        fill = f"{FILL} nftset {family} ladder listed {held} {{list}}"
        return (*_NFT(held), *([] if held == RULES else [fill]))

    # Without what is in sets, or all of it is asked for, too.
    asked = f"/bin/nft -t list chain {family} ladder drops"
    return Tool(commands, lines, asked, r"counter packets (\d+)")


_OF_IPSET = {SET: "hash:ip", PREFIXES: "hash:net"}


def batched(told: Iterable[str]) -> Tool:
    """Return what tells tc some lines."""
    return Tool(_TC, lambda *_: iter(told))


def _iptables(table: str, chain: str) -> Tool:
    def lines(_place: Place, addresses: Iterable[str], held: str) -> Iterator[str]:
        yield f"*{table}"
        sources = (f"-s {each}" for each in addresses)
        for each in sources if held == RULES else ["-m set --match-set listed src"]:
            yield f"-A {chain} {each} -j DROP"
        yield "COMMIT"

    def commands(held: str) -> Sequence[str]:
        fill = [f"{FILL} ipset listed {_OF_IPSET[held]} {{list}}"] if held != RULES else []
        return (*fill, "/bin/iptables-legacy-restore {told}")

    asked = f"/bin/iptables-legacy-save -c -t {table}"
    return Tool(commands, lines, asked, r"\[(\d+):\d+\] -A")


def _hooked(place: Place, _addresses: Iterable[str], _held: str) -> Iterator[str]:
    yield f"qdisc add dev {place.near} clsact"


def _tc(rest: str) -> Callable[[Place, Iterable[str], str], Iterator[str]]:
    def lines(place: Place, addresses: Iterable[str], held: str) -> Iterator[str]:
        yield from _hooked(place, addresses, held)
        words = rest.replace("FAR", place.far)
        filters = addresses if "ADDRESS" in rest else ("",)
        for number, each in enumerate(filters):
            # One list of filters after the other, or one with all of them in a hash.
            order = number + 1 if held == RULES else 1
            words_of_it = words.replace("ADDRESS", each)
            yield f"filter add dev {place.near} ingress pref {order} protocol ip {words_of_it}"

    return lines


def tracks(family: str) -> Tool:
    """Return what turns connection tracking on."""

    def lines(_place: Place, _addresses: Iterable[str], _held: str) -> Iterator[str]:
        # Where no packet comes by: a rule that asks for it turns tracking on for all of the host.
        yield f"table {family} tracks {{"
        yield "chain none { type filter hook output priority 0; ct state new; }"
        yield "}"

    return Tool(_NFT, lines)


def switching(*, wanted: bool) -> str:
    """Return what has Open vSwitch's module there for its own rung alone, where it is one.

    In Linux 6.1 it turns tracking on in all namespaces to come (`ovs_ct_limit_init`).
    """
    there = "grep -q '^openvswitch ' /proc/modules"
    if wanted:
        files = "$(find /lib/modules -name 'openvswitch.ko*')"
        return f"{there} || for file in {files}; do insmod $file; done"
    return f"if {there}; then until rmmod openvswitch; do sleep 0.1; done; fi"


def _flows(place: Place, _addresses: Iterable[str], _held: str) -> Iterator[str]:
    devices = f"devices = {{ {place.near}, {place.far} }}"
    yield "table ip ladder {"
    yield f"flowtable known {{ hook ingress priority 0; {devices}; }}"
    yield "chain learns { type filter hook forward priority 0; ip protocol udp flow add @known; }"
    yield "}"


def _joined(place: Place, _addresses: Iterable[str], _held: str) -> Iterator[str]:
    yield "link add joined type bridge"
    yield "link set dev joined addrgenmode none"  # it says nothing by itself
    yield f"link set dev {place.near} master joined"
    yield f"link set dev {place.far} master joined"
    yield "link set dev joined up"


_FILTERS = r"dropped (\d+),"
_SAID = "/bin/tc -s filter show dev $near ingress | grep -o 'dropped [0-9]*,'"

RUNGS: Mapping[str, Rung] = {
    "empty": Rung(Counter.HOOK, hook="xdp"),
    "xdp-native": Rung(Counter.HOOK, HELD, "xdp"),
    "xdp-generic": Rung(Counter.HOOK, HELD, "generic"),
    "tc-matchall": Rung(
        Counter.TOOL, tools=(Tool(_TC, _tc("matchall action drop"), _SAID, _FILTERS),)
    ),
    "tc-bpf": Rung(Counter.HOOK, HELD, "tc", (Tool(_TC, _hooked),)),
    "tc-flower": Rung(
        Counter.TOOL,
        (RULES, SET),
        tools=(Tool(_TC, _tc("flower src_ip ADDRESS action drop"), _SAID, _FILTERS),),
    ),
    "nft-ingress": Rung(Counter.TOOL, HELD, tools=(_nft("netdev", "ingress", 0),)),
    "nft-raw": Rung(Counter.TOOL, HELD, tools=(_nft("ip", "prerouting", -300),)),
    "iptables-raw": Rung(Counter.TOOL, HELD, tools=(_iptables("raw", "PREROUTING"),)),
    "nft-input": Rung(Counter.TOOL, HELD, tools=(_nft("ip", "input", 0),)),
    "iptables-input": Rung(Counter.TOOL, HELD, tools=(_iptables("filter", "INPUT"),)),
    "socket-filter": Rung(Counter.SOCKET, HELD, most_rules=_MOST_CLASSIC),
    "application": Rung(Counter.READER, (RULES, SET)),
    "forward": Rung(Counter.NOBODY),
    "flowtable": Rung(Counter.NOBODY, tools=(Tool(_NFT, _flows),), tracked=True),
    "bridge": Rung(Counter.NOBODY, tools=(Tool(_IP, _joined),), tracks="bridge"),
    "openvswitch": Rung(
        Counter.NOBODY,
        tools=(Tool(_only(f"{FILL} switch joined {{tracked}} {{near}} {{far}}"), _nothing),),
        tracks="",
    ),
    "tc-redirect": Rung(
        Counter.NOBODY,
        tools=(Tool(_TC, _tc("matchall action mirred egress redirect dev FAR")),),
    ),
    "xdp-redirect": Rung(Counter.NOBODY, hook="xdp"),
}
"""From the first place that a packet comes by to the last one, and then what lets it pass."""


def listed(count: int) -> Iterator[str]:
    """Yield the addresses on the list."""
    return (str(address_at(number)) for number in range(count))
