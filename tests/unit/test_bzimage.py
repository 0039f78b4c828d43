"""The vmlinux inside of a bzImage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_tree import header
from test_kernel_files import PVH, elf

from linklab.errors import UsageError
from linklab.events import Event, ignore
from linklab.host.cache import Cache, hash_file
from linklab.kernel.bzimage import bzimage_release, payload_of, unpacked_kernel

SETUP_SECTORS = 1
BEGIN = (SETUP_SECTORS + 1) * 512


def bzimage(folder: Path, payload: bytes, protocol: int = 0x20F) -> Path:
    head = bytearray(header().ljust(BEGIN + 64, b"\0"))
    head[0x1F1] = SETUP_SECTORS
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    path = folder / "bzImage"
    path.write_bytes(bytes(head) + payload + b"what follows it")
    return path


def piped(*command: str) -> Callable[[bytes], bytes]:
    """Return a packer that is a program, and appends the size as the kernel's build does."""

    def pack(content: bytes) -> bytes:
        done = subprocess.run(command, input=content, stdout=subprocess.PIPE, check=True)
        return done.stdout + struct.pack("<I", len(content))

    return pack


def sized(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda content: pack(content) + struct.pack("<I", len(content))


PACKERS = {
    "gzip": gzip.compress,
    "xz": sized(lzma.compress),
    "lzma": sized(lambda content: lzma.compress(content, lzma.FORMAT_ALONE)),
    "bzip2": sized(bz2.compress),
    "lz4": piped("lz4", "-l", "-c"),
    "zstd": piped("zstd", "-c"),
}


@pytest.mark.parametrize("packing", PACKERS)
def test_a_payload_is_unpacked_whatever_it_is_packed_with(tmp_path: Path, packing: str) -> None:
    assert payload_of(bzimage(tmp_path, PACKERS[packing](PVH * 100))) == PVH * 100


@pytest.mark.parametrize(
    ("payload", "protocol"),
    [
        (b"", 0x20F),
        (b"something else", 0x20F),
        (gzip.compress(PVH, mtime=0)[:15] + b"\xff" * 9, 0x20F),
        (PACKERS["zstd"](PVH)[:12], 0x20F),
        (gzip.compress(b"no ELF file", mtime=0), 0x20F),
        (gzip.compress(PVH, mtime=0), 0x207),
    ],
)
def test_what_cannot_be_unpacked_is_left_to_the_kernel(
    tmp_path: Path, payload: bytes, protocol: int
) -> None:
    assert payload_of(bzimage(tmp_path, payload, protocol)) == b""


def test_a_file_without_a_whole_header_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"\0" * 0x200)
    assert payload_of(path) == b""


def test_what_was_unpacked_is_kept_with_its_config(tmp_path: Path) -> None:
    config = b"CONFIG_DUMMY=m\n"
    vmlinux = PVH + b"IKCFG_ST" + gzip.compress(config, mtime=0) + b"IKCFG_ED"
    path = bzimage(tmp_path, gzip.compress(vmlinux, mtime=0))
    cache, events = Cache(tmp_path / "cache"), list[Event]()
    for _ in range(2):
        inside = unpacked_kernel(path, hash_file(path), cache, events.append)
        assert inside.vmlinux is not None
        assert inside.vmlinux.read_bytes() == vmlinux
        assert inside.config is not None
        assert inside.config.read_bytes() == config
    assert len(events) == 2, "one step, begun and ended: the second time it was there"


def test_a_vmlinux_without_a_pvh_entry_is_not_for_booting(tmp_path: Path) -> None:
    path = bzimage(tmp_path, gzip.compress(elf((1, b"text")) + b"IKCFG_STdamaged"))
    inside = unpacked_kernel(path, "0" * 64, Cache(tmp_path / "cache"), ignore)
    assert (inside.vmlinux, inside.config) == (None, None)


def of_length(folder: Path, units: int, there: int) -> Path:
    """A bzImage that tells of so many units of 16 bytes behind its boot sectors."""
    head = bytearray(header().ljust(BEGIN, b"\0"))
    head[0x1F1] = SETUP_SECTORS
    struct.pack_into("<I", head, 0x1F4, units)
    path = folder / "bzImage"
    path.write_bytes(bytes(head).ljust(BEGIN + there, b"\0"))
    return path


@pytest.mark.parametrize("there", [1600 - 31, 1600, 1600 + 1472])
def test_a_kernel_that_is_all_there_is_taken_with_its_signature_too(
    there: int, tmp_path: Path
) -> None:
    assert bzimage_release(of_length(tmp_path, 100, there))


@pytest.mark.parametrize("there", [0, 800, 1600 - 32])
def test_a_kernel_that_was_cut_short_is_refused_before_it_seems_to_crash(
    there: int, tmp_path: Path
) -> None:
    says = f"was cut short: its header tells of {BEGIN + 1600} bytes, and there are {BEGIN + there}"
    with pytest.raises(UsageError, match=says):
        bzimage_release(of_length(tmp_path, 100, there))
