"""The scenarios of the grouping agent without a guest: what they tell it, and their claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from experiments import hosts_of
from fake_guest import FakeGuest
from fake_hosts import cell_of, claim_of, given_to, run_of

from linklab.errors import WrongState
from linklab.results.shape import Cell
from linklab.scenarios import addresses, inherit
from linklab.scenarios.addresses import Addresses
from linklab.scenarios.filter import Filter
from linklab.scenarios.grouping.change import GROUP, NEW
from linklab.scenarios.grouping.links import Links
from linklab.scenarios.inherit import Inherit
from linklab.scenarios.notify import Notify
from linklab.scenarios.scenario import GUEST, Finding, Scenario
from linklab.scenarios.tree import Tree

ALL = (Addresses, Filter, Inherit, Notify, Tree)


@pytest.fixture
def links() -> Links:
    made = Links(hosts_of(FakeGuest())[GUEST], 5)
    made.bring_to(NEW)
    return made


def test_equal_parts_of_the_interfaces_are_put_into_groups_and_checked(links: Links) -> None:
    links.regroup([7, GROUP])
    right = [replace(NEW, group=7), NEW]
    links.check_parts(right)
    for wrong, name in (
        ([NEW, NEW], "ll10000 .* has group 7 instead of 42"),
        ([right[0], right[0]], "ll10002 .* has group 42 instead of 7"),
        ([right[0], replace(NEW, mtu=1400)], "ll10002 .* has mtu 1500 instead of 1400"),
    ):
        with pytest.raises(WrongState, match=name):
            links.check_parts(wrong)


def test_each_interface_is_told_a_mac_and_an_address_of_its_own() -> None:
    lines = list(addresses._assigned(300))
    assert lines[:2] == [
        "link set dev ll10000 address 02:00:00:00:00:01",
        "address add 10.200.0.1/16 dev ll10000",
    ]
    assert lines[-2:] == [
        "link set dev ll10299 address 02:00:00:00:01:2c",
        "address add 10.200.1.44/16 dev ll10299",
    ]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"operation": "add"}, ""),
        ({"operation": "add", "arm": "agent"}, "only assign has the arm agent"),
        ({"operation": "assign", "arm": "agent"}, ""),
        ({"operation": "assign", "addresses": 60_000}, "at most 10000 interfaces"),
    ],
)
def test_arms_and_interfaces_are_for_assign_alone(cell: dict[str, Any], said: str) -> None:
    assert said in Addresses.refusal(cell_of(Addresses, **cell))
    assert bool(said) == bool(Addresses.refusal(cell_of(Addresses, **cell)))


def test_links_are_vlans_and_macvlans_in_turns_that_do_not_collide() -> None:
    lines = list(inherit._made(1000))
    assert sum("type vlan id" in line for line in lines) == 500
    vlans = [(line.split()[3], line.split()[-1]) for line in lines if " vlan " in line]
    assert len(set(vlans)) == 500


class Filtering:
    """A host that knows what its rules counted, and the groups of its interfaces."""

    def __init__(self, counts: Iterable[int], groups: Mapping[str, int]) -> None:
        self.counts, self.groups = list(counts), groups

    def printed(self, argv: list[str], _cell: object = None) -> str:
        if "list" in argv and "chain" in argv:
            return "".join(f"iif counter packets {n} bytes 0 drop\n" for n in self.counts)
        if argv[0].endswith("iptables-legacy-save"):
            rows = (f"[{n}:0] -A PREROUTING -m devgroup -j DROP\n" for n in self.counts)
            return f"*raw\n:PREROUTING ACCEPT [9:0]\n{''.join(rows)}COMMIT\n"
        rows = (f'{{"ifname":"{n}","number":{group}}}\n' for n, group in self.groups.items())
        return "".join(rows)


def filtered(counts: Iterable[int], groups: Mapping[str, int]) -> tuple[Filter, Any]:
    scenario = Filter(given_to(Filter))
    scenario.a, scenario.b, scenario.c = "a", "b", "c"
    scenario.place = SimpleNamespace(near="near")  # type: ignore[assignment]
    scenario.names, scenario.groups = ["d0", "near", "d1"], [42, 42, 42]
    scenario.rules = ["one", "two", "three"]
    scenario.sent, scenario.dropped, scenario.passed = 64, sum(counts), 0
    return scenario, {"b": Filtering(counts, groups)}


@pytest.mark.parametrize("arm", ["each", "iptables-tree"])
def test_one_rule_in_the_middle_drops_all_and_each_interface_is_in_its_group(arm: str) -> None:
    groups = {"d0": 42, "near": 42, "d1": 42}
    scenario, hosts = filtered([0, 64, 0], groups)
    scenario.check(hosts, cell_of(Filter, arm=arm))
    for counts, which in (
        ([0, 63, 1], groups),
        ([64, 0, 0], groups),
        ([0, 63, 0], groups),
        ([0, 64, 0], groups | {"d1": 7}),
        ([0, 64, 0], {"d0": 42, "near": 42}),
    ):
        scenario, hosts = filtered(counts, which)
        with pytest.raises(WrongState):
            scenario.check(hosts, cell_of(Filter, arm=arm))


@pytest.mark.parametrize(
    ("heard", "lost", "arm", "fits"),
    [
        (10, 0, "raw", True),
        (7, 3, "raw", True),
        (9, 0, "raw", False),
        (2, 0, "digest", True),
        (3, 0, "digest", False),
    ],
)
def test_each_listener_is_told_of_each_interface_or_once_of_all(
    heard: int, lost: int, arm: str, fits: bool
) -> None:
    scenario = Notify(given_to(Notify))
    scenario.links = SimpleNamespace(count=5, check=lambda _: None)  # type: ignore[assignment]
    scenario.heard, scenario.lost = heard, lost
    cell = cell_of(Notify, arm=arm, listeners=2)
    if fits:
        scenario.check({}, cell)
    else:
        with pytest.raises(WrongState, match="should have been sent"):
            scenario.check({}, cell)


def seconds(kind: type[Scenario], arms: Mapping[str, float], **axes: Any) -> Any:
    order = [axis.name for axis in kind.shape.axes]
    cells = {}
    for arm, took in arms.items():
        cell = cell_of(kind, **axes, arm=arm)
        cells[tuple(cell[name] for name in order)] = {"seconds": took}
    return run_of(kind, cells)


@pytest.mark.parametrize(
    ("kind", "axes", "arms", "finding", "said"),
    [
        (Addresses, {"operation": "assign"}, {"process": 9, "agent": 0.1},
         Finding.NOT_REPRODUCED, "(90x)"),
        (Addresses, {"operation": "assign"}, {"process": 9, "agent": 3},
         Finding.REPRODUCED, "(3x)"),
        (Addresses, {"operation": "assign"}, {"agent": 3}, Finding.NOT_MEASURED, "-"),
        (Tree, {}, {"tree": 1.1, "flat": 1.0}, Finding.NOT_REPRODUCED, "1.1x one flat group"),
        (Tree, {}, {"tree": 3.0, "flat": 1.0}, Finding.REPRODUCED, "3x one flat group"),
        (Tree, {}, {"tree": 3.0}, Finding.NOT_MEASURED, "-"),
        (Inherit, {}, {"daemon": 1.5, "nobody": 1.0}, Finding.REPRODUCED, "after 1.50 s"),
        (Inherit, {}, {"daemon": 2.5, "nobody": 1.0}, Finding.NOT_REPRODUCED, "after 2.50 s"),
        (Inherit, {}, {"daemon": 2.5}, Finding.NOT_MEASURED, "-"),
    ],
)  # fmt: skip
def test_claims_are_judged_by_rules_that_were_there_before(
    kind: type[Scenario], axes: dict[str, Any], arms: dict[str, float], finding: Finding, said: str
) -> None:
    claim = claim_of(kind, seconds(kind, arms, **axes), "")
    assert (claim.finding, said in claim.ours) == (finding, True), claim


def test_other_runs_of_addresses_say_nothing_of_the_paper() -> None:
    assert Addresses.claims(seconds(Addresses, {"batch": 1.0})) == ()


@pytest.mark.parametrize("kind", ALL)
def test_limits_and_memory_are_there_for_a_cell_and_for_upkeep(kind: type[Scenario]) -> None:
    setup = Cell((a.name, a.values[0]) for a in kind.shape.axes if a.per_guest)
    whole = cell_of(kind)
    assert kind.memory(whole, 1) >= 128
    assert kind.limit(setup, emulated=True) >= 60 <= kind.limit(whole, emulated=False)
