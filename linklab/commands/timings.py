"""`--timings`: where a command's time went, stage by stage, on the host's clock."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table


def seconds_since_start(stat: Path = Path("/proc/self/stat")) -> float:
    """Return how long this process has lived, to the kernel's tick of 10 ms."""
    fields = stat.read_text().rpartition(")")[2].split()
    ticks = int(fields[19])  # starttime, the 22nd field of proc_pid_stat(5)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def print_timings(stages: Mapping[str, float]) -> None:
    """Print each stage to standard error; one that is part of another counts in both."""
    table = Table(title="where the time went", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage, seconds in stages.items():
        table.add_row(stage, f"{seconds:.3f}")
    table.add_row("whole command, so far", f"{seconds_since_start():.3f}")
    Console(file=sys.stderr, highlight=False).print(table)
