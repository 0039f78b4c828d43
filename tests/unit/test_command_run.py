"""`invoke run` from its options to its verdict, with fake guests instead of real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_guest import FakeGuest
from fake_kernel import How, Misbehaviour, Wish
from fake_lab import lab_of, subject
from fake_tree import header
from rate_scenario import SOURCE, WITH_FRAGMENT

from linklab.commands import run as command
from linklab.commands import workflow
from linklab.commands.exports import ExportOptions
from linklab.commands.history import RerunOptions, rerun
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.run import Running, RunOptions, RunRequest
from linklab.errors import (
    BuildSkipped,
    GuestHung,
    KernelCrashed,
    LabError,
    MachineLost,
    UsageError,
    Verdict,
)
from linklab.host.cache import Cached
from linklab.lab import lab as lab_module
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.options import made
from linklab.results.model import Run
from linklab.results.store import read_run
from linklab.scenarios.grouping import ARMS, Grouping
from linklab.scenarios.grouping.change import Operation
from linklab.trials.plan import schedule
from linklab.trials.subjects import Requirements

OPTIONS = RunOptions(
    kernels=KernelOptions("sysfs,nosysfs"),
    machine=MachineOptions(clock="real"),
    scenario="grouping",
    counts="2,3",
    operations="mtu",
    arms="process,group",
    repeat="1",
    output="out",
    timeout="0",
    as_json=False,
)
SUBJECTS = [subject("sysfs"), subject("nosysfs")]
KERNELS = ["sysfs", "nosysfs"]
BEGUN_WITH_SYSFS = replace(
    OPTIONS,
    seed=next(
        str(seed)
        for seed in range(1000)
        if schedule(OPTIONS.plan({}, seed=seed), KERNELS, 64)[0].slot.kernel == "sysfs"
    ),
)


def check(options: RunOptions) -> RunRequest:
    return Running(options).check()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 8000)


# What is wrong is said before anything is started


def with_machine(**options: str) -> RunOptions:
    return replace(OPTIONS, machine=replace(OPTIONS.machine, **options))


BAD: list[tuple[RunOptions, list[str]]] = [
    (replace(OPTIONS, kernels=KernelOptions("sysfs,frob")), ["frob", "sysfs, nosysfs"]),
    (replace(OPTIONS, kernels=KernelOptions("")), ["--kernel is empty"]),
    (replace(OPTIONS, kernels=KernelOptions("sysfs", source="nowhere")), ["nowhere"]),
    (replace(OPTIONS, kernels=KernelOptions("sysfs", patches=("no.patch",))), ["no.patch"]),
    (replace(OPTIONS, kernels=KernelOptions("sysfs", configs=("no.config",))), ["no.config"]),
    (
        replace(OPTIONS, scenario="frob"),
        ["--scenario frob", "valid are addresses,", "a file"],
    ),
    (replace(OPTIONS, scenario="./frob.py"), ["frob.py: there is no such file"]),
    (replace(OPTIONS, axis=("arm=group",)), ["--arms and --axis arm are the same"]),
    (replace(OPTIONS, axis=("size=3",)), ["--axis size=3", "are operation, arm, interfaces"]),
    (replace(OPTIONS, operations="mtu,frob"), ["--operations frob", "create, mtu, up"]),
    (replace(OPTIONS, arms="frob"), ["--arms frob", "group, process, netlink, batch, dump"]),
    (
        replace(OPTIONS, arms="group", operations="group"),
        ["none of it can be measured", "group by group", "IFLA_GROUP"],
    ),
    (replace(OPTIONS, counts="many"), ["--counts many", "whole number"]),
    (replace(OPTIONS, counts="128,0"), ["--counts 0", "from 1 to 32768"]),
    (replace(OPTIONS, counts="-5"), ["--counts -5", "from 1 to 32768"]),
    (replace(OPTIONS, counts="40000"), ["--counts 40000", "from 1 to 32768"]),
    (replace(OPTIONS, repeat="0"), ["--repeat 0", "from 1"]),
    (replace(OPTIONS, timeout="soon"), ["--timeout soon", "seconds"]),
    (replace(OPTIONS, warmup="-1"), ["--warmup -1", "from 0"]),
    (replace(OPTIONS, seed="dice"), ["--seed dice", "whole number"]),
    (replace(OPTIONS, jobs="0"), ["--jobs 0", "from 1"]),
    (replace(OPTIONS, param=("listeners=1000",)), ["--param listeners=1000", "from 0 to 256"]),
    (replace(OPTIONS, param=("listeners=many",)), ["--param listeners=many", "a number"]),
    (replace(OPTIONS, param=("listeners",)), ["--param listeners:", "NAME=VALUE", "listeners"]),
    (replace(OPTIONS, param=("frob=1",)), ["--param frob=1", "are listeners"]),
    (with_machine(accel="frob"), ["--accel frob", "auto, kvm, tcg"]),
    (with_machine(boot="frob"), ["--boot frob", "direct, iso"]),
    (with_machine(machine="frob"), ["--machine frob", "pc, microvm"]),
    (with_machine(machine="microvm", boot="iso"), ["--machine microvm", "pc"]),
    (with_machine(memory="lots"), ["--memory lots"]),
    (with_machine(memory="1"), ["--memory 1", "from 64"]),
    (with_machine(memory="100000000"), ["--memory 100000000"]),
    (with_machine(memory="9000"), ["--memory 9000", "8000 MiB"]),
    (with_machine(cpus="0"), ["--cpus 0", "from 1 to 64"]),
    (with_machine(boot_timeout="-1"), ["--boot-timeout -1"]),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[says[0] for _, says in BAD])
def test_a_wrong_option_is_refused_and_leaves_nothing(
    options: RunOptions, says: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        check(options)
    for part in says:
        assert part in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_more_hosts_in_a_guest_than_its_memory_holds_are_refused_with_the_number() -> None:
    many = ("topology=a -- b[400]: 10mbit",)
    machine = MachineOptions(memory="512", clock="virtual")
    options = RunOptions(machine=machine, scenario="congestion", param=many, output="out")
    with pytest.raises(UsageError, match=r"with 402 hosts in a guest, need 712 MiB .* gives 512"):
        check(options)


def test_counts_beyond_what_the_memory_holds_are_refused_with_what_fits() -> None:
    options = replace(with_machine(memory="128"), counts="128,2048")
    with pytest.raises(UsageError) as caught:
        check(options)
    fits = re.search(r"at most (\d+) fit into 128 MiB", caught.value.message)
    assert fits, caught.value.message
    assert "--counts 2048: 2048 interfaces" in caught.value.message
    assert "--memory gives 128" in caught.value.message
    assert check(replace(options, counts=fits[1])).memory == 128
    with pytest.raises(UsageError):
        check(replace(options, counts=str(int(fits[1]) + 1), output="other"))


def test_counts_beyond_what_the_host_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "host_memory_available", lambda: 500)
    with pytest.raises(UsageError, match=r"32768 interfaces .* 500 MiB"):
        check(replace(OPTIONS, counts="32768"))


def test_an_output_folder_with_a_run_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").touch()
    with pytest.raises(UsageError, match="out already holds a run"):
        check(OPTIONS)


def test_right_options_become_a_plan() -> None:
    request = check(replace(OPTIONS, counts="10,5", operations="all", arms="all", timeout="9"))
    cells = request.plan.cells
    assert [setup["interfaces"] for setup in request.plan.setups] == [5, 10]
    assert {cell["operation"] for cell in cells} == set(Operation)
    assert {cell["arm"] for cell in cells} == set(ARMS)
    possible = len(Operation) * len(ARMS) - 2  # a group is neither created nor regrouped
    assert len(cells) == len(set(cells)) == 2 * possible
    assert request.plan.limit == 9.0
    assert request.folder == Path("out")
    assert request.memory == 256


@pytest.mark.parametrize(
    ("scenario", "kernels"), [("grouping", "sysfs,nosysfs"), ("aliases", "sysfs")]
)
def test_where_no_kernel_is_named_the_scenario_says_which(scenario: str, kernels: str) -> None:
    (side,) = Running(made(RunOptions, {"scenario": scenario})).sides()
    assert side.options.names == kernels
    (side,) = Running(made(RunOptions, {"scenario": scenario, "kernel": "debug"})).sides()
    assert side.options.names == "debug"


def test_without_an_output_folder_there_is_one_of_its_own() -> None:
    folders = {check(replace(OPTIONS, output="")).folder for _ in range(3)}
    assert len(folders) == 3


# Runs


@dataclass
class Prepared:
    """What stands in for building kernels and looking for QEMU."""

    make: Callable[[str], FakeGuest] = lambda kernel: FakeGuest()
    error: BaseException | None = None
    found: list[Subject] = field(default_factory=lambda: SUBJECTS)
    boots: list[Boot] = field(default_factory=list)

    def lab(self, options: MachineOptions, memory: int, *_: object) -> Lab:
        made = lab_of(lambda kernel, count: self.make(kernel), boot=Boot(options.boot))
        return replace(made, memory=memory)

    def subjects(self, options: KernelOptions, purpose: Requirements, *_: object) -> list[Subject]:
        if self.error:
            raise self.error
        self.boots.append(purpose.boot)
        return self.found


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Prepared:
    prepared = Prepared()
    monkeypatch.setattr(workflow, "set_up_lab", prepared.lab)
    monkeypatch.setattr(workflow, "prepare_subjects", prepared.subjects)
    return prepared


def hang(operation: str) -> None:
    if operation == "run-each":
        raise GuestHung("no answer", "the console's last lines")


def lose(operation: str) -> None:
    if operation == "run-each":
        raise MachineLost("QEMU was killed")


def interrupt(operation: str) -> None:
    if operation == "run-each":
        raise KeyboardInterrupt


def skipping() -> FakeGuest:
    return FakeGuest(Misbehaviour(How.SKIP, "ll10001", Wish(mtu=1400)))


def test_a_run_that_goes_well_shows_the_table_and_keeps_everything(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(OPTIONS, ["invoke", "run", "--output", "a b"]) is Verdict.PASS
    out, err = capsys.readouterr()
    assert out.startswith("TCG")
    assert "verdict: pass" in out
    assert "results: out" in out
    assert "Traceback" not in err
    run = read_run(Path("out"))
    assert len(run.samples) == 12
    assert run.about["verdict"] == "pass"
    assert run.about["command"] == "invoke run --output 'a b'"
    assert run.about["end"] > run.about["start"]
    table = Path("out/table.txt").read_text(encoding="utf-8")
    assert table.splitlines()[0] == out.splitlines()[0]


def test_what_is_kept_says_what_was_measured_on_what(prepared: Prepared) -> None:
    command.main(OPTIONS, ["invoke", "run"])
    about = read_run(Path("out")).about
    assert about["kernels"][0]["inputs"] == {"config": "ab"}
    assert about["kernels"][0]["sha256"] == "0" * 64
    assert about["image"] == {"agent": "12", "initramfs": "34"}
    assert (about["accel"], about["boot"], about["machine"]) == ("tcg", "direct", "microvm")
    assert about["qemu"]["version"] == "7.2.22"
    assert set(about["qemu"]["command_lines"]) == {"sysfs", "nosysfs"}
    plan = about["plan"]
    assert plan["axes"] == {
        "operation": ["mtu"],
        "arm": ["process", "group"],
        "interfaces": [2, 3],
    }
    assert sorted(plan["cells"]) == [
        ["mtu", arm, count] for arm in ("group", "process") for count in (2, 3)
    ]
    assert (plan["given"], plan["repeat"]) == ({"listeners": 0}, 1)
    assert 0 <= plan["seed"] < 1 << 32, "without it nobody could do it again"
    assert about["host"]["cpus"] >= 1


def test_the_users_files_are_kept_by_content(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "my.config").write_text("CONFIG_X=y\n")
    (tmp_path / "my.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    kernels = KernelOptions("sysfs", patches=("my.patch",), configs=("my.config",))
    command.main(replace(OPTIONS, kernels=kernels), ["invoke", "run"])
    about = read_run(Path("out")).about
    assert [len(digest) for digest in about["patches"].values()] == [64]
    assert list(about["configs"]) == ["my.config"]


def test_with_json_there_is_one_document_and_nothing_else(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(replace(OPTIONS, as_json=True), ["invoke", "run"]) is Verdict.PASS
    document = json.loads(capsys.readouterr().out)
    assert document["run"]["verdict"] == "pass"
    assert len(document["samples"]) == 12
    assert {claim["finding"] for claim in document["claims"]} <= {
        "reproduced",
        "in part",
        "not reproduced",
        "not measured",
    }
    assert document["folder"] == "out"


@pytest.mark.parametrize(
    ("guest", "verdict", "says"),
    [
        (skipping, Verdict.FAIL, "ll10001 (ifindex 4) has mtu 1500 instead of 1400"),
        (lambda: FakeGuest(before=hang), Verdict.HANG, "the console's last lines"),
        (lambda: FakeGuest(before=lose), Verdict.ERROR, "QEMU was killed"),
        (lambda: FakeGuest(before=interrupt), Verdict.INTERRUPTED, "is kept"),
    ],
    ids=["wrong state", "hang", "QEMU gone", "Ctrl-C"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_that_goes_wrong_says_so_and_shows_what_it_has(
    guest: Callable[[], FakeGuest],
    verdict: Verdict,
    says: str,
    as_json: bool,
    prepared: Prepared,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared.make = lambda kernel: guest()
    assert command.main(replace(OPTIONS, as_json=as_json), ["invoke", "run"]) is verdict
    out, err = capsys.readouterr()
    assert says in err
    run = read_run(Path("out"))
    assert run.about["verdict"] == verdict.value
    assert run.about["message"]
    assert run.samples[0].cell["operation"] == "create"
    assert Path("out/table.txt").exists()
    if as_json:
        assert json.loads(out)["run"]["verdict"] == verdict.value
    else:
        assert f"verdict: {verdict.value}" in out


def test_what_each_kernel_did_is_told_and_the_first_one_gives_the_verdict(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(kernel: str) -> FakeGuest:
        if kernel == "sysfs":
            raise KernelCrashed("the kernel reports a panic: not syncing")
        return FakeGuest(before=hang)

    prepared.make = make
    assert command.main(BEGUN_WITH_SYSFS, ["invoke", "run"]) is Verdict.CRASH
    err = capsys.readouterr().err
    assert "crash: kernel sysfs: the kernel reports a panic" in err
    assert "hang: kernel nosysfs: no answer" in err
    faults = read_run(Path("out")).faults
    assert [(f["kernel"], f["verdict"], f["guest"], f["during"]) for f in faults] == [
        ("sysfs", "crash", "guest", "boot"),
        ("nosysfs", "hang", "guest", "trial"),
    ]


def test_a_fault_of_the_lab_does_not_hide_what_a_kernel_did_before(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared.make = lambda kernel: FakeGuest(before=hang if kernel == "sysfs" else lose)
    assert command.main(BEGUN_WITH_SYSFS, ["invoke", "run"]) is Verdict.ERROR
    err = capsys.readouterr().err
    assert "error: QEMU was killed" in err
    assert "hang: kernel sysfs: no answer" in err


@pytest.mark.parametrize(
    "error", [BuildSkipped("it does not compile"), LabError("no QEMU"), KeyboardInterrupt()]
)
def test_a_run_that_never_begins_leaves_no_folder(
    error: BaseException, prepared: Prepared, tmp_path: Path
) -> None:
    prepared.error = error
    with pytest.raises(type(error)):
        command.main(OPTIONS, ["invoke", "run"])
    assert not (tmp_path / "out").exists()


def test_a_run_that_never_begins_leaves_a_folder_alone_that_has_other_things(
    prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    prepared.error = BuildSkipped("it does not compile")
    with pytest.raises(BuildSkipped):
        command.main(OPTIONS, ["invoke", "run"])
    assert (tmp_path / "out" / "notes.txt").exists()


def test_a_run_gives_its_results_to_other_tools(prepared: Prepared) -> None:
    exports = ExportOptions(junit="junit.xml", ktap="out.ktap")
    assert command.main(replace(OPTIONS, exports=exports), ["invoke", "run"]) is Verdict.PASS
    assert 'failures="0" errors="0"' in Path("junit.xml").read_text()
    assert "ok 1 grouping.sysfs" in Path("out.ktap").read_text()


def test_a_scenario_of_ones_own_is_measured_shown_and_exported(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(SOURCE)
    options = RunOptions(
        scenario="mine.py",
        axis=("protocol=udp,tcp",),
        param=("pace=2",),
        kernels=OPTIONS.kernels,
        machine=OPTIONS.machine,
        output="out",
        exports=ExportOptions(ktap="out.ktap"),
    )
    assert command.main(options, ["invoke", "run"]) is Verdict.PASS
    out = capsys.readouterr().out
    assert "verdict: pass" in out
    run = read_run(Path("out"))
    assert (run.about["scenario"], run.plan["given"]) == ("rate", {"pace": 2.0, "queue": "fifo"})
    assert {sample.cell.text: sample.metrics["rate"] for sample in run.samples} == {
        "64/udp": 128.0,
        "64/tcp": 128.0,
        "1500/udp": 3000.0,
        "1500/tcp": 3000.0,
    }
    assert sorted((boot.kernel, boot.cell.text) for boot in run.boots) == [
        (kernel, size) for kernel in ("nosysfs", "sysfs") for size in ("1500", "64")
    ]
    assert "rate" in Path("out/table.txt").read_text()
    assert "ok 1 rate.sysfs" in Path("out.ktap").read_text()
    assert Path("out/report.html").is_file()


def work_of(run: Run) -> list[tuple[str, str, int]]:
    """Return what was measured, in the order in which it was."""
    return [(sample.kernel, sample.cell.text, sample.trial) for sample in run.samples]


def test_a_run_with_axes_and_parameters_is_done_again_in_the_same_order(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(
        OPTIONS,
        operations="",
        arms="",
        axis=("operation=mtu,create", "arm=group,netlink,process"),
        param=("listeners=2",),
        repeat="2",
    )
    command.main(options, ["invoke", "run"])
    capsys.readouterr()
    assert rerun(RerunOptions("out", output="again"), ["invoke", "rerun"]) is Verdict.PASS
    assert "every input is the same" in capsys.readouterr().out
    before, now = read_run(Path("out")), read_run(Path("again"))
    assert now.plan == before.plan
    assert now.plan["given"] == {"listeners": 2}
    assert work_of(now) == work_of(before)
    assert now.about["options"] == before.about["options"]


def test_a_run_of_the_first_release_is_done_again(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(replace(OPTIONS, param=("listeners=2",), seed="7"), ["invoke", "run"])
    capsys.readouterr()
    new = read_run(Path("out"))
    about = dict(new.about)
    for entry in ("shape", "reference", "claims"):
        del about[entry]
    own = {k: v for k, v in about["options"].items() if k not in ("axis", "param")}
    words = {"counts": "2,3", "operations": "mtu", "arms": "process,group", "listeners": "2"}
    about |= {
        "options": own | words,
        "plan": {
            "counts": [2, 3],
            "operations": ["mtu"],
            "arms": ["process", "group"],
            "pairs": [["mtu", "process"], ["mtu", "group"]],
            **{k: v for k, v in new.plan.items() if k not in ("axes", "cells", "given")},
            "listeners": 2,
        },
        "boots": [boot.to_json() for boot in new.boots],
        "faults": [],
    }
    lines = [{**sample.to_json(), "listeners": 2} for sample in new.samples]
    Path("old").mkdir()
    Path("old/run.json").write_text(json.dumps(about))
    Path("old/samples.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert sorted(read_run(Path("old")).cells) == sorted(new.cells)
    assert rerun(RerunOptions("old", output="again"), ["invoke", "rerun"]) is Verdict.PASS
    assert "every input is the same" in capsys.readouterr().out
    again = read_run(Path("again"))
    assert (again.plan, work_of(again)) == (new.plan, work_of(new))
    assert again.about["options"] == new.about["options"]


@pytest.mark.parametrize("kernel", ["sysfs", "bzImage"])
def test_a_scenarios_fragment_goes_into_the_labs_kernels_and_into_no_other(kernel: str) -> None:
    Path("mine.config").write_text("CONFIG_VETH=y\n")
    Path("mine.py").write_text(WITH_FRAGMENT)
    Path("bzImage").write_bytes(header("6.1"))
    options = replace(
        OPTIONS,
        scenario="mine.py",
        counts="",
        operations="",
        arms="",
        kernels=KernelOptions(f"nosysfs,./{kernel}" if kernel == "bzImage" else kernel),
    )
    check(options)
    needed = options.kernels.with_scenario(options.kind)
    assert not needed.is_stock
    fragment = Path("mine.config").absolute()
    assert needed.build_options("nosysfs").configs == (fragment,)
    assert needed.build_options("./bzImage").configs == ()
    Path("user.config").write_text("CONFIG_HZ_250=y\n")
    own = replace(needed, configs=("user.config",))
    assert own.build_options("nosysfs").configs == (fragment, Path("user.config")), (
        "who has the last word"
    )
    assert options.kernels.with_scenario(Grouping) == options.kernels
    assert Requirements.of(options.kind, lab_of()).needs == (str(fragment),)


def test_a_run_that_never_begins_says_so_to_other_tools(prepared: Prepared) -> None:
    prepared.error = BuildSkipped("it does not compile")
    exports = ExportOptions(ktap="out.ktap")
    with pytest.raises(BuildSkipped):
        command.main(replace(OPTIONS, exports=exports), ["invoke", "run"])
    assert "not ok 1 build" in Path("out.ktap").read_text()


def test_an_iso_is_booted_where_that_was_asked_for(prepared: Prepared) -> None:
    prepared.found = [replace(subject, iso=Cached("iso/ab/live.iso")) for subject in SUBJECTS]
    options = with_machine(boot="iso")
    assert command.main(options, ["invoke", "run"]) is Verdict.PASS
    assert prepared.boots == [Boot.ISO]
    run = read_run(Path("out"))
    assert {sample.boot for sample in run.samples} == {"iso"}
    assert run.about["machine"] == "pc"


def test_saved_guests_are_made_before_anything_is_measured(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[list[str]] = []

    def with_snapshots(lab: Lab, subjects: list[Subject], *_: object) -> Lab:
        saved.append([subject.name for subject in subjects])
        return lab

    monkeypatch.setattr(Lab, "with_snapshots", with_snapshots)
    options = with_machine(boot="resume")
    assert command.main(options, ["invoke", "run"]) is Verdict.PASS
    assert saved == [["sysfs", "nosysfs"]]
    assert {sample.boot for sample in read_run(Path("out")).samples} == {"resume"}
