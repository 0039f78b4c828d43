"""The end of a guest's work: what its scenario made is deleted, and what stays is a fault.

A kernel that leaks a reference to a device or to a namespace passes every
trial: only who deletes them finds out. The kernel waits until the last
reference to a device is given back (`netdev_wait_allrefs_any` in
net/core/dev.c), within the request that deletes it, and says after 10 s what
it waits for: that is the report that ends the guest. So a request that is
answered needs no further wait, in any clock. A namespace is taken down after
the last reference to it is gone, by a work queue (`cleanup_net` in
net/core/net_namespace.c); that is waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from linklab.agent.replies import ProgramEnd, Run
from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import GuestIncomplete, Leaked, RequestRefused
from linklab.scenarios.scenario import IP, Host

_KERNELS_PATIENCE = 10.0  # s: netdev_unregister_timeout_secs in net/core/dev.c
_GRACE = 5.0  # s more for what comes before that wait, and for the message
_HASTY = 10  # looks at namespaces without a pause: most are gone within some ms

_IFINFOMSG_BYTES, _INDEX = 16, 4  # struct ifinfomsg, and its index in it
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_GROUP = 3, 18, 27  # linux/if_link.h
_MARK = 0x6C6C656E  # a group of our own, for links of groups that others are in, too
_DEFAULT_GROUP = 0  # the one that a link is in unless it is told
_MOUNTS = "/proc/self/mountinfo"
_NUMBERS = re.compile(r"^nsid (\d+)(?: \(iproute2? netns name: (\S+)\))?", re.MULTILINE)
_NAMES = re.compile(r"/(?:var/)?run/netns/([^/\s]+)$")  # where `ip netns` keeps namespaces
# What a module makes in each namespace, and takes away with that or with itself.
_FALLBACK = re.compile(r"(?:tunl|gre|gretap|erspan|ip_vti|sit|ip6tnl|ip6gre|ip6_vti)0")


def tear_down(host: Host) -> None:
    """Delete what there is in a guest: its links but `lo`, its named namespaces, what listens.

    Raises `Leaked` for what stays without a word of the kernel; what it says
    of it on its console ends the session like every report.
    """
    host.agent.end_work(_until(host))
    _delete_namespaces(host)
    _delete_links(host)


def _until(host: Host) -> float:
    """Return when a step must be done: not before the kernel has had time to complain."""
    return max(host.until(), time.monotonic() + _KERNELS_PATIENCE + _GRACE)


@dataclass(frozen=True)
class _Links:
    """Neighbouring links from an index on, of one kind and group."""

    first: int
    length: int
    group: int
    kind: str | None  # None: a device that nobody made
    name: str = ""  # where it was asked for


def _delete_links(host: Host) -> None:
    """Delete all links that somebody made: by group, since each request waits for RCU."""
    made = [links for links in _dump(host) if links.kind]
    whole = {links.group for links in made if links.group != _DEFAULT_GROUP}
    for group in sorted(whole):
        _delete_group(host, group)
    rest = [links for links in _dump(host) if links.kind] if whole else made
    if not rest:
        return
    # Groups with devices in them that cannot be deleted, and the one of all the others.
    for links in rest:
        request = _request(newlink=True, attrs=[("IFLA_GROUP", _MARK)])
        _each(host, request, links)
    _delete_group(host, _MARK)
    left = [links for links in _dump(host, names=True) if links.group == _MARK and links.kind]
    if stayed := [links.name for links in left if not _FALLBACK.fullmatch(links.name)]:
        raise _stays("a link", f"the link {stayed[0]} is still there after it was deleted")


def _delete_group(host: Host, group: int) -> None:
    """Delete a group's links; one that holds what cannot be deleted is refused as a whole."""
    with suppress(RequestRefused):
        request = _request(newlink=False, attrs=[("IFLA_GROUP", group)])
        host.agent.netlink([request], _until(host))
        return
    for links in _dump(host):
        if links.group == group and links.kind:
            _each(host, _request(newlink=False), links)


def _each(host: Host, request: bytes, links: _Links) -> None:
    """Send a request for each of some links, as far as there are such and the kernel takes it."""
    for first in range(links.first, links.first + links.length):
        with suppress(RequestRefused):  # a link may have gone with another one: a veth's peer
            host.agent.netlink_each(
                request,
                first,
                links.first + links.length - first,
                offset=16 + _INDEX,
                width=0,
                deadline=_until(host),
            )
            return


def _dump(host: Host, *, names: bool = False) -> list[_Links]:
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_GETLINK
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    request = ifinfmsg()
    request["attrs"] = [("IFLA_EXT_MASK", 1 << 3)]  # RTEXT_FILTER_SKIP_STATS
    request["header"]["type"] = RTM_GETLINK
    request["header"]["flags"] = NLM_F_REQUEST | NLM_F_DUMP
    request.encode()
    kept = (_IFLA_LINKINFO, _IFLA_GROUP, *((_IFLA_IFNAME,) if names else ()))
    runs = host.agent.dump(
        bytes(request.data), kept, _until(host), header=_IFINFOMSG_BYTES, index=_INDEX
    )
    return [_links_in(run) for run in runs]


def _links_in(run: Run) -> _Links:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg(run.message)
    message.decode()
    info = message.get_attr("IFLA_LINKINFO")
    return _Links(
        first=message["index"],
        length=run.length,
        group=message.get_attr("IFLA_GROUP") or _DEFAULT_GROUP,
        kind=info.get_attr("IFLA_INFO_KIND") if info else None,
        name=message.get_attr("IFLA_IFNAME") or "",
    )


def _request(*, newlink: bool, attrs: Sequence[tuple[str, int]] = ()) -> bytes:
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["attrs"] = list(attrs)
    message["header"]["type"] = RTM_NEWLINK if newlink else RTM_DELLINK
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
    message.encode()
    return bytes(message.data)


def _delete_namespaces(host: Host) -> None:
    """Delete the namespaces that have a name, and wait until they are gone.

    Each gets a number in the guest's own namespace first: the kernel forgets it
    when it takes the namespace down (`unhash_nsid`), which nothing else shows.
    """
    names = _namespaces(host)
    if not names:
        return
    for name in names:
        _ip(host, "netns", "set", name, "auto")
    numbers = {number: name for number, name in _numbered(host).items() if name in names}
    for name in names:
        for pid in _ip(host, "netns", "pids", name).output.split():
            host.agent.run(["/bin/kill", "-9", pid.decode()], _until(host))
        _ip(host, "netns", "delete", name)
    looks = 0
    while left := sorted(numbers.keys() & _numbered(host).keys()):
        looks += 1
        if looks > _HASTY:
            host.agent.run(["/bin/sleep", "1"], _until(host))
        if looks > _HASTY + _KERNELS_PATIENCE + _GRACE:
            how_long = f"{_KERNELS_PATIENCE + _GRACE:.0f} s after it was deleted"
            others = f", like {len(left) - 1} more" if len(left) > 1 else ""
            raise _stays(
                "a network namespace",
                f"the network namespace {numbers[left[0]]} is still there {how_long}{others}",
            )


def _numbered(host: Host) -> dict[int, str]:
    """Return the names of the namespaces by their numbers; empty for one that has lost it."""
    said = _ip(host, "netns", "list-id").output.decode(errors="replace")
    return {int(number): name for number, name in _NUMBERS.findall(said)}


def _namespaces(host: Host) -> list[str]:
    """Return the names of the network namespaces that have one."""
    try:
        said = host.agent.read_file(_MOUNTS, _until(host)).decode(errors="replace")
    except GuestIncomplete:
        return []
    mounts = [line.split() for line in said.splitlines() if " nsfs " in line]
    found = (_NAMES.search(words[4]) for words in mounts if words[3].startswith("net:"))
    return sorted({name[1] for name in found if name})


def _ip(host: Host, *words: str) -> ProgramEnd:
    """Run `ip`; what it makes of it is its own business, and seen by what there is afterwards."""
    return host.agent.run([IP, *words], _until(host))


def _stays(what: str, text: str) -> Leaked:
    fault = Leaked(f"the kernel keeps what was deleted: {text}")
    fault.reports = (Report(Fault.LEAK, f"{what} stays", None, (), text),)
    return fault
