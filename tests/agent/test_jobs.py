"""A job: a program that runs while the host asks what it has printed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentbox import Box, agent_in_a_box, outcome_of, soon
from processes import is_gone, wait_until_gone

from linklab.agent.client import JobLimits
from linklab.agent.replies import JobNews
from linklab.errors import GuestIncomplete, ProtocolError

pytestmark = pytest.mark.agent

BAD_REQUEST = 1


@pytest.fixture
def box(agent_program: Path, tmp_path: Path) -> Iterator[Box]:
    with agent_in_a_box(agent_program, tmp_path) as running:
        yield running


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def rest_of(box: Box, wait: float = 0.05, job: int = 0) -> tuple[bytes, JobNews]:
    """All that a job still prints, and its end."""
    output = b""
    while True:
        news = box.agent.job_news(wait, soon(), job)
        output += news.output
        if news.wait_status is not None:
            return output, news


def test_it_tells_its_end_and_what_it_printed(box: Box) -> None:
    box.agent.start_job(sh("echo one; echo two >&2; exit 4"), soon())
    output, news = rest_of(box)
    assert (output, news.exit_code) == (b"one\ntwo\n", 4)
    assert news.measure.processes == 1
    assert 0 < news.measure.seconds < 60


def test_it_tells_what_was_printed_while_it_runs(box: Box, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    box.agent.start_job(
        sh(f"echo first; until [ -e {go_on} ]; do sleep 0.01; done; echo last"), soon()
    )
    news = box.agent.job_news(0.0, soon())
    while not news.output:
        news = box.agent.job_news(0.05, soon())
    assert (news.output, news.exit_code) == (b"first\n", None)
    go_on.touch()
    assert rest_of(box)[0] == b"last\n"


def test_it_loses_nothing_of_much_and_waits_where_nobody_asks(box: Box) -> None:
    job = box.agent.start_job(sh("seq 200000"), soon())
    time.sleep(0.3)
    assert not is_gone(job), "a pipe full of unread output must hold it up"
    full = b"".join(b"%d\n" % number for number in range(1, 200001))
    assert rest_of(box)[0] == full


def test_other_requests_are_answered_meanwhile(box: Box) -> None:
    box.agent.start_job(sh("sleep 60"), soon())
    assert box.agent.run(["/bin/echo", "here"], soon()).output == b"here\n"
    box.agent.signal_job(signal.SIGKILL, soon())
    assert rest_of(box)[1].exit_code == -signal.SIGKILL


def test_a_signal_reaches_all_that_it_started(box: Box, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    box.agent.start_job(sh(f"sleep 60 & echo $! > {pids}; echo begun; wait"), soon())
    while not box.agent.job_news(0.05, soon()).output:
        pass
    box.agent.signal_job(signal.SIGTERM, soon())
    assert rest_of(box)[1].exit_code == -signal.SIGTERM
    child = int(pids.read_text())
    wait_until_gone(child)


def test_what_it_left_behind_does_not_hold_up_its_end(box: Box) -> None:
    box.agent.start_job(sh("sleep 20 & echo $!"), soon())
    output, news = rest_of(box)
    assert news.exit_code == 0
    box.agent.run(["/bin/kill", output.decode().strip()], soon())


def test_one_that_closed_its_output_is_waited_for(box: Box) -> None:
    box.agent.start_job(sh("exec >/dev/null 2>&1; sleep 0.3; exit 3"), soon())
    assert rest_of(box, wait=2.0)[1].exit_code == 3


def test_its_input_is_empty(box: Box) -> None:
    box.agent.start_job(["/bin/cat"], soon())
    assert rest_of(box)[1].exit_code == 0


def test_several_are_at_work_and_each_is_asked_for_its_own(box: Box) -> None:
    first = box.agent.start_job(sh("echo one; sleep 60"), soon())
    second = box.agent.start_job(sh("echo two; exit 2"), soon())
    third = box.agent.start_job(sh("exec cat /dev/zero"), soon())  # waits, as nobody asks
    assert rest_of(box, job=second)[0] == b"two\n"
    output = b""
    while output != b"one\n":
        output += box.agent.job_news(0.05, soon(), first).output
    box.agent.signal_job(signal.SIGKILL, soon(), first)
    assert rest_of(box, job=first)[1].exit_code == -signal.SIGKILL
    assert not is_gone(third), "a signal is for the job that it was sent to"
    box.agent.signal_job(signal.SIGTERM, soon())
    output, news = rest_of(box)
    assert (set(output), news.exit_code) == ({0}, -signal.SIGTERM)
    for job in (first, second, third, 1):
        with pytest.raises(ProtocolError, match="no job"):
            box.agent.job_news(0.0, soon(), job)


def test_each_has_a_time_of_its_own(box: Box) -> None:
    brief = box.agent.start_job(sh("sleep 0.2"), soon())
    busy = box.agent.start_job(sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"), soon())
    idle = box.agent.start_job(sh("sleep 1.5"), soon())
    slept = rest_of(box, job=idle)[1].measure
    spent = rest_of(box, job=busy)[1].measure
    assert rest_of(box, job=brief)[1].measure.seconds < slept.seconds - 0.5, "it ended long ago"
    assert spent.user_seconds > slept.user_seconds


def test_there_is_a_limit_to_how_many(box: Box) -> None:
    for _ in range(32):
        box.agent.start_job(["/bin/sleep", "60"], soon())
    with pytest.raises(ProtocolError, match="there are 32, and none is over"):
        box.agent.start_job(["/bin/true"], soon())
    box.agent.signal_job(signal.SIGKILL, soon())
    rest_of(box)
    box.agent.start_job(["/bin/true"], soon())
    assert rest_of(box)[1].exit_code == 0


def test_why_one_never_ran_is_told_of_that_one(box: Box, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    never = box.agent.start_job([str(script)], soon())
    other = box.agent.start_job(sh("sleep 0.2; exit 127"), soon())
    assert rest_of(box, job=other)[1].exit_code == 127
    with pytest.raises(GuestIncomplete, match="script"):
        rest_of(box, job=never)


def test_a_program_that_is_not_there_is_missing_and_leaves_no_job(box: Box) -> None:
    with pytest.raises(GuestIncomplete, match="/no/such"):
        box.agent.start_job(["/no/such"], soon())
    with pytest.raises(ProtocolError, match="no job"):
        box.agent.job_news(0.0, soon())


def test_an_interpreter_that_is_not_there_is_missing(box: Box, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    box.agent.start_job([str(script)], soon())
    with pytest.raises(GuestIncomplete):
        rest_of(box)
    with pytest.raises(ProtocolError, match="no job"):
        box.agent.signal_job(signal.SIGTERM, soon())


@pytest.mark.parametrize(
    "fields",
    [
        ("job-output",),
        ("job-output", 60_001),
        ("job-signal", 0),
        ("job-start", 0),
        ("job-follow", 1, 1, 0, 1, "/bin/true"),
        ("job-follow", 1, 1, 1, 0),
    ],
)
def test_misshapen_requests_are_refused(box: Box, fields: tuple[str | int, ...]) -> None:
    assert outcome_of(box.ask(*fields)) == BAD_REQUEST


# --- followed -------------------------------------------------------------------------


def follow(box: Box, script: str, limits: JobLimits) -> tuple[list[JobNews], JobNews]:
    """A job's news until its last, and that."""
    heard: list[JobNews] = []

    def on_news(news: JobNews) -> float:
        heard.append(news)
        return soon()

    return heard, box.agent.follow_job(sh(script), limits, on_news, soon())


def test_it_is_followed_to_its_end(box: Box) -> None:
    script = "echo first; sleep 0.5; seq 40000; exit 3"
    heard, last = follow(box, script, JobLimits(60.0, 1 << 20, 0.1))
    output = b"".join(news.output for news in (*heard, last))
    assert output == b"first\n" + b"".join(b"%d\n" % number for number in range(1, 40001))
    assert all(news.exit_code is None for news in heard)
    assert last.exit_code == 3
    times = [news.measure.seconds for news in (*heard, last)]
    assert times == sorted(times)
    assert heard[0].output == b"first\n"
    assert heard[0].measure.seconds == pytest.approx(0.1, abs=0.09)


def test_one_whose_time_is_over_goes_on_unfollowed(box: Box) -> None:
    heard, last = follow(box, "echo here; sleep 60", JobLimits(0.3, 1 << 20, 0.1))
    assert b"".join(news.output for news in (*heard, last)) == b"here\n"
    assert last.exit_code is None
    assert 0.3 <= last.measure.seconds < 30
    box.agent.signal_job(signal.SIGKILL, soon())
    assert rest_of(box)[1].exit_code == -signal.SIGKILL


def test_one_that_prints_too_much_is_no_longer_followed(box: Box) -> None:
    heard, last = follow(box, "yes", JobLimits(60.0, 200_000, 1.0))
    assert last.exit_code is None
    assert 200_000 < sum(len(news.output) for news in (*heard, last)) <= 200_000 + 65536
    box.agent.signal_job(signal.SIGKILL, soon())
    rest_of(box)


def test_a_follower_is_told_of_a_program_that_is_not_there(box: Box) -> None:
    with pytest.raises(GuestIncomplete, match="/no/such"):
        box.agent.follow_job(["/no/such"], JobLimits(1.0, 1, 1.0), lambda _: soon(), soon())
