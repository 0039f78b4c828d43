"""Blocks: each kernel in a guest of its own, right after the other; a guest gives one value."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from fake_lab import FakeLab, lab_of, subject
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.errors import GuestHung, WrongState
from linklab.events import ignore
from linklab.results.blocks import pairs_of, values_of
from linklab.results.model import Sample
from linklab.results.store import RunFolder, claim_folder, read_run
from linklab.results.work import Work
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.runner import Runner
from linklab.scenarios.grouping.schedule import Cell, blocks, cells
from linklab.scenarios.grouping.ways import Arm

PLAN = Plan((2, 3), (Operation.MTU,), (Arm.GROUP, Arm.NETLINK), fresh_guest=True, trials=3)
A, B = subject("nosysfs"), subject("nosysfs+fix.patch")
WORK = Work("mtu", "group", 2)
CELLS = st.lists(
    st.builds(Cell, st.sampled_from(Operation), st.sampled_from(Arm), st.integers(1, 9)),
    min_size=1,
    max_size=6,
    unique=True,
)


def measured(tmp_path: Path, lab: FakeLab, plan: Plan = PLAN, rounds: int = 2) -> list[Sample]:
    folder = RunFolder(tmp_path, {"kernels": []})
    turns = blocks(cells(plan), [A.name, B.name], range(1, rounds + 1), Random(1))
    try:
        Runner(lab, plan, folder, ignore).measure([A, B], turns)
    finally:
        samples = list(read_run(tmp_path).samples)
    return samples


@settings(max_examples=40)
@given(CELLS, st.integers(1, 4), st.integers(0, 99))
def test_a_block_has_every_cell_once_for_each_kernel_one_right_after_the_other(
    wanted: list[Cell], rounds: int, seed: int
) -> None:
    kernels = ["a", "b", "c"]
    turns = blocks(wanted, kernels, range(5, 5 + rounds), Random(seed))
    groups = [turns[at : at + 3] for at in range(0, len(turns), 3)]
    for group in groups:
        assert len({(t.operation, t.arm, t.seat.count, t.number) for t in group}) == 1
        assert sorted(t.seat.kernel for t in group) == kernels
    assert Counter(
        (Cell(t.operation, t.arm, t.seat.count), t.number) for t, *_ in groups
    ) == Counter((cell, number) for cell in wanted for number in range(5, 5 + rounds))
    assert [t.number for t in turns] == sorted(t.number for t in turns)
    assert len({t.seat for t in turns}) == len(turns)


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_guests_of_one_block_draw_the_same_numbers_and_those_of_the_next_others(
    tmp_path: Path, warmup: int
) -> None:
    plan = replace(PLAN, counts=(2,), arms=(Arm.GROUP,), repeat=4, warmup=warmup, seed=0)
    lab = lab_of()
    Runner(lab, plan, RunFolder(tmp_path, {"kernels": []}), ignore).run([A, B])
    drawn = list(zip(lab.draws[::2], lab.draws[1::2], strict=True))
    assert all(one == other for one, other in drawn)
    kept = [one for one, _ in drawn][warmup:]
    assert len(set(kept)) == len(kept) == 4
    assert min(lab.draws) >= 0, "QEMU takes no other seed"


def test_another_seed_draws_other_numbers(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1000):
        lab = lab_of()
        plan = replace(PLAN, counts=(2,), arms=(Arm.GROUP,), repeat=2, seed=seed)
        folder = RunFolder(claim_folder(tmp_path / str(seed)), {"kernels": []})
        Runner(lab, plan, folder, ignore).run([A, B])
        drawn.append(set(lab.draws))
    assert not drawn[0] & drawn[1]


def test_which_kernel_comes_first_is_drawn_anew_for_each_block() -> None:
    turns = blocks([Cell(Operation.MTU, Arm.GROUP, 2)], ["a", "b"], range(200), Random(1))
    first = Counter(turn.seat.kernel for turn in turns[::2])
    assert 70 < first["a"] < 130
    orders = [turn.seat.kernel for turn in turns[::2]]
    assert 70 < sum(one != other for one, other in pairwise(orders)) < 130


def test_two_kernels_of_one_flavour_are_kept_apart(tmp_path: Path) -> None:
    lab = lab_of()
    samples = measured(tmp_path, lab)
    assert {s.kernel for s in samples} == {"nosysfs", "nosysfs+fix.patch"}
    assert Counter(kernel for kernel, _ in lab.booted) == {A.name: 8, B.name: 8}
    assert lab.running == 0


def test_a_guest_gives_several_trials_and_those_for_settling_are_not_kept(tmp_path: Path) -> None:
    asked = Counter[str]()
    plan = Plan((2,), (Operation.MTU,), (Arm.NETLINK,), fresh_guest=True, trials=3, settling=2)
    lab = lab_of(lambda *_: FakeGuest(before=lambda operation: asked.update([operation])))
    samples = [s for s in measured(tmp_path, lab, plan, rounds=1) if s.trial]
    assert [(s.trial, s.block) for s in samples] == [(n, 1) for n in (1, 2, 3)] * 2
    assert asked["netlink-each"] == 2 * (1 + 5)  # both kernels: create, settle twice, three trials


def test_one_trial_for_each_guest_is_numbered_by_its_block(tmp_path: Path) -> None:
    plan = Plan((2,), (Operation.MTU,), (Arm.GROUP,), fresh_guest=True)
    samples = [s for s in measured(tmp_path, lab_of(), plan, rounds=3) if s.trial]
    assert sorted((s.trial, s.block) for s in samples) == [(n, n) for n in (1, 2, 3) for _ in "ab"]


def test_setting_up_belongs_to_no_block(tmp_path: Path) -> None:
    samples = measured(tmp_path, lab_of())
    assert {s.block for s in samples if s.trial == 0} == {0}


def test_a_kernels_fault_ends_the_comparison_at_once(tmp_path: Path) -> None:
    def make(kernel: str, _count: int) -> FakeGuest:
        def before(operation: str) -> None:
            if operation == "run" and kernel == B.name:
                raise GuestHung("no answer")

        return FakeGuest(before=before)

    lab = lab_of(make)
    with pytest.raises(GuestHung) as caught:
        measured(tmp_path, lab, rounds=50)
    assert caught.value.message == "kernel nosysfs+fix.patch: no answer"
    assert len(lab.booted) < 20
    assert lab.running == 0
    assert [fault["kernel"] for fault in read_run(tmp_path).about["faults"]] == [B.name]


def test_a_wrong_state_while_settling_is_kept_as_one_and_ends_the_guest(tmp_path: Path) -> None:
    plan = Plan((2,), (Operation.MTU,), (Arm.GROUP,), fresh_guest=True, trials=3, settling=1)
    lab = lab_of(lambda *_: FakeGuest(Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))))
    with pytest.raises(WrongState):
        measured(tmp_path, lab, plan)
    samples = [s for s in read_run(tmp_path).samples if s.operation == "mtu"]
    assert [s.verified for s in samples] == [False]
    assert values_of(samples) == {}


# Values


def sample(kernel: str, block: int, trial: int, seconds: float, verified: bool = True) -> Sample:
    return Sample(
        "grouping",
        kernel,
        "resume",
        "tcg",
        "mtu",
        "group",
        2,
        trial,
        seconds,
        0.0,
        0.0,
        0,
        1,
        1,
        0,
        verified,
        block=block,
    )


def test_a_guest_is_one_value_the_median_of_its_trials() -> None:
    found = values_of(sample("a", 1, n, s) for n, s in enumerate((9.0, 1.0, 2.0), 1))
    assert found == {WORK: {"a": {1: 2.0}}}


def test_only_blocks_that_have_both_kernels_count() -> None:
    samples = [sample("a", n, 1, 1.0 + n) for n in (1, 2, 3)]
    samples += [sample("b", n, 1, 2.0 + n) for n in (2, 3, 4)]
    samples += [sample("b", 1, 1, 9.0, verified=False), sample("c", 1, 1, 5.0)]
    pair = pairs_of(samples, "a", "b")[WORK]
    assert (list(pair.a), list(pair.b)) == ([3.0, 4.0], [4.0, 5.0])
    assert pairs_of(samples, "a", "c") == {}
    assert pairs_of(samples, "a", "d") == {}


def test_a_work_says_what_it_is() -> None:
    assert WORK.text == "mtu by group, 2 interfaces"
