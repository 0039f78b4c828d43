"""The order of a run's trials: shuffled, interleaved, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.schedule import Seat, Turn, schedule
from linklab.scenarios.grouping.ways import Arm

PLANS = st.builds(
    Plan,
    counts=st.lists(st.integers(1, 5000), min_size=1, max_size=3, unique=True).map(tuple),
    operations=st.lists(st.sampled_from(Operation), min_size=1, unique=True).map(tuple),
    arms=st.lists(st.sampled_from(Arm), min_size=1, unique=True).map(tuple),
    repeat=st.integers(1, 3),
    warmup=st.integers(0, 2),
    seed=st.integers(0, 2**32),
    fresh_guest=st.booleans(),
)
KERNELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
ROOM = st.integers(1, 5)


def everything(plan: Plan, kernels: list[str]) -> Counter[object]:
    return Counter(
        (kernel, count, operation, arm, number)
        for kernel in kernels
        for count in plan.counts
        for operation, arm in plan.pairs()
        for number in range(1 - plan.warmup, plan.repeat + 1)
    )


def spans(turns: list[Turn]) -> dict[Seat, tuple[int, int]]:
    """From which turn to which each guest is needed."""
    found: dict[Seat, tuple[int, int]] = {}
    for at, turn in enumerate(turns):
        found[turn.seat] = (found.get(turn.seat, (at, at))[0], at)
    return found


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_everything_is_done_as_often_as_asked_and_nothing_else(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    done = Counter((t.seat.kernel, t.seat.count, t.operation, t.arm, t.number) for t in turns)
    assert done == everything(plan, kernels)


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_the_same_seed_gives_the_same_order(plan: Plan, kernels: list[str], room: int) -> None:
    assert schedule(plan, kernels, room) == schedule(plan, kernels, room)


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_no_more_guests_are_needed_at_a_time_than_there_is_room_for(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    needed = spans(turns)
    for at in range(len(turns)):
        open_now = [seat for seat, (first, last) in needed.items() if first <= at <= last]
        assert len(open_now) <= room


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_a_guest_has_one_kernel_and_one_count_and_its_number_is_its_own(
    plan: Plan, kernels: list[str], room: int
) -> None:
    seats = spans(schedule(plan, kernels, room))
    assert len({seat.number for seat in seats}) == len(seats)
    if plan.fresh_guest:
        assert len(seats) == everything(plan, kernels).total()
    elif plan.pairs():
        assert len(seats) == len(kernels) * len(plan.counts)


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_a_guest_does_its_rounds_in_order_first_those_for_warming_up(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    for seat in spans(turns):
        numbers = [turn.number for turn in turns if turn.seat == seat]
        assert numbers == sorted(numbers)


REPEATED = Plan((128, 256), (Operation.MTU,), (Arm.GROUP, Arm.PROCESS), repeat=20)


def test_the_order_is_drawn_with_the_seed() -> None:
    orders = {tuple(schedule(Plan(arms=tuple(Arm), seed=seed), ["a", "b"], 4)) for seed in range(5)}
    assert len(orders) == 5


def test_no_arm_always_goes_first() -> None:
    """Or what drifts with time would look like a difference between the arms."""
    turns = schedule(REPEATED, ["a"], 2)
    rounds = [turns[at : at + 4] for at in range(0, len(turns), 4)]
    assert {turn.arm for (turn, *_) in rounds} == {Arm.GROUP, Arm.PROCESS}
    assert {turn.seat.count for (turn, *_) in rounds} == {128, 256}


@pytest.mark.parametrize("fresh", [False, True])
def test_each_round_has_one_of_everything(fresh: bool) -> None:
    plan = Plan((128, 256), (Operation.MTU,), (Arm.GROUP, Arm.PROCESS), 5, fresh_guest=fresh)
    turns = schedule(plan, ["a", "b"], 4)
    for first in range(0, len(turns), 8):
        block = turns[first : first + 8]
        assert len({(t.seat.kernel, t.seat.count, t.arm) for t in block}) == 8
        assert len({t.number for t in block}) == 1


def test_kernels_take_turns_where_their_guests_have_room_at_once() -> None:
    turns = schedule(REPEATED, ["a", "b"], 4)
    changes = sum(one.seat.kernel != next_.seat.kernel for one, next_ in pairwise(turns))
    assert changes > len(turns) // 4


def test_a_single_round_needs_one_guest_at_a_time() -> None:
    turns = schedule(Plan(arms=tuple(Arm)), ["a", "b"], 99)
    changes = sum(one.seat != next_.seat for one, next_ in pairwise(turns))
    assert changes == 2 * 5 - 1
