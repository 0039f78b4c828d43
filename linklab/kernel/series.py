"""A series of patches as a value: which they are, in which order, of which reroll.

Read from files here and from git in `gitrange.py`. What is read is what
`git am` would apply and what b4 would pick: cover letters and replies are no
patches, the newest reroll counts, and a series with a gap is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linklab.errors import UsageError
from linklab.kernel.mail import Letter
from linklab.kernel.patchfiles import QUILT, Collection, Found, collect

_NAMED = 5  # patches that an error lists


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


def numbered(patches: Sequence[Patch]) -> tuple[Patch, ...]:
    """Return the same patches, numbered by their place."""
    total = len(patches)
    return tuple(replace(patch, number=n, total=total) for n, patch in enumerate(patches, 1))


def read_series(paths: Iterable[Path]) -> Series:
    """Return the patches of files, mboxes, folders and maildirs, in the order given.

    Raises `UsageError` for what cannot be read, holds no patch, lacks some of
    its patches, or holds several series.
    """
    collections = [collect(path) for path in paths]
    return sum((_series_of(collection) for collection in collections), Series())


def _series_of(collection: Collection) -> Series:
    patches = [each for each in collection.found if each.letter.diff and not each.letter.is_reply]
    alone = len(collection.found) == 1 and collection.path.is_file()
    if alone:  # whatever it calls itself, it was given by name
        patches = [each for each in collection.found if each.letter.diff]
    if not patches:
        raise UsageError(
            f"{collection.path} is not a patch: expected a unified diff, as `git format-patch` "
            "writes it, or an mbox with some"
        )
    covers = _covers(collection.found)
    if collection.ordered or alone:
        return _made(collection, patches, (), covers)
    if not any(_is_numbered(each) for each in patches):
        return _made(collection, *_newest_of_each(collection, patches), covers)
    chosen, notes = _newest(collection, patches, covers)
    return _made(collection, _whole(collection, chosen), notes, covers)


def _covers(found: Sequence[Found]) -> dict[int, Letter]:
    """Return the cover letter of each version."""
    letters = (each.letter for each in found if not each.letter.is_reply)
    return {each.tag.version: each for each in letters if each.tag.numbered and not each.tag.number}


def _is_numbered(each: Found) -> bool:
    return each.letter.tag.numbered


def _made(
    collection: Collection,
    chosen: Sequence[Found],
    notes: tuple[str, ...],
    covers: dict[int, Letter],
) -> Series:
    version = max(each.letter.tag.version for each in chosen)
    cover = covers.get(version)
    patches = numbered([_patch(each) for each in chosen])
    return Series(patches, cover.subject if cover else "", version, notes, collection.files)


def _patch(each: Found) -> Patch:
    letter = each.letter
    return Patch(
        number=letter.tag.number,
        total=letter.tag.total,
        version=letter.tag.version,
        subject=letter.subject,
        author=letter.author,
        message_id=letter.message_id,
        in_reply_to=letter.in_reply_to,
        description=letter.description,
        diff=letter.diff,
        origin=each.path,
        date=letter.date,
    )


def _newest_of_each(
    collection: Collection, patches: Sequence[Found]
) -> tuple[list[Found], tuple[str, ...]]:
    """Return patches without numbers, of each subject the newest reroll alone."""
    newest: dict[str, int] = {}
    for each in patches:
        subject = each.letter.subject.lower()
        newest[subject] = max(newest.get(subject, 0), each.letter.tag.version)
    chosen, notes = [], []
    for each in patches:
        version = newest[each.letter.subject.lower()]
        if not each.letter.subject or each.letter.tag.version == version:
            chosen.append(each)
        else:
            notes.append(
                f'{collection.path} holds v{each.letter.tag.version} of "{each.letter.subject}" '
                f"too: v{version} is taken"
            )
    return chosen, tuple(notes)


def _newest(
    collection: Collection, patches: Sequence[Found], covers: dict[int, Letter]
) -> tuple[list[Found], tuple[str, ...]]:
    """Return the newest reroll, and what to say of the others.

    A reroll of some patches only, each sent in reply to the one that it
    replaces, is put into the version before it, as b4 does.
    """
    versions = sorted({each.letter.tag.version for each in patches})
    groups = {v: [each for each in patches if each.letter.tag.version == v] for v in versions}
    newest, notes = groups[versions[-1]], []
    for older in reversed(versions[:-1]):
        if merged := _merged(newest, groups[older]):
            replaced = ", ".join(f"{e.letter.tag.number}/{e.letter.tag.total}" for e in newest)
            notes.append(f"{collection.path}: v{older} with {replaced} of v{versions[-1]}")
            newest = merged
            continue
        if not _is_reroll(newest, groups[older], covers):
            raise _several(collection, newest, groups[older])
        notes.append(f"{collection.path} holds v{older} too: v{versions[-1]} is taken")
    return newest, tuple(notes)


def _merged(newer: Sequence[Found], older: Sequence[Found]) -> list[Found] | None:
    """Return an older version with some patches replaced; None where it is a whole reroll."""
    places = {each.letter.message_id: each.letter.tag for each in older if each.letter.message_id}
    if any(
        (tag := places.get(each.letter.in_reply_to)) is None
        or (tag.number, tag.total) != (each.letter.tag.number, each.letter.tag.total)
        for each in newer
    ):
        return None
    replaced = {each.letter.tag.number for each in newer}
    return [*newer, *(each for each in older if each.letter.tag.number not in replaced)]


def _is_reroll(newer: Sequence[Found], older: Sequence[Found], covers: dict[int, Letter]) -> bool:
    """Tell whether two versions are of one series: a subject or a thread in common."""
    new, old = ([each.letter for each in group] for group in (newer, older))
    new += [covers[v] for v in {letter.tag.version for letter in new} if v in covers]
    old += [covers[v] for v in {letter.tag.version for letter in old} if v in covers]
    if {letter.subject.lower() for letter in new} & {letter.subject.lower() for letter in old}:
        return True
    names = {letter.message_id for letter in old if letter.message_id}
    return any(letter.references & names for letter in new)


def _whole(collection: Collection, chosen: Sequence[Found]) -> list[Found]:
    """Return the patches by their numbers, each once, as mail may come over two lists.

    Raises `UsageError` for a gap, or for patches of several series.
    """
    totals = {each.letter.tag.total for each in chosen if _is_numbered(each)}
    rest = [each for each in chosen if not _is_numbered(each)]
    if rest or len(totals) > 1:
        first = next(each for each in chosen if _is_numbered(each))
        other = next(e for e in chosen if e.letter.tag.total != first.letter.tag.total or e in rest)
        raise _several(collection, [first], [other])
    total = totals.pop()
    there: dict[int, Found] = {}
    for each in chosen:
        number = each.letter.tag.number
        if number in there and there[number].letter.diff != each.letter.diff:
            raise _several(collection, [there[number]], [each])
        there[number] = each
    if missing := [f"{n}/{total}" for n in range(1, total + 1) if n not in there]:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UsageError(
            f"{collection.path} is not the whole series: {', '.join(missing[:_NAMED])}{more} "
            f"missing. {_WAY_OUT}"
        )
    return [there[number] for number in sorted(there)]


_WAY_OUT = (
    "To apply patches as they are, name each file with a --patch of its own, or list them "
    f"in a file `{QUILT}` in their folder"
)


def _several(collection: Collection, one: Sequence[Found], other: Sequence[Found]) -> UsageError:
    first, second = (f'{_tag(each[0].letter)}"{each[0].letter.subject}"' for each in (one, other))
    return UsageError(
        f"{collection.path} holds patches of several series: {first} and {second}. {_WAY_OUT}"
    )


def _tag(letter: Letter) -> str:
    tag = letter.tag
    words = [f"v{tag.version}"] if tag.version > 1 else []
    words += [f"{tag.number}/{tag.total}"] if tag.numbered else []
    return " ".join([*words, ""]) if words else ""
