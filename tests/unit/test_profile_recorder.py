"""perf in a guest: driven through FIFOs, heard when it fails, its file fetched whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import hosts_of
from fake_perf import (
    KALLSYMS,
    PerfGuest,
    install_host_perf,
    kernel_sample,
    one_millisecond_each,
    user_sample,
)
from hand_made import cell

from linklab.errors import GuestIncomplete, LabError, WrongState
from linklab.events import ignore
from linklab.profile import recorder as module
from linklab.profile.recorder import Event, Recorder, choose_event, decode, periods_of
from linklab.profile.stacks import SamplingRule
from linklab.results.shape import Cell
from linklab.scenarios.grouping import Grouping
from linklab.trials import profile as profile_module
from linklab.trials.profile import Profile, Profiler, Task


@pytest.fixture(autouse=True)
def host_perf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_host_perf(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def recorder(guest: PerfGuest) -> Recorder:
    return Recorder(guest, Event.CPU_CLOCK, 997)


# Which event


def test_an_emulated_cpu_has_no_counters_and_nobody_asks() -> None:
    guest = PerfGuest(counters="123")
    event, why = choose_event(guest, emulated=True)
    assert event is Event.CPU_CLOCK and "emulated" in why
    assert guest.calls == []


def test_a_real_cpu_is_asked_for_its_counters() -> None:
    assert choose_event(PerfGuest(counters="123456"), emulated=False)[0] is Event.CYCLES
    event, why = choose_event(PerfGuest(), emulated=False)
    assert event is Event.CPU_CLOCK and "<not supported>" in why


# Recording


def test_samples_are_taken_while_switched_on_only() -> None:
    guest = PerfGuest(each=2)
    with recorder(guest).recording() as stop:
        guest.run(["/bin/ip", "link", "add", "a", "type", "dummy"], 1e18)
        with recorder(guest).sampling():
            guest.run(["/bin/ip", "link", "add", "b", "type", "dummy"], 1e18)
        guest.run(["/bin/ip", "link", "add", "c", "type", "dummy"], 1e18)
        data = stop()
    assert guest.told == ["ping", "enable", "disable", "stop"]
    assert guest.on_while == ["/bin/ip link add b type dummy"]
    assert decode(data, KALLSYMS).work == 2
    assert {"-a", "-g"} <= set(guest.options)
    events = guest.options[guest.options.index("-e") + 1].split(",")
    assert events == [f"cpu-clock/period={period}/" for period in periods_of(997)]


def test_the_idle_task_is_not_sampled_where_it_is_not_asked_for() -> None:
    guest = PerfGuest()
    with Recorder(guest, Event.CPU_CLOCK, 997, idle=False).recording() as stop:
        stop()
    events = guest.options[guest.options.index("-e") + 1].split(",")
    assert all(event.endswith("/I") for event in events)


def test_what_hardware_counts_takes_a_frequency() -> None:
    guest = PerfGuest()
    with Recorder(guest, Event.CYCLES, 997).recording() as stop:
        stop()
    assert " ".join(guest.options[2:6]) == "-e cycles -F 997"


@pytest.mark.parametrize("frequency", [10, 997, 4999, 20_000])
def test_timers_together_sample_as_often_as_asked_for(frequency: int) -> None:
    periods = periods_of(frequency)
    assert sum(1e9 / period for period in periods) == pytest.approx(frequency, rel=1e-6)
    assert max(periods) / min(periods) < 1.4


@pytest.mark.parametrize("beat", [0.3, 1, 7, 28.577])
def test_timers_do_not_march_in_step_with_work_that_repeats_itself(beat: float) -> None:
    """The first third of every beat gets a third of the samples, whatever its length in us."""
    length = 1000 * beat
    ticks = [n * period % length for period in periods_of(4999) for n in range(1, 3000)]
    assert sum(at < length / 3 for at in ticks) / len(ticks) == pytest.approx(1 / 3, abs=0.03)


def test_a_file_larger_than_one_piece_comes_whole() -> None:
    piece = 4 << 20
    guest = PerfGuest(sampled=lambda _: user_sample("ip", "/bin/ip") * 80_000)
    with recorder(guest).recording() as stop:
        with recorder(guest).sampling():
            pass
        assert len(guest.files["/tmp/linklab-perf/perf.data"]) > piece
        assert stop() == guest.files["/tmp/linklab-perf/perf.data"]


@pytest.mark.parametrize("word", ["ping", "enable", "disable"])
def test_a_perf_that_ends_is_noticed_and_quoted(word: str) -> None:
    guest = PerfGuest(dies_at=word)
    with (
        pytest.raises(LabError, match="perf ended") as caught,
        recorder(guest).recording(),
        recorder(guest).sampling(),
    ):
        pass
    assert "it broke" in caught.value.evidence
    assert "CONFIG_EVENTFD" in caught.value.message


def test_a_perf_that_ends_because_its_file_is_full_is_told_from_one_that_fails() -> None:
    guest = PerfGuest(dies_at="disable", death_status=0)
    with (
        pytest.raises(LabError, match="lower --frequency"),
        recorder(guest).recording(),
        recorder(guest).sampling(),
    ):
        pass


def test_a_perf_that_fails_at_its_end_gives_no_file() -> None:
    with (
        recorder(PerfGuest(end_status=255)).recording() as stop,
        pytest.raises(LabError, match="status 255"),
    ):
        stop()


def test_a_perf_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT", 0.05)
    with pytest.raises(LabError, match="no answer"), recorder(PerfGuest(silent=True)).recording():
        pass


def test_a_script_that_fails_is_quoted() -> None:
    with (
        pytest.raises(LabError, match="was not started") as caught,
        recorder(PerfGuest(start_status=1)).recording(),
    ):
        pass
    assert caught.value.evidence == "no fifo"


def test_a_kernel_without_symbols_is_refused() -> None:
    guest = PerfGuest()
    guest.files["/proc/kallsyms"] = b""
    with pytest.raises(LabError, match="CONFIG_KALLSYMS"):
        recorder(guest).kernel_symbols()
    del guest.files["/proc/kallsyms"]
    with pytest.raises(GuestIncomplete):
        recorder(guest).kernel_symbols()


# The work


def profile_of(guest: PerfGuest, rule: SamplingRule, seconds: float = 60) -> Profile:
    return taken(guest, Task(cell("mtu", "group", 3), rule, seconds))


def taken(guest: PerfGuest, task: Task) -> Profile:
    scenario, hosts = Grouping({"listeners": 0}), hosts_of(guest, 3)
    profiler = Profiler(scenario, hosts, recorder(guest), task, ignore)
    return profiler.take(Cell({"interfaces": 3}))


def test_work_is_repeated_until_there_are_enough_samples() -> None:
    guest = PerfGuest(each=400)
    profile = profile_of(guest, SamplingRule(2500))
    assert profile.samples.work == 400 * len(profile.sampled) >= 2500
    assert len(profile.sampled) == 7
    # What sampling costs is told by the difference to those before, without samples.
    assert guest.told.count("enable") == 7
    assert [metrics["seconds"] for metrics in profile.unsampled] == [0.4] * 5


def test_a_long_operation_is_done_without_samples_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "_UNSAMPLED_SECONDS", 0.0)
    assert len(profile_of(PerfGuest(), SamplingRule(1)).unsampled) == 1


def test_nothing_but_the_operation_is_sampled() -> None:
    guest = PerfGuest(each=400)
    profile_of(guest, SamplingRule(400))
    assert set(guest.on_while) == {"/bin/ip link set group 42 mtu 1400"}


def test_samples_that_turn_out_fewer_than_expected_are_made_up_for() -> None:
    def half_idle(count: int) -> str:
        idle = kernel_sample("swapper", "default_idle")
        return idle * (count // 2) + one_millisecond_each(count // 2)

    guest = PerfGuest(each=400, sampled=half_idle)
    profile = profile_of(guest, SamplingRule(1000))
    assert profile.samples.work >= 1000
    assert profile.samples.idle == profile.samples.work
    assert guest.told.count("stop") > 1


def test_the_time_that_was_given_ends_it_after_one_repetition_at_least() -> None:
    profile = profile_of(PerfGuest(each=10), SamplingRule(10_000), seconds=0)
    assert len(profile.sampled) == 1
    assert profile.samples.work == 10


@pytest.mark.parametrize(("seconds", "done"), [(60, 7), (0, 1)])
def test_a_number_of_repetitions_takes_the_place_of_the_rule(seconds: float, done: int) -> None:
    guest = PerfGuest(each=10)
    task = Task(cell("mtu", "group", 3), SamplingRule(10_000), seconds, repetitions=7)
    profile = taken(guest, task)
    assert len(profile.sampled) == done
    assert profile.samples.work == 10 * done
    assert task.missing(profile) == 7 - done
    assert "7 repetitions" in task.text and guest.told.count("stop") == 1


def test_no_sample_of_the_work_is_an_error() -> None:
    with pytest.raises(LabError, match="no sample of the work"):
        profile_of(PerfGuest(sampled=lambda _: ""), SamplingRule(10))


def test_a_wrong_state_ends_the_profile() -> None:
    guest = PerfGuest(each=1)
    enough = iter([False, True])

    def spoil(operation: str) -> None:
        if operation == "dump" and guest.told.count("disable") and next(enough, False):
            link = max(guest.kernel.links)
            del guest.kernel.links[link]

    guest.before = spoil
    with pytest.raises(WrongState):
        profile_of(guest, SamplingRule(100))
