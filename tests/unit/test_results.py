"""Results on disk: what is written can be read again, whenever the run was killed."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hand_made import cell
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.console.watch import reports_in
from linklab.errors import KernelCrashed, UsageError, WrongState
from linklab.lab.kernel_reports import FiledReport, file_reports
from linklab.results import model
from linklab.results.codec import SchemaError
from linklab.results.model import (
    LINES,
    SCHEMA,
    BootRecord,
    KernelRecord,
    Run,
    Sample,
    TallyRecord,
    first_shape,
)
from linklab.results.shape import Better, Cell, Metric
from linklab.results.store import (
    RunFolder,
    read_about,
    read_run,
)

SAMPLE = Sample(
    scenario="grouping",
    kernel="nosysfs",
    boot="direct",
    accel="tcg",
    cell=cell("mtu", "group", 128),
    trial=1,
    metrics={
        "seconds": 0.012,
        "user_seconds": 0.001,
        "system_seconds": 0.008,
        "context_switches": 3,
        "messages": 1,
        "processes": 1,
    },
    order=7,
    verified=True,
)
FIRST = first_shape()
METRICS = [metric.name for metric in FIRST.metrics]
BOOT = BootRecord("sysfs", Cell({"interfaces": 128}), 0.61, "tsc", 1e-9)
TALLY = TallyRecord("sysfs", SAMPLE.cell, {"messages": 2, "system_calls": 150})
KERNEL = {
    "name": "sysfs",
    "release": "6.12.0",
    "sha256": "ab",
    "inputs": {"config": "cd"},
    "image_bytes": 5_000_000,
}

TIMES = st.floats(0, 1e6, allow_nan=False)
NUMBERS = st.integers(0, 2**40)
SAMPLES = st.builds(
    Sample,
    scenario=st.text(),
    kernel=st.text(),
    boot=st.text(),
    accel=st.text(),
    cell=st.builds(cell, st.text(), st.text(), NUMBERS),
    trial=NUMBERS,
    metrics=st.fixed_dictionaries(
        {"seconds": TIMES}, optional=dict.fromkeys(METRICS[1:], TIMES | NUMBERS)
    ),
    order=NUMBERS,
    verified=st.booleans(),
    block=NUMBERS,
    clock=st.text(),
)


def folder_at(path: Path, **about: Any) -> RunFolder:
    return RunFolder(path, {"kernels": [], **about})


# What is written and read


@settings(max_examples=30)
@given(SAMPLES)
def test_a_sample_survives_json(sample: Sample) -> None:
    assert Sample.from_json(json.loads(json.dumps(sample.to_json())), FIRST) == sample


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, kernels=[KERNEL], accel="tcg")
    samples = [replace(SAMPLE, order=order) for order in range(3)]
    for sample in samples:
        folder.add_sample(sample)
    folder.add_boot(BOOT)
    folder.add_tally(TALLY)
    folder.update(verdict="pass")
    run = read_run(tmp_path)
    assert list(run.samples) == samples
    assert (run.boots, run.tallies) == ([BOOT], [TALLY])
    assert run.kernels == [KernelRecord("sysfs", "6.12.0", "ab", {"config": "cd"}, 5_000_000)]
    assert (run.about["accel"], run.about["verdict"], run.about["schema"]) == ("tcg", "pass", 1)


def test_a_kernel_named_in_any_script_survives(tmp_path: Path) -> None:
    name = "/home/büro/核\u2028心/[bold]/\U0001f427\n"
    folder = folder_at(tmp_path, kernels=[{**KERNEL, "name": name}])
    folder.add_sample(replace(SAMPLE, kernel=name))
    run = read_run(tmp_path)
    assert run.kernels[0].name == run.samples[0].kernel == name


def test_a_run_that_begins_says_when_and_that_it_has_no_verdict_yet(tmp_path: Path) -> None:
    folder_at(tmp_path)
    about = read_run(tmp_path).about
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", about["start"])
    assert (about["end"], about["verdict"]) == (None, None)


def test_what_a_kernel_did_wrong_is_noted_at_once(tmp_path: Path) -> None:
    folder_at(tmp_path).add_fault("sysfs", WrongState("ll10000 is missing"))
    assert read_run(tmp_path).faults == [
        {"kernel": "sysfs", "verdict": "fail", "message": "ll10000 is missing", "evidence": ""}
    ]


def finding_of(name: str, folder: Path) -> FiledReport:
    (report,) = reports_in((Path(__file__).parent / "reports" / f"{name}.log").read_text())
    (finding,) = file_reports([report], folder / f"console-{name}.log", None)
    return finding


def test_what_the_kernel_reported_is_noted_with_class_title_and_file(tmp_path: Path) -> None:
    fault = KernelCrashed("the kernel reports: WARNING in rtnl_group_changelink")
    fault.filed = (finding_of("warning", tmp_path), finding_of("kasan", tmp_path))
    folder_at(tmp_path).add_fault("sysfs", fault, interfaces=2)
    (entry,) = read_run(tmp_path).faults
    first = fault.filed[0].report
    assert entry["class"] == "WARNING"
    assert entry["title"] == "WARNING in rtnl_group_changelink"
    assert entry["function"] == "rtnl_group_changelink"
    assert entry["fingerprint"] == first.fingerprint
    assert (tmp_path / entry["file"]).read_text().count(first.text) == 1
    assert [report["class"] for report in entry["reports"]] == ["WARNING", "KASAN"]
    assert entry["interfaces"] == 2


def test_known_noise_is_noted_too(tmp_path: Path) -> None:
    finding = finding_of("warning", tmp_path)
    folder_at(tmp_path).add_ignored("sysfs", finding.to_json(), interfaces=2)
    (entry,) = read_run(tmp_path).document()["ignored"]
    assert (entry["kernel"], entry["interfaces"]) == ("sysfs", 2)
    assert entry["title"] == "WARNING in rtnl_group_changelink"


def test_each_sample_is_one_line_that_is_on_disk_at_once(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    for number in range(1, 4):
        folder.add_sample(SAMPLE)
        content = (tmp_path / "samples.jsonl").read_bytes()
        assert content.count(b"\n") == number
        assert content.endswith(b"\n")


def test_each_boot_tally_and_fault_is_a_line_of_its_own_file_at_once(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    for number in range(1, 4):
        folder.add_boot(BOOT)
        folder.add_tally(TALLY)
        folder.add_fault("sysfs", WrongState("ll10000 is missing"), guest=number)
        folder.add_ignored("sysfs", {"title": "noise"}, guest=number)
        for name in LINES:
            content = (tmp_path / f"{name}.jsonl").read_bytes()
            assert content.count(b"\n") == number
            assert content.endswith(b"\n")
    assert (tmp_path / "run.json").read_bytes() == before, "it is written at the start alone"
    assert [fault["guest"] for fault in read_run(tmp_path).faults] == [1, 2, 3]


def test_the_run_in_memory_is_the_one_on_disk(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, kernels=[KERNEL])
    folder.add_sample(SAMPLE)
    folder.add_boot(BOOT)
    folder.add_tally(TALLY)
    folder.add_fault("sysfs", WrongState("ll10000 is missing"), during="trial")
    folder.add_ignored("sysfs", {"title": "noise"})
    folder.update(verdict="fail")
    assert folder.run == read_run(tmp_path)
    assert folder.run.document() == read_run(tmp_path).document()


def test_other_files_of_the_run_can_be_written(tmp_path: Path) -> None:
    path = folder_at(tmp_path).write_text("table.txt", "│ 0.5 │\n")
    assert path == tmp_path / "table.txt"
    assert path.read_bytes() == "│ 0.5 │\n".encode()


# What a reader tolerates


@settings(max_examples=20)
@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3))
def test_fields_that_this_version_does_not_know_are_ignored(more: dict[str, Any]) -> None:
    assert Sample.from_json({**more, **SAMPLE.to_json()}, FIRST) == SAMPLE


def test_a_run_of_a_later_version_with_more_in_it_can_be_read(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, kernels=[{**KERNEL, "later": 1}], later={})
    folder.update(boots=[{**BOOT.to_json(), "later": [1]}])
    line = json.dumps({**SAMPLE.to_json(), "later": None})
    (tmp_path / "samples.jsonl").write_text(line + "\n")
    run = read_run(tmp_path)
    assert (run.boots, run.kernels[0].name, list(run.samples)) == ([BOOT], "sysfs", [SAMPLE])


NEEDED = [f.name for f in fields(Sample) if f.default is MISSING]


@pytest.mark.parametrize(
    "missing", [*sorted(set(NEEDED) - {"cell", "metrics"}), *SAMPLE.cell, FIRST.metric.name]
)
def test_a_field_that_is_missing_is_named(missing: str) -> None:
    data = {name: value for name, value in SAMPLE.to_json().items() if name != missing}
    with pytest.raises(SchemaError, match=rf"\b{missing}\b"):
        Sample.from_json(data, FIRST)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_stored_value_that_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(SchemaError, match=f"{FIRST.metric.name} is {wrong}, which is no number"):
        Sample.from_json({**SAMPLE.to_json(), FIRST.metric.name: wrong}, FIRST)


def test_a_sample_keeps_which_saved_guest_it_came_from() -> None:
    assert "saved" not in SAMPLE.to_json()
    several = replace(SAMPLE, saved=3)
    assert Sample.from_json(several.to_json(), FIRST) == several


def test_what_a_sample_did_not_measure_may_be_missing() -> None:
    """Another metric than the first one, and what came later than the first results."""
    data = SAMPLE.to_json()
    for name in ("clock", "block", "processes"):
        del data[name]
    found = Sample.from_json(data, FIRST)
    assert (found.clock, found.block) == ("real", 0)
    assert found.metrics == {n: v for n, v in SAMPLE.metrics.items() if n != "processes"}


@pytest.mark.parametrize("missing", ["kernel", "seconds", "clocksource", "clock_resolution"])
def test_what_a_boot_lacks_is_named(missing: str) -> None:
    data = {name: value for name, value in BOOT.to_json().items() if name != missing}
    with pytest.raises(SchemaError, match=rf"a boot lacks {missing}"):
        BootRecord.from_json(data, FIRST)


@pytest.mark.parametrize("entry", ["kernels", "boots"])
def test_a_record_that_lacks_something_is_named(entry: str, tmp_path: Path) -> None:
    folder_at(tmp_path).update(**{entry: [{"name": "x", "kernel": "x"}]})
    with pytest.raises(UsageError, match=r"run\.json.*lacks .*(release|seconds)"):
        read_run(tmp_path)


def test_a_run_without_its_kernels_is_refused(tmp_path: Path) -> None:
    folder_at(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"schema": SCHEMA, "boots": []}))
    with pytest.raises(UsageError, match=r"run\.json.*lacks kernels"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "about", [{"schema": 2}, {"schema": "1"}, {"schema": None}, {}, [], None, 5, "text"]
)
def test_another_schema_is_refused_and_both_are_named(about: object, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=rf"schema .*this version reads {SCHEMA}") as caught:
        read_run(tmp_path)
    if isinstance(about, dict) and about.get("schema"):
        assert f"schema {about['schema']}," in caught.value.message


def test_a_folder_without_a_run_is_refused_and_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=re.escape(str(path))):
            read_run(path)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be read"):
        read_run(tmp_path / "file")


def test_samples_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    folder_at(tmp_path)
    (tmp_path / "samples.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"samples\.jsonl cannot be read"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": 1'])
def test_a_run_file_that_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.json cannot be read"):
        read_run(tmp_path)


# Killed at any moment


def test_a_run_killed_before_its_first_sample_has_none(tmp_path: Path) -> None:
    folder_at(tmp_path)
    assert list(read_run(tmp_path).samples) == []


def test_a_last_line_cut_short_at_any_byte_costs_at_most_that_sample(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    samples = [SAMPLE, replace(SAMPLE, order=8, kernel="ядро")]
    for sample in samples:
        folder.add_sample(sample)
    path = tmp_path / "samples.jsonl"
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    for end in range(begin, len(whole) + 1):
        path.write_bytes(whole[:end])
        read = list(read_run(tmp_path).samples)
        assert read == samples[: 2 if end >= len(whole) - 1 else 1]


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_another_file_that_is_cut_short_costs_that_line(
    name: str, tmp_path: Path
) -> None:
    folder = folder_at(tmp_path)
    for _ in range(2):
        folder.add_boot(BOOT)
        folder.add_tally(TALLY)
        folder.add_fault("sysfs", WrongState("no"))
        folder.add_ignored("sysfs", {})
    path = tmp_path / f"{name}.jsonl"
    path.write_bytes(path.read_bytes()[:-2])
    found = read_run(tmp_path).document()
    assert {each: len(found[each]) for each in LINES} == {
        each: 1 if each == name else 2 for each in LINES
    }


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("broken", [b"garbage", b"5", b"null", b'"text"'])
def test_a_broken_line_of_another_file_is_refused_and_named(
    name: str, broken: bytes, tmp_path: Path
) -> None:
    folder_at(tmp_path)
    (tmp_path / f"{name}.jsonl").write_bytes(broken + b"\n{}\n")
    with pytest.raises(UsageError, match=rf"{name}\.jsonl, line 1: "):
        read_run(tmp_path)


BROKEN = [
    b"{}",
    b"[]",
    b"[1]",
    b"5",
    b"null",
    b'"text"',
    b"garbage",
    b"\xff\xfe",
    json.dumps(SAMPLE.to_json()).encode()[:-1],
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_in_the_middle_is_refused_and_named(broken: bytes, tmp_path: Path) -> None:
    folder_at(tmp_path)
    good = json.dumps(SAMPLE.to_json()).encode()
    (tmp_path / "samples.jsonl").write_bytes(b"\n".join((good, broken, good)) + b"\n")
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 2: "):
        read_run(tmp_path)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_that_is_finished_is_refused_at_the_end_too(
    broken: bytes, tmp_path: Path
) -> None:
    folder_at(tmp_path)
    (tmp_path / "samples.jsonl").write_bytes(broken + b"\n")
    with pytest.raises(UsageError, match="line 1: "):
        read_run(tmp_path)


def test_the_run_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stops a change, the file's content is the old one or the new one."""
    folder = folder_at(tmp_path)
    before = (tmp_path / "run.json").read_bytes()

    def killed(_self: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.update(verdict="pass")
    assert (tmp_path / "run.json").read_bytes() == before
    folder.update(verdict="fail")
    assert read_run(tmp_path).about["verdict"] == "fail"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]


# The shape that a run keeps, and the first release's, which kept none


def test_a_run_without_a_shape_has_the_first_releases(tmp_path: Path) -> None:
    """What the first release wrote: one run.json with all lists in it, and flat samples."""
    about = {
        "schema": 1,
        "kernels": [KERNEL],
        "plan": {"pairs": [["mtu", "group"], ["up", "process"]], "counts": [2, 3], "repeat": 1},
        "boots": [{"kernel": "sysfs", "interfaces": 2, "seconds": 0.5, "clocksource": "tsc",
                   "clock_resolution": 1e-9}],
        "tallies": [{"kernel": "sysfs", "operation": "mtu", "arm": "group", "interfaces": 2,
                     "system_calls": 70, "messages": 3}],
        "faults": [{"kernel": "sysfs", "verdict": "fail", "message": "no", "evidence": "",
                    "during": "trial", "operation": "up", "arm": "process", "interfaces": 3}],
        "ignored": [{"kernel": "sysfs", "title": "noise"}],
    }  # fmt: skip
    line = {
        "scenario": "grouping", "kernel": "sysfs", "boot": "direct", "accel": "tcg",
        "operation": "mtu", "arm": "group", "interfaces": 2, "trial": 1, "seconds": 0.012,
        "user_seconds": 0.001, "system_seconds": 0.008, "context_switches": 3, "messages": 1,
        "processes": 1, "order": 7, "verified": True, "listeners": 0, "notifications": 0,
        "notifications_lost": 0,
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n")
    run = read_run(tmp_path)
    assert run.shape == FIRST
    (found,) = run.samples
    assert found.cell == cell("mtu", "group", 2)
    assert found.metrics == {name: line[name] for name in METRICS}
    assert (found.clock, found.block) == ("real", 0)
    assert run.cells == [
        cell("mtu", "group", 2),
        cell("mtu", "group", 3),
        cell("up", "process", 2),
        cell("up", "process", 3),
    ]
    assert run.boots == [BootRecord("sysfs", Cell({"interfaces": 2}), 0.5, "tsc", 1e-9)]
    (tally,) = run.tallies
    assert tally == TallyRecord(
        "sysfs", cell("mtu", "group", 2), {"messages": 3, "system_calls": 70}
    )
    assert run.shape.cell_in(run.faults[0]) == cell("up", "process", 3)
    assert [entry["title"] for entry in run.document()["ignored"]] == ["noise"]


def test_the_first_releases_shape_says_what_it_varied_and_measured() -> None:
    assert [axis.name for axis in FIRST.axes] == ["operation", "arm", "interfaces"]
    assert (FIRST.rows, FIRST.columns, FIRST.sheets) == ("interfaces", "arm", ("operation",))
    assert FIRST.per_guest == ("interfaces",)
    assert (FIRST.metric.name, FIRST.metric.unit) == ("seconds", "s")
    assert FIRST.metric.is_time and not FIRST.metric.zero
    assert FIRST.in_words(cell("mtu", "group", 8)) == "mtu by group, 8 interfaces"


def test_a_run_keeps_its_own_shape(tmp_path: Path) -> None:
    shape = replace(
        FIRST, metrics=(Metric("goodput", "Mbit/s", Better.MORE), Metric("loss", "%", zero=True))
    )
    folder = folder_at(tmp_path, shape=shape.to_json(), plan={"cells": [["mtu", "group", 4]]})
    folder.add_sample(replace(SAMPLE, metrics={"goodput": 9.5, "loss": 0.0}))
    run = read_run(tmp_path)
    assert run.shape == shape
    assert run.cells == [cell("mtu", "group", 4)]
    assert run.samples[0].metrics == {"goodput": 9.5, "loss": 0.0}
    (tmp_path / "samples.jsonl").write_text(json.dumps(SAMPLE.to_json()) + "\n")
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 1: a sample lacks goodput"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"axes": [], "metrics": [{"name": "x"}], "rows": "a", "columns": "b"},
        {"axes": [{"name": "a"}], "metrics": [], "rows": "a", "columns": "a"},
        {"axes": [{"title": "a"}], "metrics": [{"name": "x"}], "rows": "a", "columns": "a"},
        {"axes": 5, "metrics": [{"name": "x"}], "rows": "a", "columns": "a"},
        {"axes": [{"name": "a"}], "metrics": [{"name": "x", "better": "odd"}], "rows": "a",
         "columns": "a"},
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_read_is_refused(shape: dict[str, Any], tmp_path: Path) -> None:
    folder_at(tmp_path, shape=shape)
    for read in (read_about, read_run):
        with pytest.raises(UsageError, match=r"run\.json"):
            read(tmp_path)


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("wrong", [5, "text", [1], {"a": 1}])
def test_lists_in_a_run_file_that_are_none_are_refused(name: str, wrong: object) -> None:
    with pytest.raises(SchemaError, match=name):
        Run({"kernels": [], name: wrong}, ()).document()


def test_the_shape_of_the_first_release_is_read_for_a_run_without_one_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_FIRST_RELEASE", tmp_path / "no such file")
    kept = Run({"kernels": [], "plan": {"repeat": 1}, "shape": FIRST.to_json()}, ())
    kept.check()
    assert (kept.shape, kept.cells) == (FIRST, [])
    with pytest.raises(FileNotFoundError):
        Run({"kernels": []}, ()).check()
