"""What a part of a batch rests on, packed to be sent, and unpacked into another host's cache."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from linklab.errors import LabError
from linklab.events import Listener
from linklab.host.cache import MANIFEST, Cache, Cached, fault_of, reporting
from linklab.host.run import run

_PACKING = 600.0  # s for a saved guest's memory, on a host that has much else to do


class _Collector(pickle.Pickler):
    """Notes every artefact that is named by what it pickles."""

    def __init__(self) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, pickle.HIGHEST_PROTOCOL)
        self.names: set[str] = set()

    def persistent_id(self, thing: Any) -> None:
        if isinstance(thing, Cached):
            self.names.add(artefact_of(thing.name))


def artefact_of(name: str) -> str:
    """Return the folder of the cache, `KIND/KEY`, that holds what is called so."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or ".." in parts or parts[0] == "/":
        raise LabError(f"{name!r} is no name of an artefact: KIND/KEY/FILE expected")
    return "/".join(parts[:2])


def _named(name: str) -> tuple[str, str]:
    kind, key = artefact_of(name).split("/")
    return kind, key


def pickled(thing: object) -> tuple[bytes, frozenset[str]]:
    """Return something as it is sent, with the artefacts, `KIND/KEY`, that it rests on."""
    collector = _Collector()
    collector.dump(thing)
    return collector.content.getvalue(), frozenset(collector.names)


def lacking(names: frozenset[str], cache: Cache, listener: Listener) -> frozenset[str]:
    """Return those that a cache lacks, or has not whole."""
    return frozenset(name for name in names if cache.find(*_named(name), listener) is None)


def packed(name: str, root: Path) -> bytes:
    """Return an artefact as bytes; the holes of a saved guest's memory stay holes."""
    # The manifest says what is there; nothing else is sent.
    with reporting(root):
        manifest = json.loads((root / name / MANIFEST).read_text())
    files = [f"./{name}/{file}" for file in (MANIFEST, *manifest["files"])]
    listed = "\0".join(files).encode()
    argv = ["tar", "--create", "--sparse", "--zstd", "--null", "--files-from=-"]
    return run(argv, cwd=root, stdin=listed, deadline=_PACKING).stdout


def unpack(name: str, content: bytes, cache: Cache, listener: Listener) -> None:
    """Put an artefact into the cache, unless it is there by now.

    Raises `LabError` where it is not what its own manifest says, or names a
    path outside of its folder.
    """
    kind, key = _named(name)

    def make(folder: Path) -> Mapping[str, Any]:
        plain = run(["zstd", "-qdc"], stdin=content, deadline=_PACKING).stdout
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isreg() or path.parts[:2] != (kind, key) or ".." in path.parts:
                    raise LabError(f"what was sent as {name} holds {member.name}: refused")
                member.name = str(path.relative_to(f"{kind}/{key}"))
                archive.extract(member, folder, filter="data")
        about: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).unlink()
        if fault := fault_of(folder, about):
            raise LabError(f"{name} {fault}: it was altered on its way")
        del about["files"]  # the cache lists them itself
        return about

    cache.get(kind, key, make, listener, name)
