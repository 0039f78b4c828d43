"""People at the console of a guest that is at work, and of one that failed."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stage import PANIC, WARNING, Stage, ask

from linklab.commands.guests import hold_here
from linklab.errors import Interrupted, KernelCrashed, LabError, LinklabError, WrongState
from linklab.events import Event, TerminalLent, TerminalReturned
from linklab.host.guests import RunningGuest, find_guest, running_guests
from linklab.lab.session import Session, open_session

pytestmark = pytest.mark.process

LIMIT = 20.0
KNOCK = "hello from the kernel"


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))


class Person(threading.Thread):
    """Goes to the guest that runs, reads up to a text, types, and leaves at another text."""

    def __init__(self, until: str, typed: bytes, leaves_at: str | None) -> None:
        super().__init__()
        self._leaves_at = leaves_at
        self._until = until.encode()
        self._typed = typed
        self.saw = b""

    def run(self) -> None:
        deadline = time.monotonic() + LIMIT
        while not running_guests() and time.monotonic() < deadline:
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT)
            sock.connect(str(find_guest("last").console))
            while self._until not in self.saw:
                self.saw += sock.recv(4096)
            sock.sendall(self._typed)
            while self._leaves_at is not None and self._leaves_at.encode() not in self.saw:
                if not (data := sock.recv(4096)):
                    break
                self.saw += data


def test_a_visitor_looks_on_and_the_work_goes_on(stage: Stage) -> None:
    person = Person(KNOCK, b"\n", leaves_at="until the guest ends")
    talk = [["console", f"{KNOCK}\r\n"], ["sleep", 1.0]]
    with stage.session(request=talk) as opened:
        person.start()
        assert ask(opened) == b"content of /etc/x"
    person.join(LIMIT)
    assert b"you look on" in person.saw
    assert running_guests() == []


def test_a_visitor_who_takes_the_guest_over_ends_the_work(stage: Stage) -> None:
    person = Person(KNOCK, b"\x01t", leaves_at="is yours")
    talk = [["console", f"{KNOCK}\r\n"], ["hang"]]
    person.start()
    with (
        pytest.raises(Interrupted, match="took the guest over"),
        stage.session(request=talk) as opened,
    ):
        ask(opened)
    person.join(LIMIT)
    assert b"the guest is yours" in person.saw
    assert running_guests() == []


def test_a_host_without_a_place_for_doors_measures_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/self/no/where")
    with stage.session() as opened:
        assert ask(opened)


class Keep:
    """Keeps guests that fail; a person looks at each for a moment."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds
        self.kept: list[tuple[str, LinklabError]] = []
        self.alive = False

    @contextmanager
    def __call__(
        self, guest: RunningGuest, verdict: LinklabError
    ) -> Iterator[subprocess.Popen[bytes]]:
        self.kept.append((guest.name, verdict))
        with subprocess.Popen(["sleep", str(self.seconds)]) as person:
            yield person
            self.alive = person.poll() is None
            person.kill()


@contextmanager
def kept_session(stage: Stage, keep: object, **play: object) -> Iterator[Session]:
    with open_session(stage.qemu, stage.spec(**play), stage.log, 30, hold=keep) as opened:  # type: ignore[arg-type]
        yield opened


def test_a_guest_that_crashed_is_kept_with_its_verdict(stage: Stage) -> None:
    keep = Keep()
    with (
        pytest.raises(KernelCrashed) as caught,
        kept_session(stage, keep, request=[["console", WARNING], ["hang"]]) as opened,
    ):
        ask(opened)
    assert keep.kept == [("console", caught.value)]
    assert not keep.alive, "it was given up before the person had left"


def test_a_guest_in_a_wrong_state_is_kept_too(stage: Stage) -> None:
    keep = Keep()
    with pytest.raises(WrongState), kept_session(stage, keep):
        raise WrongState("t7 has mtu 1500 instead of 1400")
    assert len(keep.kept) == 1


def test_a_guest_that_is_gone_cannot_be_kept(stage: Stage) -> None:
    keep = Keep()
    play = [["console", PANIC], ["exit", 0]]
    with pytest.raises(KernelCrashed), kept_session(stage, keep, request=play) as opened:
        ask(opened)
    assert keep.kept == []


def test_a_guest_whose_run_is_interrupted_is_not_kept(stage: Stage) -> None:
    keep = Keep()
    with pytest.raises(Interrupted), kept_session(stage, keep):
        raise Interrupted("interrupted")
    assert keep.kept == []


def test_a_kept_guest_that_ends_sends_its_visitors_away(stage: Stage) -> None:
    keep = Keep(seconds=60)
    play = [["console", WARNING], ["sleep", 1.0], ["exit", 0]]
    with pytest.raises(KernelCrashed), kept_session(stage, keep, request=play) as opened:
        ask(opened)
    assert keep.alive


def test_the_terminal_is_lent_to_whoever_looks(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[Event] = []
    with (
        pytest.raises(KernelCrashed),
        kept_session(
            stage, hold_here(events.append), request=[["console", WARNING], ["hang"]]
        ) as opened,
    ):
        ask(opened)
    assert events == [TerminalLent(), TerminalReturned()]
    said = capfd.readouterr()
    assert "crash: " in said.err and "is kept" in said.err and "is given up" in said.err


def crashed_and_visited(stage: Stage, person: Person) -> None:
    """Let a guest crash while a person is there, who leaves before it is given up."""
    person.start()
    play = [["console", WARNING], ["hang"]]
    with pytest.raises(KernelCrashed), kept_session(stage, Keep(), request=play) as opened:
        ask(opened)
    person.join(LIMIT)


def test_gdb_is_let_in_at_a_key(stage: Stage) -> None:
    person = Person("is yours", b"\x01g", leaves_at="/gdb'")
    crashed_and_visited(stage, person)
    assert b"gdb can attach: gdb vmlinux -ex 'target remote /" in person.saw


def test_a_break_goes_to_the_consoles_port(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[object] = []
    monkeypatch.setattr(
        "linklab.lab.console_access.send_break", lambda _control, port, _s: ports.append(port)
    )
    crashed_and_visited(stage, Person("is yours", b"\x01b", leaves_at=None))
    assert ports == ["console"]


def test_a_qemu_that_does_not_do_it_is_told_of(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object) -> None:
        raise LabError("QEMU did not send a BREAK")

    monkeypatch.setattr("linklab.lab.console_access.send_break", refuse)
    person = Person("is yours", b"\x01b", leaves_at="a BREAK]")
    crashed_and_visited(stage, person)
    assert b"[QEMU did not send a BREAK]" in person.saw
