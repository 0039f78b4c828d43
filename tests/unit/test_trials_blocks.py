"""Blocks: each kernel in a guest of its own, right after the other; a guest gives one value."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from experiments import EVERY_ARM, OPERATIONS, plan_of
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from fake_lab import FakeLab, lab_of, subject
from hand_made import cell, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.errors import GuestHung, WrongState
from linklab.events import ignore
from linklab.machine.spec import Boot
from linklab.results.comparison import pairs_of, values_of
from linklab.results.model import Sample
from linklab.results.shape import Cell
from linklab.results.store import RunFolder, claim_folder, read_run
from linklab.scenarios.grouping import Grouping
from linklab.trials.engine import Engine
from linklab.trials.plan import Plan, blocks

PLAN = plan_of(arms=("group", "netlink"), counts=(2, 3), fresh_guest=True, trials=3)
ALONE = plan_of(arms=("group",), counts=(2,), fresh_guest=True)
A, B = subject("nosysfs"), subject("nosysfs+fix.patch")
WORK = cell("mtu", "group", 2)
SECONDS = Grouping.shape.metric
CELLS = st.lists(
    st.builds(cell, st.sampled_from(OPERATIONS), st.sampled_from(EVERY_ARM), st.integers(1, 9)),
    min_size=1,
    max_size=6,
    unique=True,
)


def measured(tmp_path: Path, lab: FakeLab, plan: Plan = PLAN, rounds: int = 2) -> list[Sample]:
    folder = RunFolder(tmp_path, {"kernels": []})
    engine = Engine(lab, plan, folder, ignore)
    try:
        engine.measure([A, B], plan.cells, range(1, rounds + 1))
    finally:
        samples = list(read_run(tmp_path).samples)
        assert samples == engine.samples
    return samples


@settings(max_examples=40)
@given(CELLS, st.integers(1, 4), st.integers(0, 99))
def test_a_block_has_every_cell_once_for_each_kernel_one_right_after_the_other(
    wanted: list[Cell], rounds: int, seed: int
) -> None:
    kernels = ["a", "b", "c"]
    turns = blocks(PLAN, wanted, kernels, range(5, 5 + rounds), Random(seed))
    groups = [turns[at : at + 3] for at in range(0, len(turns), 3)]
    for group in groups:
        assert len({(t.cell, t.number) for t in group}) == 1
        assert sorted(t.slot.kernel for t in group) == kernels
    assert Counter((t.cell, t.number) for t, *_ in groups) == Counter(
        (cell, number) for cell in wanted for number in range(5, 5 + rounds)
    )
    assert all(t.slot.setup == Cell({"interfaces": t.cell["interfaces"]}) for t in turns)
    assert [t.number for t in turns] == sorted(t.number for t in turns)
    assert len({t.slot for t in turns}) == len(turns)


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_guests_of_one_block_draw_the_same_numbers_and_those_of_the_next_others(
    tmp_path: Path, warmup: int
) -> None:
    plan = replace(ALONE, trials=3, repeat=4, warmup_rounds=warmup, seed=0)
    lab = lab_of()
    Engine(lab, plan, RunFolder(tmp_path, {"kernels": []}), ignore).run([A, B])
    drawn = list(zip(lab.draws[::2], lab.draws[1::2], strict=True))
    assert all(one == other for one, other in drawn)
    kept = [one for one, _ in drawn][warmup:]
    assert len(set(kept)) == len(kept) == 4
    assert min(lab.draws) >= 0, "QEMU takes no other seed"


def test_samples_say_which_saved_guest_theirs_went_on_from(tmp_path: Path) -> None:
    plan = replace(ALONE, trials=1, repeat=4, seed=5)
    for boots, numbers in ((1, [0, 0, 0, 0]), (3, [1, 2, 3, 1])):
        lab = replace(lab_of(boot=Boot.RESUME), boots=boots)
        engine = Engine(lab, plan, RunFolder(claim_folder(tmp_path / str(boots)), {}), ignore)
        engine.run([A, B])
        saved = {(s.block, s.saved) for s in engine.samples if s.block}
        assert sorted(saved) == list(enumerate(numbers, 1)), "the same for both kernels"
        metric = plan.shape.metric
        (pair,) = pairs_of(engine.samples, metric, A.name, B.name).values()
        assert pair.units == (4 if boots == 1 else 3)


def test_another_seed_draws_other_numbers(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1000):
        lab = lab_of()
        plan = replace(ALONE, trials=3, repeat=2, seed=seed)
        folder = RunFolder(claim_folder(tmp_path / str(seed)), {"kernels": []})
        Engine(lab, plan, folder, ignore).run([A, B])
        drawn.append(set(lab.draws))
    assert not drawn[0] & drawn[1]


def test_which_kernel_comes_first_is_drawn_anew_for_each_block() -> None:
    turns = blocks(PLAN, [WORK], ["a", "b"], range(200), Random(1))
    first = Counter(turn.slot.kernel for turn in turns[::2])
    assert 70 < first["a"] < 130
    orders = [turn.slot.kernel for turn in turns[::2]]
    assert 70 < sum(one != other for one, other in pairwise(orders)) < 130


def test_two_kernels_of_one_flavour_are_kept_apart(tmp_path: Path) -> None:
    lab = lab_of()
    samples = measured(tmp_path, lab)
    assert {s.kernel for s in samples} == {"nosysfs", "nosysfs+fix.patch"}
    assert Counter(kernel for kernel, _ in lab.booted) == {A.name: 8, B.name: 8}
    assert lab.running == 0


def test_a_guest_gives_several_trials_and_those_for_settling_are_not_kept(tmp_path: Path) -> None:
    asked = Counter[str]()
    plan = plan_of(arms=("netlink",), counts=(2,), fresh_guest=True, trials=3, warmup_trials=2)
    lab = lab_of(lambda *_: FakeGuest(before=lambda operation: asked.update([operation])))
    samples = [s for s in measured(tmp_path, lab, plan, rounds=1) if s.trial]
    assert [(s.trial, s.block) for s in samples] == [(n, 1) for n in (1, 2, 3)] * 2
    assert asked["netlink-each"] == 2 * (1 + 5)  # both kernels: create, settle twice, three trials


def test_one_trial_for_each_guest_is_numbered_by_its_block(tmp_path: Path) -> None:
    samples = [s for s in measured(tmp_path, lab_of(), ALONE, rounds=3) if s.trial]
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
    assert [fault["kernel"] for fault in read_run(tmp_path).faults] == [B.name]


def test_a_wrong_state_while_settling_is_kept_as_one_and_ends_the_guest(tmp_path: Path) -> None:
    plan = replace(ALONE, trials=3, warmup_trials=1)
    lab = lab_of(lambda *_: FakeGuest(Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400))))
    with pytest.raises(WrongState):
        measured(tmp_path, lab, plan)
    samples = [s for s in read_run(tmp_path).samples if s.cell["operation"] == "mtu"]
    assert [s.verified for s in samples] == [False]
    assert values_of(samples, SECONDS) == {}


# Values


def of(kernel: str, block: int, trial: int, seconds: float, verified: bool = True) -> Sample:
    return sample(kernel, "group", 2, seconds, trial=trial, block=block, verified=verified)


def test_a_guest_is_one_value_the_median_of_its_trials() -> None:
    found = values_of((of("a", 1, n, s) for n, s in enumerate((9.0, 1.0, 2.0), 1)), SECONDS)
    assert found == {WORK: {"a": {1: 2.0}}}


def test_only_blocks_that_have_both_kernels_count() -> None:
    samples = [of("a", n, 1, 1.0 + n) for n in (1, 2, 3)]
    samples += [of("b", n, 1, 2.0 + n) for n in (2, 3, 4)]
    samples += [of("b", 1, 1, 9.0, verified=False), of("c", 1, 1, 5.0)]
    pair = pairs_of(samples, SECONDS, "a", "b")[WORK]
    assert (list(pair.a), list(pair.b)) == ([3.0, 4.0], [4.0, 5.0])
    assert pairs_of(samples, SECONDS, "a", "c") == {}
    assert pairs_of(samples, SECONDS, "a", "d") == {}


def test_a_cell_says_what_it_is() -> None:
    assert Grouping.shape.in_words(WORK) == "mtu by group, 2 interfaces"
    assert WORK.text == "mtu/group/2"
