"""What goes into an image for self-tests, beside the tools: the tests themselves.

Every file of a collection that is not compiled goes in, because scripts read
one another; of the compiled ones only those that the chosen tests use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from linklab.image.userland import Entry, File, extra_entries, is_available, read_manifest
from linklab.paths import IMAGES
from linklab.selftests.catalogue import Collection, Selftest
from linklab.selftests.checkout import ROOT, Checkout, normalized
from linklab.selftests.needs import Needs, missing_tools, needs_of

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


@dataclass(frozen=True)
class Toolbox:
    """The tools that images for self-tests can have: Debian's package of each, by command."""

    packages: Mapping[str, str]
    there: frozenset[str]

    def lacking(self, needs: Needs) -> dict[str, str]:
        """Return what a test asks for and the image will not have, with its package.

        The package is empty where it is not known, or where the image takes no such tool.
        """
        missing = missing_tools((*needs.tools, *needs.unknown), self.there)
        return {tool: self.packages.get(tool, "") for tool in missing}


def read_toolbox(applets: Iterable[str] = ()) -> Toolbox:
    """Return the tools of the image and which of them this host has; `applets` are there, too."""
    programs = read_manifest(PYTHON_IMAGE).programs
    there = {Path(program.command).name for program in programs if is_available(program)}
    packages = {Path(program.command).name: program.package for program in programs}
    return Toolbox(packages, frozenset(there.union(applets, ("modprobe", "udevadm"))))


def needs_of_test(test: Selftest, checkout: Checkout, toolbox: Toolbox) -> Needs:
    """Return what a test asks for; its files are checked out."""
    collection = test.collection

    def read(name: str) -> str | None:
        path = normalized(collection.name, name)
        if path is None or not checkout.has(path) or _is_source(path):
            return None
        return checkout.read(path).decode(errors="replace")

    return needs_of(test.name, read, collection.built, toolbox.packages)


def image_for(needs: Iterable[Needs]) -> Path:
    """Return the image that tests run in: Python's where one asks for that."""
    return PYTHON_IMAGE if any(_PYTHON in need.tools for need in needs) else IMAGE


def static_entries(checkout: Checkout, collection: Collection, image: Path = IMAGE) -> list[Entry]:
    """Return the files of a collection that are not compiled, and what they include."""
    paths = {f"{ROOT}/{path}" for path in _static_files(checkout, collection)}
    if image == PYTHON_IMAGE:
        paths |= {path for path in checkout.files if path.startswith(_FOR_PYTHON)}
    source = checkout.store.tree
    return list(
        extra_entries({f"{GUEST_SOURCE}/{path}": (source / path).read_bytes() for path in paths})
    )


def _static_files(checkout: Checkout, collection: Collection) -> Iterable[str]:
    wanted = [*checkout.own_files(collection.name), *checkout.below(_HARNESS)]
    for word in collection.includes:
        path = normalized(collection.name, word)
        if path is not None:
            wanted += [path] if checkout.has(path) else checkout.below(path)
    return (path for path in wanted if not _is_source(path))


def _is_source(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.suffix in _SOURCES or pure.name in _MAKE


def program_entry(collection: str, name: str, program: Path) -> Entry:
    """Return a compiled program where its tests look for it."""
    return File(f"{GUEST_ROOT}/{collection}/{name}", 0o755, program, name)


def built_in_entry(listing: Path | None) -> Entry:
    """Return the kernel's list of what is built in, an empty one where it is not known."""
    return File(BUILT_IN, 0o644, listing.read_bytes() if listing else b"")
