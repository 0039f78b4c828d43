"""Other scenarios than the grouping one in real guests: the lab's own, and one in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import Invoke

from linklab.paths import ROOT
from linklab.scenarios.drop.rungs import RUNGS
from linklab.scenarios.tc import ARMS

pytestmark = pytest.mark.vm

TOY = str(ROOT / "tests" / "unit" / "toy_scenario.py")
ALL = {
    (operation, arm, routes)
    for operation in ("add", "get", "delete")
    for arm in ("netlink", "batch", "process")
    for routes in (5, 20)
}


def test_routes_are_added_looked_up_and_deleted_in_every_way(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--scenario", "routes", "--kernel", "nosysfs", "--axis", "routes=5,20"),
        *("--axis", "arm=all", "--axis", "operation=all", "--boot", "resume"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = done.document["samples"]
    assert {(s["operation"], s["arm"], s["routes"]) for s in samples} == ALL
    assert all(sample["verified"] for sample in samples)
    assert [s["rate"] * s["seconds"] for s in samples] == pytest.approx(
        [s["routes"] for s in samples]
    )
    by_arm = {
        arm: min(s["seconds"] for s in samples if s["arm"] == arm and s["routes"] == 20)
        for arm in ("netlink", "process")
    }
    assert by_arm["netlink"] < by_arm["process"], "a process for each takes its time"
    assert "routes a second" in (tmp_path / "run" / "table.txt").read_text()


@pytest.mark.parametrize(
    "words", [("routes", "--axis", "routes=100"), (TOY,)], ids=["routes", "toy"]
)
def test_a_kernel_gives_as_much_as_itself(
    invoke: Invoke, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = invoke(
        *("compare", "nosysfs", "nosysfs", "--clock", "virtual", "--scenario", *words),
        *("--output", str(tmp_path / "compared"), "--json"),
    )
    assert done.status == 0, done.stderr
    results = done.document["run"]["comparison"]["results"]
    assert [each["verdict"] for each in results] == ["same"] * len(results)
    assert results and "the same" in done.document["sentence"]
    assert all(sample["rate"] > 0 for sample in done.document["samples"])


def test_the_earlier_a_packet_is_dropped_the_less_it_costs(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke(
        *("run", "--scenario", "drop", "--kernel", "nosysfs", "--clock", "virtual"),
        *("--param", "packets=640", "--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = {(s["arm"], s["conntrack"]): s for s in done.document["samples"]}
    assert {arm for arm, _ in samples} == set(RUNGS)
    for (arm, _), sample in samples.items():
        assert sample["verified"] and sample["sent"] == sample["dropped"] + sample["passed"], arm
    rate = {which: sample["packets_per_second"] for which, sample in samples.items()}
    for tracked in ("off", "on"):
        for faster, slower in (
            ("xdp-native", "xdp-generic"),
            ("xdp-native", "tc-matchall"),
            ("tc-matchall", "nft-raw"),
            ("tc-matchall", "iptables-raw"),
            ("nft-raw", "nft-input"),
            ("iptables-raw", "iptables-input"),
            ("nft-input", "application"),
            ("socket-filter", "application"),
            ("xdp-redirect", "tc-redirect"),
            ("tc-redirect", "forward"),
        ):
            assert rate[faster, tracked] > rate[slower, tracked], (faster, slower, tracked)
    # What comes before tracking does not know whether there is any.
    assert rate["nft-ingress", "on"] == pytest.approx(rate["nft-ingress", "off"], rel=0.01)
    for who_tracks in ("nft-input", "bridge", "openvswitch"):
        assert rate[who_tracks, "on"] < 0.9 * rate[who_tracks, "off"]
    empty, native = samples["empty", "off"], samples["xdp-native", "off"]
    assert abs(empty["instructions"]) < 2 < native["instructions"] < 50


@pytest.mark.parametrize("held", ["set", "prefixes"])
def test_sets_of_any_size_cost_alike(invoke: Invoke, tmp_path: Path, held: str) -> None:
    done = invoke(
        *("run", "--scenario", "drop", "--kernel", "nosysfs", "--clock", "virtual"),
        *("--axis", "arm=xdp-native,nft-ingress,nft-raw,iptables-raw", "--axis", f"held={held}"),
        *("--axis", "addresses=1,20000", "--axis", "conntrack=off", "--param", "packets=640"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = {(s["arm"], s["addresses"]): s for s in done.document["samples"]}
    assert len(samples) == 8
    for (arm, addresses), sample in samples.items():
        assert sample["verified"] and sample["dropped"] == sample["sent"] - 64, (arm, addresses)
        assert sample["instructions"] < 2 * samples[arm, 1]["instructions"] + 1000


def test_a_table_of_connections_is_full_exactly_at_its_limit(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--scenario", "conntrack", "--kernel", "nosysfs", "--clock", "virtual"),
        *("--axis", "entries=2000", "--axis", "buckets=512,4096", "--param", "packets=640"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = {(s["arm"], s["buckets"]): s for s in done.document["samples"]}
    assert len(samples) == 10 and all(s["verified"] for s in samples.values())
    for buckets in (512, 4096):
        of = {arm: sample for (arm, count), sample in samples.items() if count == buckets}
        full, evicting = of["full"], of["evicting"]
        assert (full["tracked"], full["dropped"], full["passed"]) == (2000, full["sent"], 0)
        assert evicting["tracked"] <= 2000 and evicting["evicted"] > 0
        assert of["new"]["tracked"] == 2000 + of["new"]["sent"]
        assert of["known"]["instructions"] > 100 > abs(of["none"]["instructions"])
        assert of["new"]["instructions"] > of["known"]["instructions"]
    assert samples["known", 512]["instructions"] > samples["known", 4096]["instructions"]


def test_filters_in_a_list_cost_by_their_number_and_queues_hold_all(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke(
        *("run", "--scenario", "tc", "--kernel", "nosysfs", "--clock", "virtual"),
        *("--axis", "number=1,200", "--param", "packets=640"),
        *("--output", str(tmp_path / "run"), "--json"),
    )
    assert done.status == 0, done.stderr
    samples = {(s["arm"], s["number"]): s for s in done.document["samples"]}
    assert {arm for arm, _ in samples} == set(ARMS) and len(samples) == 2 * len(ARMS) - 1
    assert all(s["verified"] and s["passed"] == s["sent"] for s in samples.values())
    cost = {which: sample["instructions"] for which, sample in samples.items()}
    for arm in ("matchall", "flower-list", "u32", "bpf"):
        assert cost[arm, 200] > 1.5 * cost[arm, 1], arm
    for hashed, listed in (("flower", "flower-list"), ("u32-hash", "u32")):
        assert cost[hashed, 200] < cost[listed, 200]
    for arm in ("htb", "fq_codel", "cake"):
        sample = samples[arm, 200]
        assert 0 < sample["emptying"] < 1e9 / sample["packets_per_second"]
