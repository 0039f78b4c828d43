"""The workflow of the commands: what is done in what order, and what stays however it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_lab import lab_of, subject
from rich.text import Text

from linklab.commands import workflow
from linklab.commands.exports import ExportOptions
from linklab.commands.workflow import Finished, Request, RunRecord
from linklab.errors import KernelCrashed, LabError, LinklabError, UsageError, Verdict
from linklab.options import ResultOptions
from linklab.results.outcomes import Suite
from linklab.results.store import claim, read_about

Fail = Callable[[], None]


@dataclass(frozen=True)
class ToyOptions(ResultOptions):
    """What fails where."""

    fails: dict[str, BaseException] | None = None


class Toy(RunRecord[ToyOptions, Request]):
    """A command that does nothing but fail where it is told to, and says what it came to."""

    kind = "toy"

    def _at(self, step: str) -> None:
        STEPS.append(step)
        if error := (self.options.fails or {}).get(step):
            raise error

    def check(self) -> Request:
        self._at("check")
        return Request(claim(self.options.output, self.kind))

    def prepare(self) -> None:
        assert self.request.folder.is_dir()
        self._at("prepare")
        self.lab, self.subjects = lab_of(), [subject("sysfs")]

    def about(self) -> dict[str, Any]:
        return {"own": 1}

    def measure(self) -> None:
        assert read_about(self.request.folder)["own"] == 1
        self._at("measure")

    def finish(self, faults: Sequence[LinklabError]) -> Finished:
        self._at("finish")
        return self.ended(faults, Verdict.FAIL, "too slow", found=2)

    def table(self) -> Text:
        self._at("table")
        return Text("the table")

    def document(self) -> dict[str, Any]:
        return {"found": self.stored.about["found"]}

    def exports(self) -> tuple[ExportOptions, str, Sequence[str]]:
        return ExportOptions(junit="toy.xml"), self.kind, ["sysfs"]

    def suites(self) -> Sequence[Suite]:
        return [Suite("what was done", (), None)]


STEPS: list[str] = []


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    STEPS.clear()
    monkeypatch.chdir(tmp_path)


def toy(as_json: bool = False, **fails: BaseException) -> Verdict:
    options = ToyOptions(output="out", as_json=as_json, fails=fails)
    return Toy(options, ["invoke", "toy", "a b"]).carry_out()


def test_everything_has_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert toy() is Verdict.FAIL
    assert STEPS[:4] == ["check", "prepare", "measure", "finish"]
    about = read_about(Path("out"))
    assert (about["kind"], about["command"], about["own"]) == ("toy", "invoke toy 'a b'", 1)
    assert (about["verdict"], about["message"], about["found"]) == ("fail", "too slow", 2)
    assert about["kernels"][0]["name"] == "sysfs"
    assert about["end"] >= about["start"]
    out = capsys.readouterr().out
    assert out == "the table\n\nverdict: fail   results: out\n"
    assert Path("out/table.txt").read_text() == "the table\n"
    assert "what was done" in Path("toy.xml").read_text()


def test_a_script_gets_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert toy(as_json=True) is Verdict.FAIL
    assert json.loads(capsys.readouterr().out) == {"folder": "out", "found": 2}
    assert Path("out/table.txt").is_file()


def test_a_wrong_option_leaves_nothing_at_all() -> None:
    with pytest.raises(UsageError):
        toy(check=UsageError("--frob"))
    assert STEPS == ["check"]
    assert not list(Path().iterdir())


@pytest.mark.parametrize("error", [LabError("no QEMU"), KeyboardInterrupt()])
def test_what_cannot_begin_leaves_no_folder(error: BaseException) -> None:
    with pytest.raises(type(error)):
        toy(prepare=error)
    assert STEPS == ["check", "prepare"]
    assert not Path("out").exists()


def test_what_cannot_begin_is_exported_as_that() -> None:
    with pytest.raises(LabError):
        toy(prepare=LabError("no QEMU"))
    assert "no QEMU" in Path("toy.xml").read_text()


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (KernelCrashed("an oops", "[1.0] BUG"), Verdict.CRASH),
        (LabError("the disk is full"), Verdict.ERROR),
        (KeyboardInterrupt(), Verdict.INTERRUPTED),
    ],
)
def test_what_was_begun_is_kept_and_shown_however_it_ends(
    error: BaseException, verdict: Verdict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy(measure=error) is verdict
    assert read_about(Path("out"))["verdict"] == verdict.value
    out, err = capsys.readouterr()
    assert f"verdict: {verdict.value}" in out
    assert f"{verdict.value}: " in err
    assert Path("toy.xml").is_file()


def test_who_cannot_be_shown_the_table_gets_the_files_all_the_same() -> None:
    with pytest.raises(BrokenPipeError):
        toy(table=BrokenPipeError())
    assert read_about(Path("out"))["verdict"] == "fail"
    assert "what was done" in Path("toy.xml").read_text()


def test_who_reads_the_table_does_not_wait_for_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Toy, "illustrate", lambda *_: shown.append(capsys.readouterr().out))
    toy()
    assert shown == ["the table\n\nverdict: fail   results: out\n"]


def test_who_reads_only_its_beginning_gets_the_page_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose(_shown: object) -> None:
        raise BrokenPipeError

    drawn: list[object] = []
    monkeypatch.setattr(Toy, "illustrate", lambda *_: drawn.append(_))
    monkeypatch.setattr(workflow, "print_shown", lose)
    with pytest.raises(BrokenPipeError):
        toy()
    assert len(drawn) == 1
