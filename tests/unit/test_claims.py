"""The paper's figures and claims: what is said of hand-made runs, at the rules' borders too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hand_made import PAPER_COUNTS, both_arms, cell, created, run_of, sample

from linklab.commands.history import with_claims
from linklab.report.tables import reference_points
from linklab.results.model import Run
from linklab.results.store import RunFolder, read_run
from linklab.scenarios.grouping.paper import REFERENCE, TABLE_I, claims
from linklab.scenarios.scenario import Claim, Finding

# Table I, column by column: group and no group.
WITHOUT_SYSFS = {
    128: (0.01, 0.49),
    256: (0.02, 1.11),
    512: (0.05, 2.57),
    1024: (0.17, 7.02),
    2048: (0.32, 21.74),
}
WITH_SYSFS = {
    128: (0.01, 0.53),
    256: (0.03, 1.15),
    512: (0.06, 2.59),
    1024: (0.20, 7.51),
    2048: (0.36, 23.05),
}
GROWING = dict(zip(PAPER_COUNTS, (20.0, 40.0, 60.0, 80.0, 100.0), strict=True))


def claim_of(run: Run, about: str) -> Claim:
    (claim,) = (claim for claim in claims(run) if about in claim.text)
    return claim


def gains(ratios: Mapping[str, Mapping[int, float]]) -> Claim:
    samples = [s for kernel, row in ratios.items() for s in both_arms(kernel, row)]
    return claim_of(run_of(list(ratios), samples), "one request")


def creation(times: Mapping[int, tuple[float, float]]) -> Claim:
    """Of a run that took so long with sysfs, and so long without."""
    samples = [created("sysfs", c, with_) for c, (with_, _) in times.items()]
    samples += [created("nosysfs", c, without) for c, (_, without) in times.items()]
    return claim_of(run_of(["sysfs", "nosysfs"], samples), "creating")


# The paper


@pytest.mark.parametrize(
    ("kernel", "rows"), [("nosysfs", WITHOUT_SYSFS), ("sysfs", WITH_SYSFS)], ids=["without", "with"]
)
def test_the_papers_table_is_the_papers(kernel: str, rows: dict[int, tuple[float, float]]) -> None:
    assert TABLE_I[kernel] == rows
    for count, (group, process) in rows.items():
        assert REFERENCE.points[kernel, cell("mtu", "group", count)] == group
        assert REFERENCE.points[kernel, cell("mtu", "process", count)] == process


def test_the_paper_says_nothing_of_other_kernels_counts_and_operations() -> None:
    assert len(REFERENCE.points) == 2 * 2 * len(PAPER_COUNTS)
    assert {kernel for kernel, _ in REFERENCE.points} == {"sysfs", "nosysfs"}
    assert {point["operation"] for _, point in REFERENCE.points} == {"mtu"}


def test_every_claim_is_always_there_and_says_the_papers_figure() -> None:
    found = claims(run_of([]))
    assert [c.finding for c in found] == [Finding.NOT_MEASURED] * 4
    figures = " / ".join(claim.theirs for claim in found)
    for figure in ("49x to 68x", "53x to 64x", "55 s with, 7 s without at 1024", "13 MB", "5 s"):
        assert figure in figures
    assert all(claim.ours == "-" for claim in found)


# Faster by a factor that grows


def test_gains_that_grow_on_both_kernels_are_reproduced() -> None:
    claim = gains({"nosysfs": GROWING, "sysfs": {count: r / 2 for count, r in GROWING.items()}})
    assert claim.finding is Finding.REPRODUCED
    assert claim.ours == "nosysfs 20x to 100x; sysfs 10x to 50x"
    assert claim.theirs == "nosysfs 49x to 68x; sysfs 53x to 64x"
    assert claim.why == ""


def test_gains_at_other_counts_stand_beside_the_papers_for_the_same_counts() -> None:
    claim = gains({"nosysfs": {256: 20, 1024: 30}})
    assert claim.theirs == f"nosysfs {1.11 / 0.02:.0f}x to {7.02 / 0.17:.0f}x"
    assert gains({"sysfs": {64: 20, 128: 30}}).theirs == f"sysfs {0.53 / 0.01:.0f}x"
    assert gains({"sysfs": {10: 20, 20: 30}}).theirs == "sysfs 53x to 64x"


def test_gains_that_do_not_grow_on_one_kernel_are_reproduced_in_part() -> None:
    claim = gains({"nosysfs": GROWING, "sysfs": dict.fromkeys(PAPER_COUNTS, 30.0)})
    assert claim.finding is Finding.IN_PART
    assert "not larger at the most" in claim.why


def test_a_dip_in_between_does_not_count() -> None:
    assert gains({"sysfs": {128: 20, 256: 10, 512: 20.1}}).finding is Finding.REPRODUCED


def test_a_group_that_is_slower_anywhere_is_not_reproduced() -> None:
    claim = gains({"nosysfs": GROWING, "sysfs": {128: 0.9, 256: 50}})
    assert claim.finding is Finding.NOT_REPRODUCED
    assert claim.why, "what speaks against it is said"


def test_a_group_as_fast_as_the_processes_is_not_faster() -> None:
    assert gains({"sysfs": {128: 1.0, 256: 2.0}}).finding is Finding.NOT_REPRODUCED


@pytest.mark.parametrize(
    "run",
    [
        run_of(["sysfs"], both_arms("sysfs", {128: 40})),
        run_of(["sysfs", "nosysfs"], both_arms("sysfs", GROWING)),
        run_of(["sysfs"], [sample("sysfs", "group", count, 0.1) for count in PAPER_COUNTS]),
        run_of(["sysfs"], [sample("sysfs", "batch", c, 0.1, operation="up") for c in (1, 2)]),
    ],
    ids=["one count", "a kernel without samples", "one arm", "another operation"],
)
def test_gains_need_both_arms_at_two_counts_on_each_kernel(run: Run) -> None:
    claim = claim_of(run, "one request")
    assert claim.finding is Finding.NOT_MEASURED
    assert "two counts or more" in claim.why


def test_gains_are_not_judged_by_times_that_are_not_valid() -> None:
    samples = both_arms("sysfs", {128: 20, 256: 40})
    samples += [sample("sysfs", "group", 512, 99, verified=False)]
    samples += [sample("sysfs", "process", 512, 1)]
    claim = claim_of(run_of(["sysfs"], samples), "one request")
    assert (claim.finding, claim.ours) == (Finding.REPRODUCED, "sysfs 20x to 40x")


def test_gains_of_kernels_by_their_paths_are_judged_beside_the_papers_flavours() -> None:
    claim = gains({"a/bzImage": GROWING, "b/bzImage": GROWING})
    assert claim.finding is Finding.REPRODUCED
    assert claim.ours == "a/bzImage 20x to 100x; b/bzImage 20x to 100x"
    assert claim.theirs == "nosysfs 49x to 68x; sysfs 53x to 64x"


# Creation without sysfs


def test_creation_that_is_as_much_faster_as_in_2011_is_reproduced() -> None:
    claim = creation({1024: (55.0, 7.0)})
    assert claim.finding is Finding.REPRODUCED
    assert claim.ours.startswith("55.0 s with, 7.00 s without at 1024")
    assert "7.9x" in claim.ours
    assert "7.9x" in claim.theirs


BORDER = (55 / 7) ** 0.5  # half of the way there, as factors go


@pytest.mark.parametrize(
    ("factor", "finding"),
    [
        (BORDER * 1.0001, Finding.REPRODUCED),
        (BORDER * 0.9999, Finding.IN_PART),
        (1.1001, Finding.IN_PART),
        (1.0999, Finding.NOT_REPRODUCED),
        (1.0, Finding.NOT_REPRODUCED),
        (0.5, Finding.NOT_REPRODUCED),
    ],
)
def test_creation_is_judged_by_its_factor(factor: float, finding: Finding) -> None:
    claim = creation({128: (0.1 * factor, 0.1), 256: (0.2 * factor, 0.2)})
    assert claim.finding is finding
    assert bool(claim.why) == (finding is not Finding.REPRODUCED)


def test_the_factor_of_creation_is_over_all_counts() -> None:
    """As factors are averaged: four times and a fourth are once."""
    claim = creation({128: (0.4, 0.1), 2048: (0.1, 0.4)})
    assert claim.finding is Finding.NOT_REPRODUCED
    assert "1x over all counts" in claim.ours
    assert "at 2048" in claim.ours


def test_creation_shows_the_papers_count_where_it_was_measured() -> None:
    assert "at 1024" in creation({128: (1, 1), 1024: (2, 2), 2048: (3, 3)}).ours


@pytest.mark.parametrize("kernels", [["sysfs"], ["nosysfs"], ["a/bzImage", "b/bzImage"]])
def test_creation_needs_both_flavours(kernels: list[str]) -> None:
    samples = [created(kernel, 1024, 1.0) for kernel in kernels]
    claim = claim_of(run_of(kernels, samples), "creating")
    assert claim.finding is Finding.NOT_MEASURED
    assert "both flavours" in claim.why


def test_a_third_kernel_that_fails_does_not_hide_what_the_flavours_did() -> None:
    samples = [created("sysfs", 1024, 55.0), created("nosysfs", 1024, 7.0)]
    claim = claim_of(run_of(["sysfs", "nosysfs", "my/bzImage"], samples), "creating")
    assert claim.finding is Finding.REPRODUCED


def test_creation_that_took_no_time_is_not_judged() -> None:
    assert creation({128: (0.0, 0.0)}).finding is Finding.NOT_MEASURED


# Image and boot


@pytest.mark.parametrize(
    ("size", "finding"),
    [
        (5_150_000, Finding.REPRODUCED),
        (12_999_999, Finding.REPRODUCED),
        (13_000_000, Finding.NOT_REPRODUCED),
        (None, Finding.NOT_MEASURED),
    ],
)
def test_the_image_is_smaller_than_13_mb(size: int | None, finding: Finding) -> None:
    claim = claim_of(run_of(["sysfs"], image_bytes=size), "image")
    assert claim.finding is finding
    if size == 5_150_000:
        assert claim.ours == "5.15 MB"


def test_the_largest_image_counts() -> None:
    run = run_of(["sysfs", "nosysfs"], image_bytes=4_000_000)
    run.about["kernels"][1]["image_bytes"] = 14_000_000
    claim = claim_of(run, "image")
    assert (claim.ours, claim.finding) == ("14.00 MB", Finding.NOT_REPRODUCED)


@pytest.mark.parametrize(
    ("boots", "finding"),
    [
        ([0.6], Finding.REPRODUCED),
        ([0.6, 4.999, 60.0], Finding.REPRODUCED),
        ([5.0], Finding.NOT_REPRODUCED),
        ([], Finding.NOT_MEASURED),
    ],
)
def test_the_machine_boots_in_under_5_s(boots: list[float], finding: Finding) -> None:
    claim = claim_of(run_of(["sysfs"], boots=boots), "boots")
    assert claim.finding is finding
    if len(boots) == 3:
        assert claim.ours == "5.00 s (median of 3, direct boot)"


def test_a_guest_that_was_resumed_was_not_booted() -> None:
    claim = claim_of(run_of(["sysfs"], boots=[0.1], boot="resume"), "boots")
    assert (claim.finding, claim.ours) == (Finding.NOT_MEASURED, "-")
    assert "resumed" in claim.why


# Stored with a run


def test_a_run_of_the_first_release_has_its_claims_added_and_any_other_keeps_its_own() -> None:
    run = with_claims(run_of(["sysfs"], both_arms("sysfs", GROWING), boots=[0.6]))
    assert [claim["finding"] for claim in run.about["claims"]] == [
        claim.finding.value for claim in claims(run)
    ]
    assert reference_points(run) == REFERENCE.points
    stored = [{**run.about["claims"][0], "ours": "as it was stored"}]
    kept = Run({**run.about, "claims": stored}, run.samples)
    assert with_claims(kept) is kept


@pytest.mark.parametrize(
    "about", [{"kind": "compare"}, {"scenario": "no-longer-here"}, {"scenario": "run"}]
)
def test_what_no_scenario_here_judges_has_no_claims_added(about: dict[str, Any]) -> None:
    run = run_of(["sysfs"], both_arms("sysfs", GROWING), **about)
    assert with_claims(run) is run


def test_claims_and_the_papers_points_survive_a_runs_folder(tmp_path: Path) -> None:
    run = run_of(["sysfs"], both_arms("sysfs", GROWING))
    folder = RunFolder(tmp_path, run.about)
    folder.update(claims=[claim.to_json() for claim in claims(run)], reference=REFERENCE.to_json())
    read = read_run(tmp_path)
    assert reference_points(read) == REFERENCE.points
    assert read.about["claims"] == with_claims(run).about["claims"]
