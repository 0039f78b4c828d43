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
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from tempfile import TemporaryDirectory

from linklab.errors import BuildSkipped, UsageError
from linklab.host.cache import key_of, load_json, save_json
from linklab.host.run import CommandFailed
from linklab.kernel.gitstore import GitStore
from linklab.kernel.series import Patch
from linklab.kernel.source import Source

_MEMO = "patched.json"
_NO_PATCH = re.compile(r"No valid patches in input|unrecognized input|corrupt patch|malformed")
_FAILED = re.compile(r"^error: patch failed: (?P<file>.*):(?P<line>\d+)$", re.MULTILINE)
_REFUSED = re.compile(r"^error: (?P<file>[^:\n]+): (?P<why>[^\n]+)$", re.MULTILINE)
_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NAMED = 3  # patches that stand before the one in an error
_SHOWN = 16  # lines of a comparison
_FAR = 2000  # lines of a file on either side of where a hunk should be that are looked at


def patched_tree(source: Source, patches: Sequence[Patch]) -> str:
    """Return the name of the source's tree with the patches applied in order.

    Raises `BuildSkipped` when one does not apply: which, where, and what
    stands there instead. Raises `UsageError` for one that is cut short.
    """
    effective = [patch for patch in patches if patch.diff.strip()]  # a commit may change nothing
    tree = source.tree
    if not effective:
        return tree
    store, memo = source.store, source.store.folder / _MEMO
    hashes = [hashlib.sha256(patch.diff).hexdigest() for patch in effective]
    entry = key_of({"tree": tree, "patches": hashes})
    found = load_json(memo).get(entry)
    if isinstance(found, str) and store.has(found):
        return found
    with TemporaryDirectory(prefix="scratch.", dir=store.folder) as folder:
        files = [Path(folder) / f"{number}.diff" for number in range(len(effective))]
        for file, patch in zip(files, effective, strict=True):
            file.write_bytes(patch.diff)
        try:
            result = _apply(store, tree, files)
        except CommandFailed:
            bad = _first_bad(store, tree, files)
            raise _refusal(source, files[: bad + 1], effective[: bad + 1]) from None
    save_json(memo, {**load_json(memo), entry: result})
    return result


def _apply(store: GitStore, tree: str, files: Sequence[Path]) -> str:
    """Apply all files with one git, which takes a thousand in the time of a few."""
    with store.scratch_index(tree) as index:
        store.git(["apply", "--cached", "--whitespace=nowarn", *files], index=index)
        return store.write_tree(index)


def _first_bad(store: GitStore, tree: str, files: Sequence[Path]) -> int:
    """Return which file is the first that does not apply: git does not say."""
    good, bad = 0, len(files)  # so many apply, so many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _apply(store, tree, files[:middle])
            good = middle
        except CommandFailed:
            bad = middle
    return bad - 1


def _refusal(
    source: Source, files: Sequence[Path], patches: Sequence[Patch]
) -> BuildSkipped | UsageError:
    """Return the error for the last of some patches, which does not apply after the others."""
    store, (*done, patch) = source.store, patches
    good = _apply(store, source.tree, files[:-1]) if done else source.tree
    with store.scratch_index(good) as index:
        argv = ["apply", "--cached", "--check", "--whitespace=nowarn"]
        asked = store.git([*argv, files[-1]], index=index, check=False)
        reverse = store.git([*argv, "--reverse", files[-1]], index=index, check=False)
    words = asked.stderr.decode(errors="replace")
    if _NO_PATCH.search(words):
        return UsageError(f"{patch.title} is not a whole patch ({patch.origin})", words.rstrip())
    where, hunk = _place_of(patch.diff, words)
    after = f" after {_named(done)}" if done else ""
    there = ": all of it is in there already" if reverse.returncode == 0 else ""
    message = f"{patch.title} does not apply to {source.origin}{after}: {where}{there}"
    shown = ""
    if hunk is not None:
        blob = store.git(["cat-file", "blob", f"{good}:{hunk.file}"], check=False)
        shown = _compared(hunk, blob.stdout.decode(errors="replace")) + "\n"
    return BuildSkipped(message, "\n".join(filter(None, (shown, words))))


def _named(done: Sequence[Patch]) -> str:
    if len(done) > _NAMED:
        return f"{len(done)} others"
    return ", ".join(patch.place if patch.total > 1 else patch.title for patch in done)


@dataclass(frozen=True)
class _Hunk:
    """A hunk that git cannot place: its number in its file, its old lines and where they were."""

    file: str
    number: int
    line: int
    old: tuple[str, ...]


def _place_of(diff: bytes, words: str) -> tuple[str, _Hunk | None]:
    """Return what git means by its words about a diff: the place in words, and its hunk."""
    if failed := _FAILED.search(words):
        line = int(failed["line"])
        hunk = next((h for h in _hunks(diff, failed["file"]) if h.line == line), None)
        name = f"hunk {hunk.number}" if hunk else "the hunk"
        return f"{failed['file']}, {name} at line {line}", hunk
    if refused := _REFUSED.search(words):
        return f"{refused['file']}: {refused['why']}", None
    return "git says why below", None


def _hunks(diff: bytes, name: str) -> Iterator[_Hunk]:
    """Yield the hunks of a file's part of a diff.

    Lines inside a hunk are told from headers by counting: a removed line may
    well begin with `--- `.
    """
    inside, number = False, 0
    lines = iter(diff.splitlines())
    for line in lines:
        if line.startswith((b"diff --git ", b"--- ")):
            inside, number = False, 0
        if line.startswith((b"--- ", b"+++ ")):
            path = line[4:].split(b"\t")[0].rstrip()
            inside = inside or path.endswith(b"/" + name.encode())
        elif match := _HUNK.match(line):
            number += 1
            old = tuple(_old_lines(lines, int(match[2] or 1), int(match[4] or 1)))
            if inside:
                yield _Hunk(name, number, int(match[1]), old)


def _old_lines(lines: Iterator[bytes], old: int, new: int) -> Iterator[str]:
    """Yield what a hunk of so many old and new lines expects to find."""
    while old > 0 or new > 0:
        line = next(lines, None)
        if line is None:
            return
        sign = line[:1]
        if sign in (b" ", b"-", b""):
            old -= 1
            yield line[1:].decode(errors="replace")
        if sign in (b" ", b"+", b""):
            new -= 1


def _compared(hunk: _Hunk, content: str) -> str:
    """Return the place of a file that is most like what a hunk expects, line against line.

    Lines marked `-` are expected and missing, those marked `+` stand there
    instead.
    """
    there = content.splitlines()
    begin, likeness = _nearest(hunk, there)
    if not likeness:
        shown = [f"  - {line}" for line in hunk.old[:_SHOWN]]
        return "\n".join((f"nothing in {hunk.file} is like what the hunk expects (-):", *shown))
    found = there[begin : begin + len(hunk.old)]
    head = f"{hunk.file} at line {begin + 1}: expected by the hunk (-), what stands there (+):"
    return "\n".join((head, *list(_differences(hunk.old, found))[:_SHOWN]))


def _nearest(hunk: _Hunk, there: Sequence[str]) -> tuple[int, int]:
    """Return where a file has most of a hunk's lines in order, and how many; nearest if equal."""
    width, expected = len(hunk.old), hunk.line - 1
    first = max(0, min(expected, len(there)) - _FAR)
    wanted = {line.strip() for line in hunk.old if line.strip()}
    best = (0, 0, 0)  # how many, minus how far, where
    for begin in range(first, min(len(there), expected + _FAR)):
        window = there[begin : begin + width]
        rough = sum(line.strip() in wanted for line in window)
        if rough and rough >= best[0]:
            pairs = zip(hunk.old, window, strict=False)
            same = sum(old.strip() == new.strip() != "" for old, new in pairs)
            blocks = _matcher(hunk.old, window).get_matching_blocks()
            matching = sum(size for a, _, size in blocks if any(hunk.old[a : a + size]))
            best = max(best, (max(same, matching), -abs(begin - expected), begin))
    return best[2], best[0]


def _differences(old: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    for tag, a, b, c, d in _matcher(old, there).get_opcodes():
        if tag == "equal":
            yield from (f"    {line}" for line in old[a:b])
        else:
            yield from (f"  - {line}" for line in old[a:b])
            yield from (f"  + {line}" for line in there[c:d])


def _matcher(old: Sequence[str], there: Sequence[str]) -> SequenceMatcher[str]:
    return SequenceMatcher(None, old, there, autojunk=False)
