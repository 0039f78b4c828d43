"""Route netlink messages for interfaces, built and read with pyroute2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from linklab.agent.links import INDEX_OFFSET, link_request, message_of
from linklab.agent.replies import MessageRun
from linklab.scenarios.grouping.change import (
    FIRST_NUMBER,
    GROUP,
    NAME_PREFIX,
    Change,
    LinkState,
    Operation,
)

NAME_DIGITS = len(str(FIRST_NUMBER))
RTNLGRP_LINK = 1  # linux/rtnetlink.h: who subscribes is told of every change of a link


@dataclass(frozen=True)
class Template:
    """A request for one interface, and where its number is written over it."""

    request: bytes
    offset: int
    width: int  # decimal digits, or 0 for a 32-bit interface index


def template(change: Change) -> Template:
    """Return the request that does `change` to one interface."""
    match change.operation:
        case Operation.CREATE:
            name = f"{NAME_PREFIX}{FIRST_NUMBER}"
            request = link_request(
                RTM_NEWLINK,
                NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                [
                    ("IFLA_IFNAME", name),
                    ("IFLA_GROUP", GROUP),
                    ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "dummy")]}),
                ],
            )
            offset = request.index(name.encode()) + len(NAME_PREFIX)
            return Template(request, offset, NAME_DIGITS)
        case Operation.DELETE:
            return Template(link_request(RTM_DELLINK, NLM_F_ACK), INDEX_OFFSET, 0)
        case _:
            assert change.before is not None and change.after is not None
            return Template(_transition(change.before, change.after), INDEX_OFFSET, 0)


def group_transition(group: int, before: LinkState, after: LinkState) -> bytes:
    """Return the request that takes all of `group` from one state to another.

    The group itself is the selector, so it cannot be what changes.
    """
    return _transition(before, after, [("IFLA_GROUP", group)])


def _transition(
    before: LinkState, after: LinkState, attrs: Sequence[tuple[str, object]] = ()
) -> bytes:
    wanted: list[tuple[str, object]] = list(attrs)
    if after.mtu != before.mtu:
        wanted.append(("IFLA_MTU", after.mtu))
    if after.address is not None and after.address != before.address:
        wanted.append(("IFLA_ADDRESS", after.address))
    if after.group != before.group:
        wanted.append(("IFLA_GROUP", after.group))
    if after.up == before.up:
        return link_request(RTM_NEWLINK, NLM_F_ACK, wanted)
    flags = IFF_UP if after.up else 0
    return link_request(RTM_NEWLINK, NLM_F_ACK, wanted, flags=flags, change=IFF_UP)


@dataclass(frozen=True)
class LinkRun:
    """`length` neighbouring interfaces, from index `first`, of which the same is true."""

    first: int
    length: int
    state: LinkState
    name: str | None  # of the first, where names were asked for


@lru_cache(maxsize=4096)  # dumps of interfaces that nobody changed say the same
def read_run(run: MessageRun) -> LinkRun:
    """Return what a run of a dump says."""
    message = message_of(run)
    return LinkRun(
        first=message["index"],
        length=run.length,
        state=LinkState(
            mtu=message.get_attr("IFLA_MTU"),
            up=bool(message["flags"] & IFF_UP),
            group=message.get_attr("IFLA_GROUP"),
            address=message.get_attr("IFLA_ADDRESS"),
        ),
        name=message.get_attr("IFLA_IFNAME"),
    )
