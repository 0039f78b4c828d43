"""Patches: applied to a tree's name, giving the name of the patched tree.

They are applied in an index, never in a folder: a patch that does not apply
leaves nothing behind. Why it does not is told: git names the file and the line
of the first hunk that it cannot place. The rest is found here: the hunk's own
old lines, and the place in the file that is most like them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from linklab.errors import BuildSkipped, UsageError
from linklab.host.cache import key_of, load_json, save_json
from linklab.host.run import CommandFailed
from linklab.kernel.diff import DiffError, FileDiff, Hunk
from linklab.kernel.gitstore import GitStore
from linklab.kernel.series import Patch
from linklab.kernel.source import Source

_REMEMBERED = "patched.json"
_NO_PATCH = re.compile(r"No valid patches in input|unrecognized input|corrupt patch|malformed")
_FAILED = re.compile(r"^error: patch failed: (?P<file>.*):(?P<line>\d+)$", re.MULTILINE)
_REFUSED = re.compile(r"^error: (?P<file>[^:\n]+): (?P<why>[^\n]+)$", re.MULTILINE)
_NAMED = 3  # patches that stand before the one in an error
_SHOWN = 16  # lines of a comparison
_AROUND = 3  # lines of it that are alike before the first difference; of a file around the place
_FAR = 2000  # lines of a file on either side of where a hunk should be that are looked at


_Filed = tuple[Patch, Path]
"""A patch and the file that holds its diff for git."""


def patched_tree(source: Source, patches: Sequence[Patch]) -> str:
    """Return the name of the source's tree with the patches applied in order.

    Raises `BuildSkipped` when one does not apply: which, where, and what
    stands there instead. Raises `UsageError` for one that is cut short, or of
    which git would pass over a part.
    """
    effective = [patch for patch in patches if patch.diff.strip()]  # a commit may change nothing
    tree = source.tree
    if not effective:
        return tree
    for patch in effective:
        try:
            patch.file_diffs()
        except DiffError as error:
            message = f"{patch.title} is not a whole patch ({patch.origin}): {error.message}"
            raise UsageError(message) from error
    store, remembered = source.store, source.store.folder / _REMEMBERED
    hashes = [
        "".join([hashlib.sha256(patch.diff).hexdigest(), *_options(patch)]) for patch in effective
    ]
    entry = key_of({"tree": tree, "patches": hashes})
    found = load_json(remembered).get(entry)
    if isinstance(found, str) and store.has(found):
        return found
    with TemporaryDirectory(prefix="scratch.", dir=store.folder) as folder:
        filed = [(patch, Path(folder) / f"{n}.diff") for n, patch in enumerate(effective)]
        for patch, file in filed:
            file.write_bytes(patch.diff)
        try:
            result = _apply(store, tree, filed)
        except CommandFailed:
            bad = _first_bad(store, tree, filed)
            raise _refusal(source, filed[: bad + 1]) from None
    save_json(remembered, {**load_json(remembered), entry: result})
    return result


def _options(patch: Patch) -> list[str]:
    """Return what git apply is told of a patch, beyond its diff."""
    strip = [f"-p{patch.strip}"] if patch.strip != 1 else []
    return [*strip, "--reverse"] if patch.is_reversed else strip


def _apply(store: GitStore, tree: str, filed: Sequence[_Filed]) -> str:
    """Apply all files with one git, which takes a thousand in the time of a few."""
    with store.scratch_index(tree) as index:
        for options, group in groupby(filed, lambda each: _options(each[0])):
            argv = ["apply", "--cached", "--whitespace=nowarn", *options]
            store.git([*argv, *(file for _, file in group)], index=index)
        return store.write_tree(index)


def _first_bad(store: GitStore, tree: str, filed: Sequence[_Filed]) -> int:
    """Return which file is the first that does not apply: git does not say."""
    good, bad = 0, len(filed)  # so many apply, so many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _apply(store, tree, filed[:middle])
            good = middle
        except CommandFailed:
            bad = middle
    return bad - 1


def _refusal(source: Source, filed: Sequence[_Filed]) -> BuildSkipped | UsageError:
    """Return the error for the last of some patches, which does not apply after the others."""
    store, (patch, file) = source.store, filed[-1]
    done = [each for each, _ in filed[:-1]]
    good = _apply(store, source.tree, filed[:-1]) if done else source.tree
    options = _options(patch)
    back = [word for word in options if word != "--reverse"]
    back += [] if patch.is_reversed else ["--reverse"]
    with store.scratch_index(good) as index:
        argv = ["apply", "--cached", "--check", "--whitespace=nowarn"]
        asked = store.git([*argv, *options, file], index=index, check=False)
        reverse = store.git([*argv, *back, file], index=index, check=False)
    words = asked.stderr.decode(errors="replace")
    if _NO_PATCH.search(words):
        return UsageError(f"{patch.title} is not a whole patch ({patch.origin})", words.rstrip())
    where, path, hunk = _place_of(patch.file_diffs(), words)
    after = f" after {_named(done)}" if done else ""
    there = ": all of it is in there already" if reverse.returncode == 0 else ""
    message = f"{patch.title} does not apply to {source.origin}{after}: {where}{there}"
    shown = ""
    if hunk is not None:
        blob = store.git(["cat-file", "blob", f"{good}:{path}"], check=False)
        shown = _compared(path, hunk, blob.stdout.decode(errors="replace")) + "\n"
    return BuildSkipped(message, "\n".join(filter(None, (shown, words))))


def _named(done: Sequence[Patch]) -> str:
    if len(done) > _NAMED:
        return f"{len(done)} others"
    return ", ".join(patch.place if patch.total > 1 else patch.title for patch in done)


def _place_of(diffs: Sequence[FileDiff], words: str) -> tuple[str, str, Hunk | None]:
    """Return what git means by its words about a patch: the place in words, its file and hunk."""
    if failed := _FAILED.search(words):
        path, line = failed["file"], int(failed["line"])
        hunks = (
            (number, hunk)
            for diff in diffs
            if path in {diff.old, diff.new}
            for number, hunk in enumerate(diff.hunks, 1)
        )
        number, hunk = next(((n, h) for n, h in hunks if _line_of(h) == line), (0, None))
        name = f"hunk {number}" if hunk else "the hunk"
        return f"{path}, {name} at line {line}", path, hunk
    if refused := _REFUSED.search(words):
        return f"{refused['file']}: {refused['why']}", "", None
    return "git says why below", "", None


def _line_of(hunk: Hunk) -> int:
    """Return the line that a hunk's header names."""
    return hunk.start + bool(hunk.old)


def _compared(path: str, hunk: Hunk, content: str) -> str:
    """Return the place of a file that is most like what a hunk expects, line against line.

    Lines marked `-` are expected and missing, those marked `+` stand there
    instead.
    """
    old = [line.decode(errors="replace").rstrip("\r\n") for line in hunk.old]
    there = content.splitlines()
    found = _nearest(old, there, _line_of(hunk) - 1)
    if found is None:
        shown = [f"  - {line}" for line in old[:_SHOWN]]
        return "\n".join((f"nothing in {path} is like what the hunk expects (-):", *shown))
    begin, end = found
    lines = list(_differences(old, there[begin:end]))
    first = next((at for at, line in enumerate(lines) if not line.startswith("    ")), 0)
    start = max(min(first - _AROUND, len(lines) - _SHOWN), 0)
    line = begin + 1 + sum(not each.startswith("  - ") for each in lines[:start])
    head = f"{path} at line {line}: expected by the hunk (-), what stands there (+):"
    return "\n".join((head, *lines[start : start + _SHOWN]))


def _nearest(old: Sequence[str], there: Sequence[str], expected: int) -> tuple[int, int] | None:
    """Return the part of a file that has most of a hunk's lines in order; None for none.

    Blank lines count for nothing. Of equal parts it is the one with most lines
    at the distance that they have in the hunk, then the nearest. It goes as far
    before and behind the lines in common as the hunk does.
    """
    width = len(old)
    wanted = [line.strip() for line in old]
    telling = set(filter(None, wanted))
    lines = [line.strip() for line in there]
    low = max(0, min(expected, len(there)) - _FAR)
    best = (0, 0, 0, 0)  # how many in order, how many in their place, minus how far, where
    for begin in range(low - _AROUND, min(len(there), expected + _FAR)):
        window = lines[max(begin, 0) : begin + width]
        rough = sum(line in telling for line in window)
        if rough and rough >= best[0]:
            pairs = zip(wanted, lines[begin:] if begin >= 0 else [], strict=False)
            same = sum(one == other != "" for one, other in pairs)
            blocks = _matcher(wanted, window).get_matching_blocks()
            ordered = sum(bool(line) for a, _, size in blocks for line in wanted[a : a + size])
            best = max(best, (max(same, ordered), same, -abs(begin - expected), begin))
    if not best[0]:
        return None
    begin = max(best[3] - _AROUND, 0)
    window = lines[begin : max(best[3], 0) + width + _AROUND]
    blocks = [
        block
        for block in _matcher(wanted, window).get_matching_blocks()
        if any(wanted[block.a : block.a + block.size])
    ]
    first, last = blocks[0], blocks[-1]
    start = max(first.b - first.a, 0)
    end = last.b + last.size + width - last.a - last.size
    return begin + start, min(begin + end, len(there))


def _differences(old: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    for tag, a, b, c, d in _matcher(old, there).get_opcodes():
        if tag == "equal":
            yield from (f"    {line}" for line in old[a:b])
        else:
            yield from (f"  - {line}" for line in old[a:b])
            yield from (f"  + {line}" for line in there[c:d])


def _matcher(old: Sequence[str], there: Sequence[str]) -> SequenceMatcher[str]:
    return SequenceMatcher(None, old, there, autojunk=False)
