"""`invoke selftest` on real kernels: the kernel's own tests, as they come.

On the lab's own `sysfs`, as a bzImage, so that no kernel is built for this: it
has all that these tests need, and lacks what one of them tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import Invoke

from linklab.kernel.compile import BZIMAGE
from linklab.lab.lab import Subject

pytestmark = pytest.mark.vm


@pytest.fixture
def kernel(subjects: dict[str, Subject]) -> str:
    return str(subjects["sysfs"].kernel.path.with_name(BZIMAGE))


def test_scripts_and_programs_run_to_a_true_result(
    invoke: Invoke, kernel: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = invoke(
        *("selftest", "net/netns-name.sh,net/reuseaddr_conflict,net/bind_timewait"),
        *("--kernel", kernel, "--output", str(out), "--json"),
    )
    assert done.status == 0, done.stderr
    tests = {test["name"]: test["attempts"][-1] for test in done.document["run"]["tests"]}
    assert [attempt["status"] for attempt in tests.values()] == ["pass"] * 3
    # A script's own words, a program's KTAP, and what neither of them says.
    assert [leaf["name"] for leaf in tests["net/netns-name.sh"]["subtests"]] == ["netns-name.sh"]
    assert len(tests["net/bind_timewait"]["subtests"]) == 2
    assert (out / tests["net/reuseaddr_conflict"]["output"]).read_text().endswith("Success\n")
    assert all(attempt["seconds"] > 0 for attempt in tests.values())


def test_a_kernel_without_policy_routing_fails_its_test_twice_the_same_way(
    invoke: Invoke, kernel: str, tmp_path: Path
) -> None:
    done = invoke(
        *("selftest", "net/fib_rule_tests.sh", "--retry", "1", "--kernel", kernel),
        *("--output", str(tmp_path / "out"), "--json"),
    )
    assert done.status == 1, done.stderr
    (test,) = done.document["run"]["tests"]
    assert [attempt["status"] for attempt in test["attempts"]] == ["fail", "fail"]
    said = [leaf for leaf in test["attempts"][0]["subtests"] if leaf["status"] == "fail"]
    assert any("not supported" in leaf["output"] for leaf in said)


def test_waiting_costs_the_host_nothing_in_virtual_time(
    invoke: Invoke, kernel: str, tmp_path: Path
) -> None:
    # It sleeps for two minutes, to see whether two clocks drift apart.
    done = invoke(
        *("selftest", "timers/raw_skew", "--clock", "virtual"),
        *("--kernel", kernel, "--output", str(tmp_path / "out"), "--json"),
    )
    assert done.status == 0, done.stderr
    (test,) = done.document["run"]["tests"]
    (attempt,) = test["attempts"]
    assert attempt["status"] == "pass"
    assert 120 < attempt["seconds"] < 125
    assert attempt["host_seconds"] < 60, "2 s, on a host that does nothing else"
