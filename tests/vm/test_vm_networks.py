"""The bench's networks, and what shapes a link, in real guests and in virtual time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from guests import Invoke

from linklab.bench.networks import EXPERIMENTS, MEMORY, run_flow
from linklab.commands.bench import networked, prepare_networks
from linklab.commands.machines import MachineOptions
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.lab.session import Session
from linklab.lab.spaces import TRAFFIC

pytestmark = pytest.mark.vm


def test_two_guests_send_equally_fast_over_a_link_of_a_gigabit(
    cache: Cache, tmp_path: Path
) -> None:
    machine = MachineOptions(clock="virtual")
    lab, subject = prepare_networks(networked("sysfs"), machine, MEMORY, cache, ignore)
    (fast,) = (experiment for experiment in EXPERIMENTS if experiment.link.rate == 1000)
    one, other = (run_flow(lab, subject, fast, tmp_path / "console.log") for _ in range(2))
    assert one.goodput == pytest.approx(other.goodput, rel=0.002)
    # Of each 1514 bytes that the link carries 1448 are the sender's.
    assert 0.97 < one.goodput / (1000 * 1448 / 1514) <= 1
    assert one.mean_rtt >= 2 * fast.link.delay


RECEIVED = """
rm -f /tmp/said; mkfifo /tmp/said
$1 >/tmp/said & { read -r _listening && $2 && cat; } </tmp/said && wait $!
"""


@pytest.fixture(scope="module")
def session(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A guest with a loopback device to be shaped."""
    machine = MachineOptions(clock="virtual")
    lab, subject = prepare_networks(networked("sysfs"), machine, MEMORY, cache, ignore)
    with lab.session(subject, tmp_path_factory.mktemp("shaped") / "console.log") as running:
        said(running, "/bin/ip", "link", "set", "lo", "up")
        yield running


def said(session: Session, *words: str) -> dict[str, int]:
    """The figures that a program of the guest prints."""
    ended = session.agent.run(words, time.monotonic() + 120)
    text = ended.output.decode()
    assert ended.exit_code == 0, text
    return {name: int(value) for name, value in map(str.split, text.splitlines())}


def shape(session: Session, *words: int) -> None:
    said(session, TRAFFIC, "shape", "lo", *map(str, words))


def received(session: Session, receiver: str, sender: str) -> dict[str, int]:
    commands = [f"{TRAFFIC} {words}" for words in (receiver, sender)]
    return said(session, "/bin/sh", "-c", RECEIVED, "sh", *commands)


def train(session: Session) -> dict[str, int]:
    """What arrives of 1000 datagrams of 958 bytes, which are 1000 on the link.

    They are sent one by one: a qdisc of the sender's own interface would get those that
    are sent together as one packet.
    """
    return received(session, "count 5001 1000 200", "train 127.0.0.1 5001 1000 958 1 0")


def test_a_link_delays_by_what_it_is_told(session: Session) -> None:
    shape(session, 0, 20_000_000, 1000, 0, 1, 0)
    rtt = received(session, "echo 5001 10", "ping 127.0.0.1 5001 10 10 64")
    assert rtt["replies"] == 10
    assert 40_000_000 <= rtt["rtt_min_ns"] <= rtt["rtt_max_ns"] < 41_000_000


@pytest.mark.parametrize(("overhead", "size"), [(0, 1000), (500, 1500), (-100, 900)])
def test_a_links_rate_counts_what_it_adds_to_a_packet(
    session: Session, overhead: int, size: int
) -> None:
    shape(session, 80_000_000, 0, 1000, 0, 1, overhead)
    got = train(session)
    assert (got["received"], got["duplicates"], got["reordered"]) == (1000, 0, 0)
    assert (got["last"] - got["first"]) / 999 == pytest.approx(size * 100, rel=0.01)


def test_a_rate_may_be_above_the_field_of_32_bits(session: Session) -> None:
    """5 GB/s, where a packet takes 12 us; cut to 32 bits it would be 705 MB/s, and 87 us."""
    shape(session, 40_000_000_000, 0, 1000, 0, 1, 60_000)
    got = train(session)
    assert got["received"] == 1000
    assert (got["last"] - got["first"]) / 999 < 60_000


def test_a_link_loses_the_same_share_and_the_same_packets(session: Session) -> None:
    counts = []
    for _ in range(2):
        shape(session, 0, 1_000_000, 1000, 100_000, 7, 0)
        counts.append(train(session)["received"])
    assert counts[0] == counts[1]
    assert 850 < counts[0] < 950


@pytest.mark.parametrize(
    ("chances", "holds"),
    [
        ((1_000_000, 0, 0), lambda got: got["received"] == 1000 and got["duplicates"] > 950),
        ((0, 500_000, 0), lambda got: got["received"] == 1000 and 300 < got["reordered"] < 700),
        ((0, 0, 1_000_000), lambda got: got["received"] < 100),
        ((0, 0, 0), lambda got: (got["received"], got["duplicates"]) == (1000, 0)),
    ],
)
def test_packets_are_doubled_sent_ahead_and_corrupted(
    session: Session, chances: tuple[int, int, int], holds: Callable[[dict[str, int]], bool]
) -> None:
    shape(session, 80_000_000, 50_000_000, 4000, 0, 1, 0, *chances)
    got = train(session)
    assert holds(got), got


def run_twice(invoke: Invoke, folder: Path, *words: str) -> list[dict[tuple[Any, Any], Any]]:
    """The samples of two runs by their cells, each in guests of its own; of several the median."""
    found = []
    for number in ("1", "2"):
        output = str(folder / number)
        done = invoke(
            *("run", "--kernel", "nosysfs", "--clock", "virtual", *words, "--output", output),
            "--json",
        )
        assert done.status == 0, done.stderr
        cells: dict[tuple[Any, Any], list[Any]] = {}
        for sample in done.document["samples"]:
            cells.setdefault((sample.get("operation", ""), sample["arm"]), []).append(sample)
        found.append({cell: _median(samples) for cell, samples in cells.items()})
    return found


def _median(samples: list[dict[str, Any]]) -> dict[str, Any]:
    first = samples[0]
    figures = [name for name, value in first.items() if isinstance(value, (int, float))]
    return {**first, **{name: median(s[name] for s in samples) for name in figures}}


def test_bbr_leaves_the_queue_that_cubic_fills_and_says_so_twice(
    invoke: Invoke, tmp_path: Path
) -> None:
    words = ("--scenario", "congestion", "--param", "seconds=6")
    one, other = run_twice(invoke, tmp_path, *words)
    for arm in ("bbr", "cubic"):
        for metric in ("goodput", "rtt"):
            figure = pytest.approx(one["", arm][metric], rel=0.005)
            assert other["", arm][metric] == figure, metric
    bbr, cubic = one["", "bbr"], one["", "cubic"]
    assert 0.040 <= bbr["rtt"] < 0.060 < 3 * bbr["rtt"] < cubic["rtt"]
    # Of each 1514 bytes that the link carries 1448 are the sender's.
    assert 0.9 < bbr["goodput"] / 9.564 <= 1 and 0.9 < cubic["goodput"] / 9.564 <= 1
    assert "Over time" in (tmp_path / "1" / "report.html").read_text()


def test_a_link_carries_what_a_trace_lets_go(invoke: Invoke, tmp_path: Path) -> None:
    """A packet each millisecond, none in the second half of each 2 s: 6 Mbit/s."""
    trace = tmp_path / "half.trace"
    trace.write_text("".join(f"{ms}\n" for ms in [*range(1, 1001), 2000]))
    words = ("--param", f"trace={trace}", "--param", "seconds=6", "--axis", "arm=bbr")
    one, other = run_twice(invoke, tmp_path, "--scenario", "congestion", *words)
    sample = one["", "bbr"]
    assert other["", "bbr"]["goodput"] == pytest.approx(sample["goodput"], rel=0.005)
    assert 0.9 < sample["goodput"] / (6 * 1448 / 1500) <= 1.01
    assert sample["rtt_p95"] > 0.3 and sample["queue_p95"] > 10


def test_a_queue_that_marks_stays_short_and_loses_nothing(invoke: Invoke, tmp_path: Path) -> None:
    axes = ("--axis", "arm=dctcp,cubic", "--axis", "ecn=on", "--axis", "flows=2")
    words = ("run", "--kernel", "nosysfs", "--clock", "virtual", "--scenario", "congestion", *axes)
    more = ("--param", "seconds=3", "--param", "topology=a -- b: 100mbit 5ms mark=2420us")
    done = invoke(*words, *more, "--output", str(tmp_path / "run"), "--json")
    assert done.status == 0, done.stderr
    found = {sample["arm"]: sample for sample in done.document["samples"]}
    # 20 packets are 2.42 ms of 100 Mbit/s.
    for arm, most in (("dctcp", 40), ("cubic", 200)):
        assert found[arm]["marks"] > 10 and found[arm]["queue"] < most
        # Of each 1514 bytes that the link carries 1448 are the sender's.
        assert 0.8 < found[arm]["goodput"] / (100 * 1448 / 1514) <= 1
        assert found[arm]["retransmissions"] == 0
    # DCTCP keeps the queue where marks begin; CUBIC halves it away, and marks are rare then.
    assert found["dctcp"]["marks"] > 2 * found["cubic"]["marks"]
    assert found["dctcp"]["goodput"] > found["cubic"]["goodput"]


def test_two_paths_carry_more_than_one_and_outlive_it(invoke: Invoke, tmp_path: Path) -> None:
    words = ("--scenario", "mptcp", "--param", "seconds=6", "--axis", "arm=mptcp,tcp")
    one, other = run_twice(invoke, tmp_path, *words)
    for arm in ("mptcp", "tcp"):
        figure = pytest.approx(one["aggregate", arm]["goodput"], rel=0.005)
        assert other["aggregate", arm]["goodput"] == figure
        # What a path had under way when it died is sent again, more or less of it.
        figure = pytest.approx(one["failover", arm]["goodput"], rel=0.2)
        assert other["failover", arm]["goodput"] == figure
    both, alone = one["aggregate", "mptcp"], one["aggregate", "tcp"]
    assert (both["mptcp"], both["subflows"], alone["mptcp"]) == (1, 2, 0)
    assert both["goodput"] > 1.5 * alone["goodput"] > 0
    # The path is dead for 4 s: a connection that has another one does not wait for it.
    assert one["failover", "mptcp"]["gap"] < 3
    assert one["failover", "tcp"]["gap"] > 3.5


def test_a_middlebox_without_mptcp_leaves_tcp(invoke: Invoke, tmp_path: Path) -> None:
    axes = ("--axis", "arm=stripped,disabled,plain-listener", "--axis", "operation=power")
    words = ("run", "--kernel", "nosysfs", "--clock", "virtual", "--scenario", "mptcp", *axes)
    done = invoke(*words, "--output", str(tmp_path / "run"), "--json")
    assert done.status == 0, done.stderr
    samples = done.document["samples"]
    assert len(samples) == 3
    assert {(s["mptcp"], s["subflows"]) for s in samples} == {(0, 0)}


def test_what_is_not_copied_is_copied_after_all_where_nobody_takes_it_away(
    invoke: Invoke, tmp_path: Path
) -> None:
    axes = ("--axis", "size=4096,65536", "--param", "mib=2")
    words = ("run", "--kernel", "nosysfs", "--clock", "virtual", "--scenario", "zerocopy", *axes)
    done = invoke(*words, "--output", str(tmp_path / "run"), "--json")
    assert done.status == 0, done.stderr
    samples = done.document["samples"]
    assert len(samples) == 8
    for sample in samples:
        assert sample["verified"] and sample["cost"] > 0 and sample["both"] > sample["cost"]
        assert sample["uncopied"] == 0
        assert (sample["notified"] > 0) == (sample["arm"] == "zerocopy")
    findings = {claim["text"]: claim["finding"] for claim in done.document["run"]["claims"]}
    assert findings["what is looped to a socket of the same kernel is copied after all"] == (
        "reproduced"
    )


def test_who_polls_finds_what_would_have_interrupted_him(invoke: Invoke, tmp_path: Path) -> None:
    words = (
        "--scenario",
        "busypoll",
        "--axis",
        "size=1",
        "--param",
        "requests=300",
        "--repeat",
        "3",
    )
    one, other = run_twice(invoke, tmp_path, *words, "--fresh-guest")
    for arm, sample in ((arm, sample) for (_, arm), sample in one.items()):
        polls = arm.endswith("busypoll")
        assert (sample["polled"] > 0.9) if polls else (sample["polled"] == 0), arm
        assert sample["latency"] == pytest.approx(other["", arm]["latency"], rel=0.002)
        # The link takes 40 us there and back.
        assert 40 < sample["latency"] < 100
    assert one["", "busypoll"]["softirqs"] < one["", "interrupt"]["softirqs"]
    assert one["", "busypoll"]["cpu"] > 2 * one["", "interrupt"]["cpu"]


def test_a_link_where_nothing_can_be_polled_is_refused_before_anything_is_started(
    invoke: Invoke, tmp_path: Path
) -> None:
    words = ("--scenario", "busypoll", "--axis", "arm=busypoll", "--axis", "size=1")
    done = invoke(
        *("run", "--kernel", "nosysfs", "--clock", "virtual", *words),
        *("--param", "topology=a -- b", "--param", "requests=100"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 2
    assert "before anybody can ask for it: a link with a delay is needed" in done.stderr
