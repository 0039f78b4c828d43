"""A series of patches from a range of commits in a person's git tree.

The range is walked along first parents: each step is what one commit, or one
merge as a whole, changes. So every state in between is one that the branch
really had, and merges need no special order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import UsageError
from linklab.host.run import Argv, CommandFailed, Completed, run
from linklab.kernel.gitstore import git_environment
from linklab.kernel.series import Patch, Series, numbered

# The same diff whatever the person's own configuration makes of `git log`.
_PLAIN = (
    "--no-color", "--no-ext-diff", "--no-textconv", "--date=raw", "--binary", "--full-index",
    "--src-prefix=a/", "--dst-prefix=b/", "-U3", "--inter-hunk-context=0", "-O/dev/null",
    "--submodule=short", "--no-show-signature", "--no-notes", "--no-mailmap",
)  # fmt: skip
_FIELDS = ("%H", "%P", "%an <%ae>", "%ad", "%s", "%b")
_NAMED = 3  # merges that a note lists
_LONG = 1800.0


@dataclass(frozen=True)
class _Commit:
    """One step of the range."""

    name: str
    parents: tuple[str, ...]
    author: str
    date: str
    subject: str
    description: str
    diff: bytes


def range_series(source: Path, text: str, *, renames: bool = False) -> Series:
    """Return the commits of `base..topic` as patches, with the commit that they stand on.

    Where `base` went on since the topic left it, that is where it left it.
    With `renames` a renamed file is one, not a file that goes and one that
    comes: another source has to have the same file, not the same content.
    Raises `UsageError` for a folder that is no git tree and for a range that
    names no commits.
    """
    folder = source.expanduser().resolve()
    low, high = _ends(folder, text)
    commits = _commits(folder, f"{low}..{high}", renames=renames)
    if not commits:
        raise UsageError(f"--range {text} names no commits: {_order(text)}")
    if not commits[0].parents:
        raise UsageError(
            f"--range {text}: {commits[0].name[:12]} has no parent, so there is no base to compare"
        )
    return Series(
        patches=numbered([_patch(folder, commit) for commit in commits]),
        notes=_note(text, [commit for commit in commits if len(commit.parents) > 1]),
        base=commits[0].parents[0],
    )


def _ends(folder: Path, text: str) -> tuple[str, str]:
    """Return the commits that a range names; `base..` ends at HEAD, as in git."""
    low, dots, high = text.partition("..")
    if not dots or not low or high.startswith("."):
        raise UsageError(f"--range {text}: expected BASE..TOPIC, two commits of the source tree")
    if not folder.is_dir() or _git(folder, ["rev-parse", "--git-dir"], check=False).returncode:
        raise UsageError(f"--range {text}: {folder} is no git tree")
    return _commit(folder, low, text), _commit(folder, high or "HEAD", text)


def find_commit(folder: Path, word: str) -> str:
    """Return the commit of a person's git tree that a word names: a branch, a tag, a hash.

    Raises `UsageError` where there is none.
    """
    argv = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}"]
    found = _git(folder, argv, check=False)
    if found.returncode != 0:
        raise UsageError(f"there is no commit {word!r} in {folder}")
    return found.text


def _commit(folder: Path, word: str, text: str) -> str:
    try:
        return find_commit(folder, word)
    except UsageError as error:
        raise UsageError(f"--range {text}: {error.message}") from error


def _order(text: str) -> str:
    low, _, high = text.partition("..")
    return f"{high or 'HEAD'} has nothing that {low} lacks. Is it the right way round?"


def _commits(folder: Path, span: str, *, renames: bool) -> list[_Commit]:
    """Return the commits of a span, oldest first, from one run of git.

    What separates them is a line that no diff has unless it was made for it.
    """
    mark = hashlib.sha256(span.encode()).hexdigest()
    argv = ["log", "--reverse", "--first-parent", "--diff-merges=first-parent", "-p", *_PLAIN,
            "--find-renames" if renames else "--no-renames",
            f"--format={'%n'.join((mark, *_FIELDS, mark))}", span, "--"]  # fmt: skip
    try:
        out = _git(folder, argv).stdout
    except CommandFailed as error:
        raise UsageError(f"git cannot read {span} of {folder}", error.evidence) from error
    pieces = out.split(f"{mark}\n".encode())[1:]
    return [
        _parsed(words.decode(errors="replace"), diff)
        for words, diff in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _parsed(words: str, diff: bytes) -> _Commit:
    name, parents, author, date, subject, description = words.split("\n", len(_FIELDS) - 1)
    return _Commit(name, tuple(parents.split()), author, date, subject, description.strip(), diff)


def _patch(folder: Path, commit: _Commit) -> Patch:
    return Patch(
        number=1,
        total=1,
        version=1,
        subject=commit.subject,
        author=commit.author,
        message_id="",
        in_reply_to="",
        description=commit.description,
        diff=commit.diff.lstrip(b"\n"),
        origin=folder,
        commit=commit.name,
        date=commit.date,
    )


def _note(text: str, merges: list[_Commit]) -> tuple[str, ...]:
    if not merges:
        return ()
    some = ", ".join(f'{each.name[:12]} "{each.subject}"' for each in merges[:_NAMED])
    more = f" and {len(merges) - _NAMED} more" if len(merges) > _NAMED else ""
    return (f"--range {text}: a merge counts as one patch, all that it brings in: {some}{more}",)


def _git(folder: Path, argv: Argv, *, check: bool = True) -> Completed:
    """Run git where a person's tree is, without that person's configuration."""
    return run(
        ["git", "-c", "safe.directory=*", *argv],
        cwd=folder,
        env=git_environment(),
        deadline=_LONG,
        check=check,
    )
