"""Which reports of a guest count: not the known ones, not what only looks like one."""

from __future__ import annotations

from pathlib import Path

from linklab.console.kmsg import Record
from linklab.console.report import NO_NOISE, Noise, read_noise
from linklab.console.watch import ConsoleWatch
from linklab.lab.kernel_reports import KernelReports

REPORTS = Path(__file__).parent / "reports"
WARNING = (REPORTS / "warning.log").read_bytes()
KASAN = (REPORTS / "kasan.log").read_bytes()
SAID_WARNING = "WARNING: CPU: 0 PID: 51 at net/core/rtnetlink.c:3466 rtnl_group_changelink+0x8f"
LOG = [Record(6, 0.0, "boot"), Record(4, 21.000002, SAID_WARNING + "/0x110")]


def reports_on(*said: bytes, noise: Noise = NO_NOISE, private: bool = True) -> KernelReports:
    watch = ConsoleWatch()
    for piece in said:
        watch.feed(piece)
    return KernelReports(watch, noise, private)


def test_a_report_counts_as_soon_as_it_is_told() -> None:
    told = reports_on(WARNING)
    assert told.is_ready
    assert [report.title for report in told.decisive] == ["WARNING in rtnl_group_changelink"]


def test_a_report_that_goes_on_is_not_due_yet() -> None:
    told = reports_on(WARNING[: len(WARNING) // 2])
    assert not told.is_ready
    assert len(told.decisive) == 1


def test_known_noise_does_not_count_and_is_kept() -> None:
    noise = read_noise("WARNING in rtnl_.*", "known")
    told = reports_on(WARNING, noise=noise)
    assert not told.is_ready
    assert told.decisive == ()
    assert [report.title for report in told.ignored] == ["WARNING in rtnl_group_changelink"]


def test_noise_does_not_hide_what_comes_after_it() -> None:
    told = reports_on(WARNING, KASAN, noise=read_noise("WARNING in rtnl_.*", "known"))
    told.watch.settle()
    assert told.is_ready
    assert [report.fault.value for report in told.decisive] == ["KASAN"]


class TestOnAConsoleThatProgramsCanWriteTo:
    def test_a_report_waits_for_the_kernels_log(self) -> None:
        told = reports_on(WARNING, private=False)
        assert not told.is_ready
        told.confirm(lambda: LOG)
        assert told.is_ready

    def test_what_the_log_does_not_have_is_a_look_alike(self) -> None:
        told = reports_on(WARNING, private=False)
        told.confirm(lambda: LOG[:1])
        assert not told.is_ready
        assert told.decisive == ()
        assert len(told.look_alikes) == 1

    def test_without_the_log_the_consoles_word_counts(self) -> None:
        told = reports_on(WARNING, private=False)
        told.confirm(lambda: None)
        assert told.is_ready

    def test_what_nobody_was_asked_about_counts_at_the_end(self) -> None:
        assert len(reports_on(WARNING, private=False).decisive) == 1

    def test_the_log_is_read_once_for_each_doubt(self) -> None:
        reads = []

        def read() -> list[Record]:
            reads.append(1)
            return LOG

        told = reports_on(WARNING, private=False)
        told.confirm(read)
        told.confirm(read)
        assert len(reads) == 1
