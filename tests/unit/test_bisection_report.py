"""A bisection as people read it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from revisions import history_of, linear_tree

from linklab.bisect.history import History
from linklab.bisect.journal import Step
from linklab.bisect.search import Mark
from linklab.report.bisection import as_text


@pytest.fixture
def tree(tmp_path: Path) -> tuple[History, list[str]]:
    commits = linear_tree(tmp_path / "linux", "GB")
    return history_of(tmp_path / "linux"), commits


def document(commits: list[str], **more: Any) -> dict[str, Any]:
    bad = Step(1, commits[1], "bbbb", "it", Mark.BAD, "crash", "the kernel reports", 9.0)
    steps = [{**asdict(bad), **more}]
    known = {"origin": "linux", "kernel": "nosysfs", "looks_for": "[any] fault"}
    return {**known, "steps": steps, "outcome": {"first_bad": commits[1]}}


@pytest.mark.parametrize(("fingerprint", "end"), [("ab", False), ("", True)])
def test_of_long_evidence_the_part_that_explains_is_shown(
    tree: tuple[History, list[str]], fingerprint: str, end: bool
) -> None:
    history, commits = tree
    lines = "\n".join(f"line {number}." for number in range(50))
    text = as_text(document(commits, evidence=lines, fingerprint=fingerprint), history)
    assert ("line 0." in text, "line 49." in text) == (not end, end)
    assert "20 more lines in bisect.json" in text


def test_what_looks_like_markup_is_text(tree: tuple[History, list[str]]) -> None:
    history, commits = tree
    assert "[any] fault" in as_text(document(commits, subject="[PATCH] a"), history)
    assert "[PATCH] a" in as_text(document(commits, subject="[PATCH] a"), history)


def test_a_first_bad_revision_that_was_claimed_only_has_no_evidence(
    tree: tuple[History, list[str]],
) -> None:
    history, commits = tree
    text = as_text({**document(commits), "outcome": {"first_bad": commits[0]}}, history)
    assert f"first bad: {commits[0]}" in text
