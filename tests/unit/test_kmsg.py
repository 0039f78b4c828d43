"""The kernel's own log, and what it says of a report."""

from __future__ import annotations

import pytest

from linklab.console.kmsg import Record, is_confirmed, records_in
from linklab.console.report import Report
from linklab.console.watch import reports_in

LOG = """\
5,0,0,-;Linux version 6.12.117 (linklab@linklab)
6,1,100000,-;dummy0: a text; with a semicolon
 SUBSYSTEM=net
 DEVICE=n4
4,2,2000000,-;------------[ cut here ]------------
4,3,2000001,-,caller=T51;WARNING: CPU: 0 PID: 51 at net/core/dev.c:1 free_netdev+0x1/0x2
12,4,3000000,-;Kernel panic - not syncing: says a program
6,5,3100000,c;a tab: \\x09.
"""


def report_of(text: str, seconds: float) -> Report:
    (report,) = reports_in(f"[{seconds:12.6f}] {text}\n")
    return report


WARNING = report_of("WARNING: CPU: 0 PID: 51 at net/core/dev.c:1 free_netdev+0x1/0x2", 2.000001)
FAKE = report_of("Kernel panic - not syncing: says a program", 3.0)


def test_a_log_is_read_record_by_record() -> None:
    records = list(records_in(LOG))
    assert [record.seconds for record in records] == [0.0, 0.1, 2.0, 2.000001, 3.0, 3.1]
    assert records[1].text == "dummy0: a text; with a semicolon"
    assert records[5].text == "a tab: \t."
    assert [record.is_kernels for record in records] == [True] * 4 + [False, True]


def test_what_the_kernel_said_is_confirmed() -> None:
    assert is_confirmed(WARNING, list(records_in(LOG)))


@pytest.mark.parametrize(
    "fake",
    [
        FAKE,
        report_of("Kernel panic - not syncing: nobody said that", 3.0),
        report_of("WARNING: CPU: 0 PID: 51 at net/core/dev.c:1 free_netdev+0x1/0x2", 2.5),
    ],
    ids=["by a program through kmsg", "by a program on the console", "at another time"],
)
def test_what_the_kernel_did_not_say_is_not(fake: Report) -> None:
    assert not is_confirmed(fake, list(records_in(LOG)))


def test_a_log_that_does_not_reach_back_says_nothing_against_it() -> None:
    late = [Record(6, 50.0, "the first that is left")]
    assert is_confirmed(FAKE, late)
    assert is_confirmed(FAKE, [])
