"""`invoke test --only corpora`: collections of patches, read and applied as other tools do it.

What linklab makes of a patch, a folder or a thread is compared with what git,
GNU patch and b4 make of it, those of them that are installed. All apply to the
same source: the folder `tree` of the collection, or one that is made of the
patches themselves, so that each finds its lines where it expects them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from linklab.errors import BuildSkipped, UsageError, Verdict
from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.host.run import CommandFailed, look_for, run
from linklab.kernel.diff import REGULAR, DiffError, FileDiff, parse_diff, undone
from linklab.kernel.gitstore import git_environment
from linklab.kernel.mail import QUILT, MailCollection, collect, read_mails
from linklab.kernel.patches import patched_tree
from linklab.kernel.series import Patch, read_series
from linklab.kernel.source import Source, open_source
from linklab.paths import ROOT
from linklab.port.engine import port
from linklab.port.tree import Tree
from linklab.port.trial import Merger

OWN = ROOT / "tests" / "unit" / "cases" / "patches"
"""The collection that comes with the project."""

_TREE = "tree"
_ANSWERS = frozenset((".expect", ".md", ".txt"))
_EXPLAINED = "(explained: "
_TOOLS = ("git", "patch", "b4")
_LIMIT = 300.0  # s for one run of another tool
_MAIL = re.compile(rb"\s*(?:From|Subject|Date|Message-ID):|\s*From ", re.IGNORECASE)
_PARTS = re.compile(rb"^(?=diff --git )", re.MULTILINE)
_MOST = 200_000  # lines of a file that is made: a patch may name any number


@dataclass(frozen=True)
class Result:
    """What became of an entry: a name of the files that come out, or why it was refused."""

    files: str = ""
    why: str = ""


@dataclass
class Compared:
    """How often linklab and another tool agreed, and where they did not."""

    tool: str
    explained: Mapping[str, str]
    same: int = 0
    refused: int = 0
    differing: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether each difference is explained."""
        return all(_EXPLAINED in each for each in self.differing)

    def take(self, name: str, ours: Result, theirs: Result) -> None:
        """Count one entry."""
        if ours.files == theirs.files:
            self.same += bool(ours.files)
            self.refused += not ours.files
            return
        if ours.files and theirs.files:
            how = "other files come out"
        elif ours.files:
            how = f"only {self.tool} refuses it: {_line(theirs.why)}"
        else:
            how = f"only linklab refuses it: {_line(ours.why)}"
        why = self.explained.get(f"{self.tool} {name}", "")
        self.differing.append(f"{name}: {how}" + (f" {_EXPLAINED}{why})" if why else ""))

    def lines(self) -> Iterator[str]:
        """Yield the sum, and each entry that differs."""
        yield (
            f"{self.tool}: {self.same} taken by both with the same tree, "
            f"{self.refused} refused by both, {len(self.differing)} differ"
        )
        yield from (f"  {each}" for each in self.differing)


def _explained(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.partition(": ") for line in lines)
    return {entry: why for entry, _, why in pairs if why}


def _line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def check_corpus(corpus: str) -> Path:
    """Return the collection that a person names, by default the project's own.

    Raises `UsageError` where there is none.
    """
    path = Path(corpus).expanduser().resolve() if corpus else OWN
    if not path.exists():
        raise UsageError(
            f"there is no --corpus {corpus}: expected a folder with patches, folders of patches "
            "and mboxes, or an mbox"
        )
    return path


def compare(corpus: Path) -> Verdict:
    """Compare every entry of a collection and print the sums; it passes where nothing differs.

    What differs for a reason may stand in a file `explained.txt` of the collection,
    a line each: the tool, the entry, a colon, the reason.

    Raises `UsageError` for a collection without a patch.
    """
    with tempfile.TemporaryDirectory(prefix="linklab-corpora-") as name:
        bench = _Bench(Path(name), corpus)
        for entry in _entries(corpus, Path(name) / "threads"):
            bench.try_entry(entry)
    if not bench.tried:
        raise UsageError(f"--corpus {corpus} holds no patch")
    print(f"{bench.tried} patches, folders and threads of {corpus}")
    for each in bench.compared.values():
        print("\n".join(each.lines()))
    for tool in _TOOLS:
        if tool not in bench.compared:
            print(f"{tool}: not compared, as it is not installed")
    agree = all(each.agrees for each in bench.compared.values())
    return Verdict.PASS if agree else Verdict.FAIL


def _entries(corpus: Path, threads: Path) -> Iterator[Path]:
    """Yield what is compared on its own: a file, a folder of patches, a thread of an mbox."""
    if corpus.is_file():
        yield from _threads(corpus, threads)
        return
    listed = sorted(path for path in corpus.iterdir() if not path.name.startswith("."))
    files = [path for path in listed if path.is_file() and path.suffix not in _ANSWERS]
    with suppress(UsageError):
        if collect(corpus).ordered and len(files) > 1:
            yield corpus
    yield from (path for path in files if path.name != QUILT)
    for folder in (path for path in listed if path.is_dir() and path.name != _TREE):
        if any(path.is_file() for path in folder.iterdir()):
            yield folder


def _threads(mbox: Path, folder: Path) -> Iterator[Path]:
    """Yield the threads of an mbox, such as a list's archive, each as an mbox of its own."""
    found: dict[str, Path] = {}
    for letter in _split(mbox, folder):
        content = letter.read_bytes()
        mail = read_mails(content)[0]
        ids = {mail.message_id, *mail.references} - {""}
        thread = next((found[each] for each in ids if each in found), letter.with_suffix(".mbox"))
        found.update(dict.fromkeys(ids, thread))
        with thread.open("ab") as file:
            file.write(b"From a@b Thu Jan  1 00:00:00 1970\n" + content.rstrip(b"\n") + b"\n\n")
        letter.unlink()
    yield from sorted(folder.glob("*.mbox"))


def _split(mbox: Path, folder: Path) -> list[Path]:
    """Return the letters of an mbox as git splits it, in order."""
    folder.mkdir(parents=True)
    argv = ["git", "mailsplit", f"-o{folder}", "-d8", "--keep-cr", str(mbox)]
    run(argv, env=git_environment(), deadline=_LIMIT)
    return sorted(folder.iterdir())


class _Bench:
    """The source, the tools that are there, and how they fared."""

    def __init__(self, scratch: Path, corpus: Path) -> None:
        self.scratch = scratch
        given = corpus / _TREE
        if given.is_dir():
            self.given: Source | None = open_source(given, Cache(scratch / "cache"), ignore)
            self.store = self.given.store
        else:
            self.given = None
            self.store = Source(corpus, "", "made", scratch).store
            self.store.create()
        why = _explained(corpus / "explained.txt")
        self.compared = {tool: Compared(tool, why) for tool in _TOOLS if look_for(tool)}
        self.tried = 0

    def try_entry(self, entry: Path) -> None:
        """Compare one entry with each tool that reads such a thing."""
        found = MailCollection(entry, (), ())
        with suppress(UsageError):
            found = collect(entry)
        patches, why = _read(entry)
        self.tried += 1
        is_thread = entry.is_file() and len(found.mails) > 1
        if is_thread:
            if "b4" in self.compared:
                picked = self._by_b4(entry)
                source = self._source(patches or _patches_in(picked))
                theirs = self._by_git(source, [(each, []) for each in picked])
                self.compared["b4"].take(entry.name, self._applied(source, patches, why), theirs)
            return
        source = self._source(patches or _patches_of(found))
        if "git" in self.compared:
            theirs = self._by_git(source, list(self._messages(found)))
            self.compared["git"].take(entry.name, self._applied(source, patches, why), theirs)
        if "patch" in self.compared and patches:
            files = self._named(source, patches)
            theirs = self._by_patch(files, patches)
            self.compared["patch"].take(entry.name, self._ported(source, files, patches), theirs)

    # The source

    def _source(self, patches: Sequence[Patch]) -> Source:
        if self.given is not None:
            return self.given
        tree = self._tree_of(made_files(patches))
        return Source(self.scratch, tree, "made", self.scratch)

    def _tree_of(self, files: Mapping[str, tuple[int, bytes]]) -> str:
        stream = [b"commit refs/heads/made\ncommitter a <a@b> 0 +0000\ndata 0\ndeleteall\n"]
        for path, (mode, content) in files.items():
            name = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            data = b"data %d\n%b\n" % (len(content), content)
            stream.append(b'M %o inline "%b"\n%b' % (mode, name, data))
        try:
            argv = ["fast-import", "--quiet", "--force", "--done"]
            self.store.git(argv, stdin=b"".join([*stream, b"done\n"]))
        except CommandFailed:  # a name that is a file's and a folder's
            return self.store.empty_tree()
        return self.store.git(["rev-parse", "refs/heads/made^{tree}"]).text

    def _named(self, source: Source, patches: Sequence[Patch]) -> dict[str, bytes]:
        """Return the files of a source that patches are about."""
        tree = Tree(self.store, source.tree)
        names = {name for diff in _diffs_of(patches) for name in (diff.old, diff.new) if name}
        found = {name: tree.get(name) for name in names}
        return {name: file.content for name, file in found.items() if file is not None}

    # What becomes of an entry

    def _applied(self, source: Source, patches: Sequence[Patch], why: str) -> Result:
        """Return what `--patch` makes of patches."""
        if why:
            return Result(why=why)
        try:
            return Result(patched_tree(source, patches))
        except (BuildSkipped, UsageError) as error:
            return Result(why=error.message)

    def _ported(
        self, source: Source, files: Mapping[str, bytes], patches: Sequence[Patch]
    ) -> Result:
        """Return what `invoke port` makes of patches."""
        after = dict(files)
        for tried in port(patches, Tree(self.store, source.tree), Merger(self.store)):
            outcome = tried.outcome
            if outcome.status.failed:
                conflict = next(outcome.conflicts)
                return Result(why=f"{conflict.place}: {conflict.why}")
            for path, file in tried.changes.items():
                after.pop(path, None)
                if file is not None:
                    after[path] = file.content
        return Result(_name_of(after))

    def _messages(self, found: MailCollection) -> Iterator[tuple[bytes, list[str]]]:
        """Yield the mails and diffs of an entry as they are, with the options of each."""
        for mail in {mail.path: mail for mail in found.mails}.values():
            options = [f"-p{mail.strip}"] * (mail.strip != 1) + ["--reverse"] * mail.is_reversed
            content = mail.path.read_bytes()
            if content.startswith(b"From "):
                with tempfile.TemporaryDirectory(dir=self.scratch) as name:
                    letters = [each.read_bytes() for each in _split(mail.path, Path(name) / "l")]
                yield from ((letter, options) for letter in letters)
            else:
                yield content, options

    def _by_git(self, source: Source, letters: Sequence[tuple[bytes, list[str]]]) -> Result:
        """Return what `git mailinfo` and `git apply` make of letters, as `git am` runs them."""
        applied = 0
        with self.store.scratch_index(source.tree) as index:
            for letter, options in letters:
                try:
                    diff = self._mailinfo(letter) if _MAIL.match(letter) else letter
                except CommandFailed as error:
                    return Result(why=f"git mailinfo: {error.evidence}")
                if diff.strip():
                    argv = ["apply", "--cached", "--whitespace=nowarn", *options]
                    done = self.store.git(argv, index=index, stdin=diff, check=False)
                    if done.returncode:
                        return Result(why=done.stderr.decode(errors="replace"))
                    applied += 1
            return Result(self.store.write_tree(index)) if applied else Result(why="no patch")

    def _mailinfo(self, letter: bytes) -> bytes:
        message, diff = self.scratch / "message", self.scratch / "diff"
        self.store.git(["mailinfo", message, diff], stdin=letter)
        return diff.read_bytes()

    def _by_patch(self, files: Mapping[str, bytes], patches: Sequence[Patch]) -> Result:
        """Return what GNU patch makes of the same diffs."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            folder = Path(name)
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            for patch in patches:
                argv = ["patch", f"-p{patch.strip}", "--force", "--no-backup-if-mismatch",
                        "--reject-file=-", *["--reverse"] * patch.is_reversed]  # fmt: skip
                done = run(argv, cwd=folder, stdin=patch.diff, deadline=_LIMIT, check=False)
                if done.returncode:
                    return Result(why=(done.stderr + done.stdout).decode(errors="replace"))
            found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
            after = {
                str(path.relative_to(folder)): os.fsencode(path.readlink())
                if path.is_symlink()
                else path.read_bytes()
                for path in found
            }
        return Result(_name_of(after))

    def _by_b4(self, thread: Path) -> list[bytes]:
        """Return the letters that b4 picks of a thread; none where it refuses."""
        home = self.scratch / "home"
        home.mkdir(exist_ok=True)
        argv = ["b4", "--offline-mode", "am", "--no-cache", "--no-add-trailers",
                "-m", str(thread.resolve()), "-o", "-"]  # fmt: skip
        env = {**git_environment(), "HOME": str(home)}
        done = run(argv, cwd=home, env=env, deadline=_LIMIT, check=False)
        if done.returncode or not done.stdout.strip():
            return []
        picked = self.scratch / "picked.mbox"
        picked.write_bytes(done.stdout)
        letters = self.scratch / "picked"
        shutil.rmtree(letters, ignore_errors=True)
        return [each.read_bytes() for each in _split(picked, letters)]


def _name_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(b"%b\0%d\0%b" % (os.fsencode(path), len(files[path]), files[path]))
    return digest.hexdigest()


def _read(entry: Path) -> tuple[tuple[Patch, ...], str]:
    """Return the patches that linklab reads, or why it refuses them."""
    try:
        return read_series([entry]).patches, ""
    except UsageError as error:
        return (), error.message


def _patches_of(found: MailCollection) -> list[Patch]:
    return [
        Patch(1, 1, 1, "", "", "", "", "", mail.diff, mail.path,
              strip=mail.strip, is_reversed=mail.is_reversed)
        for mail in found.mails
    ]  # fmt: skip


def _patches_in(letters: Iterable[bytes]) -> list[Patch]:
    mails = tuple(mail for letter in letters for mail in read_mails(letter))
    return _patches_of(MailCollection(Path(), mails, ()))


# --- a source made of patches ------------------------------------------------------

_Line = list[bytes]
"""A line of a file that is made: empty until a patch says what stands there."""


def made_files(patches: Iterable[Patch]) -> dict[str, tuple[int, bytes]]:
    """Return files, by path, to which patches apply one after the other at their own lines.

    What no patch shows is filled in. Patches that contradict each other, or
    change binary files, find what the first one expects.
    """
    base: dict[str, tuple[int, list[_Line]]] = {}
    now: dict[str, list[_Line]] = {}
    for diff in _diffs_of(patches):
        if diff.old is None:
            now[diff.path] = [[line] for hunk in diff.hunks for line in hunk.new]
            continue
        if diff.old not in now:
            now[diff.old] = []
            base[diff.old] = diff.old_mode or REGULAR, []
        lines = now[diff.old]
        _show(diff, lines, base[diff.old][1] if diff.old in base else [])
        for hunk in reversed(diff.hunks):
            for block, at in reversed(hunk.changes):
                new: list[_Line] = [[line] for line in hunk.new[at : at + block.added]]
                lines[block.start : block.start + block.removed] = new
        if diff.new != diff.old:
            if diff.new is not None:
                now[diff.new] = list(lines)
            if not diff.is_copy:
                del now[diff.old]
    return {path: (mode, b"".join(_filled(lines))) for path, (mode, lines) in base.items()}


def _show(diff: FileDiff, lines: list[_Line], base: list[_Line]) -> None:
    """Make the lines that a diff expects; those behind the end so far are of the base, too."""
    for hunk in diff.hunks:
        while len(lines) < min(hunk.end, _MOST):
            lines.append([])
            base.append(lines[-1])
        for line, text in zip(lines[hunk.start : hunk.end], hunk.old, strict=False):
            if not line:
                line.append(text)


def _filled(lines: Sequence[_Line]) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        yield line[0] if line else b"\t/* line %d */\n" % number


def _diffs_of(patches: Iterable[Patch]) -> Iterator[FileDiff]:
    """Yield what can be read of the diffs, part by part where not all of one can."""
    for patch in patches:
        turn: Callable[[FileDiff], FileDiff] = undone if patch.is_reversed else lambda diff: diff
        try:
            yield from map(turn, parse_diff(patch.diff, patch.strip))
        except DiffError:
            for part in _PARTS.split(patch.diff):
                with suppress(DiffError):
                    yield from map(turn, parse_diff(part, patch.strip))
