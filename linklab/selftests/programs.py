"""Self-tests that are compiled: one by one, so that one that fails does not stop the others.

They are compiled against the headers for user space of the source under test:
self-tests use what a kernel defines before any distribution ships it.
"""

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
from linklab.errors import BuildSkipped, LabError
from linklab.events import Listener, StepAdvanced, step
from linklab.host.cache import Artefact, Cache, key_of
from linklab.host.run import CommandFailed, run
from linklab.kernel.make import COMPILER, LINKER, build_environment, check_place, check_tools, jobs
from linklab.selftests.catalogue import HEADER_PARTS, ROOT, SelftestFiles

INCLUDE = "include"
"""The folder of the headers' artefact that a compiler is given."""

PROGRAM = "program"
STEP = "build self-tests"
_PACKAGES = paths.IMAGES / "selftest" / "packages.toml"
_LIMIT = 600.0  # s: some need libbpf; the headers take ten
_SCRIPTS = (".sh", ".py", ".pkt")
_PARTS = ("tools/", "Documentation/")

_NO_HEADER = re.compile(r"fatal error: (\S+): No such file")
_NO_LIBRARY = re.compile(r"cannot find -l(\S+?):? ")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")
_ERROR = re.compile(r"^.*\b(?:error|undefined reference)\b.*$", re.MULTILINE)
_NO_PROGRAM = re.compile(r"(?:/bin/sh: \d+: |make(?:\[\d+\])?: )(\S+): (?:not found|No such file)")


def build_headers(files: SelftestFiles, cache: Cache, listener: Listener) -> Artefact:
    """Return the artefact with the headers of a state of a source, in `include/`.

    The files are checked out. Raises `BuildSkipped` when the
    source does not give any, `LabError` when this machine cannot install them.
    """
    parts = {path: name for path, name in files.blobs.items() if path.startswith(HEADER_PARTS)}

    def make(folder: Path) -> Mapping[str, Any]:
        check_tools()
        check_place(files.store.folder)
        work = folder / "work"
        work.mkdir()
        argv = ["make", "-C", str(files.store.tree), f"O={work}", f"-j{jobs()}", "headers"]
        with step(listener, "install the kernel's headers"):
            try:
                run(argv, env=build_environment(), deadline=_LIMIT)
            except CommandFailed as error:
                raise BuildSkipped(
                    f"the headers of {files.source.origin} cannot be installed", error.evidence
                ) from error
            unwanted = shutil.ignore_patterns(".*", "Makefile")
            shutil.copytree(work / "usr" / "include", folder / INCLUDE, ignore=unwanted)
            shutil.rmtree(work)
        return {"tree": files.tree}

    key = key_of({"schema": 1, "parts": parts})
    return cache.get("headers", key, make, listener, "the kernel's headers")


class Unbuilt(LabError):
    """A program that this machine cannot compile, or that does not compile."""


@dataclass(frozen=True)
class Workshop:
    """What programs are compiled with; the files are checked out."""

    files: SelftestFiles
    headers: Artefact
    cache: Cache
    listener: Listener

    @cached_property
    def tools(self) -> list[str]:
        """The versions of compiler and linker, as they print them."""
        return [run([tool, "--version"]).text.partition("\n")[0] for tool in (COMPILER, LINKER)]

    def build(self, collection: str, name: str) -> Path:
        """Return a program of a collection, compiled. Raises `Unbuilt` with the reason."""
        what = f"{collection}/{name}"
        inputs = {
            "schema": 1,
            "name": what,
            "headers": self.headers.key,
            "tools": self.tools,
            "sources": self._sources(collection),
        }

        def make(folder: Path) -> Mapping[str, Any]:
            self.listener(StepAdvanced(STEP, 0, what))
            self._make(collection, name, folder)
            return {"inputs": inputs}

        made = self.cache.get("selftest", key_of(inputs), make, self.listener, what)
        return made.file(PROGRAM)

    def _sources(self, collection: str) -> dict[str, str]:
        """Return the files that a program may be made of: no scripts, no other collections."""
        own = {f"{ROOT}/{path}" for path in self.files.own_files(collection)}
        return {
            path: content
            for path, content in self.files.blobs.items()
            if not path.endswith(_SCRIPTS) and (path in own or _is_shared(path))
        }

    def _make(self, collection: str, name: str, folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        argv = ["make", "-C", str(self.files.root / collection), f"CC={COMPILER}", f"OUTPUT={work}"]
        argv += [f"KHDR_INCLUDES=-isystem {self.headers.file(INCLUDE)}", str(work / name)]
        try:
            run(argv, env=build_environment(), deadline=_LIMIT)
        except CommandFailed as error:
            raise _unbuilt(f"{collection}/{name}", error) from error
        shutil.move(work / name, folder / PROGRAM)
        shutil.rmtree(work)


def _is_shared(path: str) -> bool:
    """Tell whether all collections use a file: the harness, the tools' headers and libraries."""
    if path.startswith(f"{ROOT}/"):
        return str(PurePosixPath(path).parent) == ROOT
    return path.startswith(_PARTS)


def _unbuilt(path: str, error: CommandFailed) -> Unbuilt:
    if lacking := missing_in(error.evidence):
        text = f"{path} cannot be compiled here: there is no {', '.join(sorted(lacking))}"
        if known := " ".join(packages_of(lacking)):
            text += f": as root, type `apt-get install --no-install-recommends -y {known}`"
    else:
        first = _ERROR.search(error.evidence)
        text = f"{path} does not compile{f': {first[0].strip()}' if first else ''}"
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
