"""What the agent does to a network, in a namespace of its own, and what the kernel says."""

from __future__ import annotations

import json
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentbox import (
    ACK,
    DUMP,
    EVERYTHING,
    HEADER_BYTES,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MTU,
    INDEX_AT,
    Box,
    agent_in_a_box,
    all_links,
    boxed,
    create_link,
    inside,
    link_message,
    links,
    outcome_of,
    parsed,
    set_mtu,
    soon,
)
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from linklab.agent.line import LineClosed
from linklab.agent.protocol import Field
from linklab.errors import LabError, ProtocolError, RequestRefused

pytestmark = pytest.mark.agent

BAD_REQUEST = 1
LOOPBACK = 1
NO_LINK = 0x7FFF0000


@pytest.fixture
def box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_in_a_box(agent_program, tmp_path, network=True) as running:
        yield running


@pytest.fixture(scope="session")
def kind(agent_program: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A kind of link that this host's kernel can make: dummy, or whatever is nearest."""
    folder = tmp_path_factory.mktemp("kind")
    for candidate in ("dummy", "ifb", "bridge"):
        with agent_in_a_box(agent_program, folder, network=True) as running:
            try:
                running.agent.netlink([create_link("probe", candidate)], soon())
            except RequestRefused:
                continue
            return candidate
    pytest.skip("this host's kernel makes no dummy, ifb or bridge")


def said_by_ip(box: Box, *names: str) -> dict[str, dict[str, Any]]:
    """What `ip` says of the links of a box: somebody else's word for it."""
    ip = shutil.which("ip", path="/bin:/sbin:/usr/bin:/usr/sbin")
    assert ip, "iproute2 is not installed: `invoke setup` installs what is missing"
    output = box.agent.run([ip, "-json", "link", "show"], soon()).output
    return {link["ifname"]: link for link in json.loads(output)}


def make_links(box: Box, kind: str, count: int, *, first: int = 0, width: int = 4) -> None:
    name = "t" + "0" * width
    request = create_link(name, kind)
    offset = request.index(name.encode()) + 1
    box.agent.netlink_each(request, first, count, offset=offset, width=width, deadline=soon())


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
    each = ["netlink-each", 0, 1]
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
    dump = ["dump", 16, 4, b""]
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


@pytest.mark.parametrize(
    ("fields"), [fields for _, fields in misshapen()], ids=[what for what, _ in misshapen()]
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


class TestDump:
    def test_is_what_ip_says(self, box: Box, kind: str) -> None:
        make_links(box, kind, 3)
        box.agent.netlink([set_mtu(LOOPBACK, 1234)], soon())
        dumped = [link for _, link in links(box, EVERYTHING)]
        said = said_by_ip(box)
        assert {link["IFLA_IFNAME"] for link in dumped} == set(said)
        for link in dumped:
            other = said[link["IFLA_IFNAME"]]
            assert (link["index"], link["IFLA_MTU"]) == (other["ifindex"], other["mtu"])
            assert link["IFLA_ADDRESS"] == other["address"]

    def test_reduced_is_the_full_one_without_the_rest(self, box: Box, kind: str) -> None:
        make_links(box, kind, 3)
        full = {link["index"]: link for _, link in links(box, EVERYTHING)}
        for kept, names in (
            ((IFLA_IFNAME, IFLA_MTU), ("IFLA_IFNAME", "IFLA_MTU")),
            ((IFLA_ADDRESS, IFLA_IFNAME), ("IFLA_ADDRESS", "IFLA_IFNAME")),
        ):
            reduced = links(box, kept)
            assert [length for length, _ in reduced] == [1] * len(full)
            assert [link["index"] for _, link in reduced] == sorted(full)
            for _, link in reduced:
                source = full[link["index"]]
                assert link == {"index": source["index"], **{name: source[name] for name in names}}

    def test_of_nothing_kept_tells_what_is_there(self, box: Box) -> None:
        assert set(links(box, [])[0][1]) == {"index"}

    def test_of_an_attribute_that_no_link_has(self, box: Box) -> None:
        assert set(links(box, [0x3FFF])[0][1]) == {"index"}

    def test_tells_links_that_say_the_same_once(self, box: Box, kind: str) -> None:
        make_links(box, kind, 300)
        first = said_by_ip_index(box, "t0000")
        runs = [(length, link) for length, link in links(box, [IFLA_MTU]) if link["index"] >= first]
        mtu = runs[0][1]["IFLA_MTU"]
        assert [(length, link["index"]) for length, link in runs] == [(300, first)]
        box.agent.netlink([set_mtu(first + 100, 1400), set_mtu(first + 101, 1400)], soon())
        runs = [(length, link) for length, link in links(box, [IFLA_MTU]) if link["index"] >= first]
        assert [(length, link["index"], link["IFLA_MTU"]) for length, link in runs] == [
            (100, first, mtu),
            (2, first + 100, 1400),
            (198, first + 102, mtu),
        ]

    def test_tells_a_gap_in_the_indexes(self, box: Box, kind: str) -> None:
        make_links(box, kind, 5)
        first = said_by_ip_index(box, "t0000")
        box.agent.netlink([link_message(RTM_DELLINK, ACK, index=first + 2)], soon())
        runs = [(length, link) for length, link in links(box, [IFLA_MTU]) if link["index"] >= first]
        assert [(length, link["index"]) for length, link in runs] == [(2, first), (2, first + 3)]

    def test_is_sorted_by_index_whatever_the_kernels_order(self, box: Box, kind: str) -> None:
        numbers = [40, 9, 300, 17, 1000, 12]
        for number in numbers:
            link = create_link(f"n{number}", kind)
            box.agent.netlink([link[:INDEX_AT] + struct.pack("<I", number) + link[24:]], soon())
        dumped = [link["index"] for _, link in links(box, [IFLA_IFNAME])]
        assert dumped == sorted(dumped)
        assert set(numbers) <= set(dumped)

    def test_leaves_those_of_one_link_in_the_kernels_order(self, box: Box) -> None:
        wanted = [f"10.0.0.{number}" for number in range(1, 60)]
        box.agent.netlink([address_message(RTM_NEWADDR, ACK, text) for text in wanted], soon())
        request = address_message(RTM_GETADDR, DUMP)
        local = 2  # IFA_LOCAL
        runs = box.agent.dump(request, [local], soon(), header=8, index=4)
        assert [address_in(run.message) for run in runs] == wanted

    def test_takes_the_place_of_nothing_in_a_sample(self, box: Box) -> None:
        (run,) = box.agent.dump(all_links(), [IFLA_MTU], soon(), **IFINFOMSG)[:1]
        flags, seq, pid = struct.unpack_from("<HII", run.message, 6)
        assert (flags, seq, pid) == (0, 0, 0)
        assert struct.unpack_from("<I", run.message)[0] == len(run.message)
        assert parsed(run)["index"] == LOOPBACK

    def test_that_the_kernel_refuses_is_refused(self, box: Box) -> None:
        target_netnsid = struct.pack("<HHi", 8, 46, 4711)  # IFLA_TARGET_NETNSID
        request = all_links() + target_netnsid
        nowhere = struct.pack("<I", len(request)) + request[4:]
        with pytest.raises(RequestRefused, match="refused the dump"):
            box.agent.dump(nowhere, [], soon(), **IFINFOMSG)
        assert links(box, [])

    def test_that_changes_under_it_is_taken_again_or_refused(
        self, box: Box, kind: str, agent_program: Path, tmp_path: Path
    ) -> None:
        """Whatever it returns is a state that was there: all links that never changed."""
        make_links(box, kind, 120)
        steady = {f"t{number:04}" for number in range(120)}
        over = threading.Event()
        with boxed([*inside(box.pid), agent_program, "-"], cwd=tmp_path) as meddler:

            def meddle() -> None:
                while not over.is_set():
                    make_links(meddler, kind, 5, first=9000)
                    delete = [
                        link_message(RTM_DELLINK, ACK, ("IFLA_IFNAME", f"t{number}"))
                        for number in range(9000, 9005)
                    ]
                    meddler.agent.netlink(delete, soon())

            meddling = threading.Thread(target=meddle)
            meddling.start()
            try:
                for _ in range(60):
                    try:
                        dumped = links(box, [IFLA_IFNAME])
                    except LabError as error:
                        assert "changed under" in error.message
                        continue
                    names = [link["IFLA_IFNAME"] for _, link in dumped]
                    assert len(names) == len(set(names))
                    assert steady <= set(names)
            finally:
                over.set()
                meddling.join()
        assert links(box, [IFLA_IFNAME])


def said_by_ip_index(box: Box, name: str) -> int:
    index = {link["IFLA_IFNAME"]: link["index"] for _, link in links(box, [IFLA_IFNAME])}
    return int(index[name])


def address_message(kind: int, flags: int, text: str | None = None) -> bytes:
    message = ifaddrmsg()
    if text is not None:
        message.update({"index": LOOPBACK, "family": 2, "prefixlen": 32})
        message["attrs"] = [("IFA_LOCAL", text)]
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


def address_in(raw: bytes) -> str:
    message = ifaddrmsg(raw)
    message.decode()
    return str(message.get_attr("IFA_LOCAL"))


class TestProgramsOnLinks:
    def test_a_row_of_programs_that_dump_first_does_the_same(self, box: Box) -> None:
        ip = shutil.which("ip", path="/bin:/sbin:/usr/bin:/usr/sbin") or "/bin/ip"
        for dump_first in (False, True):
            end = box.agent.run_each(
                [ip, "link", "set", "lo", "mtu", "14{}"], 10, 3, soon(), dump_first=dump_first
            )
            assert (end.done, end.exit_code, end.output) == (3, 0, b"")
            assert said_by_ip(box)["lo"]["mtu"] == 1412
            box.agent.netlink([set_mtu(LOOPBACK, 1000)], soon())

    def test_a_row_of_programs_tells_what_the_failing_one_said(self, box: Box) -> None:
        ip = shutil.which("ip", path="/bin:/sbin:/usr/bin:/usr/sbin") or "/bin/ip"
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
