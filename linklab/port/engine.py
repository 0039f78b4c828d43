"""A series tried on a source, patch by patch, going on past what fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from linklab.kernel.diff import DiffError, FileDiff
from linklab.kernel.series import Patch
from linklab.port.follow import FailedChanges, Later, Shifts
from linklab.port.outcome import Conflict, Fault, FileOutcome, PatchOutcome, PatchStatus, worst
from linklab.port.tree import Draft, File, Moves, Tree
from linklab.port.trial import Merger, Tools, try_file


@dataclass(frozen=True)
class Tried:
    """A patch's outcome and the files that it changes; none if it was left out."""

    outcome: PatchOutcome
    changes: Mapping[str, File | None]


@dataclass(frozen=True)
class _Parsed:
    number: int
    subject: str
    diffs: tuple[FileDiff, ...]
    fault: str = ""


def named_files(patches: Sequence[Patch]) -> dict[str, bool]:
    """Return the files that a series is about, and whether each should be in the source."""
    found: dict[str, bool] = {}
    for diff in (diff for patch in patches for diff in _parse(patch).diffs):
        if diff.old is not None:
            found.setdefault(diff.old, True)
        if diff.new is not None:
            found.setdefault(diff.new, False)
    return found


def port(patches: Sequence[Patch], tree: Tree, merger: Merger) -> Iterator[Tried]:
    """Try each patch on the tree as the ones before it left it; yield its outcome.

    A patch is applied whole or not at all. `tree` is changed on the way.
    """
    parsed = [_parse(patch) for patch in patches]
    diffs = [diff for patch in parsed for diff in patch.diffs]
    own = {path for diff in diffs for path in (diff.old, diff.new) if path is not None}
    tree.fetch(own)
    merger.expect(diff.old_blob for diff in diffs)
    moves = _moves(diffs, tree, own)
    by_number = {patch.number: patch.diffs for patch in parsed}
    later = Later(by_number)
    failures, shifts, roots = FailedChanges(), Shifts(), dict[int, set[int]]()
    for patch in parsed:
        tools = Tools(patch.number, moves, later, shifts, merger, by_number)
        tried = _try(patch, tree, tools, failures)
        outcome = tried.outcome
        if outcome.status.failed:
            # The conflicts at the beginning of what it depends on; its own if it is one.
            found = {root for need in outcome.needs for root in roots[need]}
            roots[patch.number] = (
                {patch.number} if outcome.status is PatchStatus.CONFLICT else found
            )
            outcome = replace(outcome, roots=tuple(sorted(found)))
        else:
            tree.change(tried.changes)
            for file, diff in zip(outcome.files, patch.diffs, strict=True):
                shifts.learn(diff, file.hunks)
        for file, diff in zip(outcome.files, patch.diffs, strict=False):
            there = {hunk.hunk for hunk in file.hunks if hunk.status is PatchStatus.THERE}
            failures.follow(
                diff,
                patch.number if outcome.status.failed else None,
                there if file.status is not PatchStatus.DEPENDS else (),
            )
        yield Tried(outcome, tried.changes if outcome.status.applies else {})


def _parse(patch: Patch) -> _Parsed:
    try:
        return _Parsed(patch.number, patch.subject, patch.file_diffs())
    except DiffError as error:
        return _Parsed(patch.number, patch.subject, (), error.message)


def _moves(diffs: Sequence[FileDiff], tree: Tree, own: set[str]) -> Moves:
    """Look for the files that the series expects and the source lacks, before it begins."""
    moves, made = Moves(tree, own), set[str]()
    for diff in diffs:
        old = diff.old
        if old is not None and old not in made and old not in tree.listing:
            moves.learn(old, diff)
        if diff.new is not None and diff.new != old:
            made.add(diff.new)
    return moves


def _try(patch: _Parsed, tree: Tree, tools: Tools, failures: FailedChanges) -> Tried:
    if patch.fault:
        conflict = Conflict("", Fault.TORN, patch.fault)
        torn = FileOutcome("", PatchStatus.CONFLICT, conflicts=(conflict,))
        return Tried(PatchOutcome(patch.number, patch.subject, PatchStatus.CONFLICT, (torn,)), {})
    draft = Draft(tree, patch.diffs)
    files = [_with_needs(try_file(d, draft, tools), d, failures) for d in patch.diffs]
    status = worst([file.status for file in files])
    changes = draft.effective()
    if status.applies and not changes:
        status = PatchStatus.THERE
    needs = {need for file in files for c in file.conflicts for need in c.needs}
    notes = (*_there_notes(files), *_reliance(patch, files, failures)) if status.applies else ()
    outcome = PatchOutcome(
        patch.number, patch.subject, status, tuple(files), notes, tuple(sorted(needs))
    )
    return Tried(outcome, changes)


def _there_notes(files: Sequence[FileOutcome]) -> Iterator[str]:
    """Yield which files of a patch that applies need nothing."""
    for file in files:
        if file.status is PatchStatus.THERE:
            later = max((hunk.later for hunk in file.hunks), default=0)
            yield f"{file.path}: there already" + (f", as patch {later} leaves it" * bool(later))


def _with_needs(file: FileOutcome, diff: FileDiff, failures: FailedChanges) -> FileOutcome:
    """Return a file's outcome with the failed patches that it depends on.

    What follows or reverts a failed patch's change only seems to be there already.
    """
    conflicts = tuple(
        replace(conflict, needs=tuple(sorted(_needs(conflict, diff, failures))))
        for conflict in file.conflicts
    )
    conflicts = conflicts or tuple(_only_seeming(file, diff, failures))
    if not conflicts:
        return file
    is_own = any(not conflict.needs for conflict in conflicts)
    status = PatchStatus.CONFLICT if is_own else PatchStatus.DEPENDS
    return replace(file, status=status, conflicts=conflicts)


def _needs(conflict: Conflict, diff: FileDiff, failures: FailedChanges) -> set[int]:
    if conflict.hunk:
        return failures.of_hunk(diff, diff.hunks[conflict.hunk - 1])
    if conflict.fault in {Fault.NO_FILE, Fault.EXISTS}:
        return failures.of_file(diff)
    return failures.of_any(diff) if conflict.fault is Fault.DIFFERS else set()


def _only_seeming(file: FileOutcome, diff: FileDiff, failures: FailedChanges) -> Iterator[Conflict]:
    path, why = file.target or file.path, "it follows or undoes a change that was left out"
    there = [hunk for hunk in file.hunks if hunk.status is PatchStatus.THERE]
    for hunk in there if diff.hunks else ():
        if needs := sorted(failures.of_hunk(diff, diff.hunks[hunk.hunk - 1])):
            place = hunk.hunk, len(file.hunks), hunk.line
            yield Conflict(path, Fault.TEXT, why, *place, needs=tuple(needs))
    needs = sorted(failures.of_file(diff))
    if file.status is PatchStatus.THERE and not there and needs:
        yield Conflict(path, Fault.NO_FILE, why, needs=tuple(needs))


def _reliance(
    patch: _Parsed, files: Sequence[FileOutcome], failures: FailedChanges
) -> Iterator[str]:
    """Yield a note on each hunk that applies although it compares lines of a failed patch."""
    for file, diff in zip(files, patch.diffs, strict=True):
        for hunk in file.hunks if diff.hunks else ():
            owners = sorted(failures.of_hunk(diff, diff.hunks[hunk.hunk - 1]))
            if owners and hunk.status is not PatchStatus.THERE:
                yield (
                    f"{file.path}, hunk {hunk.hunk} of {len(file.hunks)}: next to what patch "
                    f"{', '.join(map(str, owners))} changes, which was left out"
                )
