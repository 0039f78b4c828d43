"""`invoke exec`: its options, what is made of them, and what a script is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_tree import header
from invoke.parser import Parser
from invoke.program import Program

from linklab.commands import cli
from linklab.commands import exec as exec_command
from linklab.commands.exec import FRAGMENT, HOST, ExecOptions, Execution, check
from linklab.commands.exit_status import status_of
from linklab.errors import KernelCrashed, LinklabError, UsageError
from linklab.kernel.kconfig import parse_config
from linklab.kernel.requirements import needs_of
from linklab.lab.command import CommandEnd, Kept
from linklab.machine.spec import Boot, Share
from linklab.options import made
from linklab.paths import IMAGES

NOTHING: Any = object()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the signals' handlers back: a command that ends leaves them ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def options(**given: Any) -> ExecOptions:
    return made(ExecOptions, {"command": "ip link", "kernel": "nosysfs", **given})


class TestWhatIsAskedFor:
    def test_is_a_shells_command_line_in_the_folder_that_we_are_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        command = check(options(command="ip link | wc -l")).command
        assert command.argv == ["/bin/sh", "-c", "ip link | wc -l"]
        assert command.folder == str(tmp_path)

    def test_is_real_time_unless_somebody_asks_for_another(self) -> None:
        assert check(options()).machine.clock == "real"
        assert check(options(clock="real")).machine.clock == "real"
        with pytest.raises(UsageError, match="--clock virtual: the guest would stand still"):
            check(options(clock="virtual"))

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ({"command": " "}, "a command is expected"),
            ({"kernel": "sysfs,nosysfs"}, "one kernel"),
            ({"kernel": "no/such"}, "no/such"),
            ({"root": "nowhere"}, "--root nowhere: unknown; valid are live, host"),
            ({"boot": "iso"}, "--boot iso"),
            ({"rw": ("/no/such/folder",)}, "--rw /no/such/folder"),
            ({"rw": ("/",)}, "--rw /"),
            ({"rw": ("/proc/self",)}, "of its own"),
            ({"timeout": "soon"}, "--timeout soon"),
            ({"memory": "3"}, "--memory 3"),
            ({"noise": "/no/such/file"}, "--noise"),
        ],
    )
    def test_that_is_wrong_is_refused_before_anything_starts(
        self, given: dict[str, Any], wanted: str
    ) -> None:
        with pytest.raises(UsageError, match=wanted):
            check(options(**given))

    def test_has_a_limit_for_folders(self, tmp_path: Path) -> None:
        folders = [tmp_path / str(number) for number in range(7)]
        for folder in folders:
            folder.mkdir()
        given = tuple(map(str, folders))
        assert len(check(options(rw=given[:6], root="host")).shares) == 7
        with pytest.raises(UsageError, match="6 folders at most, 7"):
            check(options(rw=given))


class TestFoldersOfTheHost:
    def test_are_not_there_unless_asked_for(self) -> None:
        request = check(options())
        assert request.shares == ()
        assert request.kernels.configs == ()
        assert request.command.environment["PATH"] == "/bin:/sbin"

    def test_may_be_the_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/opt/mine/bin:/usr/bin")
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/secret")
        request = check(options(root="host"))
        assert request.shares == (Share("root", Path("/")),)
        environment = request.command.environment
        assert environment["PATH"] == "/opt/mine/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin"
        assert environment["LC_ALL"] == "de_DE.UTF-8"
        assert "SSH_AUTH_SOCK" not in environment

    def test_may_be_written_where_that_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "outer" / "inner").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        shares = check(options(rw=("outer/inner", "outer", "./outer"), root="host")).shares
        outer = tmp_path / "outer"
        assert shares == (
            Share("root", Path("/")),
            Share("rw0", outer, True),
            Share("rw1", outer / "inner", True),
        ), "each once, and what lies in another is mounted on it"

    def test_need_a_kernel_of_their_own_from_the_lab(self, tmp_path: Path) -> None:
        assert check(options(root="host")).kernels.configs == (str(FRAGMENT),)
        assert check(options(rw=(str(tmp_path),))).kernels.configs == (str(FRAGMENT),)
        bzimage = tmp_path / "bzImage"
        bzimage.write_bytes(header())
        assert check(options(root="host", kernel=str(bzimage))).kernels.configs == ()

    def test_need_what_the_fragment_switches_on(self) -> None:
        base = IMAGES / "kernel" / "base.config"
        config = parse_config(base.read_text()) | parse_config(FRAGMENT.read_text())
        needs = needs_of((HOST,))
        assert needs
        assert all(config.get(need.option) == "y" for need in needs)


class FakeExecution(Execution):
    """One that boots nothing."""

    printed = (b"out\n", b"err\n")
    ends: CommandEnd | LinklabError = CommandEnd(3 << 8, 0.25)
    also: LinklabError | None = None

    def run(self, output: Any, errors: Any) -> CommandEnd:
        if isinstance(output, Kept):
            output.put(self.printed[0], NOTHING)
            errors.put(self.printed[1], NOTHING)
        if isinstance(self.ends, LinklabError):
            raise self.ends
        self.end = self.ends
        if self.also:
            raise self.also
        return self.ends


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeExecution]:
    class Fake(FakeExecution):
        pass

    monkeypatch.setattr(exec_command, "Execution", Fake)
    monkeypatch.setattr(exec_command, "_prepare", lambda *_: (NOTHING, NOTHING))
    monkeypatch.setattr("linklab.commands.exec.tested_on", lambda *_: {"kernels": []})
    return Fake


class TestWhatAScriptIsTold:
    def document(self, capsys: pytest.CaptureFixture[str], status: int) -> dict[str, Any]:
        code = status_of(lambda: exec_command.main(options(json=True)), as_json=True)
        assert code == status
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert told["status"] == status
        return told

    @pytest.mark.parametrize("status", [0, 1, 2, 3, 125, 126, 127, 255])
    def test_the_commands_own_status(
        self, fake: type[FakeExecution], capsys: pytest.CaptureFixture[str], status: int
    ) -> None:
        fake.ends = CommandEnd(status << 8, 0.25)
        told = self.document(capsys, status)
        assert (told["verdict"], told["message"]) == ("pass", "")
        assert told["command"] == {
            "line": "ip link",
            "status": status,
            "signal": None,
            "seconds": 0.25,
            "stdout": "out\n",
            "stderr": "err\n",
        }

    def test_a_signal(self, fake: type[FakeExecution], capsys: pytest.CaptureFixture[str]) -> None:
        fake.ends = CommandEnd(9, 0.25)
        command = self.document(capsys, 137)["command"]
        assert (command["status"], command["signal"]) == (137, 9)

    def test_a_fault_of_the_kernels_with_what_was_printed_before(
        self, fake: type[FakeExecution], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake.ends = KernelCrashed("the kernel reports: oops", "its words")
        told = self.document(capsys, 1)
        assert (told["verdict"], told["message"]) == ("crash", "the kernel reports: oops")
        assert told["command"]["status"] is None
        assert told["command"]["stdout"] == "out\n"

    def test_both_where_the_kernel_failed_when_the_command_was_over(
        self, fake: type[FakeExecution], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake.also = KernelCrashed("the kernel reports: a warning")
        told = self.document(capsys, 1)
        assert told["verdict"] == "crash"
        assert told["command"]["status"] == 3

    def test_bytes_that_are_no_text_in_base64(
        self, fake: type[FakeExecution], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake.printed = (b"\xff\x00", b"text")
        command = self.document(capsys, 3)["command"]
        assert command["stdout_base64"] == "/wA=" and "stdout" not in command
        assert command["stderr"] == "text"

    def test_a_wrong_option_as_everywhere(self, capsys: pytest.CaptureFixture[str]) -> None:
        wrong = options(json=True, clock="virtual")
        assert status_of(lambda: exec_command.main(wrong), as_json=True) == 2
        assert json.loads(capsys.readouterr().out)["verdict"] == "usage"


def test_the_status_is_the_commands_without_a_document_too(fake: type[FakeExecution]) -> None:
    assert status_of(lambda: exec_command.main(options())) == 3


def parsed(*words: str) -> list[Any]:
    """The tasks that Invoke makes of a command line."""
    argv = ["/usr/bin/invoke", *words]
    contexts = cli.namespace(argv).to_contexts()
    return list(Parser(initial=Program().initial_context, contexts=contexts).parse_argv(argv[1:]))


@pytest.mark.parametrize("line", ["run", "ip link show", "echo --json", "true; invoke report"])
def test_words_inside_of_the_command_are_no_commands_of_the_labs(line: str) -> None:
    (_core, task) = parsed("exec", "--kernel", "nosysfs", line)
    assert task.name == "exec"
    assert task.args.command.value == line
    assert task.args.json.value is False


def test_it_is_completed_with_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    command = next(each for each in cli.COMMANDS if each.name == "exec")
    assert {"nosysfs", "sysfs", "debian"} <= set(cli.completions(command, ["exec", "--kernel"]))
    assert cli.completions(command, ["exec", "--root"]) == ["live", "host"]


def test_nothing_is_imported_that_only_others_need() -> None:
    """What costs time that everybody waits for: 0.1 s and more each."""
    packages = {"pyroute2.netlink", "rich", "jinja2", "numpy", "asyncio", "qemu"}
    program = f"import sys, linklab.commands.exec; print(*(set(sys.modules) & {packages}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.split() in ([], ["asyncio"]), "pexpect brings asyncio"


def test_an_iso_is_not_made_for_it() -> None:
    assert check(options()).machine.boot == Boot.DIRECT
