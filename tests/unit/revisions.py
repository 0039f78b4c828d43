"""Git trees made for bisection, and a judge that reads what a commit says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fake_tree import make_tree
from gittree import git

from linklab.bisect.driver import Classified
from linklab.bisect.history import GitHistory, Revision
from linklab.bisect.journal import Journal
from linklab.bisect.search import Mark
from linklab.kernel.kernel import BuildOptions


def linear_tree(folder: Path, states: str) -> list[str]:
    """Make a kernel tree with a commit for each letter: Good, Bad, or to be Skipped."""
    make_tree(folder)
    git(folder, "init", "--quiet", "-b", "main")
    commits = []
    for number, state in enumerate(states):
        (folder / "state").write_text(f"{state}{number}\n")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", f"net: change {number}")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits


def tangled_tree(folder: Path, random: Random, commits: int) -> tuple[list[str], dict[str, str]]:
    """Make a history with merges; return its commits and what is true of each.

    What is bad stays bad, and the last one is.
    """
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    tree = git(folder, "write-tree")
    made: list[str] = []
    parents: dict[str, list[str]] = {}
    for number in range(commits):
        own = random.sample(made[-4:], min(len(made), random.choice((1, 1, 1, 2))))
        if number == commits - 1:
            heads = [c for c in made if not any(c in p for p in parents.values())]
            own = heads or own
        options = [word for parent in own for word in ("-p", parent)]
        made.append(git(folder, "commit-tree", tree, "-m", f"change {number}", *options))
        parents[made[-1]] = own
    git(folder, "update-ref", "refs/heads/main", made[-1])
    culprit = random.choice(made[1:])
    states = {made[0]: "G"}
    for commit in made[1:]:
        bad = commit == culprit or any(states[p][0] == "B" for p in parents[commit])
        states[commit] = "B" if bad else "G"
    return made, states


@dataclass
class ToldClassifier:
    """Judges as it is told, and counts. `raises` is raised at a step instead."""

    states: Mapping[str, str]
    judged: list[str] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None

    def classify(self, revision: Revision, number: int) -> Classified:
        """See `Classifier`."""
        self.before(number)
        self.judged.append(revision.name)
        match self.states[revision.name][0]:
            case "B":
                return Classified(Mark.BAD, "crash", "it crashed", evidence="BUG: it")
            case "S":
                return Classified(Mark.SKIP, "skip", "it does not compile")
            case _:
                return Classified(Mark.GOOD, "pass", "all well")


def history_of(folder: Path) -> GitHistory:
    """Return the history of a git tree."""
    return GitHistory(folder, BuildOptions())


def journal_of(folder: Path, good: str, bad: str) -> Journal:
    """Return a record that has just begun."""
    folder.mkdir(exist_ok=True)
    about = {"good": good, "bad": bad, "origin": "linux", "kernel": "nosysfs"}
    return Journal.begin(folder, {**about, "looks_for": "any fault"})
