"""The one gateway for programs: what they get, what they cost, and how they end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import wait_until_gone

from linklab.errors import LabError
from linklab.host.run import (
    CommandFailed,
    CommandMissing,
    environment,
    run,
    shown,
    start,
)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


class TestRun:
    def test_returns_what_the_program_printed(self) -> None:
        done = run(sh("echo out; echo err >&2"))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
        assert done.text == "out"

    def test_text_is_text_whatever_the_bytes(self) -> None:
        assert run(sh(r"printf 'a\377b\n\n'")).text == "a\ufffdb"

    def test_passes_paths_standard_input_folder_and_environment(self, tmp_path: Path) -> None:
        done = run(
            ["sh", "-c", 'cat; pwd; echo "$WHAT"', Path("unused")],
            stdin=b"in\n",
            cwd=tmp_path,
            env={"WHAT": "this"},
        )
        assert done.text.splitlines() == ["in", str(tmp_path), "this"]

    def test_gives_no_input_unless_asked(self) -> None:
        assert run(["cat"]).stdout == b""

    def test_a_failure_shows_what_to_paste_and_what_was_said(self) -> None:
        with pytest.raises(CommandFailed) as caught:
            run(["sh", "-c", "echo because >&2; exit 3"])
        assert caught.value.returncode == 3
        assert "status 3" in caught.value.message
        assert "sh -c 'echo because >&2; exit 3'" in caught.value.message
        assert caught.value.evidence == "because"
        assert isinstance(caught.value, LabError)

    def test_a_failure_without_errors_shows_the_output(self) -> None:
        with pytest.raises(CommandFailed) as caught:
            run(sh("echo only this; exit 1"))
        assert caught.value.evidence == "only this"

    def test_a_failure_shows_the_end_of_a_long_story(self) -> None:
        with pytest.raises(CommandFailed) as caught:
            run(sh("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done >&2; exit 1"))
        assert caught.value.evidence.endswith("line 1999")
        assert len(caught.value.evidence) <= 4000

    def test_a_failure_can_be_asked_for(self) -> None:
        assert run(sh("exit 3"), check=False).returncode == 3

    def test_a_death_by_signal_is_a_failure(self) -> None:
        with pytest.raises(CommandFailed) as caught:
            run(sh("kill -9 $$"))
        assert caught.value.returncode == -signal.SIGKILL

    def test_a_program_that_is_missing_is_told(self) -> None:
        with pytest.raises(CommandMissing, match=r"no-such-program is not installed.*setup"):
            run(["no-such-program"])

    def test_a_program_that_cannot_be_run_is_told(self, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.write_text("no program")
        with pytest.raises(CommandFailed, match="plain cannot be run: Permission denied"):
            run([plain])
        plain.chmod(0o755)
        with pytest.raises(CommandFailed, match="plain cannot be run: Exec format error"):
            run([plain])

    def test_a_folder_that_is_missing_is_not_taken_for_the_program(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            run(["true"], cwd=tmp_path / "nowhere")


class TestDeadline:
    def test_ends_a_program_that_takes_too_long(self) -> None:
        began = time.monotonic()
        with pytest.raises(CommandFailed, match="no end after 0 s: sh") as caught:
            run(sh("echo so far >&2; echo $$ >&2; exec sleep 60"), deadline=0.3)
        assert time.monotonic() - began < 20
        said, pid = caught.value.evidence.split("\n")
        assert said == "so far"
        wait_until_gone(int(pid))

    def test_is_kept_though_a_grandchild_holds_the_output(self, tmp_path: Path) -> None:
        began = time.monotonic()
        with pytest.raises(CommandFailed, match="no end"):
            run(sh(f"sleep 30 & echo $! > {tmp_path}/pid; sleep 30"), deadline=0.3)
        assert time.monotonic() - began < 20
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


class TestStart:
    def test_runs_beside_us(self) -> None:
        with start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(b"beside", timeout=20)
        assert out == b"beside"

    def test_inherits_only_what_is_passed(self) -> None:
        passed, kept = os.pipe(), os.pipe()
        try:
            for fd in (*passed, *kept):
                os.set_inheritable(fd, True)
            listing = start(["ls", "/proc/self/fd"], stdout=subprocess.PIPE, pass_fds=[passed[1]])
            with listing:
                out, _ = listing.communicate(timeout=20)
            open_there = {int(fd) for fd in out.split()}
            assert passed[1] in open_there
            assert not {passed[0], *kept} & open_there
        finally:
            for fd in (*passed, *kept):
                os.close(fd)

    def test_can_lead_a_session_of_its_own(self) -> None:
        session = sh('[ "$(cut -d " " -f 6 /proc/$$/stat)" = $$ ]')
        with start(session, new_session=True) as process:
            assert process.wait(20) == 0

    @pytest.mark.parametrize("how", ["kill -9", "an exception", "an end"])
    def test_what_was_started_ends_with_us(self, tmp_path: Path, how: str) -> None:
        lab = tmp_path / "lab.py"
        lab.write_text(
            "import sys, time\n"
            "from linklab.host.run import start\n"
            "child = start(['sleep', '60'])\n"
            "print(child.pid, flush=True)\n"
            "if sys.argv[1] == 'an exception': raise SystemError\n"
            "if sys.argv[1] == 'kill -9': time.sleep(60)\n"
        )
        process = subprocess.Popen(
            [sys.executable, lab, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        with process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            if how == "kill -9":
                process.kill()
            process.wait(20)
        wait_until_gone(child)

    def test_a_death_signal_can_be_one_that_lets_it_clean_up(self, tmp_path: Path) -> None:
        trap = (
            f"trap 'echo cleaned > {tmp_path}/mark; exit' TERM; echo; while :; do sleep 0.05; done"
        )
        lab = (
            "import sys, subprocess, signal\n"
            "from linklab.host.run import start\n"
            f"child = start(['sh', '-c', {trap!r}], stdout=subprocess.PIPE, "
            "death_signal=signal.SIGTERM)\n"
            "child.stdout.readline()\n"
        )
        subprocess.run(
            [sys.executable, "-c", lab],
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        until = time.monotonic() + 10
        while not (tmp_path / "mark").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / "mark").read_text() == "cleaned\n"


class TestEnvironment:
    def test_fixes_language_and_time_zone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
        monkeypatch.setenv("LANG", "de_DE.UTF-8")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        monkeypatch.setenv("HOME", "/home/somebody")
        env = environment({"TZ": "Europe/Berlin", "MORE": "1"})
        assert (env["LC_ALL"], env["LANG"], env["HOME"]) == ("C", "C", "/home/somebody")
        assert (env["TZ"], env["MORE"]) == ("Europe/Berlin", "1")
        assert environment()["TZ"] == "UTC"
        assert "LC_MESSAGES" not in env

    def test_reaches_the_program(self) -> None:
        assert run(sh('echo "$LC_ALL $TZ"')).text == "C UTC"


def test_a_command_is_shown_as_one_would_type_it() -> None:
    argv: list[str | Path] = ["make", Path("/my folder/Makefile"), "CC=ccache gcc", ""]
    assert shown(argv) == "make '/my folder/Makefile' 'CC=ccache gcc' ''"
    assert shlex.split(shown(argv)) == [str(word) for word in argv]
