"""One file's part of a patch, tried on the source as it is now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from linklab.host.run import run
from linklab.kernel.diff import GITLINK, REGULAR, DiffError, FileDiff, lines_of, unpack
from linklab.kernel.gitstore import GitStore, git_environment
from linklab.port.follow import Later, Shifts
from linklab.port.outcome import Conflict, Fault, FileOutcome, HunkOutcome, PatchStatus, worst
from linklab.port.place import (
    Text,
    apply_hunks,
    doubled,
    explain,
    hunk_outcomes,
    place_hunks,
    shown,
)
from linklab.port.tree import Draft, File, Moves, blob_name, known_objects, read_objects

_KIND = 0o170000
_SHOWN = 6  # lines of a difference between whole files
_MERGE_LIMIT = 60.0  # s


class Merger:
    """Three-way merges, where the file that a patch was made for is known.

    As `git am --3way` does it: the diff's `index` line names the content that it
    changes.  If a repository, or one that it borrows from, has that, the patch's
    result is made of it and merged with the source's file.
    """

    def __init__(self, store: GitStore) -> None:
        self._store = store
        self._known: frozenset[str] = frozenset()

    def expect(self, blobs: Iterable[str]) -> None:
        """Ask once which of the contents that a series names are known; no other is looked for."""
        self._known = known_objects(self._store, blobs)

    def merge(self, diff: FileDiff, ours: Text) -> Text | None:
        """Return a diff merged into a file; None without its base or with a conflict."""
        blob = diff.old_blob
        base = read_objects(self._store, [blob]).get(blob) if blob in self._known else None
        if base is None:
            return None
        text = Text(base)
        placed = place_hunks(text, diff.hunks, fuzz=False)
        places = [each.place for each in placed]
        if any(place is None or place.offset or place.there for place in places):
            return None  # another file, whose name begins with the same letters
        merged = _merged(base, ours.content, apply_hunks(text, placed).content)
        return None if merged is None else ours.became(merged)


def _merged(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    with tempfile.TemporaryDirectory(prefix="linklab-merge-") as name:
        folder = Path(name)
        for title, content in (("ours", ours), ("base", base), ("theirs", theirs)):
            (folder / title).write_bytes(content)
        done = run(
            ["git", "merge-file", "--stdout", "ours", "base", "theirs"],
            cwd=folder,
            env=git_environment(GIT_CEILING_DIRECTORIES=str(folder.parent)),
            deadline=_MERGE_LIMIT,
            check=False,
        )
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class Tools:
    """What is known beyond the file and its diff, which belongs to patch `number`.

    `diffs` are those of the series by number; `gone` are files that the source
    is taken to have deleted already, to see what would follow from it.
    """

    number: int
    moves: Moves
    later: Later
    shifts: Shifts
    merger: Merger
    diffs: Mapping[int, Sequence[FileDiff]]
    gone: frozenset[str] = frozenset()


def try_file(diff: FileDiff, draft: Draft, tools: Tools) -> FileOutcome:
    """Apply a file's part of a patch to a draft, or say why that is not possible."""
    if GITLINK in {diff.old_mode, diff.new_mode}:
        return _conflict(diff, diff.path, Fault.KIND, "it is about a submodule")
    if diff.old is None:
        return _create(diff, draft, tools)
    return _FileTrial(diff, draft, tools).outcome()


def _conflict(diff: FileDiff, path: str, fault: Fault, why: str, **more: object) -> FileOutcome:
    found = replace(Conflict(path, fault, why), **more)  # type: ignore[arg-type]
    return FileOutcome(diff.path, PatchStatus.CONFLICT, _target(diff, path), conflicts=(found,))


def _target(diff: FileDiff, path: str) -> str:
    return path if path != diff.path else ""


def _differing(file: File, wanted: bytes) -> dict[str, object]:
    """Return where a file begins to differ from the content that a patch expects of it."""
    ours, theirs = file.text.lines, lines_of(wanted)
    pairs = enumerate(zip(ours, theirs, strict=False))
    shorter = min(len(ours), len(theirs))
    first = next((at for at, (one, other) in pairs if one != other), shorter)
    return {
        "line": first + 1,
        "expected": shown(theirs[first : first + _SHOWN]),
        "found": shown(ours[first : first + _SHOWN]),
    }


def _create(diff: FileDiff, draft: Draft, tools: Tools) -> FileOutcome:
    assert diff.new is not None
    path = tools.moves.locate(diff.new, diff) or diff.new
    target = _target(diff, path)
    if diff.lacks_content:
        return _conflict(diff, path, Fault.NO_CONTENT, "the patch lacks its binary content")
    content = b"".join(line for hunk in diff.hunks for line in hunk.new)
    if diff.binary is not None:
        try:
            content = unpack(diff.binary, b"")
        except DiffError as error:
            return _conflict(diff, path, Fault.TORN, error.message)
    there = draft.standing(path)
    if there is None:
        if why := draft.blocked(path):
            return _conflict(diff, path, Fault.EXISTS, why)
        draft.put(path, File(diff.new_mode or REGULAR, Text(content)))
        status, notes = (
            (PatchStatus.MOVED, (_moved_note(diff, path),)) if target else (PatchStatus.CLEAN, ())
        )
        return FileOutcome(diff.path, status, target, notes=notes)
    forms = tools.later.contents(tools.number, diff.new, lines_of(content))
    for later, form in chain([(0, content)], forms):
        if there.content == form:
            hunks = (HunkOutcome(1, PatchStatus.THERE, 1, later=later),) if later else ()
            return FileOutcome(diff.path, PatchStatus.THERE, target, hunks)
    why = "the patch makes it, and it is there already with another content"
    return _conflict(diff, path, Fault.EXISTS, why, **_differing(there, content))


def _moved_note(diff: FileDiff, path: str) -> str:
    return f"{diff.path} is {path} in this source"


class _FileTrial:
    """A change to a file that exists before the patch. `old` and `new` are its paths here."""

    def __init__(self, diff: FileDiff, draft: Draft, tools: Tools) -> None:
        assert diff.old is not None
        self.diff, self.draft, self.tools = diff, draft, tools
        self.notes: list[str] = []
        names = chain([diff.old], (name for _, name in self._later_names(diff.old)))
        here = next((name for name in names if name and draft.get(name) is not None), None)
        self.old = here or tools.moves.locate(diff.old, diff)
        self.new = self.old
        if diff.new != diff.old:
            self.new = diff.new and (tools.moves.locate(diff.new, diff) or diff.new)
        self.moved = self.old not in (None, diff.old) or (self.new != diff.new and diff.is_rename)

    def _later_names(self, path: str) -> Iterator[tuple[int, str | None]]:
        return self.tools.later.names(self.tools.number, path)

    def outcome(self) -> FileOutcome:
        diff, old = self.diff, self.old
        if old is None:
            return self._without_file()
        file = self.draft.get(old)
        assert file is not None
        if diff.old_mode is not None and file.mode & _KIND != diff.old_mode & _KIND:
            return _conflict(diff, old, Fault.KIND, f"it is of mode {file.mode:o} in this source")
        if self.moved and diff.new == diff.old:
            self.notes.append(_moved_note(diff, old))
        if self.new is None:
            return self._delete(old, file)
        if self.new != old:
            why = f"the patch makes it of {diff.old}, and it is there already"
            if self.draft.standing(self.new) is not None or (why := self.draft.blocked(self.new)):
                return _conflict(diff, self.new, Fault.EXISTS, why)
        return self._change(old, file)

    def _without_file(self) -> FileOutcome:
        """Judge a change to a file that is missing: deleted or renamed already, or never there."""
        diff = self.diff
        assert diff.old is not None
        if diff.new is None:
            return FileOutcome(diff.path, PatchStatus.THERE)
        renamed = self.draft.get(diff.new) if diff.new != diff.old else None
        if renamed is not None:
            if not (diff.hunks or diff.binary):
                return FileOutcome(diff.path, PatchStatus.THERE)
            self.notes.append(f"{diff.path} has this name already")
            outcome = self._change(diff.new, renamed)
            least = max(outcome.status, PatchStatus.PARTLY, key=tuple(PatchStatus).index)
            return replace(outcome, status=least)
        why = "there is no such file in this source"
        if later := next((n for n, name in self._later_names(diff.new) if name is None), 0):
            if self._is_gone_with(later):
                hunks = range(1, len(diff.hunks) + 1)
                gone = tuple(HunkOutcome(n, PatchStatus.THERE, later=later) for n in hunks)
                return FileOutcome(diff.path, PatchStatus.THERE, hunks=gone)
            why += f", and patch {later} that deletes it is not in it either"
        if others := self.tools.moves.namesakes(diff.old):
            why += f"; of its name: {', '.join(others)}"
        return _conflict(diff, diff.old, Fault.NO_FILE, why)

    def _is_gone_with(self, later: int) -> bool:
        """Tell whether a later patch deleted the file: all else up to it must be there, too.

        A file that the source never had, or has under another name, is missing
        as well.
        """
        path, tools = self.diff.old or "", self.tools
        if path in tools.gone:
            return True
        for number in range(tools.number, later + 1):
            diffs = tools.diffs.get(number, ())
            draft = Draft(self.draft.tree, diffs)
            then = replace(tools, number=number, gone=tools.gone | {path})
            others = (diff for diff in diffs if path not in {diff.old, diff.new})
            if any(try_file(diff, draft, then).status is not PatchStatus.THERE for diff in others):
                return False
        return True

    def _delete(self, old: str, file: File) -> FileOutcome:
        diff = self.diff
        wanted = b"".join(line for hunk in diff.hunks for line in hunk.old)
        is_same = file.content == wanted
        if diff.binary is not None or diff.lacks_content:
            is_same, wanted = _is_blob(file.content, diff.old_blob), file.content
        if not is_same:
            why = "the patch deletes it, and its content is another one in this source"
            return _conflict(diff, old, Fault.DIFFERS, why, **_differing(file, wanted))
        self.draft.remove(old)
        return self._made([PatchStatus.CLEAN])

    def _change(self, old: str, file: File) -> FileOutcome:
        """Apply hunks or binary content, the mode and the name."""
        diff, tools = self.diff, self.tools
        if diff.binary is not None or diff.lacks_content:
            return self._change_binary(old, file)
        placed = place_hunks(
            file.text,
            diff.hunks,
            shift=tools.shifts.near(diff.old, diff.hunks[0].start) if diff.hunks else 0,
            forms=partial(tools.later.forms, tools.number, diff.new),
        )
        hunks = hunk_outcomes(placed)
        after: Text | None = None
        if any(hunk.status in {PatchStatus.CONFLICT, PatchStatus.FUZZ} for hunk in hunks):
            after = tools.merger.merge(diff, file.text)
            if after is not None:
                hunks = _as_merged(hunks, is_there=after.content == file.content)
        if after is None:
            conflicts = tuple(
                explain(old, file.text, each.hunk, number, len(placed), each.expected)
                for number, each in enumerate(placed, 1)
                if each.place is None
            )
            if conflicts:
                target = _target(diff, old) if diff.new == diff.old else ""
                return FileOutcome(
                    diff.path, PatchStatus.CONFLICT, target, hunks, conflicts=conflicts
                )
            after = apply_hunks(file.text, placed)
            for number, line in doubled(file.text, placed):
                where = f"{diff.path}, hunk {number} of {len(placed)}"
                self.notes.append(f"{where}: its lines stand at line {line} already")
        self.notes += _hunk_notes(diff.path, hunks)
        return self._write(old, file, after, hunks)

    def _change_binary(self, old: str, file: File) -> FileOutcome:
        diff = self.diff
        if _is_blob(file.content, diff.new_blob):
            return self._write(old, file, file.text, (HunkOutcome(1, PatchStatus.THERE),))
        if diff.binary is None:
            return _conflict(diff, old, Fault.NO_CONTENT, "the patch lacks its binary content")
        if diff.old_blob and not _is_blob(file.content, diff.old_blob):
            why = "it is binary, and another one than the patch was made for"
            return _conflict(diff, old, Fault.DIFFERS, why)
        try:
            content = unpack(diff.binary, file.content)
        except DiffError as error:
            return _conflict(diff, old, Fault.TORN, error.message)
        return self._write(old, file, Text(content), (HunkOutcome(1, PatchStatus.CLEAN),))

    def _write(
        self, old: str, file: File, text: Text, hunks: tuple[HunkOutcome, ...]
    ) -> FileOutcome:
        diff, new = self.diff, self.new or old
        mode, changes_mode = file.mode, diff.old_mode != diff.new_mode
        if changes_mode and None not in (diff.old_mode, diff.new_mode):
            mode = diff.new_mode or mode
        statuses = [hunk.status for hunk in hunks]
        if changes_mode:
            statuses.append(PatchStatus.CLEAN if mode != file.mode else PatchStatus.THERE)
        if new != old:
            statuses.append(PatchStatus.CLEAN)
            if not diff.is_copy:
                self.draft.remove(old)
        if self.moved:
            statuses.append(PatchStatus.MOVED)
        self.draft.put(new, File(mode, text if text.content != file.content else file.text))
        return self._made(statuses, hunks)

    def _made(
        self, statuses: list[PatchStatus], hunks: tuple[HunkOutcome, ...] = ()
    ) -> FileOutcome:
        status = worst(statuses)
        if (
            set(statuses) <= {PatchStatus.THERE, PatchStatus.MOVED}
            and PatchStatus.THERE in statuses
        ):
            status = PatchStatus.THERE
        is_renamed = self.diff.new not in (None, self.diff.old)
        target = "" if is_renamed else _target(self.diff, self.old or self.new or "")
        notes = tuple(self.notes) if status is not PatchStatus.THERE else ()
        return FileOutcome(self.diff.path, status, target, hunks, notes)


def _is_blob(content: bytes, name: str) -> bool:
    return bool(name) and blob_name(content, len(name)).startswith(name)


def _as_merged(hunks: Sequence[HunkOutcome], *, is_there: bool) -> tuple[HunkOutcome, ...]:
    """Return the outcomes of hunks after a three-way merge.

    `is_there` says that the merge changed nothing.
    """
    taken = tuple(PatchStatus) if is_there else (PatchStatus.CONFLICT, PatchStatus.FUZZ)
    status = PatchStatus.THERE if is_there else PatchStatus.MERGED
    return tuple(
        HunkOutcome(hunk.hunk, status, hunk.line) if hunk.status in taken else hunk
        for hunk in hunks
    )


def _hunk_notes(path: str, hunks: Sequence[HunkOutcome]) -> Iterator[str]:
    """Yield what was adapted; lines that only moved need no mention."""
    if all(hunk.status is PatchStatus.THERE for hunk in hunks):
        return
    for hunk in hunks:
        if said := _hunk_note(hunk):
            yield f"{path}, hunk {hunk.hunk} of {len(hunks)}: {said}"


def _hunk_note(hunk: HunkOutcome) -> str:
    at = f"at line {hunk.line}"
    match hunk.status:
        case PatchStatus.FUZZ if hunk.fuzz:
            return f"{at}, with {hunk.fuzz} lines less context"
        case PatchStatus.FUZZ:
            return f"{at}, no longer at the file's beginning or end"
        case PatchStatus.THERE:
            later = f", as patch {hunk.later} leaves it" if hunk.later else ""
            return f"there already {at}{later}"
        case PatchStatus.MERGED:
            return "by a three-way merge"
    return f"{at}, the nearest of {hunk.rivals + 1} places that fit" if hunk.rivals else ""
