"""The host's CPUs: their cores, who runs on which, and their time stamp counter.

QEMU's TCG lets the guest read the host's counter (`cpu_get_ticks` in QEMU's
softmmu/cpu-timers.c), and Linux in the guest works out its frequency from an
emulated timer. On a busy host that fails about one boot in fifteen, and
`microvm` has no second clock to fall back on: the boot hangs. A frequency
given on the command line (`tsc_early_khz`, Linux >= 5.10) is exact and saves
the calibration.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from linklab.errors import LabError
from linklab.host.cache import host_fact
from linklab.host.run import run

VIRTUAL_TSC_KHZ = 1_000_000
"""In virtual time the counter goes on by one for each instruction, that is each ns
(`cpus_get_elapsed_ticks` returns `icount_get`, softmmu/cpus.c)."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SYSTEM = Path("/sys/devices/system/cpu")


def own_cores(system: Path = SYSTEM) -> list[frozenset[int]]:
    """Return the cores that this process may use, each as those of its CPUs that it may use."""
    allowed = os.sched_getaffinity(0)
    return sorted({_siblings(cpu, system) & allowed for cpu in allowed}, key=min)


def _siblings(cpu: int, system: Path) -> frozenset[int]:
    """Return the CPUs of a core, by any of them; where the host does not say, that one alone."""
    try:
        text = (system / f"cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return frozenset({cpu})
    return parse_cpu_list(text) | {cpu}


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the CPUs in a list as the kernel writes it: 0-2,8 (cpuset(7), "List format")."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def share_out(jobs: int, cpus: int, cores: Sequence[frozenset[int]]) -> list[frozenset[int]] | None:
    """Return CPUs for each of `jobs` machines with `cpus` CPUs, no core given twice.

    None where there are not enough cores for that.
    """
    if jobs * cpus > len(cores):
        return None
    return [
        frozenset(min(core) for core in cores[first : first + cpus])
        for first in range(0, jobs * cpus, cpus)
    ]


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Let a process, with all threads that it has by now, run on these CPUs alone.

    A process that has ended meanwhile is none to pin: who uses it will notice.
    """
    allowed = set(cpus)
    try:
        threads = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return
    for thread in threads:
        try:
            os.sched_setaffinity(thread, allowed)
        except ProcessLookupError:
            continue


def tsc_khz(agent: Path, root: Path | None = None) -> int:
    """Return the counter's frequency in kHz, measured once for each boot of the host (0.1 s).

    `agent` is the agent's binary, which can measure it. `root` is the cache's.
    """

    def ask() -> str:
        text = run([agent, "--tsc-khz"], deadline=10).text
        if not text.isdecimal():
            raise LabError(f"{agent} --tsc-khz printed {text!r} instead of a frequency")
        return text

    return host_fact(f"tsc-khz-{_BOOT_ID.read_text().strip()}", int, ask, root)
