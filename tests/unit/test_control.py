"""Our end of QEMU's control port: what QEMU says unasked, and letting the machine go on."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from linklab.agent import line as agent_line
from linklab.errors import LabError
from linklab.machine import qmp
from linklab.machine.qmp import Control, registers

STOP: dict[str, Any] = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}
RESUME = {**STOP, "event": "RESUME"}
PANICKED = {**STOP, "event": "GUEST_PANICKED", "data": {"action": "pause"}}


@dataclass
class Peer:
    """QEMU's end. `answers` are the messages that follow a command, with its own answer among them.

    `running` is what it says of its machine, `before` what it says behind its
    greeting unasked.
    """

    port: socket.socket
    running: bool = True
    before: tuple[dict[str, Any], ...] = ()
    around: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = field(
        default_factory=dict
    )
    silent: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def say(self, *messages: dict[str, Any]) -> None:
        """Say some things in one piece."""
        self.port.sendall(b"".join(json.dumps(m).encode() + b"\r\n" for m in messages))

    def serve(self) -> None:
        self.say({"QMP": {"version": {}, "capabilities": []}}, *self.before)
        decoder, pending = json.JSONDecoder(), ""
        while data := self.port.recv(1 << 16):
            pending += data.decode()
            while pending.strip():  # the client puts nothing between its messages
                message, end = decoder.raw_decode(pending)
                pending = pending[end:].lstrip()
                self.asked.append(message["execute"])
                if message["execute"] not in self.silent:
                    self.say(*self._answer(message))

    def _answer(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        result: Any = {}
        if message["execute"] == "query-status":
            result = {"running": self.running, "status": "running"}
        if message["execute"] == "human-monitor-command":
            result = "RIP=0\r\n"
        answer = {"return": result} | {k: v for k, v in message.items() if k == "id"}
        around = self.around.get(message["execute"])
        return around(answer) if around else [answer]


@pytest.fixture
def peer() -> Iterator[tuple[Control, Peer]]:
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    control = Control(ours)
    serving = threading.Thread(target=peer.serve)
    started: list[bool] = []
    control_talk = control.talk

    def talk(*words: Any) -> Any:
        """Let it serve from the first word on: a test says before what it will say."""
        if not started:
            started.append(True)
            serving.start()
        return control_talk(*words)

    control.talk = talk  # type: ignore[assignment, method-assign]
    try:
        yield control, peer
    finally:
        control.close()
        if started:
            serving.join(30)
        theirs.close()
    assert not serving.is_alive()


Both = tuple[Control, Peer]


LOOK = agent_line._LOOK  # what was read and not handed on is found at the next look


def heard_within(control: Control, seconds: float) -> bool:
    """Wait for news as a line does, and hear it."""
    poller = select.poll()
    poller.register(control.fileno(), select.POLLIN)
    until = time.monotonic() + seconds
    while not control.is_stopped and (left := until - time.monotonic()) > 0:
        if poller.poll(min(left, LOOK) * 1000):
            control.hear()
    return control.is_stopped


class TestTheFirstTimeThatItIsAsked:
    def test_a_machine_that_runs_has_not_stopped(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        assert qemu.asked == ["qmp_capabilities", "query-status"]
        assert not control.is_stopped
        assert len(qemu.asked) == 2, "from then on QEMU says it unasked"

    def test_a_machine_that_had_stopped_is_known_to_have(self, peer: Both) -> None:
        control, qemu = peer
        qemu.running = False
        assert control.is_stopped

    def test_a_stop_between_is_one_stop(self, peer: Both) -> None:
        """QEMU told of it, and its status does: it is one stop, and no second one is at hand."""
        control, qemu = peer
        qemu.running = False
        qemu.around["qmp_capabilities"] = lambda answer: [answer, PANICKED, STOP]
        assert control.is_stopped
        control.go_on(10)
        assert not control.is_stopped

    def test_it_may_be_to_go_on(self, peer: Both) -> None:
        control, qemu = peer
        control.go_on(10)
        assert qemu.asked == ["qmp_capabilities", "cont"]
        assert not control.is_stopped


class TestAStop:
    def test_is_heard(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        qemu.say(PANICKED, STOP)
        assert heard_within(control, 30)

    def test_that_comes_in_pieces_is_heard(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        raw = json.dumps(PANICKED).encode() + b"\r\n" + json.dumps(STOP).encode() + b"\r\n"
        qemu.port.sendall(raw[:100])
        control.hear()
        assert not control.is_stopped
        qemu.port.sendall(raw[100:])
        assert heard_within(control, 30)

    @pytest.mark.parametrize(
        "around",
        [
            lambda answer: [answer, PANICKED, STOP],
            lambda answer: [RESUME, answer, STOP],
            lambda answer: [RESUME, STOP, answer],
        ],
    )
    def test_right_behind_the_answer_needs_no_other_news(self, peer: Both, around: Any) -> None:
        """Whoever waited for the port to be readable would wait for ever."""
        control, qemu = peer
        assert not control.is_stopped
        qemu.around["cont"] = around
        control.go_on(10)
        assert heard_within(control, 5)

    def test_at_whatever_instant_behind_the_answer_is_heard_at_once(self, peer: Both) -> None:
        """It may be read off the port, and not be looked at, before one waits for the port."""
        control, qemu = peer
        assert not control.is_stopped
        answered = threading.Event()
        over = False

        def answer_and_tell(answer: dict[str, Any]) -> list[dict[str, Any]]:
            answered.set()
            return [answer]

        def stop() -> None:
            for number in range(200):
                answered.wait()
                answered.clear()
                if over:
                    return
                until = time.monotonic() + (number % 50) * 2e-5
                while time.monotonic() < until:
                    pass
                qemu.say(STOP)

        qemu.around["cont"] = answer_and_tell
        stopping = threading.Thread(target=stop)
        stopping.start()
        try:
            for _ in range(200):
                control.go_on(10)
                began = time.monotonic()
                assert heard_within(control, 20)
                assert time.monotonic() - began < 10
        finally:
            over = True
            answered.set()
            stopping.join()

    def test_is_over_when_the_machine_goes_on(self, peer: Both) -> None:
        control, qemu = peer
        for _ in range(3):
            assert not control.is_stopped
            qemu.say(STOP)
            assert heard_within(control, 30)
            control.go_on(10)

    def test_is_not_made_up_of_other_news(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        qemu.say(RESUME)
        began = time.monotonic()
        control.hear()
        assert time.monotonic() - began < 5, "what is not coming is not waited for"
        assert not control.is_stopped

    def test_is_heard_while_something_else_is_asked(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        qemu.around["human-monitor-command"] = lambda answer: [STOP, answer]
        assert registers(control, 10) == "RIP=0\r\n"
        assert control.is_stopped

    def test_in_which_a_guest_was_saved_is_known_and_not_said(self, peer: Both) -> None:
        control, _ = peer
        assert not control.is_stopped
        control.resumed_stopped()
        assert control.is_stopped
        control.go_on(10)
        assert not control.is_stopped


class TestAQemuThat:
    def test_does_not_let_the_machine_go_on_is_the_labs_fault(self, peer: Both) -> None:
        control, qemu = peer
        qemu.silent = frozenset({"cont"})
        with pytest.raises(LabError, match="did not let the machine go on within"):
            control.go_on(0.3)

    def test_says_nothing_at_all_is_the_labs_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qmp, "_ANSWER_LIMIT", 0.3)
        ours, theirs = socket.socketpair()
        control = Control(ours)
        with theirs:
            with pytest.raises(LabError, match="did not say what its machine does within"):
                _ = control.is_stopped
            control.close()

    def test_is_gone_is_the_labs_fault(self) -> None:
        ours, theirs = socket.socketpair()
        control = Control(ours)
        theirs.close()
        with pytest.raises(LabError, match="did not let the machine go on"):
            control.go_on(10)
        control.close()

    def test_ends_while_one_listens_is_noticed(self, peer: Both) -> None:
        control, qemu = peer
        assert not control.is_stopped
        qemu.port.shutdown(socket.SHUT_RDWR)
        control.hear()
        assert not control.is_stopped
        with pytest.raises(LabError, match="did not let the machine go on"):
            control.go_on(10)

    def test_refuses_is_quoted(self, peer: Both) -> None:
        control, qemu = peer
        qemu.around["cont"] = lambda answer: [
            {"error": {"class": "GenericError", "desc": "no machine"}, "id": answer["id"]}
        ]
        with pytest.raises(LabError, match="no machine"):
            control.go_on(10)


def test_one_that_was_never_used_asks_nothing_and_can_be_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        Control(ours).close()
        assert theirs.recv(1) == b""
