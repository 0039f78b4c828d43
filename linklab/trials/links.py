"""The links of a topology, measured before a guest's first trial.

A link that is not what was asked for is the lab's fault, and no figure that was taken
over it counts. What is looked at: the rate, by a train of datagrams, the round trip
time, by an echo, and what is lost of both.
"""

from __future__ import annotations

from itertools import count
from math import sqrt

from linklab.errors import LabError
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import FRAME, Link, Topology, Way
from linklab.scenarios.scenario import Host, Hosts

_PORT = 5009
_PAYLOAD = FRAME - 42  # bytes of data in a full datagram
_PINGS, _PING_EVERY = 20, 10  # and ms between two
_SMALL = 64 + 42  # a ping's frame
_TRAIN, _SHORTEST = 400, 10  # datagrams
_LONG_TRAIN, _MOST_BURST = 4000, 256
_TRAIN_SECONDS = 1.0
_TIMES_TOGETHER = 100  # packets that come together blur the train's ends
_SILENCE = 100  # ms after which what should have come is lost
_RATE = 0.02
_ROUND_TRIP, _ROUND_TRIP_NS = 0.05, 1e6
_SIGMAS = 4.5  # one healthy link in 100,000 loses that much more or less


def check_links(network: Topology, hosts: Hosts, looks: int = 1) -> None:
    """Measure every link that shapes. Raises `LabError` where one is out of tolerance.

    In real time a busy host delays what is measured, too: a link gets up to so many
    `looks`, of which one must be well, and of the pings the shortest counts. One that
    is wrong is wrong each time.
    """
    for number, link in enumerate(network.links):
        if link.is_clean:
            continue
        name = f"link {number + 1}, {link.a} -- {link.b}: {link.properties}"
        measures: list[tuple[str, _Trains | _Pings]] = [
            (
                f"{name}: from {start} to {end}",
                _Trains(hosts[start], hosts[end], number, way, looks),
            )
            for start, end, way in ((link.a, link.b, link.there), (link.b, link.a, link.back))
            if way.rate or way.loss
        ]
        quantile = "median" if looks == 1 else "min"
        pings = _Pings(hosts[link.a], hosts[link.b], number, link, f"rtt_{quantile}_ns")
        measures.append((name, pings))
        for what, measure in measures:
            faults = (measure.look() for _ in range(looks))
            if all(found := fault for fault in faults):
                raise LabError(f"{what}: {found}")


class _Trains:
    """Trains of datagrams one way over a link: how many come, and how fast."""

    def __init__(self, start: Host, end: Host, link: int, way: Way, looks: int) -> None:
        self._start, self._end = start, end
        self._way = way
        self._size = FRAME + way.overhead
        fits = int(way.rate * _TRAIN_SECONDS / 8 / self._size) if way.rate else _TRAIN
        # A host says something by itself now and then: that must find a place in the queue.
        room = way.packets * 4 // 5 or 1
        together = way.rate * way.coalesce // (8 * 10**9 * self._size)
        self._count = min(_TRAIN + _TIMES_TOGETHER * together, room, max(_SHORTEST, fits))
        pace: tuple[str, ...] = ()
        if looks > 1 and way.rate:
            # In real time what comes may come late, and a long train shows less of that: up
            # to three bursts at a time, and a little faster than the link.
            room -= way.rate * way.delay // (8 * 10**9 * self._size)
            burst, ahead = min(room // 4, _MOST_BURST), room // 4
            if burst > 1 and fits > self._count:
                self._count = min(fits, _LONG_TRAIN)
                takes_burst = burst * self._size * 8 * 10**9 // way.rate
                pace = (str(burst), str(takes_burst * self._count // (self._count + ahead)))
        takes = way.delay + (self._count * self._size * 8 * 10**9 // way.rate if way.rate else 0)
        counter = (str(_PORT), str(self._count), str(_SILENCE + takes // 10**6))
        self._counter = [TRAFFIC, "count", *counter]
        train = (end.address(link), str(_PORT), str(self._count), str(_PAYLOAD), *pace)
        self._train = [TRAFFIC, "train", *train]

    def look(self) -> str:
        """Send one; return what is wrong with it, nothing where it is well."""
        running = self._end.start(self._counter, "listening")
        self._start.said(self._train)
        got = running.end()
        received, count = got.number("received"), self._count
        lost, rate = self._way.loss / 1e6, self._way.rate
        spread = _SIGMAS * sqrt(count * lost * (1 - lost)) + (1 if lost else 0)
        if abs(received - count * (1 - lost)) > spread:
            return (
                f"{count - received:.0f} of {count} datagrams were lost, "
                f"{count * lost:.0f} should be"
            )
        half = (count + 1) // 2
        if not rate or received <= half:
            return ""
        # While the sender is at work, what comes first may have to wait for the CPU.
        seconds = (got.number("last") - got.number("half")) / 1e9
        bits = (received - half) / (1 - lost) * self._size * 8
        found = bits / seconds if seconds else float("inf")
        unsure = self._way.coalesce / 1e9 / seconds if seconds else 0.0
        if abs(found / rate - 1) > _RATE + spread / count + unsure:
            return f"{found / 1e6:.4g} Mbit/s were measured, not {rate / 1e6:g}"
        return ""


class _Pings:
    """Pings over a link: its round trip."""

    def __init__(self, start: Host, end: Host, number: int, link: Link, counts: str) -> None:
        self._start, self._end = start, end
        self._counts = counts
        self._is_lossy = bool(link.there.loss or link.back.loss)
        self._wanted = float(link.there.delay + link.back.delay)
        for way in (link.there, link.back):
            self._wanted += (_SMALL + way.overhead) * 8e9 / way.rate if way.rate else 0
        # Another one for each look: what ends an echo may be under way for as long as a ping.
        self._ports = count(_PORT)
        self._address = end.address(number)

    def look(self) -> str:
        """Send some; return what is wrong with them, nothing where they are well."""
        port = str(next(self._ports))
        echo = self._end.start([TRAFFIC, "echo", port, str(_PINGS)], "listening")
        words = (self._address, port, str(_PINGS), str(_PING_EVERY), "64")
        said = self._start.said([TRAFFIC, "ping", *words])
        echo.stop()
        if not said.number("replies"):
            return "" if self._is_lossy else f"none of {_PINGS} pings came back"
        took = said.number(self._counts)
        if abs(took - self._wanted) > max(self._wanted * _ROUND_TRIP, _ROUND_TRIP_NS):
            return f"a round trip takes {took / 1e6:.3f} ms, not {self._wanted / 1e6:.3f} ms"
        return ""
