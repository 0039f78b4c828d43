"""The paper's claims, one by one: its figure, ours, reproduced or not.

The rules stand here and nowhere else, and they were fixed before looking at
figures: a lab that tunes until it agrees proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, log
from statistics import fmean

from linklab.report import paper
from linklab.report.figures import VIRTUAL, Figures, ratio_text, seconds_text


class Finding(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    IN_PART = "in part"
    NOT_REPRODUCED = "not reproduced"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, its figure, ours, and what to say of them."""

    text: str
    theirs: str
    ours: str
    finding: Finding
    why: str = ""


_NOISE = 1.1
"""A ratio nearer to 1 than this, from a run that may be single samples, is no difference."""


def claims(figures: Figures) -> list[Claim]:
    """Return every claim, those that this run cannot judge as not measured."""
    return [_group_gains(figures), _creation(figures), _image(figures), _boot(figures)]


def _group_gains(figures: Figures) -> Claim:
    text = "one request for a group is faster, by a factor that grows with the interfaces"
    counts = figures.counts("mtu")
    kernels = [name for name in figures.kernels if name in paper.TABLE_I] or figures.kernels
    theirs = _paper_ratios(counts, [name for name in kernels if name in paper.TABLE_I])
    rows = {name: [figures.ratio("mtu", name, count) for count in counts] for name in kernels}
    known = {name: [r for r in row if r is not None] for name, row in rows.items()}
    if not known or any(len(row) < 2 for row in known.values()):
        return Claim(
            text,
            theirs,
            "-",
            Finding.NOT_MEASURED,
            "needs `mtu` with the arms group and process at two counts or more",
        )
    ours = "; ".join(_from_to(name, row) for name, row in known.items())
    faster = all(ratio > 1 for row in known.values() for ratio in row)
    growing = all(row[-1] > row[0] for row in known.values())
    if not faster:
        why = "the group is not faster at every count"
        return Claim(text, theirs, ours, Finding.NOT_REPRODUCED, why)
    if not growing:
        why = "the factor is not larger at the most interfaces than at the fewest"
        return Claim(text, theirs, ours, Finding.IN_PART, why)
    return Claim(text, theirs, ours, Finding.REPRODUCED)


def _from_to(name: str, ratios: Sequence[float]) -> str:
    if len(ratios) == 1:
        return f"{name} {ratio_text(ratios[0])}"
    return f"{name} {ratio_text(ratios[0])} to {ratio_text(ratios[-1])}"


def _paper_ratios(counts: Sequence[int], kernels: Sequence[str]) -> str:
    parts = []
    for name in kernels or list(paper.TABLE_I):
        rows = [found for count in counts if (found := paper.row(name, count))]
        rows = rows or list(paper.TABLE_I[name])
        parts.append(_from_to(name, [found.ratio for found in rows]))
    return "; ".join(parts)


def _creation(figures: Figures) -> Claim:
    text = "creating interfaces is faster without sysfs than with it"
    with_, without = paper.CREATION_SECONDS["sysfs"], paper.CREATION_SECONDS["nosysfs"]
    theirs = (
        f"{with_:.0f} s with, {without:.0f} s without at {paper.CREATION_INTERFACES} "
        f"({ratio_text(with_ / without)})"
    )
    ratios = {}
    for count in figures.creation_counts(["sysfs", "nosysfs"]):
        slow, fast = figures.creation("sysfs", count), figures.creation("nosysfs", count)
        if slow and fast:
            ratios[count] = (slow, fast)
    if not ratios:
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, "needs both flavours in one run")
    shown = paper.CREATION_INTERFACES if paper.CREATION_INTERFACES in ratios else max(ratios)
    slow, fast = ratios[shown]
    factor = exp(fmean(log(s / f) for s, f in ratios.values()))
    ours = (
        f"{seconds_text(slow)} s with, {seconds_text(fast)} s without at {shown} "
        f"({ratio_text(factor)} over all counts)"
    )
    if factor >= (with_ / without) ** 0.5:
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    why = "sysfs looks names up in a tree since 2011, and walked a list before"
    if factor >= _NOISE:
        return Claim(text, theirs, ours, Finding.IN_PART, f"the direction, not the size: {why}")
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED, why)


def _image(figures: Figures) -> Claim:
    text = "the whole live image is small"
    theirs = f"little over {paper.IMAGE_BYTES / 1e6:.0f} MB"
    sizes = [kernel.image_bytes for kernel in figures.run.kernels if kernel.image_bytes]
    if not sizes:
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, "`invoke build-iso` tells")
    finding = Finding.REPRODUCED if max(sizes) < paper.IMAGE_BYTES else Finding.NOT_REPRODUCED
    return Claim(text, theirs, f"{max(sizes) / 1e6:.2f} MB", finding)


def _boot(figures: Figures) -> Claim:
    text = "the machine boots in under 5 s"
    theirs = f"under {paper.BOOT_SECONDS:.0f} s"
    if figures.run.about["boot"] == "resume":
        why = "guests were resumed, not booted"
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, why)
    if figures.run.about.get("clock") == VIRTUAL:
        why = "a boot takes longer while its instructions are counted: `--clock real` tells"
        return Claim(text, theirs, "-", Finding.NOT_MEASURED, why)
    seconds = figures.boot_seconds()
    if seconds is None:
        return Claim(text, theirs, "-", Finding.NOT_MEASURED)
    boots = len(figures.run.boots)
    ours = f"{seconds:.2f} s (median of {boots}, {figures.run.about['boot']} boot)"
    finding = Finding.REPRODUCED if seconds < paper.BOOT_SECONDS else Finding.NOT_REPRODUCED
    return Claim(text, theirs, ours, finding)
