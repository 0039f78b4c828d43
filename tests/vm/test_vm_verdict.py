"""`invoke verdict` on a real kernel, as `git bisect run` sees it."""

from __future__ import annotations

import pytest
from guests import Invoke

from linklab.kernel.source import default_source

pytestmark = pytest.mark.vm


def test_a_kernel_that_does_everything_right_is_good(invoke: Invoke) -> None:
    done = invoke("verdict", "--source", str(default_source()), "--counts", "16")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("good: ")


def test_a_kernel_whose_figure_is_above_a_limit_is_bad(invoke: Invoke) -> None:
    words = ("--arms", "group", "--counts", "16", "--above", "1us", "--boot", "resume", "--json")
    for clock, blocks in (("real", 8), ("virtual", 1)):
        done = invoke("verdict", "--source", str(default_source()), *words, "--clock", clock)
        assert done.status == 1, done.stderr
        assert done.document["judgement"] == "bad"
        assert done.document["figure"]["blocks"] == blocks


def test_what_says_nothing_of_a_kernel_stops_git_bisect_run(invoke: Invoke) -> None:
    assert invoke("verdict", "--source", "nowhere").status == 255
