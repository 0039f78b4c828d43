"""A QEMU without a machine in it: a real process that plays what a test wrote.

It takes QEMU's command line, finds the two serial ports that it inherits, and
reads its play from the file that the kernel's command line names: for each of
the stages a list of actions, done in order. What a play does not say goes well.

    boot      before the agent greets; one that waits for a saved state skips it
    migrate   QMP asks to save or to take up the state
    request   the agent is at work; `replied`: it has answered
    spoken    only in virtual time: the agent has spoken, and the machine stops
    go on     only in virtual time: QMP lets the machine go on
    ready     the kernel's taint has been read: after the greeting, and at the end
    break     a BREAK arrives at the console, for sysrq
    log       no actions: what the kernel's log holds
    taint     no actions: what the kernel answers, each time that it is asked
    end       the agent is asked to power off; `ended`: it has said its last word
    stream    a job's streams are asked for, again and again: actions up to `news` or `over`
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, socket
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from model_agent import ModelAgent, fields_of, hello_fields  # noqa: E402

from linklab.agent.protocol import Frame, FrameKind, encode_fields, encode_frame  # noqa: E402
from linklab.console.taint import PATH as TAINT  # noqa: E402

LOG = b"/dev/kmsg"
JOB_ROOM = 65536  # bytes of input that a job takes at once
Play = dict[str, list[list[Any]]]
STAMP = {"timestamp": {"seconds": 0, "microseconds": 0}}
FLOOD_LINE = "[%5d.000000] again and again, for the %d. time, says the kernel\r\n"


def flood_text(first: int, count: int) -> bytes:
    """So many lines of the kernel, each another one."""
    return "".join(FLOOD_LINE % (n % 99999, n) for n in range(first, first + count)).encode()


class FakeQemu:
    """One run of the program."""

    def __init__(self, argv: Sequence[str], play: Play) -> None:
        self.argv = list(argv)
        self.console = self._port(argv, "console")
        self.agent_port = self._port(argv, "agent")
        self.incoming = "-incoming" in argv
        self.migration = "completed"
        self.is_virtual = "-icount" in argv
        self.runs = threading.Event()
        self.is_listened_to = threading.Event()  # QMP says nothing unasked before
        controlled = "chardev=control,mode=control" in argv
        self.control = self._port(argv, "control") if controlled else None
        self.play = play
        self.model = ModelAgent(self._work)
        self.replying: str | None = None
        self.actions: dict[str, Callable[..., None]] = {
            "console": lambda text: self.console.sendall(text.encode("latin-1")),
            "agent": lambda text: self.agent_port.sendall(text.encode("latin-1")),
            "stderr": lambda text: print(text, file=sys.stderr, flush=True),
            "exit": self._exit,
            "kill": lambda number: os.kill(os.getpid(), number),
            "sleep": time.sleep,
            "hang": lambda: time.sleep(600),
            "hello": self._hello,
            "flood": lambda first, count: self.console.sendall(flood_text(first, count)),
            "flood beside": self._flood_beside,
            "close": lambda name: getattr(self, name).shutdown(SHUT_RDWR),
            "reply": lambda how: setattr(self, "replying", how),
            "migration": lambda status: setattr(self, "migration", status),
            "stop": self._stop,
            "go on": self.runs.set,
        }
        self.big_lock = threading.RLock()  # it stops, and says so, between two commands of QMP
        self.woken = b""  # what `resume` brought
        self.typed = b""  # a job's input, not echoed yet
        self.signals: list[int] = []  # what a job was sent
        if not (self.incoming and self.is_virtual):
            self.runs.set()

    @staticmethod
    def _port(argv: Sequence[str], name: str) -> socket:
        chardev = re.compile(rf"socket,id={name},fd=(\d+)")
        (fd,) = [int(found[1]) for word in argv if (found := chardev.fullmatch(word))]
        return socket(fileno=fd)

    def run(self) -> None:
        """Boot, and serve for as long as somebody listens."""
        if self.control:
            qmp = threading.Thread(target=self._serve_qmp, args=(self.control,), daemon=True)
            qmp.start()
        if not self.incoming:
            self.stage("boot", [["hello", 77]])
            self._give_the_word()
        self.listen_for_gdb()
        pending = b""
        while data := self._heard():
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self.agent_port.sendall(b"".join(self._damaged(self.model.hear(line))))
                operation, *fields = fields_of(self.model.done[-1]) if self.model.done else [b""]
                if operation == b"power-off":
                    self.stage("ended", [["exit", 0]])
                self.stage("ready" if fields == [TAINT.encode()] else "replied", [])
            self._give_the_word()

    def _heard(self) -> bytes:
        self.runs.wait()
        return self.agent_port.recv(1 << 16)

    def _give_the_word(self) -> None:
        """In virtual time stop until the lab has put the next request into the port."""
        if self.is_virtual:
            self.stage("spoken", [["stop"]])

    def _stop(self) -> None:
        assert self.control
        with self.big_lock:
            self.runs.clear()
            if self.is_listened_to.is_set():
                self._say(self.control, {"event": "GUEST_PANICKED", **STAMP})
                self._say(self.control, {"event": "STOP", **STAMP})

    def _exit(self, status: int) -> None:
        with self.big_lock:  # its main loop answers a command before it ends
            os._exit(status)

    def _say(self, port: socket, message: dict[str, Any]) -> None:
        port.sendall(json.dumps(message).encode() + b"\r\n")

    def listen_for_gdb(self) -> None:
        """Let gdb find a socket, and nobody behind it."""
        if "-gdb" in self.argv:
            chardev = self.argv[self.argv.index("-gdb") + 1]
            self.stub = socket(AF_UNIX)
            self.stub.bind(chardev.removeprefix("unix:").partition(",")[0])
            self.stub.listen()

    def stage(self, name: str, default: list[list[Any]]) -> None:
        """Do the actions of a stage."""
        for action, *arguments in self.play.get(name, default):
            self.actions[action](*arguments)

    def _work(self, body: bytes) -> bytes:  # noqa: PLR0911 - one operation after the other
        operation, *fields = fields_of(body)
        if operation == b"hello":
            return encode_fields([0, *hello_fields(self.model.nonce)])
        if operation == b"resume":
            self.woken = b"".join(fields)
            return encode_fields([0, self.model.nonce, 4711])
        if operation == b"read-file" and (content := self._known(fields[0])) is not None:
            return encode_fields([0, content])
        if operation == b"job-open":
            return encode_fields([0, 51, JOB_ROOM])
        if operation == b"job-signal":
            self.signals.append(int.from_bytes(fields[1], "little"))  # behind the job's number
            return encode_fields([0])
        if operation == b"job-stream":
            return self._stream(fields)
        if operation == b"power-off":
            self.stage("end", [])
            return encode_fields([0, "end"])
        self.stage("request", [])
        if self.replying == "refused":
            return encode_fields([3, 19, 0, "No such device"])
        return encode_fields([0, b"content of " + fields[0]])

    def _stream(self, fields: Sequence[bytes]) -> bytes:
        """Play a job's streams up to what the lab is told: news, or the end.

        `news` is standard output and standard error; `over` the wait status with
        both. "TYPED" stands for the input so far, "SIGNALS" for the signals.
        """
        _job, _wait, is_last, typed = fields
        self.typed += typed
        is_all = bool(int.from_bytes(is_last, "little"))
        script = self.play["stream"]
        while True:
            action, *arguments = script[0]
            if action == "until typed" and not is_all:
                return self._told(0, None, "", "")
            if action == "until signal" and not self.signals:
                time.sleep(0.01)
                return self._told(0, None, "", "")
            if action != "for ever":
                script.pop(0)
            if action in {"until typed", "until signal"}:
                continue
            if action == "news":
                return self._told(0, None, *arguments)
            if action == "over":
                return self._told(1, *arguments)
            if action == "for ever":
                return self._told(0, None, *arguments)
            self.actions[action](*arguments)

    def _told(self, ended: int, status: int | None, output: str, errors: str) -> bytes:
        shown = [self._meant(text) for text in (output, errors)]
        measure = [1_000_000, 0, 0, 0, 1, 0]
        return encode_fields([0, ended, status or 0, *measure, 1, JOB_ROOM, *shown])

    def _meant(self, text: str) -> bytes:
        if text == "TYPED":
            typed, self.typed = self.typed, b""
            return typed
        if text == "SIGNALS":
            return " ".join(map(str, self.signals)).encode()
        return text.encode("latin-1")

    def _known(self, path: bytes) -> str | bytes | None:
        """What the kernel says of itself, and the lab has said; None of any other file."""
        if path in (TAINT.encode(), LOG):
            return self._of_the_kernel(path)
        said = {b"/woken": self.woken, b"/number": b"%d" % self.model.heard[-1].seq}
        return said.get(path)

    def _of_the_kernel(self, path: bytes) -> str:
        """What the kernel says of itself; of a list of taints the last one stays."""
        if path == LOG:
            return str(self.play.get("log", [[""]])[0][0])
        values = self.play.get("taint", [[0]])
        taint = values.pop(0) if len(values) > 1 else values[0]
        return f"{taint[0]}\n"

    def _damaged(self, lines: list[bytes]) -> list[bytes]:
        how, self.replying = self.replying, None
        if how == "half" and lines:
            self.agent_port.sendall(lines[0][: len(lines[0]) // 2])
            self.stage("half", [["exit", 1]])
        if how == "torn":
            return [line[:25] + b"[    1.000000] in between\r\n" + line[25:] for line in lines]
        return [] if how == "lost" else lines

    def _serve_qmp(self, port: socket) -> None:
        """Speak QMP as far as saving and resuming a guest goes."""
        self._say(port, {"QMP": {"version": {}, "capabilities": []}})
        decoder, pending = json.JSONDecoder(), ""
        while data := port.recv(1 << 16):
            pending += data.decode()
            while pending.strip():  # the client puts nothing between its messages
                message, end = decoder.raw_decode(pending)
                pending = pending[end:].lstrip()
                with self.big_lock:
                    answer = {"return": self._execute(**message), "id": message.get("id")}
                    self._say(port, answer)

    def _execute(
        self, execute: str, arguments: dict[str, Any] | None = None, id: object = None
    ) -> Any:
        if execute == "human-monitor-command":
            return "CPU#0\r\nRAX=0 RBX=0\r\nRIP=ffffffff813dfaeb RFL=246\r\n"
        if execute == "chardev-send-break":
            self.stage("break", [])
        if execute == "query-migrate":
            return {"status": self.migration}
        if execute == "qmp_capabilities":
            self.is_listened_to.set()
        if execute == "query-status":
            return {"running": self.runs.is_set(), "status": "running"}
        if execute == "cont":
            self.stage("go on", [["go on"]])
        if execute == "migrate" and self.is_virtual and self.runs.is_set():
            self.migration = "failed"  # it would be saved at some instant, and not at its last word
        if execute.startswith("migrate") and arguments and "uri" in arguments:
            self.stage("migrate", [])
            if (command := arguments["uri"].removeprefix("exec:")) != arguments["uri"]:
                os.system(command + " < /dev/null")
        return {}

    def _hello(self, nonce: int, version: int = 1) -> None:
        self.model.nonce = nonce
        body = encode_fields([0, *hello_fields(nonce, version)])
        self.agent_port.sendall(encode_frame(Frame(FrameKind.HELLO, 0, payload=body)))

    def _flood_beside(self, first: int, count: int) -> None:
        flood = self.actions["flood"]
        self.flooding = threading.Thread(target=flood, args=(first, count), daemon=True)
        self.flooding.start()


def main(argv: Sequence[str]) -> None:
    """Play, and end as QEMU does when its guest resets."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    (path,) = re.findall(r"play=(\S+)", argv[argv.index("-append") + 1])
    FakeQemu(argv, json.loads(Path(path).read_text())).run()


if __name__ == "__main__":
    main(sys.argv)
