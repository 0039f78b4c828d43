"""An image's initramfs with a kernel's modules in it.

The modules are a cpio archive of their own behind the image's: the kernel
unpacks one after the other. So the image stays as it is, byte for byte, and on
an ISO with several kernels each gets its own modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from linklab import paths
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, hash_file, key_of
from linklab.image.entries import Entry, File, tree_of
from linklab.image.initramfs import ARCHIVE, write_archive
from linklab.kernel.moduletree import Module

MODULES = "modules.cpio"
"""The archive of modules alone; `ARCHIVE` is the image's with it."""

_FORMAT = 1
_LIST = "linklab.load"  # guest/agent/modules.c reads it
_OPTIONAL = "-"
_MTREE = "initramfs.mtree"


def with_modules(
    initramfs: Artefact,
    release: str,
    modules: Sequence[Module],
    cache: Cache,
    listener: Listener,
    templates: Path = paths.TEMPLATES,
) -> Artefact:
    """Return the artefact with an image's archive and these modules, to be loaded in this order.

    `about["modules"]` has the SHA-256 of each by its name.
    """
    hashes = {module.name: sha256(module.content).hexdigest() for module in modules}
    inputs = {
        "format": _FORMAT,
        "image": initramfs.hashes[ARCHIVE],
        "release": release,
        "modules": [[_line(m), hashes[m.name]] for m in modules],
        "template": hash_file(templates / _MTREE),
    }

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "initramfs, with modules"):
            write_archive(tree_of(_entries(release, modules)), folder / MODULES, templates)
            base = initramfs.file(ARCHIVE).read_bytes()
            (folder / ARCHIVE).write_bytes(base + (folder / MODULES).read_bytes())
        return {"inputs": inputs, "modules": hashes}

    what = f"the initramfs with modules of {release}"
    return cache.get("initramfs-modules", key_of(inputs), make, listener, what)


def _entries(release: str, modules: Sequence[Module]) -> list[Entry]:
    folder = f"/lib/modules/{release}"
    files: list[Entry] = [
        File(f"{folder}/{_file(module)}", 0o644, module.content, "modules") for module in modules
    ]
    listed = "".join(f"{_line(module)}\n" for module in modules)
    return [*files, File(f"{folder}/{_LIST}", 0o644, listed.encode())]


def _line(module: Module) -> str:
    return f"{_OPTIONAL if module.optional else ''}{_file(module)}"


def _file(module: Module) -> str:
    return f"{paths.EXTERNAL_MODULES}/{module.name}.ko" if module.external else f"{module.name}.ko"
