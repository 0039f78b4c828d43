"""The cache: immutable artefacts, named by what went into them.

An artefact is a folder `KIND/KEY` with a manifest of sizes and hashes. It is
made in a temporary folder beside its place and renamed at the end, so what
has a name is finished. It is checked when it is opened: one that was cut
short or altered is thrown away, with a note, and made again. A lock on its
name makes two runs that need the same artefact share one build.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from linklab.errors import LabError, LinklabError, os_errors_as
from linklab.events import Listener, Note

MANIFEST = "manifest.json"
_LOCK_WAIT = 3600.0
_MANY_HOLES = 16 << 20  # bytes
_BLOCK = 64 << 10
_TICK_NS = 1_000_000_000  # file systems' clocks tick: two writes within one have the same time

_Fact = TypeVar("_Fact")


def cache_root() -> Path:
    """Return the cache folder: `$LINKLAB_CACHE`, or `linklab` in the user's cache folder.

    Always an absolute path: programs that are given it work in other folders. A
    relative `$XDG_CACHE_HOME` does not count (XDG Base Directory Specification).
    """
    if own := os.environ.get("LINKLAB_CACHE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "linklab"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """Return a hash of a file's content that does not read its holes.

    A saved guest's memory is a file of which nine tenths are holes. Without
    so many a file's fingerprint is its SHA-256.
    """
    stat = path.stat()
    if stat.st_size - stat.st_blocks * 512 < _MANY_HOLES:
        return hash_file(path)
    digest = hashlib.sha256(b"%d" % stat.st_size)
    with path.open("rb", buffering=0) as file:
        for at in _blocks_with_data(file.fileno(), stat.st_size):
            block = os.pread(file.fileno(), _BLOCK, at)
            if block.count(0) < len(block):
                digest.update(b"%d " % at)
                digest.update(block)
    return "blocks-" + digest.hexdigest()


def _blocks_with_data(fd: int, size: int) -> Iterator[int]:
    """Yield where each block begins that the file system has data for.

    What it calls data differs between file systems; zeros among them do not
    count, so that the fingerprint is one of content alone.
    """
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        for block in range(max(start - start % _BLOCK, at), end, _BLOCK):
            yield block
            at = block + _BLOCK


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the key for inputs that JSON can express: equal inputs, equal key."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Busy(LabError):
    """Another run is at work with what was not to be waited for."""


@contextmanager
def locked(path: Path, listener: Listener, what: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`; say so, once, when another run holds it.

    The kernel drops the lock with its holder, however that ends. Raises `Busy`
    instead of waiting unless `wait` is true.
    """
    with reporting(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        deadline = time.monotonic() + _LOCK_WAIT
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not wait:
                    raise Busy(f"{what}: another run is at it") from None
                if not waiting:
                    listener(Note(f"{what}: another run is at it, waiting for that one"))
                    waiting = True
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{what}: another run holds {path} for {_LOCK_WAIT:.0f} s"
                    ) from None
                time.sleep(0.05)
        yield


@dataclass(frozen=True)
class Cached:
    """What the cache calls a file or a folder, `KIND/KEY/NAME`: the same on every host."""

    name: str

    @property
    def path(self) -> Path:
        """Where this host's cache has it, if it does."""
        return cache_root() / self.name

    def found(self) -> Path:
        """Return where it is. Raises `LabError` where this host's cache lacks it."""
        if not self.path.exists():
            raise LabError(
                f"the cache folder {cache_root()} lacks {self.name}: what a host is to boot must "
                "be in its cache (LINKLAB_CACHE names another one)"
            )
        return self.path

    @classmethod
    def at(cls, path: Path) -> Cached:
        """Return what is at a path in this host's cache."""
        return cls(str(path.relative_to(cache_root())))


@dataclass(frozen=True)
class Artefact:
    """A finished, checked folder of the cache."""

    kind: str
    key: str
    path: Path
    about: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name

    def cached(self, name: str) -> Cached:
        """Return what every host's cache calls one of its files."""
        return Cached(f"{self.kind}/{self.key}/{name}")

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of each file, by its name."""
        files: Mapping[str, Mapping[str, Any]] = self.about["files"]
        return {name: str(entry["sha256"]) for name, entry in files.items()}


class Cache:
    """A folder of artefacts, shared by every run of this user.

    `elsewhere`, where there are other hosts, has them make kernels that are lacking: it takes
    plans and returns why there is none of some, by their keys. See `build_ahead` of
    linklab/kernel/kernel.py.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root()
        self.elsewhere: Callable[[Sequence[Any]], Mapping[str, LinklabError]] | None = None

    def lock_path(self, kind: str, key: str) -> Path:
        """Return the lock that guards the making of `KIND/KEY`."""
        return self.root / "locks" / f"{kind}-{key}.lock"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder on the cache's file system that is gone afterwards."""
        with reporting(self.root):
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root / "tmp") as folder:
                yield Path(folder)

    def find(self, kind: str, key: str, listener: Listener) -> Artefact | None:
        """Return the artefact if it is there and whole; throw it away if it is not whole."""
        found = self._look(kind, key)
        if not isinstance(found, str):
            return found
        # Under the lock: by now another run may have made it again.
        with locked(self.lock_path(kind, key), listener, f"{kind} {key}"):
            return self._find_locked(kind, key, listener)

    def _find_locked(self, kind: str, key: str, listener: Listener) -> Artefact | None:
        found = self._look(kind, key)
        if not isinstance(found, str):
            return found
        path = self.root / kind / key
        listener(Note(f"cache entry {path} {found}: thrown away, made again"))
        with reporting(self.root):
            discard(path)
        return None

    def _look(self, kind: str, key: str) -> Artefact | str | None:
        """Return the artefact if it is whole, what is wrong with it, or None without one."""
        path = self.root / kind / key
        try:
            about = json.loads((path / MANIFEST).read_text())
            fault = self._fault(kind, key, about)
        except FileNotFoundError:
            return "has no manifest" if path.exists() else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"has no readable manifest ({error})"
        return fault or Artefact(kind, key, path, about)

    def _fault(self, kind: str, key: str, about: Mapping[str, Any]) -> str | None:
        """Return what `fault_of` does; nothing is read that was not touched since it was whole."""
        path = self.root / kind / key
        stamps = [_stamp(path / name) for name in (MANIFEST, *about["files"])]
        seen = self.root / "whole" / f"{kind}-{key}.json"
        if load_json(seen).get("stamps") == stamps:
            return None
        fault = fault_of(path, about)
        before = time.time_ns() - _TICK_NS
        if fault is None and all(stamp and stamp[-1] < before for stamp in stamps):
            with suppress(OSError):  # then all is read again the next time
                save_json(seen, {"stamps": stamps})
        return fault

    def get(
        self,
        kind: str,
        key: str,
        make: Callable[[Path], Mapping[str, Any]],
        listener: Listener,
        what: str,
    ) -> Artefact:
        """Return the artefact, making it first if it is not there.

        `make` fills an empty folder and returns what to keep about it in the
        manifest. Raises `LabError` when the disk is full or not writable, and
        whatever `make` raises.
        """
        if found := self.find(kind, key, listener):
            return found
        with locked(self.lock_path(kind, key), listener, what):
            if found := self._find_locked(kind, key, listener):
                return found
            with reporting(self.root):
                return self._make(kind, key, make)

    def keep(self, path: Path, listener: Listener) -> Cached:
        """Return what a file is called here; one from elsewhere is first copied, by its content.

        Raises `LabError` where it changes meanwhile.
        """
        if path.is_relative_to(self.root):
            name = path.relative_to(self.root)
            if (self.root.joinpath(*name.parts[:2]) / MANIFEST).is_file():
                return Cached(str(name))
        sha256 = self.hash_of(path)

        def copy(folder: Path) -> Mapping[str, Any]:
            shutil.copyfile(path, folder / path.name)
            if hash_file(folder / path.name) != sha256:
                raise LabError(f"{path} changed while it was copied into the cache")
            return {"origin": str(path)}

        key = key_of({"name": path.name, "sha256": sha256})
        return self.get("file", key, copy, listener, f"a copy of {path}").cached(path.name)

    def hash_of(self, path: Path) -> str:
        """Return a file's SHA-256; it is read again when it was touched."""
        return str(Remembered(self).get(f"SHA-256 of {path}", lambda: (hash_file(path), [path])))

    def _make(self, kind: str, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Artefact:
        parent = self.root / kind
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=parent))
        try:
            about = {**make(work), "files": _inventory(work)}
            _write_durably(work / MANIFEST, json.dumps(about, indent=1, sort_keys=True))
            work.chmod(0o755)
            final = parent / key
            discard(final)
            work.rename(final)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return Artefact(kind, key, final, about)


def _inventory(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": fingerprint(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fault_of(path: Path, about: Mapping[str, Any]) -> str | None:
    """Return in what a folder is not what its manifest says, or None."""
    for name, entry in about["files"].items():
        try:
            size = (path / name).stat().st_size
        except FileNotFoundError:
            return f"lacks {name}"
        if size != entry["size"]:
            return f"has a {name} of {size} bytes instead of {entry['size']}"
        if fingerprint(path / name) != entry["sha256"]:
            return f"has a {name} that was altered"
    return None


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def discard(path: Path) -> None:
    """Remove a folder; first from its name, so that nobody finds half of it."""
    doomed = path.with_name(f".doomed.{of_this_process()}.{time.monotonic_ns()}")
    with suppress(FileNotFoundError):
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield where to make a folder that gets its name only when it is whole."""
    draft = path.with_name(f".{path.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    yield draft
    draft.rename(path)


def reporting(root: Path) -> AbstractContextManager[None]:
    """Turn what the file system says into an error that says what to do."""
    what = f"the cache folder {root} cannot be used"
    return os_errors_as(LabError, what, " (LINKLAB_CACHE names another one)")


def load_json(path: Path) -> dict[str, Any]:
    """Return what a file remembers; nothing where it is missing, cut short or of another kind."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def save_json(path: Path, value: dict[str, Any]) -> None:
    """Write what a file remembers: a reader finds the old one or the new one, never half of it."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{of_this_process()}")
    draft.write_text(text)
    draft.replace(path)


def of_this_process() -> str:
    """Return a word that no other process has, on no host that shares the folder."""
    return f"{platform.node()}.{os.getpid()}"


def host_fact(
    name: str, read: Callable[[str], _Fact], ask: Callable[[], str], root: Path | None = None
) -> _Fact:
    """Return a fact about this host, asked for once: `name` says what it depends on.

    It is kept in the cache, as text that `read` understands or refuses with
    `ValueError`. A cache that cannot be written only costs asking again.
    """
    file = (root or cache_root()) / "host" / name
    with suppress(OSError, ValueError):
        return read(file.read_text())
    text = ask()
    with suppress(OSError):
        write_whole(file, f"{text}\n")
    return read(text)


class Remembered:
    """What programs of the host said, for as long as the files that it rests on are the same.

    Asking a program costs 5 to 15 ms, and an image asks half a dozen of them
    each time only to find out that nothing changed.
    """

    def __init__(self, cache: Cache) -> None:
        self._folder = cache.root / "answers"
        self._known: dict[str, dict[str, Any]] = {}

    def get(self, question: str, ask: Callable[[], tuple[Any, Iterable[Path]]]) -> Any:
        """Return the answer to a question, from memory where that still holds.

        `ask` returns the answer, which JSON can hold, and the files that it rests on.
        """
        file = self._folder / f"{key_of({'question': question})}.json"
        known = self._known.get(question) or load_json(file)
        if not {"answer", "rests_on"} <= known.keys() or any(
            _stamp(Path(p)) != s for p, s in known["rests_on"].items()
        ):
            answer, files = ask()
            rests_on = {str(path): _stamp(path) for path in files}
            known = {"question": question, "answer": answer, "rests_on": rests_on}
            with suppress(OSError):  # what cannot be kept is asked again
                save_json(file, known)
        self._known[question] = known
        return known["answer"]


def _stamp(path: Path) -> list[int] | None:
    """Return what changes with a file's content; ctime also where its age was set back."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
