"""A kernel that is slower by a known amount: what a comparison must find."""

from __future__ import annotations

from dataclasses import replace

from linklab.lab.lab import Subject
from linklab.paths import IMAGES

PATCH = IMAGES / "kernel" / "patches" / "slow-group.patch"
PARAMETER = "linklab_group_loops"  # as the patch has it
FIRST_LOOPS = 4000
STEP = 4
CLEARLY = 1.5
"""The ratio from which on the loops' cost is measured: well above what chance
gives in a few blocks."""
MOST_LOOPS = 1 << 30  # it is an unsigned int


def slowed(subject: Subject, loops: int, name: str = "") -> Subject:
    """Return the patched kernel, told to loop so often for each interface."""
    parameters = (f"{PARAMETER}={loops}",)
    return replace(subject, parameters=parameters, name=name or f"{subject.name} ({loops} loops)")
