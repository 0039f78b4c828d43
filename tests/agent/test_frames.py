"""The agent's side of the line: every byte sequence that can reach it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, boxed, soon
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.agent.protocol import (
    PART_BYTES,
    Frame,
    FrameKind,
    Torn,
    decode_line,
    encode_fields,
    encode_frame,
    encode_parts_list,
    split,
)

pytestmark = pytest.mark.agent

REQUEST, REPLY, UNKNOWN = FrameKind.REQUEST, FrameKind.REPLY, FrameKind.UNKNOWN
POKE, RESEND = FrameKind.POKE, FrameKind.RESEND


@pytest.fixture
def box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_in_a_box(agent_program, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def steady_box(agent_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One agent for all examples of a property: it has to survive them all."""
    with agent_in_a_box(agent_program, tmp_path_factory.mktemp("steady")) as running:
        yield running


def appending(path: Path, content: bytes = b"x") -> bytes:
    """The body of a request that shows, afterwards, how often it was done."""
    return encode_fields(["write-file", str(path), 0, 1, content])


def request(seq: int, body: bytes) -> list[bytes]:
    return [encode_frame(frame) for frame in split(REQUEST, seq, body)]


class TestGreeting:
    def test_comes_first_and_again_until_the_host_is_heard(self, box: Box) -> None:
        first, second = box.line(), box.line()
        assert first is not None and second is not None
        frames = [decode_line(first), decode_line(second)]
        assert [frame.kind for frame in frames if isinstance(frame, Frame)] == [
            FrameKind.HELLO,
            FrameKind.HELLO,
        ]
        assert box.answers() == []
        assert box.line(seconds=1.5) is None

    def test_waits_for_no_line_that_is_only_noise(self, box: Box) -> None:
        box.send(b"noise\n")
        assert box.line() is not None
        assert box.line() is not None


class TestDamagedRequests:
    def test_are_taken_exactly_as_the_hosts_side_takes_them(self, box: Box, tmp_path: Path) -> None:
        """For each position of a frame: a byte changed, lost, and put in, and a tear."""
        line = request(7, appending(tmp_path / "done"))[0][:-1]
        expected = {"torn": 0, "whole": 0}
        lines = []
        for at in range(len(line)):
            for new in (b"", b"A", b" ", b"\n", b"\r", b"@", bytes([line[at] ^ 1]), b"\0"):
                lines.append(line[:at] + new + line[at + 1 :])
                lines.append(line[:at] + new + line[at:])
            lines.append(line[:at])
        for damaged in lines:
            for piece in damaged.split(b"\n"):
                frame = decode_line(piece)
                expected["torn"] += isinstance(frame, Torn)
                expected["whole"] += isinstance(frame, Frame)
        frames: list[Frame] = []
        for start in range(0, len(lines), 100):
            box.send(b"".join(damaged + b"\n" for damaged in lines[start : start + 100]))
            frames += box.answers()
        assert frames.count(Frame(UNKNOWN, 0)) == expected["torn"]
        assert len([frame for frame in frames if frame.kind is REPLY]) == expected["whole"]
        assert expected["whole"] > 0, "some damage is none: a blank at the end, say"
        assert (tmp_path / "done").read_bytes() == b"x"

    @pytest.mark.parametrize("cut", [1, 10, 30, 60])
    def test_cut_short_by_the_next_cost_nothing_but_themselves(
        self, box: Box, tmp_path: Path, cut: int
    ) -> None:
        line = request(7, appending(tmp_path / "done"))[0]
        box.send(line[:cut] + line)
        assert [frame.kind for frame in box.answers()] == [REPLY]
        assert (tmp_path / "done").read_bytes() == b"x"

    def test_behind_text_of_the_kernel_are_found(self, box: Box, tmp_path: Path) -> None:
        box.send(b"[    1.000000] eth0: @LL1 link up" + request(7, appending(tmp_path / "d"))[0])
        assert [frame.kind for frame in box.answers()] == [REPLY]

    def test_that_end_as_a_terminal_ends_lines_are_found(self, box: Box, tmp_path: Path) -> None:
        box.send(request(7, appending(tmp_path / "d"))[0][:-1] + b"\r\r\n")
        assert [frame.kind for frame in box.answers()] == [REPLY]

    def test_with_something_in_place_of_an_empty_payload_are_torn(self, box: Box) -> None:
        poke = encode_frame(Frame(POKE, 3)).rstrip()
        box.send(poke + b"\n" + poke + b"A\n" + poke + b" \n" + poke + b" A\n")
        assert [frame.seq for frame in box.answers()] == [3, 0, 3, 0]

    def test_of_kinds_that_are_not_for_an_agent_are_ignored(self, box: Box) -> None:
        for kind in (REPLY, UNKNOWN, FrameKind.HELLO):
            box.send(encode_frame(Frame(kind, 3, payload=b"echo")))
        assert box.answers() == []


class TestWorkIsDoneOnce:
    def test_however_often_a_request_comes(self, box: Box, tmp_path: Path) -> None:
        line = request(7, appending(tmp_path / "done"))[0]
        box.send(line * 5)
        replies = box.answers()
        assert [frame.kind for frame in replies] == [REPLY] * 5
        assert len(set(replies)) == 1
        assert (tmp_path / "done").read_bytes() == b"x"

    def test_however_often_a_long_request_comes(self, box: Box, tmp_path: Path) -> None:
        content = bytes(range(256)) * 40
        lines = request(7, appending(tmp_path / "done", content))
        assert len(lines) == 4
        box.send(b"".join(lines * 3))
        assert [frame.kind for frame in box.answers()] == [REPLY] * 3
        assert (tmp_path / "done").read_bytes() == content

    def test_and_again_for_the_next_request(self, box: Box, tmp_path: Path) -> None:
        body = appending(tmp_path / "done")
        box.send(b"".join(request(7, body) + request(8, body) + request(8, body)))
        assert [frame.seq for frame in box.answers()] == [7, 8, 8]
        assert (tmp_path / "done").read_bytes() == b"xx"


class TestLongRequests:
    CONTENT = bytes(range(256)) * 60

    @pytest.fixture
    def lines(self, tmp_path: Path) -> list[bytes]:
        lines = request(7, appending(tmp_path / "done", self.CONTENT))
        assert len(lines) == 6
        return lines

    def finish(self, box: Box, lines: list[bytes], path: Path) -> None:
        """What voided a request must not spoil its repetition."""
        box.send(b"".join(lines))
        (reply,) = box.answers()
        assert (reply.kind, reply.seq) == (REPLY, 7)
        assert path.read_bytes() == self.CONTENT

    @pytest.mark.parametrize("missing", range(5))
    def test_with_a_part_lost_are_unknown_once(
        self, box: Box, lines: list[bytes], tmp_path: Path, missing: int
    ) -> None:
        box.send(b"".join(lines[:missing] + lines[missing + 1 :]))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        self.finish(box, lines, tmp_path / "done")

    @pytest.mark.parametrize("bad", range(6))
    def test_with_a_part_torn_are_unknown_once(
        self, box: Box, lines: list[bytes], tmp_path: Path, bad: int
    ) -> None:
        box.send(b"".join([*lines[:bad], lines[bad][:-9] + b"\n", *lines[bad + 1 :]]))
        assert box.answers() == [Frame(UNKNOWN, 0)]
        self.finish(box, lines, tmp_path / "done")

    def test_with_their_last_part_lost_are_unknown_when_asked_for(
        self, box: Box, lines: list[bytes], tmp_path: Path
    ) -> None:
        box.send(b"".join(lines[:-1]) + encode_frame(Frame(POKE, 7)))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        self.finish(box, lines, tmp_path / "done")

    def test_with_parts_in_another_order_are_unknown(
        self, box: Box, lines: list[bytes], tmp_path: Path
    ) -> None:
        box.send(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        self.finish(box, lines, tmp_path / "done")

    def test_with_a_doubled_part_are_unknown(
        self, box: Box, lines: list[bytes], tmp_path: Path
    ) -> None:
        box.send(b"".join([lines[0], lines[1], lines[1], *lines[2:]]))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        self.finish(box, lines, tmp_path / "done")

    def test_whose_first_part_comes_twice_are_done(
        self, box: Box, lines: list[bytes], tmp_path: Path
    ) -> None:
        self.finish(box, [lines[0], *lines], tmp_path / "done")

    def test_whose_parts_do_not_agree_how_many_they_are_are_unknown(
        self, box: Box, lines: list[bytes], tmp_path: Path
    ) -> None:
        second = Frame(REQUEST, 7, 1, 2, b"the second of two")
        box.send(lines[0] + encode_frame(second))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        self.finish(box, lines, tmp_path / "done")

    @pytest.mark.parametrize(("part", "parts"), [(0, 0), (1, 1), (5, 2), (0xFFFF, 0xFFFF)])
    def test_with_a_part_that_cannot_be_are_not_done(self, box: Box, part: int, parts: int) -> None:
        box.send(encode_frame(Frame(REQUEST, 7, part, parts, encode_fields(["hello"]))))
        assert REPLY not in {frame.kind for frame in box.answers()}


class TestAskingAgain:
    def test_for_a_reply_gives_it_again(self, box: Box, tmp_path: Path) -> None:
        box.send(request(7, appending(tmp_path / "done"))[0] + encode_frame(Frame(POKE, 7)) * 2)
        replies = box.answers()
        assert [frame.kind for frame in replies] == [REPLY] * 3
        assert len(set(replies)) == 1

    def test_for_a_request_that_never_came_says_so(self, box: Box, tmp_path: Path) -> None:
        box.send(encode_frame(Frame(POKE, 7)))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        box.send(encode_frame(Frame(RESEND, 7, payload=encode_parts_list([0]))))
        assert box.answers() == [Frame(UNKNOWN, 7)]
        box.send(request(8, appending(tmp_path / "done"))[0] + encode_frame(Frame(POKE, 7)))
        assert box.answers()[1:] == [Frame(UNKNOWN, 7)]

    def test_for_parts_gives_these_parts(self, box: Box, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(bytes(range(256)) * 100)
        box.send(b"".join(request(7, encode_fields(["read-file", str(tmp_path / "big")]))))
        parts = box.answers()
        assert [frame.part for frame in parts] == list(range(9))
        assert {frame.parts for frame in parts} == {9}
        wanted = encode_parts_list([8, 0, 3, 3, 9, 0xFFFF])
        box.send(encode_frame(Frame(RESEND, 7, payload=wanted)))
        assert box.answers() == [parts[8], parts[0], parts[3], parts[3]]

    def test_for_no_part_gives_none(self, box: Box) -> None:
        box.send(b"".join(request(7, encode_fields(["hello"]))))
        box.answers()
        box.send(encode_frame(Frame(RESEND, 7)))
        box.send(encode_frame(Frame(RESEND, 7, payload=b"\0")))
        assert box.answers() == []


class TestRubbish:
    @pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 300_000])
    def test_without_a_newline_is_survived(self, box: Box, size: int) -> None:
        box.send(b"x" * size + b"\n")
        assert box.answers() == []
        assert box.agent.hello(soon()).nonce != 0

    def test_that_ends_in_the_middle_of_a_frame_costs_a_question(self, box: Box) -> None:
        box.send(b"x" * 65530 + encode_frame(Frame(POKE, 7)))
        assert box.answers() == []

    @settings(max_examples=50)
    @given(st.lists(st.binary(max_size=300), max_size=20))
    def test_of_any_kind_is_survived(self, steady_box: Box, junk: list[bytes]) -> None:
        steady_box.send(b"".join(piece.replace(b"@LL1", b"@LL2") for piece in junk) + b"\n")
        assert steady_box.answers() == []

    @settings(max_examples=100)
    @given(st.binary(max_size=200))
    def test_behind_a_mark_is_unknown(self, steady_box: Box, junk: bytes) -> None:
        steady_box.send(b"@LL1 " + junk.replace(b"\n", b"") + b"\n")
        assert steady_box.answers() == [Frame(UNKNOWN, 0)]


class TestTheEnd:
    def test_of_the_line_is_the_agents(self, box: Box) -> None:
        assert box.agent.hello(soon()).protocol
        assert box.close() == 0

    def test_a_port_that_is_not_there_is_told(self, agent_program: Path, tmp_path: Path) -> None:
        with (tmp_path / "stderr").open("w+b") as stderr:
            with boxed([agent_program, "/dev/no-such-port"], stderr=stderr) as missing:
                assert missing.process.wait(20) == 1
            stderr.seek(0)
            assert stderr.read() == b"linklab-agent: /dev/no-such-port: No such file or directory\n"

    def test_a_virtio_port_that_the_kernel_is_still_making_is_waited_for(
        self, agent_program: Path, tmp_path: Path
    ) -> None:
        """Its node comes first, or late: on a slow host the agent is there before."""
        ours, theirs = pty.openpty()
        port = tmp_path / "vport0p1"
        with boxed([agent_program, str(port)]) as early:
            with pytest.raises(subprocess.TimeoutExpired):
                early.process.wait(0.3)
            port.symlink_to(os.ttyname(theirs))
            assert os.read(ours, 5) == b"@LL1 "
        os.close(ours)
        os.close(theirs)

    def test_no_port_at_all_is_told(self, agent_program: Path) -> None:
        with boxed([agent_program]) as usage:
            assert usage.process.wait(20) == 2


@pytest.mark.parametrize("size", [0, 1, 2, 3, 3070, *range(PART_BYTES - 8, PART_BYTES + 5), 9999])
def test_content_of_any_length_crosses_both_ways(box: Box, tmp_path: Path, size: int) -> None:
    content = bytes((7 * at) % 256 for at in range(size))
    path = str(tmp_path / "file")
    box.agent.write_file(path, content, soon())
    assert Path(path).read_bytes() == content
    assert box.agent.read_file(path, soon()) == content


def test_a_terminal_is_a_port_too(agent_program: Path, tmp_path: Path) -> None:
    """A UART is a tty: what it would echo, translate or signal must not happen."""
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    content = bytes(range(256)) * 3
    question = b"".join(request(7, appending(tmp_path / "done", content)))
    got = b""
    with boxed([agent_program, name]) as box:
        while b"@LL1 h" not in got or not got.endswith(b"\n"):
            got += os.read(ours, 65536)
        os.close(theirs)
        os.write(ours, question)
        while b"@LL1 r" not in got or not got.endswith(b"\n"):
            got += os.read(ours, 65536)
        os.close(ours)
        # Which one depends on whether the hang-up is read as an end or as an error.
        assert box.process.wait(20) in {0, 1}, "a terminal that hangs up is the end"
    frames = [decode_line(line) for line in got.splitlines()]
    assert all(isinstance(frame, Frame) for frame in frames), "nothing is echoed"
    assert (tmp_path / "done").read_bytes() == content
