"""Debian packages as files: found and fetched with the user's own rights, never installed.

apt's lists of this machine are used where they are there and know the package.
Where they do not, or are so old that the archive has the package no more, the
lab keeps lists of its own in the cache; apt needs no root for that.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linklab.errors import LabError
from linklab.events import Listener, Note, step
from linklab.host.cache import Cache, Remembered
from linklab.host.run import CommandFailed, run

_FETCH_LIMIT = 1800.0  # s; a full kernel's package is 100 MB
_UPDATE_LIMIT = 600.0


@dataclass(frozen=True)
class Package:
    """A package that can be fetched: `depends` are the names it needs, alternatives left out."""

    name: str
    version: str
    sha256: str
    depends: tuple[str, ...] = ()


class Archive:
    """What apt can fetch on this machine, seen without root."""

    def __init__(self, cache: Cache, listener: Listener, root: Path = Path("/")) -> None:
        self._cache = cache
        self._folder = cache.root / "apt"
        self._listener = listener
        self._system_lists = root / "var/lib/apt/lists"
        self._configuration = root / "etc/apt"
        self._own_lists = _time(self._folder / "lists") > _time(self._system_lists)

    def find(self, name: str) -> Package:
        """Return the version of a package that apt would install.

        apt is asked again only when its lists or its configuration are others.
        Raises `LabError` when there is no apt, or none that knows the package.
        """

        def ask() -> tuple[Any, list[Path]]:
            found = asdict(self._found(name))
            parts = ("sources.list", "sources.list.d", "preferences", "preferences.d")
            own = (self._configuration / part for part in parts)
            return found, [self._system_lists, self._folder / "lists", *own]

        known = Remembered(self._cache).get(f"package {name}", ask)
        return Package(**{**known, "depends": tuple(known["depends"])})

    @contextmanager
    def fetched(self, package: Package) -> Iterator[Path]:
        """Yield a package's file, which is gone afterwards.

        apt checks it against the archive's signature. It is of a later version
        where the one asked for is gone.
        """
        with self._cache.scratch() as folder:
            with step(self._listener, f"fetch {package.name}"):
                try:
                    self._download(package, folder)
                except CommandFailed:
                    if self._own_lists:
                        raise
                    # The archive keeps few old versions: older lists name what is gone.
                    self._fetch_lists(f"{package.name} {package.version} could not be fetched")
                    self._download(self._found(package.name), folder)
            (file,) = folder.glob("*.deb")
            yield file.rename(folder / f"{package.name}.deb")

    def _found(self, name: str) -> Package:
        if missing := [one for one in ("apt-get", "apt-cache") if shutil.which(one) is None]:
            raise LabError(
                f"{missing[0]} is not on this machine: packages are fetched with Debian's apt"
            )
        found = self._look(name)
        if found is None and not self._own_lists:
            self._fetch_lists(f"apt's lists do not name {name}")
            found = self._look(name)
        if found is None:
            raise LabError(
                f"apt knows no package {name}: `apt-cache search ^linux-image` lists kernels, "
                "and /etc/apt names where packages come from"
            )
        return found

    def _download(self, package: Package, folder: Path) -> None:
        what = f"{package.name}={package.version}"
        run(self._apt_get("download", what), cwd=folder, deadline=_FETCH_LIMIT)

    def _look(self, name: str) -> Package | None:
        argv = ["apt-cache", *self._options(), "show", "--no-all-versions", name]
        shown = run(argv, check=False)
        if shown.returncode != 0:
            return None
        fields = dict(_fields(shown.text))
        if fields.get("Package") != name or "SHA256" not in fields:
            return None  # a virtual package, or one that is installed and nowhere to be had
        depends = tuple(_depends(fields.get("Depends", "")))
        return Package(name, fields["Version"], fields["SHA256"], depends)

    def _apt_get(self, *words: str) -> list[str]:
        # As root apt would become another user, who may not write here.
        return ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *self._options(), *words]

    def _options(self) -> Sequence[str]:
        if not self._own_lists:
            return ()
        places = {"Dir::State::Lists": "lists", "Dir::Cache": "cache"}
        return [word for name, place in places.items()
                for word in ("-o", f"{name}={self._folder / place}")]  # fmt: skip

    def _fetch_lists(self, why: str) -> None:
        self._listener(Note(f"{why}: fetching lists of the lab's own"))
        self._own_lists = True
        for name in ("lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        with step(self._listener, "package lists"):  # one mirror of several may be away
            run(self._apt_get("update"), check=False, deadline=_UPDATE_LIMIT)


def _time(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.splitlines():
        if match := re.match(r"([A-Za-z0-9-]+): (.*)", line):
            yield match[1], match[2]


def _depends(line: str) -> Iterator[str]:
    """Yield the names of a `Depends:` field, of alternatives the first one."""
    for entry in line.split(","):
        if match := re.match(r"\s*([a-z0-9][a-z0-9+.-]*)", entry):
            yield match[1]
