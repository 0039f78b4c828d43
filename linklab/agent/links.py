"""Route netlink messages for links (rtnetlink(7)), built and read with pyroute2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from socket import AF_INET

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETADDR, RTM_GETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from linklab.agent.client import Agent
from linklab.agent.replies import MessageRun

_IFINFOMSG_BYTES = 16
_INDEX_IN_IFINFOMSG = 4
INDEX_OFFSET = 16 + _INDEX_IN_IFINFOMSG  # behind the netlink header

# Attribute types of linux/if_link.h.
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_GROUP = 1, 3, 4, 18, 27
_IFA_LOCAL = 2
_IFADDRMSG_BYTES, _INDEX_IN_IFADDRMSG = 8, 4
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS: nobody reads them here


def link_request(
    kind: int, header_flags: int, attrs: Sequence[tuple[str, object]] = (), **fields: int
) -> bytes:
    """Return a request of a kind: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK."""
    message = ifinfmsg()
    message.update(fields)
    message["attrs"] = list(attrs)
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | header_flags
    message.encode()
    return bytes(message.data)


def group_delete(group: int) -> bytes:
    """Return the request that deletes all interfaces of a group."""
    return link_request(RTM_DELLINK, NLM_F_ACK, [("IFLA_GROUP", group)])


@cache
def dump_request() -> bytes:
    """Return the request for all links, without their statistics."""
    return link_request(RTM_GETLINK, NLM_F_DUMP, [("IFLA_EXT_MASK", _SKIP_STATISTICS)])


def dump_links(agent: Agent, kept: Sequence[int], deadline: float) -> list[MessageRun]:
    """Return all links by their index, those together that say the same in the kept attributes."""
    return agent.dump(
        dump_request(), kept, deadline, header=_IFINFOMSG_BYTES, index=_INDEX_IN_IFINFOMSG
    )


def message_of(run: MessageRun) -> ifinfmsg:
    """Return what the first link of a run says."""
    message = ifinfmsg(run.message)
    message.decode()
    return message


def dump_addresses(agent: Agent, deadline: float) -> Iterator[tuple[int, list[str]]]:
    """Yield each interface that has IPv4 addresses, by its index, with them."""
    request = ifaddrmsg()
    request["family"] = AF_INET
    request["header"]["type"] = RTM_GETADDR
    request["header"]["flags"] = NLM_F_REQUEST | NLM_F_DUMP
    request.encode()
    found: dict[int, list[str]] = {}
    kept = [_IFA_LOCAL]
    for run in agent.dump(
        bytes(request.data), kept, deadline, header=_IFADDRMSG_BYTES, index=_INDEX_IN_IFADDRMSG
    ):
        message = ifaddrmsg(run.message)
        message.decode()
        for place in range(run.length):
            local = message.get_attr("IFA_LOCAL")
            found.setdefault(message["index"] + place, []).append(local)
    yield from found.items()
