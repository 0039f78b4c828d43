"""The options that a collection's tests want of a kernel, as a fragment for one without modules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linklab.errors import UsageError
from linklab.host.cache import Cache, key_of, reporting, write_whole
from linklab.kernel.kconfig import Unmet, merge, parse_config, read_fragment, unmet
from linklab.paths import IMAGES
from linklab.selftests.checkout import Checkout

COMMON = IMAGES / "selftest" / "kernel.config"
"""What tests presuppose beyond the files beside them."""

_MODULE = re.compile(r"^(CONFIG_\w+)=m\s*$")
_OPTION = re.compile(r"^(?:CONFIG_\w+=\S+|# CONFIG_\w+ is not set)")
_NAME = "config"


@dataclass(frozen=True)
class Wanted:
    """The fragments that a collection's tests want; `origin` is the kernel's own file of them."""

    fragments: tuple[Path, ...]
    origin: str

    def missing(self, config: Path | None) -> list[Unmet]:
        """Return the options that a finished config does not have; nothing where it is unknown."""
        if config is None:
            return []
        wishes = [wish for path in self.fragments for wish in read_fragment(path, users=True)]
        return unmet(merge(wishes), parse_config(config.read_text()))


def wanted_by(checkout: Checkout, collection: str, cache: Cache) -> Wanted:
    """Return what a collection's tests want of a kernel; its files are checked out.

    Its own `config`, or that of the collection it lies in. Raises `UsageError`
    for one that makes no sense.
    """
    folder = collection
    while folder and not checkout.has(f"{folder}/{_NAME}"):
        folder = folder.rpartition("/")[0]
    if not folder:
        return Wanted((COMMON,), "")
    text = built_in(checkout.read(f"{folder}/{_NAME}").decode(errors="replace"))
    path = cache.root / "selftests" / f"{folder.replace('/', '_')}-{key_of({'text': text})}.config"
    with reporting(cache.root):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    try:
        read_fragment(path, users=True)
    except UsageError as error:
        raise UsageError(f"{folder}/{_NAME} of the self-tests: {error.message}") from error
    return Wanted((COMMON, path), f"{folder}/{_NAME}")


def built_in(text: str) -> str:
    """Return a fragment with its modules built in; what is no option is left out."""
    lines = []
    for line in text.splitlines():
        if module := _MODULE.match(line.strip()):
            lines.append(f"{module[1]}=y")
        elif _OPTION.match(line.strip()):
            lines.append(line.strip())
    return "".join(f"{line}\n" for line in lines)


def said_of(missing: Sequence[Unmet], kernel: str) -> str:
    """Return in one line which options a kernel lacks."""
    names = ", ".join(entry.wish.option for entry in missing)
    return f"kernel {kernel} lacks {len(missing)} options that the tests would like: {names}"
