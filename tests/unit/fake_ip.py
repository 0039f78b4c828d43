"""What iproute2 6.1 makes of the words behind `ip`: its requests, messages and statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fake_kernel import FakeKernel, Request
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK


class IpError(Exception):
    """An end of `ip`: its status and what it prints."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def ip_request(words: Sequence[str], kernel: FakeKernel) -> Request:
    """Return the request that `ip` makes of its words, or raise how it ends without one."""
    flags = NLM_F_REQUEST | NLM_F_ACK
    match list(words):
        case ["link", "add", *rest]:
            said = _ip_options(rest)
            kind = said.pop("type", None)
            assert "dev" in said and isinstance(kind, str)
            return Request(
                RTM_NEWLINK,
                flags | NLM_F_CREATE | NLM_F_EXCL,
                name=str(said["dev"]),
                group=_number(said.get("group")),
                link_kind=kind,
            )
        case ["link", "set", *rest]:
            said = _ip_options(rest)
            up = said.get("up")
            request = Request(
                RTM_NEWLINK,
                flags,
                group=_number(said.get("group")),
                mtu=_number(said.get("mtu")),
                address=said.get("address"),
                flags=int(up == "up"),
                change=int(up is not None),
            )
        case ["link", "delete", *rest]:
            said = _ip_options(rest)
            request = Request(RTM_DELLINK, flags, group=_number(said.get("group")))
        case _:
            raise IpError(255, f'Object "{words[0]}" is unknown, try "ip help".')
    if "dev" not in said:
        if "group" not in said:
            raise IpError(255, 'Not enough information: "dev" argument is required.')
        return request
    link = kernel.named(said["dev"])
    if link is None:
        raise IpError(1, f'Cannot find device "{said["dev"]}"')
    return replace(request, index=link.index)


def _ip_options(words: Sequence[str]) -> dict[str, str]:
    """Return what stands behind `ip link VERB` (iplink_parse); "up" also for `down`."""
    said: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("up", "down"):
            said["up"] = word
            continue
        if word in ("dev", "group", "mtu", "address", "type"):
            value = rest.pop(0)
        else:
            word, value = "dev", word
            if "dev" in said:
                raise IpError(255, f'Error: either "dev" is duplicate, or "{value}" is a garbage.')
        if word in said:
            raise IpError(255, f'Error: duplicate "{word}": "{value}" is the second value.')
        said[word] = value
    return said


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
