"""`invoke sweep` in real guests: interrupted and gone on with, nothing measured twice."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from guests import INVOKE, Invoke

from linklab.paths import ROOT

pytestmark = pytest.mark.vm

PATIENCE = 900.0  # s: as `invoke` has it, for a kernel, two guests and four trials

SWEEP = """\
scenario = "congestion"
kernel = "nosysfs"
clock = "virtual"
jobs = 1

[axes]
arm = ["bbr", "cubic"]

[parameters]
seconds = 2
topology = ["a -- r -- b: clean | 10mbit 20ms", "a -- r -- b: clean | 5mbit 20ms"]

[[check]]
metric = "goodput"
at-least = 8
where = {topology = "a -- r -- b: clean | 10mbit 20ms"}

[[check]]
at-most = 0.6
where = {topology = "a -- r -- b: clean | 5mbit 20ms"}
against = {topology = "a -- r -- b: clean | 10mbit 20ms"}
"""


def samples_in(out: Path) -> list[dict[str, Any]]:
    path = out / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_interrupted_sweep_goes_on_and_measures_nothing_again(
    invoke: Invoke, tmp_path: Path
) -> None:
    file, out = tmp_path / "links.toml", tmp_path / "out"
    file.write_text(SWEEP)
    words = [INVOKE, "sweep", str(file), "--output", str(out)]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as lab:
        deadline = time.monotonic() + PATIENCE
        while not samples_in(out):
            assert lab.poll() is None, lab.stderr and lab.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        lab.send_signal(signal.SIGINT)
        _, said = lab.communicate(timeout=PATIENCE)
    assert lab.returncode == 130
    assert f"--resume {out}` goes on" in said
    before = samples_in(out)
    assert 1 <= len(before) < 4

    done = invoke("sweep", str(file), "--resume", str(out), "--json")
    assert done.status == 0, done.stderr
    after = samples_in(out)
    assert after[: len(before)] == before
    assert len({(s["topology"], s["arm"]) for s in after}) == len(after) == 4
    assert [sample["order"] for sample in after] == list(range(4))
    assert done.document["samples"] == after
    assert [check["holds"] for check in done.document["checks"]] == [True] * 4

    again = invoke("sweep", str(file), "--output", str(out))
    assert again.status == 2
    assert "has come to its end (pass)" in again.stderr
    assert samples_in(out) == after
