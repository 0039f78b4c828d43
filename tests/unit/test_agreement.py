"""Two nodes that agree on a chain: what is asked of them, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_hosts import cell_of, given_to, hosts_of

from linklab.agent.replies import JobNews, Measure, ProgramEnd
from linklab.errors import LabError, WrongState
from linklab.lab.topology import parse
from linklab.results.shape import Cell
from linklab.scenarios.agreement import Agreement
from linklab.scenarios.stack.blocks import Block, Command, listed, of_two, remove, undone

MEASURE = Measure(0.002, 0.1, 0.1, 1, 1, 0)
AGREED = """data type=fb_ethvlink up=agreed1
agreed1 type=fb_dummy up=end
end type=fb_pflana
"""
NOTHING = "data type=fb_ethvlink\nend type=fb_pflana\n"
TALK = "answered 200\nlost 0\nagain 0\nwrong 0\nns_p50 5000\nns_p99 9000\n"
NO = "words 2\nrequests 0\nfbctl: no agreement: no chain in common: offered was x; nothing is bound"


@dataclass
class Node:
    """An agent that answers what fbctl would have said."""

    lists: str = AGREED
    said: str = "chain 1\nwords 4\nrequests 3\n"
    status: int = 0
    talk: str = TALK
    accepts: tuple[str, int] = ("chain 3\n", 0)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    job: str = ""

    def run(self, argv: Sequence[str], _deadline: float) -> ProgramEnd:
        self.ran.append(tuple(argv))
        if "propose" in argv:
            status = self.status << 8
            return ProgramEnd(int(not status), status, MEASURE, self.said.encode())
        said = self.lists if "list" in argv else self.talk if "talk" in argv else ""
        return ProgramEnd(1, 0, MEASURE, said.encode())

    def write_file(self, path: str, content: bytes, _deadline: float, *_: object) -> None:
        self.sent.append(content)

    def start_job(self, argv: Sequence[str], _deadline: float) -> int:
        self.ran.append(tuple(argv))
        self.job = "accept" if "accept" in argv else "answer"
        return 1

    def job_news(self, _wait: float, _deadline: float, _job: int = 0) -> JobNews:
        if not self.job.startswith("heard"):
            self.job = f"heard {self.job}"
            return JobNews(b"listening\n", MEASURE, None)
        said, status = self.accepts if self.job == "heard accept" else ("", 0)
        return JobNews(said.encode(), MEASURE, status << 8)


def tried(offers: str, **node: Any) -> tuple[Agreement, Mapping[str, float], Cell]:
    """Return the scenario after a trial, its figures and the cell."""
    given, cell = given_to(Agreement), cell_of(Agreement, offers=offers)
    hosts = hosts_of(Node(**node), Agreement, given)
    scenario = Agreement(given)
    list(scenario.set_up(hosts, Cell()))
    scenario.prepare(hosts, cell)
    return scenario, scenario.trial(hosts, cell), cell


def test_nodes_that_agree_talk_over_what_they_agreed_on() -> None:
    scenario, metrics, cell = tried("second")
    scenario.check({}, cell)
    assert (metrics["agreed"], metrics["words"], metrics["requests"]) == (0.002, 4, 3)
    assert (metrics["blocks"], metrics["round_trip"], metrics["messages"]) == (1, 5.0, 200)
    with pytest.raises(WrongState, match="a should have fb_dummy fb_counter fb_dummy bound"):
        scenario.check({}, cell_of(Agreement, offers="alike"))


def refused(lists: str = NOTHING, said: str = NO, accepts: str = NO) -> Any:
    return tried("none", lists=lists, said=said, status=1, accepts=(accepts, 1))


def test_nodes_with_nothing_in_common_say_so_and_bind_nothing() -> None:
    scenario, metrics, cell = refused()
    scenario.check({}, cell)
    assert (metrics["words"], metrics["blocks"]) == (2, 0)
    assert not {"round_trip", "messages", "lost"} & metrics.keys()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"lists": AGREED}, "a should have no chain bound, and has fb_dummy"),
        ({"said": NO.replace("common", "mind")}, "a should have no chain bound"),
        ({"accepts": "chain 1"}, "b should have no chain bound"),
    ],
)
def test_what_is_bound_or_silent_where_nothing_was_agreed_is_the_kernels_fault(
    wrong: dict[str, str], why: str
) -> None:
    scenario, _, cell = refused(**wrong)
    with pytest.raises(WrongState, match=why):
        scenario.check({}, cell)


def test_a_conversation_that_loses_or_changes_a_message_is_the_kernels_fault() -> None:
    for line in ("lost 1", "again 1", "wrong 1"):
        name = line.split()[0]
        scenario, _, cell = tried("second", talk=TALK.replace(f"{name} 0", line))
        with pytest.raises(WrongState, match="of 200 messages"):
            scenario.check({}, cell)
    with pytest.raises(WrongState, match="none of 200 messages was answered"):
        tried("second", talk=TALK.replace("answered 200", "answered 0"))


def test_a_program_that_says_nothing_is_the_labs_fault() -> None:
    with pytest.raises(LabError, match="did not say what it took"):
        tried("second", said="chain 1\n")


def test_all_blocks_of_a_list_are_unbound_before_they_go() -> None:
    found = listed("low type=fb_tee up=high side=copy\nhigh type=fb_dummy down=low\ncopy x=1\n")
    unbound = [of_two(Command.UNBIND, "low", upper) for upper in ("high", "copy")]
    assert undone(found) == [*unbound, *map(remove, ("low", "high", "copy"))]
    assert undone({"alone": Block("alone", {})}) == [remove("alone")]


def test_two_hosts_and_two_links_are_needed_wherever_they_are() -> None:
    for in_one_guest in (True, False):
        assert not Agreement.unfit(parse("a == b"), in_one_guest=in_one_guest)
        assert "two links" in Agreement.unfit(parse("a -- b"), in_one_guest=in_one_guest)
