"""A kernel's links, as rtnetlink serves them: a table, and Linux's rules for requests.

Requests arrive as the bytes that would go over the socket and are decoded
with pyroute2. It can be told to do one thing wrong.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

_UP = 0x1
_UP_AND_RUNNING = 0x1 | 0x40 | 0x10000
_TYPES = {"dummy": (1, 0x82), "loopback": (772, 0x8)}  # ARPHRD_*, the flags that always stand


class Refused(Exception):
    """The kernel's answer to a request that it does not do."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text)
        self.number = number
        self.text = text


@dataclass(frozen=True)
class Wish:
    """What a request wants to be true of a link; None where it says nothing."""

    mtu: int | None = None
    up: bool | None = None
    group: int | None = None
    address: str | None = None

    def includes(self, other: Wish) -> bool:
        """Whether it asks for all that `other` asks for."""
        return all(
            wanted is None or getattr(self, name) == wanted for name, wanted in vars(other).items()
        )


@dataclass
class Link:
    """An interface."""

    index: int
    name: str
    kind: str = "dummy"
    mtu: int = 1500
    up: bool = False
    group: int = 0
    address: str = "a6:00:00:00:00:00"

    def message(self, kept: Iterable[int]) -> bytes:
        """Return its RTM_NEWLINK with the attributes of the types in `kept` alone."""
        arp_type, flags = _TYPES[self.kind]
        flags |= _UP_AND_RUNNING if self.up else 0
        body = struct.pack("=BxHiII", 0, arp_type, self.index, flags, 0)
        for number, value in self._attributes():
            if number in kept:
                attr = struct.pack("=HH", 4 + len(value), number) + value
                body += attr + b"\0" * (-len(attr) % 4)
        return struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 0, 0) + body

    def _attributes(self) -> Iterable[tuple[int, bytes]]:
        """Yield them as the kernel orders them (rtnl_fill_ifinfo)."""
        yield 3, self.name.encode() + b"\0"
        yield 13, struct.pack("=I", 1000)  # IFLA_TXQLEN
        yield 4, struct.pack("=I", self.mtu)
        yield 27, struct.pack("=I", self.group)
        if self.kind != "loopback":
            kind = self.kind.encode() + b"\0"
            yield 18, struct.pack("=HH", 4 + len(kind), 1) + kind  # IFLA_LINKINFO, IFLA_INFO_KIND
        yield 1, bytes.fromhex(self.address.replace(":", ""))
        yield 2, b"\xff" * 6  # IFLA_BROADCAST


@dataclass(frozen=True)
class Request:
    """A request about links, decoded; None where it says nothing."""

    kind: int
    header_flags: int
    index: int = 0
    name: str | None = None
    group: int | None = None
    mtu: int | None = None
    address: str | None = None
    flags: int = 0
    change: int = 0
    link_kind: str | None = None

    def wish_for(self, link: Link) -> Wish:
        """Return what it asks of one link (do_setlink, rtnl_dev_get_flags)."""
        up = None
        if self.change & _UP or (self.flags and not self.change):
            up = bool(self.flags & _UP)
        return Wish(self.mtu, up, self.group, self.address)


def decode(raw: bytes) -> Request:
    """Return what the bytes of a request say."""
    message = ifinfmsg(raw)
    message.decode()
    info = message.get_attr("IFLA_LINKINFO")
    return Request(
        kind=message["header"]["type"],
        header_flags=message["header"]["flags"],
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        group=message.get_attr("IFLA_GROUP"),
        mtu=message.get_attr("IFLA_MTU"),
        address=message.get_attr("IFLA_ADDRESS"),
        flags=message["flags"],
        change=message["change"],
        link_kind=info.get_attr("IFLA_INFO_KIND") if info else None,
    )


class How(Enum):
    """What goes wrong with one link."""

    SKIP = auto()  # the request is acknowledged, and this link stays as it was
    ALTER = auto()  # this link gets something else
    VANISH = auto()  # a request that changes this link makes it go away
    RENEW = auto()  # a request that changes this link makes it anew, under another index
    REFUSE = auto()  # the request fails when this link's turn comes
    LOSE = auto()  # its creation is acknowledged, and it is not there
    MISNAME = auto()  # it is created under another name
    DOUBLE = auto()  # its creation makes two
    KEEP = auto()  # its deletion is acknowledged, and it is still there


@dataclass(frozen=True)
class Misbehaviour:
    """What a kernel does wrong: to which link, and when a request wants what of it.

    `instead` is what `ALTER` does; `after` is how many times all goes well
    first; `number` is the errno of a refusal.
    """

    how: How
    victim: str
    when: Wish = Wish()
    instead: Wish = Wish()
    after: int = 0
    number: int = errno.ENOMEM


class FakeKernel:
    """The links of one network namespace. `foreign` adds some that nobody asked for."""

    def __init__(self, foreign: bool = True, wrong: Misbehaviour | None = None) -> None:
        self.links: dict[int, Link] = {}
        self.requests = 0
        self._by_name: dict[str, Link] = {}
        self.notifications = 0  # sent to everybody who listens for changes of links
        self._last_index = 0
        self._wrong = wrong
        self._patience = wrong.after if wrong else 0
        self._add(Link(0, "lo", "loopback", mtu=65536, address="00:00:00:00:00:00"))
        if foreign:
            self._add(Link(0, "dummy0"))  # every kernel with CONFIG_DUMMY=y makes one

    def named(self, name: str) -> Link | None:
        """Return the link of that name."""
        return self._by_name.get(name)

    def do(self, request: Request) -> None:
        """Do what a request says, or raise `Refused` (rtnl_newlink, rtnl_dellink)."""
        self.requests += 1
        if request.index < 0:
            raise Refused(errno.EINVAL, "ifindex can't be negative")
        if request.kind == RTM_NEWLINK:
            self._new(request)
        elif request.kind == RTM_DELLINK:
            self._delete(request)
        else:
            raise Refused(errno.EOPNOTSUPP)

    def _goes_wrong(self, how: How, name: str, wish: Wish = Wish()) -> bool:
        wrong = self._wrong
        if not wrong or (wrong.how, wrong.victim) != (how, name) or not wish.includes(wrong.when):
            return False
        self._patience -= 1
        return self._patience < 0

    def _add(self, link: Link) -> None:
        self._last_index += 1
        link = replace(link, index=self._last_index)
        self.links[link.index] = self._by_name[link.name] = link

    def _remove(self, link: Link) -> None:
        del self.links[link.index], self._by_name[link.name]

    def _found(self, request: Request) -> Link | None:
        if request.index:
            return self.links.get(request.index)
        return self.named(request.name) if request.name else None

    def _new(self, request: Request) -> None:
        link = self._found(request)
        if link:
            if request.header_flags & NLM_F_EXCL:
                raise Refused(errno.EEXIST)
            self._set(link, request.wish_for(link))
        elif request.header_flags & NLM_F_CREATE:
            self._create(request)
        elif request.index or request.name or request.group is None:
            raise Refused(errno.ENODEV)
        else:  # the attribute selects: an unknown group is no error
            for member in self._members(request.group):
                self._set(member, request.wish_for(member))

    def _members(self, group: int) -> list[Link]:
        return [link for link in self.links.values() if link.group == group]

    def _create(self, request: Request) -> None:
        if request.link_kind != "dummy":
            raise Refused(errno.EOPNOTSUPP, "Unknown device type")
        name = request.name or ""
        if self._goes_wrong(How.REFUSE, name):
            raise self._refusal()
        if self._goes_wrong(How.LOSE, name):
            return
        shown = f"{name}x" if self._goes_wrong(How.MISNAME, name) else name
        self._add(Link(0, shown, group=request.group or 0, mtu=request.mtu or 1500))
        if self._goes_wrong(How.DOUBLE, name):
            self._add(Link(0, f"{name}x", group=request.group or 0))

    def _set(self, link: Link, wish: Wish) -> None:
        if self._goes_wrong(How.REFUSE, link.name, wish):
            raise self._refusal()
        if self._goes_wrong(How.SKIP, link.name, wish):
            return
        if self._goes_wrong(How.VANISH, link.name, wish):
            self._remove(link)
            return
        if self._goes_wrong(How.RENEW, link.name, wish):
            self._remove(link)
            self._add(link)
            return
        if self._wrong and self._goes_wrong(How.ALTER, link.name, wish):
            wish = self._wrong.instead
        for name, wanted in vars(wish).items():
            if wanted is not None:
                setattr(link, name, wanted)
        # Changing the group of a link that is down is told to nobody.
        if Wish(group=wish.group) != wish:
            self.notifications += 2 if link.up else 1

    def _delete(self, request: Request) -> None:
        if request.index or request.name:
            link = self._found(request)
            doomed = [link] if link else []
        elif request.group is None:
            raise Refused(errno.EINVAL)
        elif request.group == 0:
            raise Refused(errno.EPERM)
        else:
            doomed = self._members(request.group)
        if not doomed:
            raise Refused(errno.ENODEV)
        if any(link.kind == "loopback" for link in doomed):
            raise Refused(errno.EOPNOTSUPP)
        for link in doomed:
            if self._goes_wrong(How.REFUSE, link.name):
                raise self._refusal()
            if not self._goes_wrong(How.KEEP, link.name):
                self._remove(link)

    def _refusal(self) -> Refused:
        assert self._wrong
        return Refused(self._wrong.number)
