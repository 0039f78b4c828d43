"""Where revisions come from: a git tree, or a series of patches.

Git computes the suspects (`git rev-list --bisect-all`), so merges count as
they do for `git bisect`. The person's repository is only read: no ref, index,
work tree or bisect state of it is touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from linklab.bisect.search import Suspect
from linklab.errors import LabError, UsageError
from linklab.host.run import Argv, CommandFailed, Completed, run
from linklab.kernel.gitstore import git_environment
from linklab.kernel.kernel import BuildOptions

_LONG = 1800.0
_SUSPECT = re.compile(r"^(?P<revision>[0-9a-f]{40,64}) \(.*\bdist=(?P<distance>\d+)")


@dataclass(frozen=True)
class Revision:
    """A revision as people know it; `short` is how tables call it."""

    name: str
    short: str
    subject: str
    author: str = ""
    date: str = ""

    @property
    def title(self) -> str:
        """Return its name and its subject."""
        return f'{self.short} "{self.subject}"' if self.subject else self.short


class History(Protocol):
    """Revisions between a good one and a bad one."""

    @property
    def origin(self) -> str:
        """What the revisions are of, for a person."""

    def resolve(self, option: str, word: str) -> str:
        """Return the name of a revision; raise `UsageError` where there is none."""

    def suspects(self, bad: str, goods: Sequence[str]) -> list[Suspect]:
        """Return what may be the first bad one, the best to test first."""

    def forks(self, bad: str, good: str) -> list[str]:
        """Return the revisions that good and bad have come from, where neither is the other's.

        They must be good too, or what was looked for is a repair.
        """

    def about(self, name: str) -> Revision:
        """Return what is known of a revision."""

    def build_options(self, name: str) -> BuildOptions:
        """Return how a kernel of this revision is built."""


class GitHistory:
    """The commits of a git tree. `build` is how each of them is built."""

    def __init__(self, folder: Path, build: BuildOptions) -> None:
        self._folder = folder.expanduser().resolve()
        self._build = build
        self._about: dict[str, Revision] = {}
        if not self._folder.is_dir() or self._git(["rev-parse", "--git-dir"], False).returncode:
            raise UsageError(f"--source {folder} is no git tree: --good and --bad name commits")

    @property
    def origin(self) -> str:
        """The folder."""
        return str(self._folder)

    def resolve(self, option: str, word: str) -> str:
        """Return the commit that a word names."""
        argv = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}"]
        found = self._git(argv, False)
        if found.returncode != 0:
            raise UsageError(f"--{option} {word}: there is no such commit in {self._folder}")
        return found.text

    def suspects(self, bad: str, goods: Sequence[str]) -> list[Suspect]:
        """Return the commits that lead to `bad` and not to a good one."""
        out = self._git(["rev-list", "--bisect-all", bad, "--not", *goods, "--"]).text
        return [_suspect(line) for line in out.splitlines()]

    def forks(self, bad: str, good: str) -> list[str]:
        """Return the merge bases, unless good itself is the one."""
        if good == bad:
            raise UsageError("--good and --bad are the same commit")
        found = self._git(["merge-base", "--all", good, bad], False)
        if found.returncode != 0:
            raise UsageError(f"--good and --bad have no commit in common in {self._folder}")
        bases = found.text.split()
        if bad in bases:
            raise UsageError(
                "--bad is an ancestor of --good: it was repaired, not broken, in between. "
                "Exchange the two to find the repair"
            )
        return [base for base in bases if base != good]

    def about(self, name: str) -> Revision:
        """Return a commit's subject, author and date."""
        if name not in self._about:
            fields = "%h%x00%s%x00%an <%ae>%x00%aI"
            argv = ["show", "-s", "--no-show-signature", "--abbrev=12", f"--format={fields}", name]
            short, subject, author, date = self._git(argv).text.split("\0")
            self._about[name] = Revision(name, short, subject, author, date)
        return self._about[name]

    def build_options(self, name: str) -> BuildOptions:
        """Return how this commit is built: from git's objects, whatever lies in the folder."""
        return replace(self._build, source=self._folder, revision=name)

    def _git(self, argv: Argv, check: bool = True) -> Completed:
        try:
            return run(
                ["git", "--no-optional-locks", "-c", "safe.directory=*", *argv],
                cwd=self._folder,
                env=git_environment(),
                deadline=_LONG,
                check=check,
            )
        except CommandFailed as error:
            raise LabError(f"git cannot read {self._folder}", error.evidence) from error


def _suspect(line: str) -> Suspect:
    found = _SUSPECT.match(line)
    if found is None:
        raise LabError(f"`git rev-list --bisect-all` says what was not expected: {line}")
    return Suspect(found["revision"], int(found["distance"]))


class SeriesHistory:
    """The states of a source under a series: 0 is without it, N with its first N patches."""

    def __init__(self, build: BuildOptions) -> None:
        self._build = build
        self._patches = build.patches

    @property
    def origin(self) -> str:
        """How many patches."""
        return f"a series of {len(self._patches)} patches"

    def resolve(self, option: str, word: str) -> str:
        """Return the number of patches that a word names."""
        if not word.isascii() or not word.isdigit() or int(word) > len(self._patches):
            raise UsageError(
                f"--{option} {word}: a number of patches from 0 to {len(self._patches)} is expected"
            )
        return str(int(word))

    def suspects(self, bad: str, goods: Sequence[str]) -> list[Suspect]:
        """Return the states after the last good one up to the bad one."""
        low, high = max(map(int, goods)), int(bad)
        found = [Suspect(str(n), min(n - low, high - n)) for n in range(low + 1, high + 1)]
        return sorted(found, key=lambda each: -each.distance)

    def forks(self, bad: str, good: str) -> list[str]:
        """Return none: a series has no branches."""
        if int(good) >= int(bad):
            raise UsageError(f"--good {good} must come before --bad {bad}")
        return []

    def about(self, name: str) -> Revision:
        """Return the last patch applied."""
        number = int(name)
        if number == 0:
            return Revision(name, "0", "without the series")
        patch = self._patches[number - 1]
        return Revision(name, patch.place, patch.subject, patch.author)

    def build_options(self, name: str) -> BuildOptions:
        """Return how this state is built."""
        return replace(self._build, patches=self._patches[: int(name)])
