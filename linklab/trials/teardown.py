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
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from linklab.console.formats import Fault
from linklab.console.report import Report
from linklab.errors import GuestIncomplete, LabError, Leaked, RequestRefused
from linklab.scenarios.scenario import IP, Host

_PATIENCE = (
    15  # s: the kernel complains after 10 (netdev_unregister_timeout_secs in net/core/dev.c)
)
_HASTY = 10  # looks at namespaces without a pause: most are gone within some ms
_NAMED = "/run/netns"  # `ip netns add` makes it, and it stays
_GROUP = 0x6C6C656E  # of links that were in the default group
# What a module makes in each namespace, and takes away with that or with itself.
_FALLBACK = re.compile(r"(?:tunl|gre|gretap|erspan|ip_vti|sit|ip6tnl|ip6gre|ip6_vti)0")


def tear_down(host: Host) -> None:
    """Delete what there is in a guest: its links but `lo`, its named namespaces, what listens.

    Raises `Leaked` for what stays without a word of the kernel; what it says
    of it on its console ends the session like every report.
    """
    with suppress(LabError):  # there is no job
        host.agent.signal_job(signal.SIGKILL, _until(host))
    with suppress(LabError):  # nobody listens
        host.agent.notification_counts(_until(host))
    with suppress(GuestIncomplete):  # an image without `ip`
        _delete_namespaces(host)
    _delete_links(host)


def _until(host: Host) -> float:
    """Return when a step must be done: not before the kernel has had time to complain."""
    return max(host.until(), time.monotonic() + _PATIENCE)


def _delete_links(host: Host) -> None:
    """Delete all links that somebody made, as one group: each request waits for RCU."""
    from pyroute2.netlink import NLM_F_ACK
    from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK

    from linklab.agent.links import IFLA_IFNAME, group_delete, link_request

    made = _made(host)
    if not made:
        return
    most = max(made, key=lambda links: links.length)
    group = most.group or _GROUP
    into_it = link_request(RTM_NEWLINK, NLM_F_ACK, [("IFLA_GROUP", group)])
    for links in made:
        if links.group != group:
            _each(host, into_it, links)
    try:
        host.agent.netlink([group_delete(group)], _until(host))
    except RequestRefused:  # of one that cannot be deleted
        for links in made:
            _each(host, link_request(RTM_DELLINK, NLM_F_ACK), links)
        return
    left = (links.name for links in _made(host, IFLA_IFNAME) if links.group == group)
    if stayed := [name for name in left if not _FALLBACK.fullmatch(name)]:
        raise _stays("a link", f"the link {stayed[0]} is still there after it was deleted")


@dataclass(frozen=True)
class _Links:
    """Neighbours of one kind and group."""

    first: int
    length: int
    group: int
    name: str  # of the first, where it was asked for


def _made(host: Host, *more: int) -> list[_Links]:
    """Return the links that somebody made: they have a kind."""
    from linklab.agent.links import IFLA_GROUP, IFLA_LINKINFO, dump_links, message_of

    found = []
    for run in dump_links(host.agent, (IFLA_LINKINFO, IFLA_GROUP, *more), _until(host)):
        message = message_of(run)
        info = message.get_attr("IFLA_LINKINFO")
        if info and info.get_attr("IFLA_INFO_KIND"):
            group, name = message.get_attr("IFLA_GROUP"), message.get_attr("IFLA_IFNAME") or ""
            found.append(_Links(message["index"], run.length, group, name))
    return found


def _each(host: Host, request: bytes, links: _Links) -> None:
    """Send a request for each of some links, as far as there are such and the kernel takes it."""
    from linklab.agent.links import INDEX_OFFSET

    last = links.first + links.length
    for first in range(links.first, last):
        with suppress(RequestRefused):  # a link may have gone with another one: a veth's peer
            host.agent.netlink_each(
                request, first, last - first, offset=INDEX_OFFSET, width=0, deadline=_until(host)
            )
            return


def _delete_namespaces(host: Host) -> None:
    """Delete the namespaces that have a name, and wait until they are gone.

    Each gets a number in the guest's own namespace first: the kernel forgets it
    when it takes the namespace down (`unhash_nsid`), which nothing else shows.
    """
    found = _ip(host, "list", r"^\S+") if _has_named(host) else []
    if not found:
        return
    for name in found:
        _ip(host, f"set {name} auto")
    names = dict(_ip(host, "list", r"^(\S+) \(id: (\d+)\)"))
    for name in names:
        if inside := _ip(host, f"pids {name}", r"\d+"):
            host.agent.run(["/bin/kill", "-9", *inside], _until(host))
        _ip(host, f"delete {name}")
    left, looks = sorted(names), 0
    while left:
        numbers = _ip(host, "list-id", r"^nsid (\d+)")
        left = [name for name in left if names[name] in numbers]
        looks += 1
        if looks > _HASTY and left:
            host.agent.run(["/bin/sleep", "1"], _until(host))
        if looks > _HASTY + _PATIENCE and left:
            others = f", like {len(left) - 1} more" if len(left) > 1 else ""
            text = f"{left[0]} is still there {_PATIENCE} s after it was deleted{others}"
            raise _stays("a network namespace", f"the network namespace {text}")


def _has_named(host: Host) -> bool:
    """Tell whether somebody named a namespace; a program that says so takes 10 ms to start."""
    try:
        host.agent.read_file(_NAMED, _until(host))
    except GuestIncomplete:
        return False
    except LabError:  # it is a folder, which cannot be read
        return True
    return True


def _ip(host: Host, words: str, pattern: str = "") -> list[Any]:
    """Return what `ip netns` says; that it fails is seen by what there is afterwards."""
    end = host.agent.run([IP, "netns", *words.split()], _until(host))
    said = "" if end.wait_status else end.output.decode(errors="replace")
    return re.findall(pattern, said, re.MULTILINE)


def _stays(what: str, text: str) -> Leaked:
    fault = Leaked(f"the kernel keeps what was deleted: {text}")
    fault.reports = (Report(Fault.LEAK, f"{what} stays", None, (), text),)
    return fault
