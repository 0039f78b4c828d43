"""Hosts of a topology without a guest: scenarios that send and receive, told what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hand_made import sample_in

from linklab.agent.replies import JobNews, Measure, ProgramEnd
from linklab.lab.spaces import inside
from linklab.lab.topology import parse
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.scenario import GUEST, Host, Hosts, Scenario

MEASURE = Measure(1.0, 0.1, 0.1, 1, 1, 0)
S = 1_000_000_000
MEGABIT = 125_000  # bytes
BIN = 12_500  # bytes of a bin of 10 ms at 10 Mbit/s


@dataclass
class Guest:
    """An agent that answers what the sender and the receiver would have said."""

    sent: str = ""
    got: str = ""
    refuses: str = ""
    counters: list[str] = field(default_factory=list)
    """What /proc/net/netstat says, the next time that it is read, and the time after."""
    ran: list[tuple[str, ...]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def run(self, argv: Sequence[str], _deadline: float) -> ProgramEnd:
        self.ran.append(tuple(argv))
        if "/proc/net/netstat" in argv:
            text = self.counters.pop(0) if self.counters else ""
            return ProgramEnd(1, 0, MEASURE, text.encode())
        talks = bool({"send", "stream", "request", "/bin/sh"} & {*argv})
        if talks and self.refuses:
            return ProgramEnd(0, 1 << 8, MEASURE, self.refuses.encode())
        return ProgramEnd(1, 0, MEASURE, self.sent.encode() if talks else b"")

    def start_job(self, argv: Sequence[str], _deadline: float) -> int:
        self.ran.append(tuple(argv))
        return 1

    def job_news(self, _wait: float, _deadline: float, _job: int = 0) -> JobNews:
        return JobNews(f"listening\n{self.got}".encode(), MEASURE, 0)

    def write_file(self, path: str, content: bytes, _deadline: float, *_: object) -> None:
        self.files[path] = content.decode()

    @property
    def told(self) -> list[str]:
        """The commands that were run, one text each."""
        return [" ".join(argv) for argv in self.ran]


def hosts_of(guest: Any, kind: type[Scenario], given: Mapping[str, Any]) -> Hosts:
    network = parse(str(given["topology"]))
    alone = Host(GUEST, guest, lambda _: 60.0)
    return {GUEST: alone} | {
        name: replace(alone, name=name, inside=inside(name), network=network)
        for name in network.everyone
    }


def given_to(kind: type[Scenario], **other: Any) -> dict[str, Any]:
    return {each.name: each.default for each in kind.parameters} | other


def cell_of(kind: type[Scenario], **values: Any) -> Cell:
    """A cell at the first value of each axis that is not named."""
    return Cell({axis.name: axis.values[0] for axis in kind.shape.axes} | values)


class Tried:
    """A scenario in a fake guest, set up."""

    def __init__(self, kind: type[Scenario], guest: Guest, **given: Any) -> None:
        values = given_to(kind, **given)
        self.guest, self.scenario = guest, kind(values)
        self.hosts = hosts_of(guest, kind, values)
        list(self.scenario.set_up(self.hosts, Cell()))

    def trial(self, **values: Any) -> Mapping[str, float]:
        cell = cell_of(type(self.scenario), **values)
        self.scenario.prepare(self.hosts, cell)
        return self.scenario.trial(self.hosts, cell)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver has said all when it is first asked."""
    from linklab.scenarios.scenario import Running, Said

    def wait_for(self: Running, line: str) -> None:
        self.output = self.host.agent.job_news(0, 0).output
        assert f"{line}\n".encode() in self.output

    def end(self: Running) -> Said:
        return Said(self.output.decode().partition("\n")[2])

    monkeypatch.setattr(Running, "wait_for", wait_for)
    monkeypatch.setattr(Running, "end", end)


def figures(**values: Any) -> str:
    lines = {k: v if isinstance(v, (list, tuple)) else [v] for k, v in values.items()}
    return "".join(f"{k.replace('__', '.')} {' '.join(map(str, v))}\n" for k, v in lines.items())


def sender(flows: int = 1, each: int = 10 * MEGABIT, **more: Any) -> str:
    told = {
        "ports": list(range(40_000, 40_000 + flows)),
        "connect_ns": [40_000_000] * flows,
        "sent": [each] * flows,
        "began": [S] * flows,
        "closed": [9 * S] * flows,
        "rtt_median_us": 43_000,
        "rtt_p95_us": 50_000,
        "rtt_p99_us": 60_000,
        "retransmitted": 7,
    }
    return figures(**told | more)


def receiver(inner: Sequence[int], bins: Sequence[int], **more: Any) -> str:
    """Of so many flows; they came in the other order."""
    flows = len(inner)
    told = {
        "ports": list(range(40_000 + flows - 1, 39_999, -1)),
        "first": [S] * flows,
        "last": [2 * S] * flows,
        "bytes": [10 * MEGABIT] * flows,
        "inner": inner[::-1],
        "bins": list(bins),
        "fair": [1_000_000] * (len(bins) // 10),
        "gap": 20_000_000,
        "wrong": 0,
    }
    return figures(**told | more)


def run_of(
    kind: type[Scenario],
    cells: Mapping[Any, Any],
    axes: Mapping[str, Any] | None = None,
    **given: Any,
) -> Run:
    """A run of cells by their first axes; the others are at their defaults, or at `axes`."""
    names = [axis.name for axis in kind.shape.axes]
    full = {metric.name: 1.0 for metric in kind.shape.metrics}
    samples = [
        sample_in(
            "nosysfs",
            cell_of(kind, **(dict(axes or {}) | dict(zip(names, at, strict=False)))),
            full | metrics,
        )
        for at, metrics in cells.items()
    ]
    kernels: list[dict[str, Any]] = [
        {"name": "nosysfs", "release": "6.12", "sha256": "ab", "inputs": {}, "image_bytes": None}
    ]
    plan = {"given": given_to(kind, **given)}
    about = {"shape": kind.shape.to_json(), "kernels": kernels, "plan": plan}
    return Run(about, samples)


def claim_of(kind: type[Scenario], run: Run, about: str) -> Any:
    (claim,) = (claim for claim in kind.claims(run) if about in claim.text)
    return claim
