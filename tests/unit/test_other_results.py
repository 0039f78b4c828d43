"""Profiles, bisections and ported series among past runs: listed, shown, and refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linklab.bisect.journal import FILE as BISECTION_FILE
from linklab.bisect.journal import SCHEMA as BISECTION_SCHEMA
from linklab.commands import history as commands
from linklab.commands.history import (
    HistoryOptions,
    ReportOptions,
    RerunOptions,
    ShowOptions,
    report,
)
from linklab.errors import UsageError
from linklab.port.porting import FILE as PORT_FILE
from linklab.port.porting import SCHEMA as PORT_SCHEMA
from linklab.profile.store import DIFFERENCE_FILE, PROFILE_FILE
from linklab.profile.store import SCHEMA as PROFILE_SCHEMA
from linklab.results import result_kinds
from linklab.results.history import entries, find
from linklab.results.rerun_command import typed_command

SYMBOL = {"symbol": "rtnl_lock", "own": {"share": 0.4}}
PROFILE: dict[str, Any] = {
    "command": "/usr/bin/invoke profile --output there --arms process",
    "start": "2026-01-03T10:00:00+00:00",
    "end": "2026-01-03T10:01:00+00:00",
    "scenario": "grouping",
    "kernel": {"name": "nosysfs"},
    "operation": "mtu",
    "arm": "process",
    "interfaces": 8,
    "symbols": [SYMBOL],
}
STEP = {"revision": "c0ffee", "short": "c0f", "subject": "break it"}
BISECTION: dict[str, Any] = {
    "command": "invoke bisect --good a --bad b",
    "start": "2026-01-02T10:00:00+00:00",
    "kernel": "sysfs",
    "outcome": {"first_bad": "c0ffee"},
    "steps": [STEP],
}
PORT: dict[str, Any] = {
    "command": "invoke port s",
    "start": "2026-01-01T10:00:00+00:00",
    "verdict": "fail",
    "counts": {"clean": 3, "fuzz": 0, "conflict": 1},
}


def keep(folder: Path, kind: str, about: dict[str, Any], table: str = "as printed\n") -> Path:
    folder.mkdir(parents=True)
    (folder / result_kinds.FILES[kind]).write_text(json.dumps({"schema": 1, **about}))
    if table:
        (folder / result_kinds.TABLE).write_text(table)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    keep(root / "a-profile", result_kinds.PROFILE, PROFILE)
    keep(root / "a-bisection", result_kinds.BISECTION, BISECTION)
    keep(root / "a-port", result_kinds.PORT, PORT)
    step = root / "a-bisection/steps/01"
    step.mkdir(parents=True)
    (step / "run.json").write_text("{}")
    return root


def test_each_is_known_by_the_file_that_its_command_writes() -> None:
    files = {PROFILE_FILE, DIFFERENCE_FILE, BISECTION_FILE, PORT_FILE}
    assert set(result_kinds.FILES.values()) == files
    assert {PROFILE_SCHEMA, BISECTION_SCHEMA, PORT_SCHEMA} == {1}


def test_they_are_listed_with_what_they_found_and_a_bisection_as_one(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.list_runs(HistoryOptions(str(results), limit="0", as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert [(e["kind"], e["kernels"], e["verdict"], e["figure"]) for e in found] == [
        ("profile", ["nosysfs"], "pass", "mtu by process, 8 interfaces: 40.0 % in rtnl_lock"),
        ("bisect", ["sysfs"], "pass", "first bad: c0f break it"),
        ("port", [], "fail", "3 clean, 1 conflict"),
    ]


@pytest.mark.parametrize(
    ("scenario", "kernel", "names"),
    [
        ("profile", "", ["a-profile"]),
        ("grouping", "", ["a-profile"]),
        ("bisect", "sysfs", ["a-bisection"]),
        ("", "nosysfs", ["a-profile"]),
    ],
)
def test_they_are_filtered_by_kind_and_kernel(
    results: Path,
    capsys: pytest.CaptureFixture[str],
    scenario: str,
    kernel: str,
    names: list[str],
) -> None:
    commands.list_runs(HistoryOptions(str(results), kernel, scenario, limit="0", as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert [Path(entry["folder"]).name for entry in found] == names


@pytest.mark.parametrize(
    ("about", "verdict", "figure"),
    [
        ({"outcome": None}, "", "1 steps done"),
        ({"outcome": {"candidates": ["a", "b"]}}, "skip", "the first bad one is one of 2"),
        ({"outcome": {"first_bad": "untested"}}, "pass", "first bad: untested"),
    ],
)
def test_a_bisection_ends_as_its_command_did(
    about: dict[str, Any], verdict: str, figure: str
) -> None:
    whole = {**BISECTION, **about}
    assert result_kinds.verdict(result_kinds.BISECTION, whole) == verdict
    assert result_kinds.figure(result_kinds.BISECTION, whole) == figure


def test_a_profile_without_samples_says_what_it_was_to_be_of() -> None:
    assert result_kinds.figure(result_kinds.PROFILE, {**PROFILE, "symbols": []}).endswith(
        "8 interfaces"
    )


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "cannot be read"), ('{"schema": 9}', "written by schema 9")]
)
def test_one_that_cannot_be_read_is_listed_as_broken(
    results: Path, text: str, problem: str
) -> None:
    (results / "a-port/port.json").write_text(text)
    (broken,) = [entry for entry in entries(results) if entry.about is None]
    assert broken.verdict == "broken" and problem in broken.problem


def test_one_whose_entries_make_no_sense_stops_no_list(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(results / "odd", result_kinds.PORT, {**PORT, "counts": 7})
    commands.list_runs(HistoryOptions(str(results), scenario="port", limit="0", as_json=True))
    figures = [entry["figure"] for entry in json.loads(capsys.readouterr().out)]
    assert any("make no sense" in figure for figure in figures)


def test_show_prints_what_was_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.show(ShowOptions("profile", str(results), as_json=False))
    end = f"\nverdict: pass   results: {results / 'a-profile'}\n"
    assert capsys.readouterr().out == f"as printed\n{end}"
    commands.show(ShowOptions("a-port", str(results), as_json=True))
    assert json.loads(capsys.readouterr().out)["port"]["verdict"] == "fail"


def test_show_says_of_one_that_was_killed_that_it_has_no_end(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(results / "killed", result_kinds.BISECTION, {**BISECTION, "outcome": None}, table="")
    commands.show(ShowOptions("killed", str(results), as_json=False))
    text = capsys.readouterr().out
    assert "not come to its end" in text and "verdict: unfinished" in text


def test_a_table_that_is_no_text_is_refused(results: Path) -> None:
    (results / "a-port/table.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"table\.txt cannot be read"):
        commands.show(ShowOptions("a-port", str(results), as_json=False))


def test_there_is_no_page_of_one_or_of_several(results: Path) -> None:
    with pytest.raises(UsageError, match=r"holds a profile.*invoke show"):
        report(ReportOptions(("profile",), results=str(results)))
    with pytest.raises(UsageError, match=r"holds a ported series.*invoke show"):
        report(ReportOptions(("a-port", "a-port"), results=str(results)))


def test_a_ported_series_that_makes_no_sense_has_no_page(results: Path) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        report(ReportOptions(("a-port",), results=str(results)))
    assert not (results / "a-port/report.html").exists()


def test_rerun_names_the_command_instead(results: Path) -> None:
    with pytest.raises(UsageError, match=r"its command: invoke profile --arms process$"):
        commands.rerun(RerunOptions("profile", str(results)), [])


def test_its_folder_names_it_wherever_it_is(results: Path, tmp_path: Path) -> None:
    assert find(str(results / "a-port"), tmp_path / "nowhere") == results / "a-port"


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("/usr/bin/inv run --output=x --json", "invoke run --json"),
        ("python -m frob", "python -m frob"),
        ("invoke 'unclosed", "invoke 'unclosed"),
        ("", ""),
    ],
)
def test_a_command_to_type_again_names_no_folder_that_is_taken(typed: str, again: str) -> None:
    assert typed_command({"command": typed}) == again
