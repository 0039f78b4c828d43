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
from linklab.kernel.gitstore import git_in
from linklab.kernel.mail import QUILT, Collection, Mail, collect

_NAMED = 5  # patches that an error lists
_NAMED_MERGES = 3  # merges that a note lists

_WAY_OUT = (
    "To apply patches as they are, name each file with a --patch of its own, or list them "
    f"in a file `{QUILT}` in their folder"
)

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
    dates a commit, `1700000000 +0100`, and empty where none is named.
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


def _series_of(collection: Collection) -> Series:
    mails = collection.mails
    alone = len(mails) == 1 and collection.path.is_file()
    # One alone, whatever it calls itself, was given by name.
    patches = [each for each in mails if each.diff and (alone or not each.is_reply)]
    if not patches:
        raise UsageError(
            f"{collection.path} is not a patch: expected a unified diff, as `git format-patch` "
            "writes it, or an mbox with some"
        )
    covers = {
        each.tag.version: each
        for each in mails
        if not each.is_reply and each.tag.numbered and not each.tag.number
    }
    notes: list[str] = []
    if collection.ordered or alone:
        chosen = patches
    elif not any(each.tag.numbered for each in patches):
        chosen, notes = _newest_of_each(collection, patches)
    else:
        chosen, notes = _newest(collection, patches, covers)
        chosen = _whole(collection, chosen)
    version = max(each.tag.version for each in chosen)
    cover = covers[version].subject if version in covers else ""
    return Series(numbered(map(_patch, chosen)), cover, version, tuple(notes), collection.files)


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
    )


def _newest_of_each(
    collection: Collection, patches: Sequence[Mail]
) -> tuple[list[Mail], list[str]]:
    """Return patches without numbers, of each subject the newest reroll alone."""
    newest: dict[str, int] = {}
    for each in patches:
        subject = each.subject.lower()
        newest[subject] = max(newest.get(subject, 0), each.tag.version)
    chosen, notes = [], []
    for each in patches:
        version = newest[each.subject.lower()]
        if not each.subject or each.tag.version == version:
            chosen.append(each)
        else:
            notes.append(
                f'{collection.path} holds v{each.tag.version} of "{each.subject}" '
                f"too: v{version} is taken"
            )
    return chosen, notes


def _newest(
    collection: Collection, patches: Sequence[Mail], covers: dict[int, Mail]
) -> tuple[list[Mail], list[str]]:
    """Return the newest reroll, and what to say of the others.

    A reroll of some patches only, each sent in reply to the one that it
    replaces, is put into the version before it, as b4 does.
    """
    versions = sorted({each.tag.version for each in patches})
    groups = {v: [each for each in patches if each.tag.version == v] for v in versions}
    newest, notes = groups[versions[-1]], []
    for older in reversed(versions[:-1]):
        if merged := _merged(newest, groups[older]):
            replaced = ", ".join(f"{each.tag.number}/{each.tag.total}" for each in newest)
            notes.append(f"{collection.path}: v{older} with {replaced} of v{versions[-1]}")
            newest = merged
            continue
        if not _is_reroll(newest, groups[older], covers):
            raise _several(collection, newest[0], groups[older][0])
        notes.append(f"{collection.path} holds v{older} too: v{versions[-1]} is taken")
    return newest, notes


def _merged(newer: Sequence[Mail], older: Sequence[Mail]) -> list[Mail] | None:
    """Return an older version with some patches replaced; None where it is a whole reroll."""
    places = {each.message_id: each.tag for each in older if each.message_id}
    if any(
        (tag := places.get(each.in_reply_to)) is None
        or (tag.number, tag.total) != (each.tag.number, each.tag.total)
        for each in newer
    ):
        return None
    replaced = {each.tag.number for each in newer}
    return [*newer, *(each for each in older if each.tag.number not in replaced)]


def _is_reroll(newer: Sequence[Mail], older: Sequence[Mail], covers: dict[int, Mail]) -> bool:
    """Tell whether two versions are of one series: a subject or a thread in common."""
    new, old = (
        [*group, *(covers[v] for v in {each.tag.version for each in group} if v in covers)]
        for group in (newer, older)
    )
    if {each.subject.lower() for each in new} & {each.subject.lower() for each in old}:
        return True
    names = {each.message_id for each in old if each.message_id}
    return any(each.references & names for each in new)


def _whole(collection: Collection, chosen: Sequence[Mail]) -> list[Mail]:
    """Return the patches by their numbers, each once, as mail may come over two lists.

    Raises `UsageError` for a gap, or for patches of several series.
    """
    first = next((each for each in chosen if each.tag.numbered), None)
    if first is None:
        return list(chosen)
    total = first.tag.total
    for other in chosen:
        if not other.tag.numbered or other.tag.total != total:
            raise _several(collection, first, other)
    there: dict[int, Mail] = {}
    for each in chosen:
        number = each.tag.number
        if number in there and there[number].diff != each.diff:
            raise _several(collection, there[number], each)
        there[number] = each
    if missing := [f"{n}/{total}" for n in range(1, total + 1) if n not in there]:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UsageError(
            f"{collection.path} is not the whole series: {', '.join(missing[:_NAMED])}{more} "
            f"missing. {_WAY_OUT}"
        )
    return [there[number] for number in sorted(there)]


def _several(collection: Collection, one: Mail, other: Mail) -> UsageError:
    first, second = (f'{_tag(each)}"{each.subject}"' for each in (one, other))
    return UsageError(
        f"{collection.path} holds patches of several series: {first} and {second}. {_WAY_OUT}"
    )


def _tag(mail: Mail) -> str:
    words = [f"v{mail.tag.version} "] if mail.tag.version > 1 else []
    words += [f"{mail.tag.number}/{mail.tag.total} "] if mail.tag.numbered else []
    return "".join(words)


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
