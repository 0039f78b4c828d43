"""Guests of one topology: started together, heard together, faults put down to the right one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import is_gone
from stage import PANIC, SHORT, Stage, ask

from linklab.agent.line import PollHandler
from linklab.errors import (
    GuestHung,
    Interrupted,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
    RequestRefused,
)
from linklab.lab.session import Session, Start, open_sessions

pytestmark = pytest.mark.process

Play = dict[str, Any]
LATER = 0.5  # s until the other guest does what it does, while the lab waits


class Pair:
    """Two guests on stage, a and b."""

    def __init__(self, folder: Path) -> None:
        self.stages = {}
        for name in "ab":
            (folder / name).mkdir()
            self.stages[name] = Stage(folder / name)
        self.pids: list[int] = []

    @contextmanager
    def sessions(
        self,
        others: Sequence[PollHandler] = (),
        boot_limit: float = 30,
        a: Play | None = None,
        b: Play | None = None,
    ) -> Iterator[list[Session]]:
        starts = [
            Start(self.stages[name].spec(**play or {}), self.stages[name].log, name=name)
            for name, play in (("a", a), ("b", b))
        ]
        qemu = self.stages["a"].qemu
        with open_sessions(qemu, starts, boot_limit, others=others) as opened:
            self.pids = [session.machine.pid for session in opened]
            yield opened

    def verdict(
        self, others: Sequence[PollHandler] = (), a: Play | None = None, b: Play | None = None
    ) -> LinklabError:
        """Ask a for a file; return how that goes wrong."""
        with pytest.raises(LinklabError) as caught, self.sessions(others, a=a, b=b) as opened:
            ask(opened[0], 2)
        assert all(map(is_gone, self.pids))
        return caught.value


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_both_boot_answer_and_end(pair: Pair) -> None:
    plays = [{"boot": [["console", f"I am {name}\r\n"], ["hello", 5]]} for name in "ab"]
    with pair.sessions(a=plays[0], b=plays[1]) as opened:
        assert [session.name for session in opened] == ["a", "b"]
        assert [ask(session) for session in opened] == [b"content of /etc/x"] * 2
    assert all(map(is_gone, pair.pids))
    logs = [stage.log.read_bytes() for stage in pair.stages.values()]
    assert logs == [b"I am a\r\n", b"I am b\r\n"]


def test_a_panic_of_the_guest_that_nobody_waits_for_is_its_own(pair: Pair) -> None:
    verdict = pair.verdict(
        a={"request": [["hang"]]}, b={"ready": [["sleep", LATER], ["console", PANIC]]}
    )
    assert isinstance(verdict, KernelCrashed)
    assert verdict.guest == "b"
    assert verdict.message.startswith("guest b: the kernel reports")
    assert str(pair.stages["b"].log) in verdict.evidence
    assert str(pair.stages["a"].log) not in verdict.evidence


def test_a_panic_while_the_other_boots_is_its_own(pair: Pair) -> None:
    verdict = pair.verdict(a={"boot": [["hang"]]}, b={"boot": [["console", PANIC]]})
    assert isinstance(verdict, KernelCrashed)
    assert verdict.guest == "b"


def test_a_qemu_that_is_killed_is_named(pair: Pair) -> None:
    verdict = pair.verdict(a={"request": [["hang"]]}, b={"ready": [["sleep", LATER], ["kill", 9]]})
    assert type(verdict) is MachineLost
    assert verdict.message.startswith("guest b: QEMU was killed by signal 9")


@pytest.mark.parametrize(("b", "guilty"), [({}, "a"), ({"ready": [["hang"]]}, "b")])
def test_who_waits_for_one_that_stands_still_does_not_stand_still(
    pair: Pair, b: dict[str, Any], guilty: str
) -> None:
    verdict = pair.verdict(a={"request": [["hang"]]}, b=b)
    assert isinstance(verdict, GuestHung)
    assert verdict.guest == guilty


def test_a_refusal_is_of_the_guest_that_was_asked(pair: Pair) -> None:
    with pytest.raises(RequestRefused) as caught, pair.sessions(
        b={"request": [["reply", "refused"]]}
    ) as (a, b):  # fmt: skip
        ask(a)
        ask(b)
    assert caught.value.guest == "b"


def test_what_lies_between_them_is_nobodys_fault(pair: Pair) -> None:
    reading, writing = os.pipe()
    os.close(writing)

    def broken() -> None:
        raise LabError("the wire was killed")

    verdict = pair.verdict([PollHandler(reading, broken)], a={"request": [["hang"]]})
    os.close(reading)
    assert verdict.message == "the wire was killed"


def test_a_guest_that_ends_before_its_turn_is_missed(pair: Pair) -> None:
    with pytest.raises(KernelCrashed) as caught, pair.sessions(
        b={"ready": [["sleep", LATER], ["exit", 0]]}
    ):  # fmt: skip
        time.sleep(2 * LATER)
    assert caught.value.guest == "b"


def test_who_interrupts_names_nobody(pair: Pair) -> None:
    with pytest.raises(Interrupted) as caught, pair.sessions():
        raise Interrupted("enough")
    assert caught.value.message == "enough"
    assert all(map(is_gone, pair.pids))


def test_nothing_is_left_open(pair: Pair) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with pair.sessions():
        pass
    before = open_files()
    with pair.sessions():
        pass
    with pytest.raises(LinklabError), pair.sessions(boot_limit=SHORT, b={"boot": [["hang"]]}):
        pass
    assert open_files() == before
