"""What the bench works out, apart from what it measures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from linklab.benchmarks import TOUCHED, Figure, one_line_patch, vng_words, whole_command
from linklab.commands.bench import checked_vng
from linklab.errors import UsageError
from linklab.host.accel import Accel
from linklab.host.run import CommandFailed


def test_a_figures_median_is_set_against_its_aim() -> None:
    assert Figure("boot", "s", (0.4, 9.0, 0.6), aim=0.5).ratio == pytest.approx(1.2)
    assert Figure("size", "MB", (4.9,)).ratio is None


def test_the_patch_of_a_rebuild_applies_and_changes_one_line(tmp_path: Path) -> None:
    lines = ["// one", "/* two", " */", "four"]
    file = tmp_path / TOUCHED
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    patch = one_line_patch("mark", lines[:3])
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    assert file.read_text().splitlines() == ["/* mark */", *lines]


def test_virtme_ng_is_told_of_an_accelerator_that_does_not_work() -> None:
    kernel = Path("/boot/vmlinuz")
    assert "--disable-kvm" in vng_words(kernel, Accel.TCG)
    assert "--disable-kvm" not in vng_words(kernel, Accel.KVM)
    assert vng_words(kernel, Accel.KVM)[-3:] == ["--", "uname", "-r"]


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
