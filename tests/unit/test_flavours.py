"""What names of flavours and of fragments stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.commands.kernels import KernelOptions
from linklab.kernel.kconfig import flavours, fragments, named_fragments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of fragments, with one flavour that builds on another."""
    for name in ("base", "sysfs", "debug", "kasan"):
        (tmp_path / f"{name}.config").write_text("CONFIG_NET=y\n")
    (tmp_path / "flavours.toml").write_text(
        '[sysfs]\nfragments = ["sysfs"]\ntimed = true\n'
        '[debug]\nfragments = ["sysfs", "debug", "kasan"]\ntimed = false\n'
    )
    return tmp_path


def test_a_flavours_name_stands_for_what_it_adds(folder: Path) -> None:
    assert named_fragments("debug", folder) == (folder / "debug.config", folder / "kasan.config")
    assert named_fragments("sysfs", folder) == (folder / "sysfs.config",)


def test_a_fragments_name_stands_for_the_fragment(folder: Path) -> None:
    assert named_fragments("kasan", folder) == (folder / "kasan.config",)


@pytest.mark.parametrize("word", ["base", "my.config", "./debug", "nothing"])
def test_any_other_word_is_a_file(word: str, folder: Path) -> None:
    assert named_fragments(word, folder) == (Path(word),)


def test_a_file_of_the_users_goes_before_a_name_of_the_labs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "debug").write_text("CONFIG_TUN=y\n")
    assert named_fragments("debug", folder) == (Path("debug"),)


def test_options_take_names_of_the_labs_fragments() -> None:
    made = KernelOptions("sysfs", configs=("debug", "mine.config")).configs
    assert [Path(path).name for path in made] == [
        *(path.name for path in fragments("debug") if path.stem not in ("base", "sysfs")),
        "mine.config",
    ]


def test_every_flavour_begins_with_the_base() -> None:
    assert {fragments(name)[0].stem for name in flavours()} == {"base"}
