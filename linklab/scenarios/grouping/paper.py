"""What the 2011 paper says, read from it, and what a run says of its claims.

"Network Interface Grouping in the Linux Kernel", Dogaru, Purdila, Tapus, ICNS
2011, pages 131 to 135. The rules by which a claim counts as reproduced were
fixed before looking at figures: a lab that tunes until it agrees proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from statistics import fmean

from linklab.numbers import ratio_text, seconds_text
from linklab.results.figures import VIRTUAL, Figures
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.scenario import Claim, Finding, Reference

# Table I: seconds to change the MTU of N dummy interfaces, by group and "No group".
TABLE_I: dict[str, dict[int, tuple[float, float]]] = {
    "nosysfs": {
        128: (0.01, 0.49),
        256: (0.02, 1.11),
        512: (0.05, 2.57),
        1024: (0.17, 7.02),
        2048: (0.32, 21.74),
    },
    "sysfs": {
        128: (0.01, 0.53),
        256: (0.03, 1.15),
        512: (0.06, 2.59),
        1024: (0.20, 7.51),
        2048: (0.36, 23.05),
    },
}
CREATION_INTERFACES = 1024
CREATION_SECONDS = {"sysfs": 55.0, "nosysfs": 7.0}  # section V
IMAGE_BYTES = 13_000_000  # "little over 13 megabytes", section V
BOOT_SECONDS = 5.0  # "under 5 seconds", section V
_NOISE = 1.1
"""A ratio nearer to 1 than this, from a run that may be single samples, is no difference."""
_SOURCE = "Dogaru et al., ICNS 2011, Table I"


def _cell(arm: str, count: int, operation: str = "mtu") -> Cell:
    return Cell({"operation": operation, "arm": arm, "interfaces": count})


REFERENCE = Reference(
    title=f"the same in 2011, under KVM ({_SOURCE})",
    label="2011",
    source="the paper, 2011, under KVM",
    points={
        (kernel, _cell(arm, count)): seconds
        for kernel, rows in TABLE_I.items()
        for count, both in rows.items()
        for arm, seconds in zip(("group", "process"), both, strict=True)
    },
)


def claims(run: Run) -> list[Claim]:
    """Return every claim, those that this run cannot judge as not measured."""
    figures = Figures(run)
    return [_group_gains(figures), _creation(figures), _image(figures), _boot(figures)]


def _group_gains(figures: Figures) -> Claim:
    text = "one request for a group is faster, by a factor that grows with the interfaces"
    sheet = Cell({"operation": "mtu"})
    counts = [int(count) for count in figures.rows(sheet)]
    kernels = [name for name in figures.kernels if name in TABLE_I] or figures.kernels
    theirs = _paper_ratios(counts, [name for name in kernels if name in TABLE_I])
    rows = {name: [figures.ratio(name, _cell("", count)) for count in counts] for name in kernels}
    known = {name: [r for r in row if r is not None] for name, row in rows.items()}
    if not known or any(len(row) < 2 for row in known.values()):
        why = "needs `mtu` with the arms group and process at two counts or more"
        return Claim.unmeasured(text, theirs, why)
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
    for name in kernels or list(TABLE_I):
        rows = TABLE_I[name]
        shown = [count for count in counts if count in rows] or list(rows)
        parts.append(_from_to(name, [rows[count][1] / rows[count][0] for count in shown]))
    return "; ".join(parts)


def _creation(figures: Figures) -> Claim:
    text = "creating interfaces is faster without sysfs than with it"
    with_, without = CREATION_SECONDS["sysfs"], CREATION_SECONDS["nosysfs"]
    theirs = (
        f"{with_:.0f} s with, {without:.0f} s without at {CREATION_INTERFACES} "
        f"({ratio_text(with_ / without)})"
    )
    made = {
        count: tuple(
            figures.set_up(kernel, _cell("netlink", int(count), "create"))
            for kernel in ("sysfs", "nosysfs")
        )
        for count in figures.set_up_values("interfaces")
    }
    ratios = {int(count): (slow, fast) for count, (slow, fast) in made.items() if slow and fast}
    if not ratios:
        return Claim.unmeasured(text, theirs, "needs both flavours in one run")
    shown = CREATION_INTERFACES if CREATION_INTERFACES in ratios else max(ratios)
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
    theirs = f"little over {IMAGE_BYTES / 1e6:.0f} MB"
    sizes = [kernel.image_bytes for kernel in figures.run.kernels if kernel.image_bytes]
    if not sizes:
        return Claim.unmeasured(text, theirs, "`invoke build-iso` tells")
    finding = Finding.of([max(sizes) < IMAGE_BYTES])
    return Claim(text, theirs, f"{max(sizes) / 1e6:.2f} MB", finding)


def _boot(figures: Figures) -> Claim:
    text = "the machine boots in under 5 s"
    theirs = f"under {BOOT_SECONDS:.0f} s"
    if figures.run.about["boot"] == "resume":
        why = "guests were resumed, not booted"
        return Claim.unmeasured(text, theirs, why)
    if figures.run.about.get("clock") == VIRTUAL:
        why = "a boot takes longer while its instructions are counted: `--clock real` tells"
        return Claim.unmeasured(text, theirs, why)
    seconds = figures.boot_seconds()
    if seconds is None:
        return Claim.unmeasured(text, theirs)
    boots = len(figures.run.boots)
    ours = f"{seconds:.2f} s (median of {boots}, {figures.run.about['boot']} boot)"
    finding = Finding.of([seconds < BOOT_SECONDS])
    return Claim(text, theirs, ours, finding)
