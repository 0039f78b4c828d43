"""The agent as an object: its greeting, what it is asked, what its answers mean."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_agent import ModelAgent, fields_of, hello_fields
from virtual_line import VirtualLine, lost, only, torn, unrecognizable

from linklab.agent import client, exchange
from linklab.agent.client import Agent, AgentRestarted, JobLimits
from linklab.agent.protocol import Field, Frame, FrameKind, encode_fields, encode_frame
from linklab.agent.replies import JobNews, Measure, MessageRun, NotificationCount, StreamNews
from linklab.errors import (
    GuestHung,
    GuestIncomplete,
    LabError,
    LinklabError,
    ProtocolError,
    RequestRefused,
)

MEASURE: list[Field] = [1_500_000_000, 250_000, 125_000, 7, 3, 4]


@pytest.fixture
def line() -> Iterator[VirtualLine]:
    """A virtual line whose clock is everybody's."""
    virtual = VirtualLine(ModelAgent())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "time", virtual)
        patch.setattr(client, "time", virtual)
        yield virtual


def agent_on(line: VirtualLine, *reply: Field, outcome: int = 0) -> Agent:
    line.agent.work = lambda body: encode_fields([outcome, *reply])
    return Agent(line)  # type: ignore[arg-type]


def asked(line: VirtualLine) -> list[bytes]:
    """The fields of the only request that the agent got."""
    (body,) = line.agent.done
    return fields_of(body)


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


class TestGreeting:
    def test_tells_who_answers(self, line: VirtualLine) -> None:
        line.arrives(line.agent.hello(), at=1000.7)
        hello = agent_on(line).wait_for_hello(1010)
        assert (hello.release, hello.machine, hello.clocksource) == ("6.12.0", "x86_64", "tsc")
        assert hello.clock_resolution == 1e-9
        assert (hello.cpus, hello.memory, hello.uptime) == (2, 262144, 3.0)
        assert line.now == 1000.7
        assert line.sent == []

    def test_comes_behind_what_the_firmware_says(self, line: VirtualLine) -> None:
        line.arrives(b"SeaBIOS (version 1.16)\r\n\x1b[2J\r\n", at=1000.1)
        line.arrives(b"Booting..." + line.agent.hello(), at=1000.7)
        assert agent_on(line).wait_for_hello(1010).nonce == 77

    @pytest.mark.parametrize("spare", [0.0, 2.0])
    def test_that_came_torn_is_asked_for(self, line: VirtualLine, spare: float) -> None:
        line.arrives(torn(line.agent.hello()), at=1000.7)
        if spare:
            line.to_agent = only(1, lost)
        agent = agent_on(line, *hello_fields(77))
        assert agent.wait_for_hello(1010).nonce == 77
        assert line.now - 1000.7 < 0.1 + spare

    def test_that_got_lost_is_heard_the_next_time(self, line: VirtualLine) -> None:
        line.arrives(unrecognizable(line.agent.hello()), at=1000.7)
        line.arrives(line.agent.hello(), at=1001.7)
        assert agent_on(line).wait_for_hello(1010).nonce == 77

    def test_that_does_not_come_is_a_hang(self, line: VirtualLine) -> None:
        with pytest.raises(GuestHung, match="did not start its agent"):
            agent_on(line).wait_for_hello(1010)
        assert line.now == 1010

    @pytest.mark.parametrize(("denied", "until"), [(0.5, 1020), (0.75, 1040), (0.99, 1050)])
    def test_a_busy_hosts_guest_has_the_time_that_it_was_denied_on_top(
        self, line: VirtualLine, denied: float, until: float
    ) -> None:
        line.denied = denied
        with pytest.raises(GuestHung, match="did not start its agent"):
            agent_on(line).wait_for_hello(1010)
        assert line.now == pytest.approx(until)
        line.to_agent = lost
        with pytest.raises(GuestHung):
            agent_on(line).read_file("/proc/version", line.now + 10)
        assert line.now == pytest.approx(until + (until - 1000), abs=0.6)

    def test_that_does_not_come_among_noise_is_a_hang(self, line: VirtualLine) -> None:
        line.babble = b"[    1.000000] more and more"
        with pytest.raises(GuestHung, match="did not start its agent"):
            agent_on(line).wait_for_hello(1005)
        assert line.now < 1006

    def test_of_another_version_is_refused(self, line: VirtualLine) -> None:
        body = encode_fields([0, *hello_fields(1, version=999)])
        line.arrives(encode_frame(Frame(FrameKind.HELLO, 0, payload=body)), at=1000.7)
        with pytest.raises(ProtocolError, match="protocol 999"):
            agent_on(line).wait_for_hello(1010)

    @pytest.mark.parametrize(
        "body",
        [b"", b"\1", encode_fields([0]), encode_fields([0, 1, "6.12"]), encode_fields([9])],
    )
    def test_that_makes_no_sense_is_refused(self, line: VirtualLine, body: bytes) -> None:
        line.arrives(encode_frame(Frame(FrameKind.HELLO, 0, payload=body)), at=1000.7)
        with pytest.raises(ProtocolError):
            agent_on(line).wait_for_hello(1010)

    def test_from_another_agent_ends_a_request(self, line: VirtualLine) -> None:
        line.arrives(line.agent.hello(), at=1000.5)
        agent = agent_on(line)
        agent.wait_for_hello(1010)
        line.to_agent = lost
        line.arrives(ModelAgent(nonce=78).hello(), at=1001.5)
        with pytest.raises(AgentRestarted):
            agent.read_file("/proc/version", 1010)

    def test_from_the_same_agent_is_no_news(self, line: VirtualLine) -> None:
        line.arrives(line.agent.hello() * 2, at=1000.5)
        agent = agent_on(line, b"text")
        agent.wait_for_hello(1010)
        line.arrives(line.agent.hello(), at=1000.5)
        assert agent.read_file("/proc/version", 1010) == b"text"


class TestRequests:
    def test_have_numbers_of_their_own(self, line: VirtualLine) -> None:
        agent = agent_on(line, b"text")
        for path in ("/a", "/b"):
            agent.read_file(path, 1010)
        first, second = (frame.seq for frame in line.agent.heard)
        assert 0 < first < second < 1 << 32

    def test_of_another_lab_are_not_taken_for_ones_own(self, line: VirtualLine) -> None:
        """A saved guest goes on with what it answered before; each lab counts for itself."""
        for number in range(20):
            assert agent_on(line, b"%d" % number).read_file("/a", 1010) == b"%d" % number

    def test_run(self, line: VirtualLine) -> None:
        end = agent_on(line, 0, *MEASURE, b"said").run(["/bin/ip", "link"], 1010)
        assert asked(line) == [b"run", number(2), b"/bin/ip", b"link"]
        assert (end.done, end.exit_code, end.output) == (1, 0, b"said")
        assert end.measure.seconds == 1.5
        assert (end.measure.user_seconds, end.measure.system_seconds) == (0.25, 0.125)
        assert end.measure.context_switches == 7
        assert (end.measure.processes, end.measure.messages) == (3, 4)

    @pytest.mark.parametrize(("status", "code"), [(2 << 8, 2), (9, -9), (11 | 0x80, -11)])
    def test_run_tells_failure_from_death(self, line: VirtualLine, status: int, code: int) -> None:
        end = agent_on(line, status, *MEASURE, b"").run(["/bin/false"], 1010)
        assert (end.done, end.exit_code) == (0, code)

    def test_run_each(self, line: VirtualLine) -> None:
        agent = agent_on(line, 12, 1 << 8, *MEASURE, b"no such link")
        end = agent.run_each(["/bin/ip", "d{}"], 5, 20, 1010, dump_first=True)
        assert asked(line) == [b"run-each", *map(number, (5, 20, 1, 2)), b"/bin/ip", b"d{}"]
        assert (end.done, end.exit_code) == (12, 1)

    def test_start_job(self, line: VirtualLine) -> None:
        assert agent_on(line, 123).start_job(["/bin/sh", "x"], 1010) == 123
        assert asked(line) == [b"job-start", number(2), b"/bin/sh", b"x"]

    def test_job_news(self, line: VirtualLine) -> None:
        news = agent_on(line, 0, 0, *MEASURE, b"so far").job_news(0.25, 1010)
        assert asked(line) == [b"job-output", number(0), number(250)]
        assert news == JobNews(b"so far", Measure(1.5, 0.25, 0.125, 7, 3, 4))
        assert news.exit_code is None

    def test_the_last_job_news(self, line: VirtualLine) -> None:
        news = agent_on(line, 1, 4 << 8, *MEASURE, b"rest").job_news(0.0, 1010)
        assert (news.output, news.exit_code) == (b"rest", 4)
        assert news.measure.seconds == 1.5

    def test_follow_job(self, line: VirtualLine) -> None:
        agent = agent_on(line, 1, 4 << 8, *MEASURE, b"rest")
        line.work_seconds = 5.0
        told = encode_fields([0, 0, *MEASURE, b"so far"])
        line.arrives(encode_frame(Frame(FrameKind.NEWS, agent._seq + 1, payload=told)), 1002.0)
        heard: list[JobNews] = []

        def on_news(news: JobNews) -> float:
            heard.append(news)
            return 1020.0

        news = agent.follow_job(["/bin/sh", "x"], JobLimits(60.0, 999, 2.5), on_news, 1010)
        limits = map(number, (60_000, 999, 2_500))
        assert asked(line) == [b"job-follow", *limits, number(2), b"/bin/sh", b"x"]
        assert [news.output for news in heard] == [b"so far"]
        assert (news.output, news.exit_code) == (b"rest", 4)

    def test_open_job(self, line: VirtualLine) -> None:
        agent = agent_on(line, 51, 65536)
        words = ["/bin/sh", "x"]
        assert agent.open_job(words, "/home/me", {"A": "1", "B": "b c"}, 1010) == 65536
        told = [b"job-open", b"/home/me", number(2), b"A=1", b"B=b c"]
        assert asked(line) == [*told, number(2), b"/bin/sh", b"x"]

    def test_stream_job(self, line: VirtualLine) -> None:
        agent = agent_on(line, 0, 0, *MEASURE, 1, 4096, b"out", b"err")
        heard: list[StreamNews] = []
        news = agent.stream_job(2.5, b"in", heard.append, 1010, is_all=True)
        assert asked(line) == [b"job-stream", number(0), number(2500), number(1), b"in"]
        measure = Measure(1.5, 0.25, 0.125, 7, 3, 4)
        assert news == StreamNews(b"out", b"err", True, 4096, measure)
        assert heard == [news]

    def test_the_end_of_a_streamed_job(self, line: VirtualLine) -> None:
        agent = agent_on(line, 1, 4 << 8, *MEASURE, 0, 0, b"", b"")
        news = agent.stream_job(0.0, b"", lambda _: None, 1010)
        assert (news.wait_status, news.reads, news.capacity) == (4 << 8, False, 0)

    def test_what_was_printed_is_taken_before_anything_else_is_done(
        self, line: VirtualLine
    ) -> None:
        done: list[str] = []

        class Attentive(Agent):
            def _done(self) -> None:
                done.append("looked at the console")

        agent = Attentive(agent_on(line, 0, 0, *MEASURE, 1, 0, b"", b"")._line)
        agent.stream_job(0.0, b"", lambda _: done.append("taken"), 1010)
        assert done == ["taken", "looked at the console"]

    def test_a_nudge_is_a_poke_for_the_request_in_hand(self, line: VirtualLine) -> None:
        agent = agent_on(line)
        agent.signal_job(15, 1010)
        agent.nudge(1010)
        assert line.agent.heard[-1] == Frame(FrameKind.POKE, agent._seq)

    def test_share(self, line: VirtualLine) -> None:
        agent_on(line).share([("root", "/"), ("rw0", "/home/me")], 1010)
        assert asked(line) == [b"share", number(2), b"root", b"/", b"rw0", b"/home/me"]

    def test_signal_job(self, line: VirtualLine) -> None:
        agent_on(line).signal_job(15, 1010, 123)
        assert asked(line) == [b"job-signal", number(123), number(15)]

    def test_news_of_one_of_several_jobs(self, line: VirtualLine) -> None:
        agent_on(line, 0, 0, *MEASURE, b"").job_news(0.25, 1010, 123)
        assert asked(line) == [b"job-output", number(123), number(250)]

    def test_netlink(self, line: VirtualLine) -> None:
        measure = agent_on(line, *MEASURE).netlink([b"one", b"two"], 1010)
        assert asked(line) == [b"netlink", number(2), b"one", b"two"]
        assert measure.messages == 4

    def test_netlink_each(self, line: VirtualLine) -> None:
        agent = agent_on(line, *MEASURE)
        agent.netlink_each(b"template", 7, 100, offset=20, width=3, deadline=1010)
        assert asked(line) == [b"netlink-each", *map(number, (7, 100, 20, 3)), b"template"]

    def test_dump(self, line: VirtualLine) -> None:
        agent = agent_on(line, 3, b"message one", 1, b"message two")
        runs = agent.dump(b"request", [4, 0x1234], 1010, header=16, index=4)
        assert asked(line) == [b"dump", number(16), number(4), b"\x04\x00\x34\x12", b"request"]
        assert runs == [MessageRun(3, b"message one"), MessageRun(1, b"message two")]

    def test_an_empty_dump(self, line: VirtualLine) -> None:
        assert agent_on(line).dump(b"request", [], 1010, header=16, index=4) == []

    def test_write_file(self, line: VirtualLine) -> None:
        agent_on(line).write_file("/etc/x", b"content", 1010, mode=0o755, append=True)
        assert asked(line) == [b"write-file", b"/etc/x", number(0o755), number(1), b"content"]

    def test_listen(self, line: VirtualLine) -> None:
        assert agent_on(line, 425984).listen(3, 1, 1010, buffer=1 << 20) == 425984
        assert asked(line) == [b"listen", *map(number, (3, 1, 1 << 20))]

    def test_notification_counts(self, line: VirtualLine) -> None:
        heard = agent_on(line, 10, 0, 7, 3).notification_counts(1010)
        assert asked(line) == [b"notification-counts"]
        assert heard == [NotificationCount(10, 0), NotificationCount(7, 3)]

    def test_resume(self, line: VirtualLine) -> None:
        entropy = bytes(range(64))
        assert agent_on(line, 77, 4711).resume(1010, 1_767_225_600_000_000_000, entropy) == 77
        assert asked(line) == [b"resume", number(1_767_225_600_000_000_000), entropy]

    def test_power_off(self, line: VirtualLine) -> None:
        agent_on(line, "end").power_off(1010)
        assert asked(line) == [b"power-off"]

    def test_power_off_without_the_token_is_no_end(self, line: VirtualLine) -> None:
        with pytest.raises(ProtocolError, match="instead of 'end'"):
            agent_on(line, "fine").power_off(1010)


class TestOutcomes:
    @pytest.mark.parametrize(
        ("outcome", "kind"),
        [(1, ProtocolError), (2, GuestIncomplete), (3, RequestRefused), (4, LabError)],
    )
    def test_have_the_verdict_of_who_is_at_fault(
        self, line: VirtualLine, outcome: int, kind: type[LinklabError]
    ) -> None:
        agent = agent_on(line, 19, 4, "No such device", outcome=outcome)
        with pytest.raises(kind, match="No such device") as caught:
            agent.netlink([b"x"], 1010)
        assert type(caught.value) is kind
        assert "netlink" in caught.value.message

    def test_a_refusal_counts_from_one(self, line: VirtualLine) -> None:
        with pytest.raises(RequestRefused, match="request 5 of"):
            agent_on(line, 19, 4, "No such device", outcome=3).netlink([b"x"], 1010)


CALLS: list[Callable[[Agent], object]] = [
    lambda agent: agent.hello(1010),
    lambda agent: agent.run(["/bin/ip"], 1010),
    lambda agent: agent.run_each(["/bin/ip"], 0, 1, 1010),
    lambda agent: agent.start_job(["/bin/ip"], 1010),
    lambda agent: agent.job_news(0.1, 1010),
    lambda agent: agent.open_job(["/bin/sh"], "/", {}, 1010),
    lambda agent: agent.stream_job(0.1, b"x", lambda _: None, 1010),
    lambda agent: agent.share([("root", "/")], 1010),
    lambda agent: agent.signal_job(15, 1010),
    lambda agent: agent.netlink([b"x"], 1010),
    lambda agent: agent.netlink_each(b"x", 0, 1, offset=0, width=0, deadline=1010),
    lambda agent: agent.dump(b"x", [], 1010, header=16, index=4),
    lambda agent: agent.read_file("/x", 1010),
    lambda agent: agent.write_file("/x", b"", 1010),
    lambda agent: agent.listen(1, 1, 1010),
    lambda agent: agent.notification_counts(1010),
    lambda agent: agent.resume(1010, 1, bytes(64)),
    lambda agent: agent.power_off(1010),
]

bodies = st.one_of(
    st.binary(max_size=60),
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1), st.binary(max_size=9))).map(
        lambda fields: encode_fields([0, *fields])
    ),
)


@given(st.sampled_from(CALLS), bodies)
def test_a_reply_that_makes_no_sense_is_the_labs_fault(
    call: Callable[[Agent], object], body: bytes
) -> None:
    virtual = VirtualLine(ModelAgent(work=lambda request: body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "time", virtual)
        try:
            call(Agent(virtual))  # type: ignore[arg-type]
        except RequestRefused:
            assert fields_of(body)[0] == number(3)
        except LabError:
            pass
