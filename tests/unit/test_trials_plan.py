"""A plan: its cells, their order, shuffled and interleaved, and what is counted at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from experiments import EVERY_ARM, OPERATIONS, plan_of
from hand_made import cell
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.commands.scenarios import TrialOptions
from linklab.machine.spec import Clock
from linklab.results.shape import Cell
from linklab.scenarios.grouping import Grouping
from linklab.trials.plan import CountSyscalls, GuestSlot, Plan, Turn, cells_of, countings, schedule

PLANS = st.builds(
    plan_of,
    counts=st.lists(st.integers(1, 5000), min_size=1, max_size=3, unique=True).map(tuple),
    operations=st.lists(st.sampled_from(OPERATIONS), min_size=1, unique=True).map(tuple),
    arms=st.lists(st.sampled_from(EVERY_ARM), min_size=1, unique=True).map(tuple),
    repeat=st.integers(1, 3),
    warmup_rounds=st.integers(0, 2),
    seed=st.integers(0, 2**32),
    fresh_guest=st.booleans(),
    apart=st.booleans(),
)
KERNELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
ROOM = st.integers(1, 5)


def everything(plan: Plan, kernels: list[str]) -> Counter[object]:
    return Counter(
        (kernel, cell, number)
        for kernel in kernels
        for cell in plan.cells
        for number in range(1 - plan.warmup_rounds, plan.repeat + 1)
    )


def spans(turns: list[Turn]) -> dict[GuestSlot, tuple[int, int]]:
    """From which turn to which each guest is needed."""
    found: dict[GuestSlot, tuple[int, int]] = {}
    for at, turn in enumerate(turns):
        found[turn.slot] = (found.get(turn.slot, (at, at))[0], at)
    return found


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_everything_is_done_as_often_as_asked_and_nothing_else(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    done = Counter((t.slot.kernel, t.cell, t.number) for t in turns)
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
        open_now = [slot for slot, (first, last) in needed.items() if first <= at <= last]
        assert len(open_now) <= room


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_a_guest_has_one_kernel_and_one_set_up_and_its_number_is_its_own(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    slots = spans(turns)
    assert len({slot.number for slot in slots}) == len(slots)
    assert all(turn.slot.setup == turn.cell.of(["interfaces"]) for turn in turns)
    if plan.fresh_guest:
        assert len(slots) == everything(plan, kernels).total()
    elif plan.apart:
        assert len(slots) == len(kernels) * len(plan.cells)
        assert all(len({t.cell for t in turns if t.slot == slot}) == 1 for slot in slots)
    else:
        counts = {cell["interfaces"] for cell in plan.cells}
        assert len(slots) == len(kernels) * len(counts)


@settings(max_examples=60)
@given(PLANS, KERNELS, ROOM)
def test_a_guest_does_its_rounds_in_order_first_those_for_warming_up(
    plan: Plan, kernels: list[str], room: int
) -> None:
    turns = schedule(plan, kernels, room)
    for slot in spans(turns):
        numbers = [turn.number for turn in turns if turn.slot == slot]
        assert numbers == sorted(numbers)


REPEATED = plan_of(counts=(128, 256), repeat=20)
COUNTS = (128, 256, 512, 1024, 2048)


def test_the_order_is_drawn_with_the_seed() -> None:
    plan = plan_of(arms=EVERY_ARM, counts=COUNTS)
    orders = {tuple(schedule(replace(plan, seed=seed), ["a", "b"], 4)) for seed in range(5)}
    assert len(orders) == 5


def test_no_arm_always_goes_first() -> None:
    """Or what drifts with time would look like a difference between the arms."""
    turns = schedule(REPEATED, ["a"], 2)
    rounds = [turns[at : at + 4] for at in range(0, len(turns), 4)]
    assert {turn.cell["arm"] for (turn, *_) in rounds} == {"group", "process"}
    assert {turn.cell["interfaces"] for (turn, *_) in rounds} == {128, 256}


@pytest.mark.parametrize("fresh", [False, True])
def test_each_round_has_one_of_everything(fresh: bool) -> None:
    plan = plan_of(counts=(128, 256), repeat=5, fresh_guest=fresh)
    turns = schedule(plan, ["a", "b"], 4)
    for first in range(0, len(turns), 8):
        block = turns[first : first + 8]
        assert len({(t.slot.kernel, t.cell) for t in block}) == 8
        assert len({t.number for t in block}) == 1


def test_kernels_take_turns_where_their_guests_have_room_at_once() -> None:
    turns = schedule(REPEATED, ["a", "b"], 4)
    changes = sum(one.slot.kernel != next_.slot.kernel for one, next_ in pairwise(turns))
    assert changes > len(turns) // 4


def test_a_single_round_needs_one_guest_at_a_time() -> None:
    turns = schedule(plan_of(arms=EVERY_ARM, counts=COUNTS), ["a", "b"], 99)
    changes = sum(one.slot != next_.slot for one, next_ in pairwise(turns))
    assert changes == 2 * 5 - 1


def test_cells_that_stand_apart_are_kept_as_such() -> None:
    options = TrialOptions("congestion")
    found = [options.trials_plan(clock, {}) for clock in (Clock.VIRTUAL, Clock.REAL)]
    assert [plan.apart for plan in found] == [True, False]
    assert found[0].to_json()["apart"] and "apart" not in found[1].to_json()
    assert [len(schedule(plan, ["a"], 9)) for plan in found] == [2, 2]
    assert [len(spans(schedule(plan, ["a"], 9))) for plan in found] == [2, 1]


# Cells


def test_cells_are_all_that_the_scenario_does_not_refuse_those_of_a_set_up_together() -> None:
    values = {"operation": ("create", "mtu"), "arm": ("group", "batch"), "interfaces": (9, 8)}
    assert [each.text for each in cells_of(Grouping, values)] == [
        *("create/batch/9", "mtu/group/9", "mtu/batch/9"),
        *("create/batch/8", "mtu/group/8", "mtu/batch/8"),
    ]
    assert cells_of(Grouping, values | {"operation": ("create",), "arm": ("group",)}) == ()


def test_set_ups_are_what_guests_are_made_for_each_once() -> None:
    assert plan_of(counts=(9, 8)).setups == [Cell({"interfaces": 9}), Cell({"interfaces": 8})]


def test_what_is_kept_of_a_plan_says_what_was_measured_and_how_often() -> None:
    plan = plan_of(counts=(9, 8), repeat=3, warmup_rounds=1, seed=7, jobs=2, listeners=4)
    assert plan.to_json() == {
        "axes": {"operation": ["mtu"], "arm": ["group", "process"], "interfaces": [8, 9]},
        "cells": [["mtu", arm, count] for count in (9, 8) for arm in ("group", "process")],
        "given": {"listeners": 4},
        "repeat": 3,
        "warmup": 1,
        "seed": 7,
        "fresh_guest": False,
        "jobs": 2,
        "trials": 1,
        "settling": 0,
    }


# What is counted


@pytest.mark.parametrize("fresh", [False, True])
def test_each_is_counted_once_for_a_kernel_at_the_largest_count(fresh: bool) -> None:
    plan = plan_of(("mtu", "up"), counts=(4, 8), repeat=3, fresh_guest=fresh)
    turns = schedule(plan, ["a", "b"], 64)
    found = countings(plan, turns)
    assert {slot.setup["interfaces"] for slot in found} == {8}
    each = [(slot.kernel, count.cell) for slot, counts in found.items() for count in counts]
    largest = [cell for cell in plan.cells if cell["interfaces"] == 8]
    assert sorted(each) == sorted((kernel, cell) for kernel in "ab" for cell in largest)
    assert set(found) <= {turn.slot for turn in turns}


def test_without_another_arm_to_compare_with_nothing_is_counted() -> None:
    plan = plan_of(arms=("group",), counts=(4, 8))
    assert countings(plan, schedule(plan, ["a"], 64)) == {}
    # Of two arms one cannot create.
    plan = plan_of(("create", "mtu"), counts=(4,))
    (counts,) = countings(plan, schedule(plan, ["a"], 64)).values()
    assert sorted(counts, key=str) == [
        CountSyscalls(cell("mtu", a, 4)) for a in ("group", "process")
    ]
