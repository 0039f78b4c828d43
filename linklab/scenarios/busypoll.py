"""busypoll: a request and its answer, waited for by interrupt or by busy polling.

Who busy-polls asks the interface for packets itself, for some microseconds, before it
sleeps (Documentation/networking/napi.rst). That needs an interface with NAPI: every NIC
has it, a veth has it with GRO (Linux 5.13). The kernel counts what it found so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from linklab.errors import LabError, RequestRefused, WrongState
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import parse
from linklab.results.figures import Figures
from linklab.results.shape import Axis, Better, Cell, Metric, Shape, Value
from linklab.scenarios.scenario import Claim, Finding, Hosts, Metrics, Parameter, Scenario

__all__ = ["Busypoll"]

_PORT = 5001
_ARMS = ("interrupt", "busypoll", "epoll", "epoll-busypoll")


class Busypoll(Scenario):
    """See above. The first host of the topology asks, the last one answers, by interrupt."""

    name = "busypoll"
    about = "waiting for an answer by interrupt or by busy polling: latency, and what it costs"
    shape = Shape(
        axes=(
            Axis(
                "arm",
                _ARMS,
                among=_ARMS,
                help="how an answer is waited for. interrupt: in recv; busypoll: the same with "
                "SO_BUSY_POLL; epoll: in epoll_wait; epoll-busypoll: the same with busy polling "
                "of its own (EPIOCSPARAMS, Linux 6.9)",
            ),
            Axis("size", (1, 1024), "bytes", most=65_536, help="of a request, and of an answer"),
        ),
        metrics=(
            Metric("latency", "us", title="a request's time, us, the median", short="latency"),
            Metric("latency_p95", "us", short="95 %"),
            Metric("latency_p99", "us", short="99 %"),
            Metric("cpu", "us", short="CPU time"),
            Metric("switches", zero=True, short="switches"),
            Metric("interrupts", zero=True, short="interrupts"),
            Metric("softirqs", zero=True, short="NET_RX"),
            Metric("polled", better=Better.NEITHER, zero=True, short="polled"),
        ),
        rows="size",
        columns="arm",
        text="{size} bytes by {arm}",
    )
    topology = "a -- b: 20us"
    parameters = (
        Parameter("requests", 2000, "how many a trial makes", 1, 100_000),
        Parameter(
            "microseconds", 5000, "how long busy polling goes on before it sleeps", 1, 1_000_000
        ),
    )
    compared: ClassVar = {"arm": ("busypoll",), "size": (1,)}
    judged: ClassVar = {"arm": ("interrupt", "busypoll"), "size": (1,)}
    profiled: ClassVar = {"arm": ("busypoll",), "size": (1,)}

    @classmethod
    def misplaced(cls, cell: Cell, given: Mapping[str, Value], *, in_one_guest: bool) -> str:
        """Return why nothing could be found by polling, over a link without a delay."""
        network = parse(str(given["topology"]))
        link = network.links[network.ports_of(network.hosts[0])[0].link]
        if not in_one_guest or not str(cell["arm"]).endswith("busypoll") or not link.is_clean:
            return ""
        return (
            "over a veth alone the answer is there before anybody can ask for it: a link with "
            "a delay is needed (--param topology='a -- b: 20us'), or --place guests"
        )

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Let the veth of who asks have NAPI."""
        self.asks, self.answers = self.drawn.hosts[0], self.drawn.hosts[-1]
        if hosts[self.asks].inside:
            hosts[self.asks].run([TRAFFIC, "napi", hosts[self.asks].interface])
        return ()

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Ask again and again, waiting in one way."""
        count, size, arm = str(self.given["requests"]), str(cell["size"]), str(cell["arm"])
        server = hosts[self.answers]
        running = server.start([TRAFFIC, "serve", "tcp", str(_PORT), count], "listening", cell)
        words = (server.address(), str(_PORT), count, size, size, arm)
        most = str(self.given["microseconds"])
        try:
            said = hosts[self.asks].said([TRAFFIC, "request", *words, most], cell)
        except RequestRefused as refused:
            if "cannot busy-poll" not in str(refused):
                raise
            raise LabError(f"{arm}: this kernel has no such busy polling: {refused}") from refused
        running.end()
        each = {
            name: said.number(name) / int(count)
            for name in ("switches", "interrupts", "softirqs", "polled")
        }
        self.polled = said.number("polled")
        if arm.endswith("busypoll") and not self.polled:
            is_inside = bool(hosts[self.asks].inside)
            why = self.misplaced(cell, self.given, in_one_guest=is_inside) or (
                "its interface has no NAPI, or the answer took longer than --param microseconds"
            )
            raise LabError(
                f"{arm}: busy polling found none of {count} answers (BusyPollRxPackets of "
                f"{self.asks}'s /proc/net/netstat): {why}"
            )
        return {
            "latency": said.number("ns_p50") / 1e3,
            "latency_p95": said.number("ns_p95") / 1e3,
            "latency_p99": said.number("ns_p99") / 1e3,
            "cpu": said.number("request_cpu_ns") / int(count) / 1e3,
            **each,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """See that nobody polls who waits for an interrupt."""
        if self.polled and not str(cell["arm"]).endswith("busypoll"):
            raise WrongState(
                f"{cell['arm']}: {self.polled:.0f} packets were found by busy polling "
                "(BusyPollRxPackets), which was off"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what was said of busy polling at Netdev 2.1, each with our figures."""
        figures = Figures(run)
        return [_claim(figures, *each) for each in _CLAIMS]


# What E. Dumazet's "Busy Polling: Past, Present, Future" (Netdev 2.1, 2017) says of it, and
# by which metrics it is judged: each is less by busy polling. The rules were written before
# the first run.
_CLAIMS = (
    ("busy polling shortens the time of a request", ("latency",)),
    ("busy polling has less jitter", ("jitter",)),
    ("busy polling spares interrupts and context switches", ("interrupts", "softirqs", "switches")),
)
_SHARED = (
    "both hosts share a CPU: the other one's turn is a switch, and what interrupts are the "
    "link's timers, which nobody can poll; --place guests gives each host its own"
)
_UNIT = {"latency": "us", "jitter": "us"}


def _value(figures: Figures, kernel: str, size: Any, arm: str, name: str) -> float | None:
    """Return a metric's median; of jitter, how far the 99 % lie above the median."""
    cell = Cell({"arm": arm, "size": size})
    if name == "jitter":
        most = _value(figures, kernel, size, arm, "latency_p99")
        usual = _value(figures, kernel, size, arm, "latency")
        return None if most is None or usual is None else most - usual
    return figures.figure(kernel, cell, figures.shape.metric_named(name)).value


def _claim(figures: Figures, text: str, names: Sequence[str]) -> Claim:
    theirs = "no figure"
    parts, less = [], []
    sizes = sorted({s.cell["size"] for s in figures.run.samples}, key=float)
    for kernel in figures.kernels:
        for size in sizes:
            told = []
            for name in names:
                off, on = (
                    _value(figures, kernel, size, arm, name) for arm in ("interrupt", "busypoll")
                )
                if off is None or on is None:
                    continue
                unit = _UNIT.get(name, name)
                told.append(f"{on:.3g} {unit}, {off:.3g} by interrupt")
                less.append(on < off)
            if told:
                parts.append(f"{kernel}, {size} bytes: " + ", ".join(told))
    if not parts:
        why = "needs the arms interrupt and busypoll"
        return Claim.unmeasured(text, theirs, why)
    finding = Finding.of(less)
    shared = "switches" in names and any(s.place == "spaces" for s in figures.run.samples)
    why = _SHARED if shared and finding is not Finding.REPRODUCED else ""
    return Claim(text, theirs, "; ".join(parts), finding, why)
