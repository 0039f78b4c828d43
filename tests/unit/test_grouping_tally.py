"""What operations ask of the kernel, counted once the trials are done."""

from __future__ import annotations

import pytest
from experiments import EVERY_PAIR, hosts_of
from fake_guest import CALLS_AT_LEAST, CALLS_PER_PROCESS, CALLS_PER_REQUEST, FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from hand_made import cell

from linklab.errors import GuestIncomplete, WrongState
from linklab.results.shape import Cell
from linklab.scenarios.grouping import WATCHED_ROW, Grouping
from linklab.scenarios.scenario import Hosts, Metrics

COUNT = 40
ROWS = ("process", "dump")


def set_up(guest: FakeGuest, count: int = COUNT) -> tuple[Grouping, Hosts]:
    scenario, hosts = Grouping({"listeners": 0}), hosts_of(guest, count)
    list(scenario.set_up(hosts, Cell({"interfaces": count})))
    return scenario, hosts


def counted(guest: FakeGuest, operation: str, arm: str, count: int = COUNT) -> Metrics:
    scenario, hosts = set_up(guest, count)
    return scenario.count(hosts, cell(operation, arm, count))


def expected(arm: str, count: int) -> Metrics:
    requests = 1 if arm == "group" else count
    processes = {"netlink": 0, "group": 1, "batch": 1}.get(arm, count)
    calls = CALLS_PER_REQUEST * requests + CALLS_PER_PROCESS * processes + CALLS_AT_LEAST
    return {"system_calls": calls, "messages": requests}


@pytest.mark.parametrize("count", [1, 2, WATCHED_ROW, WATCHED_ROW + 1, COUNT])
@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_the_tally_is_that_of_the_whole_work(operation: str, arm: str, count: int) -> None:
    """Also of a long row of processes, of which the first few alone are watched."""
    guest = FakeGuest()
    assert counted(guest, operation, arm, count) == expected(arm, count)
    if arm in ROWS:
        assert guest.started == (1 + WATCHED_ROW if count > WATCHED_ROW else count)


@pytest.mark.parametrize(("operation", "arm"), EVERY_PAIR)
def test_trials_go_on_as_if_nothing_had_been_counted(operation: str, arm: str) -> None:
    scenario, hosts = set_up(FakeGuest())
    scenario.count(hosts, cell(operation, arm, COUNT))
    for pair in EVERY_PAIR:
        each = cell(*pair, COUNT)
        scenario.prepare(hosts, each)
        scenario.trial(hosts, each)
        scenario.check(hosts, each)


def test_what_is_counted_is_what_the_shape_names() -> None:
    names = {metric.name for metric in Grouping.shape.counted}
    assert set(counted(FakeGuest(), "mtu", "group")) == names


@pytest.mark.parametrize("arm", ["netlink", "process"])
def test_watched_work_gets_more_time(arm: str) -> None:
    guest = FakeGuest()
    counted(guest, "mtu", arm)
    most = Grouping.limit(cell("mtu", arm, COUNT), emulated=True)
    watched = [call.seconds for call in guest.calls if call.operation == "traced"]
    assert watched
    assert min(watched) > 9 * most


def test_a_kernel_that_cannot_tell_gives_no_tally() -> None:
    with pytest.raises(GuestIncomplete, match="does not tell system calls apart"):
        counted(FakeGuest(traces=False), "mtu", "group")


def test_a_wrong_state_is_found_here_too() -> None:
    wrong = Misbehaviour(How.SKIP, "ll10003", Wish(mtu=1400))
    with pytest.raises(WrongState, match="ll10003"):
        counted(FakeGuest(wrong), "mtu", "group")
