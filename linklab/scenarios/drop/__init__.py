"""drop: where a packet can be dropped, and what it costs there; and what passing one costs.

`a` sends to `b`, which drops, or to `c` behind it. All three are namespaces of one guest and
take turns on one CPU, so what sending alone costs is measured with each trial and taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from struct import pack
from typing import Any, ClassVar

from linklab.errors import WrongState
from linklab.lab.spaces import TRAFFIC, build, shaped_links
from linklab.lab.topology import Topology
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.drop.ladder import claims
from linklab.scenarios.drop.programs import (
    MOST_LISTED,
    SCHED_CLS,
    SOCKET_FILTER,
    XDP,
    Packet,
    address_at,
    classic_filter,
    dropping,
    dropping_all,
    redirecting,
)
from linklab.scenarios.drop.rungs import HELD, RULES, RUNGS, TRACKS, Counter, Place, Tool, listed
from linklab.scenarios.scenario import (
    IP,
    Claim,
    Host,
    Hosts,
    Metrics,
    Parameter,
    Said,
    Scenario,
)

__all__ = ["Drop"]

_PORT = 5001
_POLL = 64  # packets that come at once
_WARM = 16 * _POLL  # before those that are timed: all flows are known, all caches filled
_OTHERS = 64  # packets that are on no list, at the end
_FOLDER = "/tmp/drop"
_EMPTY = Cell({"arm": "empty", "addresses": 1, "held": RULES, "conntrack": "off"})
_NETWORK = "198.18.0.0/15"


class Drop(Scenario):
    """See above. Each trial finds its three hosts new: tables of iptables stay where they were."""

    name = "drop"
    about = "where packets are dropped or passed on, from XDP to the application, and the cost"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                tuple(RUNGS),
                among=tuple(RUNGS),
                help="where packets are dropped, or by what they pass; empty: at native XDP, "
                "without a look at them",
            ),
            Axis(
                "addresses", (1,), "addresses", most=MOST_LISTED,
                help="how many there are on the list of those whose packets are dropped",
            ),
            Axis(
                "held",
                (RULES,),
                among=HELD,
                help="rules: the list is gone through one by one; set: a hash; prefixes: what "
                "holds networks, too, a tree",
            ),
            Axis("conntrack", ("off", "on"), among=("off", "on"), help="connection tracking"),
        ),
        metrics=(
            Metric(
                "packets_per_second", "1/s", Better.MORE,
                title="packets a second, without what sending costs", short="packets a second",
            ),
            Metric(
                "instructions", zero=True,
                title="ns a packet above `empty`, in virtual time instructions",
                short="above empty",
            ),
            Metric("sent", better=Better.NEITHER, short="sent"),
            Metric("dropped", better=Better.NEITHER, zero=True, short="dropped"),
            Metric("passed", better=Better.NEITHER, zero=True, short="passed"),
        ),
        rows="arm",
        columns="conntrack",
        text="{arm}, {addresses} addresses as {held}, conntrack {conntrack}",
    )  # fmt: skip
    topology = "a -- b -- c"
    parameters = (
        Parameter("packets", 10_000, "how many packets are timed, in 64s", 64, 10_000_000),
        Parameter("flows", 64, "from how many ports each address sends", 1, 60_000),
    )
    needs = IMAGES / "drop" / "needs.toml"
    image = IMAGES / "drop"
    compared: ClassVar = {
        "arm": ("xdp-native", "tc-bpf", "nft-input", "forward"),
        "conntrack": ("off",),
    }
    judged: ClassVar = {"conntrack": ("on",)}
    profiled: ClassVar = {"arm": ("iptables-input",), "conntrack": ("off",)}

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why a rung cannot hold the list in this way, or not without tracking."""
        rung, count, held = RUNGS[str(cell["arm"])], cell.number("addresses"), str(cell["held"])
        if rung.tracked and cell["conntrack"] == "off":
            return f"{cell['arm']} is made of connections: it needs conntrack=on"
        if not rung.held:
            alone = count == 1 and held == RULES
            return "" if alone else f"{cell['arm']} looks at no address: addresses=1, held=rules"
        if held not in rung.held:
            return f"{cell['arm']} holds addresses as {', '.join(rung.held)}"
        if held == RULES and count > rung.most_rules:
            return f"{cell['arm']} takes at most {rung.most_rules} addresses one by one"
        return ""

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why the ladder cannot be laid."""
        if len(network.hosts) != 3 or len(network.links) != 2 or shaped_links(network):
            return (
                "three hosts in a row are expected, and links that do nothing, as in `a -- b -- c`"
            )
        return "" if in_one_guest else "all hosts are in one guest: --place spaces"

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the list, in the kernel and in what a tool makes of it."""
        return 512 + int(cell.number("addresses")) // 100

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: each packet may be held against each rule."""
        return super().limit(cell, emulated=emulated) + float(cell.get("addresses", 0)) * 0.06

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Measure the unit."""
        network = self.drawn
        self.a, self.b, self.c = network.hosts
        ends = {end.host: end for end in network.ports[0]}
        beyond = {end.host: end for end in network.ports[1]}
        self.first, self.near, self.far, self.last = (
            ends[self.a], ends[self.b], beyond[self.b], beyond[self.c],
        )  # fmt: skip
        self.place = Place(self.near.interface, self.far.interface)
        Drop.prepare(self, hosts, _EMPTY)
        self.empty = self._flood(hosts, _EMPTY)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Make the hosts anew, with the rung's rules on the one in the middle."""
        guest, middle = replace(hosts[self.b], inside=()), hosts[self.b]
        guest.run(["/bin/mkdir", "-p", _FOLDER])
        for host in self.drawn.hosts:
            guest.ip(f"netns delete {host}")
        build(self.drawn, 0, guest.run, guest.write)
        middle.ip(f"route add {_NETWORK} via {self.drawn.address(self.a)}")
        middle.run([TRAFFIC, "napi", self.place.near])
        rung = RUNGS[str(cell["arm"])]
        if cell["conntrack"] == "on":
            self._tell(middle, TRACKS, cell)
        for tool in rung.tools:
            self._tell(middle, tool, cell)
        if cell["arm"] == "bridge":  # learns who is where, once its ports may send
            ping = f"ping -c 3 -W 1 {self.drawn.address(self.a)} || true"
            hosts[self.c].run(["/bin/sh", "-c", ping])

    def _tell(self, host: Host, tool: Tool, cell: Cell) -> None:
        addresses = listed(int(cell["addresses"]))
        lines = tool.lines(self.place, addresses, str(cell["held"]))
        path = f"{_FOLDER}/told"
        host.write(path, "".join(f"{line}\n" for line in lines).encode())
        host.run([*tool.command, path], cell)

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and count what became of it."""
        took = self._flood(hosts, cell)
        return {
            "packets_per_second": 1e9 / took if took > 0 else 0.0,
            "instructions": took - self.empty,
            "sent": self.sent,
            "dropped": self.dropped,
            "passed": self.passed,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what was dropped and what passed against what was sent."""
        rung = RUNGS[str(cell["arm"])]
        others = self.sent if rung.forwards else _OTHERS if rung.held else 0
        if self.passed != others or self.sent != self.dropped + self.passed:
            raise WrongState(
                f"of {self.sent:.0f} packets {self.dropped:.0f} were dropped and "
                f"{self.passed:.0f} passed: {others:.0f} should pass, and all others be dropped"
            )

    @property
    def _timed(self) -> tuple[int, int]:
        """The packets that time begins and ends with, each the first one of a poll."""
        return _WARM, _WARM + -(-int(self.given["packets"]) // _POLL) * _POLL

    def _flood(self, hosts: Hosts, cell: Cell) -> float:
        """Return the ns that a packet took behind the one who sends it."""
        rung, guest = RUNGS[str(cell["arm"])], replace(hosts[self.b], inside=())
        middle = hosts[self.b]
        count, timed = int(cell["addresses"]), self._timed
        self._write_sender(guest, hosts[self.a], cell)
        words = [self.b, str(_PORT), "-"]
        hooks: list[str] = []
        reader: list[str] = []
        if rung.counter is Counter.SOCKET:
            held = str(cell["held"])
            made = classic_filter(count) if held == RULES else dropping(SOCKET_FILTER, held, count)
            words[-1] = self._write(guest, "filter", made)
        elif rung.counter is Counter.READER:
            numbers = sorted(int(address_at(number)) for number in range(count))
            path = self._write(guest, "list", pack(f"<{count}I", *numbers))
            reader = ["listed" if cell["held"] == RULES else "sorted", path]
        elif rung.forwards:
            path = self._write(guest, "last", dropping_all())
            hooks = ["xdp", self.c, self.last.interface, path]
        if rung.hook:
            path = self._write(guest, "rung", self._program(rung.hook, cell, middle))
            hooks += [rung.hook, self.b, self.place.near, path]
        files = [f"{_FOLDER}/{name}" for name in ("frame", "sending", "alone", "other")]
        said = guest.said(
            [
                TRAFFIC,
                "flood",
                str(timed[1] + _POLL),
                str(_OTHERS),
                self.a,
                *files,
                *words,
                *hooks,
                *reader,
            ],
            cell,
        )
        self._count(said, cell, middle)
        return (said.number("took_ns") - said.number("alone_ns")) / (timed[1] - timed[0])

    def _count(self, said: Said, cell: Cell, middle: Host) -> None:
        rung = RUNGS[str(cell["arm"])]
        self.sent, self.dropped = said.number("sent"), 0.0
        self.passed = said.number("hook0" if rung.forwards else "read_passed")
        if rung.counter is Counter.HOOK:
            self.dropped = said.number("hook0")
        elif rung.counter is Counter.SOCKET:
            self.dropped = said.number("socket_dropped")
        elif rung.counter is Counter.READER:
            self.dropped = said.number("read_dropped")
        elif rung.counter is Counter.TOOL:
            (tool,) = rung.tools
            asked = f"near={self.place.near}; {tool.asked}"
            self.dropped = float(tool.dropped(middle.printed(["/bin/sh", "-c", asked], cell)))

    def _program(self, hook: str, cell: Cell, middle: Host) -> bytes:
        if cell["arm"] == "empty":
            return dropping_all()
        if cell["arm"] == "xdp-redirect":
            macs = _mac(self.last.mac) + _mac(self.far.mac)
            return redirecting(_number_of(middle, self.place.far), macs)
        kind = SCHED_CLS if hook == "tc" else XDP
        return dropping(kind, str(cell["held"]), int(cell["addresses"]))

    def _write_sender(self, guest: Host, sender: Host, cell: Cell) -> None:
        rung, flows = RUNGS[str(cell["arm"])], int(self.given["flows"])
        target = self.drawn.address(self.c if rung.forwards else self.b)
        # A bridge looks at the last one's MAC, all others are sent to themselves.
        to = self.last.mac if cell["arm"] == "bridge" else self.near.mac
        packet = Packet(_mac(to) + _mac(self.first.mac), IPv4Address(target), _PORT)
        count, interface = int(cell["addresses"]), _number_of(sender, self.first.interface)
        self._write(guest, "frame", packet.frame())
        self._write(guest, "sending", packet.sender(count, flows, interface, self._timed))
        self._write(guest, "alone", packet.sender(count, flows, None, self._timed))
        self._write(guest, "other", packet.sender(0, flows, interface))

    def _write(self, guest: Host, name: str, content: bytes) -> str:
        path = f"{_FOLDER}/{name}"
        guest.write(path, content)
        return path

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what others measured on hardware, each with our figures."""
        return claims(run)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _number_of(host: Host, interface: str) -> int:
    """Return the number that the kernel knows an interface by."""
    return int(host.printed([IP, "-o", "link", "show", "dev", interface]).partition(":")[0])
