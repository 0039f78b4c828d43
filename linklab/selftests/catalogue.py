"""The self-tests of one state of a source: their files, which there are, which a person means.

The tree that kernels are compiled in is held for minutes; the tests' files are
wanted meanwhile. So they have a second, smaller work tree beside it, which the
same repository fills.  A collection is a folder of tests with a Makefile; what
counts as a test is what that Makefile says, and make is asked for it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from linklab import paths
from linklab.errors import LabError, UsageError
from linklab.events import Listener
from linklab.host.cache import locked
from linklab.host.run import CommandFailed, run
from linklab.kernel.gitstore import GitStore
from linklab.kernel.make import build_environment
from linklab.kernel.source import Source

ROOT = "tools/testing/selftests"
"""Where the self-tests are in a kernel's source."""

HEADER_PARTS = (
    "Kbuild", "Makefile", "arch/x86/Makefile", "arch/x86/Makefile_32.cpu",
    "arch/x86/entry/syscalls", "arch/x86/include", "arch/x86/tools", "include/asm-generic",
    "include/uapi", "scripts", "usr",
)  # fmt: skip
"""What the kernel's headers for user space are made of, and with."""

# Tests are made with these as well: libbpf, the netlink specs' C library.
_PARTS = (
    ROOT, *HEADER_PARTS, "tools/arch", "tools/build", "tools/include", "tools/lib", "tools/net",
    "tools/scripts", "Documentation/netlink/specs",
)  # fmt: skip
_WORK = "selftests"
_MAKEFILE = "Makefile"
_LIST = paths.IMAGES / "selftest" / "collection.mk"
_OUTPUT = "/out"
_NEAR = 5  # names that an error offers
_SOURCES = (".c", ".sh", ".py")


@dataclass(frozen=True)
class SelftestFiles:
    """The self-tests' files. `tree` names their content, whatever the rest of the source is.

    The files on disk may be used inside `checked_out` only.
    """

    source: Source
    tree: str

    @property
    def store(self) -> GitStore:
        """The source's repository with the work tree of the self-tests."""
        return replace(self.source.store, work=_WORK)

    @property
    def root(self) -> Path:
        """The folder of the self-tests."""
        return self.store.tree / ROOT

    @cached_property
    def blobs(self) -> Mapping[str, str]:
        """Git's name of each file's content, by its path in the source."""
        return dict(self.store.files(self.tree))

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The folders that have tests: those with a Makefile, by their paths below the root."""
        makefiles = (path for path in self.below("") if path.endswith(f"/{_MAKEFILE}"))
        return tuple(sorted(path.removesuffix(f"/{_MAKEFILE}") for path in makefiles))

    def below(self, folder: str) -> list[str]:
        """Return the files below a folder of the self-tests, by their paths from the root."""
        prefix = f"{ROOT}/{folder}/" if folder else f"{ROOT}/"
        return [path[len(ROOT) + 1 :] for path in self.blobs if path.startswith(prefix)]

    def own_files(self, collection: str) -> list[str]:
        """Return the files of a collection without those of the collections inside it."""
        inner = tuple(f"{each}/" for each in self.collections if each.startswith(f"{collection}/"))
        return [path for path in self.below(collection) if not path.startswith(inner)]

    def read(self, path: str) -> bytes:
        """Return the content of a file, or of a link's target, by its path from the root."""
        return (self.root / path).read_bytes()

    def has(self, path: str) -> bool:
        """Tell whether there is a file with this path from the root."""
        return f"{ROOT}/{path}" in self.blobs


def find_selftests(source: Source, tree: str) -> SelftestFiles:
    """Return the self-tests in a state of a source, patched or not. Writes no work tree.

    Raises `UsageError` when it has none.
    """
    store = source.store
    index = store.folder / f"{_WORK}.{os.getpid()}.index"
    listing = store.git(["ls-tree", "-r", "-z", tree, "--", *_PARTS]).stdout
    if f"\t{ROOT}/".encode() not in listing:
        raise UsageError(f"{source.origin} has no self-tests: there is no {ROOT} in it")
    try:
        store.git(["update-index", "-z", "--index-info"], index=index, stdin=listing)
        return SelftestFiles(source, store.write_tree(index))
    finally:
        index.unlink(missing_ok=True)


@contextmanager
def checked_out(files: SelftestFiles, listener: Listener) -> Iterator[SelftestFiles]:
    """Hold the work tree of the self-tests, with this state of them in it."""
    lock = files.source.cache / "locks" / f"{_WORK}-{files.source.family}.lock"
    with locked(lock, listener, f"the self-tests of {files.source.origin}"):
        files.store.set_tree(files.tree)
        yield files


def normalized(collection: str, path: str) -> str | None:
    """Return a path that a collection's Makefile names, from the root; None outside of that."""
    parts: list[str] = []
    for part in PurePosixPath(collection, path).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts)


@dataclass(frozen=True)
class Collection:
    """A folder of self-tests and what its Makefile names there.

    `scripts` run as they are; `programs` are compiled tests; `helpers` are
    compiled for tests to run; `extended` are run only by their names, because
    they want arguments or hardware; `includes` are files elsewhere that tests
    read.
    """

    name: str
    scripts: tuple[str, ...]
    programs: tuple[str, ...]
    helpers: tuple[str, ...]
    extended: tuple[str, ...]
    includes: tuple[str, ...]

    @property
    def tests(self) -> tuple[str, ...]:
        """What kselftest runs, in its order."""
        return (*self.programs, *self.scripts)

    @property
    def built(self) -> frozenset[str]:
        """Everything that is compiled."""
        return frozenset((*self.programs, *self.helpers))


@dataclass(frozen=True)
class Selftest:
    """One test: a script or a program of a collection."""

    collection: Collection
    name: str

    @property
    def path(self) -> str:
        """Its path from the root of the self-tests."""
        return f"{self.collection.name}/{self.name}"


def read_collection(files: SelftestFiles, name: str) -> Collection:
    """Return what a collection's Makefile names; the caller has the files checked out.

    Raises `LabError` when make cannot read it on this machine.
    """
    make = ["make", "-s", "--no-print-directory", "-C", str(files.root / name), "-f", "Makefile"]
    environment = {**build_environment(), "MAKEFLAGS": None, "MAKELEVEL": None}
    try:
        asked = [*make, "-f", str(_LIST), f"OUTPUT={_OUTPUT}", "linklab-list"]
        text = run(asked, env=environment).text
    except CommandFailed as error:
        raise LabError(f"the Makefile of {ROOT}/{name} cannot be read", error.evidence) from error
    pairs = [line.partition(" ")[::2] for line in text.splitlines()]

    def named(*variables: str) -> tuple[str, ...]:
        found = (word for name in variables for variable, word in pairs if variable == name)
        return tuple(dict.fromkeys(word.removeprefix(f"{_OUTPUT}/") for word in found))

    return Collection(
        name=name,
        scripts=named("TEST_PROGS"),
        programs=named("TEST_GEN_PROGS", "TEST_CUSTOM_PROGS"),
        helpers=named("TEST_GEN_FILES", "TEST_GEN_PROGS_EXTENDED"),
        extended=named("TEST_PROGS_EXTENDED", "TEST_GEN_PROGS_EXTENDED"),
        includes=named("TEST_INCLUDES", "TEST_FILES"),
    )


def choose_tests(files: SelftestFiles, words: Sequence[str]) -> list[Selftest]:
    """Return the tests that words mean, each once: `net/tls`, `net`, `net/forwarding/x.sh`.

    `net:tls`, as kselftest writes it, is the same. The caller has the files
    checked out. Raises `UsageError` for a word that means none, with similar ones.
    """
    chosen: dict[str, Selftest] = {}

    @cache
    def collection(name: str) -> Collection:
        return read_collection(files, name)

    for word in words:
        wanted = word.strip().removeprefix(f"{ROOT}/").replace(":", "/").strip("/")
        if wanted in files.collections:
            tests = [Selftest(collection(wanted), name) for name in collection(wanted).tests]
            if not tests:
                raise UsageError(f"{word} has no tests: its Makefile names none")
        else:
            tests = [_one(files, word, wanted, collection)]
        chosen.update((test.path, test) for test in tests)
    return list(chosen.values())


def _one(
    files: SelftestFiles, word: str, wanted: str, collection: Callable[[str], Collection]
) -> Selftest:
    folder, _, name = wanted.rpartition("/")
    said = f"there is no self-test {word!r}"
    if folder in files.collections:
        found = collection(folder)
        if name in found.tests or name in found.extended:
            return Selftest(found, name)
        if name in found.built:
            said = f"{word} is compiled for other tests to run, and no test by itself"
        elif files.has(wanted):
            said = f"{word} is a file of {folder} and no test: "
            said += "its Makefile does not name it as one"
    raise UsageError(f"{said}{_near(files, wanted)}")


def _near(files: SelftestFiles, wanted: str) -> str:
    """Return what a person may have meant, as the end of a sentence."""
    paths = [path for path in map(PurePosixPath, files.below("")) if path.suffix in _SOURCES]
    tests = [
        str(path).removesuffix(".c") for path in paths if str(path.parent) in files.collections
    ]
    others = [name for name in (*files.collections, *tests) if name != wanted]
    if found := difflib.get_close_matches(wanted, others, n=_NEAR, cutoff=0.6):
        return f"; near are {', '.join(found)}"
    return ": a collection, such as net, or a test of one, such as net/rtnetlink.sh, is expected"
