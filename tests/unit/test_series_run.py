"""`invoke series` from a series to its sentence: real builds of a miniature, fake guests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_guest import FakeGuest
from fake_lab import FakeLab, lab_of
from fake_tree import make_tree
from hand_made import cell

from linklab.agent.protocol import Field, FieldReader
from linklab.commands import history, workflow
from linklab.commands import series as command
from linklab.commands.exports import ExportOptions
from linklab.commands.kernels import KernelOptions
from linklab.commands.machines import MachineOptions
from linklab.commands.places import PlaceOptions
from linklab.commands.series import SeriesOptions, SeriesRequest, SeriesWork
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
from linklab.kernel import make as make_module
from linklab.lab.lab import Lab, Subject
from linklab.machine.spec import Boot
from linklab.report.by_kind import headline
from linklab.results.history import entries
from linklab.results.series import Findings, find
from linklab.results.store import RunFolder, read_run
from linklab.trials.series import applied

CELL = cell("mtu", "group", 2)
SLOW = 1.5


def patch(number: int, total: int, subject: str, old: str, new: str) -> str:
    return (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\n"
        f"Subject: [PATCH v2 {number}/{total}] {subject}\n\nWhy.\n---\n"
        f"diff --git a/net/b.c b/net/b.c\n--- a/net/b.c\n+++ b/net/b.c\n"
        f"@@ -1 +1 @@\n-{old}\n+{new}\n-- \n2.39\n\n"
    )


def chain(*lines: str) -> str:
    """Return an mbox of patches that write these lines into net/b.c, one after the other."""
    steps = list(zip(("// b", *lines), lines, strict=False))
    cover = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nSubject: [PATCH v2 0/{len(steps)}] net\n\nx\n"
    )
    mails = [patch(n, len(steps), f"step {n}", *step) for n, step in enumerate(steps, 1)]
    return "".join([cover, *mails])


class SlowGuest(FakeGuest):
    """A guest in which an `ip` takes longer."""

    def _do_run(self, reader: FieldReader) -> list[Field]:
        status, ns, *rest = super()._do_run(reader)
        assert isinstance(ns, int)
        return [status, int(ns * SLOW), *rest]


class SeriesLab(FakeLab):
    """Saves guests without booting them; kernels named in `broken` do not come up."""

    def with_snapshots(self, subjects: Sequence[Subject], *_: object) -> Lab:
        for subject in subjects:
            guest = self.make(subject.name, 0)
            guest.before("boot")
        return replace(self, snapshots={s.name: self.saved(s) for s in subjects})

    def saved(self, subject: Subject) -> Any:
        return SimpleNamespace(folder=Cached(f"snapshot/{subject.label}"))


Make = Mapping[str, FakeGuest]


def check(options: SeriesOptions) -> SeriesRequest:
    return SeriesWork(options).check()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(make_module, "_NEEDED", frozenset(("gcc", "make")))
    make_tree(tmp_path / "linux")
    return tmp_path


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type[FakeGuest] | FakeGuest]]:
    """Guests by the kernel's name, where they are not as they should be."""
    made: dict[str, type[FakeGuest] | FakeGuest] = {}

    def make(kernel: str, _count: int) -> FakeGuest:
        found = made.get(kernel, FakeGuest)
        return found() if isinstance(found, type) else found

    def prepare(options: MachineOptions, memory: int, *_: object) -> Lab:
        lab = lab_of(make, boot=Boot(options.boot))
        return SeriesLab(**{**vars(lab), "memory": memory})

    monkeypatch.setattr(workflow, "set_up_lab", prepare)
    yield made


def options(mbox: str, **changes: Any) -> SeriesOptions:
    Path("s.mbox").write_text(mbox)
    given = SeriesOptions(
        kernels=KernelOptions("sysfs,nosysfs", "linux", ("s.mbox",)),
        machine=MachineOptions(boot="resume", clock="real"),
        scenario="grouping",
        operations="mtu",
        counts="2",
        arms="group",
        blocks="8",
        trials="1",
        fail_above="5",
        seed="1",
        output="out",
        as_json=False,
    )
    return replace(given, **changes)


def outcome_of(mbox: str, **changes: Any) -> tuple[Verdict, Findings]:
    verdict = command.main(options(mbox, **changes), ["invoke", "series"])
    return verdict, find(read_run(Path("out")))


def test_each_patch_is_built_measured_and_judged(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    guests["nosysfs@4"] = SlowGuest
    verdict, found = outcome_of(
        chain("// warns", "// sysfs", "// quick", "// slow"),
        blocks="12",
        exports=ExportOptions("junit.xml", "out.ktap", "kcidb.json"),
    )
    out = capsys.readouterr().out
    assert verdict is Verdict.FAIL
    assert [row.problem is None for row in found.rows["nosysfs"]] == [True, True, False, True, True]
    assert out.strip().splitlines()[-1].startswith("patch 1/4 adds 1 compiler warning on sysfs and")
    said = " ".join(out.split())
    assert "patch 2/4 does not build on nosysfs (3/4 mends it); " in said
    assert "patch 4/4 slows mtu by group, 2 interfaces on nosysfs by 50.0 % [50.0, 50.0]" in said
    assert "net/b.c:1: unused variable 'x'" in out
    assert "#error no sysfs" in out
    assert "1/4 step 1" in out and "v2: net" in out
    slow = found.rows["nosysfs"][4]
    assert slow.before[CELL].against == 3
    assert found.rows["nosysfs"][3].before[CELL].against == 1, "the last one that was measured"
    about = read_run(Path("out")).about
    assert (about["kind"], about["verdict"]) == ("series", "fail")
    assert about["end"]
    history.show(history.ShowOptions("out"))
    assert capsys.readouterr().out == out
    (entry,) = entries(Path())
    assert entry.kernels == ["sysfs", "nosysfs"]
    assert headline(read_run(Path("out"))) == out.splitlines()[-1]
    assert 'name="mtu/group/2"' in Path("junit.xml").read_text()
    assert Path("out/table.txt").read_text().splitlines()[-1] == out.splitlines()[-1]


def test_a_series_that_is_killed_leaves_the_states_that_it_had(
    guests: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run.json is as it was at the start: it is written once more, at the end."""
    written: list[str] = []
    update = RunFolder.update

    def noting(folder: RunFolder, **entries: Any) -> None:
        update(folder, **entries)
        written.append(Path("out/run.json").read_text())

    monkeypatch.setattr(RunFolder, "update", noting)
    _, whole = outcome_of(chain("// warns", "// sysfs"))
    assert len(written) == 2
    at_the_end = json.loads(written[1])
    assert [kernel["name"] for kernel in at_the_end["kernels"]][:2] == ["sysfs@base", "sysfs@1"]
    Path("out/run.json").write_text(written[0])
    killed = find(read_run(Path("out")))
    assert killed == whole
    lines = Path("out/states.jsonl").read_text().splitlines()
    Path("out/states.jsonl").write_text("\n".join(lines[:3]) + '\n{"flavour": "sys')
    rows = find(read_run(Path("out"))).rows
    assert {name: len(states) for name, states in rows.items()} == {"sysfs": 2, "nosysfs": 1}
    at_the_end["series"]["states"] = list(map(json.loads, lines))
    Path("out/states.jsonl").unlink()
    Path("out/run.json").write_text(json.dumps(at_the_end))
    assert find(read_run(Path("out"))) == whole, "as older ones kept them"


def test_a_series_that_changes_nothing_passes_and_its_kernels_are_measured_once(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    note = patch(1, 1, "a note", "// b", "// b").replace("net/b.c", "net/README")
    text = note.replace("-// b\n+// b", "+hello").replace("@@ -1 +1 @@", "@@ -0,0 +1 @@")
    text = text.replace("--- a/net/README", "new file mode 100644\n--- /dev/null")
    verdict, found = outcome_of(text)
    assert verdict is Verdict.PASS
    row = found.rows["sysfs"][1]
    assert row.state.same_as == 0
    assert row.values == found.rows["sysfs"][0].values
    assert {sample.kernel for sample in read_run(Path("out")).samples} == {
        "sysfs@base", "nosysfs@base",
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "same kernel as base" in out
    assert "the patch builds, boots and passes mtu by group, 2 interfaces" in " ".join(out.split())


def test_a_kernel_that_does_not_boot_or_fails_leaves_the_others_to_be_tested(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(operation: str) -> None:
        if operation == "boot":
            raise KernelCrashed("BUG: no", "[    1.0] BUG: no")

    def hang(operation: str) -> None:
        if operation == "run":
            raise GuestHung("no answer")

    guests["sysfs@1"] = FakeGuest(before=crash)
    guests["sysfs@2"] = FakeGuest(before=hang)
    verdict, found = outcome_of(chain("// 1", "// 2", "// 3"))
    assert verdict is Verdict.CRASH
    said = " ".join(capsys.readouterr().out.split())
    assert "patch 1/3 crashes at boot on sysfs; patch 2/3 hangs" in said
    assert "patch 2/3 hangs at mtu by group, 2 interfaces on sysfs (3/3 mends it)" in said
    assert found.rows["sysfs"][3].values
    assert found.verdict_of(found.rows["sysfs"][2]) is Verdict.HANG


def test_a_base_that_does_not_build_is_said_and_is_no_patchs_fault(
    guests: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "linux/net/a.c").write_text("// sysfs\n")
    verdict, found = outcome_of(chain("// 1"))
    assert verdict is Verdict.SKIP
    said = " ".join(capsys.readouterr().out.split())
    assert "the base does not build on nosysfs" in said
    assert "patch 1/1" not in said
    assert found.rows["sysfs"][1].before


def test_a_series_that_does_not_apply_is_refused_before_anything_is_built(
    guests: dict[str, Any],
) -> None:
    text = chain("// 1", "// 2").replace("-// 1", "-// other")
    with pytest.raises(BuildSkipped, match=r'patch 2/2 "step 2" .* does not apply .* after 1/2'):
        command.main(options(text), ["invoke", "series"])
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(KeyboardInterrupt(), Verdict.INTERRUPTED), (MachineLost("gone"), Verdict.ERROR)],
)
def test_what_was_done_until_an_early_end_is_kept_and_shown(
    guests: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    verdict: Verdict,
) -> None:
    def end(operation: str) -> None:
        if operation == "run":
            raise error

    guests["nosysfs@2"] = FakeGuest(before=end)
    ended, found = outcome_of(chain("// 1", "// 2", "// wrong"))
    assert ended is verdict
    out, err = capsys.readouterr()
    assert re.search(r"; not tested to the end: (1/3 to )?2/3$", out.strip())
    assert f"\n{verdict.value}: " in f"\n{err}"
    assert [row.problem is not None for row in found.rows["sysfs"]] == [False, False, False, True]


def test_what_the_lab_cannot_build_ends_it_with_what_was_built(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ended, found = outcome_of(chain("// 1", "// full"))
    assert ended is Verdict.ERROR
    assert len(found.rows["sysfs"]) == 2
    assert "not tested to the end: 1/2 to 2/2" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match="already holds a run"):
        check(options(chain("// 1")))


def test_a_script_gets_one_document(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome_of(chain("// 1"), as_json=True, machine=MachineOptions(boot="direct", clock="real"))
    document = json.loads(capsys.readouterr().out)
    last = document["rows"][-1]
    assert (last["flavour"], last["number"], last["verdict"]) == ("nosysfs", 1, "pass")
    assert last["before"][0]["percent"] == 0
    assert last["booted"]
    assert document["sentence"].startswith("the patch builds")
    assert document["run"]["plan"]["repeat"] == 8


def test_the_tree_may_change_while_its_series_is_tested(
    guests: dict[str, Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meddling(FakeGuest):
        pass

    def meddle(*args: Any) -> Any:
        plan = applied(*args)
        (here / "linux/net/a.c").write_text("// wrong\n")
        return plan

    monkeypatch.setattr(command, "applied", meddle)
    assert outcome_of(chain("// 1"))[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernels": KernelOptions("sysfs")}, "there is no series"),
        ({"kernels": KernelOptions("linux", patches=("s.mbox",))}, "a flavour is expected"),
        ({"scenario": "frob"}, "--scenario frob"),
        ({"machine": MachineOptions(boot="iso")}, "--boot iso"),
        ({"fail_above": "some"}, "--fail-above some: a number of per cent"),
        ({"fail_above": "0"}, "--fail-above 0: per cent above 0"),
        ({"blocks": "1"}, "--blocks 1"),
        ({"place": PlaceOptions("guests")}, "--place guests: this scenario has no topology"),
        (
            {
                "place": PlaceOptions("guests"),
                "scenario": "aliases",
                "operations": "",
                "machine": MachineOptions(clock="virtual"),
            },
            "--clock virtual: each guest would count its own",
        ),
        ({"operations": "group"}, "none of it can be measured: group by group, 2 interfaces: "),
        ({"metric": "frob"}, "--metric frob: unknown; valid are seconds, "),
        ({"metric": "notifications"}, "--fail-above 5: notifications may be 0, so it is compared"),
    ],
)
def test_a_wrong_option_is_refused(here: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(options(chain("// 1"), **changes))
    assert not Path("out").exists()


def test_a_series_is_judged_by_its_first_metric_or_the_one_that_is_named(
    guests: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(options(chain("// 1"), output="other")).plan.metric.name == "seconds"
    verdict, found = outcome_of(chain("// 1"), metric="context_switches", fail_above="")
    assert verdict is Verdict.PASS
    assert found.metric.name == "context_switches"
    assert {change.comparison.by_ratio for change in found.rows["sysfs"][1].before.values()} == {
        False
    }
    assert "context_switches, median of 8 guests" in capsys.readouterr().out


def test_more_comparisons_take_more_blocks(here: Path) -> None:
    machine = MachineOptions(clock="virtual")
    few = check(replace(options(chain("// 1"), blocks=""), machine=machine)).plan.measure
    text = chain(*(f"// {n}" for n in range(40)))
    asked = replace(options(text, blocks="", output="other"), machine=machine)
    many = check(asked).plan.measure
    assert few.repeat == 10
    assert many.repeat > few.repeat
    assert few.fresh_guest


def test_an_error_of_the_lab_before_the_first_build_leaves_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Lab:
        raise LabError("no QEMU")

    monkeypatch.setattr(workflow, "set_up_lab", fail)
    with pytest.raises(LabError):
        command.main(options(chain("// 1")), ["invoke", "series"])
    assert not Path("out").exists()


def test_a_series_that_was_killed_goes_on_where_the_source_is_what_it_was(
    guests: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = KernelOptions("nosysfs", "linux", ("s.mbox",))
    mbox = chain("// warns", "// quick")
    _, whole = outcome_of(mbox, kernels=kernels, output="out")
    Path("out").rename("whole")
    samples = RunFolder.add_sample

    def killed(folder: RunFolder, sample: Any) -> None:
        if len(folder.run.samples) == 7:
            raise LabError("killed")
        samples(folder, sample)

    monkeypatch.setattr(RunFolder, "add_sample", killed)
    assert outcome_of(mbox, kernels=kernels)[0] is Verdict.ERROR
    before = read_run(Path("out")).samples
    monkeypatch.setattr(RunFolder, "add_sample", samples)
    (Path("linux") / "net/a.c").write_text("// another\n")
    with pytest.raises(UsageError, match="not all is as it was") as caught:
        outcome_of(mbox, kernels=kernels, output="", resume="out")
    assert "series is not what it was" in caught.value.evidence
    make_tree(Path("linux"))
    verdict, found = outcome_of(mbox, kernels=kernels, output="", resume="out")
    assert verdict is Verdict.PASS
    after = read_run(Path("out")).samples
    assert after[:7] == before
    trials = [(s.kernel, s.cell, s.block) for s in after if s.block]
    assert len(set(trials)) == len(trials) >= 3 * 7
    assert [row.problem for row in found.rows["nosysfs"]] == [
        row.problem for row in whole.rows["nosysfs"]
    ]
