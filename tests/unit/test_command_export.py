"""`invoke export`, and the options of the same names on other commands."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from suites import SUITE

from linklab.commands.exports import (
    ExportOptions,
    StoredExportOptions,
    export,
    failure_written,
    write_exports,
)
from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.results.model import KernelRecord
from linklab.results.store import RunFolder


@pytest.fixture
def options(tmp_path: Path) -> ExportOptions:
    return ExportOptions(
        str(tmp_path / "new" / "junit.xml"), str(tmp_path / "out.ktap"), str(tmp_path / "k.json")
    )


def test_each_file_asked_for_is_written_and_no_other(
    tmp_path: Path, options: ExportOptions
) -> None:
    options.check()
    written = write_exports(options, [SUITE])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)
    assert len(written) == 3
    assert json.loads(Path(options.kcidb).read_text())["version"]["major"] == 5
    assert write_exports(ExportOptions(), [SUITE]) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ExportOptions(junit="{}"), "is a folder"),
        (ExportOptions(ktap="{}/file/below"), "file is not a folder"),
        (ExportOptions(kcidb="/proc/none/k.json"), "cannot be written"),
        (ExportOptions(junit="{}/same", ktap="{}/same"), "--junit and --ktap name the same file"),
        (ExportOptions(origin="My Lab"), "--kcidb-origin My Lab"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(
    tmp_path: Path, wrong: ExportOptions, words: str
) -> None:
    (tmp_path / "file").touch()
    named = {option: str(path).format(tmp_path) for option, path in wrong.files().items()}
    with pytest.raises(UsageError, match=words):
        ExportOptions(**named, origin=wrong.origin).check()


def test_a_file_that_was_there_is_left_alone_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "old.xml").write_text("old")
    ExportOptions(junit=str(tmp_path / "old.xml")).check()
    assert (tmp_path / "old.xml").read_text() == "old"


def test_a_folder_that_went_away_meanwhile_is_the_labs_fault(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="invoke export"):
        write_exports(ExportOptions(ktap=str(tmp_path / "gone" / "x")), [SUITE])


def test_a_kernel_that_does_not_build_is_in_the_files_too(options: ExportOptions) -> None:
    options.check()
    error = BuildSkipped("kernel sysfs does not compile", "a.c:1: error: no")
    with pytest.raises(BuildSkipped), failure_written(options, "grouping", ["sysfs", "nosysfs"]):
        raise error
    assert "  not ok 1 build" in Path(options.ktap).read_text()
    assert "# kernel sysfs does not compile" in Path(options.ktap).read_text()
    report = json.loads(Path(options.kcidb).read_text())
    assert [build["status"] for build in report["builds"]] == ["FAIL", "FAIL"]
    assert len({build["id"] for build in report["builds"]}) == 2


def test_a_lab_that_cannot_start_is_an_error_in_the_files(options: ExportOptions) -> None:
    options.check()
    with pytest.raises(LabError), failure_written(options, "grouping", ["sysfs"]):
        raise LabError("no QEMU")
    assert '<error message="no QEMU"' in Path(options.junit).read_text()


def test_a_wrong_option_writes_nothing(options: ExportOptions) -> None:
    options.check()
    with pytest.raises(UsageError), failure_written(options, "grouping", ["sysfs"]):
        raise UsageError("--counts many")
    assert not any(path.exists() for path in options.files().values())


def test_a_stored_run_is_exported_and_the_files_are_named(
    tmp_path: Path, options: ExportOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = asdict(KernelRecord("sysfs", "6.12", "0", {}, None))
    (tmp_path / "run").mkdir()
    plan = {"counts": [128], "pairs": [["mtu", "group"]], "repeat": 1}
    RunFolder(tmp_path / "run", {"kernels": [kernel], "plan": plan, "scenario": "grouping"})
    export(StoredExportOptions("run", str(tmp_path), options))
    assert capsys.readouterr().out.split() == [options.junit, options.ktap, options.kcidb]
    assert "not ok 1 128 # ERROR the run did not come to its end" in Path(options.ktap).read_text()


def test_an_export_to_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name a file"):
        export(StoredExportOptions("last", str(tmp_path)))
