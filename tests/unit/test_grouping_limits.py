"""What the grouping scenario measures by default, what memory it takes, how long it may take."""

from __future__ import annotations

import pytest
from experiments import EVERY_ARM
from hand_made import PAPER_COUNTS, cell
from hypothesis import given
from hypothesis import strategies as st

from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.scenarios import ScenarioOptions, memory_for
from linklab.errors import UsageError
from linklab.results.shape import Cell
from linklab.scenarios.grouping import ARMS, Grouping

MAX_COUNT = int(Grouping.shape.axis("interfaces").most)
COUNTS = st.integers(1, MAX_COUNT)
CPUS = st.integers(1, 64)


def memory_needed(count: int, cpus: int) -> int:
    return Grouping.memory(Cell({"interfaces": count}), cpus)


def limit(arm: str, count: int, *, emulated: bool) -> float:
    """The limit of an operation by an arm, or of upkeep."""
    each = cell("mtu", arm, count) if arm else Cell({"interfaces": count})
    return Grouping.limit(each, emulated=emulated)


def test_the_default_is_the_papers_experiment() -> None:
    found = ScenarioOptions().cells({})
    assert set(found) == {cell("mtu", a, n) for a in ("group", "process") for n in PAPER_COUNTS}
    assert len(found) == 10


def test_what_an_arm_cannot_do_is_left_out_and_with_nothing_left_the_reason_is_said() -> None:
    some = ScenarioOptions(operations="create,mtu", arms="group,process", counts="4")
    assert set(some.cells({})) == {
        cell("create", "process", 4),
        cell("mtu", "group", 4),
        cell("mtu", "process", 4),
    }
    with pytest.raises(UsageError, match=r"none of it can be measured: .* no members before"):
        ScenarioOptions(operations="create,group", arms="group").cells({})


def test_each_arm_has_a_word_of_help() -> None:
    assert set(ARMS) == set(Grouping.shape.axis("arm").among)
    assert all(ARMS.values())


@given(COUNTS, CPUS)
def test_more_interfaces_and_more_cpus_never_need_less_memory(count: int, cpus: int) -> None:
    assert memory_needed(count, cpus) <= memory_needed(count + 1, cpus)
    assert memory_needed(count, cpus) <= memory_needed(count, cpus + 1)


def test_memory_is_enough_for_what_was_measured() -> None:
    """37 KiB for an interface that is down, 41 for one that is up, and 64 MiB for the rest."""
    for count in (1, 128, 2048, 10_000, MAX_COUNT):
        assert memory_needed(count, 1) * 1024 >= 64 * 1024 + 41 * count


@pytest.mark.parametrize(("memory", "cpus"), [(128, 1), (128, 7), (200, 1), (1024, 3)])
def test_what_is_refused_and_what_is_named_as_possible_do_not_contradict_each_other(
    memory: int, cpus: int
) -> None:
    machine = MachineOptions(memory=str(memory), cpus=str(cpus))

    def needed(count: int) -> int:
        options = ScenarioOptions(counts=str(count), arms="group")
        return memory_for(machine, options.plan({}), KernelOptions())

    with pytest.raises(UsageError, match=f"{MAX_COUNT} interfaces.*at most [0-9]+ fit") as caught:
        needed(MAX_COUNT)
    (largest,) = (int(word) for word in caught.value.message.partition("at most")[2].split()[:1])
    assert needed(largest) == memory
    with pytest.raises(UsageError):
        needed(largest + 1)


@pytest.mark.parametrize("emulated", [False, True])
def test_limits_leave_room_for_what_a_loaded_host_takes(emulated: bool) -> None:
    """24 ms a process and 0.5 ms a message were measured under TCG."""
    for count in (1, 2048, 10_000, MAX_COUNT):
        assert limit("process", count, emulated=emulated) > 2 * 0.024 * count
        assert limit("netlink", count, emulated=emulated) > 2 * 0.0005 * count
        assert limit("", count, emulated=emulated) > 2 * 0.0005 * count
        dump = limit("dump", count, emulated=emulated)
        assert dump > limit("process", count, emulated=emulated)
    assert limit("group", 128, emulated=emulated) < 120, "a hang at a small count is soon noticed"


@pytest.mark.parametrize("arm", EVERY_ARM)
def test_an_emulated_guest_gets_more_time(arm: str) -> None:
    assert limit(arm, 1024, emulated=True) > limit(arm, 1024, emulated=False)
