"""The agent that takes turns, with a file for the I/O ports: it stops no machine here."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agentbox import HARMLESS, Box, boxed, soon

from linklab.agent.protocol import Frame, FrameKind, decode_line, encode_fields, encode_frame, split

pytestmark = pytest.mark.agent

STOP_PORT, STOP = 0x505, b"\1"
SYS_RAWIO = 17
TURNS = "console=ttyS0 linklab.turns"
# A /dev of its own, so that what is written to /dev/port can never reach this machine's ports.
MOUNTS = """
set -e
mkdir dev
mount -t tmpfs dev dev
touch dev/null
mount --bind /dev/null dev/null
if [ -e port ]; then touch dev/port; mount --bind port dev/port; fi
mount --rbind dev /dev
mount --bind cmdline /proc/cmdline
exec "$@"
"""


def own_mounts() -> tuple[str, ...]:
    """What gives the agent mounts of its own, and no right to end or set this machine."""
    if os.geteuid() == 0:
        return ("unshare", "--mount", "sh", "-c", MOUNTS, "sh", *HARMLESS)
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTS, "sh")


@contextmanager
def agent_with(program: Path, folder: Path, command_line: str, *, port: bool) -> Iterator[Box]:
    """Run the agent where the kernel's command line says so, with or without /dev/port."""
    (folder / "cmdline").write_text(command_line + "\n")
    if port:
        (folder / "port").touch()
    trial = subprocess.run(
        [*own_mounts(), "true"], cwd=folder, capture_output=True, text=True, check=False
    )
    if trial.returncode:
        pytest.skip(f"this host does not let us mount: {trial.stderr}")
    (folder / "dev").rmdir()
    with (folder / "stderr").open("wb") as stderr:
        argv = (*own_mounts(), str(program), "-")
        with boxed(argv, cwd=folder, stderr=stderr) as box:
            yield box


def may_not_touch_ports(folder: Path) -> bool:
    """Whether the box takes away what an instruction to a port needs (capabilities(7))."""
    if os.geteuid() != 0:
        return True  # what a namespace of its own gives is no right to this machine's ports
    words = [*HARMLESS, "grep", "CapBnd", "/proc/self/status"]
    said = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    return not int(said.split()[1], 16) >> SYS_RAWIO & 1


@pytest.fixture
def taking_turns(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_with(agent_program, tmp_path, TURNS, port=True) as box:
        yield box


def await_stop(folder: Path) -> None:
    """Wait until the agent stops the machine, and forget that it did."""
    until = soon()
    while (folder / "port").stat().st_size <= STOP_PORT:
        assert time.monotonic() < until, "it does not stop"
        time.sleep(0.01)
    assert (folder / "port").read_bytes() == bytes(STOP_PORT) + STOP
    os.truncate(folder / "port", 0)


def kind_of(line: bytes | None) -> FrameKind | None:
    frame = None if line is None else decode_line(line)
    return frame.kind if isinstance(frame, Frame) else None


class TestWithoutTheWord:
    def test_it_opens_no_ports_and_greets_until_it_is_heard(
        self, agent_program: Path, tmp_path: Path
    ) -> None:
        with agent_with(agent_program, tmp_path, "console=ttyS0", port=True) as box:
            assert [kind_of(box.line()) for _ in range(2)] == [FrameKind.HELLO] * 2
            held = Path(f"/proc/{box.pid}/fd").iterdir()
            assert "/dev/port" not in {str(fd.readlink()) for fd in held}
            box.agent.hello(soon())
            time.sleep(0.3)
            assert (tmp_path / "port").read_bytes() == b""

    def test_a_request_is_done_at_once(self, agent_program: Path, tmp_path: Path) -> None:
        with agent_with(agent_program, tmp_path, "console=ttyS0", port=False) as box:
            box.line()
            took = []
            for _ in range(3):
                began = time.monotonic()
                box.agent.hello(soon())
                took.append(time.monotonic() - began)
            assert min(took) < 0.1, "there is no instant that it waits for"


class TestWithTheWord:
    def test_it_stops_the_machine_when_it_has_greeted(
        self, taking_turns: Box, tmp_path: Path
    ) -> None:
        assert kind_of(taking_turns.line()) is FrameKind.HELLO
        await_stop(tmp_path)

    def test_it_greets_once(self, taking_turns: Box) -> None:
        assert kind_of(taking_turns.line()) is FrameKind.HELLO
        assert taking_turns.line(2.5) is None

    def test_it_stops_the_machine_after_each_reply(self, taking_turns: Box, tmp_path: Path) -> None:
        taking_turns.line()
        await_stop(tmp_path)
        for _ in range(3):
            taking_turns.agent.hello(soon())
            await_stop(tmp_path)

    def test_it_stops_again_only_when_it_has_spoken_again(
        self, taking_turns: Box, tmp_path: Path
    ) -> None:
        taking_turns.line()
        await_stop(tmp_path)
        taking_turns.send(b"somebody else's text\n")
        time.sleep(1.5)
        assert (tmp_path / "port").read_bytes() == b""
        taking_turns.agent.hello(soon())
        await_stop(tmp_path)

    def test_it_waits_for_an_instant_before_a_request_and_for_another_before_timed_work(
        self, taking_turns: Box
    ) -> None:
        taking_turns.line()
        began = time.monotonic()
        taking_turns.agent.hello(soon())
        assert time.monotonic() - began > 0.09
        began = time.monotonic()
        end = taking_turns.agent.run(["/bin/true"], soon())
        assert time.monotonic() - began > 1
        assert end.measure.seconds < 0.9, "what it waited for is no part of the work"

    def test_a_request_that_is_there_is_done_before_it_stops(
        self, taking_turns: Box, tmp_path: Path
    ) -> None:
        taking_turns.line()
        await_stop(tmp_path)
        requests = [
            encode_frame(frame)
            for number in (1, 2)
            for frame in split(FrameKind.REQUEST, number, encode_fields(["hello"]))
        ]
        taking_turns.send(b"".join(requests))
        replies = [taking_turns.frame() for _ in requests]
        assert [(frame.kind, frame.seq) for frame in replies] == [
            (FrameKind.REPLY, 1),
            (FrameKind.REPLY, 2),
        ]
        await_stop(tmp_path)

    def test_it_does_not_begin_where_it_could_not_stop_the_machine(
        self, agent_program: Path, tmp_path: Path
    ) -> None:
        assert may_not_touch_ports(tmp_path), "it would write to a port of this machine"
        with agent_with(agent_program, tmp_path, TURNS, port=False) as box:
            assert box.process.wait(20) == 1
        said = (tmp_path / "stderr").read_text()
        assert "no turns: neither /dev/port nor ioperm: " in said
