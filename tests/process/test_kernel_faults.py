"""A session with a kernel that crashes, complains or stands still."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from stage import DEVICE_LEAK, PANIC, SHORT, SOFT_LOCKUP, WARNING, Stage, ask

from linklab.agent.client import AgentNotStarted
from linklab.errors import (
    GuestHung,
    KernelCrashed,
    LabError,
    Leaked,
    LinklabError,
    MachineLost,
    ModuleRefused,
    Verdict,
)
from linklab.lab import attribution

pytestmark = pytest.mark.process


class TestTheKernelEnds:
    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    def test_with_a_panic(self, stage: Stage, when: str) -> None:
        verdict = stage.verdict_at(when, [["console", PANIC], ["exit", 0]])
        assert type(verdict) is KernelCrashed
        assert "kernel NULL pointer dereference in rtnl_setlink" in verdict.message
        assert "RIP: 0010:rtnl_setlink" in verdict.evidence
        assert stage.log.read_text() == PANIC.replace("\r\n", "\n")
        assert verdict.verdict is Verdict.CRASH

    def test_with_a_panic_that_takes_its_time(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attribution, "SETTLE_QUIET", 5.0)
        monkeypatch.setattr(attribution, "SETTLE_LIMIT", 20.0)
        first, rest = PANIC[:120], PANIC[120:]
        slowly = [
            ["console", first],
            ["sleep", 0.2],
            ["console", rest],
            ["sleep", 0.1],
            ["exit", 0],
        ]
        verdict = stage.verdict(request=slowly)
        assert type(verdict) is KernelCrashed
        assert "Kernel panic - not syncing" in verdict.evidence

    def test_with_a_panic_whose_last_line_has_no_end(self, stage: Stage) -> None:
        line = "[    2.100003] Kernel panic - not syncing: Fatal exception"
        verdict = stage.verdict(request=[["console", line], ["exit", 0]])
        assert type(verdict) is KernelCrashed
        assert "Fatal exception" in verdict.message

    @pytest.mark.parametrize(
        ("file", "kind", "says"),
        [
            ("external/hello.ko", ModuleRefused, "the module hello did not load: Exec format"),
            ("dummy.ko", LabError, "dummy, a module of the kernel's own, did not load"),
        ],
    )
    def test_because_a_module_does_not_load(
        self, stage: Stage, file: str, kind: type[LinklabError], says: str
    ) -> None:
        why = "[    0.9] hello: version magic '6.1' should be '6.12'\r\n"
        line = f"linklab-init: module {file} did not load: Exec format error\r\n"
        # Nobody waits for an agent that will not come.
        verdict = stage.verdict(600, boot=[["console", why + line], ["hang"]])
        assert type(verdict) is kind
        assert says in verdict.message
        assert "version magic '6.1' should be" in verdict.evidence

    @pytest.mark.parametrize("when", ["boot", "request", "end"])
    def test_without_a_word(self, stage: Stage, when: str) -> None:
        verdict = stage.verdict_at(when, [["console", "[    1.0] fine\r\n"], ["exit", 0]])
        assert type(verdict) is KernelCrashed
        assert "without a word" in verdict.message
        assert "fine" in verdict.evidence

    def test_and_qemu_fails_over_it(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["console", PANIC], ["stderr", "ouch"], ["exit", 1]])
        assert type(verdict) is KernelCrashed
        assert "ouch" in verdict.evidence


class TestTheKernelComplains:
    @pytest.mark.parametrize("when", ["request", "end"])
    def test_and_goes_on(self, stage: Stage, when: str) -> None:
        verdict = stage.verdict_at(when, [["console", WARNING]])
        assert type(verdict) is KernelCrashed
        assert "WARNING in free_netdev" in verdict.message
        assert "end trace" in verdict.evidence

    def test_while_it_boots(self, stage: Stage) -> None:
        verdict = stage.verdict(boot=[["console", WARNING], ["sleep", 0.2], ["hello", 1]])
        assert type(verdict) is KernelCrashed

    def test_with_its_very_last_words(self, stage: Stage) -> None:
        verdict = stage.verdict(ended=[["console", WARNING], ["exit", 0]])
        assert type(verdict) is KernelCrashed

    def test_and_refuses_what_it_was_asked(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["console", WARNING], ["reply", "refused"]])
        assert type(verdict) is KernelCrashed

    def test_that_it_stands_still(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["console", SOFT_LOCKUP], ["hang"]])
        assert type(verdict) is GuestHung
        assert "BUG: soft lockup" in verdict.message
        assert "stuck for 26s" in verdict.evidence

    def test_that_it_waits_for_a_device_that_somebody_holds(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["console", DEVICE_LEAK], ["hang"]])
        assert type(verdict) is Leaked
        assert verdict.verdict is Verdict.FAIL
        assert "unregister_netdevice: waiting for" in verdict.message
        assert "ll10000" in verdict.evidence

    def test_torn_between_two_reads(self, stage: Stage) -> None:
        pieces: list[list[Any]] = []
        for start in range(0, len(WARNING), 9):
            pieces += [["console", WARNING[start : start + 9]], ["sleep", 0.005]]
        verdict = stage.verdict(request=[*pieces, ["hang"]])
        assert type(verdict) is KernelCrashed

    def test_but_a_program_that_quotes_it_does_not(self, stage: Stage) -> None:
        quoted = "# dmesg | grep BUG: [    2.1] BUG: none\r\nWARNING: of a program\r\n"
        with stage.session(request=[["console", quoted]]) as opened:
            assert ask(opened)


class TestTheGuestIsSilent:
    def test_from_the_start(self, stage: Stage) -> None:
        began = time.monotonic()
        verdict = stage.verdict(SHORT, boot=[["hang"]])
        assert time.monotonic() - began < SHORT + 15
        assert type(verdict) is AgentNotStarted
        assert "did not start its agent" in verdict.message
        assert "still talks" not in verdict.message

    def test_from_the_firmware_on(self, stage: Stage) -> None:
        verdict = stage.verdict(SHORT, boot=[["console", "SeaBIOS (version 1)\r\n"], ["hang"]])
        assert type(verdict) is AgentNotStarted
        assert "SeaBIOS" in verdict.evidence

    def test_but_its_console_still_talks(self, stage: Stage) -> None:
        """A kernel that prints much over a serial line is slow, and need not be stuck."""
        chatter: list[list[Any]] = []
        for number in range(100):
            line = f"[{number / 10:12.6f}] dummy: {number}\r\n"
            chatter += [["console", line], ["sleep", 0.1]]
        verdict = stage.verdict(4 * SHORT, boot=[*chatter, ["hang"]])
        assert type(verdict) is AgentNotStarted
        assert "its console still talks" in verdict.message
        assert "--boot-timeout" in verdict.message

    def test_in_the_middle_of_the_work(self, stage: Stage) -> None:
        with (
            pytest.raises(GuestHung, match="no answer to `read-file`") as caught,
            stage.session(request=[["hang"]]) as opened,
        ):
            ask(opened, SHORT)
        assert str(stage.log) in caught.value.evidence

    def test_while_its_console_is_not(self, stage: Stage) -> None:
        with (
            pytest.raises(GuestHung),
            stage.session(request=[["flood beside", 0, 10**7], ["hang"]]) as opened,
        ):
            ask(opened, SHORT)

    def test_while_its_agents_line_is_not(self, stage: Stage) -> None:
        babble = [["agent", "[    1.000000] noise\r\n" * 100], ["sleep", 0.005]] * 1000
        with (
            pytest.raises(GuestHung),
            stage.session(request=babble) as opened,
        ):
            ask(opened, SHORT)

    def test_and_takes_no_bytes_either(self, stage: Stage) -> None:
        with (
            pytest.raises(GuestHung, match="write-file"),
            stage.session(ready=[["hang"]]) as opened,
        ):
            until = time.monotonic() + SHORT
            opened.agent.write_file("/etc/x", bytes(10_000_000), until)

    @pytest.mark.usefixtures("impatient")
    def test_when_it_should_end(self, stage: Stage) -> None:
        verdict = stage.verdict(end=[["hang"]])
        assert type(verdict) is GuestHung
        assert "power-off" in verdict.message

    @pytest.mark.usefixtures("impatient")
    def test_behind_its_last_word(self, stage: Stage) -> None:
        verdict = stage.verdict(ended=[["hang"]])
        assert type(verdict) is GuestHung
        assert "did not end" in verdict.message

    def test_because_qemu_is_stopped(self, stage: Stage) -> None:
        with (
            pytest.raises(MachineLost, match="is stopped"),
            stage.session(request=[["kill", signal.SIGSTOP]]) as opened,
        ):
            ask(opened, SHORT)

    def test_and_qemu_knows_why(self, stage: Stage) -> None:
        words = "KVM internal error. Suberror: 1"
        with (
            pytest.raises(GuestHung) as caught,
            stage.session(request=[["stderr", words], ["hang"]]) as opened,
        ):
            ask(opened, SHORT)
        assert words in caught.value.evidence
