"""`invoke bisect` and `invoke verdict` on git trees, with fake kernels in fake guests.

What a commit's kernel does is said by the file `state` in its tree: G is good,
B crashes, F leaves a wrong state, S does not compile.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_guest import FakeGuest
from fake_lab import lab_of
from fake_tree import PATCH
from gittree import git
from revisions import linear_tree

from linklab.bisect import tester
from linklab.bisect.journal import Journal
from linklab.commands import bisect, judging, verdict
from linklab.commands.bisect import BisectOptions
from linklab.commands.judging import CriterionOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.selftest import SelftestWork
from linklab.commands.verdict import VerdictOptions
from linklab.commands.workflow import Finished
from linklab.errors import BuildSkipped, KernelCrashed, LabError, UsageError, Verdict
from linklab.kernel.kernel import BuildOptions, Kernel
from linklab.lab import lab as lab_module
from linklab.lab.lab import Lab
from linklab.options import flat
from linklab.results.codec import to_json
from linklab.results.outcomes import Status
from linklab.results.store import RunFolder, read_run
from linklab.selftests.record import Attempt, TestRecord, verdict_of

SERIES = "GGGBBB"
QUICK = CriterionOptions(counts="2", operations="mtu", arms="group")


@dataclass
class World:
    """A tree, and what stands in for the compiler and for QEMU."""

    tree: Path
    commits: list[str]
    builds: int = 0
    lab_fails_at: int = 0
    series: bool = False

    def state(self, options: BuildOptions) -> str:
        if options.revision:
            return git(self.tree, "show", f"{options.revision}:state")
        return (self.tree / "state").read_text().strip()

    def resolve(self, flavour: str, options: BuildOptions, *_: object) -> Kernel:
        self.builds += 1
        if self.builds == self.lab_fails_at:
            raise LabError("the disk is full")
        state = SERIES[len(options.patches)] if self.series else self.state(options)
        if state[0] == "S":
            raise BuildSkipped(f"kernel {flavour} does not compile", "a.c:1: error: no")
        sha256, vmlinux = hashlib.sha256(state.encode()).hexdigest(), self.tree.parent / "vmlinux"
        vmlinux.write_text(state)
        return Kernel(flavour, "6.12.0", Path("bz"), vmlinux, None, sha256, built_by_lab=True)

    def state_of_kernel(self, name: str) -> str:
        """Return the state of a kernel by the name that a run knows it under."""
        if "/" in name or name == "0":
            return SERIES[int(name.partition("/")[0])]
        name = name.removeprefix("good-")
        return self.state(BuildOptions(revision="" if name == "here" else name))

    def guest(self, kernel: str, _count: int) -> FakeGuest:
        bad = self.state_of_kernel(kernel)[0] == "B"

        def crash(operation: str) -> None:
            raise KernelCrashed("the kernel reports: WARNING in dev_set_mtu", "[1.0] WARNING: it")

        return FakeGuest(before=crash) if bad else FakeGuest()

    def prepare(self, options: MachineOptions, memory: int, *_: object) -> Lab:
        return replace(lab_of(self.guest), memory=memory)

    def options(self, good: str = "main~7", bad: str = "main", **other: Any) -> BisectOptions:
        kernels = KernelOptions("nosysfs", str(self.tree))
        options = BisectOptions(kernels=kernels, criterion=QUICK, good=good, bad=bad, output="out")
        return replace(options, **other)

    def verdict(self, **other: Any) -> VerdictOptions:
        kernels = KernelOptions("nosysfs", str(self.tree))
        return replace(VerdictOptions(kernels, MachineOptions(), QUICK), **other)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    commits = linear_tree(tmp_path / "linux", "GGGSGBBB")
    made = World(tmp_path / "linux", commits)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)
    monkeypatch.setattr(judging, "set_up_lab", made.prepare)
    monkeypatch.setattr(tester, "resolve_kernel", made.resolve)
    return made


def search(options: BisectOptions, resume: str = "", *, as_json: bool = False) -> Verdict:
    return bisect.main(replace(options, resume=resume, as_json=as_json), ["invoke", "bisect"])


# --- bisect ------------------------------------------------------------------


def test_the_first_bad_commit_is_named_with_its_author_and_what_the_kernel_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(world.options()) is Verdict.PASS
    out = capsys.readouterr().out
    assert f"first bad: {world.commits[5]}" in out
    assert "net: change 5" in out
    assert "a <a@b>" in out
    assert "WARNING in dev_set_mtu" in out
    assert "[1.0] WARNING: it" in out
    assert f"first bad: {world.commits[5]}" in Path("out/table.txt").read_text()
    assert f"# first bad commit: [{world.commits[5]}]" in Path("out/bisect.log").read_text()


def test_every_step_has_a_run_of_its_own(world: World) -> None:
    search(world.options())
    for step in Journal.read(Path("out")).steps:
        if step.folder:
            run = read_run(Path("out") / step.folder)
            assert run.about["verdict"] == step.verdict
            assert run.kernels[0].inputs["commit"] == step.revision
    assert {step.verdict for step in Journal.read(Path("out")).steps} >= {"crash", "pass"}


def test_all_of_it_is_one_document_for_a_script(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    search(world.options(), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["outcome"] == {"first_bad": world.commits[5]}
    assert document["revisions"][0]["subject"] == "net: change 5"
    assert document["steps"][0]["judgement"] == "bad"


def test_what_cannot_be_told_is_a_skip_and_names_what_it_may_be(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    git(world.tree, "checkout", "--quiet", "-B", "main", "main~4")
    (world.tree / "state").write_text("B9\n")
    git(world.tree, "commit", "--quiet", "-am", "bad at once")
    assert search(world.options("main~2", "main")) is Verdict.SKIP
    out = capsys.readouterr().out
    assert "It cannot be told" in out
    assert "net: change 3" in out
    assert "bad at once" in out


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_what_the_lab_broke_off_goes_on_with_the_same_options(
    world: World, at: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lab_fails_at = at
    with pytest.raises(LabError, match="disk is full"):
        search(world.options(good="main~7"))
    assert "The search is not over." in Path("out/table.txt").read_text()
    assert "invoke bisect --resume out" in capsys.readouterr().err
    git(world.tree, "commit", "--quiet", "--allow-empty", "-m", "main has gone on")
    folder = str(Path("out").absolute())
    monkeypatch.chdir("/")
    empty = BisectOptions(kernels=KernelOptions(""))
    assert search(empty, resume=folder) is Verdict.PASS
    assert f"first bad: {world.commits[5]}" in capsys.readouterr().out


def test_a_fragment_that_changed_meanwhile_is_noticed(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.config").write_text("# nothing\n")
    options = world.options()
    options = replace(options, kernels=replace(options.kernels, configs=("a.config",)))
    world.lab_fails_at = 3
    with pytest.raises(LabError):
        search(options)
    (tmp_path / "a.config").write_text("# something\n")
    with pytest.raises(UsageError, match=r"a\.config is not what it was begun with"):
        search(options, resume="out")


@pytest.mark.parametrize("name", ["mine.py", "noise.toml"])
def test_a_file_of_ones_own_is_kept_absolute_and_noticed_where_it_changed(
    name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.py").write_text(
        "from linklab.scenarios.grouping import Grouping\n\n\n"
        "class Mine(Grouping):\n    name = about = 'mine'\n"
    )
    Path("noise.toml").write_text("")
    options = world.options(
        criterion=replace(QUICK, scenario="./mine.py"), machine=MachineOptions(noise="noise.toml")
    )
    world.lab_fails_at = 3
    with pytest.raises(LabError):
        search(options)
    kept = Journal.read(Path("out")).about
    files = {str(tmp_path / each) for each in ("mine.py", "noise.toml")}
    assert {kept["options"]["scenario"], kept["options"]["noise"]} == files <= kept["files"].keys()
    monkeypatch.chdir("/")
    before = (tmp_path / name).read_text()
    (tmp_path / name).write_text(before + "# more\n")
    with pytest.raises(UsageError, match=rf"{name} is not what it was begun with"):
        search(options, resume=str(tmp_path / "out"))
    (tmp_path / name).write_text(before)
    assert search(options, resume=str(tmp_path / "out")) is Verdict.PASS


def test_a_claim_that_does_not_hold_is_a_usage_error(world: World) -> None:
    with pytest.raises(UsageError, match=r"--good .* is bad"):
        search(world.options(good="main~2"))


def test_self_tests_are_run_of_each_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(work: SelftestWork) -> Finished:
        options = work.options
        asked.append(options.kernels.revision)
        state = world.state(BuildOptions(revision=options.kernels.revision))[0]
        status = Status.FAIL if state == "B" else Status.PASS
        record = TestRecord("net/a.sh", "nosysfs", (Attempt(status, "", 1, 9, 0, "", ""),))
        folder = RunFolder(Path(options.output), {"kernels": []})
        folder.update(tests=[to_json(record)])
        return Finished(folder.path, verdict_of([record]))

    monkeypatch.setattr(SelftestWork, "run", run)
    options = world.options(criterion=CriterionOptions(selftest="net/a.sh"))
    assert search(options) is Verdict.PASS
    assert Journal.read(Path("out")).about["outcome"] == {"first_bad": world.commits[5]}
    assert asked[:2] == [world.commits[-1], world.commits[0]]
    judged = judge(world.verdict(criterion=CriterionOptions(selftest="net/a.sh")))
    assert (judged, asked[-1]) == (Verdict.FAIL, "")


def test_a_series_is_searched_by_its_patches(world: World, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.patch").write_text(PATCH)
    world.series = True
    patches = tuple(f"{number}.patch" for number in range(5))
    kernels = KernelOptions("nosysfs", str(world.tree), patches)
    options = world.options(good="", bad="", kernels=kernels)
    assert search(options) is Verdict.PASS
    journal = Journal.read(Path("out"))
    assert journal.about["outcome"] == {"first_bad": "3"}
    assert not Path("out/bisect.log").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"good": ""}, "--good and --bad name"),
        ({"kernels": KernelOptions("nosysfs")}, "name a git tree with --source"),
        ({"kernels": KernelOptions("frob")}, "one flavour is expected"),
        (
            {"criterion": replace(QUICK, selftest="net"), "kernels": KernelOptions("nosysfs")},
            "name a git tree",
        ),
        ({"good": "frob"}, "--good frob: there is no such commit"),
        ({"machine": MachineOptions(boot="iso")}, "--boot iso"),
        ({"criterion": replace(QUICK, metric="mtu/group/2")}, "--counts and --cell interfaces"),
        ({"criterion": replace(QUICK, metric="seconds", fault="hang")}, "--above goes by a figure"),
        ({"criterion": replace(QUICK, counts="", above="10%")}, "one interfaces is expected here"),
        ({"criterion": replace(QUICK, above="10%", cell="arm=group")}, "--arms and --cell arm"),
        (
            {"criterion": replace(QUICK, metric="mtu/group/2", above="1x", fault="crash")},
            "choose one",
        ),
        ({"criterion": replace(QUICK, fault="odd")}, "--fault odd"),
        ({"criterion": replace(QUICK, tries="0")}, "--tries 0"),
        ({"criterion": replace(QUICK, operations="group")}, "none of it can be measured: group"),
    ],
)
def test_a_wrong_option_is_refused_and_leaves_nothing(
    world: World, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        search(world.options(**change))
    assert not Path("out").exists()
    assert world.builds == 0


def test_a_folder_with_a_bisection_in_it_is_not_begun_again(world: World) -> None:
    search(world.options())
    with pytest.raises(UsageError, match="--resume out goes on with it"):
        search(world.options())


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match="another version"):
        bisect.revived({"kernels": {"names": "x"}, "machine": {"frob": 1}})
    with pytest.raises(UsageError, match="another version"):
        bisect.revived({"kernel": "x", "frob": "1"})


def test_the_options_of_a_search_come_back_as_they_were(world: World) -> None:
    options = world.options(criterion=replace(QUICK, same=True, selftest="net/a.sh"))
    assert bisect.revived(json.loads(json.dumps(flat(options)))) == options
    # As versions kept them that had no `flat`.
    assert bisect.revived(json.loads(json.dumps(asdict(options)))) == options


def test_the_good_kernel_is_measured_beside_each_other_one(world: World) -> None:
    criterion = CriterionOptions(
        cell="operation=mtu,arm=group,interfaces=2", above="10%", max_blocks="8"
    )
    with pytest.raises(UsageError, match=r"--bad .* is good: .*1\.00x"):
        search(world.options(bad="main~3", criterion=criterion))
    (step,) = Journal.read(Path("out")).steps
    run = read_run(Path("out") / step.folder)
    assert {sample.kernel for sample in run.samples if sample.trial} == {
        world.commits[4][:12],
        world.commits[0][:12],
    }


def test_a_kernel_that_crashes_when_it_is_measured_cannot_be_claimed_bad(world: World) -> None:
    criterion = CriterionOptions(
        cell="operation=mtu,arm=group,interfaces=2", above="10%", max_blocks="8"
    )
    with pytest.raises(BuildSkipped, match=r"it cannot be measured: kernel .*WARNING"):
        search(world.options(criterion=criterion))


# --- verdict -----------------------------------------------------------------


def judge(options: VerdictOptions, *, as_json: bool = False) -> Verdict:
    return verdict.main(replace(options, as_json=as_json), ["invoke", "verdict"])


@pytest.mark.parametrize(
    ("commit", "expected", "words"),
    [
        (0, Verdict.PASS, "good: every operation done and verified"),
        (3, Verdict.SKIP, "skip: it does not compile: a.c:1: error: no"),
        (7, Verdict.FAIL, "bad: the kernel reports: WARNING in dev_set_mtu"),
    ],
)
def test_a_tree_is_judged_as_it_is_checked_out(
    world: World,
    commit: int,
    expected: Verdict,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    git(world.tree, "checkout", "--quiet", world.commits[commit])
    assert judge(world.verdict()) is expected
    captured = capsys.readouterr()
    assert captured.out.startswith(words)
    assert captured.out.count("\n") == 1
    assert ("WARNING: it" in captured.err) == (expected is Verdict.FAIL)
    assert git(world.tree, "status", "--porcelain") == ""


def test_a_verdict_is_one_document_for_a_script(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(world.verdict(), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["judgement"], document["verdict"], document["status"]) == ("bad", "crash", 1)


def test_runs_are_kept_where_that_is_asked_for(world: World) -> None:
    for _ in range(2):
        judge(world.verdict(output="kept"))
    head = world.commits[-1][:12]
    assert sorted(path.name for path in Path("kept").iterdir()) == [head, f"{head}-2"]
    journal = Journal.read(Path("kept") / head)
    assert journal.about["outcome"]["judgement"] == "bad"
    with pytest.raises(UsageError, match=r"--output .* cannot be written"):
        judge(world.verdict(output="/proc/nowhere"))


def test_a_tree_without_git_is_judged_too(world: World) -> None:
    (world.tree / ".git").rename(world.tree.parent / "git-is-gone")
    assert judge(world.verdict(output="kept")) is Verdict.FAIL
    assert Path("kept/here").is_dir()


def test_a_figure_is_measured_against_a_commit(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    git(world.tree, "checkout", "--quiet", world.commits[1])
    criterion = CriterionOptions(
        cell="operation=mtu,arm=group,interfaces=2", above="10%", max_blocks="8"
    )
    assert judge(world.verdict(criterion=criterion, against="main~7")) is Verdict.PASS
    assert "1.00x" in capsys.readouterr().out
    with pytest.raises(UsageError, match="name it with --against"):
        judge(world.verdict(criterion=criterion))
    with pytest.raises(UsageError, match="--against main needs --above"):
        judge(world.verdict(against="main"))
    with pytest.raises(UsageError, match="--against frob: there is no such commit"):
        judge(world.verdict(criterion=criterion, against="frob"))


def test_a_time_needs_nothing_to_be_measured_against(world: World) -> None:
    git(world.tree, "checkout", "--quiet", world.commits[1])
    criterion = CriterionOptions(
        cell="operation=mtu,arm=group,interfaces=2", above="10s", max_blocks="8"
    )
    assert judge(world.verdict(criterion=criterion)) is Verdict.PASS
