"""What works on this machine: facts, each with what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.accel import Accel, decide
from linklab.host.cache import cache_root
from linklab.host.packages import NEEDS, ROOT, TESTING, Need
from linklab.host.qemu import PROGRAM
from linklab.host.run import run

DISK_NEEDED = 4_000_000_000
"""Bytes free in the cache folder: the source of Linux 6.12 is 1.7 GB unpacked
and the build of a flavour 0.2 GB; a patched source is another 1.7 GB."""

MEMORY_NEEDED = 1 << 30
"""Bytes available: two compilers at once, or a guest of 256 MiB beside them."""

_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+~-]*")
_MEMINFO = Path("proc/meminfo")


@dataclass(frozen=True)
class Finding:
    """One need of the lab: whether it is met here, and what to do if it is not.

    `version` is what was found, in words. The lab works without what is not
    `required`.
    """

    need: str
    found: bool
    version: str
    advice: str
    required: bool = True


def examine(needs: Sequence[Need] = NEEDS, root: Path = ROOT) -> list[Finding]:
    """Look at everything that the lab needs. Takes up to 4 s where KVM hangs."""
    return [
        *_packages(needs, root),
        *_python(),
        _processor(),
        _memory(root),
        _disk(cache_root()),
        *_packages(TESTING, root, required=False),
        _kvm(),
    ]


def in_a_line(findings: Sequence[Finding]) -> str:
    """Return whether all is well, and what is not, by name."""
    lacking = [each.need for each in findings if each.required and not each.found]
    if lacking:
        names = ", ".join(lacking)
        return f"not all is well: what the lab needs is not here: {names}. See `what to do`"
    optional = [each.need for each in findings if not each.found]
    without = f"; not here and not needed: {', '.join(optional)}" if optional else ""
    return f"all is well: everything that the lab needs is here{without}"


def healthy(findings: Sequence[Finding]) -> bool:
    """Return whether everything that is required was found."""
    return all(finding.found for finding in findings if finding.required)


def _packages(needs: Sequence[Need], root: Path, *, required: bool = True) -> Iterator[Finding]:
    """Yield what is found of packages; `setup` installs those that are required."""
    installed = _installed([name for need in needs for name in need.packages])
    for need in needs:
        if lacks := need.lacks(root):
            means = "`invoke setup` installs" if required else "optional; install"
            advice = f"{means} {need.packages[0]}: {need.why}"
            yield Finding(need.name, False, f"no {', '.join(lacks)}", advice, required)
        else:
            packaged = (installed[name] for name in need.packages if name in installed)
            version = _told_version(need) or next(packaged, "version unknown")
            yield Finding(need.name, True, version, "", required)


def _installed(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that dpkg has installed; none without dpkg."""
    if shutil.which("dpkg-query") is None:
        return {}
    form = "${Package} ${db:Status-Status} ${Version}\n"
    listed = run(["dpkg-query", "-W", "-f", form, *packages], check=False).text
    rows = (line.split() for line in listed.splitlines())
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def _told_version(need: Need) -> str:
    """Return the version that the program itself tells, or nothing."""
    if not need.version:
        return ""
    try:
        told = run(need.version, check=False, deadline=10)
    except LabError:
        return ""
    match = _VERSION.search((told.stdout + told.stderr).decode(errors="replace"))
    return match.group() if match else ""


def _kvm() -> Finding:
    try:
        decision = decide(Accel.AUTO, Path(PROGRAM), ignore, fresh=True)
    except LabError:
        return Finding("KVM", False, "not tried", "it takes QEMU to try it", required=False)
    if decision.accel is Accel.KVM:
        return Finding("KVM", True, "runs a guest", "", required=False)
    advice = f"{decision.reason}. TCG is used instead: everything works, only slower"
    return Finding("KVM", False, "does not run a guest", advice, required=False)


def _python() -> Iterator[Finding]:
    yield Finding("Python", True, platform.python_version(), "")
    for name in _requirements():
        try:
            yield Finding(f"Python: {name}", True, metadata.version(name), "")
        except metadata.PackageNotFoundError:
            yield Finding(f"Python: {name}", False, "not installed", "`pip install -e .`")


def _requirements() -> list[str]:
    """Return the names of the packages that linklab itself asks pip for."""
    try:
        wanted = metadata.requires("linklab") or []
    except metadata.PackageNotFoundError:
        return ["linklab"]
    return [re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line]


def _processor() -> Finding:
    count = len(os.sched_getaffinity(0))
    kind = platform.machine()
    advice = "" if kind == "x86_64" else "the lab builds and boots x86-64 kernels on x86-64 alone"
    return Finding("processor", not advice, f"{kind}, {count} CPUs", advice)


def _memory(root: Path) -> Finding:
    lines = (root / _MEMINFO).read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    enough = available >= MEMORY_NEEDED
    advice = f"end something: builds and guests take {MEMORY_NEEDED / 1e9:.1f} GB"
    return Finding(
        "memory", enough, f"{available / 1e9:.1f} GB available", "" if enough else advice
    )


def _disk(cache: Path) -> Finding:
    """Look at the file system that the cache folder is in, or will be made in."""
    there = next(path for path in (cache, *cache.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    version = f"{free / 1e9:.1f} GB free in {cache}"
    elsewhere = "or let LINKLAB_CACHE name another folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("disk", False, f"{there} may not be written", f"change that, {elsewhere}")
    enough = free >= DISK_NEEDED
    advice = f"two kernels take {DISK_NEEDED / 1e9:.0f} GB to build: make room, {elsewhere}"
    return Finding("disk", enough, version, "" if enough else advice)
