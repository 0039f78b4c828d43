"""Results on disk: what is written can be read again, whenever the run was killed."""

from __future__ import annotations

import json
import os
import re
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.console.watch import reports_in
from linklab.errors import KernelCrashed, LabError, UsageError, Verdict, WrongState
from linklab.lab.findings import Finding, file_findings
from linklab.results.model import SCHEMA, BootRecord, KernelRecord, Sample, SchemaError
from linklab.results.store import (
    RunFolder,
    claim_default_folder,
    claim_folder,
    read_run,
)

SAMPLE = Sample(
    scenario="grouping",
    kernel="nosysfs",
    boot="direct",
    accel="tcg",
    operation="mtu",
    arm="group",
    interfaces=128,
    trial=1,
    seconds=0.012,
    user_seconds=0.001,
    system_seconds=0.008,
    context_switches=3,
    messages=1,
    processes=1,
    order=7,
    verified=True,
)
BOOT = BootRecord("sysfs", 128, 0.61, "tsc", 1e-9)
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
    **{
        field.name: {"str": st.text(), "int": NUMBERS, "float": TIMES, "bool": st.booleans()}[
            str(field.type)
        ]
        for field in fields(Sample)
    },
)


def folder_at(path: Path, **about: Any) -> RunFolder:
    return RunFolder(path, {"kernels": [], **about})


# What is written and read


@settings(max_examples=30)
@given(SAMPLES)
def test_a_sample_survives_json(sample: Sample) -> None:
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, kernels=[KERNEL], accel="tcg")
    samples = [replace(SAMPLE, order=order) for order in range(3)]
    for sample in samples:
        folder.add_sample(sample)
    folder.add_boot(BOOT)
    folder.update(verdict="pass")
    run = read_run(tmp_path)
    assert list(run.samples) == samples
    assert run.boots == [BOOT]
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
    assert read_run(tmp_path).about["faults"] == [
        {"kernel": "sysfs", "verdict": "fail", "message": "ll10000 is missing", "evidence": ""}
    ]


def finding_of(name: str, folder: Path) -> Finding:
    (report,) = reports_in((Path(__file__).parent / "reports" / f"{name}.log").read_text())
    (finding,) = file_findings([report], folder / f"console-{name}.log", None)
    return finding


def test_what_the_kernel_reported_is_noted_with_class_title_and_file(tmp_path: Path) -> None:
    fault = KernelCrashed("the kernel reports: WARNING in rtnl_group_changelink")
    fault.findings = (finding_of("warning", tmp_path), finding_of("kasan", tmp_path))
    folder_at(tmp_path).add_fault("sysfs", fault, interfaces=2)
    (entry,) = read_run(tmp_path).about["faults"]
    first = fault.findings[0].report
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
    (entry,) = read_run(tmp_path).about["ignored"]
    assert (entry["kernel"], entry["interfaces"]) == ("sysfs", 2)
    assert entry["title"] == "WARNING in rtnl_group_changelink"


def test_each_sample_is_one_line_that_is_on_disk_at_once(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    for number in range(1, 4):
        folder.add_sample(SAMPLE)
        content = (tmp_path / "samples.jsonl").read_bytes()
        assert content.count(b"\n") == number
        assert content.endswith(b"\n")


def test_other_files_of_the_run_can_be_written(tmp_path: Path) -> None:
    path = folder_at(tmp_path).write_text("table.txt", "│ 0.5 │\n")
    assert path == tmp_path / "table.txt"
    assert path.read_bytes() == "│ 0.5 │\n".encode()


# What a reader tolerates


@settings(max_examples=20)
@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3))
def test_fields_that_this_version_does_not_know_are_ignored(more: dict[str, Any]) -> None:
    assert Sample.from_json({**more, **SAMPLE.to_json()}) == SAMPLE


def test_a_run_of_a_later_version_with_more_in_it_can_be_read(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, kernels=[{**KERNEL, "later": 1}], later={})
    folder.update(boots=[{**asdict(BOOT), "later": [1]}])
    line = json.dumps({**SAMPLE.to_json(), "later": None})
    (tmp_path / "samples.jsonl").write_text(line + "\n")
    run = read_run(tmp_path)
    assert (run.boots, run.kernels[0].name, list(run.samples)) == ([BOOT], "sysfs", [SAMPLE])


@pytest.mark.parametrize("missing", [f.name for f in fields(Sample) if f.default is MISSING])
def test_a_field_that_is_missing_is_named(missing: str) -> None:
    data = {name: value for name, value in SAMPLE.to_json().items() if name != missing}
    with pytest.raises(SchemaError, match=rf"\b{missing}\b"):
        Sample.from_json(data)


def test_a_field_that_came_later_may_be_missing() -> None:
    data = SAMPLE.to_json()
    for name in ("listeners", "notifications", "notifications_lost"):
        del data[name]
    assert Sample.from_json(data) == SAMPLE


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


# Folders


@pytest.mark.parametrize("file", ["run.json", "samples.jsonl"])
def test_a_folder_that_holds_a_run_is_not_used_again(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("")
    with pytest.raises(UsageError, match=rf"{re.escape(str(tmp_path))} already holds a run"):
        claim_folder(tmp_path)
    assert (tmp_path / file).read_text() == ""


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    path = claim_folder(tmp_path / "a" / "b")
    assert list(path.iterdir()) == []


def test_a_folder_with_other_things_in_it_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim_folder(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_path_on_which_no_folder_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        Path("/proc/linklab"),
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(UsageError, match=re.escape(f"{path} cannot be written: ")):
            claim_folder(path)


def test_a_folder_that_one_may_not_write_is_refused(common_folder: Path) -> None:
    locked = common_folder / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        claim_folder(locked)
    with pytest.raises(UsageError, match="Permission denied"):
        claim_folder(locked / "below")
    closed = common_folder / "closed"
    closed.mkdir()
    closed.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        claim_folder(closed)
    with pytest.raises(UsageError, match="Permission denied"):
        claim_folder(closed / "below")


def test_a_full_disk_is_noticed_before_anything_is_started_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "results" / "run"

    def full(path: Path, _data: bytes) -> int:
        path.touch()  # the name still fits, what is in it does not
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left on device"):
        claim_folder(target)
    assert not list(tmp_path.rglob(".probe*"))


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    """Both found it empty; who begins second must not mix into the first one's results."""
    for path in (claim_folder(tmp_path), claim_folder(tmp_path)):
        assert path == tmp_path
    folder_at(tmp_path, command="first")
    with pytest.raises(UsageError, match="already holds a run"):
        folder_at(tmp_path, command="second")
    assert read_run(tmp_path).about["command"] == "first"


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [claim_default_folder("grouping") for _ in range(5)]
    assert len(set(paths)) == 5
    for path in paths:
        assert re.fullmatch(r"results/\d{8}T\d{6}Z-grouping(-\d+)?", str(path))
        assert path.is_dir()


def test_a_default_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").touch()
    with pytest.raises(UsageError, match=r"results/.* cannot be written"):
        claim_default_folder("grouping")
    (tmp_path / "results").unlink()
    (tmp_path / "results").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"results/.* cannot be written"):
        claim_default_folder("grouping")


@pytest.mark.parametrize("file", ["samples.jsonl", "table.txt"])
def test_a_disk_that_fills_up_is_the_labs_fault_and_says_so(file: str, tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(LabError, match="No space left on device") as caught:
        if file == "samples.jsonl":
            folder.add_sample(SAMPLE)
        else:
            folder.write_text(file, "text\n")
    assert caught.value.verdict is Verdict.ERROR
    assert str(tmp_path) in caught.value.message


def test_a_folder_that_goes_away_is_the_labs_fault(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder = folder_at(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(LabError, match="run cannot be written: No such file"):
        folder.add_boot(BOOT)
    with pytest.raises(LabError, match="run cannot be written: No such file"):
        folder.add_sample(SAMPLE)


def test_console_logs_have_names_of_their_own_in_the_order_of_the_guests(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    names = []
    for kernel in ("sysfs", "sysfs", "../../etc/x", "nosysfs"):
        log = folder.console_log(kernel, 128)
        assert log.parent == tmp_path
        log.touch()
        names.append(log.name)
    assert names == sorted(set(names))
    assert all(name.endswith("-128.log") for name in names)
    assert "-sysfs-" in names[0]
