"""The kernel's taint: flags of what happened to it since it booted.

The bits are those of Documentation/admin-guide/tainted-kernels.rst.
"""

from __future__ import annotations

PATH = "/proc/sys/kernel/tainted"

# Bits that the kernel sets when something is wrong with it. The others tell what
# was done to it: modules, firmware, tests.
_FAULTS = {
    4: "M (machine check)",
    5: "B (bad page)",
    7: "D (it died once)",
    9: "W (warning)",
    14: "L (soft lockup)",
}


def read_taint(content: bytes) -> int | None:
    """Return the taint in what was read from `PATH`, None where it holds no number."""
    try:
        return int(content)
    except ValueError:
        return None


def new_faults(before: int | None, after: int | None) -> str:
    """Return in words what went wrong from `before` to `after`, empty for nothing."""
    if before is None or after is None:
        return ""
    new = after & ~before
    return ", ".join(words for bit, words in _FAULTS.items() if new & 1 << bit)
