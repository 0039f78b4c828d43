"""What the 2011 paper says, read from it: "Network Interface Grouping in the
Linux Kernel", Dogaru, Purdila, Tapus, ICNS 2011, pages 131 to 135.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE = "Dogaru et al., ICNS 2011, Table I"


@dataclass(frozen=True)
class PaperRow:
    """Seconds to change the MTU of a number of dummy interfaces."""

    interfaces: int
    group: float
    process: float  # "No group"

    @property
    def ratio(self) -> float:
        """How many times faster the group is."""
        return self.process / self.group


TABLE_I: dict[str, tuple[PaperRow, ...]] = {
    "nosysfs": (
        PaperRow(128, 0.01, 0.49),
        PaperRow(256, 0.02, 1.11),
        PaperRow(512, 0.05, 2.57),
        PaperRow(1024, 0.17, 7.02),
        PaperRow(2048, 0.32, 21.74),
    ),
    "sysfs": (
        PaperRow(128, 0.01, 0.53),
        PaperRow(256, 0.03, 1.15),
        PaperRow(512, 0.06, 2.59),
        PaperRow(1024, 0.20, 7.51),
        PaperRow(2048, 0.36, 23.05),
    ),
}

CREATION_INTERFACES = 1024
CREATION_SECONDS = {"sysfs": 55.0, "nosysfs": 7.0}  # section V
IMAGE_BYTES = 13_000_000  # "little over 13 megabytes", section V
BOOT_SECONDS = 5.0  # "under 5 seconds", section V


def row(kernel: str, interfaces: int) -> PaperRow | None:
    """Return the paper's row for a kernel flavour and a number of interfaces."""
    for candidate in TABLE_I.get(kernel, ()):
        if candidate.interfaces == interfaces:
            return candidate
    return None
