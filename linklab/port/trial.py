"""One file's part of a patch, tried on the source as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from linklab.port.binary import unpack
from linklab.port.diff import GITLINK, REGULAR, DiffError, FileDiff
from linklab.port.draft import Draft
from linklab.port.explain import explain, shown
from linklab.port.files import File, blob_name
from linklab.port.hunks import (
    Placed,
    apply_hunks,
    as_merged,
    hunk_outcomes,
    notes_of,
    place_hunks,
)
from linklab.port.outcome import Conflict, Fault, FileOutcome, HunkOutcome, Status, worst
from linklab.port.text import Text
from linklab.port.tools import Tools

_KIND = 0o170000
_SHOWN = 6  # lines of a difference between whole files


def try_file(diff: FileDiff, draft: Draft, tools: Tools) -> FileOutcome:
    """Apply a file's part of a patch to a draft, or say why it cannot be."""
    if GITLINK in {diff.old_mode, diff.new_mode}:
        return _conflict(diff, diff.path, Fault.KIND, "it is about a submodule")
    if diff.old is None:
        return _create(diff, draft, tools)
    return _FileTrial(diff, draft, tools).outcome()


def _conflict(diff: FileDiff, path: str, fault: Fault, why: str, **more: object) -> FileOutcome:
    found = replace(Conflict(path, fault, why), **more)  # type: ignore[arg-type]
    return FileOutcome(diff.path, Status.CONFLICT, _target(diff, path), conflicts=(found,))


def _target(diff: FileDiff, path: str) -> str:
    return path if path != diff.path else ""


def _differing(file: File, wanted: bytes) -> dict[str, object]:
    """Return where a file begins to differ from what a patch has in its place."""
    ours, theirs = file.text.lines, Text(wanted).lines
    pairs = zip(ours, theirs, strict=False)
    at = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
    first = min(len(ours), len(theirs)) if at is None else at
    return {
        "line": first + 1,
        "expected": shown(theirs[first : first + _SHOWN]),
        "found": shown(ours[first : first + _SHOWN]),
    }


def _create(diff: FileDiff, draft: Draft, tools: Tools) -> FileOutcome:
    assert diff.new is not None
    path = tools.locate(diff.new, diff) or diff.new
    if diff.lacks_content:
        return _conflict(diff, path, Fault.NO_CONTENT, "the patch lacks its binary content")
    try:
        content = _new_content(diff)
    except DiffError as error:
        return _conflict(diff, path, Fault.TORN, error.message)
    there = draft.standing(path)
    if there is not None:
        return _judge_existing(diff, path, there, content, tools)
    if why := draft.blocked(path):
        return _conflict(diff, path, Fault.EXISTS, why)
    draft.put(path, File(diff.new_mode or REGULAR, Text(content)))
    status = Status.MOVED if path != diff.new else Status.CLEAN
    return FileOutcome(diff.path, status, _target(diff, path), notes=_moved_note(diff, path))


def _new_content(diff: FileDiff) -> bytes:
    if diff.binary is not None:
        return unpack(diff.binary, b"")
    return b"".join(line for hunk in diff.hunks for line in hunk.new)


def _judge_existing(
    diff: FileDiff, path: str, there: File, content: bytes, tools: Tools
) -> FileOutcome:
    """Judge a file that a patch makes and that is there: as the patch has it, or a later one."""
    target = _target(diff, path)
    if there.content == content:
        return FileOutcome(diff.path, Status.THERE, target)
    for later, form in tools.contents(diff.new or "", Text(content).lines):
        if there.content == form:
            whole = (HunkOutcome(1, Status.THERE, 1, later=later),)
            return FileOutcome(diff.path, Status.THERE, target, whole)
    why = "the patch makes it, and it is there already with another content"
    return _conflict(diff, path, Fault.EXISTS, why, **_differing(there, content))


def _moved_note(diff: FileDiff, path: str) -> tuple[str, ...]:
    return (f"{diff.path} is {path} in this source",) if path != diff.path else ()


class _FileTrial:
    """A change to a file that is there before the patch."""

    def __init__(self, diff: FileDiff, draft: Draft, tools: Tools) -> None:
        assert diff.old is not None
        self.diff, self.draft, self.tools = diff, draft, tools
        self.old = self._find(diff.old)
        self.new = self._destination()
        self.notes: list[str] = []

    def _find(self, path: str) -> str | None:
        if self.draft.get(path) is not None:
            return path
        names = (name for _, name in self.tools.names(path) if name is not None)
        later = next((name for name in names if self.draft.get(name) is not None), None)
        return later or self.tools.locate(path, self.diff)

    def _destination(self) -> str | None:
        """Return the path after the patch."""
        diff = self.diff
        if diff.new is None or diff.new == diff.old:
            return diff.new and self.old
        return self.tools.locate(diff.new, diff) or diff.new

    @property
    def moved(self) -> bool:
        return self.old not in (None, self.diff.old) or (
            self.new != self.diff.new and self.diff.is_rename
        )

    def outcome(self) -> FileOutcome:
        diff, old = self.diff, self.old
        if old is None:
            return self._without_file()
        file = self.draft.get(old)
        assert file is not None
        if diff.old_mode is not None and file.mode & _KIND != diff.old_mode & _KIND:
            return _conflict(diff, old, Fault.KIND, f"it is of mode {file.mode:o} in this source")
        if self.moved and diff.new == diff.old:
            self.notes.append(f"{diff.path} is {old} in this source")
        if diff.new is None:
            return self._delete(old, file)
        if self.new not in (None, old) and (why := self._obstacle(self.new)):
            return _conflict(diff, self.new, Fault.EXISTS, why)
        return self._change(old, file)

    def _obstacle(self, new: str) -> str:
        """Return why a file cannot get another name; empty where it can."""
        if self.draft.standing(new) is not None:
            return f"the patch makes it of {self.diff.old}, and it is there already"
        return self.draft.blocked(new)

    def _without_file(self) -> FileOutcome:
        """Judge a change to a file that is not there: deleted or renamed already, or missing."""
        diff = self.diff
        assert diff.old is not None
        if diff.new is None:
            return FileOutcome(diff.path, Status.THERE)
        renamed = self.draft.get(diff.new) if diff.new != diff.old else None
        if renamed is not None:
            if not (diff.hunks or diff.binary):
                return FileOutcome(diff.path, Status.THERE)
            self.notes.append(f"{diff.path} has this name already")
            outcome = self._change(diff.new, renamed)
            return replace(
                outcome, status=max(outcome.status, Status.PARTLY, key=tuple(Status).index)
            )
        for later, name in self.tools.names(diff.new):
            if name is None:
                hunks = range(1, len(diff.hunks) + 1)
                gone = tuple(HunkOutcome(n, Status.THERE, later=later) for n in hunks)
                return FileOutcome(diff.path, Status.THERE, hunks=gone)
        why = "there is no such file in this source"
        if others := self.tools.namesakes(diff.old):
            why += f"; of its name: {', '.join(others)}"
        return _conflict(diff, diff.old, Fault.NO_FILE, why)

    def _delete(self, old: str, file: File) -> FileOutcome:
        wanted = b"".join(line for hunk in self.diff.hunks for line in hunk.old)
        is_same = file.content == wanted
        if self.diff.binary is not None or self.diff.lacks_content:
            is_same = self._is_blob(file.content, self.diff.old_blob)
            wanted = file.content
        if not is_same:
            why = "the patch deletes it, and its content is another one in this source"
            more = _differing(file, wanted)
            return _conflict(self.diff, old, Fault.DIFFERS, why, **more)
        self.draft.remove(old)
        return self._made([Status.CLEAN])

    def _change(self, old: str, file: File) -> FileOutcome:
        """Apply hunks or binary content, the mode and the name."""
        diff = self.diff
        if diff.binary is not None or diff.lacks_content:
            return self._change_binary(old, file)
        shift = self.tools.shift(diff.old, diff.hunks[0].start) if diff.hunks else 0
        forms = partial(self.tools.forms, diff.new)
        placed = place_hunks(file.text, diff.hunks, shift=shift, forms=forms)
        hunks = hunk_outcomes(placed)
        after: Text | None = None
        if any(hunk.status in {Status.CONFLICT, Status.FUZZ} for hunk in hunks):
            after = self.tools.merge(diff, file.text)
            if after is not None:
                hunks = as_merged(hunks, is_there=after.content == file.content)
        if after is None and any(each.place is None for each in placed):
            return self._failed(old, file, placed, hunks)
        if after is None:
            after = apply_hunks(file.text, placed)
        self.notes += notes_of(diff.path, hunks)
        return self._write(old, file, after, hunks)

    def _failed(
        self,
        old: str,
        file: File,
        placed: Sequence[Placed],
        hunks: tuple[HunkOutcome, ...],
    ) -> FileOutcome:
        conflicts = [
            explain(old, file.text, each.hunk, number, len(placed), each.expected)
            for number, each in enumerate(placed, 1)
            if each.place is None
        ]
        return FileOutcome(
            self.diff.path,
            Status.CONFLICT,
            _target(self.diff, old) if self.diff.new == self.diff.old else "",
            hunks,
            conflicts=tuple(conflicts),
        )

    def _change_binary(self, old: str, file: File) -> FileOutcome:
        diff = self.diff
        if self._is_blob(file.content, diff.new_blob):
            return self._write(old, file, file.text, (HunkOutcome(1, Status.THERE),))
        if diff.binary is None:
            return _conflict(diff, old, Fault.NO_CONTENT, "the patch lacks its binary content")
        if diff.old_blob and not self._is_blob(file.content, diff.old_blob):
            why = "it is binary, and another one than the patch was made for"
            return _conflict(diff, old, Fault.DIFFERS, why)
        try:
            content = unpack(diff.binary, file.content)
        except DiffError as error:
            return _conflict(diff, old, Fault.TORN, error.message)
        return self._write(old, file, Text(content), (HunkOutcome(1, Status.CLEAN),))

    def _write(
        self, old: str, file: File, text: Text, hunks: tuple[HunkOutcome, ...]
    ) -> FileOutcome:
        diff, new = self.diff, self.new or old
        mode, changes_mode = file.mode, diff.old_mode != diff.new_mode
        if changes_mode and None not in (diff.old_mode, diff.new_mode):
            mode = diff.new_mode or mode
        after = File(mode, text if text.content != file.content else file.text)
        statuses = [hunk.status for hunk in hunks]
        if changes_mode:
            statuses.append(Status.CLEAN if mode != file.mode else Status.THERE)
        if new != old:
            statuses.append(Status.CLEAN)
            if not diff.is_copy:
                self.draft.remove(old)
        if self.moved:
            statuses.append(Status.MOVED)
        self.draft.put(new, after)
        return self._made(statuses, hunks)

    def _made(self, statuses: list[Status], hunks: tuple[HunkOutcome, ...] = ()) -> FileOutcome:
        status = worst(statuses)
        if set(statuses) <= {Status.THERE, Status.MOVED} and Status.THERE in statuses:
            status = Status.THERE
        target = self.old or self.new or ""
        return FileOutcome(
            self.diff.path,
            status,
            _target(self.diff, target) if self.diff.new in (None, self.diff.old) else "",
            hunks,
            tuple(self.notes) if status is not Status.THERE else (),
        )

    def _is_blob(self, content: bytes, name: str) -> bool:
        return bool(name) and blob_name(content, len(name)).startswith(name)
