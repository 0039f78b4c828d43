"""Which mails of a mailbox are the series: the newest version of it, whole, as b4 picks it.

Cover letters and replies are no patches. What the subjects leave out is taken
from the thread: a version that only the cover letter or the first patch names,
a reroll that has another subject. Whatever is left out is said; where mails
may be of several series, or one is missing, they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from linklab.errors import UsageError
from linklab.kernel.mail import QUILT, Mail

_NAMED = 5  # patches that an error lists


class SeveralSeries(UsageError):
    """Mails that are of more than one series."""


@dataclass(frozen=True)
class Picked:
    """The patches of a series in their order, their version, and what to say of the others."""

    mails: tuple[Mail, ...]
    version: int
    notes: tuple[str, ...] = ()


def pick(path: Path, mails: Sequence[Mail]) -> Picked:
    """Return the newest series that a mailbox holds.

    Raises `SeveralSeries` where it may be one of several, and `UsageError`
    where a patch is missing.
    """
    return _Mailbox(path, mails).picked()


def way_out(path: Path) -> str:
    """Return how to apply the patches of a path as they are, for an error."""
    first = f"split it with `git mailsplit -oFOLDER {path}`, " if path.is_file() else ""
    return (
        f"To apply patches as they are, {first}name each file with a --patch of its own, or list "
        f"them in a file `{QUILT}` in their folder"
    )


def missing(patches: Iterable[Mail]) -> str:
    """Return which numbers some patches of one series lack, in words; empty for none."""
    numbers = {each.tag.number for each in patches}
    total = max(each.tag.total for each in patches)
    lacking = [f"{n}/{total}" for n in range(1, total + 1) if n not in numbers]
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return ", ".join(lacking[:_NAMED]) + more


class _Mailbox:
    def __init__(self, path: Path, mails: Sequence[Mail]) -> None:
        self.path = path
        self.notes: list[str] = []
        self.by_id: dict[str, Mail] = {}
        once = [each for each in mails if self._is_first(each)]
        patches = [each for each in once if each.diff and not each.is_reply and not each.is_cover]
        self.covers = {each.tag.version: each for each in once if each.is_cover}
        self.patches = [self._with_version(each, patches) for each in patches]

    def _is_first(self, mail: Mail) -> bool:
        """Take a mail, and tell whether it is new: it may come over two lists."""
        first = self.by_id.setdefault(mail.message_id, mail) if mail.message_id else mail
        return first is mail or (first.subject, first.tag) != (mail.subject, mail.tag)

    def _above(self, mail: Mail) -> Iterator[Mail]:
        """Yield what a mail replies to, what that replies to, and so on."""
        seen = {mail.message_id}
        while (up := self.by_id.get(mail.in_reply_to)) and up.message_id not in seen:
            yield up
            seen.add(up.message_id)
            mail = up

    def _with_version(self, mail: Mail, patches: Sequence[Mail]) -> Mail:
        """Return a patch with the version that its cover letter, or its first patch, names."""
        tag = mail.tag
        if not tag.numbered or tag.version > 1:
            return mail
        up = next((up for up in self._above(mail) if up.tag.numbered and not up.is_reply), None)
        if up is None or up.tag.total != tag.total or up.tag.number == tag.number:
            return mail
        own = replace(tag, version=up.tag.version)
        return mail if any(each.tag == own for each in patches) else replace(mail, tag=own)

    def picked(self) -> Picked:
        numbered = [each for each in self.patches if each.tag.numbered]
        if not numbered:
            chosen = self._newest_of_each(self.patches)
            version = max((each.tag.version for each in chosen), default=1)
            return Picked(tuple(chosen), version, tuple(self.notes))
        groups: dict[int, list[Mail]] = {}
        for version in sorted({each.tag.version for each in self.patches}):
            groups[version] = self._group(version)
        version = max(groups)
        chosen = self._whole(self._newest(groups))
        return Picked(tuple(chosen), version, tuple(self.notes))

    # Patches without numbers

    def _newest_of_each(self, patches: Sequence[Mail]) -> list[Mail]:
        """Return, of the patches of each thread or subject, the newest version alone."""
        chosen: list[Mail] = []
        for group in _groups(patches, _is_related):
            newest = max(each.tag.version for each in group)
            for each in group:
                if each.tag.version < newest:
                    self._left_out(each, newest)
            left = [each for each in group if each.tag.version == newest]
            left = [each for each in left if not self._sent_again(each, left)]
            if len(left) > 1 and all(each.references or each.message_id for each in left):
                self.notes.append(
                    f"{self.path} holds {len(left)} patches of one thread without numbers: all "
                    "are taken, in the order of the mails"
                )
            chosen += left
        order = {id(each): at for at, each in enumerate(patches)}
        return sorted(chosen, key=lambda each: order[id(each)])

    def _left_out(self, mail: Mail, newest: int) -> None:
        self.notes.append(
            f'{self.path} holds v{mail.tag.version} of "{mail.subject}" too: v{newest} is taken'
        )

    def _sent_again(self, mail: Mail, others: Sequence[Mail]) -> bool:
        """Tell whether a later mail of the same author has the same subject.

        Raises `SeveralSeries` where another author's has it. Mails without an id
        were not sent: commits may have equal subjects.
        """
        later = others[others.index(mail) + 1 :]
        same = [
            each for each in later if mail.message_id and each.message_id and _alike(each, mail)
        ]
        for other in same:
            if other.author != mail.author and other.diff != mail.diff:
                raise self._several(mail, other)
        if same:
            self.notes.append(
                f'{self.path} holds "{mail.subject}" more than once: the last one is taken, '
                f"{_identity(same[-1])}"
            )
        return bool(same)

    # Patches with numbers

    def _group(self, version: int) -> list[Mail]:
        """Return the patches of a version, without those beside the series in its thread."""
        group = [each for each in self.patches if each.tag.version == version]
        numbered = [each for each in group if each.tag.numbered]
        if not numbered:
            return self._newest_of_each(group)
        for bare in (each for each in group if not each.tag.numbered):
            if not any(_is_related(bare, each) for each in (*numbered, *self.covers.values())):
                raise self._several(numbered[0], bare)
            self.notes.append(
                f'{self.path} holds "{bare.subject}" too, without a number: it is left out'
            )
        return numbered

    def _newest(self, groups: dict[int, list[Mail]]) -> list[Mail]:
        """Return the newest version, with what it takes over from those before it."""
        version, *others = sorted(groups, reverse=True)
        newest = groups[version]
        for older in others:
            if merged := self._merged(newest, groups[older]):
                replaced = ", ".join(f"{each.tag.number}/{each.tag.total}" for each in newest)
                self.notes.append(f"{self.path}: v{older} with {replaced} of v{version}")
                newest = merged
            elif merged := self._filled(newest, groups[older]):
                places = ", ".join(_label(each) for each in groups[older])
                self.notes.append(f"{self.path}: {places} without a version, taken for v{version}")
                newest = merged
            elif self._is_reroll(newest, groups[older]):
                self.notes.append(f"{self.path} holds v{older} too: v{version} is taken")
            else:
                raise self._several(newest[0], groups[older][0])
        return newest

    def _merged(self, newer: Sequence[Mail], older: Sequence[Mail]) -> list[Mail] | None:
        """Return an older version with some patches replaced; None where it is a whole reroll.

        As b4 has it, each new one is below the one that it replaces, however
        many replies lie between.
        """
        if _is_complete(newer):
            return None
        there = {id(each) for each in older}
        places = {each.message_id: each for each in older if each.message_id}
        for each in newer:
            ups = (places.get(up.message_id) for up in self._above(each))
            if not any(up and id(up) in there and _same_place(up, each) for up in ups):
                return None
        replaced = {each.tag.number for each in newer}
        return [*newer, *(each for each in older if each.tag.number not in replaced)]

    def _filled(self, newer: Sequence[Mail], older: Sequence[Mail]) -> list[Mail] | None:
        """Return a version with the patches that name none, if both are one series only then."""
        if any(each.tag.version > 1 for each in older) or _is_complete(newer):
            return None
        both = [*newer, *older]
        numbers = [each.tag.number for each in both]
        is_one = len({each.author for each in both}) == 1 or self._is_reroll(newer, older)
        once = len(set(numbers)) == len(numbers)
        return both if once and _is_complete(both) and is_one else None

    def _is_reroll(self, newer: Sequence[Mail], older: Sequence[Mail]) -> bool:
        """Tell whether two versions are of one series: a subject or a thread in common."""
        new, old = (
            [*group, *(self.covers[v] for v in {m.tag.version for m in group} if v in self.covers)]
            for group in (newer, older)
        )
        if {each.subject.lower() for each in new} & {each.subject.lower() for each in old}:
            return True
        names = {each.message_id for each in old if each.message_id}
        names |= {up for each in old for up in each.references}  # the thread's first, left out here
        above = ({*each.references, *(up.message_id for up in self._above(each))} for each in new)
        return any(ids & names for ids in above)

    def _whole(self, chosen: Sequence[Mail]) -> list[Mail]:
        """Return the patches by their numbers, each once, as mail may come over two lists.

        Raises `UsageError` for a gap, or for patches of several series.
        """
        first = next((each for each in chosen if each.tag.numbered), None)
        if first is None:
            return list(chosen)
        for other in chosen:
            if not other.tag.numbered or other.tag.total != first.tag.total:
                raise self._several(first, other)
        there: dict[int, Mail] = {}
        for each in chosen:
            number = each.tag.number
            if number in there and there[number].diff != each.diff:
                raise self._several(there[number], each)
            there[number] = each
        if lacking := missing(chosen):
            raise UsageError(
                f"{self.path} is not the whole series: {lacking} missing. {way_out(self.path)}"
            )
        return [there[number] for number in sorted(there)]

    def _several(self, one: Mail, other: Mail) -> SeveralSeries:
        first, second = _label(one), _label(other)
        if first == second:
            first, second = (f"{_label(each)} {_identity(each)}" for each in (one, other))
        return SeveralSeries(
            f"{self.path} holds patches of several series: {first} and {second}. "
            f"{way_out(self.path)}"
        )


def _groups(mails: Sequence[Mail], joins: Callable[[Mail, Mail], bool]) -> list[list[Mail]]:
    """Return mails by what joins them, at once or through others; in order within each group."""
    found: list[list[Mail]] = []
    for mail in mails:
        joined = [group for group in found if any(joins(mail, each) for each in group)]
        whole = [*(each for group in joined for each in group), mail]
        found = [group for group in found if not any(group is other for other in joined)]
        found.append(whole)
    return found


def _is_related(one: Mail, other: Mail) -> bool:
    """Tell whether two mails have a subject, or a mail that they go back to, in common."""
    if _alike(one, other):
        return True
    first, second = (each.references | ({each.message_id} - {""}) for each in (one, other))
    return bool(first & second)


def _alike(one: Mail, other: Mail) -> bool:
    return bool(one.subject) and one.subject.lower() == other.subject.lower()


def _is_complete(mails: Sequence[Mail]) -> bool:
    """Tell whether these are all patches of one series."""
    totals = {(each.tag.numbered, each.tag.total) for each in mails}
    return len(totals) == 1 and not missing(mails)


def _same_place(one: Mail, other: Mail) -> bool:
    return (one.tag.number, one.tag.total) == (other.tag.number, other.tag.total)


def _label(mail: Mail) -> str:
    words = [f"v{mail.tag.version} "] if mail.tag.version > 1 else []
    words += [f"{mail.tag.number}/{mail.tag.total} "] if mail.tag.numbered else []
    return f'{"".join(words)}"{mail.subject}"'


def _identity(mail: Mail) -> str:
    """Return what tells a mail from another one of the same subject."""
    seconds, _, zone = mail.date.partition(" ")
    words = []
    if zone:
        offset = timedelta(minutes=int(f"{zone[0]}1") * (int(zone[1:3]) * 60 + int(zone[3:])))
        sent = datetime.fromtimestamp(int(seconds), UTC).astimezone(timezone(offset))
        words.append(f"of {sent:%Y-%m-%d %H:%M %z}")
    words += [f"<{mail.message_id}>"] if mail.message_id else []
    return ", ".join(words) or f"by {mail.author}, in {mail.path}"
