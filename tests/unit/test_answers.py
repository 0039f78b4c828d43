"""Remembered answers: asked once, and again as soon as they may no longer hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from linklab.host.cache import Cache, Remembered

Ask = Callable[[], tuple[int, list[Path]]]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "program"
    file.write_text("one")
    return file


@pytest.fixture
def ask(file: Path) -> Ask:
    """Remembered with how often it was asked."""
    times = [0]

    def count() -> tuple[int, list[Path]]:
        times[0] += 1
        return times[0], [file]

    return count


def test_a_question_is_asked_once_by_all_runs(cache: Cache, ask: Ask) -> None:
    assert [Remembered(cache).get("how often?", ask) for _ in range(3)] == [1, 1, 1]


def test_another_question_is_another_answer(cache: Cache, ask: Ask) -> None:
    assert [Remembered(cache).get(question, ask) for question in "aba"] == [1, 2, 1]


def test_it_is_asked_again_when_the_file_changed_however_old_it_looks(
    cache: Cache, ask: Ask, file: Path
) -> None:
    Remembered(cache).get("how often?", ask)
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert Remembered(cache).get("how often?", ask) == 2


def test_it_is_asked_again_when_the_file_is_gone(cache: Cache, ask: Ask, file: Path) -> None:
    Remembered(cache).get("how often?", ask)
    file.unlink()

    assert Remembered(cache).get("how often?", ask) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"how often?"', '{"answer": 1}'])
def test_a_damaged_memory_is_no_memory(cache: Cache, ask: Ask, content: str) -> None:
    Remembered(cache).get("how often?", ask)
    (kept,) = (cache.root / "answers").iterdir()
    kept.write_text(content)

    assert Remembered(cache).get("how often?", ask) == 2


def test_two_runs_do_not_take_each_others_answers_away(cache: Cache, ask: Ask) -> None:
    one, two = Remembered(cache), Remembered(cache)
    one.get("a", ask)
    two.get("b", ask)

    assert [Remembered(cache).get(question, ask) for question in "ab"] == [1, 2]


def test_a_memory_that_cannot_be_kept_is_only_slower(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "file").write_text("in the way")
    answers = Remembered(Cache(tmp_path / "file"))

    assert answers.get("how often?", ask) == 1
    assert answers.get("how often?", ask) == 1
