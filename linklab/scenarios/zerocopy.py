"""zerocopy: sending without copying against copying, by the size of a send and by the path.

With MSG_ZEROCOPY (Linux 4.14) the kernel takes a send's pages instead of a copy, and says
later, in the socket's error queue, that it is done with them. Documentation/networking/
msg_zerocopy.rst says from which size on that pays, and where the kernel copies after all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from linklab.errors import WrongState
from linklab.lab.spaces import TRAFFIC
from linklab.results.figures import Figures
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.scenarios.congestion import whole
from linklab.scenarios.scenario import Claim, Finding, Hosts, Metrics, Parameter, Scenario

if TYPE_CHECKING:
    from linklab.results.model import Run

__all__ = ["Zerocopy"]

_PORT = 5001
_LONGEST = 600  # s for a stream
_HERE = "127.0.0.1"
_PATHS = ("loopback", "link")


class Zerocopy(Scenario):
    """See above. The first host of the topology sends, to itself or to the last one."""

    name = "zerocopy"
    about = "MSG_ZEROCOPY against copying: from which size of a send on it pays"
    shape = Shape(
        axes=(
            Axis(
                "path",
                _PATHS,
                help="loopback: to the sender's own host; link: to the other host, over a veth, "
                "or with --place guests over the NIC of --nic",
            ),
            Axis("size", tuple(1 << n for n in range(10, 19)), "bytes", most=1 << 20),
            Axis(
                "arm",
                ("copy", "zerocopy"),
                among=("copy", "zerocopy"),
                help="whether the kernel copies what is sent, or is asked not to",
            ),
        ),
        metrics=(
            Metric(
                "cost", "ns/byte", title="the sender's CPU time, ns for each byte", short="cost"
            ),
            Metric("both", "ns/byte", short="both ends"),
            Metric("goodput", "Mbit/s", Better.MORE, short="goodput"),
            Metric("uncopied", "%", Better.NEITHER, zero=True, short="not copied"),
            Metric("notified", better=Better.NEITHER, zero=True, short="notifications a send"),
        ),
        rows="size",
        columns="arm",
        versus=("copy", "zerocopy"),
        text="{size} bytes a send by {arm}, {path}",
    )
    topology = "a -- b"
    parameters = (Parameter("mib", 16, "MiB that a trial sends", 1, 1024),)
    compared: ClassVar = {"size": (16_384,)}
    judged: ClassVar = {"size": (16_384,)}
    profiled: ClassVar = {"path": ("link",), "size": (65_536,), "arm": ("zerocopy",)}

    def set_up(self, hosts: Hosts, setup: Cell) -> Iterable[tuple[Cell, Metrics]]:
        """Remember who sends."""
        self.sender, self.receiver = self.drawn.hosts[0], self.drawn.hosts[-1]
        return ()

    def trial(self, hosts: Hosts, cell: Cell) -> Metrics:
        """Send so much in sends of the cell's size."""
        looped = cell["path"] == "loopback"
        receiver = hosts[self.sender if looped else self.receiver]
        address = _HERE if looped else receiver.address()
        size = int(self.given["mib"]) << 20
        running = receiver.start(
            [TRAFFIC, "sink", "tcp", str(_PORT), "1", str(_LONGEST)], "listening", cell
        )
        words = (address, str(_PORT), str(size), str(cell["size"]), str(cell["arm"]))
        sent = hosts[self.sender].said([TRAFFIC, "stream", *words], cell)
        got = running.end()
        whole(sent, got)
        self.sent = sent
        # By the sender's clock alone: another guest has another one.
        sends, span = sent.number("sends"), (sent.number("ended") - sent.number("began")) / 1e9
        return {
            "cost": sent.number("stream_cpu_ns") / size,
            "both": (sent.number("stream_cpu_ns") + got.number("cpu_ns")) / size,
            "goodput": size * 8 / span / 1e6,
            "uncopied": 100 * (sent.number("completed") - sent.number("copied")) / sends,
            "notified": sent.number("notifications") / sends,
        }

    def check(self, hosts: Hosts, cell: Cell) -> None:
        """See that the kernel said of each send once that it is done with it, and of no other."""
        said, sends = self.sent, self.sent.number("sends")
        done, twice = said.number("completed"), said.number("twice")
        expected = sends if cell["arm"] == "zerocopy" else 0
        if done != expected or twice or said.number("unknown"):
            raise WrongState(
                f"{cell['arm']}: of {sends:.0f} sends the kernel says of {done:.0f} that it is "
                f"done with them, of {twice:.0f} twice, and of {said.number('unknown'):.0f} that "
                f"nobody made; {expected:.0f}, 0 and 0 are expected"
            )

    @classmethod
    def claims(cls, run: Any) -> Sequence[Claim]:
        """Return what the kernel's documentation claims, each with our figures."""
        figures = Figures(run)
        return [*(_pays_claim(figures, path) for path in _PATHS), _looped_claim(figures)]


# What Documentation/networking/msg_zerocopy.rst says, and by which rule it counts as
# reproduced. Where both ends have one kernel their CPU times are judged together: what
# the kernel copies after all it copies in whoever runs when the packet is looped, and
# that is often the receiver.
_SOME, _NEAR = 10_000, 2  # bytes, and the factor within which a power of two is near them
_TRIALS = 5  # of each cell, where the host's time counts
_THEIRS = "writes over around 10 KB (Documentation/networking/msg_zerocopy.rst)"

Row = tuple[int, float, float, float]
"""A size, the costs of copying and of zerocopy, and the % of the sends that were not copied."""


def _named(run: Run, path: str) -> str:
    """Return what a path is where the run's hosts were."""
    if path == "loopback":
        return path
    return "a NIC" if any(sample.place == "guests" for sample in run.samples) else "veth"


def _rows(figures: Figures, kernel: str, path: str) -> Iterator[Row]:
    judged = "cost" if _named(figures.run, path) == "a NIC" else "both"
    cost, uncopied = map(figures.shape.metric_named, (judged, "uncopied"))
    for size in sorted({int(s.cell["size"]) for s in figures.run.samples}):
        by_arm = [Cell({"path": path, "size": size, "arm": a}) for a in ("copy", "zerocopy")]
        copy, zero = (figures.figure(kernel, cell, cost).value for cell in by_arm)
        share = figures.figure(kernel, by_arm[1], uncopied).value
        if copy is not None and zero is not None and share is not None:
            yield size, copy, zero, share


def crossing(rows: Sequence[Row]) -> int | None:
    """Return the size from which on zerocopy costs less than copying at all sizes measured."""
    found = None
    for size, copy, zero, _ in reversed(rows):
        if zero >= copy:
            break
        found = size
    return found


def _too_few(figures: Figures, path: str) -> str:
    """Return why trials are too few to be judged: in real time a busy host is in each of them."""
    trials = Counter(
        (s.kernel, s.cell)
        for s in figures.run.samples
        if s.clock == "real" and s.verified and s.cell["path"] == path
    )
    if not trials or min(trials.values()) >= _TRIALS:
        return ""
    return f"in real time one trial says little: needs --repeat {_TRIALS} or more"


def _pays_claim(figures: Figures, path: str) -> Claim:
    text = f"over {_named(figures.run, path)} zerocopy costs less than copying from some 10 KB on"
    found = {
        kernel: rows
        for kernel in figures.kernels
        if len(rows := list(_rows(figures, kernel, path))) > 1
    }
    if not found:
        why = f"needs both arms at two sizes or more of the path {path}"
        return Claim.unmeasured(text, _THEIRS, why)
    if few := _too_few(figures, path):
        return Claim.unmeasured(text, _THEIRS, few)
    parts, sizes = [], []
    for kernel, rows in found.items():
        sizes.append(least := crossing(rows))
        size, copy, zero, share = next((row for row in rows if row[0] == least), rows[-1])
        where = f"from {size} bytes on" if least else f"at no size up to {size} bytes"
        parts.append(
            f"{kernel}: {where}; there {zero:.3g} ns a byte, {copy:.3g} by copying, "
            f"{share:.0f} % of the sends were not copied"
        )
    ours = "; ".join(parts)
    if all(size and _SOME / _NEAR <= size <= _SOME * _NEAR for size in sizes):
        if any(rows[0][0] == size for rows, size in zip(found.values(), sizes, strict=True)):
            why = "the smallest size measured pays already: smaller ones may, too"
            return Claim(text, _THEIRS, ours, Finding.IN_PART, why)
        return Claim(text, _THEIRS, ours, Finding.REPRODUCED)
    if any(sizes):
        why = "it pays, but not from some 10 KB on"
        return Claim(text, _THEIRS, ours, Finding.IN_PART, why)
    why = (
        "what the kernel copies after all costs a copy, and the pages' accounting besides"
        if all(row[3] < 50 for rows in found.values() for row in rows)
        else ""
    )
    return Claim(text, _THEIRS, ours, Finding.NOT_REPRODUCED, why)


def _looped_claim(figures: Figures) -> Claim:
    text = "what is looped to a socket of the same kernel is copied after all"
    theirs = "all of it, later, and the completion says so"
    local = [p for p in _PATHS if _named(figures.run, p) in ("loopback", "veth")]
    found = {
        f"{kernel}, {_named(figures.run, path)}": [row[3] for row in rows]
        for kernel in figures.kernels
        for path in local
        if (rows := list(_rows(figures, kernel, path)))
    }
    if not found:
        why = "needs both arms over loopback, or over a link in one guest"
        return Claim.unmeasured(text, theirs, why)
    ours = "; ".join(
        f"{where}: {100 - max(shares):.0f} % of the sends, or more, were copied"
        if max(shares)
        else f"{where}: all sends were copied"
        for where, shares in found.items()
    )
    whole_copied = not any(any(shares) for shares in found.values())
    return Claim(text, theirs, ours, Finding.of([whole_copied]))
