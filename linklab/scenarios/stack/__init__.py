"""stack: where a stack of protocols runs that is put together at run time, and the cost of it.

Table 1 of "Efficient Implementation of Dynamic Protocol Stacks in Linux" (Keller, Borkmann,
Mühlbauer, ANCS 2011): an fb_eth and two fb_dummy in threads and in softirq, against Linux's
own stack that drops. `a` sends to `b`; both take turns on one CPU, so what sending alone
costs is measured with each guest and taken out.

Beyond the table: chains of 1 to 64 fb_dummy, and chains that change while packets run, which
carry numbers, so that one that is lost or comes twice is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from linklab.errors import LabError, RequestRefused, WrongState
from linklab.lab.spaces import TRAFFIC, shaped_links
from linklab.lab.topology import Topology
from linklab.paths import GUEST as SOURCES
from linklab.paths import IMAGES
from linklab.results.shape import Axis, Better, Cell, Metric, Shape, Value
from linklab.scenarios.scenario import (
    Claim,
    Host,
    Hosts,
    Metrics,
    Parameter,
    Preset,
    Scenario,
)
from linklab.scenarios.stack.table import (
    ARMS,
    CHAIN,
    COALESCE,
    SOFTIRQ,
    STACK,
    STILL,
    THREADED,
    claims,
)

__all__ = ["Stack"]

_REQUESTS, _SENT_ALL = "/tmp/stack.requests", "/tmp/stack.sent"
_CHANGES = ("/tmp/stack.there", "/tmp/stack.back")
_REBIND, _REPLACE = "rebind", "replace"
_BLOCKS = ("thread-fifo", "thread-normal", "thread-controlled", SOFTIRQ)
_CHAINS = (1, 2, 4, 8, 16, 32, 64)
# Changes, there and back, that one fbctl asks for before the last. A replacement waits for a
# grace period, so few of them fit into a trial.
_PAIRS = {_REBIND: 25, _REPLACE: 1}
_SEQUENCE = 32  # bytes from the IP header on: pktgen's number of a packet
_SINK = "sink0"
# Nobody's: Linux's stack drops it in the first lines of ip_rcv_core(), where a packet's
# protocol is known and nothing else, the first place behind the one where fb_eth takes it.
_NOBODYS_MAC = "02:00:00:00:00:99"
# pktgen waits until its last packet is freed, up to one interval between polls, which counts as
# work: 80 packets take 100 us with the fastest arm, so the wait is about 1 % of a run at most.
_PACKETS_PER_US = 80
_SIZE = 60  # bytes; with the check sum the 64 of the paper


class Stack(Scenario):
    """See above."""

    name = "stack"
    about = "blocks of protocol bound at run time, in threads and in softirq, against the stack"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                ARMS,
                among=ARMS,
                help="where the blocks run: in threads of the module's, in softirq, or in the "
                "thread that polls the interface; stack: no blocks, Linux drops",
            ),
            Axis(
                "coalesce", COALESCE, "us between polls", least=0, most=100_000,
                help="from one poll of the interface to the next while packets come, as with a "
                "card that interrupts no more often; 0: as soon as one comes",
            ),
            Axis(
                "chain", (CHAIN,), "fb_dummy", most=_CHAINS[-1], silent=True,
                help="how many of them a packet passes",
            ),
            Axis(
                "meanwhile", (STILL,), "meanwhile", among=(STILL, _REBIND, _REPLACE), silent=True,
                help="what is done again and again while packets run. rebind: the last dummy's "
                "place is bound to another one and back; replace: another one is put into it",
            ),
        ),
        metrics=(
            Metric(
                "packets_per_second", "1/s", Better.MORE,
                title="packets a second, without what sending costs", short="packets a second",
            ),
            Metric(
                "ns", title="ns a packet, in virtual time instructions",
                short="ns a packet",
            ),
            Metric("switches", zero=True, matters=0.01, title="context switches a packet",
                   short="context switches"),
            Metric("wakes", better=Better.NEITHER, zero=True, short="wakes a packet"),
            Metric("overruns", zero=True, matters=1, title="packets that the thread's queue lost",
                   short="overruns"),
            Metric("missed", zero=True, matters=1, title="packets that the interface lost",
                   short="missed"),
            Metric(
                "starved", zero=True, matters=1,
                title="ns a packet that ksoftirqd waited for the CPU", short="ksoftirqd's wait",
            ),
            Metric("changes", better=Better.NEITHER, zero=True, optional=True, short="changes"),
            Metric("lost", zero=True, matters=1, optional=True,
                   title="packets that changes lost", short="lost by changes"),
            Metric("again", zero=True, matters=1, optional=True,
                   title="packets that came twice", short="twice"),
            Metric("late", better=Better.NEITHER, zero=True, optional=True, short="late"),
        ),
        rows="arm",
        columns="coalesce",
        text="{arm}, {coalesce:g} us between polls",
    )  # fmt: skip
    topology = "a -- b"
    parameters = (Parameter("packets", 20_000, "how many packets are sent", 100, 100_000_000),
    )  # fmt: skip
    presets: ClassVar = {
        "chain": Preset(
            "what each block of a chain costs, 1 to 64 of them",
            {"arm": _BLOCKS, "coalesce": COALESCE[:1], "chain": _CHAINS},
        ),
        "change": Preset(
            "chains that change while packets run: none may be lost, none come twice",
            {"arm": _BLOCKS, "coalesce": COALESCE[:1], "meanwhile": (STILL, _REBIND, _REPLACE)},
        ),
    }
    fragment = IMAGES / "stack" / "kernel.config"
    needs = IMAGES / "stack" / "needs.toml"
    image = IMAGES / "stack"
    modules = (SOURCES / "lana",)
    stands_in = True
    compared: ClassVar = {"coalesce": COALESCE[:1]}
    judged: ClassVar = {"coalesce": COALESCE[:1]}
    profiled: ClassVar = {"arm": (SOFTIRQ,), "coalesce": COALESCE[:1]}

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        from linklab.scenarios.stack import blocks as blocks

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why there is nothing to be longer, or to be changed."""
        if cell["arm"] != STACK or (cell["chain"], cell["meanwhile"]) == (CHAIN, STILL):
            return ""
        return f"{STACK} has no blocks: it is measured with chain={CHAIN}, meanwhile={STILL} alone"

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return how many packets are needed where waiting would be a part of what is measured."""
        interval, packets = cell.number("coalesce"), int(given["packets"])
        least = int(interval * _PACKETS_PER_US)
        if packets >= least:
            return ""
        return (
            f"{packets} packets take too short against the wait for the last of them: "
            f"--param packets={least} at least, or --axis coalesce={packets // _PACKETS_PER_US} "
            "at most"
        )

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why nothing can be sent from one interface to the other."""
        if len(network.hosts) != 2 or len(network.links) != 1 or shaped_links(network):
            return "two hosts and a link that does nothing are expected, as in `a -- b`"
        return "" if in_one_guest else "both hosts are in one guest: --place spaces"

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Measure what sending alone takes: into an interface that ends packets at once."""
        from linklab.scenarios.stack import blocks

        self.a, self.b = self.drawn.hosts
        self.chain: _Chain | None = None
        try:
            hosts[self.b].run([blocks.FBCTL, "list"])
        except RequestRefused as refused:
            text = "the module does not offer the family LANA as guest/lana/lana_uapi.h has it"
            raise RequestRefused(f"{text}: {refused.message}") from refused
        hosts[self.b].run([TRAFFIC, "napi", hosts[self.b].interface])
        sender = hosts[self.a]
        # veth's ring is for what its sender has not left to be cut to size by others.
        sender.run([TRAFFIC, "plain", sender.interface])
        sender.ip(f"link add {_SINK} type dummy")
        sender.ip(f"link set dev {_SINK} up")
        count = int(self.given["packets"])
        took = _sent(sender.printed(_send(_SINK, count)), count)
        self.alone = took.seconds_of(None) / count
        sender.ip(f"link delete {_SINK}")
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Take the last trial's blocks apart, and make this one's."""
        from linklab.scenarios.stack import blocks

        host, arm = hosts[self.b], str(cell["arm"])
        requests: list[bytes] = []
        if self.chain:
            requests = [blocks.set_to("eth", "threaded", "0"), *self.chain.taken_apart]
        engine = arm if arm.startswith("thread-") else SOFTIRQ
        self.chain = _Chain(cell)
        requests += [
            *self.chain.made,
            blocks.set_to("eth", "dev", host.interface),
            blocks.set_to("eth", "coalesce", str(int(cell.number("coalesce")))),
            blocks.set_to("eth", "threaded", str(int(arm == THREADED))),
            blocks.set_to("eth", "engine", engine),
        ]
        if arm == STACK:
            requests.append(blocks.remove("eth"))
            self.chain = None
        host.write(_REQUESTS, b"".join(requests))
        host.run([blocks.FBCTL, "send", _REQUESTS])
        for path, changes in zip(_CHANGES, self.chain.changes if self.chain else (), strict=False):
            host.write(path, b"".join(changes))

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and count what came to the end."""
        from linklab.scenarios.stack import blocks

        sender, host, count = hosts[self.a], hosts[self.b], int(self.given["packets"])
        change, before = str(cell["meanwhile"]), _received(host)
        meanwhile = _changing(host) if change != STILL else ""
        printed = sender.printed(_send(sender.interface, count, meanwhile), cell)
        sent = _sent(printed, count)
        come = _received(host) - before
        idle = overruns = wakes = 0
        self.come = come
        self.ended = come
        self.changed: dict[str, float] = {}
        if self.chain:
            found = blocks.listed(host.printed([blocks.FBCTL, "list"]))
            if found["eth"].said["engine"] != SOFTIRQ:
                idle = found["eth"].number("idle")
                overruns, wakes = found["eth"].number("overruns"), found["eth"].number("wakes")
            end = found[self.chain.end]
            self.ended = end.number("dropped")
            if change != STILL:
                self.changed = {
                    "changes": _rounds(printed) * sum(map(len, self.chain.changes)),
                    "lost": come - overruns - (self.ended - end.number("again")),
                    "again": end.number("again"),
                    "late": end.number("late"),
                }
                self.ways = [found[name].number("packets") for name in self.chain.both]
        self.overruns = overruns
        if self.ended <= 0:
            raise WrongState(f"none of {count} packets went through: {come} came to {self.b}")
        took = (sent.seconds_of(idle) - count * self.alone) / self.ended
        if took <= 0:
            raise LabError(
                f"sending alone took {count * self.alone:.6f} s, and no less with {self.b} behind "
                "it: send more packets"
            )
        return {
            "packets_per_second": 1 / took,
            "ns": took * 1e9,
            "switches": sent.switches / count,
            "wakes": wakes / count,
            "overruns": overruns,
            "missed": count - come,
            "starved": sent.starved / count,
            **self.changed,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Raise `WrongState` unless what the interface received is what the blocks had."""
        if self.ended + self.overruns != self.come:
            raise WrongState(
                f"{self.come} packets came, {self.ended} went through the blocks and "
                f"{self.overruns} found the queue full"
            )
        if any(self.changed.get(name) for name in ("lost", "again")):
            raise WrongState(
                f"{self.changed['lost']:.0f} packets were lost by {self.changed['changes']:.0f} "
                f"changes, and {self.changed['again']:.0f} came twice"
            )
        if self.changed and not min(self.ways):
            raise LabError(
                f"the chain was never changed while packets ran, {self.ways} of them each way: "
                "send more packets"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the paper's Table 1 says, each with our figures."""
        return claims(run)


class _Chain:
    """The blocks of a cell, from below; where they change, with one beside the last dummy."""

    def __init__(self, cell: Cell) -> None:
        self.change = str(cell["meanwhile"])
        dummies = [f"dummy{number}" for number in range(int(cell["chain"]))]
        self.names = [] if cell["arm"] == STACK else dummies
        self.kinds = [("fb_eth", "eth"), *(("fb_dummy", name) for name in self.names)]
        self.both = (dummies[-1], "beside")
        if self.change != STILL:
            self.kinds.append(("fb_counter", "counter"))
        self.end = self.kinds[-1][1]

    @cached_property
    def made(self) -> list[bytes]:
        """The requests that make it."""
        from linklab.scenarios.stack import blocks

        requests = blocks.chained(self.kinds)
        if self.change != STILL:
            requests.append(blocks.set_to(self.end, "sequence", str(_SEQUENCE)))
            requests.append(blocks.add("fb_dummy", self.both[1]))
        if self.change == _REBIND:
            requests.append(blocks.bind(self.both[1], self.end))
        return requests

    @cached_property
    def changes(self) -> tuple[list[bytes], ...]:
        """The requests of two programs that change it, behind which all is as it was made.

        Between the two, where others run, the other dummy is in the last one's place: what
        sends and what changes share a CPU.
        """
        from linklab.scenarios.stack import blocks

        if self.change == STILL:
            return ()
        last, beside = self.both
        if self.change == _REPLACE:
            there = blocks.of_two(blocks.Command.REPLACE, last, beside)
            back = blocks.of_two(blocks.Command.REPLACE, beside, last)
        else:
            below = self.kinds[-3][1]
            there = blocks.bind(below, beside, again=True)
            back = blocks.bind(below, last, again=True)
        pairs = [there, back] * _PAIRS[self.change]
        return [*pairs, there], [back, *pairs]

    @cached_property
    def taken_apart(self) -> list[bytes]:
        """The requests that take it away."""
        from linklab.scenarios.stack import blocks

        requests = blocks.taken_apart([name for _, name in self.kinds])
        if self.change == STILL:
            return requests
        beside = self.both[1]
        bound = [blocks.of_two(blocks.Command.UNBIND, beside, self.end)]
        return [*(bound if self.change == _REBIND else []), blocks.remove(beside), *requests]


class _Sent:
    """What pktgen and the kernel said of a run."""

    def __init__(self, started: int, stopped: int, switches: int, starved: int) -> None:
        self.started, self.stopped = started, stopped  # us of CLOCK_MONOTONIC
        self.switches, self.starved = switches, starved  # starved in ns

    def seconds_of(self, idle: int | None) -> float:
        """Return the seconds until all was done, with a thread that was done at `idle` ns."""
        return max(self.stopped / 1e6, (idle or 0) / 1e9) - self.started / 1e6


def _changing(host: Host) -> str:
    """Return the line of shell that changes a host's chain once packets come, until all are sent.

    It says how many rounds it did.
    """
    from linklab.scenarios.stack import blocks

    counts = f"grep {host.interface}: /proc/net/dev"
    sends = " && ".join(f"{blocks.FBCTL} send {path}" for path in _CHANGES)
    script = (
        f'before="$({counts})"; until [ "$before" != "$({counts})" ]; do usleep 500; done; '
        f"rounds=0; until [ -e {_SENT_ALL} ]; do {sends} || exit 1; "
        "rounds=$((rounds+1)); done; echo rounds $rounds"
    )
    return " ".join([*host.inside, "/bin/sh", "-c", f"'{script}'"])


def _send(interface: str, count: int, meanwhile: str = "") -> list[str]:
    """Return the command that has pktgen send, and prints what became of it.

    `meanwhile` is a line of shell that ends by itself once all is sent.
    """
    words = (
        f"count {count}", "delay 0", "clone_skb 0", f"pkt_size {_SIZE}", f"dst_mac {_NOBODYS_MAC}",
        "dst 198.18.0.1",
    )  # fmt: skip
    told = " ".join(f"'{word}'" for word in words)
    # The thread's file is there once; what is told to it is done by the thread, in its turn.
    look = "grep ctxt /proc/stat; cat /proc/$soft/schedstat || true"
    beside = f"rm -f {_SENT_ALL}; {meanwhile} & " if meanwhile else ""
    waited = f"touch {_SENT_ALL}; wait $!; " if meanwhile else ""
    return [
        "/bin/sh",
        "-ec",
        "cd /proc/net/pktgen; "
        "soft=$(grep -lx ksoftirqd/0 /proc/[0-9]*/comm | cut -d/ -f3); "
        "echo rem_device_all > kpktgend_0; "
        f"echo add_device {interface} > kpktgend_0; "
        f'for word in {told}; do echo "$word" > {interface}; done; '
        f"{beside}{look}; echo start > pgctrl; {look}; {waited}cat {interface}; "
        "echo rem_device_all > kpktgend_0",
    ]


def _rounds(said: str) -> int:
    """Return how many rounds of changes were done while packets ran."""
    found = re.search(r"^rounds (\d+)$", said, re.M)
    if not found:
        raise LabError("what changes the chain did not say how often", said)
    return int(found[1])


def _sent(said: str, count: int) -> _Sent:
    """Return what a run of pktgen took. Raises `LabError` where it did not send all."""
    times = re.search(r"pkts-sofar: (\d+)\s+errors: (\d+)\s+started: (\d+)us\s+stopped: (\d+)us",
                      said)  # fmt: skip
    if not times or int(times[1]) != count:
        raise LabError(f"pktgen did not send {count} packets", said)
    switches = [int(each) for each in re.findall(r"^ctxt (\d+)$", said, re.M)]
    waits = [int(each) for each in re.findall(r"^\d+ (\d+) \d+$", said, re.M)]
    starved = waits[1] - waits[0] if len(waits) == 2 else 0
    return _Sent(int(times[3]), int(times[4]), switches[1] - switches[0], starved)


def _received(host: Host) -> int:
    """Return the packets that a host's interface received."""
    found = re.search(rf"^\s*{host.interface}:\s*\d+\s+(\d+)",
                      host.printed(["/bin/cat", "/proc/net/dev"]), re.M)  # fmt: skip
    if not found:
        raise LabError(f"{host.name} has no interface {host.interface}")
    return int(found[1])
