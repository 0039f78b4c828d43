"""The grouping experiment in a guest whose kernel does everything right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from experiments import COUNT, EVERY_ARM, EVERY_PAIR, OPERATIONS, Tried, plan_of, trials_in
from fake_guest import MESSAGE_NS, PROCESS_NS, FakeGuest
from hand_made import cell

from linklab.errors import GuestHung
from linklab.host.accel import Accel
from linklab.results.shape import Cell
from linklab.scenarios.grouping import Grouping

START = {  # what an operation begins with: mtu, up, group
    "down": (1500, True, 42),
}
END = {  # what it leaves: mtu, up, group; no interfaces after `delete`
    "create": (1500, False, 42),
    "mtu": (1400, False, 42),
    "up": (1500, True, 42),
    "down": (1500, False, 42),
    "address": (1500, False, 42),
    "group": (1500, False, 43),
}


def trials_of(
    guest: FakeGuest,
    operations: Sequence[str],
    arms: Sequence[str],
    *,
    count: int = COUNT,
    repeat: int = 1,
    limit: float | None = None,
    accel: Accel = Accel.TCG,
) -> list[Tried]:
    plan = plan_of(operations, arms, repeat=repeat, limit=limit)
    return list(trials_in(guest, plan, count, accel))


def states(guest: FakeGuest) -> list[tuple[int, bool, int]]:
    """The state of every interface that the lab made, in the order of their indexes."""
    links = sorted(guest.kernel.links.values(), key=lambda link: link.index)
    return [(x.mtu, x.up, x.group) for x in links if x.name.startswith("ll")]


@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_each_arm_does_each_operation_on_every_interface(operation: str, arm: str) -> None:
    guest = FakeGuest()
    setup, trial = trials_of(guest, [operation], [arm])
    assert (setup.operation, setup.number, setup.fault) == ("create", 0, None)
    assert (trial.operation, trial.arm, trial.number) == (operation, arm, 1)
    assert trial.fault is None
    expected = [] if operation == "delete" else [END[operation]] * COUNT
    assert states(guest) == expected


@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_each_trial_starts_from_the_same_state(operation: str, arm: str) -> None:
    """Whatever the trial before left: a repeat begins as the first one began."""
    began: list[list[tuple[int, bool, int]]] = []
    guest = FakeGuest()

    def note(doing: str) -> None:
        # What an arm of its own sends comes last; upkeep before it has other calls.
        at = {"group": "run", "batch": "run", "process": "run-each", "dump": "run-each"}
        if doing == at.get(arm, "netlink-each"):
            began.append(states(guest))

    guest.before = note
    assert all(trial.fault is None for trial in trials_of(guest, [operation], [arm], repeat=3))
    start = START.get(operation, (1500, False, 42))
    expected = [] if operation == "create" else [start] * COUNT
    assert began.count(expected) >= 3
    assert began[-1] == expected


def test_everything_mixed_in_one_guest_is_verified() -> None:
    guest = FakeGuest()
    trials = trials_of(guest, OPERATIONS, EVERY_ARM, repeat=2)
    assert len(trials) == 1 + 2 * len(EVERY_PAIR)
    assert [trial for trial in trials if trial.fault] == []


@pytest.mark.parametrize("foreign", [True, False])
def test_a_foreign_interface_does_no_harm_and_takes_none(foreign: bool) -> None:
    guest = FakeGuest(foreign=foreign)
    before = {n: vars(link).copy() for n, link in guest.kernel.links.items()}
    trials = trials_of(guest, OPERATIONS, EVERY_ARM)
    assert all(trial.fault is None for trial in trials)
    assert {n: vars(guest.kernel.links[n]) for n in before} == before


def test_what_no_arm_can_do_is_left_out_and_said_with_the_reason() -> None:
    asked = plan_of(OPERATIONS, EVERY_ARM).cells
    done = [(each["operation"], each["arm"]) for each in asked]
    assert sorted(done) == sorted(EVERY_PAIR)
    assert len(done) == 7 * 5 - 2
    for operation, says in (("create", "no members before"), ("group", "selects the group")):
        assert (operation, "group") not in done
        assert says in Grouping.refusal(cell(operation, "group", 1))


@pytest.mark.parametrize(
    ("arm", "messages", "processes", "ns"),
    [
        ("group", 1, 1, PROCESS_NS + MESSAGE_NS),
        ("netlink", COUNT, 1, COUNT * MESSAGE_NS),
        ("batch", COUNT, 1, PROCESS_NS + COUNT * MESSAGE_NS),
        ("process", COUNT, COUNT, COUNT * PROCESS_NS),
        ("dump", 2 * COUNT, COUNT, COUNT * PROCESS_NS),
    ],
)
def test_a_trial_carries_the_guests_time_and_what_was_sent(
    arm: str, messages: int, processes: int, ns: int
) -> None:
    took = trials_of(FakeGuest(), ["mtu"], [arm])[1].metrics
    assert took["seconds"] == pytest.approx(ns / 1e9)
    assert (took["messages"], took["processes"]) == (messages, processes)
    assert 0 < took["user_seconds"] < took["system_seconds"]


def test_a_trial_has_every_metric_of_the_shape() -> None:
    for trial in trials_of(FakeGuest(), ["mtu"], EVERY_ARM):
        assert set(trial.metrics) == {metric.name for metric in Grouping.shape.metrics}


def test_only_the_arm_dump_reads_all_links_in_each_process() -> None:
    guest = FakeGuest()
    trials_of(guest, ["mtu"], ["process", "group", "batch"])
    assert guest.dumps_by_programs == 0
    trials_of(guest := FakeGuest(), ["mtu"], ["dump"])
    assert guest.dumps_by_programs == COUNT


def test_the_groups_own_arm_sends_one_request_whatever_the_count() -> None:
    guest = FakeGuest()
    trials_of(guest, ["mtu"], ["group"])
    (run,) = [call for call in guest.calls if call.operation == "run"]
    assert run.fields == (7, "/bin/ip", "link", "set", "group", "42", "mtu", "1400")


@pytest.mark.parametrize("accel", [Accel.KVM, Accel.TCG])
@pytest.mark.parametrize("arm", EVERY_ARM)
def test_an_operation_gets_the_limit_of_its_arm_and_upkeep_a_limit_of_its_own(
    arm: str, accel: Accel
) -> None:
    guest = FakeGuest()
    trials_of(guest, ["mtu"], [arm], accel=accel)
    operation = {"netlink": "netlink-each", "process": "run-each", "dump": "run-each"}
    timed = [call for call in guest.calls if call.operation == operation.get(arm, "run")][-1]
    emulated = accel is Accel.TCG
    own = Grouping.limit(cell("mtu", arm, COUNT), emulated=emulated)
    upkeep = Grouping.limit(Cell({"interfaces": COUNT}), emulated=emulated)
    assert timed.seconds == pytest.approx(own, abs=0.5)
    for call in guest.calls:
        if call is not timed:
            assert call.seconds == pytest.approx(upkeep, abs=0.5)


def test_a_limit_that_was_asked_for_holds_for_everything() -> None:
    guest = FakeGuest()
    trials_of(guest, OPERATIONS, EVERY_ARM, limit=7.0)
    assert {round(call.seconds) for call in guest.calls} == {7}


def test_each_step_has_its_own_time() -> None:
    """A deadline is reckoned from when a step begins, not from when the guest did."""
    guest = FakeGuest()
    trials_of(guest, ["mtu"], ["group"], limit=100.0, repeat=30)
    assert min(call.seconds for call in guest.calls) > 99


def test_a_guest_that_hangs_ends_the_trials() -> None:
    def hang(operation: str) -> None:
        if operation == "run-each":
            raise GuestHung("no answer")

    plan = plan_of(["mtu"], ["group", "process"])
    trials = trials_in(FakeGuest(before=hang), plan)
    assert [next(trials).arm, next(trials).arm] == ["netlink", "group"]
    with pytest.raises(GuestHung):
        next(trials)


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_counts_work_with_everything(count: int) -> None:
    trials = trials_of(FakeGuest(), OPERATIONS, EVERY_ARM, count=count)
    assert len(trials) == 1 + len(EVERY_PAIR)
    assert all(trial.fault is None for trial in trials)


def test_ten_thousand_interfaces_are_named_and_indexed_without_a_gap() -> None:
    guest = FakeGuest()
    trials = trials_of(guest, ["mtu"], ["group", "netlink"], count=10_000)
    assert [trial.fault for trial in trials] == [None] * 3
    links = [link for link in guest.kernel.links.values() if link.name.startswith("ll")]
    assert [link.name for link in links] == [f"ll{n}" for n in range(10_000, 20_000)]
    assert [link.index for link in links] == list(range(3, 10_003))
    assert {(link.mtu, link.up, link.group) for link in links} == {(1400, False, 42)}


# Listeners


def heard_in(trial: Tried) -> tuple[float, float]:
    return trial.metrics["notifications"], trial.metrics["notifications_lost"]


def test_listeners_hear_the_operation_and_nothing_else() -> None:
    """Each change of the MTU of an interface that is down is told once (rtmsg_ifinfo)."""
    guest = FakeGuest()
    plan = plan_of(["mtu", "group"], ["process"], listeners=3, repeat=2)
    setup, *trials = trials_in(guest, plan)
    assert heard_in(setup) == (0, 0)
    heard = {(trial.operation, trial.metrics["notifications"]) for trial in trials}
    assert heard == {("mtu", 3 * COUNT), ("group", 0)}


def test_messages_that_listeners_lost_are_summed_up() -> None:
    guest = FakeGuest(lost_by_each=4)
    (_, trial) = trials_in(guest, plan_of(["mtu"], ["group"], listeners=2))
    assert heard_in(trial) == (2 * (COUNT - 4), 2 * 4)


def test_listeners_are_started_before_the_clock_runs_and_ended_before_the_check() -> None:
    guest = FakeGuest()
    list(trials_in(guest, plan_of(["mtu"], ["group"], listeners=1)))
    done = [call.operation for call in guest.calls]
    assert done[done.index("listen") :] == ["listen", "run", "notification-counts", "dump"]


def test_without_listeners_the_agent_is_not_asked_for_any() -> None:
    guest = FakeGuest()
    trials_of(guest, OPERATIONS, EVERY_ARM)
    assert not {"listen", "notification-counts"} & {call.operation for call in guest.calls}
