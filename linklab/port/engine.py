"""A series tried on a source, patch by patch, going on past what fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from linklab.port.depend import Unmet
from linklab.port.diff import DiffError, FileDiff
from linklab.port.draft import Draft
from linklab.port.files import File, Tree
from linklab.port.later import Later
from linklab.port.moved import Moves
from linklab.port.outcome import Conflict, Fault, FileOutcome, Outcome, Status, worst
from linklab.port.parse import parse_diff
from linklab.port.shifts import Shifts
from linklab.port.tools import Merge, Tools
from linklab.port.trial import try_file


class Patch(Protocol):
    """What is asked of a patch: its place in the series, its subject, its diff."""

    @property
    def number(self) -> int:
        """Its place in the series, from 1."""
        ...

    @property
    def subject(self) -> str:
        """The first line of its message; empty for a bare diff."""
        ...

    @property
    def diff(self) -> bytes:
        """The text that `git apply` would take."""
        ...


@dataclass(frozen=True)
class Tried:
    """A patch, what became of it, and the files that it changes; none if it was left out."""

    outcome: Outcome
    changes: Mapping[str, File | None]


@dataclass(frozen=True)
class _Parsed:
    number: int
    subject: str
    diffs: tuple[FileDiff, ...]
    fault: str = ""


def port(patches: Sequence[Patch], tree: Tree, merge: Merge) -> Iterator[Tried]:
    """Try each patch on the tree as the ones before it left it; yield what became of it.

    A patch is applied whole or not at all. `tree` is changed on the way.
    """
    parsed = [_parse(patch) for patch in patches]
    paths = {path for patch in parsed for diff in patch.diffs for path in (diff.old, diff.new)}
    own = {path for path in paths if path is not None}
    tree.fetch(own)
    merge.expect(diff.old_blob for patch in parsed for diff in patch.diffs)
    moves = _moves(parsed, tree, own)
    later = Later({patch.number: patch.diffs for patch in parsed})
    unmet, shifts, roots = Unmet(), Shifts(), dict[int, tuple[int, ...]]()
    for patch in parsed:
        number = patch.number
        tools = Tools(
            locate=moves.locate,
            namesakes=moves.namesakes,
            merge=merge,
            shift=shifts.near,
            forms=partial(later.forms, number),
            contents=partial(later.contents, number),
            names=partial(later.names, number),
        )
        tried = _try(patch, tree, tools, unmet)
        outcome = _with_roots(tried.outcome, roots)
        if not outcome.status.failed:
            tree.change(tried.changes)
            for file, diff in zip(outcome.files, patch.diffs, strict=True):
                shifts.learn(diff, file.hunks)
        _follow(patch, outcome, unmet)
        yield Tried(outcome, tried.changes if outcome.status.applies else {})


def _parse(patch: Patch) -> _Parsed:
    try:
        return _Parsed(patch.number, patch.subject, parse_diff(patch.diff))
    except DiffError as error:
        return _Parsed(patch.number, patch.subject, (), error.message)


def _moves(parsed: Sequence[_Parsed], tree: Tree, own: set[str]) -> Moves:
    """Look for the files that the series expects and the source lacks, before it begins."""
    moves, made = Moves(tree, own), set[str]()
    for patch in parsed:
        for diff in patch.diffs:
            old = diff.old
            if old is not None and old not in made and old not in tree.listing:
                moves.learn(old, diff)
            if diff.new is not None and diff.new != old:
                made.add(diff.new)
    return moves


def _try(patch: _Parsed, tree: Tree, tools: Tools, unmet: Unmet) -> Tried:
    if patch.fault:
        conflict = Conflict("", Fault.TORN, patch.fault)
        torn = FileOutcome("", Status.CONFLICT, conflicts=(conflict,))
        return Tried(Outcome(patch.number, patch.subject, Status.CONFLICT, (torn,)), {})
    draft = Draft(tree, patch.diffs)
    files = [_with_needs(try_file(d, draft, tools), d, unmet) for d in patch.diffs]
    status = worst([file.status for file in files])
    changes = draft.effective()
    if status.applies and not changes:
        status = Status.THERE
    needs = {need for file in files for c in file.conflicts for need in c.needs}
    notes = (*_there_notes(files), *_reliance(patch, files, unmet)) if status.applies else ()
    outcome = Outcome(
        patch.number, patch.subject, status, tuple(files), notes, tuple(sorted(needs))
    )
    return Tried(outcome, changes)


def _there_notes(files: Sequence[FileOutcome]) -> Iterator[str]:
    """Yield which files of a patch that applies need nothing."""
    for file in files:
        if file.status is Status.THERE:
            later = max((hunk.later for hunk in file.hunks), default=0)
            yield f"{file.path}: there already" + (f", as patch {later} leaves it" * bool(later))


def _with_needs(file: FileOutcome, diff: FileDiff, unmet: Unmet) -> FileOutcome:
    """Return a file's outcome with what it owes to failed patches.

    What follows or undoes a failed patch's change only seems to be there already.
    """
    conflicts = tuple(
        replace(conflict, needs=tuple(sorted(_needs(conflict, diff, unmet))))
        for conflict in file.conflicts
    )
    if not conflicts:
        conflicts = tuple(_only_seeming(file, diff, unmet))
    if not conflicts:
        return file
    own = [conflict for conflict in conflicts if not conflict.needs]
    status = Status.CONFLICT if own else Status.DEPENDS
    return replace(file, status=status, conflicts=conflicts)


def _needs(conflict: Conflict, diff: FileDiff, unmet: Unmet) -> set[int]:
    if conflict.hunk:
        return unmet.of_hunk(diff, diff.hunks[conflict.hunk - 1])
    if conflict.fault in {Fault.NO_FILE, Fault.EXISTS}:
        return unmet.of_file(diff)
    return unmet.of_any(diff) if conflict.fault is Fault.DIFFERS else set()


def _only_seeming(file: FileOutcome, diff: FileDiff, unmet: Unmet) -> Iterator[Conflict]:
    path = file.target or file.path
    there = [hunk for hunk in file.hunks if hunk.status is Status.THERE]
    for hunk in there:
        if needs := unmet.of_hunk(diff, diff.hunks[hunk.hunk - 1]) if diff.hunks else set():
            yield Conflict(
                path,
                Fault.TEXT,
                "it follows or undoes a change that was left out",
                hunk.hunk,
                len(file.hunks),
                hunk.line,
                needs=tuple(sorted(needs)),
            )
    if file.status is Status.THERE and not there and (needs := unmet.of_file(diff)):
        why = "it follows or undoes a change that was left out"
        yield Conflict(path, Fault.NO_FILE, why, needs=tuple(sorted(needs)))


def _reliance(patch: _Parsed, files: Sequence[FileOutcome], unmet: Unmet) -> Iterator[str]:
    """Yield what to say of hunks that apply although they look at lines of a failed patch."""
    for file, diff in zip(files, patch.diffs, strict=True):
        for hunk in file.hunks if diff.hunks else ():
            if hunk.status is Status.THERE:
                continue
            if owners := sorted(unmet.of_hunk(diff, diff.hunks[hunk.hunk - 1])):
                named = ", ".join(map(str, owners))
                yield (
                    f"{file.path}, hunk {hunk.hunk} of {len(file.hunks)}: next to what patch "
                    f"{named} changes, which was left out"
                )


def _with_roots(outcome: Outcome, roots: dict[int, tuple[int, ...]]) -> Outcome:
    """Return an outcome with the conflicts at the beginning of what it depends on; note its own."""
    if not outcome.status.failed:
        return outcome
    found = {root for need in outcome.needs for root in roots[need]}
    if outcome.status is Status.CONFLICT:
        roots[outcome.number] = (outcome.number,)
    else:
        roots[outcome.number] = tuple(sorted(found))
    return replace(outcome, roots=tuple(sorted(found)))


def _follow(patch: _Parsed, outcome: Outcome, unmet: Unmet) -> None:
    failed = outcome.number if outcome.status.failed else None
    for file, diff in zip(outcome.files, patch.diffs, strict=False):
        there = {hunk.hunk for hunk in file.hunks if hunk.status is Status.THERE}
        unmet.follow(diff, failed, there if file.status is not Status.DEPENDS else ())
