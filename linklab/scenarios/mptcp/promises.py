"""What MPTCP promises of the ways that a connection can take, and what a run says of it.

The promises are those of RFC 6182, as "Contributions to the Linux Networking
Subsystem" (2012) puts them. The limits of a transfer are those of the kernel's own
test, tools/testing/selftests/net/mptcp/simult_flows.sh. The rules by which a promise
counts as kept were fixed before looking at figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from linklab.lab.topology import Port, Topology, Way, parse
from linklab.results.model import Run
from linklab.results.shape import Cell, Value
from linklab.scenarios.scenario import Claim, Finding, Preset

if TYPE_CHECKING:
    from linklab.results.figures import Figures

SPEAKS = ("mptcp", "backup", "fullmesh")
FALLS_BACK = ("plain-listener", "disabled", "stripped")
PATHS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
BEST = PATHS[0]
# When paths end and come back, in parts of the time that is sent, and which: the one that the
# axis `dies` names, or so many after it.
DIES = {
    "failover": ((1 / 3, 0, False), (1.0, 0, True)),
    "dark": ((1 / 3, 0, False), (1.0, 0, True)),
    "failback": ((1 / 4, 0, False), (1 / 2, 0, True), (3 / 4, 1, False), (1.0, 1, True)),
    "preference": ((1 / 2, 0, False), (1.0, 0, True)),
}
_WAYS = ("failover", "dark")  # to die: the link goes down, or loses everything
PRESETS = {
    "redundancy": Preset(
        "each of two paths dies, by link down and by going dark",
        {"operation": _WAYS, "arm": (*SPEAKS, "tcp"), "dies": PATHS[:2]},
    ),
}


@dataclass(frozen=True)
class Path:
    """A link from the sender to the receiver: its ends, and what it does on the way there."""

    near: Port
    far: Port
    way: Way

    @property
    def addresses(self) -> tuple[str, str]:
        """Its ends' addresses."""
        return str(self.near.addresses[0].ip), str(self.far.addresses[0].ip)


def paths_of(network: Topology) -> list[Path]:
    """Return the links from the first host to the last one, the best one first."""
    a, b = network.hosts[0], network.hosts[-1]
    found = []
    for link, (near, far) in zip(network.links, network.ports, strict=True):
        if (near.host, far.host) == (a, b):
            found.append(Path(near, far, link.there))
        elif (near.host, far.host) == (b, a):
            found.append(Path(far, near, link.back))
    return sorted(found, key=lambda path: (-(path.way.rate or 1 << 62), path.way.delay))


_LIKE_TCP = 0.05  # of TCP's goodput: a connection that fell back
_THEIR_MIB = 16  # that simult_flows.sh sends
_SLACK = 450  # ms: 200 at each end for a handshake, and 50


def claims(run: Run) -> list[Claim]:
    """Return every claim, those that this run cannot judge as not measured."""
    from linklab.results.figures import Figures  # brings numpy

    figures = Figures(run)
    return [
        _redundancy(figures),
        _throughput(figures),
        _in_time(figures),
        _compatibility(figures),
    ]


def limit_ms(rates: tuple[float, float], size: int) -> int:
    """Return the ms that simult_flows.sh allows for so many bytes over two paths of Mbit/s."""
    return int(1000 * size * 8 * 10 / (sum(rates) * 1e6 * 9)) + _SLACK


def _cell(operation: str, arm: str, dies: str = BEST) -> Cell:
    return Cell({"operation": operation, "arm": arm, "dies": dies})


def _value(figures: Figures, kernel: str, cell: Cell, metric: str) -> float | None:
    return figures.by_kernel(cell, metric).get(kernel)


def _given(figures: Figures, name: str) -> Value:
    found: Value = figures.run.plan["given"][name]
    return found


def _redundancy(figures: Figures) -> Claim:
    text = "redundancy: all data is delivered as long as one path is alive"
    theirs = "no figure"
    parts, survives, deaths = [], [], set()
    tried = ((k, a, o, d) for k in figures.kernels for a in SPEAKS for o in DIES for d in PATHS)
    for kernel, arm, operation, dies in tried:
        cell = _cell(operation, arm, dies)
        samples = figures.samples(kernel, cell)
        if not samples:
            continue
        gap = _value(figures, kernel, cell, "gap")
        # A path is dead from one change to the next.
        (begin, _, _), (end, _, _), *_ = DIES[operation]
        dead = (end - begin) * float(_given(figures, "seconds"))
        of_path = f" of the {dies} path" * (dies != BEST) + f" by {arm}" * (arm != SPEAKS[0])
        if gap is None or not all(sample.verified for sample in samples):
            became = "a wrong state"  # bytes are missing or changed, or a path was not used
        else:
            alone = _value(figures, kernel, cell.with_(arm="tcp"), "gap")
            beside = f", {alone:.2f} s with TCP" if alone is not None and not of_path else ""
            became = f"a gap of {gap:.2f} s{beside}, {dead:.1f} s dead"
        parts.append(f"{kernel}, {operation}{of_path}: {became}")
        survives.append(gap is not None and "gap" in became and gap < dead)
        deaths |= {(operation, dies)} & {(way, path) for way in _WAYS for path in PATHS}
    if not parts:
        why = f"needs one of the arms {', '.join(SPEAKS)} in failover, dark, failback or preference"
        return Claim.unmeasured(text, theirs, why)
    every = len(_WAYS) * len(paths_of(parse(str(_given(figures, "topology")))))
    why = (
        f"{len(deaths)} of {every} deaths, of each path by link down and by going dark; "
        "--param preset=redundancy has all of two"
        if len(deaths) < every
        else "each path's death, by link down and by going dark, with every byte as it was sent"
    )
    return Claim(text, theirs, "; ".join(parts), Finding.of(survives), why)


def _throughput(figures: Figures) -> Claim:
    text = "throughput: at least that of TCP over the best path"
    theirs = "no figure"
    parts, holds = [], []
    for kernel in figures.kernels:
        both, one, share = (
            _value(figures, kernel, _cell("aggregate", arm), metric)
            for arm, metric in (("mptcp", "goodput"), ("tcp", "goodput"), ("mptcp", "share"))
        )
        if both is None or one is None:
            continue
        of_all = f", {share:.1f} % of what all paths carry" if share else ""
        parts.append(f"{kernel}: {both:.2f} Mbit/s, TCP {one:.2f}{of_all}")
        holds.append(both >= one)
    if not parts:
        why = "needs the arms mptcp and tcp in aggregate"
        return Claim.unmeasured(text, theirs, why)
    finding = Finding.REPRODUCED if all(holds) else Finding.NOT_REPRODUCED
    return Claim(text, theirs, "; ".join(parts), finding)


def _in_time(figures: Figures) -> Claim:
    paths = paths_of(parse(str(_given(figures, "topology"))))
    rates = tuple(path.way.rate / 1e6 for path in paths)
    mib = int(_given(figures, "mib"))
    text = f"{mib} MiB over two paths as fast as simult_flows.sh demands"
    found = {
        kernel: took
        for kernel in figures.kernels
        if (took := _value(figures, kernel, _cell("transfer", "mptcp"), "completion")) is not None
    }
    if not found or len(rates) != 2 or not all(rates):
        why = "needs the arm mptcp in transfer, over two paths with a rate"
        theirs = f"{limit_ms((10, 10), _THEIR_MIB << 20) / 1000:.3f} s"
        return Claim.unmeasured(text, f"{theirs} of {_THEIR_MIB} MiB over 10 and 10 Mbit/s", why)
    most = limit_ms((rates[0], rates[1]), mib << 20) / 1000
    theirs = f"{most:.3f} s over {rates[0]:g} and {rates[1]:g} Mbit/s"
    if mib != _THEIR_MIB:
        theirs += f", by its rule; it sends {_THEIR_MIB} MiB"
    ours = "; ".join(f"{kernel}: {took:.3f} s" for kernel, took in found.items())
    if max(found.values()) <= most:
        return Claim(text, theirs, ours, Finding.REPRODUCED)
    why = (
        "its paths have queues of 50 packets, and another delay" if paths[0].way.queue != 50 else ""
    )
    return Claim(text, theirs, ours, Finding.NOT_REPRODUCED, why)


def _compatibility(figures: Figures) -> Claim:
    text = "compatibility: where the other end or the way knows no MPTCP, it is TCP"
    theirs = "no figure"
    parts, holds = [], []
    for kernel in figures.kernels:
        tcp = _value(figures, kernel, _cell("aggregate", "tcp"), "goodput")
        for arm in FALLS_BACK:
            found = _value(figures, kernel, _cell("aggregate", arm), "goodput")
            if found is None or tcp is None:
                continue
            spoken = _value(figures, kernel, _cell("aggregate", arm), "mptcp")
            parts.append(f"{kernel}, {arm}: {found:.2f} Mbit/s, TCP {tcp:.2f}")
            holds.append(not spoken and abs(found / tcp - 1) <= _LIKE_TCP)
    if not parts:
        why = f"needs the arms tcp and {', '.join(FALLS_BACK)} in aggregate"
        return Claim.unmeasured(text, theirs, why)
    finding = Finding.REPRODUCED if all(holds) else Finding.NOT_REPRODUCED
    if len(holds) < len(FALLS_BACK) * len(figures.kernels) and all(holds):
        finding = Finding.IN_PART
    return Claim(text, theirs, "; ".join(parts), finding)
