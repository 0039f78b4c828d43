"""Which folder of objects a build works in, so that the least is compiled again.

A flavour has a slot of its own in each family of sources.  A person's
fragments get another one, copied from the flavour's: going from one config to
the next and back recompiles what depends on the options between them, in one
slot every time, in two slots once.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from linklab.events import Listener, step
from linklab.host.cache import discard, key_of
from linklab.kernel.kbuild import MARKER, STATE, Slot
from linklab.kernel.kconfig import Wish
from linklab.kernel.source import Source

KEPT = 4
"""How many slots of persons' configs a family keeps: each takes about 200 MB."""


def slot_for(source: Source, flavour: str, wishes: Mapping[str, Wish], listener: Listener) -> Slot:
    """Return the slot for a flavour and what a person added to its config.

    The caller holds the family: a new slot is filled, and old ones are removed.
    """
    own = sorted([wish.option, wish.value] for wish in wishes.values() if wish.users)
    stock = source.obj(flavour)
    if not own:
        return Slot(stock, source.store.tree)
    folder = source.obj(f"{flavour}-{key_of({'options': own})[:8]}")
    if not folder.exists():
        if _is_whole(stock):
            with step(listener, "copy the objects of the nearest build"):
                _copy(stock, folder)
        _remove_oldest(folder.parent, folder)
    return Slot(folder, source.store.tree)


def _is_whole(slot: Path) -> bool:
    return (slot / STATE).exists() and not (slot / MARKER).exists()


def _copy(slot: Path, target: Path) -> None:
    """Copy objects with their times, which make goes by; under its name only when whole."""
    draft = target.with_name(f".{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(slot, draft, symlinks=True)
    draft.rename(target)


def _remove_oldest(folder: Path, new: Path) -> None:
    others = [path for path in folder.glob("[!.]*-????????") if path != new]
    for path in sorted(others, key=_last_built, reverse=True)[KEPT - 1 :]:
        discard(path)


def _last_built(slot: Path) -> int:
    state = slot / STATE
    return state.stat().st_mtime_ns if state.exists() else 0
