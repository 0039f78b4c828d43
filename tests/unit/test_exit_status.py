"""Where a command ends: its exit status, what it says of it and where, with a real Invoke."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linklab.commands.exit_status import show_fault, status_of
from linklab.entry import ENDING
from linklab.errors import (
    BuildSkipped,
    GuestHung,
    Interrupted,
    KernelCrashed,
    KernelFault,
    LabError,
    LinklabError,
    MachineLost,
    RequestRefused,
    UsageError,
    Verdict,
    WrongState,
)
from linklab.host.run import start
from linklab.paths import ROOT

TASKS = """
import sys
from linklab.commands.exit_status import step_status
from linklab.commands.cli import Command, namespace

namespace = namespace(
    sys.argv,
    [Command("end", "End.", "endings:end"), Command("verdict", "End.", "endings:end", step_status)],
)
"""
ENDINGS = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from linklab import errors
from linklab.options import option

@dataclass(frozen=True)
class Options:
    kind: str = option("", "how to end")
    as_json: bool = option(False, "one document", "json")

def end(options: Options):
    kind = options.kind
    if kind == "wait":
        Path(os.environ["READY"]).touch()
        for _ in range(600):
            time.sleep(0.05)
    if kind in ("print", "much"):
        print("figures" * (100_000 if kind == "much" else 1))
    if kind == "rich":
        from rich.console import Console
        Console().print("figures")
    if kind == "socket":
        raise BrokenPipeError(32, "QEMU went away")
    if hasattr(errors, kind):
        raise getattr(errors, kind)("what happened", "what proves it")
"""
INVOKE = Path(sys.executable).with_name("invoke")
LIMIT = 60.0


@dataclass(frozen=True)
class End:
    """How a process ended and what it said."""

    status: int
    out: str
    err: str


@dataclass
class Project:
    """A folder with a tasks.py of its own, in which Invoke is really run."""

    folder: Path

    def begin(
        self,
        *words: str,
        **more: Any,
    ) -> subprocess.Popen[bytes]:
        env = {"PYTHONPATH": str(ROOT), **more.pop("env", {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return start([INVOKE, *words], cwd=self.folder, env=env, **pipes)

    def interrupt(self, number: signal.Signals, *words: str) -> End:
        """Send a signal to `end --kind wait` once it is at work."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
        ready = self.folder / f"ready-{number.name}"
        process = self.begin("end", "--kind", "wait", *words, env={"READY": str(ready)})
        deadline = time.monotonic() + LIMIT
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        return end_of(process)


def end_of(process: subprocess.Popen[bytes]) -> End:
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    return End(process.returncode, (out or b"").decode(), (err or b"").decode())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    (folder / "tasks.py").write_text(TASKS)
    (folder / "endings.py").write_text(ENDINGS)
    return Project(folder)


WAYS: Mapping[str, tuple[str, ...]] = {
    "pass": ("end",),
    "WrongState": ("end", "--kind", "WrongState"),
    "UsageError": ("end", "--kind", "UsageError", "--json"),
    "LabError": ("end", "--kind", "LabError", "--json"),
    "BuildSkipped": ("end", "--kind", "BuildSkipped"),
    "unknown option": ("end", "--json", "--frob"),
    "step: pass": ("verdict",),
    "step: WrongState": ("verdict", "--kind", "WrongState"),
    "step: UsageError": ("verdict", "--kind", "UsageError", "--json"),
    "step: LabError": ("verdict", "--kind", "LabError", "--json"),
    "step: BuildSkipped": ("verdict", "--kind", "BuildSkipped"),
    "step: unknown option": ("verdict", "--frob", "--json"),
}


@pytest.fixture(scope="module")
def ends(project: Project) -> Mapping[str, End]:
    """How each of `WAYS` ends. They run beside each other: Python's start is what takes long."""
    begun = {name: project.begin(*words) for name, words in WAYS.items()}
    return {name: end_of(process) for name, process in begun.items()}


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("pass", 0),
        ("WrongState", 1),
        ("UsageError", 2),
        ("LabError", 3),
        ("BuildSkipped", 125),
        ("unknown option", 2),
    ],
)
def test_the_exit_status_is_the_verdicts(way: str, status: int, ends: Mapping[str, End]) -> None:
    assert ends[way].status == status, ends[way].err


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("pass", 0),
        ("WrongState", 1),
        ("UsageError", 255),
        ("LabError", 255),
        ("BuildSkipped", 125),
        ("unknown option", 255),
    ],
)
def test_what_says_nothing_of_a_commit_stops_git_bisect_run(
    way: str, status: int, ends: Mapping[str, End]
) -> None:
    end = ends[f"step: {way}"]
    assert end.status == status, end.err
    if end.out:
        assert json.loads(end.out)["status"] == status


def test_nobody_sees_a_traceback_for_a_mistake_or_a_fault_of_the_kernel(
    ends: Mapping[str, End],
) -> None:
    for end in ends.values():
        assert "Traceback" not in end.err


@pytest.mark.parametrize(
    ("way", "word"),
    [("WrongState", "fail"), ("LabError", "error"),
     ("UsageError", "usage"), ("BuildSkipped", "skip")],
)  # fmt: skip
def test_what_went_wrong_goes_to_standard_error_with_its_evidence(
    way: str, word: str, ends: Mapping[str, End]
) -> None:
    assert ends[way].err == f"{word}: what happened\nwhat proves it\n"


def test_what_is_unknown_is_named(ends: Mapping[str, End]) -> None:
    assert "--frob" in ends["unknown option"].err


@pytest.mark.parametrize(
    ("way", "verdict"),
    [
        ("UsageError", "usage"),
        ("LabError", "error"),
        ("unknown option", "usage"),
    ],
)
def test_with_json_an_error_is_one_document_on_standard_output(
    way: str, verdict: str, ends: Mapping[str, End]
) -> None:
    document = json.loads(ends[way].out)
    assert (document["verdict"], document["status"]) == (verdict, ends[way].status)
    assert set(document) == {"verdict", "status", "message", "evidence"}
    if way.endswith("Error"):
        assert (document["message"], document["evidence"]) == ("what happened", "what proves it")


def test_without_json_nothing_of_an_error_is_on_standard_output(ends: Mapping[str, End]) -> None:
    for way, words in WAYS.items():
        if "--json" not in words:
            assert ends[way].out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_as_interrupted(number: signal.Signals, project: Project) -> None:
    end = project.interrupt(number, "--json")
    assert end.status == 130, end.err
    assert end.err == "interrupted\n"
    document = json.loads(end.out)
    assert (document["verdict"], document["status"]) == ("interrupted", 130)


def test_a_standard_output_that_is_full_is_the_hosts_fault(project: Project) -> None:
    """Python alone would end with 120, which a bisection takes for a bad kernel."""
    with Path("/dev/full").open("wb") as full:
        end = end_of(project.begin("end", "--kind", "print", stdout=full))
    assert end.status == 3
    assert end.err == "error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [("end", "--kind", "much"), ("end", "--kind", "print"), ("end", "--kind", "rich"), ("--list",)],
    ids=["more than a buffer", "less", "by rich", "by Invoke itself"],
)
def test_who_stops_reading_hears_no_more(words: tuple[str, ...], project: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = project.begin(*words, stdout=writer)
    finally:
        os.close(writer)
    end = end_of(process)
    assert (end.status, end.err) == (-signal.SIGPIPE, "")


def test_another_pipe_that_breaks_is_an_error_of_the_lab(project: Project) -> None:
    end = end_of(project.begin("end", "--kind", "socket"))
    assert end.status == 3
    assert "QEMU went away" in end.err


# The same in this process


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what a command does to the signals of the process."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Callable[[], Verdict | None]:
    def work() -> Verdict | None:
        raise error

    return work


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (WrongState, 1),
        (RequestRefused, 1),
        (KernelFault, 1),
        (KernelCrashed, 1),
        (GuestHung, 1),
        (UsageError, 2),
        (LabError, 3),
        (MachineLost, 3),
        (BuildSkipped, 125),
        (Interrupted, 130),
    ],
)
def test_each_kind_of_error_has_its_status(kind: type[LinklabError], status: int) -> None:
    assert status_of(raising(kind("what"))) == status


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (None, 0),
        (Verdict.PASS, 0),
        (Verdict.FAIL, 1),
        (Verdict.CRASH, 1),
        (Verdict.HANG, 1),
        (Verdict.USAGE, 2),
        (Verdict.ERROR, 3),
        (Verdict.SKIP, 125),
        (Verdict.INTERRUPTED, 130),
    ],
)
def test_each_verdict_has_its_status(verdict: Verdict | None, status: int) -> None:
    assert status_of(lambda: verdict) == status


@pytest.mark.parametrize("status", [0, 1, 2, 3, 137])
def test_a_program_in_a_guest_has_its_own_status(status: int) -> None:
    assert status_of(lambda: status) == status


def test_errors_that_nobody_foresaw_are_the_labs(capsys: pytest.CaptureFixture[str]) -> None:
    """1 would tell a bisection that the kernel is bad."""
    assert status_of(raising(ZeroDivisionError("division by zero")), as_json=True) == 3
    assert status_of(raising(PermissionError(13, "Permission denied", "/x"))) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "error"
    assert "ZeroDivisionError" in err
    assert "error: [Errno 13] Permission denied: '/x'\n" in err


def test_a_machine_without_proc_is_told_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("linklab.commands.exit_status._PROC", tmp_path / "self")
    missing = FileNotFoundError(2, "No such file or directory", "/proc/self/stat")
    assert status_of(raising(missing)) == 3
    assert capsys.readouterr().err.startswith("error: /proc is not mounted here")


def test_a_bug_leaves_what_is_needed_to_find_it(capsys: pytest.CaptureFixture[str]) -> None:
    status_of(raising(RuntimeError("that was not expected")))
    err = capsys.readouterr().err
    assert err.startswith("error: the lab itself has a fault: ")
    assert "Traceback" in err


def test_what_cannot_be_said_does_not_change_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert status_of(raising(BuildSkipped("a patch does not apply"))) == 125
        monkeypatch.setattr(sys, "stdout", full)
        assert status_of(raising(BuildSkipped("a patch does not apply")), as_json=True) == 125


def test_a_terminal_that_goes_away_ends_a_command_unless_it_was_told_not_to() -> None:
    def work() -> None:
        signal.raise_signal(signal.SIGHUP)

    assert status_of(work) == 130
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert status_of(work) == 0


def test_an_interrupt_is_told_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(KeyboardInterrupt()), as_json=True) == 130
    assert json.loads(capsys.readouterr().out)["status"] == 130


def test_once_the_end_is_decided_a_second_signal_does_not_change_it() -> None:
    assert status_of(raising(KeyboardInterrupt())) == 130
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)


def test_a_fault_without_evidence_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_fault(LabError("no QEMU"))
    show_fault(Interrupted("what was measured so far is kept"))
    show_fault(Interrupted("interrupted"))
    assert capsys.readouterr().err == (
        "error: no QEMU\ninterrupted: what was measured so far is kept\ninterrupted\n"
    )


def test_the_projects_own_tasks_refuse_what_is_wrong_before_they_start_anything(
    tmp_path: Path,
) -> None:
    own = Project(ROOT)
    wrong = ("--counts", "many", "--json", "--output", str(tmp_path / "out"))
    begun = [own.begin("run", "--frob"), own.begin("run", *wrong)]
    option, value = [end_of(process) for process in begun]
    assert (option.status, value.status) == (2, 2)
    assert "--frob" in option.err
    assert "Traceback" not in option.err + value.err
    assert json.loads(value.out)["message"] == "--counts many: a whole number is expected"
    assert list(tmp_path.iterdir()) == []
