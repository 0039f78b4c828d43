"""A session with a QEMU that does what QEMUs do: the right verdict, in time, with evidence."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fake_qemu
import pytest

from linklab import session as session_module
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
from linklab.host.accel import Accel
from linklab.host.run import CommandMissing
from linklab.machine.spec import DirectBoot, MachineSpec
from linklab.session import Session, Snapshot, open_session, save_session

pytestmark = pytest.mark.process

PANIC = (
    "[    2.100000] BUG: kernel NULL pointer dereference, address: 0000000000000010\r\n"
    "[    2.100001] Oops: Oops: 0000 [#1] SMP\r\n"
    "[    2.100002] RIP: 0010:rtnl_setlink+0x12/0x1230\r\n"
    "[    2.100003] Kernel panic - not syncing: Fatal exception\r\n"
)
WARNING = (
    "[    2.100000] ------------[ cut here ]------------\r\n"
    "[    2.100001] WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009 free_netdev+0x1a3\r\n"
    "[    2.100002] ---[ end trace 0000000000000000 ]---\r\n"
)
SOFT_LOCKUP = "[   30.100000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:51]\r\n"

REQUEST_LIMIT = 20.0
SHORT = 0.5


class Stage:
    """What a test has on stage: a fake QEMU, and the log of its console."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "console.log"
        self._play = folder / "play.json"
        self.qemu = folder / "qemu-system-x86_64"
        program = shlex.quote(fake_qemu.__file__)
        self.qemu.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -SE {program} "$@"\n')
        self.qemu.chmod(0o755)

    def spec(self, **play: list[list[Any]]) -> MachineSpec:
        self._play.write_text(json.dumps(play))
        words = ("console=ttyS0", f"play={self._play}")
        return MachineSpec(DirectBoot(Path("/bzImage"), Path("/initramfs"), words), Accel.TCG)

    @contextmanager
    def session(self, boot_limit: float = 30, **play: list[list[Any]]) -> Iterator[Session]:
        with open_session(self.qemu, self.spec(**play), self.log, boot_limit) as opened:
            yield opened

    def verdict(self, boot_limit: float = 30, **play: list[list[Any]]) -> LinklabError:
        """Boot, ask for a file, and power off; return how that goes wrong."""
        with (
            pytest.raises(LinklabError) as caught,
            self.session(boot_limit, **play) as opened,
        ):
            ask(opened)
        assert str(self.log) in caught.value.evidence, "where the log is must be said"
        return caught.value


def ask(session: Session, seconds: float = REQUEST_LIMIT) -> bytes:
    return session.agent.read_file("/etc/x", time.monotonic() + seconds)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture(autouse=True)
def short_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console of a test has said all that it will say after a shorter silence."""
    monkeypatch.setattr(session_module, "_SETTLE_QUIET", 0.1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience with an end that never comes. Not for those that wait for one."""
    monkeypatch.setattr(session_module, "_SETTLE_LIMIT", 0.5)
    monkeypatch.setattr(session_module, "_POWER_OFF_LIMIT", 0.5)


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
        verdict = stage.verdict(**{when: [["stderr", words], ["exit", 1]]})
        assert type(verdict) is MachineLost
        assert "ended with status 1" in verdict.message
        assert words in verdict.message
        assert "the console is empty" in verdict.evidence

    @pytest.mark.parametrize("when", ["boot", "request", "end"])
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
    def test_by_a_signal(self, stage: Stage, when: str, number: int) -> None:
        verdict = stage.verdict(**{when: [["kill", number]]})
        assert type(verdict) is MachineLost
        assert f"killed by signal {int(number)}" in verdict.message

    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    def test_because_somebody_told_it_to(self, stage: Stage, when: str) -> None:
        # QEMU takes SIGTERM for a wish, says so, and ends with status 0.
        words = "qemu-system-x86_64: terminating on signal 15 from pid 4711 (kill)"
        verdict = stage.verdict(**{when: [["stderr", words], ["exit", 0]]})
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


class TestTheKernelEnds:
    @pytest.mark.parametrize("when", ["boot", "request", "end", "ended"])
    def test_with_a_panic(self, stage: Stage, when: str) -> None:
        verdict = stage.verdict(**{when: [["console", PANIC], ["exit", 0]]})
        assert type(verdict) is KernelCrashed
        assert "BUG: kernel NULL pointer dereference" in verdict.message
        assert "RIP: 0010:rtnl_setlink" in verdict.evidence
        assert stage.log.read_text() == PANIC.replace("\r\n", "\n")
        assert verdict.verdict is Verdict.CRASH

    def test_with_a_panic_that_takes_its_time(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session_module, "_SETTLE_QUIET", 5.0)
        monkeypatch.setattr(session_module, "_SETTLE_LIMIT", 20.0)
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

    @pytest.mark.parametrize("when", ["boot", "request", "end"])
    def test_without_a_word(self, stage: Stage, when: str) -> None:
        verdict = stage.verdict(**{when: [["console", "[    1.0] fine\r\n"], ["exit", 0]]})
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
        verdict = stage.verdict(**{when: [["console", WARNING]]})
        assert type(verdict) is KernelCrashed
        assert "WARNING: CPU: 0 PID: 51 at net/core/dev.c" in verdict.message
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
        assert "stuck for 26s" in verdict.message

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
        assert type(verdict) is GuestHung
        assert "did not start its agent" in verdict.message

    def test_from_the_firmware_on(self, stage: Stage) -> None:
        verdict = stage.verdict(SHORT, boot=[["console", "SeaBIOS (version 1)\r\n"], ["hang"]])
        assert type(verdict) is GuestHung
        assert "SeaBIOS" in verdict.evidence

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
            stage.session(boot=[["hello", 1], ["hang"]]) as opened,
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


class TestAGuestThatIsSaved:
    def saved(self, stage: Stage, **play: list[list[Any]]) -> Snapshot:
        folder = stage.log.parent / "a saved guest"
        folder.mkdir(exist_ok=True)
        return save_session(stage.qemu, stage.spec(**play), folder, 30)

    @contextmanager
    def resumed(
        self, stage: Stage, saved: Snapshot, limit: float = 30, **play: list[list[Any]]
    ) -> Iterator[Session]:
        with open_session(stage.qemu, stage.spec(**play), stage.log, limit, saved) as opened:
            yield opened

    def verdict(self, stage: Stage, limit: float = 30, **play: list[list[Any]]) -> LinklabError:
        saved = self.saved(stage)
        with (
            pytest.raises(LinklabError) as caught,
            self.resumed(stage, saved, limit, **play) as opened,
        ):
            ask(opened)
        assert str(stage.log) in caught.value.evidence
        return caught.value

    def test_goes_on_where_it_was(self, stage: Stage) -> None:
        saved = self.saved(stage)
        assert saved.hello.release == "6.12.0"
        assert saved.state.exists()
        for _ in range(2):
            with self.resumed(stage, saved) as opened:
                assert opened.hello == saved.hello
                assert opened.boot_seconds > 0
                assert ask(opened) == b"content of /etc/x"

    def test_though_its_greeting_came_torn(self, stage: Stage) -> None:
        torn = [["agent", "@LL1 h 0000\n"]]
        with self.resumed(stage, self.saved(stage, boot=torn)) as opened:
            assert ask(opened) == b"content of /etc/x"

    def test_is_not_taken_for_another(self, stage: Stage) -> None:
        saved = self.saved(stage, boot=[["hello", 5]])
        with (
            pytest.raises(LabError, match="not the one that was saved"),
            self.resumed(stage, saved),
        ):
            raise AssertionError("another guest was let in")

    def test_that_cannot_be_taken_up(self, stage: Stage) -> None:
        verdict = self.verdict(stage, migrate=[["migration", "failed"]])
        assert type(verdict) is LabError
        assert "migration failed" in verdict.message

    @pytest.mark.parametrize("how", [["migration", "active"], ["hang"]])
    def test_that_is_never_taken_up(self, stage: Stage, how: list[Any]) -> None:
        verdict = self.verdict(stage, SHORT, migrate=[how])
        assert type(verdict) is LabError
        assert "did not take up its state within" in verdict.message

    def test_that_qemu_dies_of(self, stage: Stage) -> None:
        words = "qemu-system-x86_64: Not a migration stream"
        verdict = self.verdict(stage, migrate=[["stderr", words], ["exit", 1]])
        assert isinstance(verdict, LabError)
        assert words in verdict.message + verdict.evidence

    def test_that_cannot_be_saved(self, stage: Stage) -> None:
        with pytest.raises(LabError, match="migration failed"):
            self.saved(stage, migrate=[["migration", "failed"]])

    def test_that_crashes_before_it_is_ready(self, stage: Stage) -> None:
        with pytest.raises(KernelCrashed):
            self.saved(stage, boot=[["console", PANIC], ["exit", 0]])

    def test_that_crashes_afterwards(self, stage: Stage) -> None:
        verdict = self.verdict(stage, request=[["console", PANIC], ["exit", 0]])
        assert type(verdict) is KernelCrashed


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
            "from linklab.session import open_session\n"
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
        pid = int(lab.stdout)
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and not is_zombie(pid):
            assert time.monotonic() < until, "QEMU outlived the lab"
            time.sleep(0.01)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_every_verdict_names_who_is_at_fault() -> None:
    assert {kind.verdict for kind in (GuestHung, KernelCrashed, WrongState, RequestRefused)} == {
        Verdict.HANG,
        Verdict.CRASH,
        Verdict.FAIL,
    }
    assert {kind.verdict for kind in (MachineLost, ProtocolError, LabError)} == {Verdict.ERROR}
