"""Kernels that are built on a worker: what goes there, what is done there, what comes back.

The source goes as packs of git's objects: all of it once, and of each state of it that is
built, patched or at another commit, what is new in it. The config goes with the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linklab.events import Listener, ignore
from linklab.fleet.parcel import packed
from linklab.host.cache import Cache, Cached, key_of
from linklab.kernel.compile import BuildPlan
from linklab.kernel.kernel import build_planned
from linklab.kernel.source import received

KERNEL = "kernel.tar.zst"
"""The file with the finished kernel, beside what else comes of a part."""

_KIND = "source"
_FIRST = "sent"  # beside a source: the tree of it that was the first to be sent


@dataclass(frozen=True)
class KernelBuild:
    """A kernel to be built on another host; `packs` are of its source. See `Part`."""

    plan: BuildPlan
    packs: tuple[Cached, ...]

    @property
    def lab(self) -> None:
        """Nothing: it boots no guest."""

    @property
    def name(self) -> str:
        """What it is called where it cannot be done."""
        return f"kernel {self.plan.flavour} ({self.plan.key})"

    def events(self, folder: Path) -> Iterator[str]:
        """Build it, put it into the folder, and yield what caches call it."""
        cache = Cache()
        packs = [pack.found() for pack in self.packs]
        source = received(self.plan.source, cache, packs, ignore)
        built = build_planned(replace(self.plan, source=source), cache, ignore)
        name = f"{built.kind}/{built.key}"
        (folder / KERNEL).write_bytes(packed(name, cache.root))
        yield name


def build_of(plan: BuildPlan, cache: Cache, listener: Listener) -> KernelBuild:
    """Return what is sent of a plan, its source packed first where it was not."""
    store = plan.source.store
    note = store.folder / _FIRST
    first = note.read_text() if note.exists() else ""
    if not first or not store.has(first):
        first = plan.source.tree
        note.write_text(first)

    def pack(tree: str, base: str) -> Cached:
        def make(folder: Path) -> Mapping[str, Any]:
            store.pack(tree, base, folder)
            return {"tree": tree, "base": base}

        key = key_of({"tree": tree, "base": base})
        done = cache.get(_KIND, key, make, listener, f"{plan.source.origin}, to be sent")
        return Cached(f"{done.kind}/{done.key}")

    trees = [(first, ""), *([(plan.tree, first)] if plan.tree != first else [])]
    return KernelBuild(plan, tuple(pack(*each) for each in trees))
