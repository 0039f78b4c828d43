"""A session over lines that are flooded, torn and closed, and with agents that are not right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fake_qemu
import pytest
from stage import PANIC, Stage, ask

from linklab.errors import (
    KernelCrashed,
    LabError,
    MachineLost,
    ProtocolError,
    RequestRefused,
)
from linklab.lab.session import open_session

pytestmark = pytest.mark.process


class TestTheConsoleIsFlooded:
    LINES = 30_000

    def check(self, log: Path, lines: int) -> None:
        expected = fake_qemu.flood_text(0, lines)
        assert log.stat().st_size == len(expected)
        assert log.read_bytes() == expected

    def test_while_the_agent_works(self, stage: Stage) -> None:
        with stage.session(request=[["flood", 0, self.LINES]]) as opened:
            assert ask(opened) == b"content of /etc/x"
        self.check(stage.log, self.LINES)

    def test_while_the_agent_answers(self, stage: Stage) -> None:
        boot = [["hello", 1], ["flood beside", 0, self.LINES]]
        with stage.session(boot=boot, ended=[["sleep", 0.3], ["exit", 0]]) as opened:
            for _ in range(100):
                assert ask(opened) == b"content of /etc/x"
            until = time.monotonic() + 20
            while stage.log.stat().st_size < len(fake_qemu.flood_text(0, self.LINES)):
                assert time.monotonic() < until
                ask(opened)
        self.check(stage.log, self.LINES)

    def test_while_it_boots(self, stage: Stage) -> None:
        with stage.session(boot=[["flood", 0, self.LINES], ["hello", 1]]) as opened:
            assert ask(opened)
        self.check(stage.log, self.LINES)

    def test_behind_the_last_word(self, stage: Stage) -> None:
        with stage.session(ended=[["flood", 0, self.LINES], ["exit", 0]]) as opened:
            assert ask(opened)
        self.check(stage.log, self.LINES)

    def test_and_a_crash_in_it_is_found(self, stage: Stage) -> None:
        flood = ["flood", 0, self.LINES]
        verdict = stage.verdict(request=[flood, ["console", PANIC], flood, ["exit", 0]])
        assert type(verdict) is KernelCrashed
        assert "NULL pointer" in verdict.message

    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    @pytest.mark.parametrize("then", [["exit", 0], ["hang"]])
    def test_onto_a_full_disk(self, stage: Stage, when: str, then: list[Any]) -> None:
        spec = stage.spec(**{when: [["flood", 0, 10], then]})
        with (
            pytest.raises(LabError, match=r"/dev/full cannot be written: No space left"),
            open_session(stage.qemu, spec, Path("/dev/full"), 30) as opened,
        ):
            ask(opened)

    def test_and_a_log_that_cannot_be_made_is_the_labs_fault(self, stage: Stage) -> None:
        nowhere = stage.log.parent / "no-folder" / "console.log"
        with (
            pytest.raises(LabError, match="cannot be written"),
            open_session(stage.qemu, stage.spec(), nowhere, 30),
        ):
            raise AssertionError("it booted")


class TestTheAgentsLine:
    @pytest.mark.parametrize("how", ["torn", "lost"])
    def test_that_damages_a_reply_costs_time_alone(self, stage: Stage, how: str) -> None:
        with stage.session(request=[["reply", how]]) as opened:
            assert ask(opened) == b"content of /etc/x"

    def test_with_noise_on_it(self, stage: Stage) -> None:
        noise = [["agent", "[    1.000000] noise\r\n@LL1 r 0000\n[    1.0] more @LL1 "]]
        with stage.session(boot=[*noise, ["hello", 1]], request=noise) as opened:
            assert ask(opened) == b"content of /etc/x"

    @pytest.mark.usefixtures("impatient")
    def test_that_closes_alone(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["close", "agent_port"], ["hang"]])
        assert type(verdict) is MachineLost
        assert "still runs" in verdict.message

    @pytest.mark.usefixtures("impatient")
    def test_beside_a_console_that_closes_alone(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["close", "console"], ["hang"]])
        assert type(verdict) is MachineLost


class TestTheAgent:
    def test_of_another_version(self, stage: Stage) -> None:
        verdict = stage.verdict(boot=[["hello", 1, 2]])
        assert type(verdict) is ProtocolError
        assert "protocol 2" in verdict.message

    def test_that_is_another_one_all_at_once(self, stage: Stage) -> None:
        verdict = stage.verdict(request=[["hello", 78], ["hang"]])
        assert type(verdict) is KernelCrashed

    def test_that_died_under_a_kernel_that_lives(self, stage: Stage) -> None:
        words = "linklab-init: the agent ended: wait status 0xb\r\n"
        verdict = stage.verdict(request=[["console", words], ["exit", 0]])
        assert type(verdict) is LabError
        assert "the agent in the guest died" in verdict.message

    def test_that_is_refused(self, stage: Stage) -> None:
        fine = [["console", "[    1.000000] all is well\r\n"], ["reply", "refused"]]
        verdict = stage.verdict(request=fine)
        assert type(verdict) is RequestRefused
        assert "No such device" in verdict.message
        assert "all is well" in verdict.evidence
