"""The server of a guest's console, the terminals at it, and how they find each other."""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import stat
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linklab.agent.line import ConsoleLine
from linklab.errors import LabError, UsageError
from linklab.host.guests import announced, find_guest, running_guests, runtime_folder
from linklab.lab import console_access
from linklab.lab.console_access import ConsoleServer, Key, Keys, TakenOver, visit

LIMIT = 20.0


class Stand:
    """A door, the guest's end of its console, and visitors."""

    def __init__(self, folder: Path) -> None:
        ours, self.guest = socket.socketpair()
        self._ours = ours
        self.console = ConsoleLine(ours, folder / "console.log")
        self.keys: list[Key] = []
        self.path = folder / "console"
        self.door = ConsoleServer(self.console, self.path, self._on_key)
        self.visitors: list[socket.socket] = []

    def _on_key(self, key: Key) -> str:
        self.keys.append(key)
        return "gdb can attach" if key is Key.DEBUGGER else ""

    def knock(self) -> socket.socket:
        visitor = socket.socket(socket.AF_UNIX)
        self.visitors.append(visitor)
        visitor.connect(str(self.path))
        visitor.settimeout(LIMIT)
        self.serve()
        return visitor

    def serve(self) -> None:
        assert select.select([self.door], [], [], LIMIT)[0], "nobody is at the door"
        self.door.serve()

    def says(self, text: bytes) -> None:
        self.guest.sendall(text)
        select.select([self.console], [], [], LIMIT)
        self.console.read_available()

    def typed(self) -> bytes:
        return self.guest.recv(4096)

    def close(self) -> None:
        self.door.close()
        for end in (*self.visitors, self.guest, self._ours):
            end.close()
        self.console.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()


def heard(visitor: socket.socket, until: bytes) -> bytes:
    text = b""
    while until not in text:
        data = visitor.recv(65536)
        assert data, text
        text += data
    return text


# while the lab is at work


def test_a_visitor_sees_what_was_said_and_what_is_said(stand: Stand) -> None:
    stand.says(b"[    0.1] booted\r\n")
    visitor = stand.knock()
    assert b"booted" in heard(visitor, b"you look on")
    stand.says(b"[    0.2] more\r\n")
    assert b"more" in heard(visitor, b"more\r\n")
    assert stand.door.visitors == 1


def test_what_is_typed_into_a_guest_at_work_goes_nowhere(stand: Stand) -> None:
    visitor = stand.knock()
    heard(visitor, b"leaves]")
    visitor.sendall(b"reboot\n\x01b")
    stand.serve()
    assert b"you look on" in heard(visitor, b"leaves]")
    assert stand.keys == []
    stand.guest.setblocking(False)
    with pytest.raises(BlockingIOError):
        stand.guest.recv(1)


def test_a_visitor_can_take_the_guest_over(stand: Stand) -> None:
    visitor = stand.knock()
    visitor.sendall(b"\x01t")
    with pytest.raises(TakenOver):
        stand.serve()
    stand.door.give_over()
    visitor.sendall(b"\r")
    stand.serve()
    assert stand.typed() == b"\r"


# when the guest is left to its visitors


def test_a_guest_given_over_hears_its_visitors(stand: Stand) -> None:
    visitor, other = stand.knock(), stand.knock()
    stand.door.give_over()
    assert b"the guest is yours" in heard(visitor, b"is yours")
    visitor.sendall(b"ip link\r")
    stand.serve()
    assert stand.typed() == b"ip link\r"
    other.sendall(b"\x01\x01c")
    stand.serve()
    assert stand.typed() == b"\x01c"
    third = stand.knock()
    assert b"the guest is yours" in heard(third, b"is yours")


def test_keys_for_the_machine_come_between_what_is_typed(stand: Stand) -> None:
    visitor = stand.knock()
    stand.door.give_over()
    visitor.sendall(b"\x01bt\x01t\x01g")
    stand.serve()
    assert stand.keys == [Key.BREAK, Key.DEBUGGER]
    assert stand.typed() == b"t"
    assert b"[gdb can attach]" in heard(visitor, b"attach]")


# visitors as they are


def test_a_visitor_may_leave_at_any_time(stand: Stand) -> None:
    stand.knock().close()
    stand.serve()
    assert stand.door.visitors == 0
    stand.says(b"[    0.2] nobody looks\r\n")


def test_a_visitor_who_does_not_read_holds_nobody_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_access, "_MOST_UNREAD", 100_000)
    stand.knock()
    reader = stand.knock()
    flood = b"[    1.000000] again\r\n" * 1000
    for _ in range(200):
        stand.says(flood)
        while select.select([reader], [], [], 0)[0]:
            reader.recv(1 << 20)
        if stand.door.visitors == 1:
            break
    assert stand.door.visitors == 1, "the one who reads stays"


def test_what_a_slow_visitor_missed_comes_later(stand: Stand) -> None:
    visitor = stand.knock()
    flood = b"".join(b"[    1.000000] line %d\r\n" % number for number in range(20_000))
    sender = threading.Thread(target=stand.guest.sendall, args=(flood,))
    sender.start()
    while sender.is_alive() or select.select([stand.console], [], [], 0)[0]:
        stand.console.read_available()
    text = b""
    while b"line 19999\r\n" not in text:
        if select.select([stand.door], [], [], 0)[0]:
            stand.door.serve()
        if select.select([visitor], [], [], 0)[0]:
            text += visitor.recv(4096)
    assert flood in text


def test_no_more_visitors_than_there_is_room_for(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_access, "_MOST_VISITORS", 1)
    stand.knock()
    assert stand.knock().recv(100) == b""
    assert stand.door.visitors == 1


def test_another_user_is_not_let_in(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert stand.knock().recv(100) == b""


def test_the_door_is_this_users_and_goes_with_the_guest(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    assert stat.S_IMODE(stand.path.stat().st_mode) == 0o600
    visitor = stand.knock()
    stand.door.close()
    assert not stand.path.exists()
    while visitor.recv(4096):
        pass
    stand.says(b"[    0.2] last words\r\n")
    stand.close()


def test_a_door_that_cannot_be_says_so(tmp_path: Path) -> None:
    ours, guest = socket.socketpair()
    console = ConsoleLine(ours, tmp_path / "console.log")
    with pytest.raises(OSError):
        ConsoleServer(console, tmp_path / "no" / "where", lambda _key: "")
    for end in (ours, guest, console):
        end.close()


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_escapes_are_read_whatever_the_pieces(piece: int) -> None:
    data = b"ab\x01tcd\x01b\x01\x01\x01qef"
    keys = Keys()
    got = [found for at in range(0, len(data), piece) for found in keys.read(data[at : at + piece])]
    text = b"".join(found for found in got if isinstance(found, bytes))
    assert text == b"abcd\x01ef"
    assert [found for found in got if isinstance(found, Key)] == [Key.TAKE_OVER, Key.BREAK]


# the terminal


@pytest.fixture
def visiting(tmp_path: Path) -> Iterator[Callable[[], tuple[socket.socket, int, list[bool]]]]:
    """Let a pseudo-terminal visit a socket: the door's end, the person's end, how it ended."""
    path = tmp_path / "console"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    person, terminal = pty.openpty()
    ended: list[bool] = []
    going = threading.Thread(target=lambda: ended.append(visit(path, terminal, terminal)))

    def begin() -> tuple[socket.socket, int, list[bool]]:
        going.start()
        sock, _ = listener.accept()
        sock.settimeout(LIMIT)
        until = time.monotonic() + LIMIT
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            assert time.monotonic() < until, "the terminal was never made raw"
        return sock, person, ended

    yield begin
    going.join(LIMIT)
    assert not going.is_alive()
    assert termios.tcgetattr(terminal)[3] & termios.ECHO, "the terminal is left raw"
    for fd in (person, terminal):
        os.close(fd)
    listener.close()


Begin = Callable[[], tuple[socket.socket, int, list[bool]]]


def until_ended(ended: list[bool]) -> bool:
    until = time.monotonic() + LIMIT
    while not ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    return ended[0]


def test_a_terminal_shows_and_sends_every_key_and_leaves(visiting: Begin) -> None:
    sock, person, ended = visiting()
    sock.sendall(b"~ # ")
    assert os.read(person, 100) == b"~ # "
    os.write(person, b"ls\x03\x01t")
    got = b""
    while len(got) < 5:
        got += sock.recv(100)
    assert got == b"ls\x03\x01t"
    os.write(person, b"\x01")
    assert sock.recv(100) == b"\x01"
    os.write(person, b"x")
    assert until_ended(ended) is True
    sock.close()


def test_a_terminal_is_given_back_when_the_guest_ends(visiting: Begin) -> None:
    sock, _, ended = visiting()
    sock.close()
    assert until_ended(ended) is False


def test_typing_that_ends_is_a_wish_to_leave(tmp_path: Path) -> None:
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        read, write = os.pipe()
        os.write(write, b"text\x01x and more")
        os.close(write)
        assert visit(path, read, 1) is True
        os.close(read)
        sock, _ = listener.accept()
        assert sock.recv(100) == b"text"
        sock.close()


# who runs


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "linklab"


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_a_guest_is_found_while_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "run-7" / "console-nosysfs-128.log"
    with announced("nosysfs-128", log) as guest, listening(guest.console):
        for word in ("last", "nosysfs-128", "nosys", "run-7"):
            assert find_guest(word) == guest
    assert running_guests() == []


def test_a_word_must_name_exactly_one_guest(tmp_path: Path) -> None:
    with (
        announced("sysfs-128", tmp_path / "a.log") as one,
        announced("nosysfs-128", tmp_path / "b.log") as other,
        listening(one.console),
        listening(other.console),
    ):
        assert find_guest("sysfs-128") == one
        assert find_guest("b.log") == find_guest("last") == other
        with pytest.raises(UsageError, match="2 guests are called so; running are sysfs-128"):
            find_guest("128")
        with pytest.raises(UsageError, match="no guest runs that is called so"):
            find_guest("debug")


def test_without_a_guest_none_is_found() -> None:
    with pytest.raises(UsageError, match="running are none"):
        find_guest("last")


def test_what_a_killed_lab_left_is_cleared_away(runtime: Path) -> None:
    runtime_folder()
    left = runtime / "guest-left"
    left.mkdir()
    about = {"name": "x", "log": "x", "pid": 0x7FFFFFFF, "since": 0.0, "folder": str(left)}
    (left / "guest.json").write_text(json.dumps(about))
    (runtime / "guest-new").mkdir()  # another lab is about to announce it
    assert running_guests() == []
    assert not left.exists()
    assert (runtime / "guest-new").exists()


def test_a_runtime_folder_that_others_may_enter_is_not_used(runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    with pytest.raises(LabError, match="not this user's alone"):
        runtime_folder()


def test_no_runtime_folder_is_the_labs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/self/no/where")
    with pytest.raises(LabError, match="cannot be made"):
        runtime_folder()


def test_without_a_session_of_the_desktop_there_is_one_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_folder() == Path(f"/tmp/linklab-{os.geteuid()}")
