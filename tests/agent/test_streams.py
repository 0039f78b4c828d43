"""A job with three streams of its own: what goes in, what comes out, and how both are held up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, outcome_of, soon
from processes import is_gone

from linklab.agent.protocol import Frame, FrameKind, encode_fields, encode_frame, split
from linklab.agent.replies import StreamNews
from linklab.errors import GuestIncomplete, ProtocolError

pytestmark = pytest.mark.agent

BAD_REQUEST = 1
ROOM = 65536
EVERY_BYTE = bytes(range(256))


@pytest.fixture
def box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_in_a_box(agent_program, tmp_path) as running:
        yield running


def begin(box: Box, script: str, folder: str = "/", **environment: str) -> int:
    environment.setdefault("PATH", os.environ["PATH"])
    return box.agent.open_job(["/bin/sh", "-c", script], folder, environment, soon())


def stream(box: Box, wait: float = 5.0, typed: bytes = b"", *, is_all: bool = False) -> StreamNews:
    return box.agent.stream_job(wait, typed, lambda _: None, soon(), is_all=is_all)


def rest_of(box: Box, typed: bytes = b"", room: int = ROOM) -> tuple[bytes, bytes, StreamNews]:
    """All that a job prints, its input given to it as far as it takes that, and its end."""
    output, errors = b"", b""
    while True:
        now, typed = typed[:room], typed[room:]
        news = stream(box, 0.0 if typed and now else 5.0, now, is_all=not typed)
        output, errors, room = output + news.output, errors + news.errors, news.capacity
        if not news.reads:
            typed = b""
        if news.wait_status is not None:
            return output, errors, news


def exit_code(news: StreamNews) -> int:
    assert news.wait_status is not None
    return os.waitstatus_to_exitcode(news.wait_status)


def test_both_outputs_come_apart_and_so_does_the_status(box: Box) -> None:
    assert begin(box, "echo one; echo two >&2; exit 4") == ROOM
    output, errors, news = rest_of(box)
    assert (output, errors, exit_code(news)) == (b"one\n", b"two\n", 4)
    assert news.measure.processes == 1
    assert 0 < news.measure.seconds < 60


@pytest.mark.parametrize("status", [0, 1, 3, 125, 126, 127, 255])
def test_the_status_is_the_programs_own(box: Box, status: int) -> None:
    begin(box, f"exit {status}")
    assert exit_code(rest_of(box)[2]) == status


@pytest.mark.parametrize(("what", "status"), [("/no/such", 127), ("/etc/passwd", 126)])
def test_what_the_shell_cannot_run_is_told_as_it_tells_it(box: Box, what: str, status: int) -> None:
    begin(box, what)
    _output, errors, news = rest_of(box)
    assert exit_code(news) == status and what.encode() in errors


def test_a_signal_that_kills_it_is_told(box: Box) -> None:
    begin(box, "kill -9 $$")
    assert exit_code(rest_of(box)[2]) == -signal.SIGKILL


def test_every_byte_passes_in_both_directions_at_once(box: Box) -> None:
    data = os.urandom(700_000) + EVERY_BYTE
    begin(box, "tee /dev/stderr")
    output, errors, news = rest_of(box, data)
    assert output == errors == data
    assert exit_code(news) == 0


def test_what_it_prints_comes_while_it_runs(box: Box, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    begin(box, f"echo first; until [ -e {go_on} ]; do sleep 0.01; done; echo last")
    news = stream(box)
    assert (news.output, news.wait_status) == (b"first\n", None)
    go_on.touch()
    assert rest_of(box)[0] == b"last\n"


def test_one_that_prints_much_waits_until_it_is_fetched(box: Box) -> None:
    begin(box, "seq 200000; echo $$ >&2; sleep 0.1")
    time.sleep(0.3)
    first = stream(box)
    assert not first.errors, "its pipe was full"
    full = b"".join(b"%d\n" % number for number in range(1, 200001))
    assert first.output + rest_of(box)[0] == full


def test_input_that_nobody_reads_waits_and_is_taken_in_the_end(box: Box, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    begin(box, f"until [ -e {go_on} ]; do sleep 0.01; done; wc -c")
    room, sent = ROOM, 0
    while room:
        room = stream(box, 0.0, b"x" * room).capacity
        sent += room or 0
        assert sent < 10 * ROOM, "somebody has room without an end"
    box.socket.settimeout(None)
    go_on.touch()
    news = stream(box)  # returns when what had to wait is taken
    assert news.capacity == ROOM and news.wait_status is None
    told = 4 * ROOM + ROOM  # a full pipe, and what the agent keeps
    assert rest_of(box)[0].strip() == b"%d" % told


def test_more_input_than_there_is_room_for_is_refused(box: Box) -> None:
    begin(box, "sleep 60")
    assert outcome_of(box.ask("job-stream", 0, 0, b"x" * (ROOM + 1))) == BAD_REQUEST
    box.agent.signal_job(signal.SIGKILL, soon())
    rest_of(box)


def test_the_end_of_its_input_reaches_it(box: Box) -> None:
    begin(box, "cat; echo over")
    assert stream(box, typed=b"line").output == b"line"
    assert rest_of(box)[0] == b"over\n"


def test_one_that_closes_its_input_does_not_hurt_the_agent(box: Box) -> None:
    begin(box, "exec <&-; echo closed; sleep 60")
    assert stream(box).output == b"closed\n"
    news = stream(box, 0.0, b"nobody reads this")
    assert not news.reads and not news.capacity
    box.agent.signal_job(signal.SIGKILL, soon())
    rest_of(box)
    assert box.agent.run(["/bin/echo", "here"], soon()).output == b"here\n"


def test_a_pipe_that_breaks_kills_what_it_starts_and_not_the_agent(box: Box) -> None:
    begin(box, "yes | head -n 1; echo ${PIPESTATUS:-} done")
    assert b"done" in rest_of(box)[0], "SIGPIPE is as usual for programs"


def test_a_poke_is_answered_at_once(box: Box) -> None:
    begin(box, "sleep 60")
    began = time.monotonic()
    for frame in split(FrameKind.REQUEST, 7, encode_fields(["job-stream", 50_000, 0, b""])):
        box.send(encode_frame(frame))
    box.send(encode_frame(Frame(FrameKind.POKE, 7)))
    assert {box.frame().seq, box.frame().seq} == {7}, "the reply, and again for the poke"
    assert time.monotonic() - began < 20
    box.agent.signal_job(signal.SIGKILL, soon())
    rest_of(box)


def test_a_torn_line_in_the_middle_costs_nothing_but_time(box: Box) -> None:
    begin(box, "cat")
    for number in range(20):
        box.send(b"@LL1 q 0000000" + b"%x\n" % (number % 16))
        typed, echoed = b"%d " % number, b""
        while echoed != b"%d " % number:  # what is sent again ends the wait
            news = stream(box, typed=typed)
            echoed, typed = echoed + news.output, b""
    assert exit_code(rest_of(box)[2]) == 0


def test_it_starts_where_it_is_told_to_with_the_environment_given(box: Box, tmp_path: Path) -> None:
    begin(box, "pwd; env", str(tmp_path), GREETING="good day")
    lines = rest_of(box)[0].decode().splitlines()
    assert lines[0] == str(tmp_path)
    assert "GREETING=good day" in lines
    assert not any(line.startswith("HOME=") for line in lines)
    begin(box, "pwd", "/no/such/folder")
    assert rest_of(box)[0] == b"/\n"


def test_what_it_left_behind_does_not_hold_up_its_end(box: Box) -> None:
    begin(box, "sleep 20 & echo $!")
    output, _errors, news = rest_of(box)
    assert exit_code(news) == 0
    box.agent.run(["/bin/kill", output.decode().strip()], soon())


def test_a_signal_reaches_all_that_it_started(box: Box) -> None:
    begin(box, "sleep 60 & echo $!; wait")
    child = int(stream(box).output)
    box.agent.signal_job(signal.SIGTERM, soon())
    assert exit_code(rest_of(box)[2]) == -signal.SIGTERM
    until = time.monotonic() + 20
    while not is_gone(child):
        assert time.monotonic() < until


def test_a_shell_that_is_not_there_is_missing_and_leaves_no_job(box: Box) -> None:
    with pytest.raises(GuestIncomplete, match="/no/such"):
        box.agent.open_job(["/no/such"], "/", {}, soon())
    with pytest.raises(ProtocolError, match="no job"):
        stream(box)


@pytest.mark.parametrize(
    "fields",
    [
        ("job-stream", 0, 0, ""),
        ("job-open", "/"),
        ("job-open", "/", 0, 0),
        ("job-open", "/", 2, "A=1", 1, "/bin/true"),
        ("share", 1, "tag"),
        ("share", 1, "tag", "not/absolute"),
    ],
)
def test_misshapen_requests_are_refused(box: Box, fields: tuple[str | int, ...]) -> None:
    assert outcome_of(box.ask(*fields)) == BAD_REQUEST


def test_no_file_stays_open_behind_a_job(box: Box) -> None:
    def open_files() -> int:
        return len(list(Path(f"/proc/{box.pid}/fd").iterdir()))

    def one() -> None:
        begin(box, "cat; echo x >&2")
        rest_of(box, b"x")

    one()
    before = open_files()
    for _ in range(5):
        one()
    assert open_files() == before
