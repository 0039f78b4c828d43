"""Which self-tests there are, and which of them a person means.

A collection is a folder of tests with a Makefile; what counts as a test is
what that Makefile says, and make is asked for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from linklab import paths
from linklab.errors import LabError, UsageError
from linklab.host.run import CommandFailed, run
from linklab.kernel.make import build_environment
from linklab.selftests.checkout import ROOT, Checkout

_LIST = paths.IMAGES / "selftest" / "collection.mk"
_OUTPUT = "/out"
_NEAR = 5  # names that an error offers
_SOURCES = (".c", ".sh", ".py")


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
        """What a person calls it."""
        return f"{self.collection.name}/{self.name}"

    @property
    def is_built(self) -> bool:
        """Whether it is compiled."""
        return self.name in self.collection.built


def read_collection(checkout: Checkout, name: str) -> Collection:
    """Return what a collection's Makefile names; the caller has the files checked out.

    Raises `LabError` when make cannot read it on this machine.
    """
    make = ["make", "-s", "--no-print-directory", "-C", str(checkout.root / name)]
    files = ["-f", "Makefile", "-f", str(_LIST)]
    try:
        text = run([*make, *files, f"OUTPUT={_OUTPUT}", "linklab-list"], env=_environment()).text
    except CommandFailed as error:
        raise LabError(f"the Makefile of {ROOT}/{name} cannot be read", error.evidence) from error
    words: dict[str, list[str]] = {}
    for line in text.splitlines():
        variable, _, word = line.partition(" ")
        words.setdefault(variable, []).append(word.removeprefix(f"{_OUTPUT}/"))

    def named(*variables: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for name in variables for word in words.get(name, ())))

    return Collection(
        name=name,
        scripts=named("TEST_PROGS"),
        programs=named("TEST_GEN_PROGS", "TEST_CUSTOM_PROGS"),
        helpers=named("TEST_GEN_FILES", "TEST_GEN_PROGS_EXTENDED"),
        extended=named("TEST_PROGS_EXTENDED", "TEST_GEN_PROGS_EXTENDED"),
        includes=named("TEST_INCLUDES", "TEST_FILES"),
    )


def _environment() -> dict[str, str | None]:
    return {**build_environment(), "MAKEFLAGS": None, "MAKELEVEL": None}


def choose_tests(checkout: Checkout, words: Sequence[str]) -> list[Selftest]:
    """Return the tests that words mean, each once: `net/tls`, `net`, `net/forwarding/x.sh`.

    Also as kselftest writes them, `net:tls`. The caller has the files checked
    out. Raises `UsageError` for a word that means none, with those near it.
    """
    known: dict[str, Collection] = {}
    chosen: dict[str, Selftest] = {}

    def collection(name: str) -> Collection:
        return known.setdefault(name, read_collection(checkout, name))

    for word in words:
        wanted = word.strip().removeprefix(f"{ROOT}/").replace(":", "/").strip("/")
        if wanted in checkout.collections:
            tests = [Selftest(collection(wanted), name) for name in collection(wanted).tests]
            if not tests:
                raise UsageError(f"{word} has no tests: its Makefile names none")
        else:
            tests = [_one(checkout, word, wanted, collection)]
        chosen.update((test.path, test) for test in tests)
    return list(chosen.values())


def _one(
    checkout: Checkout, word: str, wanted: str, collection: Callable[[str], Collection]
) -> Selftest:
    folder, _, name = wanted.rpartition("/")
    if folder not in checkout.collections:
        raise UsageError(f"there is no self-test {word!r}{_near(checkout, wanted)}")
    found = collection(folder)
    if name in found.tests or name in found.extended:
        return Selftest(found, name)
    if name in found.built:
        what = "is compiled for other tests to run, and no test by itself"
    elif checkout.has(wanted):
        what = f"is a file of {folder} and no test: its Makefile does not name it as one"
    else:
        raise UsageError(f"there is no self-test {word!r}{_near(checkout, wanted)}")
    raise UsageError(f"{word} {what}{_near(checkout, wanted)}")


def _near(checkout: Checkout, wanted: str) -> str:
    """Return what somebody may have meant, as the end of a sentence."""
    others = [name for name in _candidates(checkout) if name != wanted]
    found = difflib.get_close_matches(wanted, others, n=_NEAR, cutoff=0.6)
    if not found:
        return (
            ": a collection, such as net, or a test of one, such as net/rtnetlink.sh, is expected"
        )
    return f"; near are {', '.join(found)}"


def _candidates(checkout: Checkout) -> Iterable[str]:
    """Return the collections, and what looks like a test in one."""
    yield from checkout.collections
    known = frozenset(checkout.collections)
    for path in checkout.below(""):
        pure = PurePosixPath(path)
        if pure.suffix in _SOURCES and str(pure.parent) in known:
            yield str(pure.with_suffix("")) if pure.suffix == ".c" else path
