"""`--keep`, `invoke guests`, `invoke shell --guest`: what they refuse and what they show."""

from __future__ import annotations

import json
import os
import pty
import socket
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_lab import lab_of

from linklab import events
from linklab.commands import guests, judging, shell
from linklab.commands.calibrate import CalibrateOptions, Calibrating
from linklab.commands.compare import CompareOptions, Comparing
from linklab.commands.guests import check_keep
from linklab.commands.judging import CriterionOptions, check_criterion
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.profile import ProfileOptions, Profiling
from linklab.commands.run import Running, RunOptions
from linklab.errors import LabError, UsageError
from linklab.events import Event, StepStarted, TerminalLent, TerminalReturned
from linklab.host.guests import RunningGuest, announced
from linklab.lab.lab import Lab
from linklab.machine.commandline import measuring_command_line
from linklab.report.progress import progress


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningGuest]:
    with (
        announced("nosysfs-[128]", tmp_path / "console-nosysfs-[128].log") as guest,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.bind(str(guest.console))
        sock.listen()
        yield guest


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(isatty=lambda: True, fileno=lambda: 0, flush=lambda: None)
    monkeypatch.setattr(sys, "stdin", there)
    monkeypatch.setattr(sys, "stdout", there)


def test_a_guest_is_kept_only_where_somebody_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO())
    with pytest.raises(UsageError, match="--keep needs a terminal"):
        check_keep(1)


def test_only_one_guest_at_a_time_is_kept(terminal: None) -> None:
    check_keep(1)
    with pytest.raises(UsageError, match="does not go with --jobs 2"):
        check_keep(2)


def test_a_guest_that_is_to_be_kept_survives_its_kernels_failure() -> None:
    assert {"oops=panic", "panic=-1"} <= set(measuring_command_line("ttyS1", None))
    stays = measuring_command_line("ttyS1", None, stays=True)
    assert "panic=0" in stays
    assert not {"oops=panic", "panic=-1"} & set(stays)


def test_guests_are_listed_with_where_their_consoles_go(
    running: RunningGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.list_guests(guests.GuestsOptions())
    out = capsys.readouterr().out
    assert "nosysfs-[128]" in out and str(os.getpid()) in out
    guests.list_guests(guests.GuestsOptions(as_json=True))
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["log"]) == ("nosysfs-[128]", running.log)


def test_no_guests_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    guests.list_guests(guests.GuestsOptions())
    assert capsys.readouterr().out == "no guest runs\n"
    guests.list_guests(guests.GuestsOptions(as_json=True))
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(("left", "told"), [(True, "left"), (False, "the guest has ended")])
def test_a_visit_ends_with_how_it_ended(
    running: RunningGuest,
    terminal: None,
    left: bool,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("linklab.lab.console_access.visit", lambda *_: left)
    shell.main(shell.ShellOptions(guest="last"))
    assert f"nosysfs-[128]: {told}" in capfd.readouterr().err


def test_a_guest_that_has_just_ended_is_told_of(
    running: RunningGuest, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_words: object) -> bool:
        raise ConnectionRefusedError

    monkeypatch.setattr("linklab.lab.console_access.visit", gone)
    with pytest.raises(LabError, match="has just ended"):
        guests.visit_guest("last")


def test_a_visit_needs_a_terminal(running: RunningGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO())
    with pytest.raises(UsageError, match="needs a terminal"):
        guests.visit_guest("last")


def test_nothing_is_drawn_while_the_terminal_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        with progress() as listener:
            begin: list[Event] = [StepStarted("work", 10), TerminalLent()]
            for event in begin:
                listener(event)
            os.set_blocking(ours, False)
            _drain(ours)
            time.sleep(0.3)  # the bars are drawn ten times a second
            assert _drain(ours) == b""
            listener(TerminalReturned())
    os.close(ours)


def _drain(fd: int) -> bytes:
    text = b""
    try:
        while data := os.read(fd, 65536):
            text += data
    except BlockingIOError:
        pass
    return text


EVERY_ONE_THAT_MEASURES: list[Callable[[], object]] = [
    lambda: Running(RunOptions(keep=True)).check(),
    lambda: Comparing(CompareOptions(a="sysfs", b="nosysfs", keep=True)).check(),
    lambda: Calibrating(CalibrateOptions(keep=True)).check(),
    lambda: Profiling(ProfileOptions(keep=True)).check(),
    lambda: check_criterion(CriterionOptions(keep=True)),
    lambda: check_criterion(CriterionOptions(keep=True, arms="group", counts="2", above="1s")),
]


@pytest.mark.parametrize("checked", EVERY_ONE_THAT_MEASURES)
def test_whatever_is_measured_keeps_a_guest_only_where_somebody_sits(
    checked: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", StringIO())
    with pytest.raises(UsageError, match="--keep needs a terminal"):
        checked()
    assert not list(tmp_path.glob("results*"))


def test_self_tests_of_a_revision_keep_no_guest(terminal: None) -> None:
    with pytest.raises(UsageError, match="--keep keeps a guest of the lab's own scenario"):
        check_criterion(CriterionOptions(keep=True, selftest="net"))


@pytest.mark.parametrize("keep", [True, False])
def test_a_revision_that_fails_is_left_to_a_person_where_that_is_asked_for(
    keep: bool, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    labs: list[Lab] = []
    monkeypatch.setattr(judging, "set_up_lab", lambda *_: lab_of())
    monkeypatch.setattr(judging, "KernelTester", lambda _flavour, lab, *_: labs.append(lab))
    criterion = check_criterion(CriterionOptions(keep=keep))
    judging.open_tester(KernelOptions("sysfs"), MachineOptions(), 256, criterion, events.ignore)
    assert (labs[0].hold is not None) is keep
