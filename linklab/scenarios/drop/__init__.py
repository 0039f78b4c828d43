"""drop: where a packet can be dropped, and what it costs there; and what passing one costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from linklab.errors import WrongState
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.drop.flood import (
    OTHERS,
    PACKETS,
    Flooded,
    Hook,
    mac_of,
    number_of,
    polls,
    rate_metrics,
    rate_of,
    took,
)
from linklab.scenarios.drop.ladder import claims
from linklab.scenarios.drop.programs import (
    MOST_LISTED,
    SCHED_CLS,
    SOCKET_FILTER,
    XDP,
    Stream,
    classic_filter,
    dropping,
    dropping_all,
    packed,
    redirecting,
)
from linklab.scenarios.drop.rungs import HELD, RULES, RUNGS, Counter, switching, tracks
from linklab.scenarios.scenario import Claim, Host, Hosts, Metrics, Parameter, Said

__all__ = ["Drop"]

_BRIDGES = 4
"""A bridge finds MACs in a hash that has a key of its own, by chance: behind others in their
bucket, on one bridge of four, each packet takes 20 to 100 instructions more."""
_EMPTY = Cell({"arm": "empty", "addresses": 1, "held": RULES, "conntrack": "off"})


class Drop(Flooded):
    """See above. `b` drops what `a` sends, or lets it pass to `c`."""

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
            *rate_metrics("`empty`"),
            Metric("sent", better=Better.NEITHER, short="sent"),
            Metric("dropped", better=Better.NEITHER, zero=True, short="dropped"),
            Metric("passed", better=Better.NEITHER, zero=True, short="passed"),
        ),
        rows="arm",
        columns="conntrack",
        text="{arm}, {addresses} addresses as {held}, conntrack {conntrack}",
    )  # fmt: skip
    parameters = (
        PACKETS,
        Parameter("flows", 64, "from how many ports each address sends", 1, 60_000),
    )
    needs = IMAGES / "drop" / "needs.toml"
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
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB for the list, in the kernel and in what a tool makes of it."""
        return 512 + int(cell.number("addresses")) // 100

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: each packet may be held against each rule."""
        return super().limit(cell, emulated=emulated) + float(cell.get("addresses", 0)) * 0.06

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Measure the unit."""
        super().set_up(hosts, setup)
        Drop.prepare(self, hosts, _EMPTY)
        self.empty = self._flood(hosts, _EMPTY)
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Make the hosts anew, with the rung's rules on the one in the middle."""
        middle = self.lay(hosts, switching(wanted=cell["arm"] == "openvswitch"))
        rung = RUNGS[str(cell["arm"])]
        tracked = cell["conntrack"] == "on"
        if tracked and rung.tracks:
            self.tell(middle, tracks(rung.tracks), cell)
        for tool in rung.tools:
            self.tell(
                middle, tool, cell, int(cell["addresses"]), str(cell["held"]), tracked=tracked
            )
        if cell["arm"] == "bridge":  # learns who is where, once its ports may send
            ping = f"ping -c 3 -W 1 {self.drawn.address(self.a)} || true"
            hosts[self.c].run(["/bin/sh", "-c", ping])

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and count what became of it; on several bridges, of which the best counts."""
        took = self._flood(hosts, cell)
        for _ in range(_BRIDGES - 1 if cell["arm"] == "bridge" else 0):
            self.check(hosts, cell)
            self.prepare(hosts, cell)
            took = min(took, self._flood(hosts, cell))
        return {
            **rate_of(took, self.empty),
            "sent": self.sent,
            "dropped": self.dropped,
            "passed": self.passed,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Hold what was dropped and what passed against what was sent."""
        rung = RUNGS[str(cell["arm"])]
        others = self.sent if rung.forwards else OTHERS if rung.held else 0
        if self.passed != others or self.sent != self.dropped + self.passed:
            raise WrongState(
                f"of {self.sent:.0f} packets {self.dropped:.0f} were dropped and "
                f"{self.passed:.0f} passed: {others:.0f} should pass, and all others be dropped"
            )

    def _flood(self, hosts: Hosts, cell: Cell) -> float:
        """Return the ns that a packet took behind the one who sends it."""
        rung, middle = RUNGS[str(cell["arm"])], hosts[self.b]
        count, held = int(cell["addresses"]), str(cell["held"])
        stream = Stream(polls(self.given), count, int(self.given["flows"]))
        kept, hooks, reader = b"", [], []
        if rung.counter is Counter.SOCKET:
            kept = classic_filter(count) if held == RULES else dropping(SOCKET_FILTER, held, count)
        elif rung.counter is Counter.READER:
            path = self.write(middle, "list", packed(count))
            reader = ["listed" if held == RULES else "sorted", path]
        elif rung.forwards:
            hooks = [Hook("xdp", self.c, self.last.interface, dropping_all())]
        if rung.hook:
            program = self._program(rung.hook, cell, middle)
            hooks += [Hook(rung.hook, self.b, self.place.near, program)]
        said = self.flood(
            hosts, cell, stream, hooks, beyond=rung.forwards, bridged=cell["arm"] == "bridge",
            socket_filter=kept, words=reader,
        )  # fmt: skip
        self._count(said, cell, middle)
        return took(said, stream)

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
            macs = mac_of(self.last.mac) + mac_of(self.far.mac)
            return redirecting(number_of(middle, self.place.far), macs)
        kind = SCHED_CLS if hook == "tc" else XDP
        return dropping(kind, str(cell["held"]), int(cell["addresses"]))

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what others measured on hardware, each with our figures."""
        return claims(run)
