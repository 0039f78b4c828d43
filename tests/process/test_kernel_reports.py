"""What a session makes of the kernel's reports: on file, known, doubted, or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage import PANIC, SHORT, WARNING, Stage, ask

from linklab.console.formats import Fault
from linklab.console.report import read_noise
from linklab.errors import GuestHung, KernelCrashed, KernelFault, LinklabError, printable

pytestmark = pytest.mark.process

W = 1 << 9  # the taint of a warning
HUNG = "[   50.000000] INFO: task ip:51 blocked for more than 20 seconds.\r\n"
BLOCKED = (
    "[   50.100000] sysrq: Show Blocked State\r\n"
    "[   50.100001] task:ip              state:D stack:0     pid:51    tgid:51\r\n"
    "[   50.100002] Call Trace:\r\n"
    "[   50.100003]  <TASK>\r\n"
    "[   50.100004]  __schedule+0x3f5/0xa30\r\n"
    "[   50.100005]  dev_ioctl+0x2b/0x60\r\n"
    "[   50.100006]  </TASK>\r\n"
)
BANNER = "[    0.000000] Linux version 6.12.117 (linklab@linklab) #1 SMP\r\n"


def fault_of(error: LinklabError) -> KernelFault:
    assert isinstance(error, KernelFault)
    return error


class TestAReportOnFile:
    def test_is_whole_and_lies_beside_the_consoles_log(self, stage: Stage) -> None:
        fault = fault_of(stage.verdict(request=[["console", WARNING], ["hang"]]))
        (finding,) = fault.filed
        assert finding.path == stage.log.with_name("report-1.txt")
        text = finding.path.read_text()
        assert text.startswith("title:       WARNING in free_netdev\n")
        assert f"fingerprint: {finding.report.fingerprint}\n" in text
        assert WARNING.replace("\r\n", "\n") in text
        assert str(finding.path) in fault.evidence

    def test_does_nothing_to_a_terminal(self, stage: Stage) -> None:
        """What a guest says can reach a person's terminal: the title of his window, say."""
        evil = WARNING.replace("free_netdev+", "free\x1b]0;evil\x07\x9b2J\u009bnetdev+")
        before = [["console", "\x1b[2J\r\n"], ["stderr", "qemu: \x1b[31mred"]]
        play = [*before, ["console", evil], ["hang"]]
        fault = fault_of(stage.verdict(request=play))
        (finding,) = fault.filed
        for text in (fault.message, fault.evidence, finding.path.read_text(), finding.text):
            assert printable(text) == text
        assert "free\ufffd2J" in fault.evidence and "evil" not in fault.evidence
        assert r"qemu: \x1b[31mred" in fault.evidence
        assert "\x1b]0;evil\x07" in stage.log.read_text(errors="replace"), "that is the console's"

    def test_of_each_fault_is_one(self, stage: Stage) -> None:
        later = PANIC.replace("[    2.", "[    9.")
        fault = fault_of(stage.verdict(request=[["console", WARNING + later], ["exit", 0]]))
        assert [finding.report.fault for finding in fault.filed] == [
            Fault.WARNING,
            Fault.PAGE_FAULT,
        ]
        assert "WARNING in free_netdev" in fault.message
        assert "also: BUG: unable to handle kernel NULL pointer" in fault.evidence

    def test_a_kernel_that_begins_anew_crashed(self, stage: Stage) -> None:
        anew = [["console", "[    5.000000] fine\r\n" + BANNER], ["hang"]]
        fault = fault_of(stage.verdict(request=anew))
        assert type(fault) is KernelCrashed
        assert "unexpected kernel reboot" in fault.message


class TestKnownNoise:
    NOISE = read_noise("WARNING in free_.*", "known")

    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    def test_does_not_end_a_session_and_is_kept(self, stage: Stage, when: str) -> None:
        after: dict[str, list[list[Any]]] = {"boot": [["hello", 1]], "ended": [["exit", 0]]}
        play = {when: [["console", WARNING], *after.get(when, [])]}
        with stage.session(noise=self.NOISE, **play) as opened:  # type: ignore[arg-type]
            assert ask(opened)
        (known,) = opened.ignored
        assert known.path == stage.log.with_name("known-1.txt")
        assert "WARNING in free_netdev" in known.path.read_text()

    def test_does_not_hide_another_report(self, stage: Stage) -> None:
        later = PANIC.replace("[    2.", "[    9.")
        with (
            pytest.raises(KernelCrashed, match="NULL pointer") as caught,
            stage.session(noise=self.NOISE, request=[["console", WARNING + later]]) as opened,
        ):
            ask(opened)
        assert len(caught.value.filed) == 1
        assert len(opened.ignored) == 1

    def test_explains_a_taint(self, stage: Stage) -> None:
        play: dict[str, Any] = {"request": [["console", WARNING]], "taint": [[0], [W]]}
        with stage.session(noise=self.NOISE, **play) as opened:
            ask(opened)
        assert len(opened.ignored) == 1


class TestAConsoleThatProgramsCanWriteTo:
    SAID = "4,1,2100000,-;------------[ cut here ]------------\n4,2,2100001,-;{}\n"
    TEXT = "WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009 free_netdev+0x1a3/0x1f0"

    def test_what_the_kernels_log_has_is_a_crash(self, stage: Stage) -> None:
        play: dict[str, Any] = {
            "request": [["console", WARNING]],
            "log": [["6,0,0,-;boot\n" + self.SAID.format(self.TEXT)]],
        }
        with (
            pytest.raises(KernelCrashed, match="free_netdev"),
            stage.session(private=False, **play) as opened,
        ):
            ask(opened)

    def test_what_it_does_not_have_is_none(self, stage: Stage) -> None:
        play: dict[str, Any] = {"request": [["console", WARNING]], "log": [["6,0,0,-;boot\n"]]}
        with stage.session(private=False, **play) as opened:
            assert ask(opened)
        assert [report.fault for report in opened.reports.look_alikes] == [Fault.WARNING]

    def test_what_nobody_can_be_asked_about_counts(self, stage: Stage) -> None:
        with (
            pytest.raises(KernelCrashed, match="NULL pointer"),
            stage.session(private=False, request=[["console", PANIC], ["exit", 0]]) as opened,
        ):
            ask(opened)


class TestTaint:
    def test_that_is_new_is_a_crash(self, stage: Stage) -> None:
        fault = fault_of(stage.verdict(taint=[[0], [W]]))
        assert type(fault) is KernelCrashed
        assert "did not say why on its console: W (warning)" in fault.message
        assert fault.filed[0].report.fault is Fault.TAINT

    def test_that_was_there_before_is_none(self, stage: Stage) -> None:
        with stage.session(taint=[[W], [W]]) as opened:
            assert ask(opened)


class TestAHang:
    def test_says_where_the_kernel_is(self, stage: Stage) -> None:
        with (
            pytest.raises(GuestHung, match="the kernel is in dev_ioctl") as caught,
            stage.session(request=[["hang"]], **{"break": [["console", BLOCKED]]}) as opened,  # type: ignore[arg-type]
        ):
            ask(opened, SHORT)
        (finding,) = caught.value.filed
        assert (finding.report.fault, finding.report.title) == (
            Fault.SILENCE,
            "no answer to `read-file` in dev_ioctl",
        )
        assert "0xffffffff813dfaeb" in caught.value.evidence

    def test_that_the_kernel_reports_without_a_stack_gets_one(self, stage: Stage) -> None:
        play: dict[str, Any] = {
            "request": [["console", HUNG], ["hang"]],
            "break": [["console", BLOCKED]],
        }
        fault = fault_of(stage.verdict(**play))
        assert fault.message.endswith("INFO: task hung in dev_ioctl")
        assert fault.filed[0].report.fault is Fault.HUNG_TASK
        assert "state:D" in fault.filed[0].path.read_text()


def test_a_report_that_cannot_be_written_is_the_labs_fault(stage: Stage) -> None:
    stage.log.with_name("report-1.txt").mkdir()
    error = stage.error(request=[["console", WARNING], ["hang"]])
    assert not isinstance(error, KernelFault)
    assert str(Path("report-1.txt")) in error.message
