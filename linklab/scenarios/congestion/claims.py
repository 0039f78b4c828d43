"""What is claimed of BBR, and which figures of a run reproduce it.

Each rule was written before its first run.
"""

from __future__ import annotations

from typing import Any

from linklab.lab.spaces import slowest_link
from linklab.lab.topology import Topology, parse
from linklab.results.figures import Figures
from linklab.results.shape import Cell, Value
from linklab.scenarios.congestion.nsperf import PRESETS
from linklab.scenarios.scenario import Claim, Finding

# What the message of Linux commit 0f8782ea1497 says, and by which rule it counts as
# reproduced. The rules were written before the first run.
_BBR_RTT, _CUBIC_RTT = 0.043, 1.09  # s, medians of 120 s
_NEAR = 0.1  # of a published figure: reproduced
_ALIKE = 0.1  # BBR's round trip in units of CUBIC's: the same finding, if not the same figure
_BBR_LOSSY, _CUBIC_LOSSY, _LOSSY_LINK = 9150.0, 3.27, 10_000.0  # Mbit/s

# Cardwell et al., BBR: Congestion-Based Congestion Control, ACM Queue 14(5), 2016, figures 8
# and 10; over 100 Mbit/s and 100 ms, and over 128 kbit/s and 40 ms with eight flows.
_FILLS_UNTIL, _STALLS_FROM = 5.0, 0.1  # % lost
_PAYLOAD = 1448 / 1514  # of what a link carries

_NO_FIGURE = {
    "coexist": "BBR leaves room for CUBIC, whatever the buffer is",
    "shallow": "few packets are lost in shallow buffers, however many flows there are",
    "ecn_bulk": "with ECN the queue stays short, however many flows there are",
    "drive": "BBR follows a link whose rate changes, and leaves its queue empty",
}


def claims(run: Any, topology: str) -> list[Claim]:
    """Return the claims that a run is about; `topology` is the one of BBR's commit."""
    figures, given = Figures(run), run.plan.get("given") or {}
    preset = given.get("preset")
    if preset == "random_loss":
        return [_random_loss_claim(figures)]
    if preset == "bufferbloat":
        return [_bufferbloat_claim(figures)]
    if preset in _NO_FIGURE:
        text = _NO_FIGURE[preset]
        return [Claim.unmeasured(text, "-", "no figure of it is published")]
    is_theirs = given.get("topology") in (topology, None)
    return [
        _queue_claim(figures, given, is_theirs=is_theirs),
        _loss_claim(figures, given, parse(str(given.get("topology") or topology))),
    ]


def _pairs(figures: Figures, metric: str, **cell: Value) -> dict[str, tuple[float, float]]:
    """Return BBR's and CUBIC's median on each kernel that has both."""
    usual = Cell({axis.name: axis.values[0] for axis in figures.shape.axes} | cell)
    bbr, cubic = (figures.by_kernel(usual.with_(arm=arm), metric) for arm in ("bbr", "cubic"))
    return {kernel: (bbr[kernel], cubic[kernel]) for kernel in bbr if kernel in cubic}


def _measured(figures: Figures, preset: str) -> list[tuple[str, Cell]]:
    """Return what was measured, kernels and cells, by size: what the preset itself asks for.

    Its rate may be another one, as the claims are of shares and of round trips.
    """
    axes = PRESETS[preset].axes
    found = {(sample.kernel, sample.cell) for sample in figures.run.samples if sample.trial}
    usual = {axis.name: axis.values for axis in figures.shape.axes if axis.silent}
    return sorted(
        (kernel, cell)
        for kernel, cell in found
        if all(name == "rate" or cell[name] in values for name, values in {**usual, **axes}.items())
    )


def _queue_claim(figures: Figures, given: dict[str, Any], *, is_theirs: bool) -> Claim:
    text = "over 10 Mbit/s, 40 ms and a queue of 1000 packets BBR leaves the queue empty"
    theirs = f"median RTT {_BBR_RTT * 1000:.0f} ms with BBR, {_CUBIC_RTT:g} s with CUBIC, in 120 s"
    pairs = _pairs(figures, "rtt")
    if not pairs or not is_theirs or given.get("trace"):
        why = "needs bbr and cubic without loss, one connection, and the default topology"
        return Claim.unmeasured(text, theirs, why)
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


def _loss_claim(figures: Figures, given: dict[str, Any], network: Topology) -> Claim:
    text = "where 1 % of the packets are lost at random BBR fills the link, CUBIC does not"
    theirs = (
        f"{_BBR_LOSSY:.0f} Mbit/s with BBR, {_CUBIC_LOSSY} with CUBIC, "
        f"of {_LOSSY_LINK:.0f} ({_BBR_LOSSY / _LOSSY_LINK:.1%} and "
        f"{_CUBIC_LOSSY / _LOSSY_LINK:.2%}), 100 ms"
    )
    pairs = _pairs(figures, "goodput", loss=1.0)
    number = slowest_link(network)
    rate = network.links[number].there.rate / 1e6 if number is not None else 0
    if not pairs or not rate or given.get("trace"):
        why = "needs bbr and cubic with --axis loss=1, one connection, and a link with a rate"
        return Claim.unmeasured(text, theirs, why)
    ours = "; ".join(
        f"{kernel}: {bbr:.3g} Mbit/s with BBR, {cubic:.3g} with CUBIC, "
        f"of {rate:g} ({bbr / rate:.1%} and {cubic / rate:.1%})"
        for kernel, (bbr, cubic) in pairs.items()
    )
    fills = all(bbr / rate >= (1 - _NEAR) * _BBR_LOSSY / _LOSSY_LINK for bbr, _ in pairs.values())
    if fills and all(cubic <= rate / 2 for _, cubic in pairs.values()):
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED)


def _random_loss_claim(figures: Figures) -> Claim:
    text = "BBR fills a link that loses packets at random, CUBIC does not"
    theirs = (
        f"BBR has rate x (1 - loss) until {_FILLS_UNTIL:g} % are lost, CUBIC a tenth of the link "
        f"at {_STALLS_FROM:g} %; 100 Mbit/s, 100 ms, 60 s (figure 8)"
    )
    ours, fills, stalls = [], [], []
    for kernel, cell in _measured(figures, "random_loss"):
        lost, link = cell.number("loss"), cell.number("rate") * _PAYLOAD
        if (value := figures.figure(kernel, cell).value) is None or not link:
            continue
        if cell["arm"] == "bbr" and lost <= _FILLS_UNTIL:
            fills.append(value / link / (1 - lost / 100))
            ours.append(f"{kernel}: BBR {fills[-1]:.0%} of that at {lost:g} %")
        if cell["arm"] == "cubic" and lost == _STALLS_FROM:
            stalls.append(value / link)
            ours.append(f"{kernel}: CUBIC {stalls[-1]:.1%} at {lost:g} %")
    if not fills or not stalls:
        return Claim.unmeasured(text, theirs, "needs bbr, and cubic with loss=0.1")
    both = (min(fills) >= 1 - _NEAR, max(stalls) <= _NEAR)
    why = "" if all(both) else f"reproduced is at least {1 - _NEAR:.0%}, and at most {_NEAR:.0%}"
    return Claim(text, theirs, "; ".join(ours), Finding.of(both), why)


def _bufferbloat_claim(figures: Figures) -> Claim:
    text = "BBR keeps the queue near its minimum however large the buffer is, CUBIC fills it"
    theirs = "so it looks in a plot of median RTTs over buffers of up to 1 MB (figure 10)"
    measured = _measured(figures, "bufferbloat")
    deepest = max((cell.number("buffer") for _, cell in measured), default=0)
    rtt, found = figures.shape.metric_named("rtt"), []
    for kernel, cell in measured:
        if cell["arm"] == "bbr" and cell.number("buffer") == deepest:
            bbr = figures.figure(kernel, cell, rtt).value
            cubic = figures.figure(kernel, cell.with_(arm="cubic"), rtt).value
            if bbr and cubic:
                found.append((kernel, cell.number("delay") / 1e3, bbr, cubic))
    if not found:
        return Claim.unmeasured(text, theirs, "needs bbr and cubic")
    ours = "; ".join(
        f"{kernel}: at {deepest:g} BDP {bbr * 1e3:.0f} ms with BBR, {cubic * 1e3:.0f} with CUBIC, "
        f"{delay * 1e3:g} of which are the link's"
        for kernel, delay, bbr, cubic in found
    )
    # BBR lets 2 BDP be under way (bbr_cwnd_gain in net/ipv4/tcp_bbr.c): a round trip of waiting.
    holds = all(bbr <= 2 * delay and bbr <= _ALIKE * cubic for _, delay, bbr, cubic in found)
    return Claim(text, theirs, ours, Finding.of([holds]))
