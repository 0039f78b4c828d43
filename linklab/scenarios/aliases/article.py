"""What the article of 2012 and its follow-up say, and what a run says of their claims.

"Performance of Linux IP Aliased Network Interfaces", 2012: two hosts with RTL8169
cards and a Gigabit switch, iperf for 60 s, one for each alias; the sum of what the
senders said. The rules by which a claim counts as reproduced were fixed before
looking at figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from linklab.lab.topology import parse
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.scenario import Claim, Finding, Reference

if TYPE_CHECKING:
    from linklab.results.figures import Figures

# The frame's check sum, the preamble and the gap: what a wire carries beside the frame.
TOPOLOGY = "a -- b: 1gbit 50us queue=20000 overhead=24 coalesce=100us"
ARTICLE_ADDRESSES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 254)
_PAYLOAD, _FRAME = 1448, 1514
"""What a full segment carries, with time stamps, and what it is with its headers."""


def ceiling_of(rate: int, overhead: int) -> float:
    """Return the Mbit/s of payload that full frames carry over a link of so many bit/s."""
    return rate / 1e6 * _PAYLOAD / (_FRAME + overhead)


_KBITS = (
    *(615_216, 612_580, 616_071, 615_777, 616_686, 615_340, 618_838),
    *(622_344, 654_269, 640_364, 662_783, 658_962, 670_788),
)
_FOLLOW_UP = 990.8  # Mbit/s at 254 aliases
_RATE = 10**9
_CEILING = ceiling_of(_RATE, 24)
_RISE = _KBITS[-1] / _KBITS[0] - 1
_NEGLIGIBLE = 0.01
"""A cost of aliases below this part of the throughput is negligible."""
_MOST = ARTICLE_ADDRESSES[-1]


def _cell(arm: str, addresses: int) -> Cell:
    return Cell({"arm": arm, "addresses": addresses})


REFERENCE = Reference(
    title="the same in 2012, two RTL8169 and a Gigabit switch: the sum of the senders' averages",
    label="2012",
    source="the article, 2012, on hardware",
    points={
        (kernel, _cell("aliases", addresses)): kbits / 1000
        for kernel in ("nosysfs", "sysfs")
        for addresses, kbits in zip(ARTICLE_ADDRESSES, _KBITS, strict=True)
    },
)


def claims(run: Run) -> list[Claim]:
    """Return every claim, those that this run cannot judge as not measured."""
    from linklab.results.figures import Figures  # brings numpy

    figures = Figures(run)
    way = parse(str((run.plan.get("given") or {}).get("topology") or TOPOLOGY)).links[0].there
    found = [_rise(figures), _impossible(figures, ceiling_of(way.rate, way.overhead))]
    if way.rate != _RATE:
        why = "needs a link of 1gbit, as the article's"
        found = [Claim.unmeasured(each.text, each.theirs, why) for each in found]
    return [*found, _overhead(figures)]


def _values(figures: Figures, kernel: str, arm: str, addresses: int, metric: str) -> list[float]:
    samples = figures.samples(kernel, _cell(arm, addresses))
    return [sample.metrics[metric] for sample in samples if sample.verified]


def _both(
    figures: Figures, one: tuple[str, int], other: tuple[str, int], metric: str
) -> list[tuple[str, list[float], list[float]]]:
    """Return each kernel's values in two cells, of kernels that have both."""
    found = (
        (k, _values(figures, k, *one, metric), _values(figures, k, *other, metric))
        for k in figures.kernels
    )
    return [each for each in found if each[1] and each[2]]


def _rise(figures: Figures) -> Claim:
    text = "throughput rises with the number of aliases"
    theirs = f"{_RISE:+.1%} from 1 to {_MOST}"
    one, many = (figures.by_kernel(_cell("aliases", n), "goodput") for n in (1, _MOST))
    rises = {kernel: many[kernel] / one[kernel] - 1 for kernel in one if kernel in many}
    if not rises:
        return Claim.unmeasured(text, theirs, f"needs aliases at 1 and {_MOST} addresses")
    ours = "; ".join(f"{kernel} {rise:+.2%}" for kernel, rise in rises.items())
    if min(rises.values()) >= _RISE / 2:
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    why = (
        "one connection fills the link here; the article's was held back at 615 of 941 Mbit/s, "
        "and its figure counts what senders wrote, not what arrived"
    )
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED, why)


def _impossible(figures: Figures, ceiling: float) -> Claim:
    text = "the senders' averages add up to more than the link carries"
    theirs = f"{_FOLLOW_UP} Mbit/s at {_MOST}, where {_CEILING:.1f} is all that fits"
    sums = figures.by_kernel(_cell("aliases", _MOST), "senders_sum")
    if not sums:
        return Claim.unmeasured(text, theirs, f"needs aliases at {_MOST} addresses")
    goodputs = figures.by_kernel(_cell("aliases", _MOST), "goodput")
    ours = "; ".join(
        f"{kernel} {total:.1f} Mbit/s, of which {goodputs[kernel]:.1f} arrive"
        for kernel, total in sums.items()
    )
    ours += f"; {ceiling:.1f} fit"
    if all(total > ceiling for total in sums.values()):
        why = "an average over a sender's own time counts bytes that still wait in its buffers"
        return Claim(text, theirs, ours, Finding.REPRODUCED, why)
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED)


def _overhead(figures: Figures) -> Claim:
    text = "the overhead of aliases is nearly negligible"
    theirs = "no figure"
    counts = [n for n in reversed(ARTICLE_ADDRESSES) if _both_arms(figures, n)]
    if not counts:
        return Claim.unmeasured(
            text,
            theirs,
            "needs the arms aliases and flows at one count",
        )
    count = counts[0]
    parts, costs = [], []
    for kernel, aliases, flows in _both(figures, ("aliases", count), ("flows", count), "goodput"):
        cost = 1 - median(aliases) / median(flows)
        costs.append(cost)
        parts.append(f"{kernel} {cost:+.2%} of goodput{_range(aliases, flows)}")
        for side in ("sender", "receiver"):
            metric = f"{side}_seconds"
            one, other = (
                median(_values(figures, kernel, arm, count, metric)) for arm in ("aliases", "flows")
            )
            parts.append(f"{one / other - 1:+.2%} of the {side}'s CPU")
    ours = f"at {count}: {', '.join(parts)}"
    if max(costs) < _NEGLIGIBLE:
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED)


def _both_arms(figures: Figures, count: int) -> bool:
    return bool(_both(figures, ("aliases", count), ("flows", count), "goodput"))


def _range(aliases: Sequence[float], flows: Sequence[float]) -> str:
    """Return the least and the most that a trial of one and a trial of the other give."""
    if len(aliases) < 2 or len(flows) < 2:
        return " (one trial each)"
    least, most = 1 - max(aliases) / min(flows), 1 - min(aliases) / max(flows)
    return f" ({least:+.2%} to {most:+.2%})"
