"""What work asks of the kernel, counted by the agent that watches it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from agentbox import ACK, LOOPBACK, Box, link_message, set_mtu, soon
from pyroute2.netlink.rtnl import RTM_NEWLINK

from linklab.agent.client import TracedAgent
from linklab.agent.replies import SyscallCount
from linklab.errors import GuestIncomplete, ProtocolError, RequestRefused

pytestmark = pytest.mark.agent

TRUE = "/bin/true"
NO_LINK = 0x7FFF0000


@pytest.fixture
def traced(network_box: Box) -> TracedAgent:
    return TracedAgent(network_box.agent)


def by_netlink(traced: TracedAgent, messages: int) -> SyscallCount:
    traced.netlink([set_mtu(LOOPBACK, 1300 + number) for number in range(messages)], soon())
    return traced.counted


def by_processes(traced: TracedAgent, count: int, *, dump_first: bool = False) -> SyscallCount:
    traced.run_each([TRUE], 0, count, soon(), dump_first=dump_first)
    return traced.counted


def test_netlink_messages_are_counted_exactly(traced: TracedAgent) -> None:
    for messages in (1, 2, 30):
        counted = by_netlink(traced, messages)
        assert (counted.messages, counted.started) == (messages, 0)


def test_each_message_takes_two_calls_to_send_and_to_read_the_answer(traced: TracedAgent) -> None:
    assert by_netlink(traced, 31).system_calls - by_netlink(traced, 1).system_calls == 60


def test_each_process_of_a_row_asks_for_the_same(traced: TracedAgent) -> None:
    """What a long row asks for can be told from its first two."""
    one, two, nine = (by_processes(traced, count) for count in (1, 2, 9))
    assert (one.started, two.started, nine.started) == (1, 2, 9)
    assert one + (two - one) * 8 == nine


def test_a_dump_before_each_process_is_one_message_more(traced: TracedAgent) -> None:
    assert by_processes(traced, 3).messages == 0
    assert by_processes(traced, 3, dump_first=True).messages == 3


def test_what_programs_start_in_their_turn_is_counted_too(
    traced: TracedAgent, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n/bin/true\n/bin/true\nexit 3\n")
    script.chmod(0o755)
    end = traced.run([str(script)], soon())
    assert end.exit_code == 3
    assert traced.counted.started == 3


def test_messages_of_ip_are_counted(traced: TracedAgent) -> None:
    ip = shutil.which("ip", path="/bin:/sbin:/usr/bin:/usr/sbin")
    assert ip, "iproute2 is not installed: `invoke setup` installs what is missing"
    traced.run([ip, "link", "set", "dev", "lo", "mtu", "1400"], soon())
    one = traced.counted.messages
    assert one >= 1
    traced.run_each([ip, "link", "set", "dev", "lo", "mtu", "13{}"], 10, 4, soon())
    assert traced.counted.messages == 4 * one


def test_the_work_is_done_and_told_of_as_always(traced: TracedAgent, network_box: Box) -> None:
    measure = traced.netlink([set_mtu(LOOPBACK, 1234)], soon())
    assert (measure.messages, measure.processes) == (1, 1)
    question = link_message(RTM_NEWLINK, ACK, ("IFLA_MTU", 1234), index=LOOPBACK)
    network_box.agent.netlink([question], soon())
    with pytest.raises(RequestRefused, match=r"request 1 of `netlink`: .*No such device"):
        traced.netlink([set_mtu(NO_LINK, 1500)], soon())
    with pytest.raises(ProtocolError, match="no such operation"):
        traced.call("nonsense", (), soon())


def test_it_ends_though_somebody_listens(traced: TracedAgent, network_box: Box) -> None:
    network_box.agent.listen(2, 1, soon())
    assert by_netlink(traced, 5).messages == 5
    assert [count.received for count in network_box.agent.notification_counts(soon())] == [5, 5]


def test_who_watches_cannot_be_watched(traced: TracedAgent) -> None:
    with pytest.raises(GuestIncomplete):
        TracedAgent(traced).netlink([set_mtu(LOOPBACK, 1400)], soon())
    assert by_netlink(traced, 1).messages == 1
