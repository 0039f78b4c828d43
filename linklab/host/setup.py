"""Installs the Debian packages that are missing, and nothing else.

Root is asked for only when something is missing, and only through sudo. Where
there is neither, the error is the command that a person with root types.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from linklab.errors import LabError
from linklab.events import Listener, Note
from linklab.host.apt import Apt, candidates, lists_age
from linklab.host.packages import NEEDS, ROOT, Need, unmet
from linklab.host.run import run, start

_FRESH = 24 * 3600.0
"""Seconds for which package lists are taken as they are: Debian's archive
changes four times a day, and a package that was replaced cannot be fetched."""


@dataclass(frozen=True)
class SetupOutcome:
    """What `setup` did: the packages that it installed; none when nothing was missing."""

    installed: tuple[str, ...]
    seconds: float


class Privilege(Enum):
    """How root is to be had; where it is not, the value says why."""

    ROOT = "this is root"
    SUDO = "sudo lets this user in"
    SUDO_ASKS = "sudo said no"
    NO_TERMINAL = "sudo wants a password, with no terminal to type it on"
    NO_SUDO = "there is no sudo"


def setup(
    listener: Listener,
    *,
    needs: Sequence[Need] = NEEDS,
    root: Path = ROOT,
    superuser: bool | None = None,
    terminal: bool | None = None,
) -> SetupOutcome:
    """Install what `needs` lacks on this machine; at once when that is nothing.

    `root` is where the needs' files and apt's lists are looked for;
    `superuser` and `terminal` are found out when they are not given.
    Raises `LabError`: on a system without apt, for a package that does not
    exist here, when apt fails, and, without root and sudo, with the command
    to type.
    """
    began = time.monotonic()
    missing = unmet(needs, root)
    if not missing:
        return SetupOutcome((), time.monotonic() - began)
    if shutil.which("apt-get") is None:
        raise LabError(
            "there is no apt-get, so this is no Debian. Install with your own tools:\n"
            + "\n".join(f"  {need.name}: {', '.join(need.lacks(root))}" for need in missing)
        )
    means = privilege(
        os.geteuid() == 0 if superuser is None else superuser,
        sys.stdin.isatty() if terminal is None else terminal,
    )
    chosen = _install(missing, means, root, listener)
    if still := unmet(missing, root):
        raise LabError(
            f"{' '.join(chosen)}: installed, and still not found:\n"
            + "\n".join(f"  {need.name}: {', '.join(need.lacks(root))}" for need in still)
        )
    return SetupOutcome(chosen, time.monotonic() - began)


def privilege(superuser: bool, terminal: bool) -> Privilege:
    """Find out how root is to be had, without asking anybody anything."""
    if superuser:
        return Privilege.ROOT
    if shutil.which("sudo") is None:
        return Privilege.NO_SUDO
    if run(["sudo", "-n", "true"], check=False, deadline=30).returncode == 0:
        return Privilege.SUDO
    return Privilege.SUDO_ASKS if terminal else Privilege.NO_TERMINAL


def command(packages: Sequence[str]) -> str:
    """Return what a person with root types to install the packages."""
    return f"apt-get update && apt-get install --no-install-recommends -y {' '.join(packages)}"


def _install(
    missing: Sequence[Need], means: Privilege, root: Path, listener: Listener
) -> tuple[str, ...]:
    available = candidates(_names(missing))
    refused = means in (Privilege.NO_SUDO, Privilege.NO_TERMINAL)
    if refused or (means is Privilege.SUDO_ASKS and not _password_given(listener)):
        raise LabError(_typed_by_root(missing, available, means))
    apt = Apt(listener, () if means is Privilege.ROOT else ("sudo",))
    said = ""
    preferred = {need.packages[0] for need in missing}
    if not preferred <= available or lists_age(root) > _FRESH:
        said = apt.update()
        available = candidates(_names(missing))
    if unknown := [need for need in missing if not available & set(need.packages)]:
        raise LabError(_not_to_be_had(unknown), said)
    chosen = tuple(_choice(need, available) for need in missing)
    apt.install(chosen)
    return chosen


def _names(needs: Sequence[Need]) -> tuple[str, ...]:
    return tuple(name for need in needs for name in need.packages)


def _choice(need: Need, available: frozenset[str]) -> str:
    """Return the preferred package of those there are; the first while none is known."""
    return next((name for name in need.packages if name in available), need.packages[0])


def _typed_by_root(missing: Sequence[Need], available: frozenset[str], means: Privilege) -> str:
    names = ", ".join(need.name for need in missing)
    packages = [_choice(need, available) for need in missing]
    return (
        f"not installed: {names}. Installing takes root, and {means.value}. As root, type:\n"
        f"{command(packages)}"
    )


def _not_to_be_had(unknown: Sequence[Need]) -> str:
    wanted = "; ".join(f"{' or '.join(need.packages)} ({need.name})" for need in unknown)
    return (
        f"no such package here: {wanted}. Debian 12 and 13 have it in main: "
        "see /etc/apt/sources.list and /etc/apt/sources.list.d"
    )


def _password_given(listener: Listener) -> bool:
    """Let sudo ask for the password now, while nothing else is on the terminal."""
    listener(Note("packages are missing, and installing them takes root: sudo asks for a password"))
    # No deadline: a person is typing, and Ctrl-C ends it.
    return start(["sudo", "-v"], stdin=None, stdout=None, stderr=None).wait() == 0
