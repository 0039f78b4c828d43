"""Runs made by hand, for tests of what reports say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linklab.results.model import Run, Sample
from linklab.results.shape import Cell

PAPER_COUNTS = (128, 256, 512, 1024, 2048)


def cell(operation: str, arm: str, interfaces: int) -> Cell:
    """Return a cell of the grouping scenario."""
    return Cell({"operation": operation, "arm": arm, "interfaces": interfaces})


def sample(
    kernel: str,
    arm: str,
    interfaces: int,
    seconds: float,
    *,
    operation: str = "mtu",
    trial: int = 1,
    verified: bool = True,
    block: int = 0,
    **metrics: float,
) -> Sample:
    """Return a sample of the grouping experiment of which nothing else matters."""
    counted = {"user_seconds": 0.0, "system_seconds": 0.0, "context_switches": 0, "processes": 1}
    heard = {"messages": 1, "notifications": 0, "notifications_lost": 0}
    return sample_in(
        kernel,
        cell(operation, arm, interfaces),
        {"seconds": seconds, **counted, **heard, **metrics},
        trial=trial,
        verified=verified,
        block=block,
    )


def sample_in(
    kernel: str,
    cell: Cell,
    metrics: Mapping[str, float],
    *,
    trial: int = 1,
    verified: bool = True,
    block: int = 0,
) -> Sample:
    """Return a sample of any experiment: what was measured in a cell."""
    return Sample(
        scenario="grouping",
        kernel=kernel,
        boot="direct",
        accel="tcg",
        cell=cell,
        trial=trial,
        metrics=metrics,
        order=0,
        verified=verified,
        block=block,
    )


def created(kernel: str, interfaces: int, seconds: float) -> Sample:
    """Return the creation that a guest begins with."""
    return sample(kernel, "netlink", interfaces, seconds, operation="create", trial=0)


def both_arms(kernel: str, ratios: Mapping[int, float]) -> list[Sample]:
    """Return samples of both arms: the group takes 10 ms, the processes a multiple."""
    return [
        sample(kernel, arm, count, seconds)
        for count, ratio in ratios.items()
        for arm, seconds in (("process", 0.01 * ratio), ("group", 0.01))
    ]


def run_of(
    kernels: Sequence[str],
    samples: Iterable[Sample] = (),
    boots: Sequence[float] = (),
    image_bytes: int | None = None,
    **about: Any,
) -> Run:
    """Return a run of these kernels; `boots` are seconds. Its shape is the first release's."""
    return Run(
        {
            "scenario": "grouping",
            "accel": "tcg",
            "boot": "direct",
            "machine": "microvm",
            "cpus": 1,
            "memory": 256,
            "qemu": {"version": "7.2.22"},
            "kernels": [
                {
                    "name": name,
                    "release": "6.12.0",
                    "sha256": "0" * 64,
                    "inputs": {},
                    "image_bytes": image_bytes,
                }
                for name in kernels
            ],
            "boots": [
                {
                    "kernel": "sysfs",
                    "interfaces": 128,
                    "seconds": seconds,
                    "clocksource": "tsc",
                    "clock_resolution": 1e-9,
                }
                for seconds in boots
            ],
            **about,
        },
        list(samples),
    )
