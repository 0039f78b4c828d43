"""Two workers with real guests: in virtual time the same table as on this host alone."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest
from guests import INVOKE, Invoke
from processes import descendant_named, wait_until_gone

from linklab.paths import ROOT
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


def test_a_run_whose_submitter_was_killed_goes_on_from_what_is_there(
    invoke: Invoke, tmp_path: Path
) -> None:
    words: tuple[str, ...] = ("run", "--kernel", "nosysfs", "--counts", "16,32", "--arms", "group")
    words += ("--operations", "mtu", "--repeat", "3", "--fresh-guest", "--clock", "virtual")
    there, fleet = tmp_path / "there", ("--fleet", "local:2")
    argv = [INVOKE, *words, *fleet, "--output", str(there)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL) as submitter:
        guest = 0
        while not guest:
            assert submitter.poll() is None
            if (there / "samples.jsonl").exists():
                with suppress(AssertionError):  # between two parts there is none
                    guest = descendant_named(submitter.pid, "qemu-system")
            time.sleep(0.1)
        submitter.kill()
    wait_until_gone(guest, 10.0)
    lines = (there / "samples.jsonl").read_text().splitlines()
    done = invoke(*words, *fleet, "--resume", str(there))
    assert done.status == 0, done.stderr
    assert (there / "samples.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert invoke(*words, "--output", str(tmp_path / "here")).status == 0
    ours, theirs = (trials(tmp_path / name) for name in ("here", "there"))
    assert len(ours) == 6
    assert theirs.keys() == ours.keys()
    for of, seconds in ours.items():
        assert theirs[of] == pytest.approx(seconds, rel=0.005)


def trials(folder: Path) -> dict[tuple[object, ...], float]:
    """The seconds of each trial, each of which is there once."""
    kept = [sample for sample in read_run(folder).samples if sample.block]
    found: dict[tuple[object, ...], float]
    found = {(each.kernel, each.cell, each.block): each.metrics["seconds"] for each in kept}
    assert len(found) == len(kept)
    return found
