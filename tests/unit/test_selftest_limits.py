"""How long a self-test may take, by either clock."""

from __future__ import annotations

import pytest

from linklab.host.accel import Accel
from linklab.machine.spec import Clock
from linklab.selftests.runner import DEFAULT, TCG_FACTOR, UNLIMITED, limit_of, patience


@pytest.mark.parametrize(
    ("settings", "accel", "clock", "asked", "limit"),
    [
        ("timeout=100\n", Accel.KVM, Clock.REAL, None, 100.0),
        ("timeout=100\n", Accel.TCG, Clock.REAL, None, 100.0 * TCG_FACTOR),
        ("timeout=100\n", Accel.TCG, Clock.VIRTUAL, None, 100.0),
        (None, Accel.TCG, Clock.VIRTUAL, None, DEFAULT),
        ("timeout=0\n", Accel.TCG, Clock.VIRTUAL, None, UNLIMITED),
        ("timeout=100\n", Accel.TCG, Clock.REAL, 7.0, 7.0),
        ("timeout=100\n", Accel.TCG, Clock.VIRTUAL, 7.0, 7.0),
    ],
)
def test_only_where_the_host_slows_a_guest_down_its_tests_may_take_longer(
    settings: str | None, accel: Accel, clock: Clock, asked: float | None, limit: float
) -> None:
    assert limit_of(settings, accel, clock, asked) == limit


def test_the_host_waits_several_times_as_long_in_virtual_time_and_longer_where_it_is_slow() -> None:
    assert patience(60, Clock.REAL) < patience(60, Clock.VIRTUAL) < patience(60, Clock.VIRTUAL, 4.0)
    assert patience(60, Clock.REAL, 4.0) == patience(60, Clock.REAL)
