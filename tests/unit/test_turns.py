"""A machine that stops when its agent has spoken, and goes on with the next request in its port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from model_agent import ModelAgent
from virtual_line import VirtualLine

from linklab.agent import exchange
from linklab.agent.exchange import FIRST_POKE, Exchange
from linklab.agent.line import AgentLine, LineClosed, LineStuck, PollHandler
from linklab.agent.protocol import FrameKind
from linklab.errors import LabError

SOON = 0.2
Pair = tuple[socket.socket, socket.socket]


def soon() -> float:
    return time.monotonic() + SOON


def late() -> float:
    return time.monotonic() + 30


@dataclass
class Machine:
    """A machine as far as a line knows it; `stop` is what it says unasked."""

    port: socket.socket
    news: socket.socket
    theirs: socket.socket
    is_stopped: bool = False
    refuses: str = ""
    arrived: list[bytes] = field(default_factory=list)  # what was in the port when it went on
    limits: list[float] = field(default_factory=list)

    def fileno(self) -> int:
        return self.news.fileno()

    def hear(self) -> None:
        self.is_stopped = b"stop" in self.news.recv(100)

    def go_on(self, limit: float) -> None:
        if self.refuses:
            raise LabError(self.refuses)
        self.is_stopped = False
        self.limits.append(limit)
        self.port.setblocking(False)
        self.arrived.append(self.port.recv(1 << 20))

    def stop(self) -> None:
        self.theirs.sendall(b"stop")


@pytest.fixture
def machine() -> Iterator[Machine]:
    news, theirs = socket.socketpair()
    ours, port = socket.socketpair()
    with news, theirs, ours, port:
        machine = Machine(port, news, theirs)
        yield machine


@pytest.fixture
def line(machine: Machine) -> Iterator[AgentLine]:
    ours, machine.port = socket.socketpair()
    with ours, machine.port:
        yield AgentLine(ours, turns=machine)


def spoken(line: AgentLine, machine: Machine) -> AgentLine:
    machine.port.sendall(b"a reply\n")
    assert line.read_line(late()) == b"a reply"
    return line


class TestARequest:
    def test_is_in_the_port_as_a_whole_when_the_machine_goes_on(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.stop()
        request = b"a request\n" * 3000
        line.send_bytes(request, late())
        assert machine.arrived == [request]
        assert 20 < machine.limits[0] <= 30, "it has the rest of the time to go on"

    def test_waits_for_a_stop_that_comes_later(self, line: AgentLine, machine: Machine) -> None:
        spoken(line, machine)
        timer = threading.Timer(SOON, machine.stop)
        timer.start()
        began = time.monotonic()
        line.send_bytes(b"a request\n", late())
        timer.join()
        assert time.monotonic() - began >= SOON / 2
        assert machine.arrived == [b"a request\n"]

    def test_does_not_wait_for_a_stop_that_was_heard(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.is_stopped = True
        line.send_bytes(b"a request\n", late())
        assert machine.arrived == [b"a request\n"]

    def test_waits_for_each_stop_anew(self, line: AgentLine, machine: Machine) -> None:
        for number in range(3):
            spoken(line, machine)
            machine.stop()
            line.send_bytes(b"%d\n" % number, late())
        assert machine.arrived == [b"0\n", b"1\n", b"2\n"]

    def test_to_a_machine_that_is_at_work_goes_at_once(
        self, line: AgentLine, machine: Machine
    ) -> None:
        """The agent has not spoken since the machine went on, so it stops only when it has."""
        line.send_bytes(b"a request\n", late())
        line.send_bytes(b"are you there\n", late())
        assert machine.arrived == []
        assert machine.port.recv(100) == b"a request\nare you there\n"

    def test_to_a_machine_that_does_not_stop_ends_in_time(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        until = soon()
        with pytest.raises(LineStuck, match="does not stop"):
            line.send_bytes(b"a request\n", until)
        assert until <= time.monotonic() < until + 10
        machine.port.setblocking(False)
        with pytest.raises(BlockingIOError):
            machine.port.recv(1)

    def test_to_a_machine_that_does_not_go_on_is_stuck(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.stop()
        machine.refuses = "QEMU did not let the machine go on within 10 s"
        with pytest.raises(LineStuck, match="did not let the machine go on"):
            line.send_bytes(b"a request\n", late())

    def test_that_the_machine_does_not_take_is_stuck(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.stop()
        with pytest.raises(LineStuck, match="takes no more bytes"):
            line.send_bytes(bytes(1 << 23), soon())

    def test_that_is_larger_than_the_port_follows_when_the_machine_reads_on(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.stop()
        request = bytes(range(256)) * 8192
        found = bytearray()

        def read() -> None:
            machine.port.setblocking(True)
            while len(machine.arrived[0]) + len(found) < len(request):
                found.extend(machine.port.recv(1 << 20))

        reader = threading.Timer(SOON, read)
        reader.start()
        line.send_bytes(request, late())
        reader.join()
        assert 0 < len(machine.arrived[0]) < len(request)
        assert machine.arrived[0] + found == request


class TestTheHandlers:
    """Are looked after while one waits for the stop."""

    def test_are_told(self, line: AgentLine, machine: Machine) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            got = bytearray()

            def ready() -> None:
                got.extend(ours.recv(99))
                machine.stop()

            line.handlers.append(PollHandler(ours.fileno(), ready))
            spoken(line, machine)
            theirs.sendall(b"console")
            line.send_bytes(b"a request\n", late())
            assert got == b"console"

    def test_may_say_that_qemu_ended(self, line: AgentLine, machine: Machine) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            line.handlers.append(PollHandler(ours.fileno(), _ended))
            spoken(line, machine)
            theirs.close()
            with pytest.raises(LineClosed, match="QEMU ended"):
                line.send_bytes(b"a request\n", late())

    def test_say_more_than_that_it_did_not_go_on(self, line: AgentLine, machine: Machine) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            spoken(line, machine)
            line.handlers.append(PollHandler(ours.fileno(), _ended))
            machine.is_stopped = True
            machine.refuses = "QEMU did not let the machine go on: EOF"
            theirs.close()
            with pytest.raises(LineClosed, match="QEMU ended"):
                line.send_bytes(b"a request\n", late())

    def test_say_what_is_wrong_with_themselves(self, line: AgentLine, machine: Machine) -> None:
        def full() -> None:
            raise LabError("the console's log cannot be written")

        ours, theirs = socket.socketpair()
        with ours, theirs:
            line.handlers.append(PollHandler(ours.fileno(), full))
            spoken(line, machine)
            theirs.sendall(b"console")
            with pytest.raises(LabError, match="cannot be written"):
                line.send_bytes(b"a request\n", late())

    @pytest.mark.parametrize("word", ["is_stopped", "hear"])
    def test_say_more_than_that_nothing_is_heard(
        self, line: AgentLine, machine: Machine, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(_machine: Machine) -> bool:
            raise LabError("QEMU did not say what its machine does: EOF")

        said = property(silent) if word == "is_stopped" else silent
        ours, theirs = socket.socketpair()
        with ours, theirs:
            spoken(line, machine)
            monkeypatch.setattr(Machine, word, said, raising=False)
            machine.theirs.sendall(b"stop")
            timer = threading.Timer(0.05, theirs.close)
            timer.start()
            line.handlers.append(PollHandler(ours.fileno(), _ended))
            with pytest.raises(LineClosed, match="QEMU ended"):
                line.send_bytes(b"a request\n", late())
            timer.join()

    @pytest.mark.parametrize("word", ["is_stopped", "hear"])
    def test_that_say_nothing_leave_it_stuck(
        self, line: AgentLine, machine: Machine, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(_machine: Machine) -> bool:
            raise LabError("QEMU did not say what its machine does within 10 s")

        spoken(line, machine)
        said = property(silent) if word == "is_stopped" else silent
        monkeypatch.setattr(Machine, word, said, raising=False)
        machine.theirs.sendall(b"stop")
        with pytest.raises(LineStuck, match="did not say what its machine does"):
            line.send_bytes(b"a request\n", late())

    def test_hear_nothing_of_what_the_agent_says_meanwhile(
        self, line: AgentLine, machine: Machine
    ) -> None:
        spoken(line, machine)
        machine.port.sendall(b"the same reply, asked for twice\n")
        machine.stop()
        line.send_bytes(b"a request\n", late())
        assert machine.arrived == [b"a request\n"]
        assert line.read_line(late()) == b"the same reply, asked for twice"


def _ended() -> None:
    raise LineClosed("QEMU ended")


class TestAwaitingTheStop:
    def test_ends_when_it_was_heard(self, line: AgentLine, machine: Machine) -> None:
        machine.stop()
        line.await_stop(late())
        assert machine.is_stopped

    def test_ends_in_time(self, line: AgentLine) -> None:
        with pytest.raises(LineStuck):
            line.await_stop(soon())

    def test_is_nothing_where_no_turns_are_taken(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            AgentLine(ours).await_stop(0)


def test_in_real_time_nobody_waits_for_a_stop() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = AgentLine(ours)
        theirs.sendall(b"a reply\n")
        assert line.read_line(late()) == b"a reply"
        line.send_bytes(b"a request\n", late())
        assert theirs.recv(100) == b"a request\n"


# Asking what became of a request


class NoTurns:
    """Only that there are turns counts here."""


def asked(line: VirtualLine, seconds: float) -> list[float]:
    """When the lab asked what became of a request that takes so long."""
    line.work_seconds = seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "time", line)
        wanted = Exchange(line, 9, b"work", lambda frame: None)  # type: ignore[arg-type]
        wanted.run("the work", line.now + 600)
    return [at for at, kind in line.kinds_sent() if kind is FrameKind.POKE]


def virtual(taking_turns: bool) -> VirtualLine:
    turns = NoTurns() if taking_turns else None
    return VirtualLine(ModelAgent(), turns=turns)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [1.5, 59.0, 500.0])
def test_in_virtual_time_nothing_is_lost_and_nobody_asks(seconds: float) -> None:
    assert asked(virtual(True), seconds) == []
    assert asked(virtual(False), seconds)[0] == FIRST_POKE
