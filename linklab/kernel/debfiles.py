"""Debian packages on their way into the cache: what apt said of them, and their files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linklab.events import Listener
from linklab.host.answers import Answers
from linklab.host.cache import Cache, reporting
from linklab.host.debs import Archive, Package


def archive_of(cache: Cache, listener: Listener) -> Archive:
    """Return what apt can fetch, the lab's own lists kept in the cache."""
    return Archive(cache.root / "apt", listener)


def known_package(name: str, archive: Archive, cache: Cache) -> Package:
    """Return what apt says of a package, asked again only when its lists are others.

    Raises what `Archive.find` does.
    """

    def ask() -> tuple[Any, list[Path]]:
        return asdict(archive.find(name)), archive.rests_on()

    known = dict(Answers(cache).get(f"package {name}", ask))
    return Package(**{**known, "depends": tuple(known["depends"])})


@contextmanager
def downloaded(package: Package, archive: Archive, cache: Cache) -> Iterator[Path]:
    """Yield a package's file, which is gone afterwards; see `Archive.fetch`."""
    scratch = cache.root / "tmp"
    with reporting(cache.root):
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            file = Path(folder) / f"{package.name}.deb"
            archive.fetch(package, file)
            yield file
