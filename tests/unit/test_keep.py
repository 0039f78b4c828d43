"""`--keep`, `invoke guests`, `invoke shell --guest`: what they refuse and what they show."""

from __future__ import annotations

import json
import os
import pty
import socket
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from linklab.commands import guests
from linklab.commands.guests import check_keep
from linklab.errors import LabError, UsageError
from linklab.events import Event, StepStarted, TerminalLent, TerminalReturned
from linklab.host.guests import RunningGuest, announced
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
    monkeypatch.setattr(guests, "visit", lambda *_: left)
    guests.open_shell(guests.ShellOptions(guest="last"))
    assert f"nosysfs-[128]: {told}" in capfd.readouterr().err


def test_a_guest_that_has_just_ended_is_told_of(
    running: RunningGuest, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_words: object) -> bool:
        raise ConnectionRefusedError

    monkeypatch.setattr(guests, "visit", gone)
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
