"""`invoke selftest` from its options to its folder, with guests that are told what to do."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_lab import lab_of, subject

from linklab.agent.client import JobLimits
from linklab.agent.replies import JobNews, Measure
from linklab.commands import exports
from linklab.commands import history as command_history
from linklab.commands import selftest as command
from linklab.commands.exports import ExportOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.selftest import (
    Prepared,
    SelftestOptions,
    SelftestRequest,
    SelftestWork,
    boot_of,
    main,
)
from linklab.errors import KernelCrashed, LabError, LinklabError, MachineLost, UsageError, Verdict
from linklab.lab import lab as lab_module
from linklab.machine.spec import Clock
from linklab.results.outcomes import Status
from linklab.results.store import read_about
from linklab.selftests import runner as runner_module
from linklab.selftests.catalogue import Collection, Selftest
from linklab.selftests.programs import Unbuilt
from linklab.selftests.record import records_of
from linklab.selftests.workplan import GUEST_ROOT, Ready, Wanted, notes_on

OPTIONS = SelftestOptions(
    tests="net/a.sh",
    kernels=KernelOptions("sysfs"),
    machine=MachineOptions(boot="auto", cpus="2"),
    output="out",
)
COLLECTION = Collection("net", ("a.sh", "b.sh"), ("prog",), (), (), ())
KTAP = "TAP version 13\n1..2\nok 1 one\n"


@dataclass
class Guest:
    """What a test in one guest prints, in pieces, and how it ends; or what ends the guest."""

    output: Sequence[str] = ("PASS: all\n",)
    status: int = 0
    fault: LinklabError | None = None
    late_fault: LinklabError | None = None
    forever: bool = False
    stubborn: bool = False
    signals: list[int] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    seconds: float = 0.0
    printed: int = 0

    def start_job(self, argv: Sequence[str], _deadline: float) -> int:
        self.argv = list(argv)
        self._pieces = iter(self.output)
        return 7

    def job_news(self, wait: float, _deadline: float) -> JobNews:
        self.seconds += wait
        so_far = Measure(self.seconds, 0, 0, 0, 1, 0)
        piece = next(self._pieces, None)
        if piece is not None:
            return JobNews(piece.encode(), so_far)
        if self.fault:
            raise self.fault
        if self.forever and (self.stubborn or not self.signals):
            return JobNews(b"", so_far)
        return JobNews(b"", Measure(2.5, 1, 1, 0, 1, 0), self.status)

    def follow_job(
        self,
        argv: Sequence[str],
        limits: JobLimits,
        on_news: Callable[[JobNews], float],
        deadline: float,
    ) -> JobNews:
        self.start_job(argv, deadline)
        while True:
            news = self.job_news(limits.pace, deadline)
            self.printed += len(news.output)
            over = self.seconds >= limits.seconds or self.printed > limits.output
            if news.wait_status is not None or over:
                return news
            on_news(news)

    def signal_job(self, number: int, _deadline: float) -> None:
        self.signals.append(number)
        if not self.stubborn:
            self.status = number


@dataclass(frozen=True)
class Lab:
    """Boots the next of some guests, each time."""

    guests: Iterator[Guest]
    inner: Any = field(default_factory=lab_of)
    draws: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @contextmanager
    def session(self, _subject: object, console: Path, draw: int) -> Iterator[Any]:
        guest = next(self.guests)
        self.draws.append(draw)
        console.write_text("booted\n")
        yield SimpleNamespace(agent=guest)
        if guest.late_fault:
            raise guest.late_fault


def part(
    names: Sequence[str],
    guests: Sequence[Guest],
    unbuilt: dict[str, Unbuilt] | None = None,
    clock: Clock = Clock.REAL,
) -> Prepared:
    tests = tuple(Selftest(COLLECTION, name) for name in names)
    ready = Ready(
        COLLECTION,
        tests,
        Wanted((), "net/config"),
        "timeout=100\n",
        unbuilt=unbuilt or {},
        lacking={name: {"nft": "nftables"} if name == "a.sh" else {} for name in names},
    )
    lab: Any = Lab(iter(guests), replace(lab_of(), clock=clock))
    return Prepared(ready, subject("sysfs"), lab, "tree", "net/config", ("CONFIG_X",))


def check(options: SelftestOptions) -> SelftestRequest:
    return SelftestWork(options).check()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The host's clock, which goes on by a step with each look at it."""
    now = SimpleNamespace(seconds=0.0, step=1.0)

    def monotonic() -> float:
        now.seconds += now.step
        return float(now.seconds)

    monkeypatch.setattr(runner_module, "time", SimpleNamespace(monotonic=monotonic))
    return now


def run(
    monkeypatch: pytest.MonkeyPatch,
    *guests: Guest,
    names: Sequence[str] = ("a.sh",),
    unbuilt: dict[str, Unbuilt] | None = None,
    clock: Clock = Clock.REAL,
    **options: Any,
) -> Verdict:
    prepared = [part(names, guests, unbuilt, clock)]
    monkeypatch.setattr(command, "prepare", lambda *_words: prepared)
    return main(replace(OPTIONS, **options), ["invoke", "selftest"])


def records() -> list[Any]:
    return records_of(read_about(Path("out")))


# --- options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (replace(OPTIONS, tests=" , "), ["--tests is empty"]),
        (replace(OPTIONS, kernels=KernelOptions("sysfs,nosysfs")), ["exactly one kernel"]),
        (replace(OPTIONS, kernels=KernelOptions("frob")), ["frob"]),
        (replace(OPTIONS, timeout="soon"), ["--timeout soon"]),
        (replace(OPTIONS, retry="-1"), ["--retry -1"]),
        (replace(OPTIONS, machine=MachineOptions(boot="iso")), ["--boot iso"]),
        (replace(OPTIONS, machine=MachineOptions(boot="frob")), ["--boot frob"]),
        (replace(OPTIONS, machine=MachineOptions(memory="128")), ["512 MiB"]),
    ],
)
def test_a_wrong_option_is_refused(options: SelftestOptions, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        check(options)
    assert all(word in error.value.message for word in words)
    assert not Path("out").exists()


def test_several_tests_resume_a_saved_guest() -> None:
    auto = MachineOptions(boot="auto")
    assert [boot_of(auto, tests) for tests in (1, 3, 4)] == ["direct", "direct", "resume"]
    assert boot_of(MachineOptions(boot="direct"), 100) == "direct"


def test_nothing_is_left_of_a_run_that_did_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object) -> list[Prepared]:
        raise UsageError("there is no self-test 'x'")

    monkeypatch.setattr(command, "prepare", refuse)
    with pytest.raises(UsageError):
        main(OPTIONS, [])
    assert not Path("out").exists()


# --- what comes of tests ----------------------------------------------------------------


def test_a_test_that_passes_is_kept_with_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(["PASS: one\nPASS", ": two\n"])
    assert run(monkeypatch, guest) is Verdict.PASS
    assert guest.argv[1:] == ["/usr/lib/linklab/selftest", f"{GUEST_ROOT}/net", "a.sh"]
    (record,) = records()
    assert (record.name, record.kernel, record.last.status) == ("net/a.sh", "sysfs", Status.PASS)
    assert [test.name for test in record.last.subtests] == ["one", "two"]
    assert (Path("out") / record.last.output).read_text() == "PASS: one\nPASS: two\n"
    assert (Path("out") / record.last.console).read_text() == "booted\n"
    assert (record.last.seconds, record.last.limit) == (2.5, 500.0)
    about = read_about(Path("out"))
    assert (about["kind"], about["verdict"]) == ("selftest", "pass")
    assert about["missing_options"] == {"sysfs": ["CONFIG_X"]}


@pytest.mark.parametrize(
    ("guest", "verdict", "status"),
    [
        (Guest(status=4 << 8), Verdict.PASS, Status.SKIP),
        (Guest(status=1 << 8), Verdict.FAIL, Status.FAIL),
        (Guest([KTAP]), Verdict.FAIL, Status.FAIL),
        (Guest(fault=KernelCrashed("an oops", "the console")), Verdict.CRASH, Status.CRASH),
        (Guest(late_fault=KernelCrashed("a leak")), Verdict.CRASH, Status.CRASH),
        (Guest(fault=MachineLost("QEMU was killed")), Verdict.ERROR, Status.ERROR),
    ],
)
def test_the_worst_that_came_of_tests_is_the_verdict(
    monkeypatch: pytest.MonkeyPatch, guest: Guest, verdict: Verdict, status: Status
) -> None:
    assert run(monkeypatch, guest, Guest(), names=("a.sh", "b.sh")) is verdict
    assert [record.last.status for record in records()] == [status, Status.PASS]


def test_what_a_test_printed_before_the_kernel_crashed_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Guest([KTAP], fault=KernelCrashed("an oops", "line one\nline two")))
    (record,) = records()
    assert [test.status for test in record.last.subtests] == [Status.PASS, Status.MISSING]
    assert record.last.exit_code is None
    assert (Path("out") / record.last.output).read_text() == KTAP
    shown = capsys.readouterr().out
    assert "an oops" in shown
    assert "| line two" in shown


def test_a_test_that_is_not_done_in_time_is_ended_and_its_words_are_kept(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    guest = Guest(["waiting\n"], forever=True)
    assert run(monkeypatch, guest, timeout="60") is Verdict.FAIL
    assert guest.signals == [signal.SIGTERM]
    (record,) = records()
    assert record.last.message == "not done within its limit of 60 s"
    assert record.last.exit_code == -signal.SIGTERM


def test_one_that_will_not_end_is_killed_with_its_guest(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    guest = Guest([], forever=True, stubborn=True)
    assert run(monkeypatch, guest, timeout="60") is Verdict.FAIL
    assert guest.signals == [signal.SIGTERM, signal.SIGKILL]
    assert records()[0].last.exit_code == -signal.SIGKILL


@pytest.mark.parametrize("clock_", [Clock.REAL, Clock.VIRTUAL])
def test_one_that_prints_without_an_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, clock_: Clock
) -> None:
    monkeypatch.setattr(runner_module, "_MOST_OUTPUT", 1000)
    guest = Guest(["x" * 600 + "\n"] * 3, forever=True)
    assert run(monkeypatch, guest, clock=clock_) is Verdict.FAIL
    assert records()[0].last.message == "it printed without an end"
    assert guest.signals == [signal.SIGTERM]


def test_a_program_that_is_not_there_is_missing_and_the_rest_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unbuilt = {"prog": Unbuilt("net/prog cannot be compiled here: there is no numa.h")}
    assert run(monkeypatch, Guest(), names=("prog", "a.sh"), unbuilt=unbuilt) is Verdict.ERROR
    assert [record.last.status for record in records()] == [Status.MISSING, Status.PASS]
    assert "there is no numa.h" in capsys.readouterr().out


# --- in virtual time ---------------------------------------------------------------------


def test_in_virtual_time_the_limit_is_the_collections_own_in_the_guests_seconds(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    guest = Guest(["waiting\n"], forever=True)
    assert run(monkeypatch, guest, clock=Clock.VIRTUAL) is Verdict.FAIL
    (record,) = records()
    assert record.last.message == "not done within its limit of 100 s"
    assert record.last.limit == 100.0
    assert guest.seconds == pytest.approx(100.25), "and a turn to end in"
    assert record.last.host_seconds is not None


def test_in_virtual_time_a_slow_host_is_no_slow_kernel(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    late = Guest(["waiting\n"], forever=True)
    clock.step = 1000.0
    assert run(monkeypatch, late, timeout="60", clock=Clock.VIRTUAL) is Verdict.ERROR
    assert late.seconds < 10
    (record,) = records()
    assert record.last.status is Status.ERROR
    assert "this host is too slow" in record.last.message
    assert (Path("out") / record.last.output).read_text() == "waiting\n"


def test_another_attempt_draws_other_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = part(("a.sh",), [Guest(status=1 << 8)] * 3, clock=Clock.VIRTUAL)
    monkeypatch.setattr(command, "prepare", lambda *_words: [prepared])
    main(replace(OPTIONS, retry="2"), ["invoke", "selftest"])
    lab: Any = prepared.lab
    assert lab.draws == [0, 1, 2]


def test_in_virtual_time_the_hosts_seconds_stand_beside_the_guests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Guest(), clock=Clock.VIRTUAL)
    shown = capsys.readouterr().out
    assert "guest's s" in shown and "host's s" in shown
    run(monkeypatch, Guest(), output="real")
    shown = capsys.readouterr().out
    assert "seconds" in shown and "host's s" not in shown


# --- again ------------------------------------------------------------------------------------


def test_one_that_failed_is_tried_again_and_both_results_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Guest(["PASS: one\nFAIL: two\n"], status=1 << 8)
    second = Guest(["PASS: one\nPASS: two\n"])
    assert run(monkeypatch, first, second, retry="3") is Verdict.PASS
    (record,) = records()
    assert [attempt.status for attempt in record.attempts] == [Status.FAIL, Status.PASS]
    assert record.flaky
    shown = capsys.readouterr().out
    assert "first" in shown and "second" in shown
    assert "fail  pass  two" in shown
    assert "1 self-test: 1 pass, 1 flaky" in shown


def test_one_that_fails_every_time_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    guests = [Guest(status=1 << 8) for _ in range(3)]
    assert run(monkeypatch, *guests, retry="2") is Verdict.FAIL
    assert len(records()[0].attempts) == 3


def test_one_that_passed_or_was_skipped_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = Guest(status=4 << 8)
    assert run(monkeypatch, Guest(), skipped, names=("a.sh", "b.sh"), retry="9") is Verdict.PASS
    assert [len(record.attempts) for record in records()] == [1, 1]


# --- how it ends early ---------------------------------------------------------------------------


def test_ctrl_c_keeps_what_came_of_the_tests_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_words: object) -> JobNews:
        raise KeyboardInterrupt

    late = Guest()
    late.job_news = interrupted  # type: ignore[method-assign,assignment]
    assert run(monkeypatch, Guest(), late, names=("a.sh", "b.sh")) is Verdict.INTERRUPTED
    assert [record.name for record in records()] == ["net/a.sh"]
    assert read_about(Path("out"))["verdict"] == "interrupted"


# --- what is shown ---------------------------------------------------------------------


def test_json_is_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Guest(), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["run"]["tests"][0]["attempts"][0]["status"] == "pass"
    assert document["folder"] == "out"


def test_a_stored_run_is_shown_listed_and_exported_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Guest(["FAIL: two\n"], status=1 << 8)
    run(monkeypatch, failing, exports=ExportOptions(ktap="first.ktap"), output="results/r")
    first = capsys.readouterr().out
    command_history.show(command_history.ShowOptions("last"))
    assert capsys.readouterr().out == first
    command_history.list_runs(command_history.HistoryOptions(as_json=True))
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["figure"] == "1 self-test: 1 fail"
    written = ExportOptions(ktap="second.ktap", junit="r.xml")
    exports.export(exports.StoredExportOptions("last", exports=written))
    assert Path("second.ktap").read_text() == Path("first.ktap").read_text()
    assert "not ok" in Path("first.ktap").read_text()


def test_a_run_from_before_the_hosts_seconds_were_kept_is_still_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(monkeypatch, Guest())
    about = read_about(Path("out"))
    del about["tests"][0]["attempts"][0]["host_seconds"]
    assert records_of(about)[0].last.host_seconds is None


def test_a_crash_is_exported_though_every_subtest_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = Guest(["PASS: one\n"], late_fault=KernelCrashed("an oops"))
    run(monkeypatch, crash, exports=ExportOptions(ktap="r.ktap"))
    text = Path("r.ktap").read_text()
    assert "an oops" in text
    assert "not ok" in text


def test_a_lab_that_cannot_start_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_words: object) -> list[Prepared]:
        raise LabError("no QEMU")

    monkeypatch.setattr(command, "prepare", broken)
    with pytest.raises(LabError):
        main(replace(OPTIONS, exports=ExportOptions(ktap="r.ktap")), [])
    assert "no QEMU" in Path("r.ktap").read_text()


def test_what_tests_lack_is_said_before_they_start() -> None:
    unbuilt = {"prog": Unbuilt("net/prog cannot be compiled"), "helper": Unbuilt("no helper")}
    notes = list(notes_on(part(("prog", "a.sh"), [], unbuilt).ready))
    assert notes == [
        "net/prog cannot be compiled",
        "no helper; tests that run it will say so",
        "a.sh may ask for nft: Debian's package nftables is not installed",
        "as root: apt-get install --no-install-recommends -y nftables",
    ]
