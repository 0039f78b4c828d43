"""One kernel compiled: its source set, its config finished, make run, its files kept.

As little as possible is done twice.  Kconfig's answer, which takes seconds
because Kconfig asks the compiler what it can do, is kept beside the source,
under all that it depends on.  A flavour has a slot of its own in each family of
sources.  A person's fragments get another one, copied from the flavour's: going
from one config to the next and back recompiles what depends on the options
between them, in one slot every time, in two slots once.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from linklab.events import Listener, Note, StepAdvanced, step
from linklab.host.cache import discard, drafted, key_of, load_json, save_json, write_whole
from linklab.host.run import run
from linklab.kernel.compilerwarnings import CompilerWarning, remember
from linklab.kernel.extmodule import PACKED, pack_build
from linklab.kernel.gitstore import GitStore
from linklab.kernel.kconfig import UNSET, Wish, check, overlay, parse_config
from linklab.kernel.kconfig_reasons import explain
from linklab.kernel.make import (
    COMPILER,
    MARKER,
    STATE,
    STEP_LINE,
    Slot,
    Work,
    check_place,
    check_tools,
    jobs,
    run_make,
    working_in,
)
from linklab.kernel.modules import BUILTIN, BUILTIN_INFO, FolderStore, write_zip
from linklab.kernel.source import Source

BZIMAGE = "bzImage"
VMLINUX = "vmlinux"
SYMBOLS = "vmlinux.debug"
CONFIG = "config"
SYSTEM_MAP = "System.map"
BUILT_IN = BUILTIN
MODULES = "modules.zip"
LOG = "build.log"

KEPT = 4
"""How many slots of persons' configs a family keeps: each takes about 200 MB."""

FIRST_BUILD = 1750
"""Lines of a first build of the lab's config on Linux 6.12."""

TAIL = 40
"""Lines between the last object and the bzImage, whatever changed."""

_DRAFT = "config.draft"
_NAMED_MODULES = 5
_OPTION = re.compile(rb"include/config/(\w+)\)")


@dataclass(frozen=True)
class BuildPlan:
    """A kernel to build: its state of the source, patched or not, its config and its key.

    `inputs` names all that goes into it, the versions of compiler and linker as `tools`.
    """

    source: Source
    tree: str
    flavour: str
    wishes: Mapping[str, Wish]
    compression: str
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of the finished kernel in the cache."""
        return key_of(self.inputs)


def compile_kernel(
    plan: BuildPlan, folder: Path, log: Path, listener: Listener
) -> Mapping[str, Any]:
    """Compile a kernel and put it into `folder`; return what to keep about it.

    The caller holds the source's family.  Objects of earlier builds are used
    again.  The log moves into the folder when all went well and stays where it
    is otherwise.  Raises what `build_kernel` does.
    """
    check_tools(plan.compression)
    check_place(plan.source.store.folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    plan.source.write(plan.tree, listener)
    slot = _slot_for(plan, listener)
    with working_in(slot) as work:
        config = _finished_config(plan, work, log, listener)
        write_config(work, config)
        options = parse_config(config)
        if modules := [name for name, value in options.items() if value == "m"]:
            some = ", ".join(modules[:_NAMED_MODULES])
            more = " ..." if len(modules) > _NAMED_MODULES else ""
            text = "options that are modules, which the guest gets if the scenario needs them"
            listener(Note(f"{text} or --module names them: {some}{more}"))
        warnings = _make(work, plan, config, log, listener)
    _keep(slot, folder, options)
    shutil.move(log, folder / LOG)
    release = (slot.folder / "include/config/kernel.release").read_text().strip()
    return {
        "release": release,
        "inputs": dict(plan.inputs),
        "flavour": plan.flavour,
        "warnings": [warning.to_json() for warning in warnings],
    }


def _is_modular(options: Mapping[str, str]) -> bool:
    return options.get("CONFIG_MODULES") == "y"


def _make(
    work: Work, plan: BuildPlan, config: str, log: Path, listener: Listener
) -> list[CompilerWarning]:
    estimate = Estimate(work.slot.folder, plan.source.store)
    name, total = f"build kernel {plan.flavour}", estimate.lines(plan.tree, config)
    # A first build would fill ccache at the price of a third more time.
    env = {} if estimate.first else _ccache_environment(plan.source.store.folder)
    targets = ["bzImage", "modules"] if _is_modular(parse_config(config)) else ["bzImage"]
    said: list[str] = []
    done = 0

    def each_line(line: str) -> None:
        nonlocal done
        said.append(line)
        if match := STEP_LINE.match(line):
            done += 1  # it may be more than was estimated; the bar is full when all is done
            listener(StepAdvanced(name, min(done, total - 1), f"{match[1]} {match[2]}"))

    try:
        with step(listener, name, total=total):
            # Each object's output in one piece: it says whose a warning is.
            run_make(work, [f"-j{jobs()}", "-Otarget", *targets], log, each_line, env)
            listener(StepAdvanced(name, total))
        estimate.built(plan.tree, config, done)
    finally:  # also of a build that failed: what it made stays made
        warnings = remember(work.slot.folder, said, work.slot.tree)
    return warnings


def _keep(slot: Slot, folder: Path, options: Mapping[str, str]) -> None:
    """Copy what is worth keeping; with the list of what would be modules elsewhere.

    The vmlinux that boots goes without its symbols, because QEMU reads all of
    it. One with symbols and debug information lies beside it, for people and
    debuggers; compressed, because its hash is checked with every use. Of a
    modular kernel also the modules, and what others are compiled against.
    """
    made = slot.folder
    shutil.copyfile(made / "arch/x86/boot/bzImage", folder / BZIMAGE)
    shutil.copyfile(made / ".config", folder / CONFIG)
    shutil.copyfile(made / "System.map", folder / SYSTEM_MAP)
    if (made / BUILT_IN).exists():
        shutil.copyfile(made / BUILT_IN, folder / BUILT_IN)
    run(["strip", "-s", "-o", folder / VMLINUX, made / "vmlinux"])
    if options.get("CONFIG_DEBUG_INFO") == "y":
        compress = "--compress-debug-sections=zlib"
        run(["objcopy", compress, made / "vmlinux", folder / SYMBOLS])
    if _is_modular(options):
        store = FolderStore(made)
        names = (BUILTIN, BUILTIN_INFO, *store.built())
        write_zip(folder / MODULES, ((name, store.read(name)) for name in names))
        pack_build(slot.tree, made, folder / PACKED)


# The config: tinyconfig, the fragments on top, and the check


def _finished_config(plan: BuildPlan, work: Work, log: Path, listener: Listener) -> str:
    """Return the finished config, checked; the work tree holds the plan's.

    Raises `UsageError` or `BuildSkipped` for options that did not hold.
    """
    store = plan.source.store
    read = {path: name for path, name in store.files(plan.tree) if _is_kconfig(path)}
    base = {"kconfig": key_of(read), "tools": list(plan.inputs["tools"])}
    wished = [[wish.option, wish.value] for wish in plan.wishes.values()]
    kept = store.folder / "configs"
    finished = kept / key_of({**base, "wishes": wished})
    if not finished.exists():
        tiny = kept / key_of({**base, "wishes": []})
        with step(listener, "configure the kernel"):
            if not tiny.exists():
                write_whole(tiny, _configured("", "tinyconfig", work, log))
            draft = overlay(tiny.read_text(), plan.wishes)
            write_whole(finished, _configured(draft, "olddefconfig", work, log))
    text = finished.read_text()
    options = parse_config(text)
    check(plan.wishes, options, partial(explain, store.tree, options), str(plan.source.origin))
    return text


def _is_kconfig(path: str) -> bool:
    """Tell whether Kconfig reads or runs a file."""
    if path.startswith(("scripts/", "kernel/configs/", "arch/x86/configs/")):
        return True
    name = PurePosixPath(path).name
    return name.startswith("Kconfig") or path in {"Makefile", "arch/x86/Makefile"}


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


def write_config(work: Work, text: str) -> None:
    """Put the config into the slot; leave an equal one alone, because make goes by its time."""
    path = work.slot.folder / ".config"
    if not path.exists() or path.read_text() != text:
        write_whole(path, text)


# The slot


def _slot_for(plan: BuildPlan, listener: Listener) -> Slot:
    """Return the slot for a flavour and what a person added to its config.

    The caller holds the family: a new slot is filled, and old ones are removed.
    """
    own = sorted([wish.option, wish.value] for wish in plan.wishes.values() if wish.users)
    stock = plan.source.obj(plan.flavour)
    tree = plan.source.store.tree
    if not own:
        return Slot(stock, tree)
    folder = plan.source.obj(f"{plan.flavour}-{key_of({'options': own})[:8]}")
    if not folder.exists():
        if (stock / STATE).exists() and not (stock / MARKER).exists():
            with step(listener, "copy the objects of the nearest build"), drafted(folder) as draft:
                shutil.copytree(stock, draft, symlinks=True)  # with their times: make goes by them
        others = [path for path in folder.parent.glob("[!.]*-????????") if path != folder]
        for path in sorted(others, key=_last_built, reverse=True)[KEPT - 1 :]:
            discard(path)
    return Slot(folder, tree)


def _last_built(slot: Path) -> int:
    state = slot / STATE
    return state.stat().st_mtime_ns if state.exists() else 0


class Estimate:
    """How many lines make will print: what a progress bar needs to know beforehand.

    A first build prints as many as the last first build did.  A later one
    recompiles what depends on a file or an option that changed, and kbuild
    wrote down, in a `.cmd` file beside each object, what that is.
    """

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
        full = load_json(self._store.folder / STATE).get("lines")
        full = full if full and isinstance(full, int) else self._first
        state = load_json(self._slot / STATE)
        old_tree, old = state.get("tree"), state.get("config")
        if not isinstance(old_tree, str) or not isinstance(old, dict):
            return max(full - len(self._commands), min(self._tail, full))
        changed = {f"{self._store.tree}/{path}".encode()
                   for path in self._store.changed(old_tree, tree)}  # fmt: skip
        new = parse_config(config)
        options = {
            name.removeprefix("CONFIG_").encode()
            for name in old.keys() | new.keys()
            if old.get(name, UNSET) != new.get(name, UNSET)
        }
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


def _ccache_environment(family: Path) -> dict[str, str]:
    """Return what brings ccache into make, where it is installed.

    It comes in through PATH, as a link named like the compiler, not through
    `CC`: kbuild compiles everything again when the command line changes, so
    this way a build can use it or not as suits. Measured on net/ of Linux
    6.12, in CPU seconds: 122 without, 161 with an empty ccache, 6 with a full
    one.  So a first build does without, and a rebuild, which often goes back
    to something that was there before, has it.

    Whatever the user set for himself, ccache must not change what is compiled:
    with a base directory, `__FILE__` would no longer match the kernel's own
    `-fmacro-prefix-map`, and the kernel would differ from a first build's.
    """
    program = shutil.which("ccache")
    if program is None:
        return {}
    links = family / "ccache"
    links.mkdir(exist_ok=True)
    link = links / COMPILER
    if not link.is_symlink() or link.readlink() != Path(program):
        with suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(program)
    path = os.environ.get("PATH", os.defpath)
    env = {"PATH": f"{links}:{path}", "CCACHE_BASEDIR": "", "CCACHE_SLOPPINESS": ""}
    if own := os.environ.get("CCACHE_DIR"):  # make works in other folders
        env["CCACHE_DIR"] = str(Path(own).absolute())
    return env
