"""What an image holds: its entries, and the programs of this host with all they need to run.

What that is is data, `images/live/manifest.toml`; this module finds out what
the data leaves open: where a program is, which shared libraries it needs, and
which applets busybox has. An entry's `kind` is its type in mtree(5), `mode`
its permission bits.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from linklab import paths
from linklab.errors import LabError
from linklab.host.cache import Remembered, hash_file
from linklab.host.elf import is_elf, read_elf
from linklab.host.run import find_program, look_for, run

REST = "links, devices, /etc"
_PROGRAM_MODE, _FILE_MODE = 0o755, 0o644


@dataclass(frozen=True)
class Directory:
    """A folder."""

    kind: ClassVar = "dir"
    path: str
    mode: int = 0o755


@dataclass(frozen=True)
class Device:
    """A character device's node."""

    kind: ClassVar = "char"
    path: str
    mode: int
    major: int
    minor: int


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    kind: ClassVar = "link"
    mode: ClassVar = 0o777
    path: str
    target: str


@dataclass(frozen=True)
class File:
    """A file whose content is bytes, or a file of the host.

    `part` is the line of the weight table that it counts for.
    """

    kind: ClassVar = "file"
    path: str
    mode: int
    content: bytes | Path
    part: str = REST

    def read(self) -> bytes:
        """Return the content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


Entry = Directory | Device | Link | File


def tree_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries in the order of their paths, the folders on the way added.

    Raises `LabError` for a path that is relative or there twice.
    """
    by_path: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if not path.is_absolute() or ".." in path.parts or str(path) != entry.path:
            raise LabError(f"{entry.path!r} is no path for an image: /a/path/like/this expected")
        if entry.path in by_path:
            raise LabError(f"{entry.path} is twice in the image: leave one out of its manifest")
        by_path[entry.path] = entry
    for known in list(by_path):
        for folder in PurePosixPath(known).parents:
            if folder.name and str(folder) not in by_path:
                by_path[str(folder)] = Directory(str(folder))
    return tuple(by_path[known] for known in sorted(by_path))


def identity_of(entry: Entry) -> list[Any]:
    """Return what distinguishes the entry, its content as a hash, for JSON."""
    match entry:
        case Directory(path, mode):
            return [entry.kind, path, mode]
        case Device(path, mode, major, minor):
            return [entry.kind, path, mode, major, minor]
        case Link(path, target):
            return [entry.kind, path, target]
        case File(path, mode, content):
            known = hash_file(content) if isinstance(content, Path) else sha256(content).hexdigest()
            return [entry.kind, path, mode, known]


@dataclass(frozen=True)
class Program:
    """A program of the host: the command, its Debian package, its place in the image.

    `applets` is the folder for a link to each of its applets, if it has any.
    An `optional` one is left out where the host lacks it.
    """

    command: str
    package: str
    path: str
    links: tuple[str, ...] = ()
    applets: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Template:
    """A file of the image that is rendered from `templates/`."""

    path: str
    mode: int
    name: str


@dataclass(frozen=True)
class Manifest:
    """An image's manifest as read: see the comments in `images/live/manifest.toml`."""

    programs: tuple[Program, ...] = ()
    templates: tuple[Template, ...] = ()
    fixed: tuple[Entry, ...] = ()
    agent: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    host_files: tuple[str, ...] = ()
    compiled: tuple[tuple[str, Path], ...] = ()  # paths, and the folders of their C sources


_OF_A_WHOLE_IMAGE = ("programs", "templates", "directories", "devices", "files")


def read_manifest(folder: Path = paths.LIVE) -> Manifest:
    """Read `manifest.toml` of an image's folder.

    With `include = "../OTHER"` it adds to the manifest in that folder, or puts
    something in its place. Raises `LabError` when it is missing, malformed, or
    lacks something.
    """
    path = folder / "manifest.toml"
    try:
        data = tomllib.loads(path.read_text())
        if "include" in data:
            return _added(read_manifest((folder / data["include"]).resolve()), data, folder)
        for key in _OF_A_WHOLE_IMAGE:
            data[key]
        values = {"init": data["init"], "agent": data["agent"]}
        return _added(Manifest(agent=data["agent"]["path"], values=values), data, folder)
    except KeyError as error:
        raise LabError(f"the manifest {path} lacks {error}") from error
    except (OSError, TypeError, ValueError) as error:
        raise LabError(f"the manifest {path} cannot be used: {error}") from error


def additions(folder: Path) -> list[Entry]:
    """Return what an image's manifest adds to the one that it includes.

    Its programs come as files of this host, without their libraries. Raises `LabError`.
    """
    data = tomllib.loads((folder / "manifest.toml").read_text())
    return [
        *_fixed(data, folder),
        *(
            File(each.path, _PROGRAM_MODE, find_program(each.command, each.package), each.command)
            for each in _programs(data)
        ),
    ]


def _added(base: Manifest, data: Mapping[str, Any], folder: Path) -> Manifest:
    added = list(_fixed(data, folder))
    own = {entry.path for entry in added}
    templates = (
        Template(target, int(entry["mode"], 8), entry["template"])
        for target, entry in data.get("templates", {}).items()
    )
    return replace(
        base,
        programs=(*base.programs, *_programs(data)),
        templates=(*base.templates, *templates),
        fixed=(*(entry for entry in base.fixed if entry.path not in own), *added),
        host_files=(*base.host_files, *data.get("host", {}).get("files", ())),
        compiled=(
            *base.compiled,
            *((path, folder / source) for path, source in data.get("compiled", {}).items()),
        ),
    )


def _fixed(data: Mapping[str, Any], folder: Path) -> Iterator[Entry]:
    """Yield the entries that need nothing of the host."""
    for path, mode in data.get("directories", {}).items():
        yield Directory(path, int(mode, 8))
    for path, entry in data.get("devices", {}).items():
        yield Device(path, int(entry["mode"], 8), entry["major"], entry["minor"])
    for path, source in data.get("files", {}).items():
        yield _file(path, (folder / source).read_bytes())
    for path, target in data.get("links", {}).items():
        yield Link(path, target)


def _programs(data: Mapping[str, Any]) -> Iterator[Program]:
    """Yield programs, last those that stand several in a line, each of which the host may lack."""
    for entry in data.get("programs", ()):
        links = tuple(entry.get("links", ()))
        path, applets = entry["path"], entry.get("applets")
        yield Program(entry["command"], entry["package"], path, links, applets)
    for entry in data.get("tools", ()):
        for command in entry["commands"]:
            path = f"{entry['folder']}/{Path(command).name}"
            yield Program(command, entry["package"], path, optional=True)


def extra_entries(extra: Mapping[str, bytes]) -> list[Entry]:
    """Return files to add to an image, by their paths in it: programs and scripts may run."""
    return [_file(path, content) for path, content in extra.items()]


def _file(path: str, content: bytes) -> File:
    runs = is_elf(content) or content.startswith(b"#!")
    return File(path, _PROGRAM_MODE if runs else _FILE_MODE, content)


def libraries_of(program: Path, stand_ins: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return the paths of a program's loader and of all shared libraries it loads.

    They are the same in the image as on the host. The program's own loader is
    asked, without the host's ld.so.cache, because the image has none, and
    without the library variants for this host's CPU, because the guest's may
    be a lesser one. `stand_ins` are folders with libraries that take the place
    of the host's, where they have every symbol that is wanted of them. Raises
    `LabError` when one is not found.
    """
    try:
        loader = read_elf(program.resolve()).interpreter
    except ValueError as error:
        raise LabError(f"{error}: a program for x86-64 expected") from error
    if loader is None:
        return ()
    # As ldd does: the loader's own --list stops at the first library that is missing.
    first = ":".join(map(str, stand_ins))
    every_symbol = {"LD_WARN": "yes", "LD_BIND_NOW": "yes"} if stand_ins else {}
    env = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_LIBRARY_PATH": first, "LD_PRELOAD": ""}
    options = ["--inhibit-cache", "--glibc-hwcaps-mask", "none"]
    listing = run([loader, *options, program.resolve()], env=env | every_symbol, deadline=20)
    if stand_ins and listing.stderr:  # it names the symbols that are lacking
        return libraries_of(program)
    found = {loader}
    for line in listing.text.splitlines():
        name, arrow, target = line.strip().partition(" => ")
        if target.startswith("not found"):
            raise LabError(f"{program} needs {name}, which its loader {loader} does not find")
        if arrow:
            found.add(target.rsplit(" (", 1)[0])
    return tuple(sorted(found))


def applets_of(busybox: Path) -> tuple[str, ...]:
    """Return the names that this busybox answers to."""
    return tuple(run([busybox, "--list"], deadline=20).text.split())


def version_of(program: Path, remembered: Remembered) -> str:
    """Return what a program of the host, which may rest on its libraries, says of its version."""

    def ask() -> tuple[str, list[Path]]:
        files = [program, *map(Path, libraries_of(program))]
        return run([program, "--version"], deadline=20).text, files

    return str(remembered.get(f"version of {program}", ask))


def program_entries(
    manifest: Manifest,
    remembered: Remembered,
    others: Iterable[Path] = (),
    stand_ins: Sequence[Path] = (),
) -> tuple[list[Entry], dict[str, str]]:
    """Return the entries for the manifest's programs, and the applets they replace.

    The libraries that `others`, programs from elsewhere, load come with those,
    and `stand_ins` are as in `libraries_of`.
    The second value maps the name of each applet that gave way to the path of
    the program that took it.
    """

    def known_libraries(program: Path) -> list[str]:
        def ask() -> tuple[tuple[str, ...], list[Path]]:
            libraries = libraries_of(program, stand_ins)
            return libraries, [program, *map(Path, libraries)]

        question = f"libraries of {program} with {' '.join(map(str, stand_ins))}"
        return list(remembered.get(question, ask))

    entries: list[Entry] = []
    libraries = {path for program in others for path in known_libraries(program)}
    programs = [program for program in manifest.programs if is_available(program)]
    names = {program.command: program.path for program in programs}
    fixed = {entry.path for entry in manifest.fixed}
    replaced: dict[str, str] = {}
    packed: dict[Path, str] = {}
    for program in programs:
        source = find_program(program.command, program.package)
        there = packed.setdefault(source.resolve(), program.path)
        if program.optional and there != program.path:
            entries.append(Link(program.path, there))  # one program that answers to many names
        else:
            entries.append(File(program.path, _PROGRAM_MODE, source, program.command))
        entries += [Link(path, program.path) for path in program.links]
        if not program.optional or is_elf_file(source):
            libraries.update(known_libraries(source))
        if program.applets is not None:
            for applet in _known_applets(source, remembered):
                if applet == program.command:  # a static busybox names itself among them
                    continue
                if applet in names:
                    replaced[applet] = names[applet]
                elif (path := f"{program.applets}/{applet}") not in fixed:
                    entries.append(Link(path, program.path))
    for pattern in manifest.host_files:
        for file in sorted(filter(Path.is_file, Path("/").glob(pattern.lstrip("/")))):
            entries.append(File(str(file), _FILE_MODE, file))
            libraries.update(known_libraries(file) if is_elf_file(file) else ())
    return [*entries, *_library_entries(libraries, stand_ins)], replaced


def is_available(program: Program) -> bool:
    """Tell whether a program can go into an image: one that is needed must, whatever comes."""
    return not program.optional or look_for(program.command) is not None


def _library_entries(libraries: Iterable[str], stand_ins: Sequence[Path]) -> Iterator[Entry]:
    """Yield shared libraries where they are on the host, each file of it once.

    Some programs ask for them below /lib and some below /usr/lib, which is the same.
    What stands in for a library is where the C library is.
    """
    packed: dict[Path, str] = {}
    beside = next((Path(path).parent for path in sorted(libraries) if "/libc.so" in path), None)
    for path in sorted(libraries):
        name = Path(path).name
        if beside and Path(path).parent in stand_ins:
            yield File(str(beside / name), _PROGRAM_MODE, Path(path), name)
            continue
        there = packed.setdefault(Path(path).resolve(), path)
        if there == path:
            yield File(path, _PROGRAM_MODE, Path(path), Path(path).name)
        else:
            yield Link(path, there)


def is_elf_file(path: Path) -> bool:
    """Tell whether a file is a program or a library, and no script."""
    with path.open("rb") as file:
        return is_elf(file.read(4))


def _known_applets(program: Path, remembered: Remembered) -> list[str]:
    return list(remembered.get(f"applets of {program}", lambda: (applets_of(program), [program])))
