"""What a stored run says of each test, in the form that exports take."""

from __future__ import annotations

from typing import Any

import pytest
from hand_made import cell, run_of, sample

from linklab.errors import Verdict
from linklab.results.comparison import Comparison
from linklab.results.model import Run, Sample, first_shape
from linklab.results.outcomes import Outcome, Quantity, Status, Suite, family, status_of, worst
from linklab.results.shape import Axis, Better, Cell, Metric, Shape
from linklab.results.suites import suite_of_runs, suites_of

PLAN = {"counts": [128], "pairs": [["mtu", "group"], ["mtu", "process"]], "repeat": 1}
BOTH = [sample("sysfs", "group", 128, 0.01), sample("sysfs", "process", 128, 0.5)]


def run_with(samples: Any = (), boots: Any = (0.5,), **about: Any) -> Run:
    about = {"plan": PLAN, "faults": [], "verdict": "pass", "scenario": "grouping", **about}
    return run_of(["sysfs"], samples, boots, **about)


def leaves(suite: Suite) -> dict[str, Outcome]:
    return {".".join(path): outcome for path, outcome in suite.leaves()}


def statuses(suite: Suite) -> dict[str, Status]:
    return {path: outcome.status for path, outcome in leaves(suite).items()}


def fault(during: str, **at: Any) -> dict[str, Any]:
    entry = {"kernel": "sysfs", "verdict": "crash", "message": "BUG: bad", "evidence": "BUG: it"}
    return {**entry, "during": during, "interfaces": 128, **at}


def test_each_planned_test_of_a_run_that_passed_has_passed() -> None:
    (suite,) = suites_of(run_with(BOTH))
    assert statuses(suite) == {
        "boot.128": Status.PASS,
        "mtu.group.128": Status.PASS,
        "mtu.process.128": Status.PASS,
    }
    assert suite.status is Status.PASS
    found = leaves(suite)["mtu.process.128"]
    assert (found.seconds, found.figure and found.figure.value) == (0.5, 0.5)


def test_the_figure_of_several_trials_is_their_median() -> None:
    trials = [sample("sysfs", "group", 128, s, trial=n) for n, s in enumerate((1, 9, 2), 1)]
    (suite,) = suites_of(run_with(trials, plan={**PLAN, "pairs": [["mtu", "group"]], "repeat": 3}))
    found = leaves(suite)["mtu.group.128"]
    assert (found.status, found.seconds, found.message) == (Status.PASS, 2, "median of 3 trials")


def test_a_trial_that_left_a_wrong_state_fails_its_test_alone() -> None:
    (suite,) = suites_of(run_with([sample("sysfs", "group", 128, 1, verified=False), BOTH[1]]))
    assert statuses(suite)["mtu.group.128"] is Status.FAIL
    assert statuses(suite)["mtu.process.128"] is Status.PASS
    assert suite.status is Status.FAIL


def test_a_crash_belongs_to_the_trial_that_it_came_in_and_what_was_left_is_missing() -> None:
    crashed = fault("trial", operation="mtu", arm="group")
    (suite,) = suites_of(run_with(faults=[crashed], verdict="crash"))
    found = leaves(suite)
    assert found["mtu.group.128"].status is Status.CRASH
    assert found["mtu.group.128"].output == "BUG: it"
    assert found["mtu.process.128"].status is Status.MISSING
    assert "the kernel failed before it: BUG: bad" in found["mtu.process.128"].message
    assert found["boot.128"].status is Status.PASS


def test_a_crash_while_booting_belongs_to_the_boot() -> None:
    (suite,) = suites_of(run_with(boots=(), faults=[fault("boot")], verdict="crash"))
    assert statuses(suite)["boot.128"] is Status.CRASH


@pytest.mark.parametrize(("entry", "name"), [(fault("end"), "end"), (fault(""), "fault")])
def test_a_fault_outside_of_the_tests_is_one_of_its_own(entry: dict[str, Any], name: str) -> None:
    (suite,) = suites_of(run_with(BOTH, faults=[entry], verdict="crash"))
    assert statuses(suite)[name] is Status.CRASH
    assert statuses(suite)["mtu.group.128"] is Status.PASS


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"verdict": "error", "message": "disk full"}, "the lab failed before it: disk full"),
        ({"verdict": "interrupted"}, "the run was interrupted before it"),
        ({"verdict": None}, "the run did not come to its end"),
    ],
)
def test_what_an_ended_run_did_not_come_to_is_missing_and_blames_nobody(
    about: dict[str, Any], why: str
) -> None:
    (suite,) = suites_of(run_with(BOTH[:1], **about))
    missing = leaves(suite)["mtu.process.128"]
    assert (missing.status, missing.message) == (Status.MISSING, why)
    assert not suite.status.blames_kernel


def test_a_test_with_too_few_trials_is_not_done() -> None:
    (suite,) = suites_of(run_with(BOTH, plan={**PLAN, "repeat": 2}, verdict="interrupted"))
    assert leaves(suite)["mtu.group.128"].message.startswith("1 of 2 trials were done")


def test_a_run_that_did_not_keep_its_pairs_has_those_that_were_measured() -> None:
    run = run_with(BOTH, plan={})
    assert set(statuses(suites_of(run)[0])) == {"boot.128", "mtu.group.128", "mtu.process.128"}


def compared(verdict: str, work: str = "mtu") -> dict[str, Any]:
    entry = {"operation": work, "arm": "group", "interfaces": 128, "verdict": verdict, "blocks": 9}
    entry |= {"ratio": 1.25, "low": 1.1, "high": 1.4, "p_value": 0.01, "level": 0.95}
    return {**entry, "median_a": 0.02, "median_b": 0.025, "more_blocks_needed": 0}


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("slower", Status.FAIL),
        ("faster", Status.PASS),
        ("same", Status.PASS),
        ("inconclusive", Status.SKIP),
    ],
)
def test_a_comparison_is_a_test_of_the_second_kernel(verdict: str, status: Status) -> None:
    comparison = {"a": "old", "b": "sysfs", "results": [compared(verdict)]}
    found = leaves(suites_of(run_with(BOTH, comparison=comparison))[0])
    one = found["compare.mtu/group/128"]
    assert (one.status, one.figure and one.figure.unit) == (status, "x")
    assert one.message == f"{verdict}: 1.25x [1.1, 1.4] of old, p = 0.01, 9 blocks"
    other = {"a": "sysfs", "b": "new", "results": [compared(verdict)]}
    assert not any(
        "compare" in name for name in leaves(suites_of(run_with(BOTH, comparison=other))[0])
    )


def test_two_stored_runs_compared_are_a_suite_of_their_own() -> None:
    found = [("sysfs", cell("mtu", "group", 128), Comparison.from_json(compared("slower")))]
    suite = suite_of_runs(found, first_shape().metric, "old", "new")
    assert (suite.name, suite.status) == ("compare new", Status.FAIL)
    one = leaves(suite)["compare.sysfs/mtu/group/128"]
    assert one.message == "slower: 1.25x [1.1, 1.4] of old, p = 0.01, 9 blocks"


def test_a_metric_that_may_be_nought_is_compared_by_a_difference_in_its_unit() -> None:
    entry = compared("slower")
    entry |= {"difference": entry.pop("ratio"), "effect": "worse"}
    comparison = {"a": "old", "b": "sysfs", "metric": "system_seconds", "results": [entry]}
    one = leaves(suites_of(run_with(BOTH, comparison=comparison))[0])["compare.mtu/group/128"]
    assert (one.status, one.figure and one.figure.unit) == (Status.FAIL, "s")
    assert one.message == "slower: 1.25 [1.1, 1.4] of old, p = 0.01, 9 blocks"


def test_a_cell_of_another_shape_is_named_by_its_axes_and_its_figure_has_its_unit() -> None:
    shape = Shape(
        (Axis("size", (64,)), Axis("protocol", ("tcp",), among=("tcp", "udp"))),
        (Metric("rate", "Mbit/s", Better.MORE),),
        rows="size",
        columns="protocol",
    )
    done = Sample("rate", "sysfs", "direct", "tcg", Cell({"size": 64, "protocol": "udp"}), 1,
                  {"rate": 940.0}, 0, True)  # fmt: skip
    plan = {"cells": [[64, "tcp"], [64, "udp"]], "repeat": 1}
    boot = {"kernel": "sysfs", "seconds": 0.5, "clocksource": "tsc", "clock_resolution": 1e-9}
    about: dict[str, Any] = {"shape": shape.to_json(), "plan": plan, "boots": [boot]}
    (suite,) = suites_of(run_of(["sysfs"], [done], **about))
    assert statuses(suite) == {
        "boot.guest": Status.PASS,
        "64.tcp": Status.MISSING,
        "64.udp": Status.PASS,
    }
    found = leaves(suite)["64.udp"]
    assert (found.seconds, found.figure) == (None, Quantity(940.0, "Mbit/s"))


def test_each_kernel_has_a_suite_of_its_own_with_what_is_known_of_it() -> None:
    run = run_of(["sysfs", "nosysfs"], BOTH, plan=PLAN, patches={"a.patch": "f" * 64})
    run.about["kernels"][0]["inputs"] = {"tree": "a" * 40, "tools": ["gcc 12", "ld 2"]}
    first, second = suites_of(run)
    assert first.kernel is not None and second.kernel is not None
    assert (first.kernel.tree, first.kernel.compiler) == ("a" * 40, "gcc 12")
    assert first.kernel.patches == ("f" * 64,)
    assert (second.kernel.name, second.kernel.patches) == ("nosysfs", ())  # taken as it was
    assert first.properties["accel"] == "tcg"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], Status.SKIP),
        ([Status.PASS, Status.SKIP], Status.PASS),
        ([Status.PASS, Status.MISSING], Status.MISSING),
        ([Status.ERROR, Status.FAIL], Status.FAIL),
        ([Status.HANG, Status.CRASH], Status.CRASH),
    ],
)
def test_the_worst_of_several_stands_for_all(found: list[Status], expected: Status) -> None:
    assert worst(found) is expected
    assert family("all", [Outcome("one", each) for each in found]).status is expected


def test_every_verdict_has_a_status_and_only_the_kernels_faults_blame_it() -> None:
    blamed = {verdict for verdict in Verdict if status_of(verdict).blames_kernel}
    assert blamed == {Verdict.FAIL, Verdict.CRASH, Verdict.HANG}
