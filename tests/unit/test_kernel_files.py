"""Kernels that the lab did not build: bzImages, vmlinux files and built trees."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from fake_tree import RELEASE, header

from linklab.errors import UsageError
from linklab.events import ignore
from linklab.host.cache import Cache, hash_file
from linklab.host.elf import has_debug_info, has_pvh_entry
from linklab.host.run import run
from linklab.kernel.bzimage import bzimage_release
from linklab.kernel.kernel import BuildOptions, Kernel, check_kernel, resolve_kernel


def resolved(path: Path) -> Kernel:
    return resolve_kernel(str(path), BuildOptions(), Cache(path.parent / "cache"), ignore)


def note(name: bytes, kind: int, content: bytes = b"\0" * 4) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 4)

    return struct.pack("<III", len(name), len(content), kind) + padded(name) + padded(content)


def elf(*segments: tuple[int, bytes]) -> bytes:
    """Return a 64-bit ELF file of these program headers and their contents."""
    head = bytearray(0x40)
    head[:6] = b"\x7fELF\2\1"
    struct.pack_into("<Q", head, 0x20, 0x40)
    struct.pack_into("<HH", head, 0x36, 0x38, len(segments))
    table, body = b"", b""
    offset = 0x40 + 0x38 * len(segments)
    for kind, content in segments:
        at = offset + len(body)
        table += struct.pack("<IIQQQQQQ", kind, 0, at, 0, 0, len(content), len(content), 4)
        body += content
    return bytes(head) + table + body


PVH = elf((1, b"text"), (4, note(b"GNU\0", 3, b"id") + note(b"Xen\0", 18)))


@pytest.fixture
def bzimage(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(header() + b"payload")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "linux"
    (folder / "arch/x86/boot").mkdir(parents=True)
    (folder / "vmlinux").write_bytes(PVH)
    (folder / "arch/x86/boot/bzImage").write_bytes(header("7.0.0-mine"))
    (folder / ".config").write_text("CONFIG_X=y\n")
    (folder / "Makefile").touch()
    return folder


def test_a_bzimage_is_taken_as_it_is(bzimage: Path) -> None:
    kernel = resolved(bzimage)
    assert (kernel.name, kernel.release) == (str(bzimage), RELEASE)
    assert (kernel.bzimage, kernel.vmlinux, kernel.config) == (bzimage, None, None)
    assert kernel.sha256 == hash_file(bzimage)
    assert not kernel.built_by_lab


def test_a_built_tree_gives_its_vmlinux_and_config_too(tree: Path) -> None:
    kernel = resolved(tree)
    assert kernel.release == "7.0.0-mine"
    assert kernel.bzimage == tree / "arch/x86/boot/bzImage"
    assert kernel.vmlinux == tree / "vmlinux"
    assert kernel.config == tree / ".config"


def test_a_vmlinux_that_is_newer_than_its_bzimage_is_another_kernel(tree: Path) -> None:
    os.utime(tree / "arch/x86/boot/bzImage", (1, 1))
    assert resolved(tree).vmlinux is None


def test_a_vmlinux_without_a_pvh_entry_is_not_booted(tree: Path) -> None:
    (tree / "vmlinux").write_bytes(elf((4, note(b"Xen\0", 5))))
    os.utime(tree / "vmlinux", (1, 1))
    (tree / ".config").unlink()
    kernel = resolved(tree)
    assert kernel.vmlinux is None
    assert kernel.config is None


def compiled(folder: Path, *words: str) -> Path:
    source = folder / "start.c"
    source.write_text("void _start(void) { for (;;); }\n")
    program = folder / "program"
    run(["gcc", "-nostdlib", "-static", *words, "-o", program, source])
    return program


def test_a_tree_with_debug_information_gives_its_symbols(tree: Path, tmp_path: Path) -> None:
    assert resolved(tree).symbols is None
    compiled(tmp_path, "-g").replace(tree / "vmlinux")
    assert resolved(tree).symbols is None  # newer than the bzImage
    os.utime(tree / "vmlinux", (1, 1))
    assert resolved(tree).symbols == tree / "vmlinux"


def test_debug_information_is_found_where_there_is_some(tmp_path: Path) -> None:
    assert has_debug_info(compiled(tmp_path, "-g"))
    assert not has_debug_info(compiled(tmp_path))


@pytest.mark.parametrize("content", [None, b"", PVH, PVH[:0x30], b"\x7fELF\1\1" + b"\0" * 100])
def test_what_is_no_whole_elf_has_no_debug_information(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert not has_debug_info(path)


def test_a_tree_that_is_not_built_says_so(tree: Path) -> None:
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(UsageError, match=r"is not built: .*--source"):
        resolved(tree)


def test_a_folder_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no kernel tree"):
        resolved(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no bzImage"),
        (b"hello" * 1000, "is no bzImage"),
        (header()[:0x210], "is no bzImage"),
        (header().replace(b"HdrS", b"HdrT"), "is no bzImage"),
        (header()[:0x2FF], "was cut short"),
        (b"\x7fELF" + b"\0" * 1000, "give the bzImage made from it"),
    ],
)
def test_what_is_no_bzimage_is_refused(bzimage: Path, content: bytes, complaint: str) -> None:
    bzimage.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        check_kernel(str(bzimage), BuildOptions())


def test_a_bzimage_without_a_version_is_refused(bzimage: Path) -> None:
    head = bytearray(header())
    head[0x20E:0x210] = b"\0\0"
    bzimage.write_bytes(head)
    with pytest.raises(UsageError, match="names no kernel release"):
        bzimage_release(bzimage)


def test_a_bzimage_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        bzimage_release(tmp_path / "nowhere")


def test_building_options_are_refused_for_a_kernel_that_is_not_built(bzimage: Path) -> None:
    with pytest.raises(UsageError, match="is taken as it is"):
        check_kernel(str(bzimage), BuildOptions(configs=(bzimage,)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF\1\1" + b"\0" * 60,
        PVH[:0x50],
        elf(),
        elf((4, b"\0" * 11)),
        elf((4, note(b"Xen\0", 17))),
        elf((4, note(b"GNU\0", 18))),
        elf((1, note(b"Xen\0", 18))),
    ],
)
def test_files_without_a_pvh_entry_are_known(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    assert not has_pvh_entry(path)


def test_a_pvh_entry_is_found_among_other_notes(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(PVH)
    assert has_pvh_entry(path)
    assert not has_pvh_entry(tmp_path / "nowhere")
