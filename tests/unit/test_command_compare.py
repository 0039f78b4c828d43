"""`invoke compare` from its options to its verdict, with fake guests instead of real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_guest import FakeGuest
from fake_lab import lab_of
from fake_lab import subject as fake_subject
from slow_guest import guests

from linklab.commands import compare as command
from linklab.commands import workflow
from linklab.commands.compare import CompareOptions, CompareRequest, Comparing
from linklab.commands.history import ReportOptions, RerunOptions, ShowOptions, report, rerun, show
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.workflow import on_one_machine
from linklab.errors import BuildSkipped, KernelCrashed, UsageError, Verdict
from linklab.events import Event, Note
from linklab.lab import lab as lab_module
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot, MachineType
from linklab.results.comparison import Pair, pairs_of
from linklab.results.shape import Cell
from linklab.results.store import read_run
from linklab.trials import sequential

OPTIONS = CompareOptions(
    a="nosysfs",
    b="sysfs",
    kernels=KernelOptions(""),
    machine=MachineOptions(boot="direct", clock="real"),
    counts="2",
    blocks="8",
    trials="2",
    seed="5",
    output="out",
)
ARGV = ["invoke", "compare", "nosysfs", "sysfs"]
Pairs = dict[Cell, Pair]
TWENTY_PER_CENT = re.compile(r"sysfs takes (?:19|20)\.\d % longer")


def check(options: CompareOptions) -> CompareRequest:
    return Comparing(options).check()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)


Compare = Callable[..., Verdict]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Compare for real, but for the guests, of which B takes `factor` as long as A."""

    def do(
        options: CompareOptions = OPTIONS,
        factor: float = 1.0,
        make: Callable[[str, int], FakeGuest] | None = None,
        boot: Boot = Boot.DIRECT,
        spread: float = 0.005,
    ) -> Verdict:
        slow = guests({"nosysfs": 1.0, "sysfs": factor, "nosysfs#2": factor}, spread)
        lab = lab_of(make or slow, boot=boot)
        monkeypatch.setattr(workflow, "set_up_lab", lambda *_: lab)

        def prepared(options: KernelOptions, *_: object) -> list[Subject]:
            return [fake_subject(options.names)]

        monkeypatch.setattr(workflow, "prepare_subjects", prepared)
        return command.main(options, ARGV)

    return do


# What is wrong is said before anything is started


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"threshold": "0"}, "--threshold 0: per cent above 0"),
        ({"threshold": "much"}, "--threshold much: a number of per cent"),
        ({"until": "forever"}, "--until forever: unknown; valid is conclusive"),
        ({"max_time": "10"}, "--max-time goes with --until conclusive"),
        ({"blocks": "1"}, "--blocks 1"),
        ({"trials": "0"}, "--trials 0"),
        (
            {"arms": "group", "operations": "create"},
            "create by group, 2 interfaces: a group has no",
        ),
        ({"machine": MachineOptions(boot="frob")}, "--boot frob"),
        ({"a": "frob"}, "there is no kernel 'frob'"),
        ({"metric": "frob"}, "--metric frob: unknown; valid are seconds, "),
        (
            {"metric": "notifications", "threshold": "5"},
            "--threshold 5: notifications may be 0, so it is compared by its difference",
        ),
    ],
)
def test_a_wrong_option_is_refused_and_leaves_nothing(
    changed: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        check(replace(OPTIONS, **changed))  # type: ignore[arg-type]
    assert says in caught.value.message
    assert not (tmp_path / "out").exists()


def test_the_first_trial_of_a_guest_is_thrown_away_where_there_are_several() -> None:
    assert check(OPTIONS).plan.warmup_trials == 1
    assert check(replace(OPTIONS, trials="1", output="b")).plan.warmup_trials == 0
    assert check(replace(OPTIONS, warmup="3", output="c")).plan.warmup_trials == 3


def test_a_threshold_is_given_in_per_cent() -> None:
    assert check(replace(OPTIONS, threshold="0.5%")).rule.threshold == 0.005


def test_a_kernel_that_cannot_be_built_leaves_no_folder(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> list[Subject]:
        raise BuildSkipped("the patch does not apply")

    monkeypatch.setattr(workflow, "set_up_lab", lambda *_: lab_of())
    monkeypatch.setattr(workflow, "prepare_subjects", refuse)
    with pytest.raises(BuildSkipped):
        command.main(OPTIONS, ARGV)
    assert not (tmp_path / "out").exists()


def test_kernels_that_boot_on_different_machines_are_both_put_on_one() -> None:
    notes: list[Event] = []
    own, other = fake_subject("nosysfs"), replace(fake_subject("bzImage"), known=False)
    lab = on_one_machine(lab_of(), (own, other), notes.append)
    assert lab.machine_for(own) is lab.machine_for(other) is MachineType.PC
    (note,) = notes
    assert isinstance(note, Note)
    assert "nosysfs on microvm, bzImage on pc" in note.text
    same = on_one_machine(lab_of(), (own, own), notes.append)
    assert same.machine_for(own) is MachineType.MICROVM
    assert len(notes) == 1


# What comes out


def test_a_slower_kernel_fails_and_the_last_words_can_be_quoted(
    compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(factor=1.2) is Verdict.FAIL
    said = capsys.readouterr().out
    assert TWENTY_PER_CENT.search(" ".join(said.split()))
    assert "verdict: fail   results: out" in said
    about = read_run(Path("out")).about
    assert (about["kind"], about["verdict"]) == ("compare", "fail")
    assert about["message"] == "slower: mtu by group, 2 interfaces"
    (result,) = about["comparison"]["results"]
    assert result["verdict"] == "slower"
    assert (about["comparison"]["a"], about["comparison"]["b"]) == ("nosysfs", "sysfs")
    assert TWENTY_PER_CENT.search(" ".join(Path("out/table.txt").read_text().split()))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (0.7, "faster")])
def test_a_kernel_that_is_not_slower_passes(compare: Compare, factor: float, verdict: str) -> None:
    assert compare(factor=factor) is Verdict.PASS
    (result,) = read_run(Path("out")).about["comparison"]["results"]
    assert result["verdict"] == verdict


def test_samples_say_which_side_and_which_block(compare: Compare) -> None:
    compare(replace(OPTIONS, b="nosysfs"))
    samples = [s for s in read_run(Path("out")).samples if s.trial]
    assert {s.kernel for s in samples} == {"nosysfs", "nosysfs#2"}
    assert {s.block for s in samples} == set(range(1, 9))
    assert {s.trial for s in samples} == {1, 2}


def test_json_is_one_document_with_everything(
    compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(replace(OPTIONS, as_json=True), factor=1.3)
    document = json.loads(capsys.readouterr().out)
    assert document["run"]["comparison"]["results"][0]["verdict"] == "slower"
    assert document["sentence"].startswith("sysfs takes ")
    assert len(document["samples"]) == 2 * 8 * 3


def test_until_conclusive_goes_on_until_it_is_known(compare: Compare) -> None:
    options = replace(OPTIONS, until="conclusive", max_time="3000", blocks="6")
    assert compare(options, factor=1.1, spread=0.08) is Verdict.FAIL
    comparison = read_run(Path("out")).about["comparison"]
    assert len(comparison["looks"]) > 1
    assert comparison["in_time"]


def test_a_resumed_lab_has_a_saved_guest_of_each_side(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def with_snapshots(self: Lab, subjects: list[Subject], *_: object) -> Lab:
        saved.extend(subject.name for subject in subjects)
        return self

    monkeypatch.setattr(Lab, "with_snapshots", with_snapshots)
    compare(boot=Boot.RESUME)
    assert saved == ["nosysfs", "sysfs"]


def test_a_crash_is_a_crash_and_not_a_comparison(
    compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(kernel: str, _count: int) -> FakeGuest:
        def before(operation: str) -> None:
            if kernel == "sysfs" and operation == "run":
                raise KernelCrashed("the kernel reports an oops")

        return FakeGuest(before=before)

    assert compare(make=make) is Verdict.CRASH
    captured = capsys.readouterr()
    assert "Nothing was measured of both nosysfs and sysfs." in captured.out
    assert "kernel sysfs: the kernel reports an oops" in captured.err
    assert read_run(Path("out")).about["verdict"] == "crash"


def test_a_cell_of_which_nothing_could_be_compared_is_no_pass(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pairs_but(found: Pairs) -> Pairs:
        return {cell: pair for cell, pair in found.items() if cell["interfaces"] != 3}

    monkeypatch.setattr(sequential, "pairs_of", lambda *words: pairs_but(pairs_of(*words)))
    assert compare(replace(OPTIONS, counts="2,3")) is Verdict.ERROR
    says = "nothing to compare was measured in mtu by group, 3 interfaces"
    assert f"error: {says}" in capsys.readouterr().err
    about = read_run(Path("out")).about
    assert (about["verdict"], about["message"]) == ("error", says)
    (result,) = about["comparison"]["results"]
    assert result["interfaces"] == 2, "what there is is kept"


def test_an_interrupted_comparison_keeps_what_it_has(compare: Compare) -> None:
    left = iter(range(20))

    def make(_kernel: str, _count: int) -> FakeGuest:
        if next(left) == 15:
            raise KeyboardInterrupt
        return FakeGuest()

    assert compare(make=make) is Verdict.INTERRUPTED
    (result,) = read_run(Path("out")).about["comparison"]["results"]
    assert result["blocks"] == 7


# Stored comparisons


def test_a_past_comparison_is_shown_as_it_was(
    compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(factor=1.2)
    capsys.readouterr()
    show(ShowOptions("out", "."))
    assert TWENTY_PER_CENT.search(" ".join(capsys.readouterr().out.split()))


def test_the_page_of_a_comparison_says_what_it_found_and_nothing_of_the_papers_claims(
    compare: Compare,
) -> None:
    compare(factor=1.2)
    report(ReportOptions(("out",), results="."))
    page = Path("out/report.html").read_text()
    assert "What was found" in page and TWENTY_PER_CENT.search(" ".join(page.split()))
    assert "Compare, " in page and "slower" in page
    assert "paper" not in page.split("<body>")[1].split("Seconds")[0]
    assert 'id="claims"' not in page


def test_a_comparison_is_repeated_by_its_command(compare: Compare) -> None:
    compare()
    with pytest.raises(UsageError, match="repeat it by its command: invoke compare nosysfs sysfs"):
        rerun(RerunOptions("out", "."), ARGV)


def stored(folder: str, factor: float, compare: Compare) -> None:
    compare(replace(OPTIONS, output=folder), factor=factor)


def test_two_stored_runs_are_compared(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    stored("one", 1.0, compare)
    stored("other", 1.3, compare)
    capsys.readouterr()
    options = replace(OPTIONS, a="one", b="other", results=".")
    assert command.main(options, ARGV) is Verdict.FAIL
    said = " ".join(capsys.readouterr().out.split())
    assert "slower in mtu by group, 2 interfaces, kernel sysfs" in said
    assert "at different times" in said
    command.main(replace(options, as_json=True), ARGV)
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == ["one", "other"]
    assert {result["kernel"] for result in document["results"]} == {"nosysfs", "sysfs"}


def test_the_same_run_twice_passes(compare: Compare) -> None:
    stored("one", 1.0, compare)
    assert command.main(replace(OPTIONS, a="one", b="one"), ARGV) is Verdict.PASS


def test_stored_runs_with_nothing_in_common_are_not_taken_for_the_same(compare: Compare) -> None:
    stored("one", 1.0, compare)
    compare(replace(OPTIONS, output="other", counts="3"))
    with pytest.raises(UsageError, match="one and other have nothing in common"):
        command.main(replace(OPTIONS, a="one", b="other"), ARGV)


def test_stored_runs_take_no_options_for_building(compare: Compare) -> None:
    stored("one", 1.0, compare)
    options = replace(OPTIONS, a="one", b="one", kernels=KernelOptions("", patches=("fix.patch",)))
    with pytest.raises(UsageError, match="nothing is built or measured"):
        command.main(options, ARGV)


@pytest.mark.parametrize(
    "asked",
    [{"axis": ("arm=group",)}, {"param": ("listeners=1",)}],
    ids=str,
)
def test_stored_runs_take_no_options_for_measuring(asked: dict[str, Any], compare: Compare) -> None:
    stored("one", 1.0, compare)
    with pytest.raises(UsageError, match="nothing is built or measured"):
        command.main(replace(OPTIONS, a="one", b="one", **asked), ARGV)


def test_another_metric_of_stored_runs_is_compared(
    compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    stored("one", 1.0, compare)
    stored("other", 1.3, compare)
    capsys.readouterr()
    options = replace(OPTIONS, a="one", b="other", results=".", metric="messages", as_json=True)
    assert command.main(options, ARGV) is Verdict.PASS
    document = json.loads(capsys.readouterr().out)
    for result in document["results"]:
        assert (result["verdict"], result["median_a"], result["median_b"]) == ("same", 1, 1)
        assert result["difference"] == 0, "it may be 0, so it has no ratio"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"metric": "frob"}, "--metric frob: unknown; valid are seconds, "),
        ({"metric": "notifications", "threshold": "5"}, "--threshold 5: notifications may be 0"),
    ],
)
def test_a_metric_of_stored_runs_that_there_is_not_is_refused(
    asked: dict[str, Any], says: str, compare: Compare
) -> None:
    stored("one", 1.0, compare)
    with pytest.raises(UsageError) as caught:
        command.main(replace(OPTIONS, a="one", b="one", **asked), ARGV)
    assert says in caught.value.message


def test_a_run_is_not_compared_with_a_kernel(compare: Compare) -> None:
    stored("one", 1.0, compare)
    with pytest.raises(UsageError, match="one"):
        command.main(replace(OPTIONS, a="one", b="nosysfs", output="x"), ARGV)


def test_a_word_that_is_neither_is_refused(compare: Compare) -> None:
    stored("one", 1.0, compare)
    with pytest.raises(UsageError, match="frob"):
        command.main(replace(OPTIONS, a="frob", b="one", results="."), ARGV)
