"""congestion: TCP's algorithms against each other, over a link with a queue.

The default is the condition of the message that brought BBR into Linux (commit
0f8782ea1497, 2016): 10 Mbit/s, 40 ms of round trip, a queue of 1000 packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
from linklab.lab.spaces import TRAFFIC, Shaped, inside, middle, shape_words, shaped_links
from linklab.lab.topology import Topology, parse
from linklab.results.figures import Figures
from linklab.results.shape import Axis, Better, Cell, Course, Metric, Shape
from linklab.scenarios.aliases import jain
from linklab.scenarios.scenario import (
    GUEST,
    Claim,
    Finding,
    Hosts,
    Metrics,
    Parameter,
    Said,
    Scenario,
)

__all__ = ["Congestion"]

ALGORITHMS = ("bbr", "cubic", "reno", "dctcp", "vegas")
_NOBODY = "none"
_PORT = 5001
_BINS = 100  # of the receiver, in a second
_AFTER = 120  # s for what is under way when the time is over
_MILLIONTHS = 10_000  # of a hundredth


class Congestion(Scenario):
    """See above. The first host of the topology sends, the last one receives."""

    name = "congestion"
    about = "TCP's congestion control: goodput, round trip time, losses, fairness"
    shape = Shape(
        axes=(
            Axis("arm", ("bbr", "cubic"), among=ALGORITHMS, help="the sender's algorithm"),
            Axis(
                "loss",
                (0.0,),
                "% lost",
                least=0,
                most=100,
                log=False,
                help="% of the packets that the slowest link loses on the way there, at random",
            ),
        ),
        metrics=(
            Metric("goodput", "Mbit/s", Better.MORE, short="goodput"),
            Metric("rtt", "s", title="round trip time, s, the median", short="median RTT"),
            Metric("rtt_p95", "s", short="RTT, 95 %"),
            Metric("rtt_p99", "s", short="RTT, 99 %"),
            Metric("retransmissions", zero=True, short="retransmissions"),
            Metric("fairness", better=Better.MORE, short="fairness"),
            Metric("share", better=Better.MORE, short="share"),
        ),
        rows="loss",
        columns="arm",
        text="{arm}, {loss:g} % lost",
    )
    topology = "a -- r -- b: clean | 10mbit 20ms"
    parameters = (
        Parameter("seconds", 30, "how long each connection sends", 1, 120),
        Parameter("flows", 1, "connections with the arm's algorithm", 1, 500),
        Parameter(
            "competitor",
            _NOBODY,
            f"the algorithm of as many connections beside them, or {_NOBODY}",
            among=(_NOBODY, *ALGORITHMS),
        ),
    )
    profiled: ClassVar = {"arm": ("bbr",), "loss": (0.0,)}

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: an emulator needs some for each of the guest's."""
        return 1800.0 if emulated else 300.0

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Remember who sends, and which link is the slowest."""
        network = parse(str(self.given["topology"]))
        self.sender, self.receiver = network.hosts[0], network.hosts[-1]
        self.lost, self.draws = 0.0, 0
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have the slowest link lose what the cell says, where that is something else."""
        network, lost = parse(str(self.given["topology"])), cell.number("loss")
        if lost == self.lost:
            return
        number = _slowest(network)
        if number is None:
            raise LabError(
                "nothing shapes the links of this topology, so none can lose packets: "
                "--param topology='a -- b: 1gbit'"
            )
        way = network.links[number].there
        if lost:
            way = replace(way, loss=round(lost * _MILLIONTHS))
        if not hosts[self.sender].inside:
            raise LabError("another loss than the link's needs all hosts in one guest")
        self.draws += 1
        shaped = Shaped(middle(number), "b", way)
        hosts[GUEST].run([*inside(shaped.space), TRAFFIC, *shape_words(shaped, self.draws)])
        self.lost = lost

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send for a while; look at what arrived, and at what the sender's kernel says."""
        arms, seconds = int(self.given["flows"]), int(self.given["seconds"])
        algorithms = [str(cell["arm"])]
        if self.given["competitor"] != _NOBODY:
            algorithms.append(str(self.given["competitor"]))
        flows = arms * len(algorithms)
        sink = [TRAFFIC, "sink", "tcp", str(_PORT), str(flows), str(seconds + _AFTER)]
        running = hosts[self.receiver].start(sink, "listening", cell)
        address = hosts[self.receiver].address()
        words = ("tcp", address, str(_PORT), str(flows), "1", str(seconds), ",".join(algorithms))
        sent = hosts[self.sender].said([TRAFFIC, "send", *words], cell)
        got = running.end()
        whole(sent, got)
        self.sent, self.got = sent, got
        # Who competes has every second connection; the sender's first one is the arm's.
        ours = set(sent["ports"][:: len(algorithms)])
        inner = dict(zip(got["ports"], got["inner"], strict=True))
        share = 1.0
        if len(algorithms) > 1:
            everything = sum(inner.values())
            if not everything:
                raise LabError(
                    f"the {flows} connections never sent at the same time: "
                    "--param seconds= takes more"
                )
            share = sum(inner[port] for port in ours) / everything
        return {
            "goodput": goodput(got, seconds) * share,
            "rtt": sent.number("rtt_median_us") / 1e6,
            "rtt_p95": sent.number("rtt_p95_us") / 1e6,
            "rtt_p99": sent.number("rtt_p99_us") / 1e6,
            "retransmissions": sent.number("retransmitted"),
            "fairness": jain(got["inner"]),
            "share": share,
        }

    def courses(self, cell: Cell) -> Sequence[Course]:
        """Return what arrived, and of one connection alone what its sender's kernel said."""
        found = [goodput_course(self.got, int(self.given["seconds"]))]
        if "at" in self.sent:
            at = tuple(ns / 1e9 for ns in self.sent["at"])
            found.append(Course("rtt", "ms", at, tuple(us / 1e3 for us in self.sent["rtt_us"])))
            found.append(Course("cwnd", "packets", at, self.sent["cwnd"]))
            pacing = tuple(each * 8 / 1e6 for each in self.sent["pacing"])
            found.append(Course("pacing", "Mbit/s", at, pacing))
        return found

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what BBR's commit claims, each with our figures."""
        figures = Figures(run)
        given = run.plan.get("given") or {}
        return [_queue_claim(figures, given), _loss_claim(figures, given)]


def whole(sent: Said, got: Said) -> None:
    """Raise `WrongState` unless what was sent is what arrived, byte for byte."""
    if got.number("wrong"):
        raise WrongState(f"{got.number('wrong'):.0f} connections brought other bytes than sent")
    if sum(got["bytes"]) != sum(sent["sent"]):
        raise WrongState(
            f"{sum(sent['sent']):.0f} bytes were sent, {sum(got['bytes']):.0f} arrived"
        )


def goodput(got: Said, seconds: float) -> float:
    """Return the Mbit/s that arrived in so many seconds, from the first byte on."""
    return sum(got["bins"][: round(seconds * _BINS)]) * 8 / seconds / 1e6


def goodput_course(got: Said, seconds: float) -> Course:
    """Return the Mbit/s that arrived in each tenth of a second."""
    tenth, bins = _BINS // 10, got["bins"][: round(seconds * _BINS)]
    sums = [sum(bins[first : first + tenth]) for first in range(0, len(bins), tenth)]
    at = tuple((number + 1) / 10 for number in range(len(sums)))
    return Course("goodput", "Mbit/s", at, tuple(each * 80 / 1e6 for each in sums))


def _slowest(network: Topology) -> int | None:
    """Return the link that loses packets: the one with the least rate, of those that shape."""
    shaped = shaped_links(network)
    return min(shaped, key=lambda k: network.links[k].there.rate or float("inf"), default=None)


# What the message of Linux commit 0f8782ea1497 says, and by which rule it counts as
# reproduced. The rules were written before the first run.
_BBR_RTT, _CUBIC_RTT = 0.043, 1.09  # s, medians of 120 s
_NEAR = 0.1  # of a published figure: reproduced
_ALIKE = 0.1  # BBR's round trip in units of CUBIC's: the same finding, if not the same figure
_BBR_LOSSY, _CUBIC_LOSSY, _LOSSY_LINK = 9150.0, 3.27, 10_000.0  # Mbit/s


def _values(figures: Figures, kernel: str, arm: str, loss: float, metric: str) -> list[float]:
    samples = figures.samples(kernel, Cell({"arm": arm, "loss": loss}))
    return [sample.metrics[metric] for sample in samples if sample.verified]


def _pairs(figures: Figures, loss: float, metric: str) -> dict[str, tuple[float, float]]:
    """Return BBR's and CUBIC's median on each kernel that has both."""
    found = {
        kernel: [_values(figures, kernel, arm, loss, metric) for arm in ("bbr", "cubic")]
        for kernel in figures.kernels
    }
    return {k: (median(b), median(c)) for k, (b, c) in found.items() if b and c}


def _is_theirs(given: dict[str, Any], topology: str = "") -> bool:
    """Whether one connection was alone, and where it is named, over one topology."""
    alone = given.get("flows") == 1 and given.get("competitor") == _NOBODY
    return alone and given.get("topology") in (topology or given.get("topology"), None)


def _queue_claim(figures: Figures, given: dict[str, Any]) -> Claim:
    text = "over 10 Mbit/s, 40 ms and a queue of 1000 packets BBR leaves the queue empty"
    theirs = f"median RTT {_BBR_RTT * 1000:.0f} ms with BBR, {_CUBIC_RTT:g} s with CUBIC, in 120 s"
    pairs = _pairs(figures, 0.0, "rtt")
    if not pairs or not _is_theirs(given, str(parse(Congestion.topology))):
        why = "needs bbr and cubic without loss, one connection, and the default topology"
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, why)
    ours = "; ".join(
        f"{kernel}: {bbr * 1000:.1f} ms with BBR, {cubic:.3g} s with CUBIC, "
        f"in {given.get('seconds')} s"
        for kernel, (bbr, cubic) in pairs.items()
    )
    near = [
        abs(bbr / _BBR_RTT - 1) <= _NEAR and abs(cubic / _CUBIC_RTT - 1) <= _NEAR
        for bbr, cubic in pairs.values()
    ]
    if all(near):
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    if all(bbr <= _ALIKE * cubic for bbr, cubic in pairs.values()):
        least = min(cubic / bbr for bbr, cubic in pairs.values())
        why = (
            f"{least:.0f} times as long with CUBIC, {_CUBIC_RTT / _BBR_RTT:.0f} times there: the "
            f"same finding, though a figure is not within {_NEAR:.0%} of theirs"
        )
        return Claim(text, theirs, ours, Finding.IN_PART, why)
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED)


def _loss_claim(figures: Figures, given: dict[str, Any]) -> Claim:
    text = "where 1 % of the packets are lost at random BBR fills the link, CUBIC does not"
    theirs = (
        f"{_BBR_LOSSY:.0f} Mbit/s with BBR, {_CUBIC_LOSSY} with CUBIC, "
        f"of {_LOSSY_LINK:.0f} ({_BBR_LOSSY / _LOSSY_LINK:.1%} and "
        f"{_CUBIC_LOSSY / _LOSSY_LINK:.2%}), 100 ms"
    )
    pairs = _pairs(figures, 1.0, "goodput")
    network = parse(str(given.get("topology") or Congestion.topology))
    number = _slowest(network)
    rate = network.links[number].there.rate / 1e6 if number is not None else 0
    if not pairs or not rate or not _is_theirs(given):
        why = "needs bbr and cubic with --axis loss=1, one connection, and a link with a rate"
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, why)
    ours = "; ".join(
        f"{kernel}: {bbr:.3g} Mbit/s with BBR, {cubic:.3g} with CUBIC, "
        f"of {rate:g} ({bbr / rate:.1%} and {cubic / rate:.1%})"
        for kernel, (bbr, cubic) in pairs.items()
    )
    fills = all(bbr / rate >= (1 - _NEAR) * _BBR_LOSSY / _LOSSY_LINK for bbr, _ in pairs.values())
    if fills and all(cubic <= rate / 2 for _, cubic in pairs.values()):
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED)
