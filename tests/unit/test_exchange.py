"""One request and its reply over a bad line: the right result, or the right error in time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_agent import ModelAgent
from virtual_line import (
    DAMAGES,
    Damage,
    VirtualLine,
    behind_text,
    broken_by_text,
    doubled,
    flipped,
    in_turn,
    lost,
    only,
    run_into_next,
    torn,
    unrecognizable,
)

from linklab.agent import exchange
from linklab.agent.exchange import MAX_REPEATS, Exchange
from linklab.agent.protocol import (
    PART_BYTES,
    Frame,
    FrameKind,
    encode_frame,
    encode_parts_list,
    split,
)
from linklab.errors import GuestHung, ProtocolError

REQUEST, POKE, RESEND = FrameKind.REQUEST, FrameKind.POKE, FrameKind.RESEND
LONG = bytes(range(256)) * (5 * PART_BYTES // 256)


def converse(
    line: VirtualLine,
    body: bytes = b"work",
    seconds: float = 600.0,
    on_hello: Any = lambda frame: None,
    seq: int = 9,
    on_news: Any = None,
) -> bytes:
    """Exchange a request over a virtual line, on its clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "time", line)
        wanted = Exchange(line, seq, body, on_hello, on_news)  # type: ignore[arg-type]
        return wanted.run("the work", line.now + seconds)


def agent_that(reply: bytes = b"result") -> ModelAgent:
    return ModelAgent(work=lambda body: reply)


class TestOnAGoodLine:
    def test_one_request_gets_one_reply(self) -> None:
        line = VirtualLine(agent_that())
        assert converse(line) == b"result"
        assert line.kinds_sent() == [(0.0, REQUEST)]

    def test_long_bodies_cross_in_parts(self) -> None:
        line = VirtualLine(ModelAgent(work=lambda body: body[::-1]))
        assert converse(line, LONG) == LONG[::-1]
        assert line.kinds_sent() == [(0.0, REQUEST)] * 5

    def test_it_asks_ever_more_rarely_while_the_agent_works(self) -> None:
        line = VirtualLine(agent_that(), work_seconds=100.0)
        assert converse(line) == b"result"
        asked = [at for at, kind in line.kinds_sent() if kind is POKE]
        assert asked == [1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
        assert line.agent.done == [b"work"]

    def test_what_is_not_for_this_request_is_ignored(self) -> None:
        line = VirtualLine(agent_that(), work_seconds=1.5)
        for seq in (8, 10, 0):
            stale = Frame(FrameKind.REPLY, seq, payload=b"stale")
            line.arrives(encode_frame(stale), at=1000.1)
        line.arrives(encode_frame(Frame(FrameKind.UNKNOWN, 8)), at=1000.2)
        line.arrives(encode_frame(Frame(REQUEST, 9, payload=b"an echo")), at=1000.3)
        assert converse(line) == b"result"
        assert [kind for _, kind in line.kinds_sent()] == [REQUEST, POKE]


class TestOneLineDamaged:
    """Each costs time, never the result, and the work is done once."""

    @pytest.mark.parametrize(
        ("damage", "seconds"),
        [
            (lost, 1.1),
            (unrecognizable, 1.1),
            (run_into_next, 1.1),
            (torn, 0.1),
            (flipped, 0.1),
            (broken_by_text, 0.1),
            (behind_text, 0.1),
            (doubled, 0.1),
        ],
    )
    def test_on_the_way_there(self, damage: Damage, seconds: float) -> None:
        line = VirtualLine(agent_that(), to_agent=only(1, damage))
        assert converse(line) == b"result"
        assert line.now - 1000 < seconds
        assert line.agent.done == [b"work"]

    @pytest.mark.parametrize(
        ("damage", "seconds"),
        [(lost, 1.1), (unrecognizable, 1.1), (torn, 0.1), (flipped, 0.1), (doubled, 0.1)],
    )
    def test_on_the_way_back(self, damage: Damage, seconds: float) -> None:
        line = VirtualLine(agent_that(), from_agent=only(1, damage))
        assert converse(line) == b"result"
        assert line.now - 1000 < seconds
        assert line.agent.done == [b"work"]

    @pytest.mark.parametrize("damage", [lost, torn, run_into_next, unrecognizable])
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_in_a_long_reply_is_asked_for_alone(self, damage: Damage, number: int) -> None:
        line = VirtualLine(agent_that(LONG), from_agent=only(number, damage))
        assert converse(line) == LONG
        asked = [frame for frame in line.agent.heard if frame.kind is RESEND]
        # A part that runs into the next one takes that with it unless that is whole.
        assert [frame.payload for frame in asked] == [encode_parts_list([number - 1])]
        assert line.agent.done == [b"work"]

    @pytest.mark.parametrize("damage", [lost, torn, unrecognizable, doubled])
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_in_a_long_request_repeats_it_a_few_times(self, damage: Damage, number: int) -> None:
        line = VirtualLine(agent_that(), to_agent=only(number, damage))
        assert converse(line, LONG) == b"result"
        assert line.agent.done == [LONG]
        assert len([kind for _, kind in line.kinds_sent() if kind is REQUEST]) <= 3 * 5

    def test_behind_long_work_is_missed_as_soon_as_behind_short_work(self) -> None:
        line = VirtualLine(agent_that(LONG), from_agent=only(2, lost), work_seconds=100.0)
        assert converse(line, seconds=110) == LONG
        assert line.now - 1000 < 103


damages = st.lists(st.sampled_from(DAMAGES), max_size=4)  # all lost: 2^8 s until it asks again


@settings(max_examples=300)
@given(there=damages, back=damages, body=st.sampled_from([b"", b"work", LONG]))
def test_whatever_the_line_does_the_result_is_right_and_the_work_done_once(
    there: list[Damage], back: list[Damage], body: bytes
) -> None:
    agent = ModelAgent(work=lambda given: given[::-1])
    line = VirtualLine(agent, in_turn(there), in_turn(back), work_seconds=0.5)
    assert converse(line, body) == body[::-1]
    assert agent.done == [body]


class TestTheDeadline:
    def test_ends_a_silence(self) -> None:
        line = VirtualLine(agent_that(), to_agent=lost)
        with pytest.raises(GuestHung, match="no answer to `the work`"):
            converse(line, seconds=20)
        assert line.now == 1020

    @pytest.mark.parametrize(
        "noise",
        [
            b"[    1.000000] nothing to do with it",
            b"<6>[   12.345678] nor this",
            encode_frame(Frame(FrameKind.REPLY, 8, payload=b"of another request"))[:-1],
        ],
        ids=["kernel", "kernel with level", "stale"],
    )
    def test_ends_a_noise(self, noise: bytes) -> None:
        line = VirtualLine(agent_that(), to_agent=lost, babble=noise)
        with pytest.raises(GuestHung):
            converse(line, seconds=5)
        assert 5 <= line.now - 1000 < 6

    @pytest.mark.parametrize(
        "babble",
        [b"noise", encode_frame(Frame(FrameKind.REPLY, 9, payload=b"x"))[:-3]],
        ids=["text", "torn"],
    )
    def test_ends_an_agent_that_babbles_which_is_no_hang(self, babble: bytes) -> None:
        line = VirtualLine(agent_that(), to_agent=lost, babble=babble)
        with pytest.raises(ProtocolError, match="babbles: it gave no answer to `the work`"):
            converse(line, seconds=5)
        assert 5 <= line.now - 1000 < 6

    def test_ends_an_endless_reply(self) -> None:
        part = Frame(FrameKind.REPLY, 9, 0, 2, b"the first of two, again and again")
        line = VirtualLine(agent_that(), to_agent=lost, babble=encode_frame(part)[:-1])
        with pytest.raises(GuestHung):
            converse(line, seconds=5)
        assert 5 <= line.now - 1000 < 6

    def test_ends_a_line_that_takes_nothing(self) -> None:
        line = VirtualLine(agent_that(), stuck=True)
        with pytest.raises(GuestHung):
            converse(line, seconds=5)
        assert line.now == 1005

    def test_a_babble_does_not_keep_it_from_asking(self) -> None:
        line = VirtualLine(agent_that(), from_agent=only(1, lost), babble=b"noise")
        assert converse(line) == b"result"
        assert line.now - 1000 < 1.2

    @pytest.mark.parametrize("reply", [b"result", LONG])
    def test_does_not_void_a_reply_that_had_come(self, reply: bytes) -> None:
        line = VirtualLine(agent_that(reply))
        read_line, send_bytes = line.read_line, line.send_bytes

        def send_and_sleep(data: bytes, until: float) -> None:
            send_bytes(data, until)
            line.now += 30  # the lab itself did not get to run

        line.send_bytes = send_and_sleep  # type: ignore[method-assign]
        assert converse(line, seconds=5) == reply
        assert read_line(line.now) is None


class TestTheAgent:
    def test_that_never_understands_is_given_up(self) -> None:
        line = VirtualLine(agent_that(), to_agent=torn)
        with pytest.raises(ProtocolError, match=str(MAX_REPEATS)):
            converse(line)
        assert line.agent.done == []
        assert len(line.sent) <= MAX_REPEATS + 1

    def test_that_greets_is_handed_to_whoever_knows_it(self) -> None:
        class Restarted(Exception):
            pass

        def refuse(frame: Frame) -> None:
            assert frame.kind is FrameKind.HELLO
            raise Restarted

        line = VirtualLine(agent_that(), to_agent=lost)
        line.arrives(ModelAgent(nonce=5).hello(), at=1000.5)
        with pytest.raises(Restarted):
            converse(line, on_hello=refuse)


class TestNews:
    def test_of_several_parts_come_whole_and_give_more_time(self) -> None:
        line = VirtualLine(agent_that(), work_seconds=900.0)
        for at, body in ((1200.0, b"first"), (1700.0, LONG)):
            for frame in split(FrameKind.NEWS, 9, body):
                line.arrives(encode_frame(frame), at)
        heard: list[bytes] = []

        def on_news(body: bytes) -> float:
            heard.append(body)
            return line.now + 600

        assert converse(line, on_news=on_news) == b"result"
        assert heard == [b"first", LONG]
        assert line.turns_given == 2

    def test_that_do_not_come_are_a_hang(self) -> None:
        line = VirtualLine(agent_that(), work_seconds=10_000.0)
        line.arrives(encode_frame(Frame(FrameKind.NEWS, 9, payload=b"first")), 1200.0)
        with pytest.raises(GuestHung):
            converse(line, on_news=lambda _: line.now + 600)
        assert 1800.0 <= line.now < 1810.0

    def test_of_another_request_are_none(self) -> None:
        line = VirtualLine(agent_that(), work_seconds=5.0)
        line.arrives(encode_frame(Frame(FrameKind.NEWS, 8, payload=b"late")), 1001.0)
        assert converse(line, on_news=pytest.fail) == b"result"
        assert line.turns_given == 0
