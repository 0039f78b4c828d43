"""The links of a topology, measured before a guest's first trial.

A link that is not what was asked for is the lab's fault, and no figure that was taken
over it counts. What is looked at: the rate, by a train of datagrams, the round trip
time, by an echo, and what is lost of both.
"""

from __future__ import annotations

from math import sqrt

from linklab.errors import LabError
from linklab.lab.spaces import TRAFFIC
from linklab.lab.topology import Topology, Way
from linklab.scenarios.scenario import Hosts

_PORT = 5009
_PAYLOAD, _FRAME = 1472, 1514  # bytes of a full datagram: its data, and with its headers
_PINGS, _PING_EVERY = 20, 10  # and ms between two
_SMALL = 64 + 42  # a ping's frame
_TRAIN, _SHORTEST = 400, 10  # datagrams
_TRAIN_SECONDS = 1.0
_SILENCE = 100  # ms after which what should have come is lost
_RATE = 0.02
_ROUND_TRIP, _ROUND_TRIP_NS = 0.05, 1e6
_SIGMAS = 4.5  # one healthy link in 100,000 loses that much more or less


def check_links(network: Topology, hosts: Hosts) -> None:
    """Measure every link that shapes. Raises `LabError` where one is out of tolerance."""
    for number, link in enumerate(network.links):
        if link.is_clean:
            continue
        name = f"link {number + 1}, {link.a} -- {link.b}: {link.properties}"
        for start, end, way in ((link.a, link.b, link.there), (link.b, link.a, link.back)):
            if way.rate or way.loss:
                _check_train(f"{name}: from {start} to {end}", hosts, start, end, number, way)
        _check_round_trip(name, hosts, link.a, link.b, number, link.there, link.back)


def _check_train(
    name: str, hosts: Hosts, start: str, end: str, link: int, way: Way
) -> None:  # fmt: skip
    size = _FRAME + way.overhead
    fits = int(way.rate * _TRAIN_SECONDS / 8 / size) if way.rate else _TRAIN
    count = min(_TRAIN, way.queue, max(_SHORTEST, fits))
    takes = way.delay + (count * size * 8 * 10**9 // way.rate if way.rate else 0)
    silence = _SILENCE + takes // 10**6
    counter = [TRAFFIC, "count", str(_PORT), str(count), str(silence)]
    running = hosts[end].start(counter, "listening")
    address = hosts[end].address(link)
    hosts[start].said([TRAFFIC, "train", address, str(_PORT), str(count), str(_PAYLOAD)])
    got = running.end()
    received, lost = got.number("received"), way.loss / 1e6
    spread = _SIGMAS * sqrt(count * lost * (1 - lost)) + (1 if lost else 0)
    if abs(received - count * (1 - lost)) > spread:
        raise LabError(
            f"{name}: {count - received:.0f} of {count} datagrams were lost, "
            f"{count * lost:.0f} should be"
        )
    half = (count + 1) // 2
    if not way.rate or received <= half:
        return
    # While the sender is at work, what comes first may have to wait for the CPU.
    seconds = (got.number("last") - got.number("half")) / 1e9
    rate = (received - half) / (1 - lost) * size * 8 / seconds if seconds else float("inf")
    if abs(rate / way.rate - 1) > _RATE + spread / count:
        raise LabError(f"{name}: {rate / 1e6:.4g} Mbit/s were measured, not {way.rate / 1e6:g}")


def _check_round_trip(
    name: str, hosts: Hosts, a: str, b: str, link: int, there: Way, back: Way
) -> None:
    echo = hosts[b].start([TRAFFIC, "echo", str(_PORT), str(_PINGS)], "listening")
    words = (hosts[b].address(link), str(_PORT), str(_PINGS), str(_PING_EVERY), "64")
    said = hosts[a].said([TRAFFIC, "ping", *words])
    echo.stop()
    if not said.number("replies"):
        if there.loss or back.loss:
            return
        raise LabError(f"{name}: none of {_PINGS} pings came back")
    wanted = float(there.delay + back.delay)
    for way in (there, back):
        wanted += (_SMALL + way.overhead) * 8e9 / way.rate if way.rate else 0
    median = said.number("rtt_median_ns")
    if abs(median - wanted) > max(wanted * _ROUND_TRIP, _ROUND_TRIP_NS):
        raise LabError(
            f"{name}: a round trip takes {median / 1e6:.3f} ms, not {wanted / 1e6:.3f} ms"
        )
