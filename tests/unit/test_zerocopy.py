"""zerocopy and busypoll without a guest: what they tell it, and what they make of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fake_hosts import Guest, Tried, at_once, claim_of, figures, run_of  # noqa: F401

from linklab.errors import LabError, RequestRefused, WrongState
from linklab.results.model import Run
from linklab.results.shape import Cell
from linklab.scenarios.busypoll import Busypoll
from linklab.scenarios.scenario import Finding
from linklab.scenarios.zerocopy import Zerocopy

pytestmark = pytest.mark.usefixtures("at_once")

S = 1_000_000_000
MIB = 1 << 20


# zerocopy


def streamed(**other: Any) -> str:
    told = {
        "sent": MIB, "began": S, "ended": S + MIB, "sends": 64, "completed": 64, "copied": 16,
        "twice": 0, "unknown": 0, "notifications": 8, "stream_cpu_ns": MIB // 2,
    }  # fmt: skip
    return figures(**told | other)


def received(**other: Any) -> str:
    told = {"bytes": MIB, "last": 1, "wrong": 0, "cpu_ns": MIB // 4}
    return figures(**told | other)


def sent(sent: str, got: str = received(), **cell: Any) -> tuple[Tried, Cell, Mapping[str, float]]:
    tried = Tried(Zerocopy, Guest(sent, got), mib=1)
    whole = Cell({"path": "link", "size": 16_384, "arm": "zerocopy"} | cell)
    return tried, whole, tried.trial(**whole)


def test_what_a_byte_costs_and_which_sends_were_not_copied() -> None:
    tried, cell, metrics = sent(streamed())
    assert metrics == {
        "cost": 0.5, "both": 0.75, "goodput": pytest.approx(8000), "uncopied": 75,
        "notified": 0.125,
    }  # fmt: skip
    tried.scenario.check(tried.hosts, cell)


@pytest.mark.parametrize(
    ("path", "space", "address"), [("loopback", "a", "127.0.0.1"), ("link", "b", "10.0.1.2")]
)
def test_a_path_is_who_receives_and_by_which_address(path: str, space: str, address: str) -> None:
    tried, _, _ = sent(streamed(), path=path)
    assert any(f"netns/{space} " in t and "sink tcp 5001 1" in t for t in tried.guest.told)
    stream = f"stream {address} 5001 1048576 16384 zerocopy"
    assert any("netns/a " in t and stream in t for t in tried.guest.told)


@pytest.mark.parametrize(
    "got", [received(wrong=1), received(bytes=MIB - 1), received(bytes=MIB + 1)]
)
def test_other_bytes_than_were_sent_are_wrong(got: str) -> None:
    with pytest.raises(WrongState):
        sent(streamed(), got)


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ("zerocopy", {"completed": 63}),
        ("zerocopy", {"twice": 1}),
        ("zerocopy", {"unknown": 1}),
        ("copy", {}),
    ],
)
def test_a_completion_that_is_lost_comes_twice_or_unasked_is_wrong(
    arm: str, told: dict[str, int]
) -> None:
    tried, cell, _ = sent(streamed(**told), arm=arm)
    with pytest.raises(WrongState, match="the kernel says of"):
        tried.scenario.check(tried.hosts, cell)


def test_who_copies_is_told_nothing() -> None:
    tried, cell, metrics = sent(streamed(completed=0, copied=0, notifications=0), arm="copy")
    tried.scenario.check(tried.hosts, cell)
    assert metrics["uncopied"] == 0


def costs(
    by_size: Mapping[int, tuple[float, float]],
    share: float,
    place: str = "guests",
    clock: str = "real",
    trials: int = 5,
) -> Run:
    """A run over the link: what a byte costs by copying and by zerocopy, for each size."""
    # Of the two costs the one that is not judged would say the opposite.
    judged, other = ("cost", "both") if place == "guests" else ("both", "cost")
    cells = {
        ("link", size, arm): {judged: cost, other: 1 / cost, "uncopied": share}
        for size, pair in by_size.items()
        for arm, cost in zip(("copy", "zerocopy"), pair, strict=True)
    }
    run = run_of(Zerocopy, cells)
    samples = [replace(s, place=place, clock=clock) for s in run.samples for _ in range(trials)]
    return replace(run, samples=samples)


@pytest.mark.parametrize(
    ("by_size", "finding", "said"),
    [
        ({4096: (1, 2), 8192: (1, 0.9), 65536: (1, 0.5)}, Finding.REPRODUCED, "from 8192 bytes"),
        ({8192: (1, 2), 16384: (1, 0.9)}, Finding.REPRODUCED, "from 16384 bytes"),
        ({2048: (1, 2), 4096: (1, 0.9), 8192: (1, 0.5)}, Finding.IN_PART, "from 4096 bytes"),
        ({16384: (1, 2), 32768: (1, 0.9)}, Finding.IN_PART, "from 32768 bytes"),
        ({8192: (1, 0.9), 16384: (1, 0.9)}, Finding.IN_PART, "from 8192 bytes"),
        # What pays at one size and not at a larger one is no crossing.
        ({4096: (1, 0.9), 8192: (1, 1), 16384: (1, 2)}, Finding.NOT_REPRODUCED, "at no size up"),
        ({8192: (1, 0.9), 32768: (1, 1.1), 65536: (1, 0.9)}, Finding.IN_PART, "65536"),
        ({8192: (1, 0.9)}, Finding.NOT_MEASURED, "-"),
    ],
)  # fmt: skip
def test_where_it_pays_is_the_size_from_which_on_it_always_does(
    by_size: dict[int, tuple[float, float]], finding: Finding, said: str
) -> None:
    claim = claim_of(Zerocopy, costs(by_size, 100), "over a NIC")
    assert claim.finding is finding
    assert said in claim.ours


@pytest.mark.parametrize(
    ("clock", "trials", "finding"),
    [
        ("real", 4, Finding.NOT_MEASURED),
        ("real", 5, Finding.REPRODUCED),
        ("virtual", 1, Finding.REPRODUCED),
    ],
)
def test_in_real_time_a_few_trials_are_not_judged(
    clock: str, trials: int, finding: Finding
) -> None:
    run = costs({4096: (1, 2), 8192: (1, 0.9)}, 100, clock=clock, trials=trials)
    claim = claim_of(Zerocopy, run, "over a NIC")
    assert claim.finding is finding
    assert ("--repeat 5" in claim.why) == (finding is Finding.NOT_MEASURED)


def test_within_one_kernel_both_ends_are_judged_and_the_deferred_copy_is_told() -> None:
    run = costs({8192: (1, 1.2), 16384: (1, 1.1)}, 0, place="spaces")
    claim = claim_of(Zerocopy, run, "over veth zerocopy")
    assert claim.finding is Finding.NOT_REPRODUCED
    assert "copies after all" in claim.why and "0 % of the sends" in claim.ours
    assert claim_of(Zerocopy, run, "looped").finding is Finding.REPRODUCED
    assert claim_of(Zerocopy, run, "over loopback").finding is Finding.NOT_MEASURED


@pytest.mark.parametrize(
    ("share", "place", "finding"),
    [
        (1.0, "spaces", Finding.NOT_REPRODUCED),
        (0.0, "spaces", Finding.REPRODUCED),
        (0.0, "guests", Finding.NOT_MEASURED),
    ],
)
def test_what_is_looped_is_copied_or_it_is_not(share: float, place: str, finding: Finding) -> None:
    run = costs({8192: (1, 2), 16384: (1, 2)}, share, place)
    assert claim_of(Zerocopy, run, "looped").finding is finding


# busypoll


def asked(**other: Any) -> str:
    told = {
        "ns_p50": 60_000, "ns_p95": 70_000, "ns_p99": 90_000, "request_cpu_ns": 20_000_000,
        "switches": 2000, "interrupts": 4000, "softirqs": 6000, "polled": 2000,
    }  # fmt: skip
    return figures(**told | other)


def test_a_request_is_told_by_its_time_and_by_what_it_asks_of_the_kernel() -> None:
    tried = Tried(Busypoll, Guest(asked()))
    metrics = tried.trial(arm="busypoll", size=1)
    assert metrics == {
        "latency": 60, "latency_p95": 70, "latency_p99": 90, "cpu": 10,
        "switches": 1, "interrupts": 2, "softirqs": 3, "polled": 1,
    }  # fmt: skip
    tried.scenario.check(tried.hosts, Cell({"arm": "busypoll", "size": 1}))
    told = tried.guest.told
    assert any("netns/a " in each and "traffic napi b" in each for each in told)
    assert any("request 10.0.1.2 5001 2000 1 1 busypoll 5000" in each for each in told)


@pytest.mark.parametrize(
    ("topology", "why"),
    [("a -- b", "a link with a delay is needed"), ("a -- b: 20us", "its interface has no NAPI")],
)
def test_polling_that_finds_nothing_is_refused_with_its_reason(topology: str, why: str) -> None:
    tried = Tried(Busypoll, Guest(asked(polled=0)), topology=topology)
    with pytest.raises(LabError, match="found none of 2000 answers") as caught:
        tried.trial(arm="epoll-busypoll", size=1)
    assert why in caught.value.message
    tried.trial(arm="epoll", size=1)  # who does not poll finds nothing so, and should not


def test_a_kernel_without_busy_polling_is_not_at_fault() -> None:
    lacks = Guest(refuses="traffic: cannot busy-poll (EPIOCSPARAMS): Inappropriate ioctl\n")
    with pytest.raises(LabError, match="no such busy polling") as caught:
        Tried(Busypoll, lacks).trial(arm="epoll-busypoll", size=1)
    assert not isinstance(caught.value, RequestRefused)
    other = Guest(refuses="traffic: cannot connect: Connection refused\n")
    with pytest.raises(RequestRefused):
        Tried(Busypoll, other).trial(arm="epoll-busypoll", size=1)


@pytest.mark.parametrize("arm", ["interrupt", "epoll"])
def test_packets_found_by_polling_that_was_off_are_wrong(arm: str) -> None:
    tried = Tried(Busypoll, Guest(asked(polled=1)))
    tried.trial(arm=arm, size=1)
    with pytest.raises(WrongState, match="which was off"):
        tried.scenario.check(tried.hosts, Cell({"arm": arm, "size": 1}))


@pytest.mark.parametrize(
    ("on", "about", "finding"),
    [
        ({"latency": 50}, "shortens", Finding.REPRODUCED),
        ({"latency": 60}, "shortens", Finding.NOT_REPRODUCED),
        # 99 % lie 20 us above the median by interrupt.
        ({"latency": 50, "latency_p99": 69}, "jitter", Finding.REPRODUCED),
        ({"latency": 50, "latency_p99": 70}, "jitter", Finding.NOT_REPRODUCED),
        ({"switches": 0, "interrupts": 0, "softirqs": 0}, "spares", Finding.REPRODUCED),
        ({"switches": 1, "interrupts": 0, "softirqs": 0}, "spares", Finding.IN_PART),
        ({}, "spares", Finding.NOT_REPRODUCED),
    ],
)
def test_what_is_less_by_busy_polling_is_judged_one_by_one(
    on: dict[str, float], about: str, finding: Finding
) -> None:
    off = {"latency": 60, "latency_p99": 80, "switches": 1, "interrupts": 1, "softirqs": 1}
    run = run_of(Busypoll, {("interrupt", 1): off, ("busypoll", 1): {**off, **on}})
    assert claim_of(Busypoll, run, about).finding is finding
    alone = run_of(Busypoll, {("busypoll", 1): off})
    assert claim_of(Busypoll, alone, about).finding is Finding.NOT_MEASURED
