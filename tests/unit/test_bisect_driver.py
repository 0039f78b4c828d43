"""The course of a bisection: claims first, then halving, and going on after anything."""

from __future__ import annotations

import json
import subprocess
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_tree import make_tree
from gittree import git
from revisions import ToldClassifier, history_of, journal_of, linear_tree

from linklab.bisect import driver
from linklab.bisect.driver import Bisection, duration
from linklab.bisect.gitlog import git_log
from linklab.bisect.journal import Journal, Step
from linklab.bisect.search import Found, Mark, Unclear
from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.events import Event, Note, ignore
from linklab.results.store import held


class Case:
    """A linear tree, a judge that knows it, and a record."""

    def __init__(self, folder: Path, states: str) -> None:
        self.commits = linear_tree(folder / "linux", states)
        self.judge = ToldClassifier(dict(zip(self.commits, states, strict=True)))
        self.history = history_of(folder / "linux")
        self.journal = journal_of(folder / "out", self.commits[0], self.commits[-1])
        self.notes: list[str] = []

    def listen(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)

    def run(self) -> Found | Unclear:
        return Bisection(self.history, self.judge, self.journal, self.listen).run()


def test_the_first_bad_commit_is_found_with_what_was_claimed_tested_first(tmp_path: Path) -> None:
    case = Case(tmp_path, "GGGGGBBBBB")
    assert case.run() == Found(case.commits[5])
    assert case.judge.judged[:2] == [case.commits[-1], case.commits[0]]
    assert len(case.judge.judged) <= 2 + 4
    assert case.journal.about["outcome"] == {"first_bad": case.commits[5]}
    assert case.journal.about["end"]


def test_each_step_is_told_with_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=10)  # a step takes 10 s
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    case = Case(tmp_path, "GGGGGBBBBB")
    case.run()
    assert case.notes[0].endswith('"net: change 9": bad: it crashed')
    assert case.notes[0].startswith("step 1: ")
    assert case.notes[2] == "9 suspects, about 4 more steps, 40 s"


def test_what_cannot_be_tested_is_gone_around(tmp_path: Path) -> None:
    case = Case(tmp_path, "GGGSSGBBBB")
    assert case.run() == Found(case.commits[6])


def test_where_the_first_bad_one_hides_behind_skips_all_that_it_may_be_are_named(
    tmp_path: Path,
) -> None:
    case = Case(tmp_path, "GGGGSSBBBB")
    end = case.run()
    assert isinstance(end, Unclear)
    assert set(end.revisions) == set(case.commits[4:7])
    assert set(case.journal.about["outcome"]["candidates"]) == set(end.revisions)


@pytest.mark.parametrize(
    ("states", "words"),
    [("GGGG", "--bad .*is good: all well"), ("BBBB", "--good .*is bad: it crashed")],
)
def test_a_claim_that_does_not_hold_ends_it(tmp_path: Path, states: str, words: str) -> None:
    case = Case(tmp_path, states)
    with pytest.raises(UsageError, match=words):
        case.run()
    assert len(case.judge.judged) <= 2


@pytest.mark.parametrize("states", ["GGGS", "SBBB"])
def test_a_claim_that_cannot_be_tested_ends_it(tmp_path: Path, states: str) -> None:
    with pytest.raises(BuildSkipped, match="cannot be tested: it does not compile"):
        Case(tmp_path, states).run()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_after_an_interruption_it_goes_on_where_it_was(tmp_path: Path, at: int) -> None:
    case = Case(tmp_path, "GGGGGGGBBBBB")

    def fail(number: int) -> None:
        if number == at:
            raise LabError("QEMU was killed")

    case.judge.before = fail
    with pytest.raises(LabError):
        case.run()
    done = list(case.judge.judged)
    assert len(done) == at - 1
    case.judge.before = lambda number: None
    again = Journal.read(tmp_path / "out")
    end = Bisection(case.history, case.judge, again, ignore).run()
    assert end == Found(case.commits[7])
    assert len(case.judge.judged) == len(set(case.judge.judged))


def test_a_bisection_that_is_over_tests_nothing_more(tmp_path: Path) -> None:
    case = Case(tmp_path, "GGBB")
    first, tested = case.run(), len(case.judge.judged)
    assert case.run() == first
    assert len(case.judge.judged) == tested


def branched(folder: Path, fork: str) -> tuple[ToldClassifier, Bisection, list[str]]:
    make_tree(folder / "linux")
    tree = folder / "linux"
    git(tree, "init", "--quiet", "-b", "main")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "base")
    commits = [git(tree, "rev-parse", "HEAD")]
    for branch in ("good", "bad"):
        git(tree, "checkout", "--quiet", "-b", branch, "main")
        git(tree, "commit", "--quiet", "--allow-empty", "-m", branch)
        commits.append(git(tree, "rev-parse", "HEAD"))
    judge = ToldClassifier(dict(zip(commits, (fork, "G", "B"), strict=True)))
    journal = journal_of(folder / "out", commits[1], commits[2])
    return judge, Bisection(history_of(tree), judge, journal, ignore), commits


def test_where_branches_part_is_tested_too(tmp_path: Path) -> None:
    judge, bisection, commits = branched(tmp_path, "G")
    assert bisection.run() == Found(commits[2])
    assert commits[0] in judge.judged


def test_good_that_was_repaired_after_the_branches_parted_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="good was repaired after it"):
        branched(tmp_path, "B")[1].run()


def test_where_branches_part_need_not_be_testable(tmp_path: Path) -> None:
    _, bisection, commits = branched(tmp_path, "S")
    end = bisection.run()
    assert isinstance(end, Found)
    assert end.revision == commits[2]


# --- the record --------------------------------------------------------------


def test_gits_own_bisect_takes_the_log(tmp_path: Path) -> None:
    case = Case(tmp_path, "GGGSSGBBBB")
    case.run()
    text = git_log(case.history, case.journal.steps, case.journal.about["outcome"])
    log = tmp_path / "bisect.log"
    log.write_text(text)
    done = subprocess.run(
        ["git", "bisect", "replay", str(log)],
        cwd=tmp_path / "linux",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{case.commits[6]} is the first bad commit" in done.stdout


def test_a_log_of_what_cannot_be_told_names_what_it_may_be(tmp_path: Path) -> None:
    case = Case(tmp_path, "GGSB")
    case.run()
    text = git_log(case.history, case.journal.steps, case.journal.about["outcome"])
    assert f"# possible first bad commit: [{case.commits[2]}] net: change 2" in text


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "out", "g", "b")
    step = Step(1, "b", "b", "subject", Mark.BAD, "crash", "why", 1.5, figure={"ratio": 2.0})
    journal.add(step)
    again = Journal.read(tmp_path / "out")
    assert again.steps == [step]
    assert again.document() == journal.document()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"schema": 99}), "schema 99"),
        (json.dumps({"schema": 1, "steps": [{"judgement": "odd"}]}), "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "bisect.json").write_text(content)
    with pytest.raises(UsageError, match=words):
        Journal.read(tmp_path)
    with pytest.raises(UsageError, match="holds no bisection"):
        Journal.read(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_any_more_is_the_hosts_fault(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "out", "g", "b")
    (tmp_path / "out").rename(tmp_path / "moved")
    with pytest.raises(LabError, match="cannot be written"):
        journal.update(end="now")


def test_what_a_killed_step_left_stays_beside_the_new_one(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "out", "g", "b")
    first = journal.step_folder(3, "2/5")
    assert journal.step_folder(3, "2/5") != first
    assert first.name == "03-2_5"


def test_two_processes_do_not_work_at_the_same_bisection(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="another process is at the bisection")
    with held(tmp_path, "bisection"), refused, held(tmp_path, "bisection"):
        pass
    with held(tmp_path, "bisection"):
        pass


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (200, "3 min"), (9000, "2.5 h")]
)
def test_a_duration_is_said_roughly(seconds: float, text: str) -> None:
    assert duration(seconds) == text
