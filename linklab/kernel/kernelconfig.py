"""The finished config of a kernel: tinyconfig, the fragments on top, and the check.

Kconfig takes seconds to run, because it asks the compiler what it can do.  Its
answer depends on little, so it is kept beside the source: the files that make
up Kconfig, the tools and the fragments name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from linklab.events import Listener, step
from linklab.host.cache import key_of, write_whole
from linklab.kernel.gitstore import GitStore
from linklab.kernel.kbuild import Work
from linklab.kernel.kconfig import Wish, check, overlay, parse_config
from linklab.kernel.kconfig_reasons import explain
from linklab.kernel.make import run_make

_DRAFT = "config.draft"


@dataclass(frozen=True)
class ConfigInputs:
    """What a config is made of. `tools` are the versions of compiler and linker."""

    tree: str
    tools: Sequence[str]
    wishes: Mapping[str, Wish]
    source: str


def finish_config(
    inputs: ConfigInputs, store: GitStore, work: Work, log: Path, listener: Listener
) -> str:
    """Return the finished config, checked; the work tree holds `inputs.tree`.

    Raises `UsageError` or `BuildSkipped` for options that did not hold.
    """
    base = {"kconfig": _kconfig_files(store, inputs.tree), "tools": list(inputs.tools)}
    wished = [[wish.option, wish.value] for wish in inputs.wishes.values()]
    kept = store.folder / "configs"
    finished = kept / key_of({**base, "wishes": wished})
    if not finished.exists():
        tiny = kept / key_of({**base, "wishes": []})
        with step(listener, "configure the kernel"):
            if not tiny.exists():
                write_whole(tiny, _configured("", "tinyconfig", work, log))
            draft = overlay(tiny.read_text(), inputs.wishes)
            write_whole(finished, _configured(draft, "olddefconfig", work, log))
    text = finished.read_text()
    options = parse_config(text)

    check(inputs.wishes, options, partial(explain, store.tree, options), inputs.source)
    return text


def write_config(work: Work, text: str) -> None:
    """Put the config into the slot; leave an equal one alone, because make goes by its time."""
    path = work.slot.folder / ".config"
    if not path.exists() or path.read_text() != text:
        write_whole(path, text)


def _configured(draft: str, target: str, work: Work, log: Path) -> str:
    """Return what one of Kconfig's targets makes of a draft.

    In a file of its own: the `.config` in place must not change its time.
    """
    path = work.slot.folder / _DRAFT
    path.write_text(draft)
    run_make(work, [f"KCONFIG_CONFIG={path}", target], log)
    text = path.read_text()
    for left in (path, path.with_name(f"{_DRAFT}.old")):
        left.unlink(missing_ok=True)
    return text


def _kconfig_files(store: GitStore, tree: str) -> str:
    """Return a name for everything in a tree that Kconfig reads or runs."""
    return key_of({path: name for path, name in store.files(tree) if _is_kconfig(path)})


def _is_kconfig(path: str) -> bool:
    if path.startswith(("scripts/", "kernel/configs/", "arch/x86/configs/")):
        return True
    name = PurePosixPath(path).name
    return name.startswith("Kconfig") or path in {"Makefile", "arch/x86/Makefile"}
