"""The bench's networks in real guests, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.bench.networks import EXPERIMENTS, MEMORY, run_flow
from linklab.commands.bench import networked, prepare_networks
from linklab.commands.machines import MachineOptions
from linklab.events import ignore
from linklab.host.cache import Cache

pytestmark = pytest.mark.vm


def test_two_guests_send_equally_fast_over_a_link_of_a_gigabit(
    cache: Cache, tmp_path: Path
) -> None:
    machine = MachineOptions(clock="virtual")
    lab, subject = prepare_networks(networked("sysfs"), machine, MEMORY, cache, ignore)
    (fast,) = (experiment for experiment in EXPERIMENTS if experiment.link.rate == 1000)
    one, other = (run_flow(lab, subject, fast, tmp_path / "console.log") for _ in range(2))
    assert one.goodput == pytest.approx(other.goodput, rel=0.002)
    # Of each 1514 bytes that the link carries 1448 are the sender's.
    assert 0.97 < one.goodput / (1000 * 1448 / 1514) <= 1
    assert one.mean_rtt >= 2 * fast.link.delay
