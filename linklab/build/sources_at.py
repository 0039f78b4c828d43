"""Where the sources of a kernel are to be read, for those who look at it with a debugger."""

from __future__ import annotations

from pathlib import Path

from linklab.build.kernel import KernelSpec, plan
from linklab.events import Listener
from linklab.host.cache import Cache


def sources_of(spec: KernelSpec, cache: Cache, listener: Listener) -> tuple[Path, Path]:
    """Return where a flavour's sources were when it was compiled, and where they are now.

    A person's own folder is the place to read and to edit them. Otherwise it
    is the tree in which they were compiled, brought back to the state that was.
    """
    planned = plan(spec, cache, listener)
    compiled = planned.source.store.tree
    origin = planned.source.origin
    if origin.is_dir() and not spec.options.patches:
        return compiled, origin
    with planned.source.building(listener):
        planned.source.write(planned.tree, listener)
    return compiled, compiled
