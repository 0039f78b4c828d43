"""Networks within a guest: what they are, and one run of each.

Client, router and server are namespaces of one guest (`guest/traffic/network`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from rich.table import Table

from linklab import paths
from linklab.bench.figures import empty_table
from linklab.errors import LabError
from linklab.events import Listener, StepAdvanced, step
from linklab.lab.lab import Lab, Subject

IMAGE = paths.IMAGES / "bench"
FRAGMENT = IMAGE / "kernel.config"
NEEDS = "networks"  # in images/needs.toml
MEMORY = 512  # MiB
TOLERANCE = 0.1
"""A published figure is reproduced when every run is within this part of it."""

_COLUMNS = ("link", "TCP", "guest s", "goodput Mbit/s", "mean RTT ms", "host s")
_RULE = (
    f"reproduced: every run is within {TOLERANCE:.0%} of what the message of Linux commit "
    "0f8782ea1497 says.\n"
    "A figure that stands alone is the same in every run, to the last byte and microsecond."
)

_SCRIPT = "/usr/lib/linklab/network"
_STEP = "networks"
_SEED = 1  # what netem draws its losses with, where the kernel takes it (Linux 6.6)
_SETUP_LIMIT = 120.0  # s of the host for a guest that does not send yet
_PACE_LIMIT = 60.0  # s of the host for a second of the guest; unshaped TCP takes about 10


@dataclass(frozen=True)
class Link:
    """What netem does on both ways: Mbit/s, ms of delay, packets of queue; per mille lost.

    Without a `rate` nobody shapes. What is lost is lost on the way to the server.
    """

    rate: int = 0
    delay: int = 0
    queue: int = 0
    lost: int = 0

    @property
    def text(self) -> str:
        """The link in words."""
        if not self.rate:
            return "no shaping"
        lost = f", {self.lost / 10:g} % lost" if self.lost else ""
        return f"{self.rate} Mbit/s, 2 x {self.delay} ms, limit {self.queue}{lost}"


class Quantity(StrEnum):
    """What a published figure is of."""

    GOODPUT = "goodput, Mbit/s"
    SHARE = "goodput, % of the link"
    MEDIAN_RTT = "median RTT, ms"


@dataclass(frozen=True)
class Published:
    """A figure that others have published."""

    quantity: Quantity
    value: float


@dataclass(frozen=True)
class Experiment:
    """A connection over a link, for so many seconds of the guest, and what is known of it."""

    link: Link
    algorithm: str
    seconds: int
    published: Published | None = None


_SLOW = Link(rate=10, delay=20, queue=1000)
_LOSSY = Link(rate=10, delay=20, queue=1000, lost=10)
_LONG = Link(rate=100, delay=50, queue=10_000, lost=10)
_FAST = Link(rate=1000, delay=1, queue=10_000)

# What is published is the message of Linux commit 0f8782ea1497 ("tcp_bbr: add BBR congestion
# control"): 10 Mbit/s, 40 ms, 1000 packets for 120 s; and 10 Gbit/s, 100 ms, 1 % lost for 30 s.
# What loss leaves of CUBIC does not depend on the rate of the link, so a tenth of a Gbit/s will do.
EXPERIMENTS = (
    Experiment(_SLOW, "cubic", 30, Published(Quantity.MEDIAN_RTT, 1090)),
    Experiment(_SLOW, "bbr", 30, Published(Quantity.MEDIAN_RTT, 43)),
    Experiment(_LOSSY, "cubic", 30),
    Experiment(_LOSSY, "bbr", 30),
    Experiment(_LONG, "cubic", 30, Published(Quantity.GOODPUT, 3.27)),
    Experiment(_LONG, "bbr", 30, Published(Quantity.SHARE, 91.5)),
    Experiment(_FAST, "cubic", 3),
    Experiment(Link(), "cubic", 3),
)


@dataclass(frozen=True)
class Flow:
    """What came of a connection: bytes that arrived, and the sender's round trip times in us."""

    experiment: Experiment
    received: int
    rtt_sum: int
    rtt_samples: int
    rtt_median: int
    retransmitted: int  # segments
    host_seconds: float  # from the request to the answer; a guest's boot is not in it

    @cached_property
    def goodput(self) -> float:
        """Mbit/s that arrived, from the first byte on."""
        return self.received * 8 / self.experiment.seconds / 1e6

    @cached_property
    def mean_rtt(self) -> float:
        """The mean of the round trip times, ms."""
        return self.rtt_sum / self.rtt_samples / 1e3

    def figure(self, quantity: Quantity) -> float:
        """Return what compares with a published figure."""
        match quantity:
            case Quantity.GOODPUT:
                return self.goodput
            case Quantity.SHARE:
                return 100 * self.goodput / self.experiment.link.rate
            case Quantity.MEDIAN_RTT:
                return self.rtt_median / 1e3


def words_for(experiment: Experiment, seed: int = _SEED) -> tuple[str, ...]:
    """Return the guest's command for an experiment; `seed` 0 leaves losses to its kernel."""
    link = experiment.link
    numbers = (link.rate, link.delay, link.queue, link.lost, seed)
    return (_SCRIPT, *map(str, numbers), experiment.algorithm, str(experiment.seconds))


def run_flow(
    lab: Lab, subject: Subject, experiment: Experiment, log: Path, seed: int = _SEED
) -> Flow:
    """Return what comes of an experiment in a guest of its own. Raises what a session raises."""
    limit = _SETUP_LIMIT + lab.slowness * _PACE_LIMIT * experiment.seconds
    with lab.session(subject, log) as session:
        began = time.monotonic()
        ended = session.agent.run(words_for(experiment, seed), began + limit)
        seconds = time.monotonic() - began
    if ended.exit_code:
        said = ended.output.decode(errors="replace").rstrip()
        raise LabError(f"{experiment.link.text}, {experiment.algorithm}: no figures came", said)
    return read_flow(experiment, ended.output, seconds)


def run_all(
    lab: Lab,
    subject: Subject,
    experiments: Sequence[Experiment],
    repeat: int,
    listener: Listener,
) -> list[list[Flow]]:
    """Return the flows of each experiment, every one from a guest of its own."""
    groups: list[list[Flow]] = [[] for _ in experiments]
    turns = [(group, turn) for group in range(len(experiments)) for turn in range(repeat)]
    with (
        tempfile.TemporaryDirectory(prefix="linklab-bench-") as folder,
        step(listener, _STEP, len(turns)),
    ):
        for done, (group, _turn) in enumerate(turns):
            experiment = experiments[group]
            listener(StepAdvanced(_STEP, done, f"{experiment.link.text}, {experiment.algorithm}"))
            flow = run_flow(lab, subject, experiment, Path(folder) / "console.log")
            groups[group].append(flow)
    return groups


def read_flow(experiment: Experiment, output: bytes, host_seconds: float) -> Flow:
    """Return what the guest printed; raises `LabError` where something is lacking."""
    try:
        lines = (line.split() for line in output.decode().splitlines())
        said = {name: int(value) for name, value, *_more in lines}
        flow = Flow(
            experiment,
            received=said["bytes"],
            rtt_sum=said["rtt_sum_us"],
            rtt_samples=said["rtt_samples"],
            rtt_median=said["rtt_median_us"],
            retransmitted=said["retransmitted"],
            host_seconds=host_seconds,
        )
    except (KeyError, ValueError) as error:
        text = f"{experiment.link.text}, {experiment.algorithm}: the guest's figures lack {error}"
        raise LabError(text, output.decode(errors="replace").rstrip()) from error
    if not flow.rtt_samples:
        raise LabError(f"{experiment.link.text}, {experiment.algorithm}: nothing was sent")
    return flow


def agreed(values: Sequence[float], decimals: int) -> str:
    """Return one figure, to six decimals, where all runs agree; else each, so that they differ."""
    distinct = len(set(values))
    if distinct == 1:
        return f"{values[0]:.6f}".rstrip("0").rstrip(".")
    while len({f"{value:.{decimals}f}" for value in values}) < distinct:
        decimals += 1
    return ", ".join(f"{value:.{decimals}f}" for value in values)


def verdict(flows: Sequence[Flow]) -> str:
    """Return what was published of an experiment, what came here, and whether that is the same."""
    published = flows[0].experiment.published
    if published is None:
        return ""
    here = [flow.figure(published.quantity) for flow in flows]
    is_near = all(abs(value / published.value - 1) <= TOLERANCE for value in here)
    word = "reproduced" if is_near else "not reproduced"
    return f"{published.quantity}: {published.value:g}; here {agreed(here, 2)}: {word}"


def table(lab: Lab, subject: Subject, groups: Sequence[Sequence[Flow]]) -> Table:
    """Return the table, a row for each experiment."""
    shown = empty_table(lab, subject, "", _COLUMNS, 2, _RULE)
    shown.add_column("published, and here")
    for flows in groups:
        experiment = flows[0].experiment
        shown.add_row(
            experiment.link.text,
            experiment.algorithm,
            str(experiment.seconds),
            agreed([flow.goodput for flow in flows], 3),
            agreed([flow.mean_rtt for flow in flows], 2),
            ", ".join(f"{flow.host_seconds:.1f}" for flow in flows),
            verdict(flows),
        )
    return shown
