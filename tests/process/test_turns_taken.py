"""Sessions in virtual time: the machine stops when its agent has spoken, and waits for the lab."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage import PANIC, SHORT, Stage, ask

from linklab.errors import (
    GuestHung,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
)
from linklab.host.cache import Cached
from linklab.lab.session import Session, Snapshot, open_session, save_session
from linklab.machine.spec import Clock

pytestmark = pytest.mark.process
NEW_YEAR = 1_767_225_600_000_000_000  # ns from 1970 to 2026


@pytest.fixture
def virtual(stage: Stage) -> Stage:
    stage.clock = Clock.VIRTUAL
    return stage


def read(session: Session, path: str) -> bytes:
    return session.agent.read_file(path, time.monotonic() + 20)


class TestASession:
    def test_goes_from_turn_to_turn(self, virtual: Stage) -> None:
        with virtual.session() as opened:
            for _ in range(20):
                assert ask(opened) == b"content of /etc/x"

    def test_hears_a_stop_that_comes_late(self, virtual: Stage) -> None:
        with virtual.session(spoken=[["sleep", 0.3], ["stop"]]) as opened:
            assert ask(opened) == b"content of /etc/x"

    def test_waits_while_a_guest_is_at_work(self, virtual: Stage) -> None:
        with virtual.session(request=[["sleep", 2.5]]) as opened:
            assert ask(opened) == b"content of /etc/x"

    def test_logs_what_the_kernel_says_before_the_stop(self, virtual: Stage) -> None:
        with virtual.session(spoken=[["console", "[    1.0] hm\r\n"], ["stop"]]) as opened:
            ask(opened)
        assert virtual.log.read_text().count("hm") >= 2

    def test_asks_with_the_same_numbers_each_time(self, stage: Stage) -> None:
        numbers: dict[Clock, set[bytes]] = {clock: set() for clock in Clock}
        for clock in (Clock.REAL, Clock.VIRTUAL):
            stage.clock = clock
            for _ in range(3):
                with stage.session() as opened:
                    numbers[clock].add(read(opened, "/number"))
        assert len(numbers[Clock.VIRTUAL]) == 1
        assert len(numbers[Clock.REAL]) > 1


class TestAMachine:
    def verdict(self, stage: Stage, **play: Any) -> LinklabError:
        """What is said of one that goes wrong when it is asked, or before."""
        with pytest.raises(LinklabError) as caught, stage.session(**play) as opened:
            ask(opened, SHORT)
        assert str(stage.log) in caught.value.evidence
        return caught.value

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
        monkeypatch.setattr("linklab.lab.session._READ_LIMIT", SHORT)

    def test_that_never_stops_hangs(self, virtual: Stage) -> None:
        assert type(self.verdict(virtual, spoken=[])) is GuestHung

    def test_that_never_goes_on_hangs(self, virtual: Stage) -> None:
        assert type(self.verdict(virtual, **{"go on": []})) is GuestHung

    def test_whose_qemu_does_not_answer_hangs(self, virtual: Stage) -> None:
        assert type(self.verdict(virtual, **{"go on": [["hang"]]})) is GuestHung

    def test_whose_guest_hangs_at_work_hangs(self, virtual: Stage) -> None:
        assert type(self.verdict(virtual, request=[["hang"]])) is GuestHung

    @pytest.mark.parametrize(
        ("end", "says"),
        [
            ([["kill", signal.SIGKILL]], "QEMU was killed by signal 9"),
            ([["exit", 1]], "QEMU ended with status 1"),
            ([["stop"], ["exit", 1]], "QEMU ended with status 1"),
        ],
    )
    def test_whose_qemu_ends_instead_of_stopping_is_lost(
        self, virtual: Stage, end: list[list[Any]], says: str
    ) -> None:
        verdict = self.verdict(virtual, spoken=end)
        assert type(verdict) is MachineLost
        assert says in verdict.message

    def test_whose_qemu_ends_when_it_is_to_go_on_is_lost(self, virtual: Stage) -> None:
        verdict = self.verdict(virtual, **{"go on": [["exit", 1]]})
        assert type(verdict) is MachineLost
        assert "QEMU ended with status 1" in verdict.message

    def test_whose_kernel_crashes_before_it_stops_crashed(self, virtual: Stage) -> None:
        verdict = self.verdict(virtual, spoken=[["console", PANIC], ["exit", 0]])
        assert type(verdict) is KernelCrashed

    def test_whose_kernel_crashes_at_work_crashed(self, virtual: Stage) -> None:
        verdict = self.verdict(virtual, request=[["console", PANIC], ["exit", 0]])
        assert type(verdict) is KernelCrashed


class TestAGuestThatIsSaved:
    """It stands still when it is saved, and when it is taken up."""

    def saved(self, stage: Stage, **play: Any) -> Snapshot:
        folder = stage.log.parent / "a saved guest"
        folder.mkdir(exist_ok=True)
        hello = save_session(stage.qemu, stage.spec(**play), folder, 30)
        return Snapshot(Cached(str(folder)), hello)

    @contextmanager
    def resumed(self, stage: Stage, saved: Snapshot, seed: int = 0) -> Iterator[Session]:
        spec = replace(stage.spec(), seed=seed)
        with open_session(stage.qemu, spec, stage.log, 30, saved) as opened:
            yield opened

    def test_goes_on_where_it_stopped(self, virtual: Stage) -> None:
        saved = self.saved(virtual)
        for _ in range(2):
            with self.resumed(virtual, saved) as opened:
                assert ask(opened) == b"content of /etc/x"

    def test_is_not_saved_before_it_stops(self, virtual: Stage) -> None:
        saved = self.saved(virtual, spoken=[["sleep", 0.5], ["stop"]])
        assert saved.state.exists()

    def test_that_does_not_stop_cannot_be_saved(
        self, virtual: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("linklab.lab.session._READ_LIMIT", SHORT)
        with pytest.raises(GuestHung):
            self.saved(virtual, spoken=[])

    def test_is_told_the_same_time_and_entropy_each_time(
        self, virtual: Stage, tmp_path: Path
    ) -> None:
        saved = self.saved(virtual)
        told = []
        for seed in (0, 1, 0):
            with self.resumed(virtual, saved, seed) as opened:
                told.append(read(opened, "/woken"))
        assert struct.unpack("<Q", told[0][:8]) == (NEW_YEAR,)
        assert told[0] == told[2]
        assert told[0][:8] == told[1][:8]
        assert told[0][8:] != told[1][8:]
        assert len(told[0][8:]) == 64

    def test_in_real_time_is_told_what_time_it_is(self, stage: Stage) -> None:
        saved = self.saved(stage)
        told = []
        for _ in range(2):
            with self.resumed(stage, saved) as opened:
                told.append(read(opened, "/woken"))
        (now,) = struct.unpack("<Q", told[0][:8])
        assert abs(now / 1e9 - time.time()) < 60
        assert told[0][8:] != told[1][8:]

    def test_is_not_taken_for_another(self, virtual: Stage) -> None:
        saved = self.saved(virtual, boot=[["hello", 5]])
        with pytest.raises(LabError, match="not the one"), self.resumed(virtual, saved):
            raise AssertionError("another guest was let in")


def test_nothing_is_left_open(virtual: Stage) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with virtual.session() as opened:
            ask(opened)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208
