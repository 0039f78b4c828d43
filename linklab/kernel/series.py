"""A series of patches as a value: which they are, in which order, of which reroll.

What is read from files is what `git am` would apply and what b4 would pick:
cover letters and replies are no patches, the newest reroll counts, and a
series with a gap is refused. A range of a git tree is walked along first
parents: each step is what one commit, or one merge as a whole, changes. So
every state in between is one that the branch really had, and merges need no
special order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.errors import UsageError
from linklab.host.run import CommandFailed
from linklab.kernel.diff import DiffError, FileDiff, parse_diff, undone
from linklab.kernel.gitstore import git_in
from linklab.kernel.mail import Mail, MailCollection, collect
from linklab.kernel.thread import Picked, SeveralSeries, missing, pick

_NAMED_MERGES = 3  # merges that a note lists

# The same diff whatever the person's own configuration makes of `git log`.
_PLAIN = (
    "--no-color", "--no-ext-diff", "--no-textconv", "--date=raw", "--binary", "--full-index",
    "--src-prefix=a/", "--dst-prefix=b/", "-U3", "--inter-hunk-context=0", "-O/dev/null",
    "--submodule=short", "--no-show-signature", "--no-notes", "--no-mailmap",
)  # fmt: skip
_FIELDS = ("%H", "%P", "%an <%ae>", "%ad", "%s", "%b")


@dataclass(frozen=True)
class Patch:
    """One patch. `number` of `total` is its place in what is applied, from 1.

    `diff` is what `git apply` takes. `origin` is the file that it was in, or
    the git tree that it came from; `commit` names it there. `date` is as git
    dates a commit, `1700000000 +0100`, and empty where none is named. `strip`
    and `is_reversed` are -p and -R of `git apply`.
    """

    number: int
    total: int
    version: int
    subject: str
    author: str
    message_id: str
    in_reply_to: str
    description: str
    diff: bytes
    origin: Path
    commit: str = ""
    date: str = ""
    strip: int = 1
    is_reversed: bool = False

    def file_diffs(self) -> tuple[FileDiff, ...]:
        """Return what it does to each file; nothing for a commit that changes nothing.

        Raises `DiffError` where a part of it cannot be read.
        """
        diffs = parse_diff(self.diff, self.strip)
        if self.diff.strip() and not diffs:
            raise DiffError("the diff holds no change to a file that can be applied")
        return tuple(undone(diff) for diff in diffs) if self.is_reversed else diffs

    @property
    def place(self) -> str:
        """Its place as mail subjects have it: `3/5`."""
        return f"{self.number}/{self.total}"

    @property
    def title(self) -> str:
        """What a message calls it: `patch 3/5 "net: ..." (0003-net.patch)`."""
        place = f" {self.place}" if self.total > 1 else ""
        subject = f' "{self.subject}"' if self.subject else ""
        return f"patch{place}{subject} ({self.commit[:12] or self.origin.name})"


@dataclass(frozen=True)
class Series:
    """Patches in the order in which they are applied.

    `cover` is the subject of the cover letter, `notes` is what a person should
    know of how they were picked, `files` is all that was read for it. `base`
    is the commit that a series from git stands on.
    """

    patches: tuple[Patch, ...] = ()
    cover: str = ""
    version: int = 1
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    base: str = ""

    def __add__(self, other: Series) -> Series:
        """Return both, one after the other, numbered anew."""
        if not self.patches or not other.patches:
            whole = other if other.patches else self
            return replace(whole, notes=self.notes + other.notes, files=self.files + other.files)
        return Series(
            numbered((*self.patches, *other.patches)),
            self.cover or other.cover,
            max(self.version, other.version),
            self.notes + other.notes,
            self.files + other.files,
            self.base or other.base,
        )


def numbered(patches: Iterable[Patch]) -> tuple[Patch, ...]:
    """Return the same patches, numbered by their place."""
    whole = tuple(patches)
    return tuple(replace(patch, number=n, total=len(whole)) for n, patch in enumerate(whole, 1))


def read_series(paths: Iterable[Path]) -> Series:
    """Return the patches of files, mboxes, folders and maildirs, in the order given.

    Raises `UsageError` for what cannot be read, holds no patch, lacks some of
    its patches, or holds several series.
    """
    collections = [collect(path) for path in paths]
    return sum((_series_of(collection) for collection in collections), Series())


def _series_of(collection: MailCollection) -> Series:
    mails = collection.mails
    alone = len(mails) == 1
    # One alone, whatever it calls itself, was given by name.
    patches = [
        each for each in mails if each.diff and (alone or collection.ordered or not each.is_reply)
    ]
    if not patches:
        raise UsageError(
            f"{collection.path} is not a patch: expected a unified diff, as `git format-patch` "
            "writes it, or an mbox with some"
        )
    if alone or collection.ordered:
        picked = _as_ordered(collection, patches)
    else:
        try:
            picked = pick(collection.path, mails)
        except SeveralSeries:
            if not _has_order(collection, patches):
                raise
            picked = _as_ordered(collection, patches)
            note = (
                f"{collection.path} holds patches of several series: all are taken, in their order"
            )
            picked = replace(picked, notes=(note,))
    covers = [each for each in mails if each.is_cover and each.tag.version == picked.version]
    return Series(
        numbered(map(_patch, picked.mails)),
        covers[-1].subject if covers else "",
        picked.version,
        collection.notes + picked.notes,
        collection.files,
    )


def _has_order(collection: MailCollection, patches: Sequence[Mail]) -> bool:
    """Tell whether patches of several series were put into an order: by git, or by names.

    An mbox that `git format-patch` wrote is as git wrote it, and a folder with a
    patch in each file is read as `git am *.patch` does. What came by mail has
    no order of its own.
    """
    commits = {each.commit for each in patches}
    if collection.path.is_file():
        return "" not in commits and len(commits) == len(patches)
    files = [each.path for each in collection.mails if not each.is_cover]
    return files == [each.path for each in patches] and len(set(files)) == len(files)


def _as_ordered(collection: MailCollection, patches: Sequence[Mail]) -> Picked:
    """Return patches in the order in which they are, as whoever ordered them wants them."""
    chosen = [each for each in patches if not each.is_cover] or patches
    version = max(each.tag.version for each in chosen)
    notes = []
    tags = [each.tag for each in chosen]
    if len(tags) > 1 and len({(tag.numbered, tag.total, tag.version) for tag in tags}) == 1:
        # One series, if its numbers are right: what they say of it is worth a note.
        numbers = [tag.number for tag in tags]
        if tags[0].numbered and numbers != sorted(numbers):
            notes.append(f"{collection.path}: in the order of the names, not of the subjects")
        elif tags[0].numbered and (lacking := missing(chosen)):
            notes.append(f"{collection.path} lacks {lacking}, by the subjects")
    return Picked(tuple(chosen), version, tuple(notes))


def _patch(mail: Mail) -> Patch:
    return Patch(
        number=mail.tag.number,
        total=mail.tag.total,
        version=mail.tag.version,
        subject=mail.subject,
        author=mail.author,
        message_id=mail.message_id,
        in_reply_to=mail.in_reply_to,
        description=mail.description,
        diff=mail.diff,
        origin=mail.path,
        date=mail.date,
        strip=mail.strip,
        is_reversed=mail.is_reversed,
    )


def range_series(source: Path, text: str, *, renames: bool = False) -> Series:
    """Return the commits of `base..topic` as patches, with the commit that they stand on.

    Where `base` went on since the topic left it, that is where it left it.
    With `renames` a renamed file is one, not a file that goes and one that
    comes: another source has to have the same file, not the same content.
    Raises `UsageError` for a folder that is no git tree and for a range that
    names no commits.
    """
    folder = source.expanduser().resolve()
    low, dots, high = text.partition("..")
    if not dots or not low or high.startswith("."):
        raise UsageError(f"--range {text}: expected BASE..TOPIC, two commits of the source tree")
    if not folder.is_dir() or git_in(folder, ["rev-parse", "--git-dir"], check=False).returncode:
        raise UsageError(f"--range {text}: {folder} is no git tree")
    try:
        ends = [find_commit(folder, word) for word in (low, high or "HEAD")]
    except UsageError as error:
        raise UsageError(f"--range {text}: {error.message}") from error
    commits = _commits(folder, "..".join(ends), renames=renames)
    if not commits:
        raise UsageError(
            f"--range {text} names no commits: {high or 'HEAD'} has nothing that {low} lacks. "
            "Is it the right way round?"
        )
    (first, parents), patches = commits[0], [patch for patch, _ in commits]
    if not parents:
        raise UsageError(
            f"--range {text}: {first.commit[:12]} has no parent, so there is no base to compare"
        )
    merges = [patch for patch, parents in commits if len(parents) > 1]
    return Series(numbered(patches), notes=_note(text, merges), base=parents[0])


def find_commit(folder: Path, word: str) -> str:
    """Return the commit of a person's git tree that a word names: a branch, a tag, a hash.

    Raises `UsageError` where there is none.
    """
    argv = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}"]
    found = git_in(folder, argv, check=False)
    if found.returncode != 0:
        raise UsageError(f"there is no commit {word!r} in {folder}")
    return found.text


def _commits(folder: Path, span: str, *, renames: bool) -> list[tuple[Patch, list[str]]]:
    """Return the commits of a span and their parents, oldest first, from one run of git.

    What separates them is a line that no diff has unless it was made for it.
    """
    mark = hashlib.sha256(span.encode()).hexdigest()
    argv = ["log", "--reverse", "--first-parent", "--diff-merges=first-parent", "-p", *_PLAIN,
            "--find-renames" if renames else "--no-renames",
            f"--format={'%n'.join((mark, *_FIELDS, mark))}", span, "--"]  # fmt: skip
    try:
        out = git_in(folder, argv).stdout
    except CommandFailed as error:
        raise UsageError(f"git cannot read {span} of {folder}", error.evidence) from error
    pieces = out.split(f"{mark}\n".encode())[1:]
    found = []
    for words, diff in zip(pieces[::2], pieces[1::2], strict=True):
        fields = words.decode(errors="replace").split("\n", len(_FIELDS) - 1)
        name, parents, author, date, subject, description = fields
        patch = Patch(
            number=1,
            total=1,
            version=1,
            subject=subject,
            author=author,
            message_id="",
            in_reply_to="",
            description=description.strip(),
            diff=diff.lstrip(b"\n"),
            origin=folder,
            commit=name,
            date=date,
        )
        found.append((patch, parents.split()))
    return found


def _note(text: str, merges: Sequence[Patch]) -> tuple[str, ...]:
    if not merges:
        return ()
    some = ", ".join(f'{each.commit[:12]} "{each.subject}"' for each in merges[:_NAMED_MERGES])
    more = f" and {len(merges) - _NAMED_MERGES} more" if len(merges) > _NAMED_MERGES else ""
    return (f"--range {text}: a merge counts as one patch, all that it brings in: {some}{more}",)
