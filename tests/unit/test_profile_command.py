"""`invoke profile` from its options to its folder, in a fake guest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_guest import FakeGuest
from fake_lab import lab_of, subject
from fake_perf import PerfGuest, install_host_perf
from rate_scenario import WITH_FRAGMENT

from linklab.commands import workflow
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.places import PlaceOptions
from linklab.commands.profile import (
    IMAGE,
    ProfileOptions,
    ProfileRequest,
    Profiling,
    main,
    profiled,
)
from linklab.errors import KernelFault, LabError, UsageError, Verdict
from linklab.image.userland import Entry, File
from linklab.kernel.kernel import check_spec
from linklab.lab import lab as lab_module
from linklab.profile.store import SCHEMA, read_profile
from linklab.report.profile import as_text, graph_of
from linklab.trials import guest
from linklab.trials.guest import host_of as made

OPTIONS = ProfileOptions(
    kernels=KernelOptions("sysfs"),
    machine=MachineOptions(),
    operations="mtu",
    arms="process",
    counts="3",
    samples="",
    frequency="997",
    max_time="0",
    output="out",
    as_json=False,
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


class Booted:
    """What the command prepared, and the guest that it then boots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guest: FakeGuest = PerfGuest(each=400)
        self.kernels: KernelOptions | None = None
        self.image: Path | None = None
        self.more: Sequence[Entry] = ()
        monkeypatch.setattr(workflow, "set_up_lab", self._lab)
        monkeypatch.setattr(workflow, "prepare_subjects", self._subjects)

    def _lab(self, *words: object) -> object:
        *_, self.image, self.more = words  # type: ignore[assignment]
        return lab_of(lambda _kernel, _count: self.guest)

    def _subjects(self, kernels: KernelOptions, *_words: object) -> list[object]:
        self.kernels = kernels
        return [subject("sysfs")]


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> Booted:
    return Booted(monkeypatch)


BAD = [
    (replace(OPTIONS, kernels=KernelOptions("sysfs,nosysfs")), ["exactly one"]),
    (replace(OPTIONS, kernels=KernelOptions("frob")), ["frob"]),
    (replace(OPTIONS, operations="frob"), ["--operations frob", "create, mtu"]),
    (replace(OPTIONS, arms="frob"), ["--arms frob", "group, process, netlink"]),
    (
        replace(OPTIONS, arms="group", operations="create"),
        ["create by group", "a group has no members"],
    ),
    (replace(OPTIONS, arms="group,process"), ["one arm is expected here, not 2"]),
    (replace(OPTIONS, counts="1,2"), ["one interfaces is expected here, not 2"]),
    (replace(OPTIONS, counts="0"), ["--counts 0", "from 1"]),
    (replace(OPTIONS, samples="few"), ["--samples few"]),
    (replace(OPTIONS, frequency="1"), ["--frequency 1"]),
    (replace(OPTIONS, max_time="soon"), ["--max-time soon"]),
    (replace(OPTIONS, machine=MachineOptions(memory="128")), ["perf and 3 interfaces", "128"]),
    (replace(OPTIONS, machine=MachineOptions(cpus="0")), ["--cpus 0"]),
    (
        replace(OPTIONS, place=PlaceOptions("guests")),
        ["--place guests", "perf samples the one guest"],
    ),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[says[0] for _, says in BAD])
def test_a_wrong_option_is_refused_and_leaves_nothing(
    options: ProfileOptions, says: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        check(options)
    for part in says:
        assert part in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_host_without_perf_is_told_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(LabError, match="linux-perf"):
        check(OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("against", ["", "nosysfs"])
def test_a_flavour_is_built_with_what_the_scenario_needs(against: str) -> None:
    Path("mine.config").write_text("CONFIG_VETH=y\n")
    Path("mine.py").write_text(WITH_FRAGMENT)
    options = replace(OPTIONS, scenario="mine.py", axis=("size=64",), against=against)
    request = check(replace(options, counts="", operations="", arms=""))
    assert len(request.sides) == (2 if against else 1)
    for side in request.sides:
        first, *_ = side.options.build_options(side.options.names).configs
        assert first == Path("mine.config").absolute()


RATE = """\
from dataclasses import replace
from pathlib import Path
from linklab.results.shape import Better, Metric
from linklab.scenarios.grouping import Grouping


class Mine(Grouping):
    name = about = "mine"
    shape = replace(Grouping.shape, metrics=(Metric("rate", "1/s", Better.MORE),))

    def trial(self, hosts, cell):
        return {"rate": 1 / super().trial(hosts, cell)["seconds"]}
"""


def test_work_that_does_not_say_how_long_it_took_is_profiled_and_compared(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(RATE)
    options = replace(OPTIONS, scenario="mine.py")
    assert main(options, ["invoke", "profile"]) is Verdict.PASS
    shown = capsys.readouterr().out
    assert "samples of the work" in shown
    assert "one repetition" not in shown and "getrusage" not in shown
    check(replace(options, against="nosysfs", output="other"))


def test_a_scenario_with_an_image_of_its_own_is_profiled_in_that_with_perf_in_it(
    booted: Booted,
) -> None:
    Path("mine.py").write_text(f"{RATE}\n    image = Path(__file__).parent\n")
    assert main(replace(OPTIONS, scenario="mine.py"), ["invoke", "profile"]) is Verdict.PASS
    assert booted.image == Path.cwd()
    added = {entry.path: entry for entry in booted.more}
    assert added.keys() == {"/bin/perf", "/usr/lib/linklab/record"}
    perf = added["/bin/perf"]
    assert isinstance(perf, File)
    assert perf.content == Path.cwd() / "bin" / "perf"


def test_a_flavour_is_built_with_what_perf_needs_on_top_of_what_was_asked_for() -> None:
    options = profiled(KernelOptions("nosysfs", configs=("my.config",)))
    mine, fragment = options.build_options().configs
    assert mine == Path("my.config")
    assert "CONFIG_EVENTFD=y" in fragment.read_text()
    assert not options.is_stock


def test_the_fragment_is_one_that_kernels_can_be_built_with() -> None:
    from linklab.kernel.kernel import KernelSpec

    for name in ("sysfs", "nosysfs"):
        check_spec(KernelSpec(name, profiled(KernelOptions(name)).build_options()))


def test_any_other_kernel_is_taken_as_it_is() -> None:
    assert profiled(KernelOptions("/boot/bzImage")) == KernelOptions("/boot/bzImage")


def test_a_profile_is_stored_whole(booted: Booted, tmp_path: Path) -> None:
    assert main(OPTIONS, ["invoke", "profile"]) is Verdict.PASS
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {
        "profile.json",
        "folded.txt",
        "flamegraph.svg",
        "table.txt",
        "console-sysfs-3.log",
    }
    stored = read_profile(out)
    about = stored.about
    assert about["samples"]["work"] == sum(stored.stacks.values())
    assert about["rule"]["met"]
    assert about["accel"] == "tcg" and about["event"]["name"] == "cpu-clock"
    assert sum(symbol["own"]["samples"] for symbol in about["symbols"]) == sum(
        stored.stacks.values()
    )
    assert booted.image == IMAGE
    assert booted.kernels == profiled(OPTIONS.kernels)
    assert about["fragment"]
    cell = {axis: about[axis] for axis in about["axes"]}
    assert cell == {"operation": "mtu", "arm": "process", "interfaces": 3}
    assert about["work"] == "mtu by process, 3 interfaces"
    assert about["given"] == {"listeners": 0}


def test_the_table_says_the_accelerator_first_and_everything_else(
    booted: Booted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(OPTIONS, ["invoke", "profile"])
    shown = capsys.readouterr().out
    assert shown.startswith("TCG")
    for part in (
        "mtu by process, 3 interfaces",
        "samples of the work",
        "within 2 points",
        "left out of",
        "getrusage(2): 66.7 % of the same repetitions, 66.7 % of those without samples",
        "by task: ip 100.0 %",
        "[ld-linux-x86-64.so.2]",
        "do_set_mtu",
    ):
        assert part in " ".join(shown.split()), part
    assert "do_set_mtu" in (tmp_path / "out" / "flamegraph.svg").read_text()


def test_everything_shown_can_be_made_again_from_what_is_stored(
    booted: Booted, tmp_path: Path
) -> None:
    main(OPTIONS, ["invoke", "profile"])
    out = tmp_path / "out"
    stored = read_profile(out)
    assert as_text(stored) == (out / "table.txt").read_text()
    assert graph_of(stored) == (out / "flamegraph.svg").read_text()


def test_json_is_one_document(booted: Booted, capsys: pytest.CaptureFixture[str]) -> None:
    main(replace(OPTIONS, as_json=True), ["invoke", "profile"])
    document = json.loads(capsys.readouterr().out)
    assert document["profile"]["symbols"][0]["symbol"] == "do_set_mtu"
    assert document["folder"] == "out"


def test_too_few_samples_are_said_to_be_too_few(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    booted.guest = PerfGuest(each=10)
    main(replace(OPTIONS, samples="5000", max_time="0.000001"), ["invoke", "profile"])
    captured = capsys.readouterr()
    assert "NOT ENOUGH" in captured.out
    assert "--max-time" in captured.err


def test_without_a_name_the_folder_is_one_of_the_results(booted: Booted) -> None:
    main(replace(OPTIONS, output=""), ["invoke", "profile"])
    (folder,) = Path("results").iterdir()
    assert folder.name.endswith("-profile")


def test_a_failure_before_anything_was_kept_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_words: object) -> None:
        raise LabError("no QEMU")

    monkeypatch.setattr(workflow, "set_up_lab", fail)
    with pytest.raises(LabError, match="no QEMU"):
        main(OPTIONS, [])
    assert not (tmp_path / "out").exists()


def test_a_guest_that_fails_keeps_its_console(booted: Booted, tmp_path: Path) -> None:
    booted.guest = PerfGuest(dies_at="enable")
    with pytest.raises((LabError, KernelFault)):
        main(OPTIONS, [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["console-sysfs-3.log"]


@pytest.mark.parametrize("text", ["", "[]", "{}", f'{{"schema": {SCHEMA + 1}}}'])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.json").write_text(text)
    (tmp_path / "folded.txt").write_text("ip;f_[k] 3\n")
    with pytest.raises(UsageError):
        read_profile(tmp_path)
    with pytest.raises(UsageError):
        read_profile(tmp_path / "nowhere")


def test_a_folder_that_holds_a_profile_is_not_used_again(booted: Booted) -> None:
    main(OPTIONS, [])
    with pytest.raises(UsageError, match="already holds"):
        main(OPTIONS, [])


def test_a_trial_has_a_limit_where_one_is_asked_for(
    booted: Booted, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float | None] = []

    def host_of(*words: Any) -> Any:
        limits.append(words[-1])
        return made(*words)

    monkeypatch.setattr(guest, "host_of", host_of)
    assert main(replace(OPTIONS, timeout="9"), ["invoke", "profile"]) is Verdict.PASS
    assert limits == [9]
    with pytest.raises(UsageError, match="--timeout soon"):
        check(replace(OPTIONS, timeout="soon", output="other"))
