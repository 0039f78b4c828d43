"""A command in a guest: its streams, its end, and machines that go wrong meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from stage import PANIC, WARNING, Stage

from linklab.errors import (
    GuestHung,
    KernelCrashed,
    LabError,
    LinklabError,
    MachineLost,
    ProtocolError,
)
from linklab.lab import command
from linklab.lab.command import Command, CommandEnd, CommandRun, Kept, Passed, Wishes

pytestmark = pytest.mark.process

COMMAND = Command(["/bin/sh", "-c", "x"], "/", {})
DONE = ["over", 0, "", ""]
EVERY_BYTE = bytes(range(256))
AS_TEXT = EVERY_BYTE.decode("latin-1")


class Ran:
    """A command that ran: how it ended, and what it printed."""

    def __init__(self, stage: Stage, **options: Any) -> None:
        self.output, self.errors = Kept(), Kept()
        self.stage = stage
        self.options = options
        self.lost: BaseException | None = None

    def __call__(self, *stream: list[Any], typing: int | None = None, **play: Any) -> CommandEnd:
        end = self.or_not(*stream, typing=typing, **play)
        assert end is not None
        return end

    def or_not(
        self, *stream: list[Any], typing: int | None = None, **play: Any
    ) -> CommandEnd | None:
        sinks = self.options.pop("sinks", (self.output, self.errors))
        with self.stage.session(stream=list(stream), **play) as session:
            run = CommandRun(session, sinks, typing, **self.options)
            end = run.run(COMMAND)
            self.lost = run.lost
        return end


@pytest.fixture
def ran(stage: Stage) -> Ran:
    return Ran(stage)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends a test may close."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


class TestItsOutputs:
    def test_come_apart_and_whole(self, ran: Ran) -> None:
        end = ran(["news", "one", "eins"], ["news", "", "zwei"], ["over", 0, "two", ""])
        assert ran.output.data == b"onetwo"
        assert ran.errors.data == b"einszwei"
        assert end.seconds == 0.001

    def test_may_hold_every_byte(self, ran: Ran) -> None:
        ran(["news", AS_TEXT, AS_TEXT[::-1]], DONE)
        assert ran.output.data == EVERY_BYTE
        assert ran.errors.data == EVERY_BYTE[::-1]

    @pytest.mark.parametrize("how", ["torn", "lost"])
    def test_survive_a_bad_line(self, ran: Ran, how: str) -> None:
        big = AS_TEXT * 200
        ran(["news", "a", ""], ["reply", how], ["news", big, "b"], ["reply", how], DONE)
        assert ran.output.data == b"a" + EVERY_BYTE * 200
        assert ran.errors.data == b"b"

    def test_survive_a_flood_on_the_console(self, ran: Ran) -> None:
        flood = ["flood", 0, 20_000]
        ran(flood, ["news", "a", ""], flood, ["over", 0, "b", ""])
        assert ran.output.data == b"ab"
        assert ran.stage.log.stat().st_size > 40_000 * 40

    def test_go_to_descriptors_as_they_come(
        self, stage: Stage, pipe: tuple[int, int], tmp_path: Path
    ) -> None:
        read, write = pipe
        errors = (tmp_path / "errors").open("wb", buffering=0)
        with errors:
            ran = Ran(stage, sinks=(Passed(write), Passed(errors.fileno())))
            ran(["news", "here", "there"], DONE)
        assert os.read(read, 100) == b"here"
        assert (tmp_path / "errors").read_bytes() == b"there"

    def test_wait_for_a_slow_reader(self, stage: Stage, pipe: tuple[int, int]) -> None:
        read, write = pipe
        got = bytearray()

        def slowly() -> None:
            time.sleep(0.3)
            while len(got) < 600_000:
                got.extend(os.read(read, 50_000))

        reader = threading.Thread(target=slowly)
        reader.start()
        ran = Ran(stage, sinks=(Passed(write), Kept()), limit=20.0)
        ran(*[["news", "x" * 60_000, ""] for _ in range(10)], DONE)
        reader.join()
        assert got == b"x" * 600_000

    def test_that_nobody_reads_any_more_end_it(self, stage: Stage, pipe: tuple[int, int]) -> None:
        read, write = pipe
        os.close(read)
        errors = Kept()
        ran = Ran(stage, sinks=(Passed(write), errors))
        assert ran(["news", "x", "e"], ["until signal"], ["over", 13, "more", "SIGNALS"])
        assert isinstance(ran.lost, BrokenPipeError)
        assert not errors.data, "it has lost its reader, too: nothing is shown of the rest"

    def test_that_do_not_fit_on_the_disk_are_the_labs_fault(self, stage: Stage) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        ran = Ran(stage, sinks=(Passed(full), Kept()))
        ran(["news", "x", ""], ["until signal"], ["over", 15, "", ""])
        os.close(full)
        assert isinstance(ran.lost, LabError) and "No space left" in str(ran.lost)


class TestItsInput:
    def test_is_passed_on_to_its_end(self, ran: Ran, pipe: tuple[int, int]) -> None:
        read, write = pipe
        os.write(write, EVERY_BYTE)
        os.close(write)
        ran(["until typed"], ["over", 0, "TYPED", ""], typing=read)
        assert ran.output.data == EVERY_BYTE

    def test_is_passed_on_when_it_comes_late(self, ran: Ran, pipe: tuple[int, int]) -> None:
        read, write = pipe

        def later() -> None:
            for _ in range(3):
                time.sleep(0.2)
                os.write(write, b"late ")
            os.close(write)

        writer = threading.Thread(target=later)
        writer.start()
        ran(["until typed"], ["over", 0, "TYPED", ""], typing=read)
        writer.join()
        assert ran.output.data == b"late late late "

    def test_may_be_a_file_of_any_size(self, ran: Ran, tmp_path: Path) -> None:
        data = os.urandom(500_000)
        (tmp_path / "input").write_bytes(data)
        with (tmp_path / "input").open("rb") as file:
            ran(["until typed"], ["over", 0, "TYPED", ""], typing=file.fileno())
        assert ran.output.data == data

    @pytest.mark.parametrize("what", ["none", "folder"])
    def test_that_is_none_is_empty(self, ran: Ran, what: str, tmp_path: Path) -> None:
        typing = None if what == "none" else os.open(tmp_path, os.O_RDONLY)
        ran(["until typed"], ["over", 0, "TYPED", ""], typing=typing)
        assert ran.output.data == b""


class TestItsEnd:
    @pytest.mark.parametrize("status", [0, 1, 3, 125, 126, 127, 255])
    def test_is_its_exit_status(self, ran: Ran, status: int) -> None:
        end = ran(["over", status << 8, "", ""])
        assert (end.status, end.signal) == (status, None)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
    def test_may_be_a_signal(self, ran: Ran, number: int) -> None:
        end = ran(["over", int(number), "", ""])
        assert (end.status, end.signal) == (128 + number, number)

    def test_is_brought_about_by_a_wish(self, stage: Stage) -> None:
        wishes = Wishes()

        class Wishing(Kept):
            """Wishes that it ended when the command has printed something."""

            def put(self, data: bytes, run: CommandRun) -> None:
                super().put(data, run)
                if wishes.signal is None:
                    os.kill(os.getpid(), signal.SIGTERM)

        ran = Ran(stage, wishes=wishes, sinks=(Wishing(), Kept()))
        with wishes.taken():
            end = ran(["news", "a", ""], ["until signal"], ["over", 15, "SIGNALS", ""])
        assert end.signal == signal.SIGTERM
        assert wishes.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_is_forced_where_a_wish_does_not_help(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "GRACE", 0.2)
        wishes = Wishes()
        wishes.signal = signal.SIGINT
        ran = Ran(stage, wishes=wishes)
        assert ran.or_not(["for ever", "", ""]) is None

    def test_that_does_not_come_in_time_is_a_hang(self, stage: Stage) -> None:
        ran = Ran(stage, limit=0.5)
        with pytest.raises(GuestHung, match=r"the command did not end within 0.5 s"):
            ran(["for ever", "x", ""])
        assert ran.output.data.startswith(b"x")

    def test_by_a_second_wish_is_at_once(self) -> None:
        wishes = Wishes()
        wishes.take(signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            wishes.take(signal.SIGINT, None)


class TestTheMachineGoesWrongMeanwhile:
    def check(self, ran: Ran, kind: type[LinklabError], *stream: list[Any]) -> LinklabError:
        with pytest.raises(LinklabError) as caught:
            ran(["news", "before", ""], *stream)
        assert type(caught.value) is kind
        assert ran.output.data == b"before", "what came before is shown"
        return caught.value

    def test_it_crashes(self, ran: Ran) -> None:
        error = self.check(ran, KernelCrashed, ["console", PANIC], ["exit", 0])
        assert "NULL pointer dereference" in error.message

    def test_it_warns_and_goes_on(self, ran: Ran) -> None:
        self.check(ran, KernelCrashed, ["console", WARNING], ["news", "", ""], DONE)

    def test_it_warns_in_the_commands_last_moment(self, ran: Ran) -> None:
        with pytest.raises(KernelCrashed):
            ran(["console", WARNING], ["over", 0, "all of it", ""])
        assert ran.output.data == b"all of it", "what was printed counts"

    @pytest.mark.parametrize(
        ("end", "kind"), [(["exit", 1], MachineLost), (["kill", 9], MachineLost)]
    )
    def test_qemu_ends(self, ran: Ran, end: list[Any], kind: type[LinklabError]) -> None:
        self.check(ran, kind, end)

    def test_it_is_lost_in_the_middle_of_an_answer(self, ran: Ran) -> None:
        self.check(ran, MachineLost, ["reply", "half"], ["news", "y" * 9000, ""])

    def test_it_answers_no_more(self, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "ANSWER_LIMIT", 1.0)
        monkeypatch.setattr(command, "_WAIT", 0.1)
        error = self.check(ran, GuestHung, ["hang"])
        assert "`job-stream`" in error.message

    def test_its_agent_talks_nonsense(self, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "ANSWER_LIMIT", 1.0)
        monkeypatch.setattr(command, "_WAIT", 0.1)
        self.check(ran, ProtocolError, ["agent", "nonsense\n" * 4000], ["hang"])


def test_a_reader_that_is_slow_does_not_hide_a_crash(stage: Stage, pipe: tuple[int, int]) -> None:
    """While nobody takes the output the guest is looked after all the same."""
    ran = Ran(stage, sinks=(Passed(pipe[1]), Kept()))
    with pytest.raises(KernelCrashed):
        ran(["console", PANIC], ["news", "x" * 65_000, ""], ["news", "x" * 65_000, ""], ["exit", 0])
