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


def descendant_named(ancestor: int, name: str) -> int:
    """Return a process that another one started, or one of those that it started."""
    parents, named = {}, []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat, words = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        if name.encode() in words.partition(b"\0")[0]:
            named.append(int(entry.name))
    for found in named:
        process = found
        while process in parents:
            process = parents[process]
            if process == ancestor:
                return found
    raise AssertionError(f"process {ancestor} started no {name}")
