"""Dumps that are reduced in the guest: still what the kernel said."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest
from agentbox import (
    ACK,
    DUMP,
    EVERYTHING,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_MTU,
    INDEX_AT,
    LOOPBACK,
    Box,
    address_message,
    all_links,
    boxed,
    create_link,
    inside,
    link_message,
    links,
    make_links,
    parsed,
    said_by_ip,
    set_mtu,
    soon,
)
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETADDR, RTM_NEWADDR
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from linklab.errors import LabError, RequestRefused

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


def address_in(raw: bytes) -> str:
    message = ifaddrmsg(raw)
    message.decode()
    return str(message.get_attr("IFA_LOCAL"))
