"""Where the sources of a kernel are to be read, for those who look at it with a debugger."""

from __future__ import annotations

from pathlib import Path

from linklab.events import Listener, Note
from linklab.host.cache import Busy, Cache
from linklab.kernel.kernel import KernelSpec, plan


def sources_of(spec: KernelSpec, cache: Cache, listener: Listener) -> tuple[Path, Path]:
    """Return where a flavour's sources were when it was compiled, and where they are now.

    A person's own folder is the place to read and to edit them. Otherwise it
    is the tree in which they were compiled, brought back to the state that was,
    unless a build is at work there: nobody waits minutes for what is likely the
    same.
    """
    planned = plan(spec, cache, listener)
    compiled = planned.source.store.tree
    origin = planned.source.origin
    if origin.is_dir() and not spec.options.patches:
        return compiled, origin
    try:
        with planned.source.building(listener, wait=False):
            planned.source.write(planned.tree, listener)
    except Busy:
        text = f"a build is at work in {compiled}: the sources shown may be of another state"
        listener(Note(text))
    return compiled, compiled
