"""Netlink requests, in a network of their own: what is done, and what the kernel says."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from agentbox import (
    ACK,
    DUMP,
    HEADER_BYTES,
    IFLA_GROUP,
    IFLA_MTU,
    INDEX_AT,
    LOOPBACK,
    Box,
    all_links,
    create_link,
    ip_program,
    link_message,
    links,
    make_links,
    outcome_of,
    said_by_ip,
    set_mtu,
    soon,
)
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK

from linklab.agent.line import LineClosed
from linklab.agent.protocol import Field
from linklab.errors import ProtocolError, RequestRefused

pytestmark = pytest.mark.agent

BAD_REQUEST = 1
NO_LINK = 0x7FFF0000


@pytest.fixture
def box(network_box: Box) -> Box:
    """Short for a name that stands in every test."""
    return network_box


@pytest.fixture
def kind(link_kind: str) -> str:
    """Likewise."""
    return link_kind


class TestNetlink:
    def test_does_what_the_message_says(self, box: Box) -> None:
        measure = box.agent.netlink([set_mtu(LOOPBACK, 1234)], soon())
        assert said_by_ip(box)["lo"]["mtu"] == 1234
        assert measure.messages == 1
        assert 0 < measure.seconds < 10

    def test_does_many_in_order(self, box: Box) -> None:
        requests = [set_mtu(LOOPBACK, 1000 + number) for number in range(300)]
        assert box.agent.netlink(requests, soon()).messages == 300
        assert said_by_ip(box)["lo"]["mtu"] == 1299

    def test_tells_which_was_refused_and_ends_there(self, box: Box) -> None:
        requests = [set_mtu(LOOPBACK, 1400), set_mtu(NO_LINK, 1500), set_mtu(LOOPBACK, 1300)]
        with pytest.raises(RequestRefused, match=r"request 2 of `netlink`: .*No such device"):
            box.agent.netlink(requests, soon())
        assert said_by_ip(box)["lo"]["mtu"] == 1400

    def test_tells_what_the_kernel_says_of_a_refusal(self, box: Box) -> None:
        with pytest.raises(RequestRefused, match=r"Unknown device type: Not supported"):
            box.agent.netlink([create_link("x", "no-such-kind")], soon())

    def test_a_refusal_is_no_fault_of_the_next_request(self, box: Box) -> None:
        with pytest.raises(RequestRefused):
            box.agent.netlink([set_mtu(NO_LINK, 1500)], soon())
        box.agent.netlink([set_mtu(LOOPBACK, 1400)], soon())

    def test_a_question_is_answered_too(self, box: Box) -> None:
        question = link_message(RTM_GETLINK, ACK, index=LOOPBACK)
        assert box.agent.netlink([question], soon()).messages == 1

    def test_a_dump_ends_too(self, box: Box) -> None:
        dump = link_message(RTM_GETLINK, ACK | DUMP)
        assert box.agent.netlink([dump, set_mtu(LOOPBACK, 1400)], soon()).messages == 2


def misshapen() -> Iterator[tuple[str, list[Field]]]:
    good = set_mtu(LOOPBACK, 1400)
    long = struct.pack("<I", len(good) + 4096) + good[4:]
    silent = link_message(RTM_NEWLINK, ACK & ~4, ("IFLA_MTU", 1400), index=LOOPBACK)
    no_request = link_message(RTM_NEWLINK, 4, ("IFLA_MTU", 1400), index=LOOPBACK)
    no_dump = link_message(RTM_GETLINK, 1)
    yield "no messages", ["netlink", 0]
    yield "a number of messages that is none", ["netlink", b"one", good]
    yield "too many messages", ["netlink", 65537, good]
    yield "fewer messages than told", ["netlink", 2, good]
    yield "half a header", ["netlink", 1, good[:15]]
    yield "a message cut short", ["netlink", 1, good[:-1]]
    yield "a message that claims to be longer", ["netlink", 1, long]
    yield "a message that wants no acknowledgement", ["netlink", 1, silent]
    yield "a message that is no request", ["netlink", 1, no_request]
    yield "the second message misshapen", ["netlink", 2, good, b""]
    each: list[Field] = ["netlink-each", 0, 1]
    yield "no template", [*each, INDEX_AT, 0]
    yield "an empty template", [*each, 0, 0, b""]
    yield "a template that claims to be longer", [*each, INDEX_AT, 0, long]
    yield "a template that wants no acknowledgement", [*each, INDEX_AT, 0, silent]
    for offset in (0, 4, 12, HEADER_BYTES - 1):
        yield f"a number over the header, at {offset}", [*each, offset, 0, good]
    for offset in (len(good) - 3, len(good), len(good) + 1, 2**63, 2**64 - 1):
        yield f"a number over the end, at {offset}", [*each, offset, 0, good]
    for width in (len(good), len(good) - INDEX_AT + 1, 2**63, 2**64 - 1):
        yield f"{width} digits", [*each, INDEX_AT, width, good]
    dump: list[Field] = ["dump", 16, 4, b""]
    yield "no dump request", dump
    yield "half a dump request", [*dump, all_links()[:15]]
    yield "a dump request cut short", [*dump, all_links()[:-1]]
    yield (
        "a dump request that claims to be longer",
        [*dump, struct.pack("<I", 9999) + all_links()[4:]],
    )
    yield "a dump request that asks for none", [*dump, no_dump]
    for header, index in ((0, 0), (3, 0), (16, 13), (16, 2**64 - 1), (257, 4), (2**64 - 1, 4)):
        yield f"an index at {index} of {header}", ["dump", header, index, b"", all_links()]


MISSHAPEN = list(misshapen())


@pytest.mark.parametrize(
    "fields", [fields for _, fields in MISSHAPEN], ids=[what for what, _ in MISSHAPEN]
)
def test_is_refused_at_once(box: Box, fields: list[Field]) -> None:
    assert outcome_of(box.ask(*fields)) == BAD_REQUEST
    assert said_by_ip(box)["lo"]["mtu"] == 65536


class TestNetlinkEach:
    def test_writes_names_in_decimal_digits(self, box: Box, kind: str) -> None:
        make_links(box, kind, 12, first=95)
        names = set(said_by_ip(box)) - {"lo"}
        assert {f"t{number:04}" for number in range(95, 107)} <= names

    def test_writes_indexes_in_binary(self, box: Box, kind: str) -> None:
        make_links(box, kind, 5)
        indexes = sorted(
            link["ifindex"] for name, link in said_by_ip(box).items() if name[0] == "t"
        )
        assert indexes == list(range(indexes[0], indexes[0] + 5))
        measure = box.agent.netlink_each(
            set_mtu(0, 1400), indexes[1], 3, offset=INDEX_AT, width=0, deadline=soon()
        )
        assert measure.messages == 3
        said = said_by_ip(box)
        mtus = [said[f"t{number:04}"]["mtu"] for number in range(5)]
        assert mtus[1:4] == [1400] * 3
        assert 1400 not in (mtus[0], mtus[4])

    def test_tells_which_was_refused_and_ends_there(self, box: Box, kind: str) -> None:
        make_links(box, kind, 1, first=7)
        with pytest.raises(RequestRefused, match=r"request 4 of .*File exists"):
            make_links(box, kind, 9, first=4)
        names = set(said_by_ip(box))
        assert {"t0004", "t0005", "t0006", "t0007"} <= names
        assert "t0008" not in names

    def test_of_none_does_nothing(self, box: Box) -> None:
        measure = box.agent.netlink_each(
            set_mtu(0, 1400), NO_LINK, 0, offset=INDEX_AT, width=0, deadline=soon()
        )
        assert measure.messages == 0


class TestProgramsOnLinks:
    def test_a_row_of_programs_that_dump_first_does_the_same(self, box: Box) -> None:
        ip = ip_program()
        for dump_first in (False, True):
            end = box.agent.run_each(
                [ip, "link", "set", "lo", "mtu", "14{}"], 10, 3, soon(), dump_first=dump_first
            )
            assert (end.done, end.exit_code, end.output) == (3, 0, b"")
            assert said_by_ip(box)["lo"]["mtu"] == 1412
            box.agent.netlink([set_mtu(LOOPBACK, 1000)], soon())

    def test_a_row_of_programs_tells_what_the_failing_one_said(self, box: Box) -> None:
        ip = ip_program()
        end = box.agent.run_each([ip, "link", "set", "none{}", "mtu", "1400"], 3, 5, soon())
        assert (end.done, end.exit_code) == (0, 1)
        assert b"none3" in end.output


def test_a_group_of_links_is_changed_by_one_message(box: Box, kind: str) -> None:
    request = create_link("g0", kind, ("IFLA_GROUP", 7))
    box.agent.netlink_each(request, 0, 9, offset=request.index(b"g0") + 1, width=1, deadline=soon())
    change = link_message(RTM_NEWLINK, ACK, ("IFLA_GROUP", 7), ("IFLA_MTU", 1400))
    assert box.agent.netlink([change], soon()).messages == 1
    groups = [
        (length, link["IFLA_MTU"])
        for length, link in links(box, [IFLA_GROUP, IFLA_MTU])
        if link["IFLA_GROUP"] == 7
    ]
    assert groups == [(9, 1400)]


def test_an_agent_that_is_killed_is_not_waited_for(box: Box) -> None:
    box.process.kill()
    with pytest.raises(LineClosed):
        box.agent.netlink([set_mtu(LOOPBACK, 1400)], soon())


def test_a_request_that_the_host_encoded_wrong_is_the_labs_fault(box: Box) -> None:
    with pytest.raises(ProtocolError, match="acknowledgement"):
        box.agent.netlink([link_message(RTM_NEWLINK, 1, index=LOOPBACK)], soon())
