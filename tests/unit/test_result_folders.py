"""The folder of a run: how it is claimed, and what happens where it cannot be written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from test_results import BOOT, SAMPLE, TALLY, folder_at

from linklab.errors import LabError, UsageError, Verdict, WrongState
from linklab.results.store import (
    RunFolder,
    claim,
    claim_default_folder,
    claim_folder,
    read_run,
    removed_if_empty,
)


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


def test_results_go_where_they_are_asked_for_and_else_into_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert claim("mine", "grouping") == Path("mine")
    assert re.fullmatch(r"results/\d{8}T\d{6}Z-series", str(claim("", "series")))
    folder_at(Path("mine"))
    with pytest.raises(UsageError, match="mine already holds a run"):
        claim("mine", "grouping")


def test_a_folder_whose_filling_fails_is_removed_where_nothing_is_in_it(tmp_path: Path) -> None:
    for name, files in (("empty", []), ("used", ["notes.txt"])):
        folder = claim_folder(tmp_path / name)
        with pytest.raises(LabError), removed_if_empty(folder):
            for file in files:
                (folder / file).touch()
            raise LabError("no QEMU")
        assert folder.exists() == bool(files)
    kept = claim_folder(tmp_path / "kept")
    with removed_if_empty(kept):
        pass
    assert kept.is_dir()


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


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("samples.jsonl", lambda folder: folder.add_sample(SAMPLE)),
        ("boots.jsonl", lambda folder: folder.add_boot(BOOT)),
        ("tallies.jsonl", lambda folder: folder.add_tally(TALLY)),
        ("faults.jsonl", lambda folder: folder.add_fault("sysfs", WrongState("no"))),
        ("ignored.jsonl", lambda folder: folder.add_ignored("sysfs", {})),
        ("table.txt", lambda folder: folder.write_text("table.txt", "text\n")),
    ],
)
def test_a_disk_that_fills_up_is_the_labs_fault_and_says_so(
    file: str, write: Callable[[RunFolder], object], tmp_path: Path
) -> None:
    folder = folder_at(tmp_path)
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(LabError, match="No space left on device") as caught:
        write(folder)
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
        names.append(folder.console_log(kernel, "128"))
        (tmp_path / names[-1]).touch()
    assert names == sorted(set(names))
    assert all(name.endswith("-128.log") for name in names)
    assert "-sysfs-" in names[0]


def test_logs_of_guests_that_ended_well_can_be_dropped_and_later_ones_have_new_names(
    tmp_path: Path,
) -> None:
    folder = folder_at(tmp_path)
    first = folder.console_log("sysfs", "128")
    for name in (first, "table.txt"):
        (tmp_path / name).touch()
    folder.drop_logs()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "table.txt"]
    assert folder.console_log("sysfs", "128") != first
