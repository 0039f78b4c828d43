"""Listeners: processes that count what the kernel tells of a network."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from agentbox import (
    ACK,
    LOOPBACK,
    Box,
    address_message,
    outcome_of,
    set_mtu,
    soon,
)
from processes import wait_until_gone
from pyroute2.netlink.rtnl import RTM_NEWADDR

from linklab.agent.protocol import Field
from linklab.errors import LabError, ProtocolError

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


class TestListeners:
    LINKS = 1  # RTNLGRP_LINK

    def change(self, box: Box, times: int) -> None:
        requests = [set_mtu(LOOPBACK, 1000 + number) for number in range(times)]
        box.agent.netlink(requests, soon())

    def test_count_what_reaches_them(self, box: Box) -> None:
        assert box.agent.listen(3, self.LINKS, soon()) > 0
        self.change(box, 25)
        heard = box.agent.notification_counts(soon())
        assert [(count.received, count.lost) for count in heard] == [(25, 0)] * 3

    def test_hear_only_their_group(self, box: Box) -> None:
        box.agent.listen(1, 5, soon())  # RTNLGRP_IPV4_IFADDR
        self.change(box, 3)
        box.agent.netlink([address_message(RTM_NEWADDR, ACK, "10.0.0.1")], soon())
        assert box.agent.notification_counts(soon())[0].received == 1

    def test_get_the_room_they_ask_for(self, box: Box) -> None:
        small = box.agent.listen(1, self.LINKS, soon(), buffer=8192)
        large = box.agent.listen(1, self.LINKS, soon(), buffer=65536)
        assert small < large

    def test_account_for_every_message_also_when_some_are_lost(self, box: Box) -> None:
        box.agent.listen(20, self.LINKS, soon(), buffer=1)
        self.change(box, 400)
        for count in box.agent.notification_counts(soon()):
            assert count.received + count.lost == 400

    def test_that_are_started_again_start_anew(self, box: Box) -> None:
        box.agent.listen(2, self.LINKS, soon())
        self.change(box, 5)
        box.agent.listen(1, self.LINKS, soon())
        self.change(box, 2)
        assert [count.received for count in box.agent.notification_counts(soon())] == [2]
        with pytest.raises(ProtocolError, match="nobody listens"):
            box.agent.notification_counts(soon())

    def test_that_die_are_told(self, box: Box) -> None:
        box.agent.listen(1, self.LINKS, soon())
        children = Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        with pytest.raises(LabError, match="ended before its time"):
            box.agent.notification_counts(soon())
        box.agent.listen(1, self.LINKS, soon())

    def test_end_with_the_agent(self, box: Box) -> None:
        box.agent.listen(5, self.LINKS, soon())
        children = Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split()
        assert len(children) == 5
        box.close()
        for child in children:
            wait_until_gone(int(child))

    @pytest.mark.parametrize(
        "fields", [[], [1], [0, 1, 0], [257, 1, 0], [1, 0, 0], [1, 1025, 0], [1, 1, 2**40]]
    )
    def test_that_make_no_sense_are_refused(self, box: Box, fields: list[Field]) -> None:
        assert outcome_of(box.ask("listen", *fields)) == BAD_REQUEST

    def test_on_a_group_that_is_not_there_are_told(self, box: Box) -> None:
        with pytest.raises(LabError, match="a listener"):
            box.agent.listen(3, 1000, soon())
