"""What is measured, what memory it takes, and how long it may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.host.accel import Accel
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import (
    MAX_COUNT,
    Plan,
    largest_count,
    memory_needed,
    time_limit,
)
from linklab.scenarios.grouping.ways import ARM_HELP, Arm

COUNTS = st.integers(1, MAX_COUNT)
CPUS = st.integers(1, 64)


def test_the_default_is_the_papers_experiment() -> None:
    plan = Plan()
    assert plan.counts == (128, 256, 512, 1024, 2048)
    assert set(plan.pairs()) == {(Operation.MTU, Arm.GROUP), (Operation.MTU, Arm.PROCESS)}


def test_every_pair_is_measured_but_the_two_that_a_group_cannot_do() -> None:
    assert len(Plan((1,), tuple(Operation), tuple(Arm), repeat=3).pairs()) == 7 * 5 - 2


def test_a_plan_with_nothing_that_can_be_done_has_no_pairs() -> None:
    assert Plan(operations=(Operation.GROUP, Operation.CREATE), arms=(Arm.GROUP,)).pairs() == []


def test_each_arm_has_a_word_of_help() -> None:
    assert set(ARM_HELP) == set(Arm)
    assert all(ARM_HELP.values())


@given(COUNTS, CPUS)
def test_the_largest_count_for_a_memory_is_the_largest_that_it_is_enough_for(
    count: int, cpus: int
) -> None:
    """What is refused and what is named as possible must not contradict each other."""
    memory = memory_needed(count, cpus)
    largest = largest_count(memory, cpus)
    assert largest >= count
    assert memory_needed(largest, cpus) <= memory < memory_needed(largest + 1, cpus)


@given(st.integers(0, 200), CPUS)
def test_a_memory_too_small_for_the_system_itself_holds_none(memory: int, cpus: int) -> None:
    assert largest_count(memory, cpus) >= 0
    if memory <= 64:
        assert largest_count(memory, cpus) == 0


@given(COUNTS, CPUS)
def test_more_interfaces_and_more_cpus_never_need_less_memory(count: int, cpus: int) -> None:
    assert memory_needed(count, cpus) <= memory_needed(count + 1, cpus)
    assert memory_needed(count, cpus) <= memory_needed(count, cpus + 1)


def test_memory_is_enough_for_what_was_measured() -> None:
    """37 KiB for an interface that is down, 41 for one that is up, and 64 MiB for the rest."""
    for count in (1, 128, 2048, 10_000, MAX_COUNT):
        assert memory_needed(count, 1) * 1024 >= 64 * 1024 + 41 * count


@pytest.mark.parametrize("accel", [Accel.KVM, Accel.TCG])
def test_limits_leave_room_for_what_a_loaded_host_takes(accel: Accel) -> None:
    """24 ms a process and 0.5 ms a message were measured under TCG."""
    for count in (1, 2048, 10_000, MAX_COUNT):
        assert time_limit(Arm.PROCESS, count, accel) > 2 * 0.024 * count
        assert time_limit(Arm.NETLINK, count, accel) > 2 * 0.0005 * count
        assert time_limit(None, count, accel) > 2 * 0.0005 * count
        assert time_limit(Arm.DUMP, count, accel) > time_limit(Arm.PROCESS, count, accel)
    assert time_limit(Arm.GROUP, 128, accel) < 120, "a hang at a small count is soon noticed"
