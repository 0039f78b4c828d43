"""Where the time goes: what the same work costs by each arm, and how it grows.

The paper argues with processes, context switches and user against kernel
time; these are the same figures, of the guest's own accounting (getrusage(2)
of the agent and of the processes that it waited for).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from linklab.report.figures import Figures
from linklab.results.fit import Fit, fit
from linklab.results.model import Sample, TallyRecord


@dataclass(frozen=True)
class Cost:
    """What one arm's work cost on one kernel: medians over its valid trials.

    `messages` (netlink messages sent) and `system_calls` of all processes that
    took part are exact: they were counted with ptrace(2) in a repetition of
    its own that was not timed, and are None where there was none. (A sample's
    own `messages` is one for each change asked for; `ip` sends more.)
    """

    kernel: str
    arm: str
    interfaces: int
    seconds: float
    user_seconds: float
    system_seconds: float
    context_switches: float
    processes: float
    messages: int | None
    system_calls: int | None
    listeners: int
    notifications: float
    notifications_lost: float


@dataclass(frozen=True)
class Growth:
    """How the seconds of one arm on one kernel grow with the interfaces."""

    kernel: str
    arm: str
    fit: Fit


def costs(figures: Figures, operation: str) -> list[Cost]:
    """Return what each arm cost at the largest count, by kernel."""
    most = max(figures.counts(operation))
    tallies = {(t.kernel, t.operation, t.arm, t.interfaces): t for t in figures.run.tallies}
    found = (
        _cost(
            [s for s in figures.samples(operation, kernel, arm, most) if s.verified],
            tallies.get((kernel, operation, arm, most)),
        )
        for kernel in figures.kernels
        for arm in figures.arms(operation)
    )
    return [cost for cost in found if cost]


def _cost(samples: list[Sample], tally: TallyRecord | None) -> Cost | None:
    if not samples:
        return None

    def middle(value: Callable[[Sample], float]) -> float:
        return median(value(sample) for sample in samples)

    first = samples[0]
    return Cost(
        kernel=first.kernel,
        arm=first.arm,
        interfaces=first.interfaces,
        seconds=middle(lambda s: s.seconds),
        user_seconds=middle(lambda s: s.user_seconds),
        system_seconds=middle(lambda s: s.system_seconds),
        context_switches=middle(lambda s: s.context_switches),
        processes=middle(lambda s: s.processes),
        messages=tally.messages if tally else None,
        system_calls=tally.system_calls if tally else None,
        listeners=first.listeners,
        notifications=middle(lambda s: s.notifications),
        notifications_lost=middle(lambda s: s.notifications_lost),
    )


def growths(figures: Figures, operation: str) -> list[Growth]:
    """Return the fit of each arm's seconds, by kernel; nothing of fewer than 3 counts."""
    found = []
    for kernel in figures.kernels:
        for arm in figures.arms(operation):
            points = {
                count: seconds
                for count in figures.counts(operation)
                if (seconds := figures.cell(operation, kernel, arm, count).seconds)
            }
            fitted = fit(points)
            if fitted:
                found.append(Growth(kernel, arm, fitted))
    return found
