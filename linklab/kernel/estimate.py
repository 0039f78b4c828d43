"""How many lines make will print: what a progress bar needs to know beforehand.

A first build prints as many as the last first build did.  A later one
recompiles what depends on a file or an option that changed, and kbuild wrote
down, in a `.cmd` file beside each object, what that is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from linklab.host.cache import load_json, save_json
from linklab.kernel.gitstore import GitStore
from linklab.kernel.kbuild import STATE
from linklab.kernel.kconfig import UNSET, parse_config

FIRST_BUILD = 1750
"""Lines of a first build of the lab's config on Linux 6.12."""

TAIL = 40
"""Lines between the last object and the bzImage, whatever changed."""

_OPTION = re.compile(rb"include/config/(\w+)\)")


class Estimate:
    """What a slot remembers of its last build that came to its end."""

    def __init__(
        self, slot: Path, store: GitStore, *, tail: int = TAIL, first: int = FIRST_BUILD
    ) -> None:
        self._slot = slot
        self._store = store
        self._tail = tail
        self._first = first
        self._commands = list(_commands(slot))

    @property
    def first(self) -> bool:
        """Whether nothing was compiled in this slot yet."""
        return not self._commands

    def lines(self, tree: str, config: str) -> int:
        """Return how many lines a build of `tree` with the text of a config will print."""
        full = _number(load_json(self._store.folder / STATE).get("lines")) or self._first
        state = load_json(self._slot / STATE)
        old_tree, old_config = state.get("tree"), state.get("config")
        if not isinstance(old_tree, str) or not isinstance(old_config, dict):
            return max(full - len(self._commands), min(self._tail, full))
        changed = {f"{self._store.tree}/{path}".encode()
                   for path in self._store.changed(old_tree, tree)}  # fmt: skip
        options = set(_changed_options(old_config, parse_config(config)))
        return min(self._rebuilt(changed, options) + self._tail, full)

    def built(self, tree: str, config: str, lines: int) -> None:
        """Remember a build that printed so many lines."""
        if self.first:
            save_json(self._store.folder / STATE, {"lines": lines})
        save_json(self._slot / STATE, {"tree": tree, "config": parse_config(config)})

    def _rebuilt(self, changed: set[bytes], options: set[bytes]) -> int:
        """Return how many objects depend on what changed, and archives on them."""
        if not changed and not options:
            return 0
        objects = 0
        folders: set[Path] = set()
        for path in self._commands:
            content = path.read_bytes()
            if not changed.isdisjoint(content.split()) or not options.isdisjoint(
                _OPTION.findall(content)
            ):
                objects += 1
                folders.update(path.relative_to(self._slot).parents)
        return objects + len(folders)


def _commands(slot: Path) -> Iterator[Path]:
    """Yield what kbuild wrote down about objects, leaving out what configuring alone makes."""
    for folder in sorted(slot.iterdir()) if slot.is_dir() else ():
        if folder.name not in {"scripts", "include"}:
            for where, _, files in os.walk(folder):
                yield from (Path(where, name) for name in files if name.endswith(".cmd"))


def _changed_options(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[bytes]:
    for name in old.keys() | new.keys():
        if old.get(name, UNSET) != new.get(name, UNSET):
            yield name.removeprefix("CONFIG_").encode()


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
