"""The QEMU on this host."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import LabError
from linklab.host.cache import host_fact, key_of
from linklab.host.run import run

PROGRAM = "qemu-system-x86_64"


@dataclass(frozen=True)
class Qemu:
    """A QEMU: where it is and what it calls itself, as in 7.2.22.

    Sent to another host it is the one of that host, which must be of the same version.
    """

    path: Path
    version: str

    def __reduce__(self) -> tuple[Callable[[str], Qemu], tuple[str]]:
        return _of_this_host, (self.version,)


def _of_this_host(version: str) -> Qemu:
    """Return this host's QEMU. Raises `LabError` where that is of another version."""
    found = find_qemu()
    if found.version != version:
        raise LabError(f"QEMU {version} is expected, and this host has {found.version}")
    return found


def find_qemu(root: Path | None = None) -> Qemu:
    """Return the QEMU that the shell would start.

    Its version is asked for once (20 ms) and remembered for as long as the
    file does not change. Raises `LabError` when there is none.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise LabError(f"{PROGRAM} is not installed: `invoke setup` installs it")
    path = Path(found)

    def ask() -> str:
        said = run([path, "--version"], deadline=20).text
        version = re.search(r"version (\d+(?:\.\d+)+)", said)
        if not version:
            raise LabError(f"{path} --version says {said!r}: that is no QEMU")
        return version[1]

    stat = path.stat()
    key = key_of({"path": str(path.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns})
    return Qemu(path, host_fact(f"qemu-version-{key}", str.strip, ask, root))
