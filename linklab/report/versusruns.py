"""Two stored runs compared: whether they may be, and what they say of B against A."""

from __future__ import annotations

from pathlib import Path

from linklab.report.compare import kernel_rows, together
from linklab.report.figures import seconds_are, timed_by
from linklab.report.versus import Row, Versus
from linklab.results.blocks import values_of
from linklab.results.comparison import Pair, Rule, compare
from linklab.results.model import Run
from linklab.results.work import Work


def versus_of_runs(one: tuple[Path, Run], other: tuple[Path, Run], rule: Rule) -> Versus:
    """Return what two runs say of each other, kernel by kernel and work by work.

    Their trials were not taken side by side, so what changed on the host
    between the runs counts as an effect. Raises `UsageError` where they must
    not be compared.
    """
    runs = together([one, other])
    values = [values_of(stored.run.samples) for stored in runs]
    pairs: dict[tuple[str, Work], Pair] = {}
    for row in kernel_rows(runs):
        title = " / ".join(dict.fromkeys(name for name in row.names if name))
        for work in sorted(values[0].keys() & values[1].keys()):
            a, b = (
                list(found[work].get(name or "", {}).values())
                for found, name in zip(values, row.names, strict=True)
            )
            if min(len(a), len(b)) >= 2:
                pairs[title, work] = Pair(a, b, paired=False)
    found = compare(pairs, rule)
    several = len({title for title, _ in pairs}) > 1
    rows = [Row(work, c, title if several else "") for (title, work), c in found.items()]
    about = one[1].about
    names = [stored.name for stored in runs]
    setting = f"{timed_by(about)}, two runs at different times"
    return Versus(names[0], names[1], rows, rule.threshold, seconds_are(about), setting)
