"""Self-tests made ready to run: chosen, their kernel's options known, compiled and packed.

What a test needs is taken from its text: a word may be a file of its
collection, a program that is compiled there, a tool of the image. That finds
too much rather than too little, and no test is refused for it.  Every file of a
collection that is not compiled goes into the image, because scripts read one
another; of the compiled ones only those that the chosen tests use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from linklab.errors import UsageError
from linklab.events import Listener, step
from linklab.host.cache import Cache, key_of, reporting, write_whole
from linklab.image.userland import Entry, File, extra_entries, is_available, read_manifest
from linklab.kernel.kconfig import Unmet, merge, parse_config, read_fragment, unmet
from linklab.kernel.source import Source
from linklab.paths import IMAGES
from linklab.selftests.catalogue import (
    ROOT,
    Collection,
    Selftest,
    SelftestFiles,
    checked_out,
    choose_tests,
    find_selftests,
    normalized,
)
from linklab.selftests.programs import STEP, Unbuilt, Workshop, build_headers

IMAGE = IMAGES / "selftest"
PYTHON_IMAGE = IMAGES / "selftest-python"
GUEST_SOURCE = "/linux"
"""Where the files of the source are in a guest: tests in Python look for others of them."""

GUEST_ROOT = f"{GUEST_SOURCE}/{ROOT}"
"""Where the root of the self-tests is in a guest."""

BUILT_IN = "/lib/modules/modules.builtin"
_SOURCES = (".c", ".h", ".S", ".mk", ".o")
_MAKE = ("Makefile", ".gitignore")
_HARNESS = "kselftest"
_PYTHON = "python3"
# What tests in Python import: kselftest's library, the netlink library and its specs.
_FOR_PYTHON = (f"{ROOT}/net/lib/py/", "tools/net/ynl/lib/", "Documentation/netlink/specs/")

_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_COMMENT = re.compile(r"^\s*#(?!!).*$", re.MULTILINE)
# At the beginning of a command: "which" is also a word of comments and messages.
_ASKED = re.compile(
    r"(?:^|[;|&(`!]|\b(?:if|then|do)\s)\s*"
    r"(?:command -[vV]|which|type -[pP]|hash|require_command|check_command|check_tool)\s+"
    r"[\"']?([A-Za-z][A-Za-z0-9_.+-]*)",
    re.MULTILINE,
)
_SHEBANG = re.compile(r"^#!\s*(\S+)(?:\s+(\S+))?")

COMMON = IMAGES / "selftest" / "kernel.config"
"""The options that every test wants."""

_MODULE = re.compile(r"^(CONFIG_\w+)=m\s*$")
_OPTION = re.compile(r"^(?:CONFIG_\w+=\S+|# CONFIG_\w+ is not set)")
_CONFIG = "config"


@dataclass(frozen=True)
class Wanted:
    """The fragments that a collection's tests want; `origin` is the kernel's own file of them."""

    fragments: tuple[Path, ...]
    origin: str

    def missing(self, config: Path | None) -> list[Unmet]:
        """Return the options that a finished config does not have; nothing where it is unknown."""
        if config is None:
            return []
        wishes = [wish for path in self.fragments for wish in read_fragment(path, users=True)]
        return unmet(merge(wishes), parse_config(config.read_text()))


def wanted_by(files: SelftestFiles, collection: str, cache: Cache) -> Wanted:
    """Return what a collection's tests want of a kernel; its files are checked out.

    That is its own `config`, or that of the collection around it. Raises
    `UsageError` for one that makes no sense.
    """
    folder = collection
    while folder and not files.has(f"{folder}/{_CONFIG}"):
        folder = folder.rpartition("/")[0]
    if not folder:
        return Wanted((COMMON,), "")
    text = built_in(files.read(f"{folder}/{_CONFIG}").decode(errors="replace"))
    path = cache.root / "selftests" / f"{folder.replace('/', '_')}-{key_of({'text': text})}.config"
    with reporting(cache.root):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    try:
        read_fragment(path, users=True)
    except UsageError as error:
        raise UsageError(f"{folder}/{_CONFIG} of the self-tests: {error.message}") from error
    return Wanted((COMMON, path), f"{folder}/{_CONFIG}")


def built_in(text: str) -> str:
    """Return a fragment with its modules built in, without the lines that are no option."""
    options = [line.strip() for line in text.splitlines() if _OPTION.match(line.strip())]
    return "".join(_MODULE.sub(r"\1=y", line) + "\n" for line in options)


def said_of(missing: Sequence[Unmet], kernel: str) -> str:
    """Return in one line which options a kernel lacks."""
    names = ", ".join(entry.wish.option for entry in missing)
    return f"kernel {kernel} lacks {len(missing)} options that the tests would like: {names}"


@dataclass(frozen=True)
class Needs:
    """What a test uses: compiled programs, tools, and tools that no image has."""

    programs: frozenset[str]
    tools: frozenset[str]
    unknown: frozenset[str]


@dataclass(frozen=True)
class Toolbox:
    """The tools that images for self-tests can have: Debian's package of each, by command."""

    packages: Mapping[str, str]
    there: frozenset[str]

    def lacking(self, needs: Needs) -> dict[str, str]:
        """Return the tools that a test uses and the image will lack, each with its package.

        The package is empty where none is known, or no image has such a tool.
        """
        missing = (needs.tools | needs.unknown) - self.there
        return {tool: self.packages.get(tool, "") for tool in sorted(missing)}


def read_toolbox(applets: Iterable[str] = ()) -> Toolbox:
    """Return the image's tools and which of them it will have: this host's, and `applets`."""
    programs = read_manifest(PYTHON_IMAGE).programs
    there = {Path(program.command).name for program in programs if is_available(program)}
    packages = {Path(program.command).name: program.package for program in programs}
    return Toolbox(packages, frozenset(there.union(applets, ("modprobe", "udevadm"))))


def _needs_of(test: Selftest, files: SelftestFiles, toolbox: Toolbox) -> Needs:
    """Return what a test uses, with all the scripts that it may read; its files are checked out."""
    built, tools = test.collection.built, toolbox.packages.keys()
    seen, words, asked = set[str](), set[str](), set[str]()
    waiting = [test.name]
    while waiting:
        name = waiting.pop()
        path = normalized(test.collection.name, name)
        if name in seen or path is None or not files.has(path) or _is_source(path):
            continue
        seen.add(name)
        raw = files.read(path).decode(errors="replace")
        text = _COMMENT.sub("", raw)
        found = set(_WORD.findall(text))
        if shebang := _SHEBANG.match(raw):
            found.update(filter(None, shebang.groups()))
        found |= {PurePosixPath(word).name for word in found}
        words |= found
        asked.update(_ASKED.findall(text))
        waiting += sorted(found)
    return Needs(
        programs=built & (words | {test.name}),
        tools=frozenset(tools & words),
        unknown=frozenset(asked - tools - built),
    )


def _static_entries(files: SelftestFiles, collection: Collection, image: Path) -> list[Entry]:
    """Return the files of a collection that are not compiled, and what they include."""
    wanted = [*files.own_files(collection.name), *files.below(_HARNESS)]
    for word in collection.includes:
        path = normalized(collection.name, word)
        if path is not None:
            wanted += [path] if files.has(path) else files.below(path)
    paths = {f"{ROOT}/{path}" for path in wanted if not _is_source(path)}
    if image == PYTHON_IMAGE:
        paths |= {path for path in files.blobs if path.startswith(_FOR_PYTHON)}
    source = files.store.tree
    return list(
        extra_entries({f"{GUEST_SOURCE}/{path}": (source / path).read_bytes() for path in paths})
    )


def _is_source(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.suffix in _SOURCES or pure.name in _MAKE


def built_in_entry(listing: Path | None) -> Entry:
    """Return the kernel's list of what is built in, an empty one where it is not known."""
    return File(BUILT_IN, 0o644, listing.read_bytes() if listing else b"")


@dataclass(frozen=True)
class Ready:
    """A collection's chosen tests, packed.

    `unbuilt` says why programs are missing: tests, or what tests run. `lacking`
    names, by test, the tools that the image lacks, with Debian's package where
    one is known. `settings` is the text of the collection's file.
    """

    collection: Collection
    tests: tuple[Selftest, ...]
    wanted: Wanted
    settings: str | None
    image: Path = IMAGE
    entries: tuple[Entry, ...] = ()
    unbuilt: Mapping[str, Unbuilt] = field(default_factory=dict)
    lacking: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Workplan:
    """The self-tests of one state of a source that were asked for."""

    checkout: SelftestFiles
    tests: tuple[Selftest, ...]

    @property
    def collections(self) -> list[Collection]:
        """The collections of the tests, in their order."""
        return list({test.collection.name: test.collection for test in self.tests}.values())

    def of(self, collection: Collection) -> tuple[Selftest, ...]:
        """Return the chosen tests of a collection."""
        return tuple(test for test in self.tests if test.collection.name == collection.name)


def plan_tests(source: Source, tree: str, words: Sequence[str], listener: Listener) -> Workplan:
    """Return the tests that words mean. Raises `UsageError` for a word that means none."""
    files = find_selftests(source, tree)
    with checked_out(files, listener):
        return Workplan(files, tuple(choose_tests(files, words)))


def config_of(plan: Workplan, collection: Collection, cache: Cache, listener: Listener) -> Wanted:
    """Return what a collection's tests want of their kernel."""
    with checked_out(plan.checkout, listener):
        return wanted_by(plan.checkout, collection.name, cache)


def make_ready(
    plan: Workplan, collection: Collection, toolbox: Toolbox, cache: Cache, listener: Listener
) -> Ready:
    """Compile what a collection's chosen tests need and read all that is packed.

    A program that cannot be compiled is in `unbuilt`; it is no error.
    """
    files, tests = plan.checkout, plan.of(collection)
    with checked_out(files, listener):
        needs = {test.name: _needs_of(test, files, toolbox) for test in tests}
        names = sorted({name for need in needs.values() for name in need.programs})
        wanted = wanted_by(files, collection.name, cache)
        path = f"{collection.name}/settings"
        settings = files.read(path).decode(errors="replace") if files.has(path) else None
        image = PYTHON_IMAGE if any(_PYTHON in need.tools for need in needs.values()) else IMAGE
        static = _static_entries(files, collection, image)
    built: list[Entry] = []
    failed: dict[str, Unbuilt] = {}
    if names:
        with checked_out(files, listener), step(listener, STEP):
            workshop = Workshop(files, build_headers(files, cache, listener), cache, listener)
            for name in names:
                try:
                    program = workshop.build(collection.name, name)
                    path = f"{GUEST_ROOT}/{collection.name}/{name}"  # where tests look for it
                    built.append(File(path, 0o755, program, name))
                except Unbuilt as error:
                    failed[name] = error
    return Ready(
        collection=collection,
        tests=tests,
        wanted=wanted,
        settings=settings,
        image=image,
        entries=(*static, *built),
        unbuilt=failed,
        lacking={test.name: toolbox.lacking(needs[test.name]) for test in tests},
    )


def notes_on(ready: Ready) -> Iterator[str]:
    """Yield what a person should know of tests before they run."""
    names = {test.name for test in ready.tests}
    for name, error in ready.unbuilt.items():
        tail = "" if name in names else "; tests that run it will say so"
        yield f"{error.message}{tail}"
    tools: dict[str, list[str]] = {}
    packages: dict[str, str] = {}
    for test, lacking in ready.lacking.items():
        for tool, package in lacking.items():
            tools.setdefault(tool, []).append(test)
            packages[tool] = package
    for tool, tests in sorted(tools.items()):
        some = ", ".join(tests[:3]) + (f" and {len(tests) - 3} more" if len(tests) > 3 else "")
        package = packages[tool]
        where = f"Debian's package {package} is not installed" if package else "no image has it"
        yield f"{some} may ask for {tool}: {where}"
    if wanted := sorted({packages[tool] for tool in tools if packages[tool]}):
        yield f"as root: apt-get install --no-install-recommends -y {' '.join(wanted)}"
