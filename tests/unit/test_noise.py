"""Known noise: which reports it covers, and what is wrong with a file of it."""

from __future__ import annotations

import pytest

from linklab.console.formats import Fault
from linklab.console.report import Noise, Report, read_noise
from linklab.errors import UsageError


def report(title: str) -> Report:
    return Report(Fault.WARNING, title, None, (), title)


FILE = """
# a driver that nobody maintains
WARNING in old_.*

  possible deadlock in team_add_slave
"""


def test_a_pattern_fits_the_whole_title() -> None:
    noise = read_noise(FILE, "known")
    assert noise.covers(report("WARNING in old_driver"))
    assert noise.covers(report("possible deadlock in team_add_slave"))
    assert not noise.covers(report("possible deadlock in team_add_slave_late"))
    assert not noise.covers(report("general WARNING in old_driver"))


def test_comments_and_empty_lines_are_no_patterns() -> None:
    assert len(read_noise(FILE, "known").patterns) == 2
    assert read_noise("# nothing\n\n", "known") == Noise()


def test_reports_are_split_in_their_order() -> None:
    reports = [report("WARNING in old_x"), report("BUG: new"), report("WARNING in old_y")]
    counting, known = read_noise(FILE, "known").split(reports)
    assert [r.title for r in counting] == ["BUG: new"]
    assert [r.title for r in known] == ["WARNING in old_x", "WARNING in old_y"]


def test_two_files_add_up() -> None:
    both = read_noise(FILE, "known") + read_noise("BUG: new", "mine")
    assert both.split([report("BUG: new"), report("WARNING in old_x")])[0] == []


def test_a_line_that_is_no_regular_expression_is_named() -> None:
    with pytest.raises(UsageError, match=r"mine, line 2: 'WARNING \(in' is no regular expression"):
        read_noise("# fine\nWARNING (in\n", "mine")
