"""stack: where a stack of protocols runs that is put together at run time, and the cost of it.

Table 1 of "Efficient Implementation of Dynamic Protocol Stacks in Linux" (Keller, Borkmann,
Mühlbauer, ANCS 2011): an fb_eth and two fb_dummy in threads and in softirq, against Linux's
own stack that drops. `a` sends to `b`; both take turns on one CPU, so what sending alone
costs is measured with each guest and taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
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
    Scenario,
)
from linklab.scenarios.stack.table import ARMS, COALESCE, SOFTIRQ, STACK, THREADED, claims

__all__ = ["Stack"]

_CHAIN = (("fb_eth", "eth"), ("fb_dummy", "one"), ("fb_dummy", "two"))
_REQUESTS = "/tmp/stack.requests"
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
        ),
        rows="arm",
        columns="coalesce",
        text="{arm}, {coalesce:g} us between polls",
    )  # fmt: skip
    topology = "a -- b"
    parameters = (Parameter("packets", 20_000, "how many packets are sent", 100, 100_000_000),
    )  # fmt: skip
    fragment = IMAGES / "stack" / "kernel.config"
    needs = IMAGES / "stack" / "needs.toml"
    image = IMAGES / "stack"
    modules = (SOURCES / "lana",)
    compared: ClassVar = {"coalesce": COALESCE[:1]}
    judged: ClassVar = {"coalesce": COALESCE[:1]}
    profiled: ClassVar = {"arm": (SOFTIRQ,), "coalesce": COALESCE[:1]}

    @classmethod
    def load(cls) -> None:
        """Import pyroute2, which takes 0.15 s."""
        from linklab.scenarios.stack import blocks as blocks

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
        self.a, self.b = self.drawn.hosts
        self.chain: list[str] = []
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
            requests = [blocks.set_to("eth", "threaded", "0"), *blocks.taken_apart(self.chain)]
        chain = _CHAIN if arm != STACK else _CHAIN[:1]
        requests += [
            *blocks.chained(chain),
            blocks.set_to("eth", "dev", host.interface),
            blocks.set_to("eth", "coalesce", str(int(cell.number("coalesce")))),
            blocks.set_to("eth", "threaded", str(int(arm == THREADED))),
            blocks.set_to("eth", "engine", arm if arm.startswith("thread-") else SOFTIRQ),
        ]
        self.chain = [name for _, name in chain]
        if arm == STACK:
            requests.append(blocks.remove("eth"))
            self.chain = []
        host.write(_REQUESTS, b"".join(requests))
        host.run([blocks.FBCTL, "send", _REQUESTS])

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, and count what came to the end."""
        from linklab.scenarios.stack import blocks

        sender, host, count = hosts[self.a], hosts[self.b], int(self.given["packets"])
        before = _received(host)
        sent = _sent(sender.printed(_send(sender.interface, count), cell), count)
        come = _received(host) - before
        idle = overruns = wakes = 0
        self.come = come
        self.ended = come
        if self.chain:
            found = blocks.listed(host.printed([blocks.FBCTL, "list"]))
            self.ended = found["two"].number("dropped")
            if found["eth"].said["engine"] != SOFTIRQ:
                idle = found["eth"].number("idle")
                overruns, wakes = found["eth"].number("overruns"), found["eth"].number("wakes")
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
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """Raise `WrongState` unless what the interface received is what the blocks had."""
        if self.ended + self.overruns != self.come:
            raise WrongState(
                f"{self.come} packets came, {self.ended} went through the blocks and "
                f"{self.overruns} found the queue full"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the paper's Table 1 says, each with our figures."""
        return claims(run)


class _Sent:
    """What pktgen and the kernel said of a run."""

    def __init__(self, started: int, stopped: int, switches: int, starved: int) -> None:
        self.started, self.stopped = started, stopped  # us of CLOCK_MONOTONIC
        self.switches, self.starved = switches, starved  # starved in ns

    def seconds_of(self, idle: int | None) -> float:
        """Return the seconds until all was done, with a thread that was done at `idle` ns."""
        return max(self.stopped / 1e6, (idle or 0) / 1e9) - self.started / 1e6


def _send(interface: str, count: int) -> list[str]:
    """Return the command that has pktgen send, and prints what became of it."""
    words = (
        f"count {count}", "delay 0", "clone_skb 0", f"pkt_size {_SIZE}", f"dst_mac {_NOBODYS_MAC}",
        "dst 198.18.0.1",
    )  # fmt: skip
    told = " ".join(f"'{word}'" for word in words)
    # The thread's file is there once; what is told to it is done by the thread, in its turn.
    look = "grep ctxt /proc/stat; cat /proc/$soft/schedstat || true"
    return [
        "/bin/sh",
        "-ec",
        "cd /proc/net/pktgen; "
        "soft=$(grep -lx ksoftirqd/0 /proc/[0-9]*/comm | cut -d/ -f3); "
        "echo rem_device_all > kpktgend_0; "
        f"echo add_device {interface} > kpktgend_0; "
        f'for word in {told}; do echo "$word" > {interface}; done; '
        f"{look}; echo start > pgctrl; {look}; cat {interface}; "
        "echo rem_device_all > kpktgend_0",
    ]


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
