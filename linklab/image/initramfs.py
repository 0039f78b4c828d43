"""The initramfs: an image's file tree as one cpio archive, made without root.

The same inputs give the same bytes. The archive for direct boots is not
compressed, because unpacking costs more boot time than the bytes do; the one
for the ISO is packed with zstd, the one format that the lab's kernels unpack.

A kernel's modules are an archive of their own behind the image's: the kernel
unpacks one after the other. So the image stays as it is, byte for byte, and on
an ISO with several kernels each gets its own modules.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from linklab import paths
from linklab.events import Listener, step
from linklab.host.cache import Artefact, Cache, Remembered, hash_file, key_of
from linklab.host.run import find_program, run
from linklab.image.programs import PROGRAM, build_agent, build_program, stand_ins
from linklab.image.userland import (
    REST,
    Entry,
    File,
    extra_entries,
    identity_of,
    is_elf_file,
    program_entries,
    read_manifest,
    tree_of,
    version_of,
)
from linklab.kernel.modules import Module

ARCHIVE = "initramfs.cpio"
PACKED = "initramfs.cpio.zst"
MODULES = "modules.cpio"
"""The archive of modules alone; `ARCHIVE` is the image's with it."""

_FORMAT = 2  # of what the artefact says about itself; part of its key
_MODULES_FORMAT = 1
_MTREE = "initramfs.mtree"
_LIST = "linklab.load"  # guest/agent/modules.c reads it
_OPTIONAL = "-"

# Levels above 19 save 0.3 KB of 1.8 MB and take longer. One thread, because
# several cut the input into pieces.
_ZSTD_OPTIONS = ("--single-thread", "--quiet", "--stdout")
_ZSTD = ("-19", *_ZSTD_OPTIONS)
_ZSTD_FOR_SHARES = ("-9", *_ZSTD_OPTIONS)  # the proportions are the same, 15 times as fast


class _Image:
    """All that goes into an archive. Rendering is left for when there is need to."""

    def __init__(
        self,
        cache: Cache,
        listener: Listener,
        more: Sequence[Entry] = (),
        image: Path = paths.LIVE,
        templates: Path = paths.TEMPLATES,
    ) -> None:
        agent = build_agent(cache, listener)
        manifest, remembered = read_manifest(image), Remembered(cache)
        others = [e.content for e in more if isinstance(e, File) and isinstance(e.content, Path)]
        elves = [path for path in others if is_elf_file(path)]
        of_host, replaced = program_entries(manifest, remembered, elves, stand_ins(cache, listener))
        agent_entry = File(manifest.agent, 0o755, agent.file(PROGRAM), "agent")
        self._manifest, self._templates = manifest, templates
        self._values = {**manifest.values, "replaced": replaced}
        self._entries = (*manifest.fixed, *of_host, agent_entry, *more)
        names = {template.name for template in manifest.templates} | {_MTREE}
        self.identity: Mapping[str, Any] = {
            "format": _FORMAT,
            "entries": [identity_of(entry) for entry in self._entries],
            "rendered": [[t.path, t.mode, t.name] for t in manifest.templates],
            "templates": {name: hash_file(templates / name) for name in sorted(names)},
            "values": self._values,
            "bsdtar": version_of(find_program("bsdtar", "libarchive-tools"), remembered),
        }

    def entries(self) -> tuple[Entry, ...]:
        rendered = (File(path, mode, text) for path, mode, text in self.rendered())
        return tree_of([*self._entries, *rendered])

    def rendered(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the path, the mode and the text of each file that is rendered."""
        from linklab.templating import render  # 60 ms that a cached build does not need

        for template in self._manifest.templates:
            text = render(template.name, self._templates, **self._values)
            yield template.path, template.mode, text.encode()


def build_initramfs(
    cache: Cache,
    listener: Listener,
    extra: Mapping[str, bytes] | None = None,
    image: Path = paths.LIVE,
    templates: Path = paths.TEMPLATES,
    more: Sequence[Entry] = (),
) -> Artefact:
    """Return the artefact with the live image's file tree, `initramfs.cpio`.

    `extra` adds files, by their paths in the image, and `more` entries of any
    kind; programs among them bring their libraries. `about["parts"]` lists the
    parts of the image with their bytes. Raises `LabError` when a program is
    missing, the manifest is wrong, or two files claim one path.
    """
    compiled = (
        File(path, 0o755, build_program(sources, cache, listener), PurePosixPath(path).name)
        for path, sources in read_manifest(image).compiled
    )
    added = [*extra_entries(extra or {}), *compiled, *more]
    whole = _Image(cache, listener, added, image, templates)

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "initramfs"):
            entries = whole.entries()
            write_archive(entries, folder / ARCHIVE, templates)
        return {"inputs": whole.identity, "parts": _parts(entries, folder / ARCHIVE)}

    return cache.get("initramfs", key_of(whole.identity), make, listener, "the initramfs")


def rendered_scripts(cache: Cache, listener: Listener) -> Mapping[str, bytes]:
    """Return the image's shell scripts as a guest runs them, by their paths there."""
    image = _Image(cache, listener)
    return {path: text for path, _, text in image.rendered()}


def pack_initramfs(initramfs: Artefact, cache: Cache, listener: Listener) -> Artefact:
    """Return the artefact with the archive as the ISO has it, `initramfs.cpio.zst`.

    `about["parts"]` lists each part of the image with its bytes and its share
    of the packed archive, in proportion to what it packs to alone. Raises
    `LabError` when zstd or bsdtar is missing.
    """
    zstd = find_program("zstd", "zstd")
    bsdtar = find_program("bsdtar", "libarchive-tools")
    archive = initramfs.file(ARCHIVE)
    parts = initramfs.about["parts"]
    inputs = {
        "archive": initramfs.hashes[ARCHIVE],
        "parts": parts,
        "zstd": [version_of(zstd, Remembered(cache)), *_ZSTD, *_ZSTD_FOR_SHARES],
    }

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "initramfs, packed"):
            packed = run([zstd, *_ZSTD, archive]).stdout
            (folder / PACKED).write_bytes(packed)
            named = [path for part in parts for path in part["paths"]]
            alone = [_packed_alone(bsdtar, zstd, archive, part, named) for part in parts]
        shares = zip(parts, _shares(alone, len(packed)), strict=True)
        return {
            "inputs": inputs,
            "parts": [[part["name"], part["size"], share] for part, share in shares],
        }

    return cache.get("initramfs-zst", key_of(inputs), make, listener, "the packed initramfs")


def write_archive(entries: Iterable[Entry], target: Path, templates: Path) -> None:
    """Write a cpio archive of these entries, by way of tar.

    bsdtar takes the inode number and the device of each file that it reads
    into a cpio archive, whatever the mtree says, and they differ from host to
    host (libarchive issue 975). tar has no place for either. Raises `LabError`
    when bsdtar is missing.
    """
    from linklab.templating import render

    bsdtar = find_program("bsdtar", "libarchive-tools")
    work = target.with_suffix(".work")
    work.mkdir()
    entries = tuple(entries)
    sources: dict[str, str] = {}
    for number, file in enumerate(entry for entry in entries if isinstance(entry, File)):
        source = file.content
        if isinstance(source, bytes):
            source = work / f"{number}"
            source.write_bytes(file.read())
        sources[file.path] = str(source)
    mtree, tar = work / _MTREE, work / "initramfs.tar"
    mtree.write_text(render(_MTREE, templates, entries=entries, sources=sources))
    run([bsdtar, "--format", "ustar", "-cf", tar, f"@{mtree}"])
    run([bsdtar, "--format", "newc", "-cf", target, f"@{tar}"])
    shutil.rmtree(work)


def _parts(entries: Iterable[Entry], archive: Path) -> list[dict[str, Any]]:
    """Return each part of the image: its name, its bytes and its files' paths.

    What has no line of its own, the archive's headers too, is the rest and stands last.
    """
    parts: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, File) and entry.part != REST:
            new = {"name": entry.part, "size": 0, "paths": []}
            part = parts.setdefault(entry.part, new)
            part["size"] += len(entry.read())
            part["paths"].append(f".{entry.path}")
    rest = archive.stat().st_size - sum(part["size"] for part in parts.values())
    return [*parts.values(), {"name": REST, "size": rest, "paths": []}]


def _packed_alone(
    bsdtar: Path, zstd: Path, archive: Path, part: Mapping[str, Any], named: Sequence[str]
) -> int:
    """Return the bytes that a part of the archive packs to when it is packed alone.

    `named` are the paths of all parts but the rest, which is what they leave.
    """
    option, chosen = ("--include", part["paths"]) if part["paths"] else ("--exclude", named)
    choice = [word for path in chosen for word in (option, path)]
    only = run([bsdtar, "--format", "newc", "-cf", "-", *choice, f"@{archive}"]).stdout
    return len(run([zstd, *_ZSTD_FOR_SHARES], stdin=only).stdout)


def _shares(weights: Sequence[int], total: int) -> list[int]:
    """Return whole numbers in proportion to the weights that add up to `total`."""
    sums = list(itertools.accumulate(weights, initial=0))
    ends = [round(total * part / sums[-1]) for part in sums]
    return [end - begin for begin, end in itertools.pairwise(ends)]


def with_modules(
    initramfs: Artefact,
    release: str,
    modules: Sequence[Module],
    cache: Cache,
    listener: Listener,
    templates: Path = paths.TEMPLATES,
) -> Artefact:
    """Return the artefact with an image's archive and these modules, to be loaded in this order.

    `about["modules"]` has the SHA-256 of each by its name.
    """
    hashes = {module.name: sha256(module.content).hexdigest() for module in modules}
    inputs = {
        "format": _MODULES_FORMAT,
        "image": initramfs.hashes[ARCHIVE],
        "release": release,
        "modules": [[_line(m), hashes[m.name]] for m in modules],
        "template": hash_file(templates / _MTREE),
    }

    def make(folder: Path) -> Mapping[str, Any]:
        with step(listener, "initramfs, with modules"):
            write_archive(tree_of(_module_entries(release, modules)), folder / MODULES, templates)
            base = initramfs.file(ARCHIVE).read_bytes()
            (folder / ARCHIVE).write_bytes(base + (folder / MODULES).read_bytes())
        return {"inputs": inputs, "modules": hashes}

    what = f"the initramfs with modules of {release}"
    return cache.get("initramfs-modules", key_of(inputs), make, listener, what)


def _module_entries(release: str, modules: Sequence[Module]) -> list[Entry]:
    folder = f"/lib/modules/{release}"
    files: list[Entry] = [
        File(f"{folder}/{_file(module)}", 0o644, module.content, "modules") for module in modules
    ]
    listed = "".join(f"{_line(module)}\n" for module in modules)
    return [*files, File(f"{folder}/{_LIST}", 0o644, listed.encode())]


def _line(module: Module) -> str:
    return f"{_OPTIONAL if module.optional else ''}{_file(module)}"


def _file(module: Module) -> str:
    return f"{paths.EXTERNAL_MODULES}/{module.name}.ko" if module.external else f"{module.name}.ko"
