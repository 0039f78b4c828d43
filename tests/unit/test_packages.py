"""What the lab needs from Debian, and how it is recognised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.host.packages import NEEDS, Need, kernel_sources, unmet


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own, with nothing in it."""
    folder = tmp_path / "own" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, mode: int = 0o755) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(mode)


def satisfy(need: Need, bin_folder: Path, root: Path) -> None:
    for name in need.programs:
        program(bin_folder, name)
    for pattern in need.files:
        file = root / pattern.replace("*", "1.2")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_a_program_counts_wherever_it_was_installed(bin_folder: Path, tmp_path: Path) -> None:
    need = Need("tool", "why", ("tool-package",), programs=("tool", "helper"))
    program(bin_folder, "tool")
    assert need.lacks(tmp_path) == ("helper",)
    program(bin_folder, "helper")
    assert need.lacks(tmp_path) == ()


def test_a_file_that_is_not_executable_is_no_program(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder, "tool", mode=0o644)
    assert Need("tool", "why", ("p",), programs=("tool",)).lacks(tmp_path) == ("tool",)


def test_a_file_need_is_met_by_whatever_matches_its_pattern(tmp_path: Path) -> None:
    need = Need("source", "why", ("p",), files=("usr/src/thing-*.tar.xz",))
    assert need.lacks(tmp_path) == ("/usr/src/thing-*.tar.xz",)
    (tmp_path / "usr/src").mkdir(parents=True)
    (tmp_path / "usr/src/thing-7.tar.xz").touch()
    assert need.lacks(tmp_path) == ()


def test_an_empty_machine_lacks_everything(bin_folder: Path, tmp_path: Path) -> None:
    assert unmet(root=tmp_path) == NEEDS


def test_a_machine_with_all_programs_and_files_lacks_nothing(
    bin_folder: Path, tmp_path: Path
) -> None:
    for need in NEEDS:
        satisfy(need, bin_folder, tmp_path)
    assert unmet(root=tmp_path) == ()


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
def test_each_need_alone_is_noticed(need: Need, bin_folder: Path, tmp_path: Path) -> None:
    for other in NEEDS:
        if other is not need:
            satisfy(other, bin_folder, tmp_path)
    assert unmet(root=tmp_path) == (need,)


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
def test_each_need_says_why_and_names_packages_that_dpkg_accepts(need: Need) -> None:
    assert need.why
    assert need.packages
    for package in need.packages:  # Debian policy, 5.6.1
        assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package)


def test_the_newest_kernel_source_comes_last_by_number(tmp_path: Path) -> None:
    (tmp_path / "usr/src").mkdir(parents=True)
    for version in ("6.12", "6.9", "6.1", "6.1.9"):
        (tmp_path / f"usr/src/linux-source-{version}.tar.xz").touch()
    (tmp_path / "usr/src/linux-headers-6.99").mkdir()
    names = [path.name for path in kernel_sources(tmp_path)]
    assert names == [
        f"linux-source-{version}.tar.xz" for version in ("6.1", "6.1.9", "6.9", "6.12")
    ]


@given(st.lists(st.tuples(st.integers(2, 9), st.integers(0, 99)), min_size=1, unique=True))
def test_kernel_sources_are_in_the_order_of_their_versions(
    tmp_path_factory: pytest.TempPathFactory, versions: list[tuple[int, int]]
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "usr/src").mkdir(parents=True)
    for major, minor in versions:
        (root / f"usr/src/linux-source-{major}.{minor}.tar.xz").touch()
    expected = [f"linux-source-{major}.{minor}.tar.xz" for major, minor in sorted(versions)]
    assert [path.name for path in kernel_sources(root)] == expected
