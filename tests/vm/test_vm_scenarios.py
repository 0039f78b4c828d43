"""Other scenarios than the grouping one in real guests: the lab's own, and one in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import Invoke

from linklab.paths import ROOT
from linklab.scenarios.drop.rungs import RUNGS

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
    assert rate["nft-input", "on"] < 0.9 * rate["nft-input", "off"]
    empty, native = samples["empty", "off"], samples["xdp-native", "off"]
    assert abs(empty["instructions"]) < 2 < native["instructions"] < 50
