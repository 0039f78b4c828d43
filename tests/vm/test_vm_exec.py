"""`invoke exec` as a user types it, in real guests."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from guests import INVOKE, LIMIT
from processes import wait_until_gone

from linklab.errors import LabError
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.kernel import BuildOptions, resolve_kernel
from linklab.lab.lab import Subject
from linklab.paths import ROOT

pytestmark = pytest.mark.vm

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(subjects: dict[str, Subject]) -> Run:
    """Run a command in a guest; `input` is its standard input, and all is bytes."""

    def exec_(
        *words: str, kernel: str = "nosysfs", input: bytes = b"", **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        argv = [INVOKE, "exec", "--kernel", kernel, *words]
        given = {"input": input, "capture_output": True, "cwd": ROOT, "timeout": 900, **more}
        return subprocess.run(argv, check=False, **given)  # type: ignore[call-overload, no-any-return]

    return exec_


def in_background(*words: str) -> subprocess.Popen[bytes]:
    argv = [INVOKE, "exec", "--kernel", "nosysfs", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


def line_of(lab: subprocess.Popen[bytes]) -> bytes:
    assert lab.stdout and lab.stderr
    line = lab.stdout.readline()
    assert line, lab.stderr.read().decode()
    return line


def qemu_of(lab: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{lab.pid}/task/{lab.pid}/children").read_text().split()
    (qemu,) = [int(pid) for pid in children if "qemu" in Path(f"/proc/{pid}/comm").read_text()]
    return qemu


@pytest.mark.parametrize("boot", ["direct", "resume"])
def test_a_command_speaks_for_itself(run: Run, boot: str) -> None:
    done = run("--boot", boot, "echo one; echo two >&2; uname -r; exit 3")
    assert done.stdout.startswith(b"one\n6.")
    assert done.stderr.endswith(b"two\n"), "it may have been built, or saved, before"
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("command", "status"),
    [("true", 0), ("exit 255", 255), ("/etc/passwd", 126), ("no-such-program", 127),
     ("kill -9 $$", 137)],
)  # fmt: skip
def test_its_status_is_passed_on(run: Run, command: str, status: int) -> None:
    assert run(command).returncode == status


def test_every_byte_passes_both_ways_on_both_outputs(run: Run) -> None:
    data = os.urandom(400_000) + bytes(range(256))
    done = run("tee /dev/stderr", input=data)
    assert done.returncode == 0
    assert done.stdout == data
    assert done.stderr == data


def test_ten_megabytes_come_whole(run: Run) -> None:
    done = run("head -c 10485760 /dev/zero")
    assert done.returncode == 0
    assert done.stdout == bytes(10 << 20)


def test_output_comes_while_it_runs_and_input_goes_in_when_it_is_there(
    subjects: dict[str, Subject],
) -> None:
    with in_background("while read line; do echo got $line; done; echo over") as lab:
        assert lab.stdin and lab.stdout
        for word in (b"one", b"two"):
            lab.stdin.write(word + b"\n")
            lab.stdin.flush()
            assert line_of(lab) == b"got " + word + b"\n"
        lab.stdin.close()
        assert line_of(lab) == b"over\n"
        assert lab.wait(LIMIT) == 0


def test_a_closed_input_is_empty(subjects: dict[str, Subject]) -> None:
    words = shlex.join([INVOKE, "exec", "--kernel", "nosysfs", "wc -c"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{words} <&-"], cwd=ROOT, capture_output=True, timeout=LIMIT, check=True
    )
    assert done.stdout.strip() == b"0"


def test_a_reader_that_goes_away_ends_it_without_a_word(subjects: dict[str, Subject]) -> None:
    with in_background("yes") as lab:
        assert lab.stdout and lab.stderr
        assert lab.stdout.read(4) == b"y\ny\n"
        qemu = qemu_of(lab)
        lab.stdout.close()
        assert lab.wait(LIMIT) == -signal.SIGPIPE
        assert lab.stderr.read() == b""
    wait_until_gone(qemu)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_and_the_guest_in_order(
    subjects: dict[str, Subject], number: int, tmp_path: Path
) -> None:
    log = tmp_path / "console.log"
    script = "trap 'echo trapped; exit 9' INT TERM; echo begun; sleep 60 & wait"
    with in_background("--log", str(log), script) as lab:
        assert lab.stdout and lab.stderr
        assert line_of(lab) == b"begun\n"
        qemu = qemu_of(lab)
        lab.send_signal(number)
        assert line_of(lab) == b"trapped\n"
        assert lab.wait(LIMIT) == 130
        assert lab.stderr.read() == b"interrupted\n"
    wait_until_gone(qemu)


def test_a_terminal_is_typed_at_until_control_d(subjects: dict[str, Subject]) -> None:
    words = ["exec", "--kernel", "nosysfs", "cat; echo over"]
    child = pexpect.spawn(INVOKE, words, cwd=str(ROOT), timeout=LIMIT, echo=False)
    child.sendline("hello")
    child.expect_exact("hello")
    child.sendeof()
    child.expect_exact("over")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_crash_is_the_kernels_with_what_was_printed_before(run: Run) -> None:
    done = run("echo before; sleep 0.2; echo c > /proc/sysrq-trigger; echo after")
    assert (done.stdout, done.returncode) == (b"before\n", 1)
    assert done.stderr.startswith(b"crash: the kernel reports: kernel panic: sysrq triggered crash")
    log = done.stderr.split(b"the console's log: ")[1].split(b"\n")[0].decode()
    assert "sysrq triggered crash" in Path(log).read_text()


def test_a_command_that_does_not_end_in_time_hangs(run: Run) -> None:
    done = run("--timeout", "2", "echo begun; sleep 100")
    assert (done.stdout, done.returncode) == (b"begun\n", 1)
    assert b"hang: the command did not end within 2 s" in done.stderr


def test_qemu_that_is_killed_is_the_labs_matter(subjects: dict[str, Subject]) -> None:
    with in_background("echo begun; sleep 60") as lab:
        assert lab.stdout and lab.stderr
        assert line_of(lab) == b"begun\n"
        os.kill(qemu_of(lab), signal.SIGKILL)
        assert lab.wait(LIMIT) == 3
        assert lab.stderr.read().startswith(b"error: QEMU was killed by signal 9")


def test_a_script_is_told_whose_status_it_is(run: Run) -> None:
    document = json.loads(run("--json", "printf '\\377'; exit 1").stdout)
    assert (document["verdict"], document["status"]) == ("pass", 1)
    assert document["command"]["stdout_base64"] == "/w=="
    assert document["clock"] == "real"
    document = json.loads(run("--json", "echo c > /proc/sysrq-trigger").stdout)
    assert (document["verdict"], document["status"]) == ("crash", 1)
    assert document["command"]["status"] is None


class TestTheHostsFiles:
    """A kernel of its own is built for these, once."""

    @pytest.mark.parametrize("boot", ["direct", "resume"])
    def test_are_there_to_be_read_and_what_is_written_stays_in_the_guest(
        self, run: Run, tmp_path: Path, boot: str
    ) -> None:
        (tmp_path / "mine").write_text("from the host")
        here = f"{Path.home()}/.linklab-test-{os.getpid()}-{time.time_ns()}"
        done = run("--root", "host", "--boot", boot, f"echo x > {here} && cat {here}; pwd; id -u")
        assert done.stdout.decode().split() == ["x", str(ROOT), "0"], done.stderr
        assert not Path(here).exists()

    def test_run_the_hosts_programs(self, run: Run) -> None:
        done = run("--root", "host", "python3 -c 'import os; print(os.uname().release)'")
        assert done.stdout.startswith(b"6."), done.stderr

    def test_hide_what_is_the_guests_own(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "in-tmp").touch()
        look = f"ls {tmp_path} /run /sys; cat /proc/1/comm; ls /dev/null; unshare -U true"
        done = run("--root", "host", look)
        assert b"in-tmp" not in done.stdout
        assert b"linklab-agent" in done.stdout
        assert done.returncode == 0, "a user namespace may be made"

    def test_may_be_written_where_that_is_said(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "given").write_bytes(bytes(range(256)) * 1000)
        for root in ("live", "host"):
            script = f"cat given > taken-{root}; mkdir -p new; sync"
            done = run("--root", root, "--rw", str(tmp_path), f"cd {tmp_path} && {script}")
            assert done.returncode == 0, done.stderr
            taken = tmp_path / f"taken-{root}"
            assert taken.read_bytes() == (tmp_path / "given").read_bytes()
        assert (tmp_path / "new").is_dir()

    def test_need_modules_of_a_kernel_of_debians(
        self, run: Run, cache: Cache, tmp_path: Path
    ) -> None:
        try:
            resolve_kernel("deb:linux-image-amd64", BuildOptions(), cache, ignore)
        except LabError as error:
            pytest.skip(f"Debian's kernel cannot be had here: {error} {error.evidence}")
        script = f"grep -c 9p /proc/modules; echo x > {tmp_path}/x"
        words = ("--root", "host", "--rw", str(tmp_path), script)
        done = run(*words, kernel="deb:linux-image-amd64")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 2
        assert (tmp_path / "x").read_text() == "x\n"
        done = run("--root", "host", "true", kernel="debian")
        assert done.returncode == 2 and b"CONFIG_9P_FS" in done.stderr

    def test_what_is_written_is_there_after_a_crash(self, run: Run, tmp_path: Path) -> None:
        script = f"echo kept > {tmp_path}/kept; echo c > /proc/sysrq-trigger"
        assert run("--rw", str(tmp_path), script).returncode == 1
        assert (tmp_path / "kept").read_text() == "kept\n"
