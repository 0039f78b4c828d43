"""The host's time stamp counter, whose frequency a guest under TCG must be told.

QEMU's TCG lets the guest read the host's counter (`cpu_get_ticks` in QEMU's
softmmu/cpu-timers.c), and Linux in the guest works out its frequency from an
emulated timer. On a busy host that fails about one boot in fifteen, and
`microvm` has no second clock to fall back on: the boot hangs. A frequency
given on the command line (`tsc_early_khz`, Linux >= 5.10) is exact and saves
the calibration.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from linklab.errors import LabError
from linklab.host.cache import cache_root
from linklab.host.run import run

VIRTUAL_TSC_KHZ = 1_000_000
"""In virtual time the counter goes on by one for each instruction, that is each ns
(`cpus_get_elapsed_ticks` returns `icount_get`, softmmu/cpus.c)."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def tsc_khz(agent: Path, root: Path | None = None) -> int:
    """Return the frequency in kHz, measured once for each boot of the host (0.1 s).

    `agent` is the agent's binary, which can measure it. `root` is the cache's.
    """
    boot = _BOOT_ID.read_text().strip()
    memo = (root or cache_root()) / "host" / f"tsc-khz-{boot}"
    with suppress(OSError, ValueError):
        return int(memo.read_text())
    text = run([agent, "--tsc-khz"], deadline=10).text
    try:
        khz = int(text)
    except ValueError:
        raise LabError(f"{agent} --tsc-khz printed {text!r} instead of a frequency") from None
    with suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        memo.write_text(f"{khz}\n")
    return khz
