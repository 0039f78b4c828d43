"""A kernel's modules: where they are, what each says of itself, in which order to load some.

The modules lie in a folder as `make modules_install` leaves it, in a built
kernel tree, or in a zip archive, where the lab keeps those of a package. What
a module says of itself modpost wrote into its section `.modinfo`, as
`key=value` strings; `depends` are the modules whose symbols it uses, so no
symbol has to be looked up again.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from linklab.errors import UsageError
from linklab.host.compression import unpacked
from linklab.host.elf import section_of
from linklab.paths import EXTERNAL_MODULES

BUILTIN, BUILTIN_INFO = "modules.builtin", "modules.builtin.modinfo"
_ORDER, _DEPENDENCIES, _ALIASES = "modules.order", "modules.dep", "modules.alias"
_ADDED = "updates/"
_PACKED = (".xz", ".gz", ".zst")


@dataclass(frozen=True)
class ModInfo:
    """`before` and `after` are soft dependencies: wanted around it, and not at any price.

    `in_tree` says that it came with its kernel. `vermagic` begins with the
    release of the kernel that it was built for.
    """

    depends: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    in_tree: bool = False
    vermagic: str = ""


def canonical(name: str) -> str:
    """Return a module's name as the kernel has it: `-` and `_` are the same."""
    return name.replace("-", "_")


def module_name(path: str) -> str | None:
    """Return the name of the module in a file, or None where that is no module's file."""
    name = PurePosixPath(path).name
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    return canonical(name.removesuffix(".ko")) if name.endswith(".ko") else None


def read_modinfo(module: bytes) -> ModInfo:
    """Return what an unpacked module says of itself. Raises `ValueError` when it is none."""
    section = section_of(module, ".modinfo")
    if section is None:
        raise ValueError("an object file without .modinfo, so no module")
    fields: dict[str, list[str]] = {}
    for key, value in _strings(section):
        fields.setdefault(key, []).append(value)
    soft = [_soft(value) for value in fields.get("softdep", ())]
    depends = ",".join(fields.get("depends", ()))
    return ModInfo(
        depends=tuple(canonical(name) for name in depends.split(",") if name),
        before=tuple(name for before, _ in soft for name in before),
        after=tuple(name for _, after in soft for name in after),
        aliases=tuple(fields.get("alias", ())),
        in_tree="Y" in fields.get("intree", ()),
        vermagic=fields.get("vermagic", [""])[0],
    )


def _soft(line: str) -> tuple[list[str], list[str]]:
    """Return what a `softdep` names before and after: `pre: a b post: c`."""
    found: dict[str, list[str]] = {"pre:": [], "post:": []}
    kind = "pre:"
    for word in line.split():
        if word in found:
            kind = word
        else:
            found[kind].append(word)
    return found["pre:"], found["post:"]


def _aliases_of_builtin(modinfo: bytes) -> dict[str, str]:
    """Return the aliases of what is built in, from the kernel's `modules.builtin.modinfo`.

    There each string begins with the module's name: `dummy.alias=rtnl-link-dummy`.
    """
    return {
        value: canonical(key.removesuffix(".alias"))
        for key, value in _strings(modinfo)
        if key.endswith(".alias")
    }


def _strings(section: bytes) -> Iterator[tuple[str, str]]:
    for entry in section.split(b"\0"):
        key, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            yield key, value


class Store(Protocol):
    """Files by their paths in a modules folder."""

    def names(self) -> Iterable[str]:
        """Return the paths of what may be modules, those that count less first."""

    def read(self, name: str) -> bytes:
        """Return a file's content, nothing for one that is not there."""


@dataclass(frozen=True)
class FolderStore:
    """A folder of installed modules, or a built kernel tree."""

    folder: Path

    def names(self) -> Iterable[str]:
        """Return what the folder's own lists name; without them, what is in it."""
        if listed := self.read(_DEPENDENCIES):
            return [line.partition(":")[0] for line in listed.decode().splitlines()]
        if (self.folder / "Makefile").exists():  # a built tree: too large to walk
            return self.built()
        found = (Path(where) / name for where, _, files in os.walk(self.folder) for name in files)
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def built(self) -> list[str]:
        """Return the modules that a build lists, by `.ko` or, in newer kernels, by `.o`."""
        lines = self.read(_ORDER).decode().splitlines()
        return [f"{line.rpartition('.')[0]}.ko" for line in lines if line]

    def read(self, name: str) -> bytes:
        """Return a file's content, nothing for one that is not there."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b""


@dataclass(frozen=True)
class ZipStore:
    """A modules folder in one file."""

    path: Path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def names(self) -> Iterable[str]:
        """Return all that is in it."""
        return self._archive.namelist()

    def read(self, name: str) -> bytes:
        """Return a file's content, nothing for one that is not there."""
        try:
            return self._archive.read(name)
        except KeyError:
            return b""


def write_zip(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write the archive that `ZipStore` reads."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files:
            add_to_zip(archive, name, content)


def add_to_zip(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file, with the same moment for all: the same files give the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(_PACKED) else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=1)


@dataclass(frozen=True)
class Module:
    """A module to load: its name and its file as the kernel takes it.

    One that is `optional` may refuse to load: a soft dependency, or one of
    several that answer to an alias, of which some want another CPU. One that
    is `external` is not the kernel's own: it is under test itself.
    """

    name: str
    content: bytes = field(repr=False)
    optional: bool = False
    external: bool = False


@dataclass(frozen=True)
class ModuleTree:
    """The modules of one kernel. `origin` is what a person calls their place.

    `external` are those of other folders, which are under test, by their paths.
    """

    release: str
    store: Store
    origin: str
    external: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def builtin(self) -> frozenset[str]:
        """The names of what could have been a module and is part of the kernel."""
        lines = self.store.read(BUILTIN).decode().splitlines()
        return frozenset(name for line in lines if (name := module_name(line)))

    @cached_property
    def _paths(self) -> dict[str, str]:
        # As depmod has it: what was added to a kernel goes before what came with it.
        found = sorted(self.store.names(), key=lambda path: path.startswith(_ADDED))
        paths = [*found, *self.external]
        return {name: path for path in paths if (name := module_name(path))}

    def has(self, name: str) -> bool:
        """Tell whether the kernel has it, built in or as a module."""
        spelt = canonical(name)
        return spelt in self.builtin or spelt in self._paths or bool(self.answering(name))

    def in_order(self, wanted: Sequence[str]) -> tuple[Module, ...]:
        """Return what to load, and in which order, for modules by name or alias.

        What is built in needs no loading. Raises `UsageError` for one that the
        kernel does not have, or whose file is damaged.
        """
        order = _Order(self)
        for name in wanted:
            order.require(name, because=())
        for name in wanted:
            order.add(name)
        return tuple(order.modules)

    def is_module(self, name: str) -> bool:
        """Tell whether there is a module of exactly this name, as the kernel spells it."""
        return name in self._paths

    def is_external(self, name: str) -> bool:
        """Tell whether it is one that is under test, and not the kernel's own."""
        return self._paths.get(name) in self.external

    def needs_no_loading(self, name: str) -> bool:
        """Tell whether it is part of the kernel; a module under test is loaded nevertheless."""
        return name in self.builtin and not self.is_external(name)

    def with_external(self, modules: Mapping[str, bytes]) -> ModuleTree:
        """Return the same modules with those of other folders, by their names."""
        added = {f"{EXTERNAL_MODULES}/{name}.ko": content for name, content in modules.items()}
        return replace(self, external={**self.external, **added})

    def open(self, name: str) -> tuple[bytes, ModInfo]:
        """Return a module as the kernel takes it, and what it says of itself."""
        path = self._paths[name]
        try:
            content = unpacked(self.external.get(path) or self.store.read(path))
            return content, read_modinfo(content)
        except ValueError as error:
            raise UsageError(
                f"the module {path} in {self.origin} cannot be used: {error}"
            ) from error

    def answering(self, alias: str) -> list[str]:
        """Return the modules that answer to an alias."""
        if alias in self._builtin_aliases:
            return [self._builtin_aliases[alias]]
        return [name for pattern, name in self._aliases if fnmatchcase(alias, pattern)]

    @cached_property
    def _builtin_aliases(self) -> dict[str, str]:
        return _aliases_of_builtin(self.store.read(BUILTIN_INFO))

    @cached_property
    def _aliases(self) -> list[tuple[str, str]]:
        """All aliases: from the list that depmod wrote, or else from the modules themselves."""
        if listed := self.store.read(_ALIASES):
            rows = (line.split() for line in listed.decode().splitlines())
            return [(row[1], canonical(row[2])) for row in rows if len(row) == 3]
        return [(alias, name) for name in self._paths for alias in self.open(name)[1].aliases]


class _Order:
    """Modules in the order to load them, each behind what it depends on."""

    def __init__(self, tree: ModuleTree) -> None:
        self._tree = tree
        self._required: set[str] = set()
        self._seen: set[str] = set()
        self.modules: list[Module] = []

    def require(self, wanted: str, because: tuple[str, ...]) -> None:
        """Note that a module, and all that it depends on, must load."""
        name = canonical(wanted)
        if name in self._required or self._tree.needs_no_loading(name):
            return
        if self._tree.is_module(name):
            self._required.add(name)
            for other in self._tree.open(name)[1].depends:
                self.require(other, (*because, name))
            return
        answering = self._tree.answering(wanted)
        if not answering:
            tree, for_whom = self._tree, f", which {because[-1]} depends on" if because else ""
            raise UsageError(
                f"kernel {tree.release} has no {wanted}{for_whom}: it is neither built in nor a "
                f"module in {tree.origin}"
            )
        if len(answering) == 1:
            self.require(answering[0], because)

    def add(self, wanted: str) -> None:
        """Put a module into the list, behind what it wants and before what wants to follow."""
        name = canonical(wanted)
        if name in self._seen or self._tree.needs_no_loading(name):
            return
        self._seen.add(name)
        if not self._tree.is_module(name):
            for other in self._tree.answering(wanted):
                self.add(other)
            return
        content, info = self._tree.open(name)
        for other in (*info.before, *info.depends):
            self.add(other)
        optional = name not in self._required
        self.modules.append(Module(name, content, optional, self._tree.is_external(name)))
        for other in info.after:
            self.add(other)
