"""What operations ask of the kernel, counted once the trials are done."""

from __future__ import annotations

import pytest
from experiments import plan_of
from fake_guest import CALLS_AT_LEAST, CALLS_PER_PROCESS, CALLS_PER_REQUEST, FakeGuest
from fake_kernel import How, Misbehaviour, Wish

from linklab.agent.replies import Tally
from linklab.errors import GuestIncomplete, WrongState
from linklab.host.accel import Accel
from linklab.scenarios.grouping.change import Operation
from linklab.scenarios.grouping.experiment import WATCHED_ROW, Experiment, Guest
from linklab.scenarios.grouping.plan import Plan
from linklab.scenarios.grouping.schedule import Count, countings, schedule
from linklab.scenarios.grouping.ways import Arm, why_not

COUNT = 40
EVERY_PAIR = [(o, a) for o in Operation for a in Arm if why_not(a, o) is None]
ROWS = (Arm.PROCESS, Arm.DUMP)


def experiment(guest: FakeGuest, count: int = COUNT) -> Experiment:
    made = Experiment(Guest(guest, count, Accel.TCG), plan_of([Operation.MTU], [Arm.GROUP]))
    made.create()
    return made


def expected(arm: Arm, count: int) -> Tally:
    requests = 1 if arm is Arm.GROUP else count
    processes = {Arm.NETLINK: 0, Arm.GROUP: 1, Arm.BATCH: 1}.get(arm, count)
    calls = CALLS_PER_REQUEST * requests + CALLS_PER_PROCESS * processes + CALLS_AT_LEAST
    return Tally(calls, requests, processes)


@pytest.mark.parametrize("count", [1, 2, WATCHED_ROW, WATCHED_ROW + 1, COUNT])
@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_the_tally_is_that_of_the_whole_work(operation: Operation, arm: Arm, count: int) -> None:
    """Also of a long row of processes, of which the first few alone are watched."""
    guest = FakeGuest()
    assert experiment(guest, count).tally(operation, arm) == expected(arm, count)
    if arm in ROWS:
        assert guest.started == (1 + WATCHED_ROW if count > WATCHED_ROW else count)


@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_trials_go_on_as_if_nothing_had_been_counted(operation: Operation, arm: Arm) -> None:
    one = experiment(FakeGuest())
    one.tally(operation, arm)
    assert all(one.trial(*pair, 1).fault is None for pair in EVERY_PAIR)


def test_a_kernel_that_cannot_tell_gives_no_tally() -> None:
    with pytest.raises(GuestIncomplete, match="does not tell system calls apart"):
        experiment(FakeGuest(traces=False)).tally(Operation.MTU, Arm.GROUP)


def test_a_wrong_state_is_found_here_too() -> None:
    wrong = Misbehaviour(How.SKIP, "ll10003", Wish(mtu=1400))
    with pytest.raises(WrongState, match="ll10003"):
        experiment(FakeGuest(wrong)).tally(Operation.MTU, Arm.GROUP)


BOTH = (Arm.GROUP, Arm.PROCESS)


@pytest.mark.parametrize("fresh", [False, True])
def test_each_is_counted_once_for_a_kernel_at_the_largest_count(fresh: bool) -> None:
    plan = Plan((4, 8), (Operation.MTU, Operation.UP), BOTH, repeat=3, fresh_guest=fresh)
    turns = schedule(plan, ["a", "b"], 64)
    found = countings(plan, turns)
    assert {seat.count for seat in found} == {8}
    each = [(seat.kernel, c.operation, c.arm) for seat, counts in found.items() for c in counts]
    assert sorted(each) == sorted((k, o, a) for k in "ab" for o, a in plan.pairs())
    assert set(found) <= {turn.seat for turn in turns}


def test_without_another_arm_to_compare_with_nothing_is_counted() -> None:
    plan = Plan((4, 8), (Operation.MTU,), (Arm.GROUP,))
    assert countings(plan, schedule(plan, ["a"], 64)) == {}
    # Of two arms one cannot create.
    plan = Plan((4,), (Operation.CREATE, Operation.MTU), BOTH)
    (counts,) = countings(plan, schedule(plan, ["a"], 64)).values()
    assert sorted(counts, key=str) == [Count(Operation.MTU, arm) for arm in BOTH]
