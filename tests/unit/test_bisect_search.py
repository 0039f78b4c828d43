"""What to test next: pure rules, and the same end as git's own bisection."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest
from gittree import git
from revisions import ToldClassifier, history_of, journal_of, tangled_tree

from linklab.bisect.driver import Bisection
from linklab.bisect.search import Found, Suspect, Test, Unclear, decide, steps_left
from linklab.events import ignore


def row(count: int) -> list[Suspect]:
    """Return suspects 1 to `count`, of which the last one is bad, as git lists them."""
    found = [Suspect(str(n), min(n, count - n)) for n in range(1, count + 1)]
    return sorted(found, key=lambda each: -each.distance)


def test_the_one_in_the_middle_comes_first() -> None:
    assert decide(row(9), "9", ()) == Test("4", 9, 4)


def test_one_suspect_alone_is_the_first_bad_one() -> None:
    assert decide([Suspect("9", 0)], "9", ()) == Found("9")


def test_where_only_skipped_ones_are_left_any_of_them_may_be_it() -> None:
    assert decide(row(3), "3", {"1", "2"}) == Unclear(("1", "2", "3"))


def test_a_skipped_one_is_not_tested_again() -> None:
    skipped: set[str] = set()
    while isinstance(found := decide(row(30), "30", skipped), Test):
        assert found.revision not in skipped
        assert found.revision != "30"
        skipped.add(found.revision)
    assert len(skipped) == 29


@pytest.mark.parametrize(
    ("suspects", "steps"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1000, 10)]
)
def test_how_many_steps_are_left(suspects: int, steps: int) -> None:
    assert steps_left(suspects) == steps


def git_says(folder: Path, good: str, bad: str, states: dict[str, str]) -> str:
    """Return the first bad commit that `git bisect run` finds with the same answers."""
    table = folder.parent / "states"
    table.write_text("".join(f"{commit} {state}\n" for commit, state in states.items()))
    git(folder, "bisect", "start", "--no-checkout", bad, good)
    script = (
        f"case $(grep $(git rev-parse BISECT_HEAD) {table} | cut -d' ' -f2) in "
        "B) exit 1;; S) exit 125;; esac"
    )
    done = subprocess.run(
        ["git", "bisect", "run", "sh", "-c", script], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    git(folder, "bisect", "reset")
    return done.stdout


@pytest.mark.parametrize("seed", range(12))
def test_it_finds_what_git_bisect_finds_in_a_history_with_merges_and_skips(
    seed: int, tmp_path: Path
) -> None:
    random = Random(seed)
    commits, states = tangled_tree(tmp_path / "tree", random, 25)
    for commit in random.sample(commits[1:-1], seed % 4 * 2):
        states[commit] = "S"
    good, bad = commits[0], commits[-1]
    judge = ToldClassifier(states)
    journal = journal_of(tmp_path / "out", good, bad)
    end = Bisection(history_of(tmp_path / "tree"), judge, journal, ignore).run()
    said = git_says(tmp_path / "tree", good, bad, states)
    if isinstance(end, Found):
        assert f"{end.revision} is the first bad commit" in said
    else:
        assert "first bad commit could be any of" in said
        assert set(end.revisions) == set(
            said.partition("any of:\n")[2].split()[: len(end.revisions)]
        )
    assert len(judge.judged) == len(set(judge.judged))
