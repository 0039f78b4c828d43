"""The self-tests of one state of a source, in a work tree of their own.

The tree that kernels are compiled in is held for minutes; the tests' files are
wanted meanwhile. So they have a second, smaller work tree beside it, which the
same repository fills.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from linklab.errors import UsageError
from linklab.events import Listener
from linklab.host.cache import locked
from linklab.kernel.gitstore import GitStore
from linklab.kernel.source import Source

ROOT = "tools/testing/selftests"
"""Where the self-tests are in a kernel's source."""

HEADER_PARTS = (
    "Kbuild",
    "Makefile",
    "arch/x86/Makefile",
    "arch/x86/Makefile_32.cpu",
    "arch/x86/entry/syscalls",
    "arch/x86/include",
    "arch/x86/tools",
    "include/asm-generic",
    "include/uapi",
    "scripts",
    "usr",
)
"""What the kernel's headers for user space are made of, and with."""

# What tests are made with, too: libbpf, the netlink specs' C library.
_PARTS = (
    ROOT,
    *HEADER_PARTS,
    "tools/arch",
    "tools/build",
    "tools/include",
    "tools/lib",
    "tools/net",
    "tools/scripts",
    "Documentation/netlink/specs",
)
_WORK = "selftests"
_MAKEFILE = "Makefile"


@dataclass(frozen=True)
class Checkout:
    """The self-tests' files. `tree` names their content, whatever the rest of the source is.

    Whoever uses the files on disk is in `checked_out`.
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
    def files(self) -> Mapping[str, str]:
        """Each file's content by name (its object in git), by its path in the source."""
        return dict(self.store.files(self.tree))

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The folders that have tests: those with a Makefile, by their paths below the root."""
        makefiles = (path for path in self.below("") if path.endswith(f"/{_MAKEFILE}"))
        return tuple(sorted(path.removesuffix(f"/{_MAKEFILE}") for path in makefiles))

    def below(self, folder: str) -> list[str]:
        """Return the files below a folder of the self-tests, by their paths from the root."""
        prefix = f"{ROOT}/{folder}/" if folder else f"{ROOT}/"
        return [path[len(ROOT) + 1 :] for path in self.files if path.startswith(prefix)]

    def own_files(self, collection: str) -> list[str]:
        """Return the files of a collection without those of the collections inside it."""
        inner = [name for name in self.collections if name.startswith(f"{collection}/")]
        return [
            path
            for path in self.below(collection)
            if not any(path.startswith(f"{name}/") for name in inner)
        ]

    def read(self, path: str) -> bytes:
        """Return the content of a file by its path from the root; a link's is its target's."""
        return (self.root / path).read_bytes()

    def has(self, path: str) -> bool:
        """Tell whether there is a file with this path from the root."""
        return f"{ROOT}/{path}" in self.files


def find_checkout(source: Source, tree: str) -> Checkout:
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
        return Checkout(source, store.write_tree(index))
    finally:
        index.unlink(missing_ok=True)


@contextmanager
def checked_out(checkout: Checkout, listener: Listener) -> Iterator[Checkout]:
    """Hold the work tree of the self-tests, with this state of them in it."""
    lock = checkout.source.cache / "locks" / f"{_WORK}-{checkout.source.family}.lock"
    with locked(lock, listener, f"the self-tests of {checkout.source.origin}"):
        checkout.store.set_tree(checkout.tree)
        yield checkout


def normalized(collection: str, path: str) -> str | None:
    """Return a path that a collection's Makefile names from the root, None outside of that."""
    parts: list[str] = []
    for part in PurePosixPath(collection, path).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts)
