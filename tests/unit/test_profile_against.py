"""`invoke profile --against` from its options to its folder, in fake guests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of, subject
from fake_perf import PerfGuest, install_host_perf, kernel_sample, one_millisecond_each

from linklab.commands import history, workflow
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.profile import (
    FRAGMENT,
    ProfileOptions,
    ProfileRequest,
    Profiling,
    main,
    profiled,
)
from linklab.errors import KernelFault, LabError, UsageError, Verdict
from linklab.lab import lab as lab_module
from linklab.profile.store import read_profile
from linklab.report.grid import plain_text
from linklab.report.profile import difference_graph_of as graph_of
from linklab.report.profile import render_difference as render

DIFF = "--- a/{name}\n+++ b/{name}\n@@ -0,0 +1 @@\n+new\n"
OPTIONS = ProfileOptions(
    kernels=KernelOptions("nosysfs"),
    machine=MachineOptions(),
    operations="mtu",
    arms="group",
    counts="3",
    samples="2000",
    frequency="997",
    max_time="0",
    output="out",
    as_json=False,
    against="+slow.patch",
)


def check(options: ProfileOptions) -> ProfileRequest:
    return Profiling(options).check()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    install_host_perf(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)
    for name in ("slow.patch", "fix.patch"):
        Path(name).write_text(DIFF.format(name=name))


def slowed(count: int) -> str:
    return one_millisecond_each(count) + kernel_sample("ip", "loop", "do_set_mtu") * count


class Booted:
    """What was prepared, and the guests that were then booted, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guests: dict[str, FakeGuest] = {
            "nosysfs": PerfGuest(each=400),
            "nosysfs+slow.patch": PerfGuest(each=400, sampled=slowed),
        }
        self.built: list[KernelOptions] = []
        self.lab: FakeLab = lab_of(self._guest)
        monkeypatch.setattr(workflow, "set_up_lab", lambda *_words: self.lab)
        monkeypatch.setattr(workflow, "prepare_subjects", self._subjects)

    def _guest(self, kernel: str, _count: int) -> FakeGuest:
        return self.guests[kernel]

    def _subjects(self, kernels: KernelOptions, *_words: object) -> list[object]:
        assert not self.lab.booted
        self.built.append(kernels)
        return [subject(kernels.names)]


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> Booted:
    return Booted(monkeypatch)


def to(against: str, **kernels: object) -> ProfileOptions:
    options = KernelOptions(**{"names": "nosysfs", **kernels})  # type: ignore[arg-type]
    return replace(OPTIONS, kernels=options, against=against)


BAD = [
    (to("frob"), ["there is no kernel 'frob'"]),
    (to("nosysfs,sysfs"), ["nosysfs,sysfs", "exactly one"]),
    (to("sysfs", names="nosysfs,sysfs"), ["exactly one"]),
    (to("sysfs", names="frob"), ["there is no kernel 'frob'"]),
    (to("sysfs", names="+slow.patch"), ["+slow.patch names no kernel"]),
    (to("+none.patch"), ["none.patch"]),
    (to("sysfs+"), ["'sysfs+' is no kernel"]),
    (to("@v9"), ["@v9: there is no such source"]),
    (replace(OPTIONS, samples="0"), ["--samples 0"]),
    (replace(OPTIONS, arms="frob"), ["--arms frob"]),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[says[0] for _, says in BAD])
def test_a_wrong_option_is_refused_before_anything_is_built(
    booted: Booted, options: ProfileOptions, says: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        main(options, [])
    for part in says:
        assert part in caught.value.message
    assert not booted.built and not Path("out").exists()


@pytest.mark.parametrize("name", ["a", "b", "difference.json", "profile.json"])
def test_a_folder_that_holds_a_profile_is_not_used(name: str) -> None:
    Path("out", name).mkdir(parents=True)
    with pytest.raises(UsageError, match="already holds"):
        check(OPTIONS)


def test_both_are_built_with_what_perf_needs_before_either_is_booted(booted: Booted) -> None:
    main(OPTIONS, [])
    a, b = booted.built
    assert a == profiled(KernelOptions("nosysfs"))
    assert b == profiled(KernelOptions("nosysfs", patches=("slow.patch",)))
    assert str(FRAGMENT) in a.configs and a.configs == b.configs
    assert booted.lab.booted == booted.lab.ended == [("nosysfs", 3), ("nosysfs+slow.patch", 3)]


def test_patches_of_the_first_stay_below_those_of_the_second(booted: Booted) -> None:
    a, b = check(to("+slow.patch", patches=("fix.patch",))).sides
    assert (a.options.patches, b.options.patches) == (("fix.patch",), ("fix.patch", "slow.patch"))
    a, b = check(to("sysfs+slow.patch", patches=("fix.patch",), configs=("debug",))).sides
    assert (b.options.names, b.options.patches) == ("sysfs", ("slow.patch",))
    assert a.options.configs == b.options.configs


def test_a_guest_that_is_profiled_alone_may_have_fewer_samples() -> None:
    assert check(replace(OPTIONS, samples="")).task.rule.samples == 10_000
    assert check(replace(OPTIONS, samples="", against="")).task.rule.samples is None


def test_both_do_the_work_as_often(booted: Booted) -> None:
    main(OPTIONS, [])
    a, b = (read_profile(Path("out", side)) for side in "ab")
    assert a.about["samples"]["work"] == 2400 and b.about["samples"]["work"] == 4800
    assert len(a.about["sampled"]) == len(b.about["sampled"]) == 6
    text = "the 6 repetitions of the kernel that it is compared with"
    assert b.about["rule"] == {"text": text, "met": True}
    assert a.about["clock"] == b.about["clock"] == "real"


def test_the_table_names_the_slowed_function_first(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(OPTIONS, []) is Verdict.PASS
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if " loop" in line)
    # 400 samples a repetition, at 997 a second.
    assert row.split()[:3] == ["0.0", "401.2", "+401.2"]
    assert "B is nosysfs+slow.patch 6.12.0" in " ".join(shown.split())
    assert "flame graph: out/flamegraph.svg" in shown


def test_everything_is_stored_and_can_be_made_again(booted: Booted) -> None:
    main(OPTIONS, ["invoke", "profile", "--against", "+slow.patch"])
    out = Path("out")
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    profile = ("profile.json", "folded.txt", "flamegraph.svg", "table.txt")
    assert names == {
        *("difference.json", "flamegraph.svg", "table.txt"),
        *(f"{side}/{name}" for side in "ab" for name in profile),
        "a/console-nosysfs-3.log",
        "b/console-nosysfs_slow.patch-3.log",
    }
    a, b = (read_profile(out / side) for side in "ab")
    assert plain_text(render(a, b)) == (out / "table.txt").read_text()
    assert graph_of(a, b) == (out / "flamegraph.svg").read_text()


def test_json_is_one_document_and_the_one_that_show_gives(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    main(replace(OPTIONS, as_json=True), [])
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == "out"
    assert document["difference"]["symbols"][0]["symbol"] == "loop"
    history.show(history.ShowOptions("out", "results", as_json=True))
    assert json.loads(capsys.readouterr().out) == document


def test_it_is_one_of_the_past_runs(booted: Booted, capsys: pytest.CaptureFixture[str]) -> None:
    main(replace(OPTIONS, output=""), ["invoke", "profile", "--against", "+slow.patch"])
    capsys.readouterr()
    wanted = history.HistoryOptions("results", "nosysfs+slow.patch", "difference", as_json=True)
    history.list_runs(wanted)
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["kernels"] == ["nosysfs", "nosysfs+slow.patch"]
    assert (entry["kind"], entry["verdict"]) == ("difference", "pass")
    assert entry["figure"] == "mtu by group, 3 interfaces: +100.0 % seconds, most in loop"
    history.show(history.ShowOptions("last", "results", as_json=False))
    shown = capsys.readouterr().out
    assert "Difference in mtu by group" in shown and "verdict: pass" in shown
    assert Path(entry["folder"]).name.endswith("-profile")


def test_the_same_kernel_twice_is_no_different(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    booted.guests["nosysfs#2"] = PerfGuest(each=400)
    main(replace(OPTIONS, against="nosysfs"), [])
    assert "the 2 others together" in capsys.readouterr().out
    history.list_runs(history.HistoryOptions(".", scenario="difference", as_json=True))
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["figure"].endswith("+0.0 % seconds, no function is different")


def test_a_failure_in_the_second_guest_keeps_the_first_profile(booted: Booted) -> None:
    booted.guests["nosysfs+slow.patch"] = PerfGuest(dies_at="enable")
    with pytest.raises((LabError, KernelFault)):
        main(OPTIONS, [])
    assert read_profile(Path("out/a")).about["kernel"]["name"] == "nosysfs"
    assert not Path("out/difference.json").exists()


def test_a_failure_before_anything_was_kept_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, booted: Booted
) -> None:
    def refuse(*_words: object) -> None:
        raise LabError("no QEMU")

    monkeypatch.setattr(workflow, "set_up_lab", refuse)
    with pytest.raises(LabError, match="no QEMU"):
        main(OPTIONS, [])
    assert not Path("out").exists()
