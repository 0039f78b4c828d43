"""What the bench works out, apart from what it measures."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_lab import lab_of, subject

from linklab.bench import figures
from linklab.bench.figures import (
    TOUCHED,
    BenchFigure,
    edits,
    one_line_patch,
    virtme_ng,
    vng_words,
    whole_command,
)
from linklab.bench.nics import NicCost
from linklab.bench.nics import table as costs_table
from linklab.commands.bench import BenchOptions, checked_vng
from linklab.commands.bench import main as bench_main
from linklab.errors import LabError, UsageError
from linklab.host.accel import Accel
from linklab.host.cache import Artefact, Cache
from linklab.host.run import CommandFailed
from linklab.kernel.kernel import KernelSpec
from linklab.machine.process import cpu_seconds
from linklab.machine.spec import NicModel
from linklab.options import made
from linklab.report.grid import plain_text


def test_a_figures_median_is_set_against_its_aim() -> None:
    assert BenchFigure("boot", "s", (0.4, 9.0, 0.6), aim=0.5).ratio == pytest.approx(1.2)
    assert BenchFigure("size", "MB", (4.9,)).ratio is None


def test_the_patch_of_a_rebuild_applies_and_changes_one_line(tmp_path: Path) -> None:
    lines = ["// one", "/* two", " */", "four"]
    file = tmp_path / TOUCHED
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    patch = one_line_patch("mark", lines[:3])
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    assert file.read_text().splitlines() == ["/* mark */", *lines]


def test_virtme_ng_is_told_of_an_accelerator_that_does_not_work(tmp_path: Path) -> None:
    kernel = Path("/boot/vmlinuz")
    assert "--disable-kvm" in vng_words(kernel, Accel.TCG, tmp_path)
    assert "--disable-kvm" not in vng_words(kernel, Accel.KVM, tmp_path)
    assert vng_words(kernel, Accel.KVM, tmp_path)[-2:] == ["--", f"uname -r > {tmp_path}/answer"]


def fake_vng(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guest: str) -> None:
    """Put a virtme-ng first in the path that does this with what the guest is to do."""
    program = tmp_path / "vng"
    program.write_text(f"#!/bin/sh\nfor say; do :; done\n{guest}\necho no guest >&2; exit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_virtme_ngs_answer_counts_and_not_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vng(tmp_path, monkeypatch, 'sh -c "$say"')
    told: list[int] = []
    seconds = virtme_ng(Path("k"), Accel.TCG, 2, lambda turn, _what: told.append(turn))
    assert (len(seconds), told) == (2, [0, 1])


def test_virtme_ng_without_an_answer_gives_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vng(tmp_path, monkeypatch, ":")
    with pytest.raises(LabError, match="no answer from the guest, status 255") as caught:
        virtme_ng(Path("k"), Accel.TCG, 1, lambda _turn, _what: None)
    assert caught.value.evidence == "no guest"


def test_a_link_is_charged_with_all_cpu_time_of_a_process() -> None:
    before, ours = cpu_seconds(os.getpid()), time.process_time()
    until = ours + 0.05
    while time.process_time() < until:
        pass
    assert cpu_seconds(os.getpid()) - before == pytest.approx(time.process_time() - ours, abs=0.02)


def test_the_interfaces_table_says_what_its_figures_are_and_has_their_spread() -> None:
    one, other = (NicCost(goodput, 1.0, 2.0, 0.5, 9.0) for goodput in (10.0, 30.0))
    shown = plain_text(costs_table(lab_of(), subject("sysfs"), {NicModel.E1000: [one, other]}))
    assert "TCG" in shown.splitlines()[0]
    assert "sysfs" in shown
    (row,) = (line.split() for line in shown.splitlines() if "e1000" in line)
    assert row[1:3] == ["20", "(10-30)"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"networks": True}, "--networks, --nics: one of them"),
        ({"vng": "bzImage"}, "--vng bzImage: --nics does without"),
        ({"clock": "virtual"}, "--clock virtual: each guest would count"),
        ({"kernel": "sysfs,nosysfs"}, "one kernel"),
        ({"repeat": "0"}, "--repeat 0"),
    ],
)
def test_wrong_options_of_the_interfaces_are_refused_before_anything_starts(
    options: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(UsageError, match=wanted):
        bench_main(made(BenchOptions, {"nics": True, **options}))


def test_a_command_that_fails_gives_no_time() -> None:
    with pytest.raises(CommandFailed):
        whole_command(["false"])


def test_no_row_for_virtme_ng_without_a_kernel() -> None:
    assert checked_vng("") is None


@pytest.mark.parametrize("installed", [True, False])
def test_a_row_for_virtme_ng_that_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if installed:
        (tmp_path / "vng").write_text("#!/bin/sh\n")
        (tmp_path / "vng").chmod(0o755)
    wanted = "there is no such kernel" if installed else "pip install virtme-ng"
    with pytest.raises(UsageError, match=wanted):
        checked_vng(str(tmp_path / "missing"))


def test_the_first_rebuild_of_an_edit_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may begin with all of the kernel; each kernel goes on to its table, and is thrown away."""
    commands: list[list[str]] = []
    patches: list[str] = []
    source = SimpleNamespace(
        tree="t",
        store=SimpleNamespace(git=lambda _words: SimpleNamespace(stdout=b"// one\n// two\n//\n")),
    )

    def built(spec: KernelSpec, *_rest: object) -> Artefact:
        patches.append(spec.options.patches[0].origin.read_text())
        folder = tmp_path / f"kernel-{len(patches)}"
        folder.mkdir()
        return Artefact("kernel", "key", folder, {})

    def whole(words: Sequence[str]) -> float:
        commands.append(list(words))
        return 0.0

    monkeypatch.setattr(figures, "open_source", lambda *_: source)
    monkeypatch.setattr(figures, "build_kernel", built)
    monkeypatch.setattr(figures, "whole_command", whole)
    found = edits("nosysfs", 2, Cache(tmp_path / "cache"), lambda _turn, _what: None)
    assert (len(found.to_kernel), len(found.to_table)) == (2, 2)
    assert len(set(patches)) == 3, "each is another kernel"
    assert [Path(words[words.index("--kernel") + 1]).parent.name for words in commands] == [
        "kernel-1",
        "kernel-2",
        "kernel-3",
    ]
    assert not list(tmp_path.glob("kernel-*"))
