"""A session with a QEMU that ends, well or not: who is at fault, and that nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import wait_until_gone
from stage import Stage, ask

from linklab.errors import (
    GuestHung,
    Interrupted,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
    ProtocolError,
    RequestRefused,
    Verdict,
    WrongState,
)
from linklab.host.run import CommandMissing

pytestmark = pytest.mark.process


class TestAGoodRun:
    def test_boots_answers_and_ends(self, stage: Stage) -> None:
        boot = [["console", "[    0.000000] Linux version 6.12\r\n"], ["hello", 5]]
        with stage.session(boot=boot) as opened:
            assert opened.hello.release == "6.12.0"
            assert opened.boot_seconds > 0
            assert ask(opened) == b"content of /etc/x"
            pid = opened.machine.pid
        assert stage.log.read_bytes() == b"[    0.000000] Linux version 6.12\r\n"
        assert not Path(f"/proc/{pid}").exists()

    def test_leaves_no_file_open(self, stage: Stage) -> None:
        def open_files() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        with stage.session():
            pass
        before = open_files()
        with stage.session():
            pass
        with pytest.raises(LinklabError), stage.session(boot=[["exit", 1]]):
            pass
        assert open_files() == before

    def test_logs_the_console_to_its_last_byte(self, stage: Stage) -> None:
        last = "[    9.000000] reboot: Restarting system\r\nno newline"
        with stage.session(ended=[["console", last], ["exit", 0]]):
            pass
        assert stage.log.read_bytes() == last.encode()

    def test_can_be_had_many_times_at_once(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        one, two = Stage(tmp_path / "one"), Stage(tmp_path / "two")
        with one.session() as first, two.session() as second:
            assert ask(first) == ask(second) == b"content of /etc/x"

    def test_is_out_of_reach_of_ctrl_c(self, stage: Stage) -> None:
        with stage.session() as opened:
            assert os.getsid(opened.machine.pid) != os.getsid(0)


class TestQemuEndsByItself:
    @pytest.mark.parametrize("when", ["boot", "request", "end"])
    def test_with_an_error(self, stage: Stage, when: str) -> None:
        words = "qemu-system-x86_64: could not load kernel '/bzImage'"
        verdict = stage.verdict_at(when, [["stderr", words], ["exit", 1]])
        assert type(verdict) is MachineLost
        assert "ended with status 1" in verdict.message
        assert words in verdict.message
        assert "the console is empty" in verdict.evidence

    @pytest.mark.parametrize("when", ["boot", "request", "end"])
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
    def test_by_a_signal(self, stage: Stage, when: str, number: int) -> None:
        verdict = stage.verdict_at(when, [["kill", number]])
        assert type(verdict) is MachineLost
        assert f"killed by signal {int(number)}" in verdict.message

    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    def test_because_somebody_told_it_to(self, stage: Stage, when: str) -> None:
        # QEMU takes SIGTERM for a wish, says so, and ends with status 0.
        words = "qemu-system-x86_64: terminating on signal 15 from pid 4711 (kill)"
        verdict = stage.verdict_at(when, [["stderr", words], ["exit", 0]])
        assert type(verdict) is MachineLost
        assert words in verdict.message

    def test_after_the_last_word_with_an_error(self, stage: Stage) -> None:
        verdict = stage.verdict(ended=[["exit", 2]])
        assert type(verdict) is MachineLost
        assert "ended with status 2" in verdict.message

    @pytest.mark.parametrize(("end", "kind"), [(1, MachineLost), (0, KernelCrashed)])
    def test_in_the_middle_of_a_frame(
        self, stage: Stage, end: int, kind: type[LinklabError]
    ) -> None:
        verdict = stage.verdict(request=[["reply", "half"]], half=[["exit", end]])
        assert type(verdict) is kind

    def test_before_it_began(self, stage: Stage) -> None:
        stage.qemu.unlink()
        with pytest.raises(CommandMissing), stage.session():
            raise AssertionError("it booted")
        assert not stage.log.exists()


class TestTheLabEndsIt:
    """Whatever the reason: its own stays, and QEMU goes."""

    @pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
    def test_by_an_exception(self, stage: Stage, reason: type[BaseException]) -> None:
        pid = 0
        with (
            pytest.raises(reason),
            stage.session() as opened,
        ):
            pid = opened.machine.pid
            raise reason
        assert not Path(f"/proc/{pid}").exists()

    def test_by_a_state_that_is_wrong(self, stage: Stage) -> None:
        wrong = WrongState("t7 has mtu 1500 instead of 1400", "all of them")
        with (
            pytest.raises(WrongState) as caught,
            stage.session(boot=[["console", "[    1.0] hm\r\n"], ["hello", 1]]),
        ):
            raise wrong
        assert caught.value is wrong
        assert caught.value.__cause__ is None
        assert "all of them" in wrong.evidence
        assert "hm" in wrong.evidence and str(stage.log) in wrong.evidence

    @pytest.mark.parametrize("end", [0, 1])
    def test_by_a_state_that_is_wrong_whatever_becomes_of_the_machine(
        self, stage: Stage, end: int
    ) -> None:
        verdict = stage.verdict(request=[["reply", "refused"]], replied=[["exit", end]])
        assert type(verdict) is RequestRefused

    def test_by_its_user_while_qemu_goes_down_with_it(self, stage: Stage) -> None:
        with (
            pytest.raises(Interrupted),
            stage.session() as opened,
        ):
            os.kill(opened.machine.pid, signal.SIGKILL)
            raise Interrupted("interrupted")

    @pytest.mark.parametrize("deed", ["os.kill(os.getpid(), 9)", "os._exit(3)", "os.abort()"])
    def test_by_its_own_death(self, stage: Stage, deed: str) -> None:
        spec = stage.spec()
        program = (
            "import os, resource\n"
            "from pathlib import *\n"
            "from linklab.host.accel import Accel\n"
            "from linklab.machine.spec import *\n"
            "from linklab.lab.session import open_session\n"
            "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
            f"boot = DirectBoot(Path('k'), Path('i'), {spec.boot.command_line!r})\n"  # type: ignore[union-attr]
            f"with open_session({str(stage.qemu)!r}, MachineSpec(boot, Accel.TCG),\n"
            f"                  Path({str(stage.log)!r}), 30) as session:\n"
            "    print(session.machine.pid, flush=True)\n"
            f"    {deed}\n"
        )
        lab = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert lab.returncode not in {0, 1}, lab.stderr.decode()
        wait_until_gone(int(lab.stdout))


def test_every_verdict_names_who_is_at_fault() -> None:
    assert {kind.verdict for kind in (GuestHung, KernelCrashed, WrongState, RequestRefused)} == {
        Verdict.HANG,
        Verdict.CRASH,
        Verdict.FAIL,
    }
    assert {kind.verdict for kind in (MachineLost, ProtocolError, LabError)} == {Verdict.ERROR}
