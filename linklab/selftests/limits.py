"""How long a self-test may take."""

from __future__ import annotations

from linklab.host.accel import Accel
from linklab.machine.spec import Clock
from linklab.selftests.checkout import Checkout

DEFAULT = 45.0
"""Seconds where a collection has no `settings` (kselftest/runner.sh)."""

UNLIMITED = 4 * 3600.0
"""Seconds where its `settings` say 0, which stands for no limit: a lab has one."""

TCG_FACTOR = 5.0
"""How much longer a test may take where the guest's CPU is emulated.

The kernel's limits are for hardware. Under TCG code runs ten times slower and
more, but most of a test is waiting, which takes no longer. In virtual time
nothing is slower for the guest, so there limits count as they are.
"""

# Host's s at most for one of a busy guest in virtual time, on a host of ordinary speed
# (ORDINARY_SPEED in linklab/host/accel.py) that does four times as much besides.
_BUSY_SECOND = 50.0
_ANSWER = 120.0  # s for an answer of a guest that is busy with a test


def settings_of(checkout: Checkout, collection: str) -> str | None:
    """Return the text of a collection's `settings`, None where it has none."""
    path = f"{collection}/settings"
    return checkout.read(path).decode(errors="replace") if checkout.has(path) else None


def limit_of(settings: str | None, accel: Accel, clock: Clock, asked: float | None) -> float:
    """Return the seconds that a test may take: the guest's in virtual time, else the host's.

    `settings` is the text of the collection's file, None without one; `asked`
    is what a person said, which counts as it is.
    """
    if asked is not None:
        return asked
    seconds = _timeout_in(settings) if settings is not None else None
    if seconds is None:
        seconds = DEFAULT
    if seconds == 0:
        return UNLIMITED
    is_slow = accel is Accel.TCG and clock is Clock.REAL
    return seconds * (TCG_FACTOR if is_slow else 1.0)


def patience(seconds: float, clock: Clock, slowness: float = 1.0) -> float:
    """Return how long the host waits for what takes a guest at most so many of its seconds.

    It guards against a guest that is lost, and is no limit of a test: a slow
    host is not a slow kernel. `slowness` is the lab's.
    """
    return _ANSWER + seconds * (slowness * _BUSY_SECOND if clock is Clock.VIRTUAL else 1.0)


def _timeout_in(settings: str) -> float | None:
    found = None
    for line in settings.splitlines():
        field, _, value = line.partition("=")
        if field.strip() == "timeout" and value.strip().isdigit():
            found = float(value)
    return found
