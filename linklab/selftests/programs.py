"""Self-tests that are compiled: one by one, so that one which cannot be stops no other."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from linklab import paths
from linklab.errors import LabError
from linklab.events import Listener, StepAdvanced
from linklab.host.cache import Artefact, Cache, key_of
from linklab.host.run import CommandFailed, run
from linklab.kernel.make import COMPILER, LINKER, build_environment
from linklab.selftests.checkout import ROOT, Checkout
from linklab.selftests.headers import INCLUDE

PROGRAM = "program"
STEP = "build self-tests"
_PACKAGES = paths.IMAGES / "selftest" / "packages.toml"
_LIMIT = 600.0  # s: libbpf is built for some
_SCRIPTS = (".sh", ".py", ".pkt")
_PARTS = ("tools/", "Documentation/")

_NO_HEADER = re.compile(r"fatal error: (\S+): No such file")
_NO_LIBRARY = re.compile(r"cannot find -l(\S+?):? ")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")
_ERROR = re.compile(r"^.*\b(?:error|undefined reference)\b.*$", re.MULTILINE)
_NO_PROGRAM = re.compile(r"(?:/bin/sh: \d+: |make(?:\[\d+\])?: )(\S+): (?:not found|No such file)")


class Unbuilt(LabError):
    """A program that this machine cannot compile, or that does not compile."""


@dataclass(frozen=True)
class Workshop:
    """What programs are compiled with; the files of `checkout` are checked out."""

    checkout: Checkout
    headers: Artefact
    cache: Cache
    listener: Listener

    @cached_property
    def tools(self) -> list[str]:
        """What compiler and linker call themselves."""
        return [run([tool, "--version"]).text.partition("\n")[0] for tool in (COMPILER, LINKER)]

    def build(self, collection: str, name: str) -> Path:
        """Return a program of a collection, compiled. Raises `Unbuilt` with the reason."""
        inputs = {
            "schema": 1,
            "name": f"{collection}/{name}",
            "headers": self.headers.key,
            "tools": self.tools,
            "sources": self._sources(collection),
        }

        def make(folder: Path) -> Mapping[str, Any]:
            self.listener(StepAdvanced(STEP, 0, f"{collection}/{name}"))
            self._make(collection, name, folder)
            return {"inputs": inputs}

        key, what = key_of(inputs), f"{collection}/{name}"
        return self.cache.get("selftest", key, make, self.listener, what).file(PROGRAM)

    def _sources(self, collection: str) -> dict[str, str]:
        """Return what a program may be made of: all but scripts, and other collections."""
        files = self.checkout.files
        own = {f"{ROOT}/{path}" for path in self.checkout.own_files(collection)}
        return {
            path: content
            for path, content in files.items()
            if PurePosixPath(path).suffix not in _SCRIPTS
            and (path in own or _is_shared(path))
        }  # fmt: skip

    def _make(self, collection: str, name: str, folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        target = work / name
        argv = ["make", "-C", str(self.checkout.root / collection), f"CC={COMPILER}"]
        include = f"KHDR_INCLUDES=-isystem {self.headers.file(INCLUDE)}"
        try:
            run(
                [*argv, f"OUTPUT={work}", include, str(target)],
                env=build_environment(),
                deadline=_LIMIT,
            )
        except CommandFailed as error:
            raise _unbuilt(f"{collection}/{name}", error) from error
        shutil.move(target, folder / PROGRAM)
        shutil.rmtree(work)


def _is_shared(path: str) -> bool:
    """Tell whether a file is for all collections: the harness, the tools' headers and libraries."""
    if path.startswith(f"{ROOT}/"):
        return str(PurePosixPath(path).parent) == ROOT
    return path.startswith(_PARTS)


def _unbuilt(path: str, error: CommandFailed) -> Unbuilt:
    lacking = missing_in(error.evidence)
    if not lacking:
        first = _ERROR.search(error.evidence)
        reason = f": {first[0].strip()}" if first else ""
        return Unbuilt(f"{path} does not compile{reason}", error.evidence)
    known = packages_of(lacking)
    text = f"{path} cannot be compiled here: there is no {', '.join(sorted(lacking))}"
    if known:
        text += f": as root, type `apt-get install --no-install-recommends -y {' '.join(known)}`"
    return Unbuilt(text, error.evidence)


def missing_in(evidence: str) -> set[str]:
    """Return what a build's output says is missing: headers, libraries, programs, modules."""
    libraries = {f"lib{name}" for name in _NO_LIBRARY.findall(evidence)}
    modules = {f"python3-{name}" for name in _NO_MODULE.findall(evidence)}
    headers, programs = _NO_HEADER.findall(evidence), _NO_PROGRAM.findall(evidence)
    return {*headers, *libraries, *modules, *programs}


def packages_of(lacking: set[str]) -> list[str]:
    """Return the Debian packages that bring what is missing, as far as is known."""
    known: Mapping[str, str] = tomllib.loads(_PACKAGES.read_text())["packages"]
    return sorted({known[name] for name in lacking if name in known})
