"""Debian packages as files: found and fetched with the user's own rights, never installed.

apt's lists of this machine are used where they are there and know the package.
Where they do not, or are so old that the archive has the package no more, the
lab keeps lists of its own in the cache; apt needs no root for that.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linklab.errors import LabError
from linklab.events import Listener, Note, step
from linklab.host.run import CommandFailed, run

_FETCH_LIMIT = 1800.0  # s; a full kernel's package is 100 MB
_UPDATE_LIMIT = 600.0


@dataclass(frozen=True)
class Package:
    """A package that can be fetched: `depends` are the names it needs, alternatives left out."""

    name: str
    version: str
    sha256: str
    depends: tuple[str, ...] = field(default=())


class Archive:
    """What apt can fetch on this machine, seen without root."""

    def __init__(self, folder: Path, listener: Listener, root: Path = Path("/")) -> None:
        self._folder = folder
        self._listener = listener
        self._system_lists = root / "var/lib/apt/lists"
        self._configuration = root / "etc/apt"
        self._own_lists = _time(folder / "lists") > _time(self._system_lists)

    def rests_on(self) -> list[Path]:
        """Return what changes when another answer of `find` is to be expected."""
        lists = [self._system_lists, self._folder / "lists"]
        parts = ["sources.list", "sources.list.d", "preferences", "preferences.d"]
        return [*lists, *(self._configuration / name for name in parts)]

    def find(self, name: str) -> Package:
        """Return the version of a package that apt would install.

        Raises `LabError` when there is no apt, or none that knows the package.
        """
        _check_apt()
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

    def fetch(self, package: Package, target: Path) -> None:
        """Put a package's file at `target`; apt checks it against the archive's signature.

        It is of a later version where the one asked for is gone.
        """
        folder = target.with_name(f".{target.name}.fetched")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with step(self._listener, f"fetch {package.name}"):
            try:
                self._download(package, folder)
            except CommandFailed:
                if self._own_lists:
                    raise
                # The archive keeps few old versions: lists of last week name what is gone.
                self._fetch_lists(f"{package.name} {package.version} could not be fetched")
                self._download(self.find(package.name), folder)
            (file,) = folder.glob("*.deb")
            file.replace(target)
        folder.rmdir()

    def _download(self, package: Package, folder: Path) -> None:
        what = f"{package.name}={package.version}"
        # As root apt would become another user, who may not write here.
        argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *self._options(), "download"]
        run([*argv, what], cwd=folder, deadline=_FETCH_LIMIT)

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

    def _options(self) -> Sequence[str]:
        if not self._own_lists:
            return ()
        settings: Mapping[str, Path] = {
            "Dir::State::Lists": self._folder / "lists",
            "Dir::Cache": self._folder / "cache",
        }
        return [word for name, path in settings.items() for word in ("-o", f"{name}={path}")]

    def _fetch_lists(self, why: str) -> None:
        self._listener(Note(f"{why}: fetching lists of the lab's own"))
        self._own_lists = True
        for name in ("lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *self._options(), "update"]
        with step(self._listener, "package lists"):
            run(argv, check=False, deadline=_UPDATE_LIMIT)  # one mirror of several may be away


def _time(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _check_apt() -> None:
    if missing := [name for name in ("apt-get", "apt-cache") if shutil.which(name) is None]:
        raise LabError(
            f"{missing[0]} is not on this machine: packages are fetched with Debian's apt"
        )


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.splitlines():
        if match := re.match(r"([A-Za-z0-9-]+): (.*)", line):
            yield match[1], match[2]


def _depends(line: str) -> Iterator[str]:
    """Yield the names of a `Depends:` field, of alternatives the first one."""
    for entry in line.split(","):
        if match := re.match(r"\s*([a-z0-9][a-z0-9+.-]*)", entry):
            yield match[1]
