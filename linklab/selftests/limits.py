"""How long a self-test may take."""

from __future__ import annotations

from linklab.host.accel import Accel
from linklab.selftests.checkout import Checkout

DEFAULT = 45.0
"""Seconds where a collection has no `settings` (kselftest/runner.sh)."""

UNLIMITED = 4 * 3600.0
"""Seconds where its `settings` say 0, which stands for no limit: a lab has one."""

TCG_FACTOR = 5.0
"""How much longer a test may take where the guest's CPU is emulated.

The kernel's limits are for hardware. Under TCG code runs ten times slower and
more, but most of a test is waiting, which takes no longer.
"""


def settings_of(checkout: Checkout, collection: str) -> str | None:
    """Return the text of a collection's `settings`, None where it has none."""
    path = f"{collection}/settings"
    return checkout.read(path).decode(errors="replace") if checkout.has(path) else None


def limit_of(settings: str | None, accel: Accel, asked: float | None) -> float:
    """Return the seconds that a test may take on the host's clock.

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
    return seconds * (TCG_FACTOR if accel is Accel.TCG else 1.0)


def _timeout_in(settings: str) -> float | None:
    found = None
    for line in settings.splitlines():
        field, _, value = line.partition("=")
        if field.strip() == "timeout" and value.strip().isdigit():
            found = float(value)
    return found
