"""Whatever is shown or stored says first what its seconds are; different ones never meet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hand_made import both_arms, run_of, sample
from test_comparison_report import CELL, SLOWER, against, comparison_of, stored
from test_history import OPTIONS, listed, store
from test_page import text_of
from test_series_findings import series

from linklab.commands import history as commands
from linklab.commands.run import revived, stored_options
from linklab.errors import UsageError
from linklab.exports.kcidb import kcidb
from linklab.report.calibration import calibration_of
from linklab.report.calibration import render as calibration_table
from linklab.report.compare import differences, obstacles, together
from linklab.report.comparison import render as versus_table
from linklab.report.comparison import stored_comparison
from linklab.report.grid import plain_text
from linklab.report.selftest import as_text as selftest_table
from linklab.report.series import render as series_table
from linklab.report.tables import as_text
from linklab.results.comparison import SECONDS, Comparison, Effect
from linklab.results.figures import seconds_are, timed_by
from linklab.results.model import Run, Sample, first_shape
from linklab.results.rerun_command import command_of
from linklab.results.series import find
from linklab.results.suites import circumstances, suites_of
from linklab.scenarios.grouping.paper import claims
from linklab.scenarios.scenario import Finding

KVM, TCG = "KVM", "TCG (software emulation: compare ratios, not seconds)"
VIRTUAL = "virtual time: 1 ns for each instruction; no caches, no waiting for the host"
RECORDED = "recorded: 1 ns for each instruction; comparable with nothing"
ABOUTS: list[tuple[dict[str, Any], str, str]] = [
    ({"accel": "kvm"}, KVM, "KVM"),
    ({"accel": "tcg"}, TCG, "TCG"),
    ({"accel": "kvm", "clock": "real"}, KVM, "KVM"),
    ({"accel": "tcg", "clock": "real"}, TCG, "TCG"),
    ({"accel": "tcg", "clock": "virtual"}, VIRTUAL, "virtual time"),
    ({"accel": "tcg", "clock": "recorded"}, RECORDED, "recorded"),
]
EACH_CLOCK = pytest.mark.parametrize(
    ("about", "text"), [(about, text) for about, text, _ in ABOUTS]
)
IN_VIRTUAL_TIME: dict[str, Any] = {"clock": "virtual"}


@pytest.mark.parametrize(("about", "text", "word"), ABOUTS)
def test_what_seconds_are_in_a_line_and_in_a_word(
    about: dict[str, Any], text: str, word: str
) -> None:
    assert seconds_are(about) == text
    assert timed_by(about) == word


# Over every table


@EACH_CLOCK
def test_a_runs_table_and_page(about: dict[str, Any], text: str) -> None:
    run = run_of(["sysfs"], both_arms("sysfs", {128: 40}), scenario="grouping", **about)
    assert as_text(run).splitlines()[0] == text
    assert text in text_of(run)


@EACH_CLOCK
def test_a_comparison(about: dict[str, Any], text: str) -> None:
    found = stored_comparison(comparison(**about))
    assert plain_text(versus_table(found)).splitlines()[0] == text


def test_a_comparisons_sentence() -> None:
    sentence = stored_comparison(comparison(**IN_VIRTUAL_TIME)).sentence()
    assert sentence.endswith("(virtual time, resume boot, 5 trials in each guest).")


@pytest.mark.parametrize(
    ("about", "text"), [(about, text) for about, text, _ in ABOUTS if text != RECORDED]
)
def test_a_comparison_of_stored_runs(about: dict[str, Any], text: str) -> None:
    found = against(stored({"sysfs": 0.02}, **about), stored({"sysfs": 0.02}, **about))
    assert found.seconds == text
    assert found.setting.startswith(f"{timed_by(about)}, two runs")


@EACH_CLOCK
def test_a_series(about: dict[str, Any], text: str) -> None:
    run = series({"sysfs": [0.02, 0.02]})
    run = Run({**run.about, **about}, run.samples)
    shown = plain_text(series_table(run, find(run)))
    assert shown.splitlines()[0] == text


@EACH_CLOCK
def test_a_calibration(about: dict[str, Any], text: str) -> None:
    shown = plain_text(calibration_table(calibration_of(calibration(**about))))
    assert shown.splitlines()[0] == text


def test_self_tests() -> None:
    about = {**run_of(["sysfs"]).about, "selftests": [], **IN_VIRTUAL_TIME}
    assert selftest_table(about).startswith("virtual time: 1 ns for each instruction")


def test_a_list_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, about in (("1-old", {}), ("2-virtual", IN_VIRTUAL_TIME)):
        store(tmp_path / name, run_of(["nosysfs"], **about), start=f"2026-01-0{name[0]}T10:00:00Z")
    assert [entry["clock"] for entry in listed(tmp_path, capsys)] == ["virtual", "real"]
    commands.list_runs(commands.HistoryOptions(str(tmp_path)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "virtual" in shown and "TCG" in shown


def test_what_other_tools_get() -> None:
    run = run_of(["sysfs"], both_arms("sysfs", {128: 40}), scenario="grouping", verdict="pass")
    run = Run({**run.about, **IN_VIRTUAL_TIME, "start": "2026-01-01T00:00:00Z"}, run.samples)
    assert circumstances(run.about)["clock"] == "virtual"
    document = json.dumps(kcidb(suites_of(run), "linklab"))
    assert "tcg, virtual, direct, microvm" in document


# Claims


def test_a_boot_whose_instructions_were_counted_says_nothing_of_five_seconds() -> None:
    run = run_of(["sysfs"], boots=[7.0], **IN_VIRTUAL_TIME)
    (claim,) = (claim for claim in claims(run) if "boots" in claim.text)
    assert (claim.finding, claim.ours) == (Finding.NOT_MEASURED, "-")
    assert "--clock real" in claim.why


# Seconds of different clocks


def test_runs_of_different_clocks_are_never_compared() -> None:
    real, virtual = stored({"sysfs": 0.02}), stored({"sysfs": 0.02}, **IN_VIRTUAL_TIME)
    for one, other in ((real, virtual), (virtual, real)):
        with pytest.raises(UsageError, match="must not be compared") as caught:
            against(one, other)
        assert "clock: " in caught.value.evidence
        with pytest.raises(UsageError, match="must not be compared"):
            together([(Path("one"), one), (Path("other"), other)])


def test_a_run_that_was_recorded_compares_with_nothing_not_even_itself() -> None:
    run = stored({"sysfs": 0.02}, clock="recorded")
    assert [d.what for d in obstacles(run, run)] == ["clock, which compares with nothing"]
    with pytest.raises(UsageError, match="must not be compared"):
        against(run, run)


def test_the_clock_alone_is_what_differs() -> None:
    host = {"host": {"cpu": "Some CPU"}}
    real = stored({"sysfs": 0.02}, **host)
    virtual = stored({"sysfs": 0.02}, **host, **IN_VIRTUAL_TIME)
    assert [(d.what, d.before, d.now) for d in obstacles(real, virtual)] == [
        ("clock", "real", "virtual")
    ]


def test_a_run_from_before_there_were_clocks_is_one_in_real_time() -> None:
    old, now = stored({"sysfs": 0.02}), stored({"sysfs": 0.02}, clock="real")
    assert obstacles(old, now) == obstacles(now, old) == []
    assert [row.comparison.verdict for row in against(old, now).rows] == [Effect.SAME]


def test_no_host_has_a_part_in_virtual_seconds() -> None:
    here, there = (
        stored({"sysfs": 0.02}, **IN_VIRTUAL_TIME, host={"cpu": cpu}) for cpu in ("One", "Other")
    )
    assert obstacles(here, there) == []
    assert [row.comparison.verdict for row in against(here, there).rows] == [Effect.SAME]
    assert [(d.what, d.before, d.now) for d in differences(here, there)] == [
        ("host CPU", "One", "Other")
    ], "but it is said"


def test_another_emulator_or_machine_counts_other_instructions() -> None:
    one = stored({"sysfs": 0.02}, **IN_VIRTUAL_TIME)
    for about in ({"qemu": {"version": "10.0.0"}}, {"machine": "pc"}, {"boot": "resume"}):
        assert obstacles(one, stored({"sysfs": 0.02}, **IN_VIRTUAL_TIME, **about))


# What was stored before there were clocks


def test_a_sample_without_a_clock_is_one_in_real_time() -> None:
    data = sample("sysfs", "group", 128, 0.1).to_json()
    assert data.pop("clock") == "real"
    assert Sample.from_json(data, first_shape()).clock == "real"
    virtual = Sample.from_json({**data, "clock": "virtual"}, first_shape())
    assert virtual.clock == "virtual"


def test_a_run_without_a_clock_is_done_again_in_real_time() -> None:
    options = stored_options(OPTIONS, accel="tcg")
    del options["clock"]
    about = {"options": options}
    assert revived(about, "", as_json=False).machine.clock == "real"
    assert "--clock real" in command_of(about)


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_a_run_is_done_again_by_the_clock_that_was_decided(clock: str) -> None:
    auto = replace(OPTIONS, machine=replace(OPTIONS.machine, clock="auto"))
    about = {"options": stored_options(auto, accel="tcg", clock=clock)}
    assert revived(about, "", as_json=False).machine.clock == clock
    assert f"--clock {clock}" in command_of(about)


# Calibrations


def found(verdict: Effect) -> dict[str, Any]:
    return Comparison(1.0, 0.9, 1.1, 1.0, verdict, 0, 8, 1.0, 1.0, 0.95).to_json(SECONDS)


SAME, FOUND = found(Effect.SAME), found(Effect.WORSE)


def calibration(**about: Any) -> dict[str, Any]:
    """What run.json says of one."""
    return {
        "accel": "tcg",
        "boot": "resume",
        "plan": {"repeat": 10, "trials": 3},
        "calibration": {
            "kernel": "nosysfs",
            "work": "mtu by group, 512 interfaces",
            "threshold": 0.0025,
            "seconds": [4.0],
            "same": [SAME] * 80,
            "slowed": [
                {"slowdown": 0.005, "loops": 40, "comparisons": [FOUND] * 80, "measured": FOUND},
                {"slowdown": 0.1, "loops": 800, "comparisons": [FOUND] * 80, "measured": None},
            ],
        },
        **about,
    }


def aims_in(about: dict[str, Any]) -> list[str]:
    shown = plain_text(calibration_table(calibration_of(about)), 200)
    return [line.strip() for line in shown.splitlines() if "aim: " in line]


def test_a_calibration_has_a_case_for_each_slowdown() -> None:
    read = calibration_of(calibration(clock="virtual"))
    assert [case.title for case in read.cases] == [
        "with itself",
        "with itself, slowed by 0.5 %",
        "with itself, slowed by 10 %",
    ]
    assert [(one.slowdown, one.loops) for one in read.slowed] == [(0.005, 40), (0.1, 800)]
    assert read.slowed[1].measured is None
    assert not read.missed


@pytest.mark.parametrize(
    ("clock", "aims"),
    [
        ("real", ["at most 5 %", "at least 90 %", "at least 90 %"]),
        ("virtual", ["at most 5 %", "at least 95 %", "at least 95 %"]),
    ],
)
def test_the_aims_follow_the_clock(clock: str, aims: list[str]) -> None:
    said = aims_in(calibration(clock=clock))
    assert len(said) == len(aims)
    assert all(f"aim: {aim}: met" in line for line, aim in zip(said, aims, strict=True))


def test_one_false_alarm_or_one_missed_leaves_the_aims_of_virtual_time_open() -> None:
    for name, value in (("same", [*[SAME] * 79, FOUND]), ("slowed", [missed_once()])):
        about = calibration(clock="virtual")
        about["calibration"] |= {name: value}
        read = calibration_of(about)
        assert not read.missed
        assert not all(case.met for case in read.cases)


def missed_once() -> dict[str, Any]:
    comparisons = [*[FOUND] * 79, SAME]
    return {"slowdown": 0.01, "loops": 80, "comparisons": comparisons, "measured": FOUND}


def test_a_calibration_of_a_kernel_with_itself_alone_has_one_case() -> None:
    about = calibration(clock="virtual")
    about["calibration"] |= {"slowed": []}
    read = calibration_of(about)
    assert [case.title for case in read.cases] == ["with itself"]
    assert not read.missed


def test_a_calibration_of_the_first_release_is_read_as_one_slowdown() -> None:
    about = calibration()
    del about["calibration"]["slowed"]
    about["calibration"] |= {
        "slowdown": 0.1,
        "loops": 800,
        "measured": FOUND,
        "slower": [FOUND] * 2,
    }
    read = calibration_of(about)
    assert [case.title for case in read.cases] == ["with itself", "with itself, slowed by 10 %"]
    assert [(one.slowdown, one.loops) for one in read.slowed] == [(0.1, 800)]
    assert len(read.cases[1].comparisons) == 2
    assert len(aims_in(about)) == 2


def comparison(**about: Any) -> Run:
    """A comparison that was stored."""
    run = comparison_of({**CELL, **SLOWER.to_json(SECONDS)})
    return replace(run, about={**run.about, **about})
