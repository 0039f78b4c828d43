"""The host's counter frequency: measured once for each boot of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linklab.errors import LabError
from linklab.host.cpus import tsc_khz
from linklab.host.run import CommandFailed, CommandMissing


def program(folder: Path, script: str) -> Path:
    path = folder / "agent"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """An agent that counts how often it is asked."""
    return program(
        tmp_path, f'[ "$*" = --tsc-khz ] || exit 9; echo x >> {tmp_path}/asked; echo 2899999'
    )


def asked(agent: Path) -> int:
    return len((agent.parent / "asked").read_text().split())


def memos(root: Path) -> list[Path]:
    return list((root / "host").iterdir())


def test_it_is_what_the_agent_says(agent: Path, tmp_path: Path) -> None:
    assert tsc_khz(agent, tmp_path / "cache") == 2_899_999


def test_it_is_measured_once(agent: Path, tmp_path: Path) -> None:
    assert [tsc_khz(agent, tmp_path / "cache") for _ in range(3)] == [2_899_999] * 3
    assert asked(agent) == 1


def test_it_is_measured_again_after_the_host_booted(agent: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    tsc_khz(agent, root)
    (memo,) = memos(root)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in memo.name
    memo.rename(memo.with_name(memo.name.replace(boot, "00000000-another-boot")))
    tsc_khz(agent, root)
    assert asked(agent) == 2


@pytest.mark.parametrize("content", [b"", b"many\n", b"\xff\xfe"])
def test_a_memo_that_makes_no_sense_is_written_again(
    agent: Path, tmp_path: Path, content: bytes
) -> None:
    root = tmp_path / "cache"
    tsc_khz(agent, root)
    (memo,) = memos(root)
    memo.write_bytes(content)
    assert tsc_khz(agent, root) == 2_899_999
    assert tsc_khz(agent, root) == 2_899_999
    assert asked(agent) == 2


def test_a_cache_that_cannot_be_written_costs_only_the_time(agent: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert [tsc_khz(agent, tmp_path / "cache") for _ in range(2)] == [2_899_999] * 2
    assert asked(agent) == 2


def test_the_users_cache_is_the_default(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINKLAB_CACHE", str(tmp_path / "own"))
    tsc_khz(agent)
    assert len(memos(tmp_path / "own")) == 1


def test_an_agent_that_prints_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="'usage' instead of a frequency"):
        tsc_khz(program(tmp_path, "echo usage"), tmp_path / "cache")
    assert not os.path.lexists(tmp_path / "cache" / "host")


def test_an_agent_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="status 4"):
        tsc_khz(program(tmp_path, "exit 4"), tmp_path / "cache")


def test_an_agent_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandMissing):
        tsc_khz(tmp_path / "nothing", tmp_path / "cache")
