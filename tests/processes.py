"""Processes that have to be gone."""

from __future__ import annotations

import time
from pathlib import Path


def is_gone(pid: int) -> bool:
    """Whether a process is gone, or dead and only not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pid: int, seconds: float = 20.0) -> None:
    """Wait for it; fails when it takes longer than on the slowest machine."""
    until = time.monotonic() + seconds
    while not is_gone(pid):
        assert time.monotonic() < until, f"process {pid} is still there after {seconds} s"
        time.sleep(0.01)
