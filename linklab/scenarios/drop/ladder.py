"""What others measured of dropping packets, and what a run says of it.

"The eXpress Data Path" (CoNEXT 2018, figures of github.com/tohojo/xdp-paper): a core of
a Xeon E5-1650, packets a second. "How to drop 10 million packets per second" (Cloudflare's
blog, 2018): the order of its ladder alone. The rules by which a claim counts as reproduced
were fixed before the first run. Instructions of an emulated CPU are no cycles: a cache
that misses costs nothing here, and that is most of what XDP spares.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.scenario import Claim, Finding

if TYPE_CHECKING:
    from linklab.results.figures import Figures

_RAW = 5_051_787  # packets a second
_THEIRS = (  # what it is there, its rate, and what it is here, with conntrack or without
    ("iptables in the filter table", 3_319_718, "iptables-input", "off"),
    ("the same with connection tracking", 1_819_409, "iptables-input", "on"),
    ("XDP, dropping", 24_379_188, "xdp-native", "off"),
    ("XDP, redirecting", 8_649_872, "xdp-redirect", "off"),
)
_ALIKE = 2.0  # times a published ratio, or a part of it: in part
_STEPS = (  # from the slowest; of the two in the middle the article's order is not held
    ("application",),
    ("socket-filter",),
    ("iptables-input",),
    ("iptables-raw", "nft-ingress"),
    ("tc-matchall",),
    ("xdp-native",),
)
_NO_CYCLES = "an emulated CPU's instructions are no cycles"


def claims(run: Run) -> list[Claim]:
    """Return every claim, those that this run cannot judge as not measured."""
    from linklab.results.figures import Figures  # brings numpy

    figures = Figures(run)
    return [*(_ratio(figures, *each) for each in _THEIRS), _order(figures)]


def _rates(figures: Figures, arm: str, tracked: str) -> dict[str, float]:
    """Return the median of the packets a second of one address, by kernel."""
    cell = Cell({"arm": arm, "addresses": 1, "held": "rules", "conntrack": tracked})
    return figures.by_kernel(cell)


def _ratio(figures: Figures, what: str, rate: int, arm: str, tracked: str) -> Claim:
    theirs = rate / _RAW
    text = f"{what}, against iptables in the raw table"
    published = f"{theirs:.3g} times as many packets a second, {rate:,} against {_RAW:,}"
    raw, rates = _rates(figures, "iptables-raw", "off"), _rates(figures, arm, tracked)
    ratios = {kernel: rates[kernel] / raw[kernel] for kernel in rates if raw.get(kernel)}
    if not ratios:
        why = f"needs iptables-raw with conntrack=off and {arm} with conntrack={tracked}"
        return Claim.unmeasured(text, published, why)
    ours = "; ".join(f"{kernel}: {ratio:.3g} times" for kernel, ratio in ratios.items())
    findings = {Finding.of_ratio(ratio, theirs, _ALIKE) for ratio in ratios.values()}
    worst = max(findings, key=list(Finding).index)
    why = "" if worst is Finding.REPRODUCED else _emulated(figures)
    return Claim(text, published, ours, worst, why)


def _emulated(figures: Figures) -> str:
    return _NO_CYCLES if figures.run.about.get("accel") == "tcg" else ""


def _order(figures: Figures) -> Claim:
    text = "the earlier a packet is dropped, the more of them (Cloudflare's ladder)"
    theirs = " < ".join(" or ".join(step) for step in _STEPS)
    arms = [arm for step in _STEPS for arm in step]
    rates = {arm: _rates(figures, arm, "off") for arm in arms}
    kernels = [kernel for kernel in figures.kernels if all(kernel in rates[arm] for arm in arms)]
    if not kernels:
        why = f"needs {', '.join(arms)} with conntrack=off"
        return Claim.unmeasured(text, theirs, why)
    of = {kernel: {arm: rates[arm][kernel] for arm in arms} for kernel in kernels}
    ours = "; ".join(f"{kernel}: {' < '.join(sorted(arms, key=of[kernel].get))}" for kernel in of)  # type: ignore[arg-type]
    steps = [(kernel, *step) for kernel in kernels for step in swapped(of[kernel])]
    if not steps:
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    names = ", ".join(f"{slow} before {fast}" for _, slow, fast in steps)
    why = "; ".join(filter(None, (names, _emulated(figures))))
    some = len(steps) <= len(kernels)
    return Claim(text, theirs, ours, Finding.IN_PART if some else Finding.NOT_REPRODUCED, why)


def swapped(rates: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the neighbours on the ladder of which the slower one is the faster one here."""
    return [
        (slow, fast)
        for lower, upper in pairwise(_STEPS)
        for slow in lower
        for fast in upper
        if rates[slow] >= rates[fast]
    ]
