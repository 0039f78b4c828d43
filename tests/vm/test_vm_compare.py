"""`invoke compare` on real guests: what is measured, not how it came out."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import Invoke

pytestmark = pytest.mark.vm


def test_two_kernels_are_measured_in_the_same_blocks_each_time_in_fresh_guests(
    invoke: Invoke, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    words = ("compare", "nosysfs", "sysfs", "--counts", "8", "--blocks", "3", "--trials", "2")
    # A threshold that nothing reaches: three blocks prove nothing, and that is the point.
    done = invoke(*words, "--threshold", "100", "--output", str(out), "--json")
    assert done.status == 0, done.stderr
    run = done.document["run"]
    assert run["boot"] == "resume"
    assert len(run["boots"]) == 2 * 3
    (result,) = run["comparison"]["results"]
    assert (result["blocks"], result["verdict"]) == (3, "inconclusive")
    assert (result["low"], result["high"]) == (None, None)  # three blocks have no interval
    assert result["ratio"] > 0
    samples = [s for s in done.document["samples"] if s["trial"]]
    assert {(s["kernel"], s["block"]) for s in samples} == {
        (kernel, block) for kernel in ("nosysfs", "sysfs") for block in (1, 2, 3)
    }
    assert len(samples) == 2 * 3 * 2
    shown = invoke("compare", str(out), str(out))
    assert shown.status == 0, shown.stderr
    assert "at different times" in " ".join(shown.stdout.split())


def test_the_slowed_kernel_is_slower_by_what_its_parameter_says(
    invoke: Invoke, tmp_path: Path
) -> None:
    out = tmp_path / "calibrated"
    words = ("calibrate", "--comparisons", "1", "--counts", "64", "--blocks", "2")
    more = ("--trials", "1", "--slowdown", "10", "--clock", "virtual")
    done = invoke(*words, *more, "--output", str(out), "--json")
    # Two blocks prove nothing, and one comparison does not show whether an aim is missed.
    assert done.status == 0, done.stderr
    calibration = done.document["run"]["calibration"]
    assert [one["verdict"] for one in calibration["same"]] == ["inconclusive"]
    (slowed,) = calibration["slowed"]
    assert [one["verdict"] for one in slowed["comparisons"]] == ["inconclusive"]
    assert 0 < slowed["loops"] < 1_000_000
    assert slowed["measured"]["ratio"] == pytest.approx(1.1, abs=0.01)
    assert "for 10 % more" in done.stderr
    assert "10 % found: 0 of 1" in (out / "table.txt").read_text()
