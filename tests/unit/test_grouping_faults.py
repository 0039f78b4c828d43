"""The grouping experiment on kernels that do something wrong: it is found and named."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence

import pytest
from experiments import COUNT, EVERY_ARM, EVERY_PAIR, OPERATIONS, Tried, plan_of, trials_in
from fake_guest import FakeGuest, ProgramFault
from fake_kernel import How, Misbehaviour, Wish

from linklab.errors import (
    GuestIncomplete,
    KernelFault,
    LabError,
    RequestRefused,
    Verdict,
    WrongState,
)

VICTIM = "ll10002"
VICTIM_INDEX = 5  # behind lo, dummy0, ll10000 and ll10001
WISHES = {
    "mtu": Wish(mtu=1400),
    "up": Wish(up=True),
    "down": Wish(up=False),
    "address": Wish(address="02:00:00:00:00:01"),
    "group": Wish(group=43),
}
LEFT_ALONE = {  # what an interface is said to have when it was left out
    "mtu": "mtu 1500 instead of 1400",
    "up": "up False instead of True",
    "down": "up True instead of False",
    "address": "address 02:00:00:00:00:00 instead of 02:00:00:00:00:01",
    "group": "group 42 instead of 43",
}
SETTING = [(o, a) for o, a in EVERY_PAIR if o in WISHES]
DOERS = ("netlink", "batch", "process", "dump")  # of what a group cannot do


def all_trials(
    guest: FakeGuest, operations: Sequence[str], arms: Sequence[str], repeat: int = 1
) -> list[Tried]:
    return list(trials_in(guest, plan_of(operations, arms, repeat=repeat)))


def fault_of(wrong: Misbehaviour, operation: str, arm: str) -> str:
    """What is said of the last trial, which must be the first one that is not verified."""
    trials = all_trials(FakeGuest(wrong), (operation, "mtu"), (arm, "netlink"), 2)
    *fine, last = trials
    assert [trial.fault for trial in fine] == [None] * len(fine)
    assert (last.operation, last.arm) == (operation, arm)
    assert isinstance(last.fault, WrongState), "what is wrong was not found"
    assert f"after `{operation}` with arm `{arm}`" in last.fault.message
    return last.fault.message


@pytest.mark.parametrize(("operation", "arm"), SETTING)
def test_an_interface_that_was_left_out_is_named(operation: str, arm: str) -> None:
    message = fault_of(Misbehaviour(How.SKIP, VICTIM, WISHES[operation]), operation, arm)
    assert f"{VICTIM} (ifindex {VICTIM_INDEX}) has {LEFT_ALONE[operation]}" in message


@pytest.mark.parametrize("arm", EVERY_ARM)
@pytest.mark.parametrize("victim", ["ll10000", "ll10004"])
def test_the_first_and_the_last_interface_are_looked_at_too(victim: str, arm: str) -> None:
    wrong = Misbehaviour(How.ALTER, victim, WISHES["mtu"], instead=Wish(mtu=1399))
    message = fault_of(wrong, "mtu", arm)
    assert victim in message
    assert "mtu 1399 instead of 1400" in message


@pytest.mark.parametrize(
    "instead",
    [Wish(mtu=1400, up=True), Wish(mtu=1400, group=7), Wish(mtu=1400, group=0)],
    ids=["up", "another group", "no group"],
)
@pytest.mark.parametrize("victim", ["ll10000", VICTIM])
def test_what_an_operation_must_not_change_is_looked_at_too(victim: str, instead: Wish) -> None:
    wrong = Misbehaviour(How.ALTER, victim, WISHES["mtu"], instead)
    message = fault_of(wrong, "mtu", "group")
    assert f"{victim} (ifindex " in message


def test_an_interface_that_now_looks_like_a_foreign_one_beside_it_is_named() -> None:
    """A dump tells neighbours that say the same as one: dummy0 and ll10000, here."""
    wrong = Misbehaviour(How.ALTER, "ll10000", WISHES["group"], instead=Wish(group=0))
    message = fault_of(wrong, "group", "netlink")
    assert "ll10000 (ifindex 3) has group 0 instead of 43" in message


@pytest.mark.parametrize("arm", EVERY_ARM)
def test_an_interface_that_went_away_is_named(arm: str) -> None:
    wrong = Misbehaviour(How.VANISH, VICTIM, WISHES["mtu"])
    assert f"{VICTIM} is missing" in fault_of(wrong, "mtu", arm)


@pytest.mark.parametrize("victim", ["ll10000", "ll10004"])
def test_an_interface_at_the_edge_that_went_away_is_named(victim: str) -> None:
    wrong = Misbehaviour(How.VANISH, victim, WISHES["up"])
    assert f"{victim} is missing" in fault_of(wrong, "up", "group")


def test_an_interface_that_was_made_anew_is_found() -> None:
    """It has its name and its number is right, but whoever knew it by its index lost it."""
    message = fault_of(Misbehaviour(How.RENEW, VICTIM, WISHES["up"]), "up", "group")
    assert "indexes have a gap" in message


@pytest.mark.parametrize("arm", DOERS)
@pytest.mark.parametrize("victim", ["ll10000", VICTIM, "ll10004"])
def test_an_interface_that_was_not_created_is_named(victim: str, arm: str) -> None:
    wrong = Misbehaviour(How.LOSE, victim, after=1)  # the set-up goes well
    assert f"{victim} is missing" in fault_of(wrong, "create", arm)


@pytest.mark.parametrize("arm", DOERS)
def test_an_interface_with_a_wrong_name_is_missed_under_its_right_one(arm: str) -> None:
    wrong = Misbehaviour(How.MISNAME, VICTIM, after=1)
    assert f"{VICTIM} is missing" in fault_of(wrong, "create", arm)


@pytest.mark.parametrize("arm", DOERS)
def test_an_interface_too_many_is_named(arm: str) -> None:
    wrong = Misbehaviour(How.DOUBLE, VICTIM, after=1)
    assert f"{VICTIM}x" in fault_of(wrong, "create", arm)


@pytest.mark.parametrize("arm", EVERY_ARM)
@pytest.mark.parametrize("victim", ["ll10000", VICTIM, "ll10004"])
def test_an_interface_that_was_not_deleted_is_named(victim: str, arm: str) -> None:
    message = fault_of(Misbehaviour(How.KEEP, victim), "delete", arm)
    assert victim in message
    assert "is still there after deletion" in message


@pytest.mark.parametrize("foreign", ["lo", "dummy0"])
@pytest.mark.parametrize("operation", ["mtu", "up"])
def test_a_change_to_an_interface_that_nobody_asked_for_is_found(
    foreign: str, operation: str
) -> None:
    """A group request that takes others along is wrong, however right the members are."""
    guest = FakeGuest()

    def take_along(doing: str) -> None:
        link = guest.kernel.named(foreign)
        assert link
        if doing == "run":
            link.mtu, link.up = (1400, link.up) if operation == "mtu" else (link.mtu, True)

    guest.before = take_along
    last = all_trials(guest, [operation], ["group"])[-1]
    assert last.fault and f"{foreign} (ifindex " in last.fault.message


def test_set_up_that_goes_wrong_is_the_kernels_fault_and_names_the_interface() -> None:
    with pytest.raises(WrongState, match=f"{VICTIM} is missing"):
        all_trials(FakeGuest(Misbehaviour(How.LOSE, VICTIM)), ["mtu"], ["group"])


def test_upkeep_that_goes_wrong_between_trials_is_found() -> None:
    """Back to 1500 for the second trial: one interface stays at 1400."""
    wrong = Misbehaviour(How.SKIP, VICTIM, Wish(mtu=1500))
    trials = trials_in(FakeGuest(wrong), plan_of(["mtu"], ["group"], repeat=2))
    assert [next(trials).number, next(trials).number] == [0, 1]
    with pytest.raises(WrongState, match=rf"{VICTIM} \(ifindex 5\) has mtu 1400 instead of 1500"):
        next(trials)


@pytest.mark.parametrize(("operation", "arm"), SETTING)
def test_a_refused_request_is_the_kernels_fault(operation: str, arm: str) -> None:
    wrong = Misbehaviour(How.REFUSE, VICTIM, WISHES[operation], number=errno.EBUSY)
    with pytest.raises(RequestRefused, match="Device or resource busy") as caught:
        all_trials(FakeGuest(wrong), [operation], [arm])
    assert caught.value.verdict is Verdict.FAIL
    if arm == "netlink":
        assert "request 3 " in caught.value.message
    if arm in ("process", "dump"):
        assert "process 3 of 5" in caught.value.message
    if arm == "batch":
        assert "linklab.batch:3" in caught.value.message


@pytest.mark.parametrize("arm", DOERS)
@pytest.mark.parametrize("operation", ["create", "delete"])
def test_a_refusal_to_create_or_delete_is_the_kernels_fault(operation: str, arm: str) -> None:
    # The set-up creates, and before a trial that creates it deletes: both go well.
    wrong = Misbehaviour(How.REFUSE, VICTIM, after=2 if operation == "create" else 1)
    trials = trials_in(FakeGuest(wrong), plan_of([operation], [arm]))
    next(trials)
    with pytest.raises(RequestRefused):
        next(trials)


def test_a_group_request_that_stops_half_way_ends_the_run_in_that_guest() -> None:
    """The kernel does not roll back: the members before the third are changed."""
    wrong = Misbehaviour(How.REFUSE, VICTIM, WISHES["mtu"])
    guest = FakeGuest(wrong)
    with pytest.raises(RequestRefused):
        all_trials(guest, ["mtu"], ["group", "netlink"])
    mtus = [link.mtu for link in guest.kernel.links.values() if link.name.startswith("ll")]
    assert mtus == [1400, 1400, 1500, 1500, 1500]


ENDS = [
    (1 << 8, RequestRefused, "status 1"),
    (255 << 8, RequestRefused, "status 255"),
    (127 << 8, LabError, "cannot be run"),
    (int(signal.SIGSEGV), KernelFault, "signal 11"),
    (int(signal.SIGSEGV) | 0x80, KernelFault, "signal 11"),  # with a core dump
]


@pytest.mark.parametrize("arm", ["group", "batch", "process", "dump"])
@pytest.mark.parametrize(("wait_status", "kind", "says"), ENDS)
def test_how_a_program_ends_says_whose_fault_it_is(
    wait_status: int, kind: type[Exception], says: str, arm: str
) -> None:
    at = 3 if arm in ("process", "dump") else 1
    guest = FakeGuest(program_fault=ProgramFault(at, wait_status, "some last words"))
    with pytest.raises(kind) as caught:
        all_trials(guest, ["mtu"], [arm])
    error = caught.value
    assert isinstance(error, KernelFault | LabError)
    assert says in error.message
    assert f"process {at} of " in error.message
    assert "some last words" in error.message + error.evidence
    assert error.verdict is (Verdict.ERROR if kind is LabError else Verdict.FAIL)


def test_the_first_and_the_last_process_count_too() -> None:
    for at in (1, COUNT):
        guest = FakeGuest(program_fault=ProgramFault(at, 1 << 8))
        with pytest.raises(RequestRefused, match=f"process {at} of {COUNT}"):
            all_trials(guest, ["mtu"], ["process"])


@pytest.mark.parametrize("arm", ["group", "batch", "process", "dump"])
def test_a_guest_without_ip_is_the_labs_fault(arm: str) -> None:
    with pytest.raises(GuestIncomplete, match="/bin/ip") as caught:
        all_trials(FakeGuest(programs=frozenset()), ["mtu"], [arm])
    assert caught.value.verdict is Verdict.ERROR


def test_the_arm_netlink_needs_no_program() -> None:
    trials = all_trials(FakeGuest(programs=frozenset()), OPERATIONS, ["netlink"])
    assert all(trial.fault is None for trial in trials)
