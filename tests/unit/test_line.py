"""The two lines of a guest, over real sockets."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from linklab.agent.line import AgentLine, ConsoleLine, LineClosed, LineStuck, PollHandler
from linklab.errors import LabError

SOON = 0.2


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def soon() -> float:
    return time.monotonic() + SOON


def late() -> float:
    return time.monotonic() + 30


class TestConsole:
    def test_logs_every_byte_and_watches_it(self, pair: Pair, tmp_path: Path) -> None:
        console = ConsoleLine(pair[0], tmp_path / "console.log")
        headline = b"[    1.000000] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2\r\n"
        said = b"\x1b[2JSeaBIOS\r\n" + headline + bytes(range(256))
        for start in range(0, len(said), 7):
            pair[1].sendall(said[start : start + 7])
            console.read_available()
        console.close()
        assert (tmp_path / "console.log").read_bytes() == said
        assert console.watch.reports
        assert not console.closed

    def test_takes_what_was_said_last_before_the_end(self, pair: Pair, tmp_path: Path) -> None:
        console = ConsoleLine(pair[0], tmp_path / "console.log")
        pair[1].sendall(b"[    1.000000] Kernel panic - not syncing: x")
        pair[1].close()
        console.read_available()
        assert console.closed
        assert console.watch.reports
        console.read_available()
        console.close()

    def test_pumping_ends_while_it_is_flooded(self, pair: Pair, tmp_path: Path) -> None:
        console = ConsoleLine(pair[0], tmp_path / "console.log")
        over = threading.Event()
        sent = 0

        def flood() -> None:
            nonlocal sent
            block = b"[    1.000000] again and again and again\r\n" * 1000
            while not over.is_set():
                sent += pair[1].send(block)

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for _ in range(3):
                began = time.monotonic()
                console.read_available()
                assert time.monotonic() - began < 20
        finally:
            over.set()
            while flooding.is_alive():
                console.read_available()
            flooding.join()
        console.read_available()
        console.close()
        assert (tmp_path / "console.log").stat().st_size == sent

    def test_can_be_typed_at(self, pair: Pair, tmp_path: Path) -> None:
        console = ConsoleLine(pair[0], tmp_path / "console.log")
        console.type(b"ls\n")
        assert pair[1].recv(10) == b"ls\n"
        console.close()

    def test_a_log_that_cannot_be_made_is_the_labs_fault(self, pair: Pair, tmp_path: Path) -> None:
        with pytest.raises(LabError, match=r"no-folder/console\.log cannot be written"):
            ConsoleLine(pair[0], tmp_path / "no-folder" / "console.log")

    def test_a_log_on_a_full_disk_is_the_labs_fault(self, pair: Pair) -> None:
        console = ConsoleLine(pair[0], Path("/dev/full"))
        pair[1].sendall(b"[    1.000000] Kernel panic - not syncing: x\r\n")
        with pytest.raises(LabError, match="No space left"):
            console.read_available()
        assert console.watch.reports, "the watch goes on without the log"
        console.read_available()
        console.close()

    def test_a_log_that_takes_a_part_first_does_not_lose_the_rest_in_silence(
        self, pair: Pair, tmp_path: Path
    ) -> None:
        console = ConsoleLine(pair[0], tmp_path / "console.log")
        pair[1].sendall(b"x" * 5000)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
        try:
            with pytest.raises(LabError, match="cannot be written"):
                console.read_available()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "console.log").stat().st_size == 3000


class TestReading:
    def test_gives_lines_whole_whatever_the_pieces(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        pair[1].sendall(b"one\ntw")
        assert line.read_line(late()) == b"one"
        assert line.read_line(soon()) is None
        pair[1].sendall(b"o\n\nthree\n")
        assert [line.read_line(late()) for _ in range(3)] == [b"two", b"", b"three"]

    def test_gives_what_had_come_also_when_its_time_is_over(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        pair[1].sendall(b"one\ntwo\n")
        assert line.read_line(0) == b"one"
        assert line.read_line(0) == b"two"
        assert line.read_line(0) is None

    def test_ends_in_time_without_a_line(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        until = soon()
        assert line.read_line(until) is None
        assert until <= time.monotonic() < until + 10

    def test_ends_a_line_that_is_longer_than_any_frame(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        writing = threading.Thread(target=pair[1].sendall, args=(b"x" * 500_000 + b"\nlast\n",))
        writing.start()
        got = []
        while (text := line.read_line(late())) != b"last":
            assert text is not None
            got.append(text)
        writing.join()
        assert b"".join(got) == b"x" * 500_000
        assert max(map(len, got)) <= 2 * 65536

    def test_ends_in_time_while_bytes_come_without_an_end(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        over = threading.Event()

        def babble() -> None:
            pair[1].settimeout(0.05)
            while not over.is_set():
                try:
                    pair[1].send(b"x" * 1000)
                except TimeoutError:
                    continue

        babbling = threading.Thread(target=babble)
        babbling.start()
        try:
            until = soon()
            while line.read_line(until) is not None:
                assert time.monotonic() < until + 10
        finally:
            over.set()
            babbling.join()

    @pytest.mark.parametrize("step", [3600, -3600])
    def test_does_not_heed_a_wall_clock_that_jumps(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        line = AgentLine(pair[0])
        true_time = time.time
        calls = iter(range(1_000_000))
        monkeypatch.setattr(time, "time", lambda: true_time() + step * next(calls))
        timer = threading.Timer(SOON / 2, lambda: pair[1].sendall(b"half a line"))
        timer.start()
        until = soon()
        assert line.read_line(until) is None
        assert until <= time.monotonic() < until + 10
        timer.join()
        pair[1].sendall(b"\n")
        assert line.read_line(late()) == b"half a line"

    def test_says_when_the_other_end_is_gone(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        pair[1].sendall(b"last words\nand half")
        pair[1].close()
        assert line.read_line(late()) == b"last words"
        with pytest.raises(LineClosed):
            line.read_line(late())


class TestSending:
    def test_sends_more_than_the_socket_holds(self, pair: Pair) -> None:
        line = AgentLine(pair[0])
        data = bytes(range(256)) * 8192
        got = bytearray()

        def read() -> None:
            while len(got) < len(data):
                got.extend(pair[1].recv(65536))

        reading = threading.Thread(target=read)
        reading.start()
        line.send_bytes(data, late())
        reading.join()
        assert got == data

    def test_ends_in_time_when_nobody_reads(self, pair: Pair) -> None:
        until = soon()
        with pytest.raises(LineStuck):
            AgentLine(pair[0]).send_bytes(bytes(1 << 22), until)
        assert time.monotonic() >= until

    def test_says_when_the_other_end_is_gone(self, pair: Pair) -> None:
        pair[1].close()
        with pytest.raises(LineClosed):
            AgentLine(pair[0]).send_bytes(b"x", late())


class TestHandlers:
    class Ended(Exception):
        pass

    def test_are_looked_after_while_it_reads(self, pair: Pair) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            got = bytearray()
            line = AgentLine(
                pair[0], [PollHandler(ours.fileno(), lambda: got.extend(ours.recv(99)))]
            )
            theirs.sendall(b"console")
            assert line.read_line(soon()) is None
            assert got == b"console"

    def test_are_looked_after_while_it_sends(self, pair: Pair) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            line = AgentLine(pair[0], [PollHandler(ours.fileno(), self._end)])
            theirs.sendall(b"x")
            with pytest.raises(self.Ended):
                line.send_bytes(bytes(1 << 22), late())

    def test_come_behind_what_the_agent_said(self, pair: Pair) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            line = AgentLine(pair[0], [PollHandler(ours.fileno(), self._end)])
            theirs.close()
            pair[1].sendall(b"one\ntwo\n")
            assert line.read_line(late()) == b"one"
            assert line.read_line(late()) == b"two"
            with pytest.raises(self.Ended):
                line.read_line(late())

    def _end(self) -> None:
        raise self.Ended


class Machine:
    """A machine that takes turns; its own socket says that it stopped."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.is_stopped = False
        self.went_on = 0

    def stop(self) -> None:
        self._theirs.send(b"stopped")

    def fileno(self) -> int:
        return self._ours.fileno()

    def hear(self) -> None:
        assert self._ours.recv(100) == b"stopped"
        self.is_stopped = True

    def go_on(self, _limit: float) -> None:
        self.is_stopped = False
        self.went_on += 1

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class TestTurns:
    @pytest.fixture
    def machine(self) -> Iterator[Machine]:
        with closing(Machine()) as machine:
            yield machine

    def test_a_machine_that_stopped_to_be_heard_goes_on(self, pair: Pair, machine: Machine) -> None:
        line = AgentLine(pair[0], turns=machine)
        pair[1].sendall(b"news\n")
        assert line.read_line(late()) == b"news"
        machine.stop()
        line.take_turn(late())
        assert machine.went_on == 1
        assert not line.has_spoken, "what is sent next does not wait for another stop"

    def test_one_that_does_not_stop_is_stuck(self, pair: Pair, machine: Machine) -> None:
        with pytest.raises(LineStuck):
            AgentLine(pair[0], turns=machine).take_turn(soon())
        assert machine.went_on == 0

    def test_a_line_without_turns_has_nothing_to_do(self, pair: Pair) -> None:
        AgentLine(pair[0]).take_turn(soon())
