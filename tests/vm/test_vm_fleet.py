"""A comparison on two workers: in virtual time the same table as on this host alone."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from guests import Invoke

from linklab.results.store import read_run

pytestmark = pytest.mark.vm
pytest.importorskip("distributed")

CELL = "operation=create,arm=netlink,interfaces=16"


def test_a_fleet_has_the_figures_of_this_host(invoke: Invoke, tmp_path: Path) -> None:
    words = ("compare", "nosysfs", "sysfs", "--clock", "virtual", "--cell", CELL, "--blocks", "6")
    for name, more in (("here", ()), ("there", ("--fleet", "local:2"))):
        done = invoke(*words, *more, "--output", str(tmp_path / name))
        assert done.status == 1, done.stderr  # sysfs is slower, and that fails
        assert "slower" in done.stdout
    here, there = (read_run(tmp_path / name) for name in ("here", "there"))
    assert len(here.samples) == len(there.samples)
    for kernel in ("nosysfs", "sysfs"):
        ours, theirs = (
            median(sample.metrics["seconds"] for sample in run.samples if sample.kernel == kernel)
            for run in (here, there)
        )
        assert theirs == pytest.approx(ours, rel=0.005)
    logs = {path.name for path in (tmp_path / "here").glob("console-*.log")}
    assert logs == {path.name for path in (tmp_path / "there").glob("console-*.log")}
