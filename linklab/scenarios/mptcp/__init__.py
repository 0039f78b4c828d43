"""mptcp: one connection over several paths, and what becomes of it when paths die.

Redundancy, throughput and backwards compatibility are what Multipath TCP promises
(RFC 6182); going over to another interface, preferring one, and saving power are what
mobile devices want it for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from linklab.errors import WrongState
from linklab.lab.spaces import TRAFFIC, Shaped, inside, middle, shape_words
from linklab.lab.topology import Topology, parse
from linklab.results.shape import Axis, Better, Cell, Course, Metric, Shape, Value
from linklab.scenarios.aliases.article import ceiling_of
from linklab.scenarios.congestion import goodput, goodput_course, whole
from linklab.scenarios.mptcp.promises import (
    BEST,
    DIES,
    FALLS_BACK,
    PATHS,
    PRESETS,
    SPEAKS,
    Path,
    paths_of,
)
from linklab.scenarios.scenario import IP, Claim, Host, Hosts, Metrics, Parameter, Said, Scenario

__all__ = ["Mptcp"]

_MIB = {"transfer": "mib", "power": "power_mib"}  # operations of so many bytes, not seconds
_PORT = 5001
_AFTER = 240  # s for what is under way when the time is over
_TABLE = 100  # the first path's routes
_MOST_SUBFLOWS = 8  # MPTCP_PM_ADDR_MAX
_SCRIPT, _UP = "/tmp/mptcp.sh", "/tmp/mptcp-up-{}"
_WATCH_MS = 100

# What a kernel counts (net/mptcp/mib.c): the connection, and the subflows beside its first one.
_SENDER = ("MPCapableSYNACKRX", "MPJoinSynAckRx")
_RECEIVER = ("MPCapableACKRX", "MPJoinAckRx")
_GAVE_UP, _GIVES_UP = "MPCapableFallbackSYNACK", ("plain-listener", "stripped")


class Mptcp(Scenario):
    """See above. The first host of the topology sends to the last one, over all links of both."""

    name = "mptcp"
    about = "Multipath TCP: several paths at once, paths that die, plain TCP where it must be"
    shape = Shape(
        axes=(
            Axis(
                "operation",
                ("aggregate", "failover"),
                among=("aggregate", "transfer", *DIES, "power"),
                help="aggregate: for some time; transfer: some MiB; failover: the best path's link "
                "goes down; dark: it loses everything; failback: it comes back, then the next "
                "one goes down; preference: as failover, at half of the time; power: few MiB, "
                "for the time that interfaces are active",
            ),
            Axis(
                "arm",
                ("mptcp", "tcp"),
                among=("mptcp", "tcp", *SPEAKS[1:], *FALLS_BACK),
                help="mptcp: a subflow over each path; tcp: over the best path; backup: the other "
                "paths for when it fails; fullmesh: subflows of all addresses to all; "
                "plain-listener: the receiver knows no MPTCP; disabled: the sender's kernel "
                "refuses it; stripped: a middlebox on each path takes it out",
            ),
            Axis(
                "dies",
                (BEST,),
                "dying path",
                among=PATHS,
                silent=True,
                help="which path it is that dies in failover, dark, preference and first in "
                "failback: the first one is the best",
            ),
        ),
        metrics=(
            Metric("goodput", "Mbit/s", Better.MORE, short="goodput"),
            Metric("gap", "s", title="the receiver's longest gap, s", short="gap"),
            Metric("share", "%", Better.MORE, zero=True, short="of all"),
            Metric("completion", "s", short="took"),
            Metric("subflows", better=Better.NEITHER, zero=True, short="subflows"),
            Metric("mptcp", better=Better.NEITHER, zero=True, short="MPTCP"),
            Metric("others", "%", Better.NEITHER, zero=True, short="other paths"),
            Metric("others_after", "%", Better.NEITHER, zero=True, short="others then"),
            Metric("radio", "s", zero=True, short="active"),
            *(
                Metric(f"radio_{n}", "s", zero=True, short=f"path {n} active", optional=True)
                for n in range(1, len(PATHS) + 1)
            ),
            Metric("lost", "bytes", zero=True, short="lost or changed"),
        ),
        rows="operation",
        columns="arm",
        text="{operation} by {arm}",
    )
    # As many packets may wait as in simult_flows.sh: more hide how long a path has been dead.
    topology = "a == b: 10mbit 20ms queue=50"
    parameters = (
        Parameter("seconds", 16, "how long a connection sends, if not so many MiB", 4, 120),
        Parameter("mib", 16, "MiB of a transfer, as in the kernel's simult_flows.sh", 1, 1024),
        Parameter("power_mib", 1, "MiB of `power`", 1, 1024),
        Parameter(
            "tail", 11.576,
            "seconds that an interface stays active after a packet; LTE's, of Huang et al., "
            "Performance and Power Characteristics of 4G LTE Networks, 2012",
            0, 60,
        ),
    )  # fmt: skip
    presets: ClassVar = PRESETS
    apart = True
    judged: ClassVar = {
        "operation": ("aggregate", "failover"),
        "arm": ("mptcp", "backup", "fullmesh", *FALLS_BACK),
    }
    profiled: ClassVar = {"operation": ("aggregate",), "arm": ("mptcp",)}

    @classmethod
    def limit(cls, cell: Cell, *, emulated: bool) -> float:
        """Return the seconds for a trial: an emulator needs some for each of the guest's."""
        return 1800.0 if emulated else 600.0

    @classmethod
    def unfit(cls, network: Topology, *, in_one_guest: bool) -> str:
        """Return why there are no several ways from one host to the other."""
        if len(network.hosts) > 1 and len(paths_of(network)) > 1:
            return ""
        return "two links from the first host to the last one are expected, as in `a == b`"

    @classmethod
    def refusal(cls, cell: Cell) -> str:
        """Return why no path dies."""
        if cell["dies"] == BEST or cell["operation"] in DIES:
            return ""
        return f"no path dies in {cell['operation']}"

    @classmethod
    def conflict(cls, cell: Cell, given: Mapping[str, Value]) -> str:
        """Return that there is no such path to die."""
        paths = len(paths_of(parse(str(given["topology"]))))
        if PATHS.index(str(cell["dies"])) < max(paths, 1):
            return ""
        return f"the topology has {paths} paths: --axis dies={','.join(PATHS[:paths])}"

    @classmethod
    def misplaced(cls, cell: Cell, given: Mapping[str, Value], *, in_one_guest: bool) -> str:
        """Return what works in the middle of a link, where that is not in a guest."""
        found = {"dark", "stripped"} & {*cell.values()}
        if in_one_guest or not found:
            return ""
        return f"{found.pop()} needs the middle of each link: --place spaces has it"

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Let each of the sender's addresses have routes of its own."""
        self.a, self.b = self.drawn.hosts[0], self.drawn.hosts[-1]
        self.paths = paths_of(self.drawn)
        for number, path in enumerate(self.paths):
            hosts[self.a].ip(f"rule add from {path.addresses[0]} lookup {_TABLE + number}")
            for line in self._routes(number):
                hosts[self.a].ip(line)
            lines = "".join(f"{line}\n" for line in self._revive(number))
            hosts[self.a].agent.write_file(
                _UP.format(number), lines.encode(), hosts[self.a].until()
            )
        # A path that was found to swallow MPTCP would be used by TCP alone for an hour.
        hosts[self.a].run(["/bin/sysctl", "-e", "-q", "-w", "net.mptcp.blackhole_timeout=0"])
        return ()

    def _routes(self, number: int) -> Iterator[str]:
        """Yield the routes from a path's own address to the receiver's other ones."""
        here = self.paths[number]
        for path in self.paths:
            if path is not here:
                network, via = path.far.addresses[0].network, here.addresses[1]
                table = f"dev {here.near.interface} table {_TABLE + number}"
                yield f"route replace {network} via {via} {table}"

    def _revive(self, number: int) -> Iterator[str]:
        """Yield what brings a link up, and what the kernel forgot with it."""
        path = self.paths[number]
        device = path.near.interface
        yield f"link set dev {device} up"
        for address in path.far.addresses:
            yield f"neighbour replace {address.ip} lladdr {path.far.mac} nud permanent dev {device}"
        yield from self._routes(number)

    def prepare(self, hosts: Hosts, cell: Cell) -> None:
        """Tell both kernels which addresses a connection may use."""
        for name in (self.a, self.b):
            hosts[name].ip("mptcp endpoint flush")
            hosts[name].ip(
                f"mptcp limits set subflows {_MOST_SUBFLOWS} add_addr_accepted {_MOST_SUBFLOWS}"
            )
        enabled = int(cell["arm"] != "disabled")
        hosts[self.a].run(["/bin/sysctl", "-q", "-w", f"net.mptcp.enabled={enabled}"])
        if cell["arm"] == "tcp":
            return
        whole_mesh = cell["arm"] == "fullmesh"
        flags = {"backup": " backup", "fullmesh": " fullmesh"}.get(str(cell["arm"]), "")
        for number, path in enumerate(self.paths):
            if number or whole_mesh:
                here = f"{path.addresses[0]} dev {path.near.interface}"
                hosts[self.a].ip(f"mptcp endpoint add {here} subflow{flags}")
            if number and whole_mesh:
                there = f"{path.addresses[1]} dev {path.far.interface}"
                hosts[self.b].ip(f"mptcp endpoint add {there} signal")

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send, let paths die meanwhile, and look at what went where."""
        arm, operation = str(cell["arm"]), str(cell["operation"])
        seconds = float(self.given["seconds"])
        size = int(self.given[_MIB[operation]]) << 20 if operation in _MIB else 0
        listens = "tcp" if arm in ("tcp", "plain-listener") else "mptcp"
        longest = str(int(seconds) + _AFTER)
        sink = [TRAFFIC, "sink", listens, str(_PORT), "1", longest]
        before = [_counters(hosts[name]) for name in (self.a, self.b)]
        running = hosts[self.b].start(sink, "listening", cell)
        speaks = "tcp" if arm == "tcp" else "mptcp"
        send = (
            f"{TRAFFIC} send {speaks} {self.paths[0].addresses[1]} {_PORT} 1 1 "
            + (f"0 - {size}" if size else f"{seconds:.0f}")
        )  # fmt: skip
        script = "".join(f"{line}\n" for line in self._script(cell, send))
        host = hosts[self.a]
        host.agent.write_file(_SCRIPT, script.encode(), host.until(cell))
        sent = host.said(["/bin/sh", _SCRIPT], cell)
        got = running.end()
        self.sent, self.got = sent, got
        right = 0 if got.number("wrong") else sum(got["bytes"])
        self.counted = [
            {counter: value - was.get(counter, 0) for counter, value in _counters(host).items()}
            for host, was in zip((host, hosts[self.b]), before, strict=True)
        ]
        # Another guest has another clock: there it takes until the sender knows of the end.
        last = got["last"] if host.inside else sent["closed"]
        took = (max(last) - min(sent["began"]) + max(sent["connect_ns"])) / 1e9
        # Where paths die, what arrives once they are back does not count.
        span = (max(got["last"]) - min(got["first"])) / 1e9
        arrived = sum(got["bytes"]) * 8 / span / 1e6
        if operation in DIES:
            arrived = goodput(got, seconds)
        everything = sum(ceiling_of(path.way.rate, path.way.overhead) for path in self.paths)
        limited = all(path.way.rate for path in self.paths)
        first = DIES[operation][0][0] * seconds if operation in DIES else 0.0
        until = first or max(seconds, took)
        active = [self._active(sent, path) for path in self.paths]
        return {
            "goodput": arrived,
            "gap": got.number("gap") / 1e9,
            "share": 100 * arrived / everything if limited else 0.0,
            "completion": took,
            "subflows": sent.number("subflows") if speaks == "mptcp" else 0.0,
            "mptcp": sent.number("mptcp") if speaks == "mptcp" else 0.0,
            "others": self._over_others(sent, 0.0, until),
            "others_after": self._over_others(sent, first, seconds) if first else 0.0,
            "radio": sum(active),
            **{f"radio_{n}": seconds for n, seconds in enumerate(active[: len(PATHS)], 1)},
            "lost": abs(sum(sent["sent"]) - right),
        }

    def _script(self, cell: Cell, send: str) -> Iterator[str]:
        """Yield the sender's script: it sends, paths die meanwhile, and bytes are counted."""
        interfaces = " ".join(path.near.interface for path in self.paths)
        yield f"{TRAFFIC} watch {_WATCH_MS} {interfaces} >/tmp/mptcp.watched &"
        yield "beside=$!"
        stripped = cell["arm"] == "stripped"
        for path in self.paths if stripped else ():
            enter = " ".join(inside(middle(path.near.link)))
            for end in "ab":
                yield f"{enter} {IP} link set dev {end} nomaster || exit"
            yield f"{enter} {TRAFFIC} strip a b &"
            yield 'beside="$beside $!"'
        if stripped:
            yield "sleep 0.2"  # whoever is to carry the first packet has to be there
        yield "("
        passed = 0.0
        dies = PATHS.index(str(cell["dies"]))
        for part, after, alive in DIES.get(str(cell["operation"]), ()):
            number = (dies + after) % len(self.paths)
            at = part * float(self.given["seconds"])
            yield f"sleep {at - passed:.3f}"
            passed = at
            for command in self._change(number, alive=alive, dark=cell["operation"] == "dark"):
                yield f"{command} || exit"
        yield ":"
        yield ") >/tmp/mptcp.events 2>&1 &"
        yield "events=$!"
        yield f"{send} >/tmp/mptcp.sent 2>&1"
        yield "status=$? said=/tmp/mptcp.sent"
        yield "wait $events || { status=$? said=/tmp/mptcp.events; }"
        yield "kill $beside"
        yield "wait"
        for path in self.paths if stripped else ():
            enter = " ".join(inside(middle(path.near.link)))
            for end in "ab":
                yield f"{enter} {IP} link set dev {end} master wire || exit"
        yield "cat $said"
        yield '[ "$status" != 0 ] || cat /tmp/mptcp.watched'
        yield "exit $status"

    def _change(self, number: int, *, alive: bool, dark: bool) -> Iterator[str]:
        """Yield commands after which a path is dead, or alive again."""
        path = self.paths[number]
        if not dark:
            device = path.near.interface
            yield (
                f"{IP} -batch {_UP.format(number)}" if alive else f"{IP} link set dev {device} down"
            )
            return
        link = self.drawn.links[path.near.link]
        for interface, way in (("b", link.there), ("a", link.back)):
            space = middle(path.near.link)
            shaped = Shaped(space, interface, way if alive else replace(way, loss=1_000_000))
            yield " ".join((*inside(space), TRAFFIC, *shape_words(shaped, 1)))

    def _over_others(self, sent: Said, since: float, until: float) -> float:
        """Return the % of the bytes between two seconds that went not over the best path."""
        bins = slice(round(since * 1000 / _WATCH_MS), round(until * 1000 / _WATCH_MS))
        each = [sum(sent[f"{path.near.interface}.sent"][bins]) for path in self.paths]
        return 100 * sum(each[1:]) / sum(each) if sum(each) else 0.0

    def _active(self, sent: Said, path: Path) -> float:
        """Return the seconds that a path's interface was active, its tail behind each packet."""
        name, tail = path.near.interface, float(self.given["tail"])
        both = zip(sent[f"{name}.sent"], sent[f"{name}.received"], strict=True)
        seconds, until = 0.0, 0.0
        for number, counts in enumerate(both):
            if any(counts):
                at, end = (n * _WATCH_MS / 1000 for n in (number, number + 1))
                seconds += end + tail - max(at, until)
                until = end + tail
        return seconds

    def courses(self, cell: Cell) -> Sequence[Course]:
        """Return what arrived, and what the sender sent over each path."""
        took = (max(self.got["last"]) - min(self.got["first"])) / 1e9
        found = [goodput_course(self.got, took)]
        for number, path in enumerate(self.paths, 1):
            sent = self.sent[f"{path.near.interface}.sent"]
            at = tuple((place + 1) * _WATCH_MS / 1000 for place in range(len(sent)))
            values = tuple(each * 8 / _WATCH_MS / 1000 for each in sent)
            found.append(Course(f"sent over path {number}", "Mbit/s", at, values))
        return found

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """See that all arrived as it was sent, and that MPTCP was spoken where it should be.

        That is over all paths, and nowhere else. Three say so: the connection
        (MPTCP_INFO), TCP's own option (TCP_IS_MPTCP, Linux 6.9), and what both kernels
        counted (MPTcpExt in /proc/net/netstat).
        """
        whole(self.sent, self.got)
        arm = str(cell["arm"])
        speaks, joins = arm in SPEAKS, len(self.paths) - 1 if arm in SPEAKS else 0
        if arm != "tcp":
            spoken, subflows = self.sent.number("mptcp"), self.sent.number("subflows")
            if bool(spoken) != speaks or bool(self.sent.number("is_mptcp")) != speaks:
                raise WrongState(
                    f"arm {arm}: the connection {'did not speak' if speaks else 'spoke'} MPTCP"
                )
            if spoken and subflows < len(self.paths):
                raise WrongState(
                    f"arm {arm}: {subflows:.0f} subflows, where there are {len(self.paths)} paths"
                )
        for name, counted, (spoke, joined) in zip(
            (self.a, self.b), self.counted, (_SENDER, _RECEIVER), strict=True
        ):
            if (found := counted.get(spoke, 0)) != speaks or counted.get(joined, 0) < joins:
                raise WrongState(
                    f"arm {arm}: {name} counts {spoke} {found}, {joined} "
                    f"{counted.get(joined, 0)}; {int(speaks)} and {joins} or more are expected"
                )
        if arm in _GIVES_UP and (found := self.counted[0].get(_GAVE_UP, 0)) != 1:
            raise WrongState(f"arm {arm}: {self.a} counts {_GAVE_UP} {found}, 1 is expected")

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what MPTCP promises, each with our figures."""
        from linklab.scenarios.mptcp.promises import claims

        return claims(run)


def _counters(host: Host) -> dict[str, int]:
    """Return what a host's kernel counts of MPTCP."""
    lines = host.printed(["/bin/cat", "/proc/net/netstat"]).splitlines()
    found = [line.split()[1:] for line in lines if line.startswith("MPTcpExt:")]
    return {name: int(value) for name, value in zip(*found, strict=True)} if found else {}
