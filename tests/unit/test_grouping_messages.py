"""The grouping scenario's requests and what it reads in a dump, byte by byte."""

from __future__ import annotations

import struct

import pytest
from fake_kernel import FakeKernel as Kernel
from fake_kernel import Link, Refused, decode
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.agent.links import (
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MTU,
    dump_request,
    group_delete,
)
from linklab.agent.replies import MessageRun
from linklab.scenarios.grouping import Grouping
from linklab.scenarios.grouping.change import CHANGES, FIRST_NUMBER, LinkState, Operation
from linklab.scenarios.grouping.messages import group_transition, read_run, template

MAX_COUNT = Grouping.shape.axis("interfaces").most
NUMBERS = (0, 1, 9_999, MAX_COUNT - 1)  # of the interfaces of a guest, from the first on


def filled_in(operation: Operation, number: int) -> bytes:
    """The request with the number written over it, as guest/agent/op_netlink.c does it."""
    made = template(CHANGES[operation])
    patch = str(number).encode() if made.width else struct.pack("=I", number)
    assert len(patch) == (made.width or 4), "the number does not fit into its place"
    return made.request[: made.offset] + patch + made.request[made.offset + len(patch) :]


@pytest.mark.parametrize("number", NUMBERS)
def test_creation_names_each_interface_and_puts_it_into_the_group(number: int) -> None:
    request = decode(filled_in(Operation.CREATE, FIRST_NUMBER + number))
    assert request.name == f"ll{10_000 + number}"
    assert (request.group, request.link_kind, request.index) == (42, "dummy", 0)


@pytest.mark.parametrize("operation", [o for o in Operation if o is not Operation.CREATE])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_request_for_one_interface_goes_by_its_index_alone(
    operation: Operation, number: int
) -> None:
    request = decode(filled_in(operation, number + 3))
    assert (request.index, request.name) == (number + 3, None)


@pytest.mark.parametrize("operation", Operation)
def test_a_request_says_its_own_length_and_asks_for_an_acknowledgement(
    operation: Operation,
) -> None:
    raw = template(CHANGES[operation]).request
    length, _kind, flags = struct.unpack_from("=IHH", raw)
    assert length == len(raw)
    assert flags & 0x5 == 0x5  # NLM_F_REQUEST | NLM_F_ACK


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (Operation.MTU, {"mtu": 1400}),
        (Operation.UP, {"flags": 1, "change": 1}),
        (Operation.DOWN, {"flags": 0, "change": 1}),
        (Operation.ADDRESS, {"address": "02:00:00:00:00:01"}),
        (Operation.GROUP, {"group": 43}),
        (Operation.DELETE, {}),
    ],
)
def test_a_request_asks_for_what_changes_and_nothing_else(
    operation: Operation, says: dict[str, object]
) -> None:
    request = vars(decode(template(CHANGES[operation]).request))
    silent = {"mtu": None, "address": None, "group": None, "flags": 0, "change": 0, "name": None}
    assert {key: request[key] for key in silent} == {**silent, **says}


def test_what_ip_is_told_is_what_netlink_is_told() -> None:
    """The words and the messages of an operation stand in different places."""
    for operation, words in (
        (Operation.CREATE, "link add ll{} group 42 type dummy"),
        (Operation.MTU, "link set dev ll{} mtu 1400"),
        (Operation.UP, "link set dev ll{} up"),
        (Operation.DOWN, "link set dev ll{} down"),
        (Operation.ADDRESS, "link set dev ll{} address 02:00:00:00:00:01"),
        (Operation.GROUP, "link set dev ll{} group 43"),
        (Operation.DELETE, "link delete dev ll{}"),
    ):
        assert " ".join(CHANGES[operation].ip_words()) == words


def test_the_words_for_a_group_select_it_by_its_number() -> None:
    assert " ".join(CHANGES[Operation.UP].ip_group_words()) == "link set group 42 up"
    assert " ".join(CHANGES[Operation.DELETE].ip_group_words()) == "link delete group 42"


def test_a_group_is_selected_with_neither_index_nor_name() -> None:
    """Or the attribute would not be the selector (rtnl_newlink)."""
    before = LinkState(up=True, address="02:00:00:00:00:01")
    after = LinkState(mtu=1400, address="02:00:00:00:00:00")
    request = decode(group_transition(42, before, after))
    assert (request.index, request.name, request.group) == (0, None, 42)
    assert (request.mtu, request.address) == (1400, "02:00:00:00:00:00")
    assert (request.flags, request.change) == (0, 1)
    doomed = decode(group_delete(43))
    assert (doomed.index, doomed.name, doomed.group) == (0, None, 43)


def test_the_rules_for_groups_hold_in_the_kernel_that_the_tests_use() -> None:
    """An unknown group succeeds silently; deleting says EPERM for 0, ENODEV for an empty one."""
    kernel = Kernel()
    kernel.do(decode(group_transition(77, LinkState(), LinkState(mtu=1400))))
    assert [link.mtu for link in kernel.links.values()] == [65536, 1500]
    for group, number in ((0, 1), (77, 19)):
        with pytest.raises(Refused) as caught:
            kernel.do(decode(group_delete(group)))
        assert caught.value.number == number


def test_a_dump_asks_for_all_links_without_their_statistics() -> None:
    raw = dump_request()
    length, kind, flags = struct.unpack_from("=IHH", raw)
    assert (length, kind) == (len(raw), 18)  # RTM_GETLINK
    assert flags & 0x301 == 0x301  # NLM_F_REQUEST | NLM_F_DUMP
    assert struct.pack("=HHI", 8, 29, 8) in raw  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS


LINKS = st.builds(
    Link,
    index=st.integers(1, 2**31 - 1),
    name=st.from_regex(r"[a-z0-9]{1,15}", fullmatch=True),
    mtu=st.integers(0, 2**32 - 1),
    up=st.booleans(),
    group=st.integers(0, 2**32 - 1),
    address=st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")),
)


@settings(max_examples=50)
@given(LINKS, st.integers(1, 2**20), st.booleans(), st.booleans())
def test_a_run_of_a_dump_is_read_as_it_was_written(
    link: Link, length: int, named: bool, addressed: bool
) -> None:
    kept = [IFLA_MTU, IFLA_GROUP]
    kept += [IFLA_IFNAME] * named + [IFLA_ADDRESS] * addressed
    run = read_run(MessageRun(length, link.message(kept)))
    assert (run.first, run.length) == (link.index, length)
    assert run.name == (link.name if named else None)
    address = link.address if addressed else None
    assert run.state == LinkState(link.mtu, link.up, link.group, address)
