"""What is deleted at a guest's end, and what is said of what stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
from experiments import hosts_of
from fake_guest import FakeGuest
from fake_kernel import How, Link, Misbehaviour

from linklab.errors import Leaked, Verdict
from linklab.scenarios.scenario import GUEST
from linklab.trials.teardown import tear_down


def guest_with(*groups: int, wrong: Misbehaviour | None = None, **more: Any) -> FakeGuest:
    """A guest with a link in each of these groups."""
    guest = FakeGuest(wrong=wrong, **more)
    for number, group in enumerate(groups):
        guest.kernel._add(Link(0, f"made{number}", group=group))
    return guest


def torn_down(guest: FakeGuest) -> list[str]:
    """Delete what there is; return the names of the links that are left."""
    tear_down(hosts_of(guest)[GUEST])
    return [link.name for link in guest.kernel.links.values()]


def requests_of(guest: FakeGuest) -> list[str]:
    return [call.operation for call in guest.calls]


def test_all_links_are_deleted_but_those_that_nobody_made() -> None:
    assert torn_down(guest_with(0, 0, 42, 7, 42)) == ["lo"]


def test_a_groups_links_are_deleted_by_one_request_however_many_they_are() -> None:
    guest = guest_with(*[42] * 500, foreign=False)
    assert torn_down(guest) == ["lo"]
    assert requests_of(guest).count("netlink") == 1
    assert requests_of(guest).count("netlink-each") == 0
    assert guest.kernel.requests == 1


def test_a_groups_links_are_joined_by_the_few_others() -> None:
    guest = guest_with(*[42] * 500, 0, 7)
    assert torn_down(guest) == ["lo"]
    assert requests_of(guest).count("netlink") == 1
    assert guest.kernel.requests == 1 + len(("dummy0", "made500", "made501"))


def test_links_of_the_default_group_are_marked_first_and_deleted_together() -> None:
    guest = guest_with(*[0] * 500, foreign=False)
    assert torn_down(guest) == ["lo"]
    assert requests_of(guest).count("netlink") == 1, "each request waits for RCU"
    assert requests_of(guest).count("netlink-each") == 1


def test_a_guest_without_links_is_only_asked() -> None:
    guest = guest_with(foreign=False)
    assert torn_down(guest) == ["lo"]
    assert requests_of(guest) == ["job-signal", "notification-counts", "read-file", "dump"]


def test_a_group_that_also_has_what_cannot_be_deleted_goes_one_by_one() -> None:
    guest = guest_with(42, 42)
    guest.kernel.named("lo").group = 42  # type: ignore[union-attr]
    assert torn_down(guest) == ["lo"]


def test_a_link_that_stays_is_named() -> None:
    guest = guest_with(42, wrong=Misbehaviour(How.KEEP, "made0"))
    with pytest.raises(Leaked, match="the link made0 is still there after") as caught:
        torn_down(guest)
    assert caught.value.verdict is Verdict.FAIL
    assert [report.title for report in caught.value.reports] == ["a link stays"]


@pytest.mark.parametrize("name", ["tunl0", "sit0", "ip6tnl0", "gretap0"])
def test_what_a_module_makes_in_each_namespace_may_stay(name: str) -> None:
    guest = guest_with(wrong=Misbehaviour(How.KEEP, name))
    guest.kernel._add(Link(0, name))
    assert torn_down(guest) == ["lo", name]


# What is left to run


class BusyGuest(FakeGuest):
    """Has a job that runs until it is killed, and listeners."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[int] = []

    def _do_job_start(self, reader: Any) -> list[Any]:
        return [17]

    def _do_job_signal(self, reader: Any) -> list[Any]:
        assert reader.take_int() == 0, "each job"
        self.signals.append(reader.take_int())
        return []


def test_a_job_and_listeners_that_are_left_are_ended() -> None:
    guest = BusyGuest()
    guest.start_job(["/bin/server"], 1e9)
    guest.listen(3, 1, 1e9)
    torn_down(guest)
    assert guest.signals == [9]
    assert guest._listeners == 0


# Namespaces


class SpacedGuest(FakeGuest):
    """Has named namespaces, of which those in `stays` are not gone when they are deleted.

    One in `slow` is gone after so many looks.
    """

    def __init__(self, *names: str, stays: tuple[str, ...] = (), slow: int = 0) -> None:
        super().__init__(programs=frozenset({"/bin/ip", "/bin/sleep", "/bin/kill"}))
        self.names, self.stays, self.slow = list(names), stays, slow
        self.files["/run/netns"] = b""
        self.ids: dict[str, int] = {}
        self.slept = 0
        self.killed: list[str] = []

    def _run_one(self, argv: list[str]) -> tuple[int, bytes, int]:
        if argv[0] == "/bin/sleep":
            self.slept += 1
        if argv[0] == "/bin/kill":
            self.killed += argv[2:]
        if argv[0] != "/bin/ip" or argv[1] != "netns":
            return 0, b"", 0
        said = ""
        match argv[2:]:
            case ["set", name, "auto"]:
                self.ids[name] = len(self.ids)
            case ["pids", _]:
                said = "71\n"
            case ["delete", name]:
                self.names.remove(name)
                if name not in self.stays and not self.slow:
                    del self.ids[name]
            case ["list"]:
                rows = [f"{n} (id: {self.ids[n]})" if n in self.ids else n for n in self.names]
                said = "".join(f"{row}\n" for row in rows)
            case ["list-id"]:
                said = self._listed()
            case other:
                raise AssertionError(other)
        return 0, said.encode(), 0

    def _listed(self) -> str:
        if not self.names and self.slow:
            self.slow -= 1
            if not self.slow:
                self.ids = {name: self.ids[name] for name in self.stays}
        rows = [
            f"nsid {number}" + (f" (iproute2 netns name: {name})" if name in self.names else "")
            for name, number in self.ids.items()
        ]
        return "".join(f"{row}\n" for row in [*rows, "nsid 99"])  # somebody's, of no name


def test_named_namespaces_are_deleted_and_who_is_in_them_is_killed() -> None:
    guest = SpacedGuest("a", "b")
    torn_down(guest)
    assert guest.names == []
    assert guest.killed == ["71", "71"]
    assert guest.slept == 0


def test_a_namespace_that_takes_its_time_is_waited_for() -> None:
    guest = SpacedGuest("a", slow=13)
    torn_down(guest)
    assert 0 < guest.slept < 10


def test_a_namespace_that_stays_is_named() -> None:
    with pytest.raises(Leaked) as caught:
        torn_down(SpacedGuest("a", "b", "c", stays=("b", "c")))
    assert re.search(r"network namespace b is still there .* like 1 more", caught.value.message)
    assert [report.title for report in caught.value.reports] == ["a network namespace stays"]
