"""congestion: TCP's algorithms against each other, over a link with a queue.

The default is the condition of the message that brought BBR into Linux (commit
0f8782ea1497, 2016): 10 Mbit/s, 40 ms of round trip, a queue of 1000 packets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any, ClassVar

from linklab.errors import LabError, WrongState
from linklab.lab.spaces import TRAFFIC, Shaped, inside, middle, shape_words, slowest_link
from linklab.lab.topology import Way, parse
from linklab.lab.traces import trace_text, trace_word
from linklab.results.shape import Axis, Better, Cell, Course, Metric, Shape, Value
from linklab.scenarios.aliases import jain
from linklab.scenarios.congestion.claims import claims
from linklab.scenarios.congestion.nsperf import PRESETS
from linklab.scenarios.scenario import (
    GUEST,
    IP,
    Claim,
    Host,
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
_MOST_RELAYED = 100_000  # packets that `traffic relay` takes
_MILLIONTHS = 10_000  # of a hundredth
_FRAME = 1514  # bytes
_LOOK_MS = 10  # between two looks at the router's queue
_LOOKS = 10  # that are one point of its course
_ENDLESS = 1_000_000  # packets
_TRACE = "/tmp/congestion.trace"
# Socket buffers, and pages of all of them together, for what is too much for those that
# hosts have: nsperf's (google/bbr, gtests/net/tcp/bbr/nsperf/run_tests.sh).
_LARGE = ("tcp_rmem=4096 131072 250000000", "tcp_wmem=4096 16384 250000000")
_LARGE_ALL = "tcp_mem=65536 65536 65536"
_USUAL_BUFFER = 4_194_304
_USUAL_HELD = 16  # MiB of a guest's memory
_MARK = 242_000  # ns in the queue of the slowest link after which ecn=on marks: nsperf's
# Delta-fair convergence (RFC 5166, 2.5; Bansal et al., Dynamic Behavior of Slowly-Responsive
# Congestion Control Algorithms, 2001): of two flows each has its half but for this part.
_DELTA = 0.1
_FAIR = 1e6 / (1 + _DELTA**2)  # Jain's index of such two flows, in millionths
_AS_IT_IS = "0: as the topology has it"

# Sends, and meanwhile has something look at the queue, or be the link.
_SEND = """\
{before}{beside} >/tmp/congestion.queue 2>&1 &
beside=$!
{wait}"$@" >/tmp/congestion.sent 2>&1
status=$? said=/tmp/congestion.sent
kill $beside && wait $beside || {{ status=$? said=/tmp/congestion.queue; }}
{after}cat $said
[ "$status" != 0 ] || cat /tmp/congestion.queue
exit $status
"""


class Congestion(Scenario):
    """See above. The first host of the topology sends, the last one receives."""

    name = "congestion"
    about = "TCP's congestion control: goodput, round trip time, queue, losses, fairness"
    shape = Shape(
        axes=(
            Axis(
                "arm", ("bbr", "cubic"), among=ALGORITHMS, open=True, help="the sender's algorithm"
            ),
            Axis(
                "loss",
                (0.0,),
                "% lost",
                least=0,
                most=100,
                log=False,
                help="% of the packets that the slowest link loses on the way there, at random",
            ),
            Axis(
                "rate", (0.0,), "Mbit/s", least=0, most=400_000, silent=True,
                help=f"of the slowest link; {_AS_IT_IS}",
            ),
            Axis(
                "delay", (0.0,), "ms of round trip", least=0, most=60_000, silent=True,
                help=f"of the slowest link, half of it each way; {_AS_IT_IS}",
            ),
            Axis(
                "buffer", (0.0,), "BDP of queue", least=0, most=10_000, silent=True,
                help="what may wait at the slowest link, in units of rate times round trip; "
                f"{_AS_IT_IS}",
            ),
            Axis(
                "ecn", ("off",), "ECN", among=("off", "on"), silent=True,
                help="on: both hosts use it, and the slowest link marks what has waited for 242 us "
                "or, if it has one, its mark=",
            ),
            Axis("flows", (1,), "flows", most=500, silent=True, help="with the arm's algorithm"),
            Axis(
                "competitor", (_NOBODY,), "against", among=(_NOBODY, *ALGORITHMS), open=True,
                silent=True, help="the algorithm of as many connections beside them",
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
            Metric("converge", "s", short="converged"),
            Metric("queue", "packets", zero=True, short="mean queue", optional=True),
            Metric("queue_p95", "packets", zero=True, short="queue, 95 %", optional=True),
            Metric("marks", "packets", Better.NEITHER, True, short="marked", optional=True),
        ),
        rows="loss",
        columns="arm",
        text="{arm}, {loss:g} % lost",
    )  # fmt: skip
    topology = "a -- r -- b: clean | 10mbit 20ms"
    parameters = (
        Parameter("seconds", 30, "how long connections send", 1, 120),
        Parameter("interval", 0, "ms between the beginnings of two connections", 0, 60_000),
        Parameter(
            "trace", "",
            "what the slowest link carries there, instead of a rate: drive (a car with LTE, made "
            "up), or a file of mahimahi's: ms at which a packet can go, one a line",
            reader=trace_word,
        ),
    )  # fmt: skip
    presets: ClassVar = PRESETS
    apart = True
    profiled: ClassVar = {"arm": ("bbr",), "loss": (0.0,)}

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: an emulator needs some for each of the guest's."""
        return 1800.0 if emulated else 300.0

    @classmethod
    def cost(cls, cell: Cell) -> int:
        """Return how long a trial takes against others: it goes by the packets."""
        return round(50 * max(1.0, float(cell.get("rate", 0)) / 20))

    @classmethod
    def memory(cls, cell: Cell, cpus: int) -> int:
        """Return the MiB that a guest needs: with what is under way and waits, at both ends.

        What the slowest link of the default topology holds has room in any guest.
        """
        there, back, room = ways(cell, cell)
        return 512 + max(0, int(6 * held(there, back, room)) // 2**20 - _USUAL_HELD)

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return what no link can do, or that not all connections would have begun."""
        try:
            ways(cell, given)
        except LabError as error:
            return error.message
        flows = int(cell.number("flows")) * (1 if cell["competitor"] == _NOBODY else 2)
        last, seconds = (flows - 1) * int(given["interval"]) / 1000, int(given["seconds"])
        if last <= seconds - 1 or not last:
            return ""
        return (
            f"the last of {flows} connections begins after {last:g} s of {seconds}: "
            "--param seconds= takes more, interval= less"
        )

    @classmethod
    def misplaced(cls, cell: Cell, given: Mapping[str, Value], *, in_one_guest: bool) -> str:
        """Return what works in the middle of the slowest link, where that is not in a guest."""
        drawn = parse(str(given["topology"]))
        number, (there, back, _) = slowest_link(drawn), ways(cell, given)
        if in_one_guest or number is None:
            return ""
        if given["trace"]:
            return f"trace={given['trace']}: who follows it is in the link's middle: --place spaces"
        if (there, back) == (drawn.links[number].there, drawn.links[number].back):
            return ""
        return "another link than the topology's is made in its middle: --place spaces"

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Remember who sends, which link is the slowest, and what kernel and hosts have."""
        self.sender, self.receiver = self.drawn.hosts[0], self.drawn.hosts[-1]
        self.number = slowest_link(self.drawn)
        self.draws, self.has_large_buffers, self.has_ecn = 0, False, False
        self.there, self.back, self.room = Way(), Way(), 0
        if self.number is not None:
            link = self.drawn.links[self.number]
            self.there, self.back = link.there, link.back
        self.known = _setting(hosts[self.sender], "tcp_available_congestion_control").split()
        self.usual = _setting(hosts[self.receiver], "tcp_congestion_control").strip()
        if self.given["trace"]:
            hosts[GUEST].write(_TRACE, trace_text(str(self.given["trace"])).encode())
        return ()

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Have the slowest link and the hosts be what the cell says, where they are not."""
        for axis, nobody in (("arm", ()), ("competitor", (_NOBODY,))):
            if cell[axis] not in (*self.known, *nobody) and self.known:
                raise LabError(
                    f"{axis}={cell[axis]}: this kernel has no such algorithm, but "
                    f"{', '.join(sorted(self.known))}; one of a module comes with --module"
                )
        there, back, self.room = ways(cell, self.given)
        if (there, back) != (self.there, self.back):
            self.draws += 1
            assert self.number is not None
            pairs = (("b", there, self.there), ("a", back, self.back))
            for end in (Shaped(middle(self.number), e, way) for e, way, was in pairs if way != was):
                hosts[GUEST].run([*inside(end.space), TRAFFIC, *shape_words(end, self.draws)])
            self.there, self.back = there, back
        ends = (hosts[self.sender], hosts[self.receiver])
        if held(there, back, self.room) * 2 > _USUAL_BUFFER and not self.has_large_buffers:
            for host in ends:
                _set(host, *_LARGE)
            for host in [hosts[GUEST]] if GUEST in hosts else ends:
                _set(host, _LARGE_ALL)
            self.has_large_buffers = True
        if (cell["ecn"] == "on") != self.has_ecn or self.has_ecn:
            self.has_ecn = cell["ecn"] == "on"
            for host in ends:
                _set(host, f"tcp_ecn={1 if self.has_ecn else 2}")
            # Who receives answers as the sender's algorithm wants it (DCTCP: RFC 8257, 3.2). A
            # namespace takes what the guest allows (tcp_set_default_congestion_control in
            # net/ipv4/tcp_cong.c).
            if GUEST in hosts:
                _set(hosts[GUEST], f"tcp_allowed_congestion_control={' '.join(self.known)}")
            _set(ends[1], f"tcp_congestion_control={cell['arm'] if self.has_ecn else self.usual}")
        for host in ends:
            host.run([IP, "tcp_metrics", "flush", "all"])

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send for a while; look at what arrived, and at what the sender's kernel says."""
        arms, seconds = int(cell.number("flows")), int(self.given["seconds"])
        algorithms = [str(cell["arm"])]
        if cell["competitor"] != _NOBODY:
            algorithms.append(str(cell["competitor"]))
        flows, interval = arms * len(algorithms), int(self.given["interval"])
        sink = [TRAFFIC, "sink", "tcp", str(_PORT), str(flows), str(seconds + _AFTER)]
        running = hosts[self.receiver].start(sink, "listening", cell)
        address = hosts[self.receiver].address()
        words = ["tcp", address, str(_PORT), str(flows), "1", str(seconds), ",".join(algorithms)]
        words += ["0", str(interval)] if interval and flows > 1 else []
        sent = hosts[self.sender].said([*self._beside(hosts), TRAFFIC, "send", *words], cell)
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
            "converge": converged(got, seconds),
            **self._queue(seconds),
        }

    def _beside(self, hosts: Hosts) -> list[str]:
        """Return the words before a sender beside which the slowest link's queue is looked at."""
        if self.number is None or not hosts[self.sender].inside:
            return []
        enter = " ".join(inside(middle(self.number)))
        script = _SEND.format(
            before="", beside=f"{enter} {TRAFFIC} queue {_LOOK_MS} b", wait="", after=""
        )
        if self.given["trace"]:
            ends = [f"{enter} {IP} link set dev {end}" for end in "ab"]
            script = _SEND.format(
                before="".join(f"{end} nomaster || exit\n" for end in ends),
                beside=f"{enter} {TRAFFIC} relay {_LOOK_MS} a b {self.room} {_TRACE}",
                wait="sleep 0.2\n",
                after="".join(f"{end} master wire || exit\n" for end in ends),
            )
        return ["/bin/sh", "-c", script, "sh"]

    def _queue(self, seconds: float) -> Metrics:
        """Return what waited at the slowest link while the sender was at work."""
        if "queue_at" not in self.sent:
            self.waited: list[tuple[float, float]] = []
            return {}
        follows = self.there.mark or self.given["trace"]
        found = waiting(self.sent, 0 if follows else self.there.delay)
        self.waited = [(at, count) for at, count in found if at <= seconds]
        counts = sorted(count for _, count in self.waited) or [0.0]
        return {
            "queue": fmean(counts),
            "queue_p95": counts[len(counts) * 95 // 100],
            "marks": max(self.sent["queue_marked"]) - min(self.sent["queue_marked"]),
        }

    def courses(self, cell: Cell) -> Sequence[Course]:
        """Return what arrived, and what the sender's kernel said: of several flows a band."""
        return list(self._courses())

    def _courses(self) -> Iterator[Course]:
        yield goodput_course(self.got, int(self.given["seconds"]))
        if "at" in self.sent:
            at = tuple(ns / 1e9 for ns in self.sent["at"])
            for quantity, unit, told, factor in _KERNELS_WORD:
                yield Course(quantity, unit, at, tuple(v * factor for v in self.sent[told]))
        for number, whose in enumerate(("", "competitor's ")):
            yield from self._band(f"band{number}", whose)
        if len(self.got["inner"]) > 1:
            fair = tuple(each / 1e6 for each in self.got["fair"])
            at = tuple((number + 1) / 10 for number in range(len(fair)))
            yield Course("fairness of the last second", "", at, fair)
        points = [self.waited[n : n + _LOOKS] for n in range(0, len(self.waited), _LOOKS)]
        if points:
            at = tuple(each[-1][0] for each in points)
            yield Course("queue", "packets", at, tuple(fmean(n for _, n in p) for p in points))

    def _band(self, name: str, whose: str) -> Iterator[Course]:
        """Yield how all flows with one algorithm went, where there are some."""
        at = tuple(ns / 1e9 for ns in self.sent.get(f"{name}_at", ()))
        for quantity, unit, told, factor in _KERNELS_WORD if at else ():
            median_, *around = (
                tuple(value * factor for value in self.sent[f"{name}_{told}_{rank}"])
                for rank in ("median", "least", "most")
            )
            yield Course(f"{whose}{quantity}", unit, at, median_, *around)

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what BBR's authors claim, each with our figures."""
        return claims(run, str(parse(cls.topology)))


# What the sender's kernel says of a connection: our name, the unit, the program's, and its unit.
_KERNELS_WORD = (
    ("rtt", "ms", "rtt_us", 1e-3),
    ("cwnd", "packets", "cwnd", 1),
    ("pacing", "Mbit/s", "pacing", 8e-6),
)
_OF_LINK = tuple(a for a in Congestion.shape.axes if a.name in ("rate", "delay", "buffer", "ecn"))


def _setting(host: Host, name: str) -> str:
    return host.printed(["/bin/cat", f"/proc/sys/net/ipv4/{name}"])


def _set(host: Host, *settings: str) -> None:
    host.run(["/bin/sysctl", "-q", "-w", *(f"net.ipv4.{each}" for each in settings)])


def ways(cell: Cell, given: Mapping[str, Value]) -> tuple[Way, Way, int]:
    """Return what the slowest link does in a cell, there and back, and the packets that may wait.

    Raises `LabError` for what no link can do.
    """
    drawn, follows = parse(str(given["topology"])), bool(given["trace"])
    number = slowest_link(drawn)
    rate, delay = round(cell.number("rate") * 1e6), round(cell.number("delay") * 5e5)
    if number is None:
        if follows or cell.number("loss") or any(axis.says(cell[axis.name]) for axis in _OF_LINK):
            raise LabError(
                "nothing shapes the links of this topology, so none can lose packets, or "
                "be another: --param topology='a -- b: 1gbit'"
            )
        return Way(), Way(), 0
    link = drawn.links[number]
    there = replace(link.there, rate=rate or link.there.rate, delay=delay or link.there.delay)
    # Answers must find room, too.
    back = replace(link.back, delay=delay or link.back.delay)
    if rate and back.rate:
        back = replace(back, rate=max(back.rate, rate))
    if lost := cell.number("loss"):
        there = replace(there, loss=round(lost * _MILLIONTHS))
    round_trip = there.delay + back.delay
    if (bdps := cell.number("buffer")) and there.rate:
        # As nsperf has it: netem's limit counts what is under way, too.
        waiting = int(there.rate * round_trip / 1e9 / (8 * _FRAME) * bdps)
        flying = int(there.rate * there.delay / 1e9 / (8 * 1500))
        there = replace(there, queue=max(waiting, 1) + flying, in_bytes=False)
    if cell["ecn"] == "on":
        there = replace(there, mark=there.mark or _MARK)
    if there.queue > _MOST_RELAYED and follows:
        raise LabError(f"a link that follows a trace has a queue of at most {_MOST_RELAYED}")
    if (bdps or there.mark) and not there.rate:
        raise LabError("the slowest link has no rate, so nothing waits: --axis rate=10")
    if follows and there.mark:
        raise LabError("a link that follows a trace marks nothing: ecn=off")
    return (replace(there, rate=0, queue=_ENDLESS) if follows else there), back, there.queue


def held(there: Way, back: Way, room: int) -> float:
    """Return the bytes that are under way on a link and wait there, at most."""
    return there.rate * (there.delay + back.delay) / 8e9 + room * (1 if there.in_bytes else _FRAME)


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


def converged(got: Said, seconds: float) -> float:
    """Return the seconds from when the last flow began until flows were delta-fair.

    That is the end of the first second in which they were, and in which together they
    brought what they usually bring, but for the same part. All that was left where they
    never were.
    """
    bins, tenth = got["bins"][: round(seconds * _BINS)], _BINS // 10
    ends = range(tenth, len(bins) + 1, tenth)
    windows = [sum(bins[max(0, end - _BINS) : end]) for end in ends]
    begun = (max(got["first"]) - min(got["first"])) / 1e9
    usual = median(windows[9:] or windows or [0])
    for number, (brought, fair) in enumerate(zip(windows, got["fair"], strict=False), 1):
        if number / 10 > begun and fair >= _FAIR and brought >= (1 - _DELTA) * usual:
            return number / 10 - begun
    return seconds - begun


def waiting(sent: Said, delay: int) -> Iterator[tuple[float, float]]:
    """Yield when (s) how many packets waited at a link, which delays what leaves by some ns.

    netem counts what is under way as waiting: that is what leaves it within the delay.
    """
    at, left = sent["queue_at"], sent["queue_sent"]
    for begin, count, gone in zip(at, sent["queue_waiting"], left, strict=True):
        end = begin + delay
        if end > at[-1]:
            return
        after = bisect_right(at, end) - 1
        later = left[after]
        if at[after] < end:
            part = (end - at[after]) / (at[after + 1] - at[after])
            later += part * (left[after + 1] - left[after])
        yield begin / 1e9, max(0.0, count - (later - gone))
