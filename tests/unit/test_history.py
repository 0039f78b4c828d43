"""Past runs: listed, found by a word, shown again, and done again with the same inputs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_tree import PATCH
from hand_made import both_arms, run_of, sample
from rate_scenario import SOURCE

from linklab.commands import history as commands
from linklab.commands.history import HistoryOptions, RerunOptions, ShowOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.run import Running, RunOptions, revived, stored_files, stored_options
from linklab.commands.workflow import Finished
from linklab.errors import UsageError, Verdict, WrongState
from linklab.host.cache import hash_file
from linklab.report.compare import Stored
from linklab.report.tables import key_figure
from linklab.results.history import chosen, entries, find
from linklab.results.model import Run
from linklab.results.rerun_command import command_of
from linklab.results.store import RunFolder, read_run

OPTIONS = RunOptions(
    kernels=KernelOptions("nosysfs", "", (), ()),
    machine=MachineOptions(clock="real"),
    scenario="grouping",
    counts="1,2",
    operations="mtu",
    arms="group",
    repeat="2",
    output="somewhere",
    timeout="0",
    as_json=True,
)
FIRST_RELEASE = {
    "kernel": "nosysfs", "source": "", "patch": [], "config": [], "range": "", "accel": "tcg",
    "memory": "256", "seed": "7", "counts": "3", "operations": "mtu,up", "arms": "group",
    "timeout": "0", "boot": "direct", "machine": "auto", "cpus": "1", "boot_timeout": "0",
    "scenario": "grouping", "repeat": "1", "fresh_guest": False,
}  # fmt: skip


def store(folder: Path, run: Run | None = None, **about: Any) -> Path:
    """Store a run as `invoke run` does."""
    run = run or run_of(["nosysfs"], both_arms("nosysfs", {128: 50.0}))
    folder.mkdir(parents=True)
    kept_run = RunFolder(folder, {"scenario": "grouping", "verdict": "pass", **run.about, **about})
    for one in run.samples:
        kept_run.add_sample(one)
    return folder


def break_run(folder: Path, text: str, seconds: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    os.utime(folder / "run.json", (seconds, seconds))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three runs, one a day."""
    root = tmp_path / "results"
    store(root / "1-sysfs", run_of(["sysfs"]), start="2026-01-01T10:00:00+00:00")
    store(root / "2-both", run_of(["sysfs", "nosysfs"]), start="2026-01-02T10:00:00+00:00")
    store(root / "deep/3-late", start="2026-01-03T10:00:00+00:00", verdict="crash")
    return root


def listed(results: Path, capsys: pytest.CaptureFixture[str], **options: str) -> list[Any]:
    wanted = {"kernel": "", "scenario": "", "verdict": "", "limit": "0", **options}
    commands.list_runs(HistoryOptions(str(results), as_json=True, **wanted))
    found: list[Any] = json.loads(capsys.readouterr().out)
    return found


class TestList:
    def test_the_newest_comes_first(self, results: Path) -> None:
        assert [entry.name for entry in entries(results)] == ["3-late", "2-both", "1-sysfs"]

    def test_times_of_other_zones_are_told_apart(self, results: Path) -> None:
        store(results / "4", start="2026-01-02T11:00:00+02:00")
        store(results / "5", start="2026-01-02T09:30:00")
        names = [entry.name for entry in entries(results)]
        assert names == ["3-late", "2-both", "5", "4", "1-sysfs"]

    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({"kernel": "nosysfs"}, ["3-late", "2-both"]),
            ({"scenario": "grouping"}, ["3-late", "2-both", "1-sysfs"]),
            ({"scenario": "other"}, []),
            ({"verdict": "crash"}, ["3-late"]),
            ({"kernel": "sysfs", "verdict": "pass"}, ["2-both", "1-sysfs"]),
            ({"limit": "1"}, ["3-late"]),
        ],
    )
    def test_it_is_filtered(
        self,
        results: Path,
        capsys: pytest.CaptureFixture[str],
        filters: dict[str, str],
        names: list[str],
    ) -> None:
        assert [Path(e["folder"]).name for e in listed(results, capsys, **filters)] == names

    def test_each_run_says_what_it_was_and_what_it_found(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert listed(results, capsys)[0] == {
            "folder": str(results / "deep/3-late"),
            "start": "2026-01-03T10:00:00+00:00",
            "scenario": "grouping",
            "kind": "run",
            "kernels": ["nosysfs"],
            "accel": "tcg",
            "clock": "real",
            "boot": "direct",
            "verdict": "crash",
            "figure": "mtu at 128: 50x",
        }

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"schema": 99}', "was written by schema 99"),
            ('{"schema": 0, "kernels": []}', "was written by schema 0"),
            ("", "cannot be read"),
            ('{"schema": 1', "cannot be read"),
            ("[]", "schema None"),
            ('{"schema": 1, "boots": [], "kernels": [{}]}', "a kernel lacks"),
            ('{"schema": 1, "boots": [], "kernels": [], "start": "once"}', "start"),
        ],
    )
    def test_a_run_that_cannot_be_read_is_listed_as_broken_and_hides_no_other(
        self, results: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
    ) -> None:
        break_run(results / "bad", text)
        found = listed(results, capsys)
        assert [Path(e["folder"]).name for e in found] == ["3-late", "2-both", "1-sysfs", "bad"]
        assert found[-1]["verdict"] == "broken"
        assert problem in found[-1]["problem"]

    def test_a_filter_by_kernel_does_not_hide_what_is_broken(self, results: Path) -> None:
        break_run(results / "bad", "")
        bad = entries(results)[-1]
        assert chosen(bad, kernel="sysfs", scenario="grouping")
        assert chosen(bad, verdict="broken")
        assert not chosen(bad, verdict="pass")

    @pytest.mark.parametrize("line", ['{"seconds": 1}\n', '["no", "object"]\n'])
    def test_broken_samples_are_told_and_stop_no_list(
        self, results: Path, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        (results / "2-both/samples.jsonl").write_text(line)
        assert "line 1" in listed(results, capsys)[1]["figure"]

    def test_samples_of_another_kind_are_told_and_stop_no_list(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        odd = sample("nosysfs", "group", 1, "long")  # type: ignore[arg-type]
        store(results / "odd", run_of(["nosysfs"], [odd, odd]), start="2027-01-01T00:00:00Z")
        assert "make no sense" in listed(results, capsys)[0]["figure"]

    def test_a_run_without_an_end_is_unfinished(self, results: Path) -> None:
        store(results / "4", start="2026-02-01T00:00:00Z", verdict=None)
        assert entries(results)[0].verdict == "unfinished"

    def test_the_table_names_what_is_broken_below_it(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        break_run(results / "bad", '{"schema": 99}')
        commands.list_runs(HistoryOptions(str(results), "", "", "", "3"))
        text = capsys.readouterr().out
        assert "3-late" in text and "crash" in text and "50x" in text
        assert "1 older ones are not shown" in text
        commands.list_runs(HistoryOptions(str(results), "", "", "", "0"))
        assert f"broken: {results / 'bad'} was written by schema 99" in capsys.readouterr().out

    def test_nothing_found_is_said(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        commands.list_runs(HistoryOptions(str(results), "vanilla", "", "", "0"))
        assert capsys.readouterr().out == f"no such run below {results}\n"

    def test_what_is_not_a_verdict_is_refused(self, results: Path) -> None:
        with pytest.raises(UsageError, match=r"valid are pass.*unfinished, broken"):
            commands.list_runs(HistoryOptions(str(results), "", "", "good", "0"))

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no results folder"):
            entries(tmp_path / "nowhere")


class TestKeyFigure:
    def test_of_several_kernels_each_is_named(self) -> None:
        samples = [*both_arms("sysfs", {1: 2, 2: 30}), *both_arms("nosysfs", {1: 2, 2: 40})]
        run = run_of(["sysfs", "nosysfs"], samples)
        assert key_figure(run) == "mtu at 2: nosysfs 40x, sysfs 30x"

    def test_without_a_ratio_it_is_the_seconds(self) -> None:
        run = run_of(["sysfs"], [sample("sysfs", "group", 7, 0.25)])
        assert key_figure(run) == "mtu at 7: group 0.250 s"

    def test_what_is_not_valid_does_not_count(self) -> None:
        good, bad = sample("k", "group", 7, 1.0), sample("k", "group", 9, 1.0, verified=False)
        assert key_figure(run_of(["k"], [good, bad])) == "mtu at 7: group 1.00 s"
        assert key_figure(run_of(["k"], [bad])) == ""


class TestFind:
    @pytest.mark.parametrize(
        ("word", "name"),
        [("last", "3-late"), ("1-s", "1-sysfs"), ("2-both", "2-both"), ("late", "3-late")],
    )
    def test_a_word_names_a_run(self, results: Path, word: str, name: str) -> None:
        assert find(word, results).name == name

    def test_a_folder_names_itself_wherever_it_is(self, results: Path, tmp_path: Path) -> None:
        assert find(str(results / "1-sysfs"), tmp_path / "nowhere") == results / "1-sysfs"

    def test_a_whole_name_wins_over_a_part(self, results: Path) -> None:
        store(results / "2-both-2", start="2026-01-01T00:00:00Z")
        assert find("2-both", results).name == "2-both"

    @pytest.mark.parametrize(
        ("word", "message"),
        [("-", "may be 3 runs"), ("never", "no run below"), ("", "a run is expected")],
    )
    def test_none_or_several_are_refused(self, results: Path, word: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            find(word, results)

    def test_a_folder_without_a_run_is_refused(self, results: Path) -> None:
        with pytest.raises(UsageError, match="holds no run"):
            find(str(results / "deep"), results)

    def test_without_runs_there_is_no_last_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no run below"):
            find("last", tmp_path)


class TestShow:
    def test_it_prints_the_table_and_the_verdict(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.show(ShowOptions("late", str(results)))
        text = capsys.readouterr().out
        assert "50x" in text
        assert text.endswith(f"verdict: crash   results: {results / 'deep/3-late'}\n")

    def test_what_went_wrong_stands_below(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store(results / "4", verdict="hang", message="kernel sysfs: no answer")
        commands.show(ShowOptions("4", str(results)))
        assert capsys.readouterr().out.endswith("kernel sysfs: no answer\n")

    @pytest.mark.parametrize("scenario", ["{}/mine.py", "gone", "grouping"])
    def test_a_file_that_a_run_names_as_its_scenario_is_not_executed(
        self, results: Path, capsys: pytest.CaptureFixture[str], scenario: str
    ) -> None:
        (results / "mine.py").write_text("raise SystemExit('executed')")
        store(results / "4", scenario=scenario.format(results))
        commands.show(ShowOptions("4", str(results)))
        out = capsys.readouterr().out
        assert "50x" in out
        assert ("claims" in out) is (scenario == "grouping")

    def test_as_json_it_is_one_document(
        self, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands.show(ShowOptions("late", str(results), as_json=True))
        assert len(json.loads(capsys.readouterr().out)["samples"]) == 2


class TestOptions:
    def test_what_is_kept_comes_back(self) -> None:
        about = {"options": json.loads(json.dumps(stored_options(OPTIONS)))}
        assert revived(about, "somewhere", as_json=True) == OPTIONS

    def test_axes_and_parameters_come_back_with_the_same_cells_in_the_same_order(self) -> None:
        options = replace(
            OPTIONS,
            counts="",
            operations="create,mtu",
            arms="",
            axis=("arm=group,process", "interfaces=3"),
            param=("listeners=2",),
        )
        decided = stored_options(options, **options.decided({}))
        assert decided["axis"] == ["operation=create,mtu", "arm=group,process", "interfaces=3"]
        assert decided["param"] == ["listeners=2"]
        again = revived({"options": json.loads(json.dumps(decided))}, "", as_json=False)
        assert again.plan({}) == options.plan({})
        cells = [cell.text for cell in again.plan({}).cells]
        assert cells == ["create/process/3", "mtu/group/3", "mtu/process/3"]
        assert again.plan({}).given == {"listeners": 2}

    def test_what_was_left_open_stays_as_it_was_when_defaults_change(self) -> None:
        options = replace(OPTIONS, counts="", operations="", arms="")
        again = revived(
            {"options": stored_options(options, **options.decided({}))}, "", as_json=False
        )
        assert again.axis == (
            "operation=mtu",
            "arm=process,group",
            "interfaces=128,256,512,1024,2048",
        )
        assert again.param == ("listeners=0",)

    @pytest.mark.parametrize("listeners", ["4", "0", None])
    def test_options_of_the_first_release_mean_what_they_meant(self, listeners: str | None) -> None:
        about = {"options": dict(FIRST_RELEASE)}
        if listeners:
            about["options"]["listeners"] = listeners
        again = revived(about, "", as_json=False)
        plan = again.plan({})
        assert [cell.text for cell in plan.cells] == ["mtu/group/3", "up/group/3"]
        assert plan.given == {"listeners": int(listeners or 0)}
        assert (again.seed, again.machine.clock) == ("7", "real")
        command = command_of(about)
        assert "--counts 3 --operations mtu,up --arms group" in command
        assert "--listeners" not in command
        assert ("--param listeners=4" in command) is (listeners == "4")

    def test_a_scenario_of_ones_own_is_one_of_the_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(SOURCE)
        options = replace(
            OPTIONS, scenario="./mine.py", counts="", operations="", arms="",
            axis=("size=64",), param=("pace=1.5", "queue=fq"),
        )  # fmt: skip
        about = {
            "options": stored_options(options, **options.decided({})),
            "files": stored_files(options),
        }
        assert about["options"]["scenario"] == str(tmp_path / "mine.py")
        assert about["files"] == {str(tmp_path / "mine.py"): hash_file(Path("mine.py"))}
        monkeypatch.chdir("/")
        plan = revived(about, "", as_json=False).plan({})
        assert ([cell.text for cell in plan.cells], plan.given) == (
            ["64/tcp"],
            {"pace": 1.5, "queue": "fq"},
        )
        (tmp_path / "mine.py").write_text(f"{SOURCE}# changed\n")
        with pytest.raises(UsageError, match=r"mine\.py is not what it was begun with"):
            revived(about, "", as_json=False)

    def test_what_was_decided_takes_the_place_of_what_was_open(self) -> None:
        options = stored_options(OPTIONS, accel="tcg", memory="256", seed="7")
        again = revived({"options": options}, "", as_json=False)
        assert (again.machine.accel, again.machine.memory, again.seed) == ("tcg", "256", "7")

    def test_paths_mean_the_same_from_any_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("a.patch").write_text(PATCH)
        kernels = KernelOptions("sysfs,./bzImage", "linux", ("a.patch",), ())
        options = replace(OPTIONS, kernels=kernels)
        about = {"options": stored_options(options), "files": stored_files(options)}
        assert about["files"] == {str(tmp_path / "a.patch"): hash_file(Path("a.patch"))}
        monkeypatch.chdir("/")
        again = revived(about, "", as_json=False).kernels
        assert again == KernelOptions(
            f"sysfs,{tmp_path}/bzImage", f"{tmp_path}/linux", (f"{tmp_path}/a.patch",), ()
        )

    def test_a_folder_of_patches_is_refused_once_it_has_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "patches"
        folder.mkdir()
        (folder / "0001-a.patch").write_text(PATCH)
        options = replace(OPTIONS, kernels=KernelOptions("sysfs", patches=("patches",)))
        about = {"options": stored_options(options), "files": stored_files(options)}
        assert revived(about, "", as_json=False).kernels.patches == (str(folder),)
        (folder / "0002-b.patch").write_text(PATCH)
        with pytest.raises(UsageError, match=r"0002-b\.patch was not there when it was begun"):
            revived(about, "", as_json=False)

    def test_a_module_is_the_same_folder_with_the_same_files(self, tmp_path: Path) -> None:
        source = tmp_path / "hello"
        source.mkdir()
        (source / "Makefile").write_text("obj-m := hello.o\n")
        (source / "hello.c").write_text("int hello;\n")
        kernels = KernelOptions("debian", modules=(str(source), "dummy"))
        options = replace(OPTIONS, kernels=kernels)
        about = {"options": stored_options(options), "files": stored_files(options)}
        assert str(source / "hello.c") in about["files"]
        assert revived(about, "", as_json=False).kernels == kernels
        (source / "hello.c").write_text("int other;\n")
        with pytest.raises(UsageError, match=r"hello\.c.*it was begun with"):
            revived(about, "", as_json=False)

    def test_the_file_of_known_noise_is_one_of_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("known").write_text("WARNING in old_.*\n")
        options = replace(OPTIONS, machine=replace(OPTIONS.machine, noise="known"))
        about = {"options": stored_options(options), "files": stored_files(options)}
        assert about["files"] == {str(tmp_path / "known"): hash_file(Path("known"))}
        assert revived(about, "", as_json=False).machine.noise == str(tmp_path / "known")

    def test_packages_and_modules_come_back_and_files_of_theirs_are_checked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "hello").mkdir()
        (tmp_path / "hello/Kbuild").write_text("obj-m := hello.o\n")
        names = "debian,deb:linux-image-6.12-amd64,deb:./x.deb"
        kernels = KernelOptions(names, modules=("./hello", "veth"))
        options = replace(OPTIONS, kernels=kernels)
        about = {"options": stored_options(options), "files": stored_files(options)}
        monkeypatch.chdir("/")
        again = revived(about, "", as_json=False).kernels
        assert again.names == f"debian,deb:linux-image-6.12-amd64,deb:{tmp_path}/x.deb"
        assert again.modules == (f"{tmp_path}/hello", "veth")
        (tmp_path / "hello/Kbuild").write_text("changed\n")
        with pytest.raises(UsageError, match="hello/Kbuild is not what"):
            revived(about, "", as_json=False)

    def test_the_command_is_to_copy(self) -> None:
        options = replace(OPTIONS, fresh_guest=True)
        command = command_of({"options": stored_options(options, seed="7")})
        assert command.startswith("invoke run ") and "--kernel nosysfs" in command
        assert "--fresh-guest" in command.split() and "--seed 7" in command
        assert "--output" not in command and "json" not in command

    @pytest.mark.parametrize("text", ["other", None])
    def test_a_file_that_is_not_what_it_was_is_refused(
        self, tmp_path: Path, text: str | None
    ) -> None:
        patch = tmp_path / "a.patch"
        patch.write_text(PATCH)
        options = replace(OPTIONS, kernels=KernelOptions("sysfs", "", (str(patch),), ()))
        about = {"options": stored_options(options), "files": stored_files(options)}
        if text is None:
            patch.unlink()
        else:
            patch.write_text(text)
        with pytest.raises(UsageError, match=r"a\.patch.*it was begun with"):
            revived(about, "", as_json=False)

    def test_a_run_that_kept_no_options_says_how_it_was_started(self) -> None:
        with pytest.raises(UsageError, match="invoke run --counts 3"):
            revived({"command": "invoke run --counts 3"}, "", as_json=False)

    def test_options_of_a_newer_version_are_refused_by_name(self) -> None:
        with pytest.raises(UsageError, match="--colour, which this version does not know"):
            revived({"options": {**stored_options(OPTIONS), "colour": "red"}}, "", as_json=False)

    def test_options_that_are_not_there_are_refused_by_name(self) -> None:
        options = stored_options(OPTIONS)
        del options["counts"], options["kernel"]
        with pytest.raises(UsageError, match="lack counts, kernel"):
            revived({"options": options}, "", as_json=False)


class TestRerun:
    @pytest.fixture
    def results(self, tmp_path: Path) -> Path:
        store(tmp_path / "old", options=stored_options(OPTIONS), image={"agent": "a"})
        return tmp_path

    def again(self, results: Path, monkeypatch: pytest.MonkeyPatch, **about: Any) -> None:
        """What a run would do, without a guest."""

        def run(work: Running) -> Finished:
            faster = run_of(["nosysfs"], both_arms("nosysfs", {128: 25.0}))
            store(results / "new", faster, options=stored_options(work.options), **about)
            work.folder = cast(RunFolder, SimpleNamespace(run=read_run(results / "new")))
            return Finished(results / "new")

        monkeypatch.setattr(Running, "run", run)

    def test_it_is_done_with_the_same_options_and_compared(
        self, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.again(results, monkeypatch, image={"agent": "a"})
        verdict = commands.rerun(RerunOptions("old", str(results)), ["invoke"])
        text = capsys.readouterr().out
        assert verdict is Verdict.PASS
        assert "every input is the same" in text
        assert ["128", "0.500", "0.250", "-50.0", "%"] in [
            line.split()[-5:] for line in text.splitlines()
        ]
        assert read_run(results / "new").about["options"] == json.loads(
            json.dumps(stored_options(OPTIONS))
        )
        assert (results / "new/report.html").is_file()

    @pytest.mark.parametrize(("clock", "said"), [("real", True), ("virtual", False)])
    def test_a_change_of_few_trials_may_be_noise(
        self,
        clock: str,
        said: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        same: dict[str, Any] = {"image": {"agent": "a"}, "clock": clock}
        store(tmp_path / "old", options=stored_options(OPTIONS), **same)
        self.again(tmp_path, monkeypatch, **same)
        commands.rerun(RerunOptions("old", str(tmp_path)), ["invoke"])
        text = " ".join(capsys.readouterr().out.split())
        assert "-50.0 %" in text
        assert ("a change may be noise of the host" in text) is said

    def test_inputs_that_differ_are_named_and_forbid_comparing(
        self, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.again(results, monkeypatch, image={"agent": "b"}, qemu={"version": "10.0"})
        commands.rerun(RerunOptions("old", str(results)), ["invoke"])
        text = capsys.readouterr().out
        assert "QEMU version" in text and "10.0" in text
        assert "must not be compared: QEMU version, image: agent differ" in text
        assert "%" not in text[text.index("against") :]

    def test_as_json_it_is_one_document_with_what_differs(
        self, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.again(results, monkeypatch, image={"agent": "b"})
        commands.rerun(RerunOptions("old", str(results), as_json=True), ["invoke"])
        found = json.loads(capsys.readouterr().out)
        assert found["before"] == str(results / "old")
        assert found["differences"] == [{"what": "image: agent", "before": "a", "now": "b"}]
        assert (results / "new/table.txt").is_file()

    def test_the_verdict_is_that_of_the_new_run(
        self, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.again(results, monkeypatch)
        failing = self.failing(Running.run, WrongState("wrong MTU"))
        monkeypatch.setattr(Running, "run", failing)
        assert commands.rerun(RerunOptions("old", str(results)), []) is Verdict.FAIL
        assert "wrong MTU" in capsys.readouterr().err

    @staticmethod
    def failing(run: Any, fault: WrongState) -> Any:
        def wrapped(*arguments: Any) -> Finished:
            finished: Finished = run(*arguments)
            return replace(finished, verdict=fault.verdict, faults=(fault,))

        return wrapped

    def test_differences_of_runs_with_nothing_in_common_are_told(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = Stored(Path("a"), run_of(["x"], [sample("x", "group", 1, 1.0)]))
        now = Stored(Path("b"), run_of(["y", "z"], [sample("y", "group", 1, 1.0)]))
        commands.print_differences(before, now)
        text = capsys.readouterr().out
        assert "kernel x" in text and "kernel z" in text
