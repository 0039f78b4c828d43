"""The ISO: what is on it, that it is always the same, and what it says it weighs."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from linklab import paths
from linklab.errors import LabError, UsageError
from linklab.events import Event, StepStarted, ignore
from linklab.host import run
from linklab.host.cache import Artefact, Cache
from linklab.image import iso
from linklab.image.initramfs import ARCHIVE, PACKED, pack_initramfs
from linklab.image.iso import IMAGE, IsoKernel, build_iso, iso_contents

KERNEL = os.urandom(70_000)
SECTOR = 2048
DESCRIPTOR = 16 * SECTOR


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A cpio archive of one file."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "init").write_bytes(b"#!/bin/sh\n" * 100)
    return run.run(["bsdtar", "--format", "newc", "-cf", "-", "-C", folder, "./init"]).stdout


def test_a_kernels_modules_are_unpacked_behind_the_image(
    cache: Cache, initramfs: Artefact, kernel: IsoKernel, tmp_path: Path
) -> None:
    (tmp_path / "modules.cpio").write_bytes(b"modules" * 100)
    other = replace(kernel, name="debian", modules=tmp_path / "modules.cpio")
    made = build_iso([kernel, other], initramfs, cache, ignore)
    assert read(made, "MODS1") == b"modules" * 100
    config = read(made, "ISOLINUX/ISOLINUX.CFG").decode()
    initrds = [line.split()[1] for line in config.splitlines() if line.split()[:1] == ["INITRD"]]
    assert initrds == ["/initrd", "/initrd,/mods1"]
    assert [p.size for p in iso_contents(made) if p.name.endswith(": modules")] == [700]
    without = build_iso([kernel, replace(other, modules=None)], initramfs, cache, ignore)
    assert without.key != made.key


def initramfs_in(cache: Cache, archive: bytes) -> Artefact:
    """An artefact like an initramfs, quickly made."""

    def make(folder: Path) -> dict[str, object]:
        (folder / ARCHIVE).write_bytes(archive)
        named = {"name": "init", "size": 1000, "paths": ["./init"]}
        return {"parts": [named, {"name": "rest", "size": len(archive) - 1000, "paths": []}]}

    return cache.get("initramfs", "0", make, ignore, "an initramfs")


@pytest.fixture
def initramfs(cache: Cache, archive: bytes) -> Artefact:
    return initramfs_in(cache, archive)


@pytest.fixture
def kernel(tmp_path: Path) -> IsoKernel:
    (tmp_path / "bzImage").write_bytes(KERNEL)
    return IsoKernel("sysfs", tmp_path / "bzImage", "6.12.1")


@pytest.fixture
def other(kernel: IsoKernel) -> IsoKernel:
    return IsoKernel("nosysfs", kernel.bzimage, "6.12.2")


def read(image: Artefact, name: str) -> bytes:
    """Return a file of an ISO, as a reader that is not genisoimage finds it."""
    return run.run(["bsdtar", "-xOf", image.file(IMAGE), name]).stdout


def files_of(image: Artefact) -> set[str]:
    listing = run.run(["bsdtar", "-tf", image.file(IMAGE)]).text.splitlines()
    return {Path(name).name for name in listing}


class TestOneKernel:
    def test_boots_it_at_once_without_a_menu(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        image = build_iso([kernel], initramfs, cache, ignore)
        config = read(image, "ISOLINUX/ISOLINUX.CFG").decode()

        assert "UI " not in config
        assert "TIMEOUT" not in config
        assert "DEFAULT sysfs\n" in config
        assert "MENU.C32" not in files_of(image)
        assert "LDLINUX.C32" in files_of(image)

    def test_carries_kernel_and_initramfs_as_they_are(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        image = build_iso([kernel], initramfs, cache, ignore)
        packed = pack_initramfs(initramfs, cache, ignore)

        assert read(image, "LINUX0") == KERNEL
        assert read(image, "INITRD") == packed.file(PACKED).read_bytes()

    def test_a_bios_finds_its_boot_record(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        data = build_iso([kernel], initramfs, cache, ignore).file(IMAGE).read_bytes()

        # El Torito 1.0, figure 7: the boot record volume is in sector 17.
        record = data[17 * SECTOR : 18 * SECTOR]
        assert record[:39] == b"\0CD001\1EL TORITO SPECIFICATION".ljust(39, b"\0")

    def test_talks_on_the_screen_and_last_on_the_serial_port(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        config = read(build_iso([kernel], initramfs, cache, ignore), "ISOLINUX/ISOLINUX.CFG")

        (line,) = (line for line in config.decode().splitlines() if "APPEND" in line)
        consoles = [word for word in line.split() if word.startswith("console=")]
        assert consoles == ["console=tty0", "console=ttyS0,115200"]
        assert b"SERIAL 0 115200" in config


class TestSeveralKernels:
    def test_offers_each_in_a_menu_and_boots_the_first_after_a_wait(
        self, kernel: IsoKernel, other: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        image = build_iso([kernel, other], initramfs, cache, ignore)
        config = read(image, "ISOLINUX/ISOLINUX.CFG").decode()

        for wanted in (
            "UI menu.c32\n",
            "TIMEOUT 30\n",
            "DEFAULT sysfs\n",
            "MENU LABEL sysfs: Linux 6.12.1\n\tKERNEL /linux0\n",
            "MENU LABEL nosysfs: Linux 6.12.2\n\tKERNEL /linux1\n",
        ):
            assert wanted in config

    def test_the_menu_comes_with_the_modules_it_loads(
        self, kernel: IsoKernel, other: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        image = build_iso([kernel, other], initramfs, cache, ignore)

        modules = {name for name in files_of(image) if name.endswith("C32")}
        assert modules == {"LDLINUX.C32", "LIBUTIL.C32", "MENU.C32"}


class TestSameInputsSameBytes:
    def test_neither_the_hour_nor_the_age_of_a_file_matters(
        self, kernel: IsoKernel, other: IsoKernel, archive: bytes, tmp_path: Path
    ) -> None:
        images: list[Artefact] = []
        for name in ("first", "second"):
            cache = Cache(tmp_path / name)
            os.utime(kernel.bzimage, (time.time() - len(images) * 1e6,) * 2)
            images.append(build_iso([kernel, other], initramfs_in(cache, archive), cache, ignore))
            time.sleep(1.1)  # the volume descriptor's times count hundredths, shown as seconds

        assert images[0].hashes == images[1].hashes
        created = images[0].file(IMAGE).read_bytes()[DESCRIPTOR + 813 :][:16]  # ECMA-119, 8.4.26
        assert created == b"2011010100000000"

    def test_a_second_build_makes_nothing(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        events: list[Event] = []
        first = build_iso([kernel], initramfs, cache, ignore)

        assert build_iso([kernel], initramfs, cache, events.append).key == first.key
        assert not [event for event in events if isinstance(event, StepStarted)]

    def test_another_name_kernel_order_or_menu_makes_another_one(
        self, kernel: IsoKernel, other: IsoKernel, initramfs: Artefact, cache: Cache, tmp_path: Path
    ) -> None:
        templates = tmp_path / "templates"
        shutil.copytree(paths.TEMPLATES, templates)
        (templates / "isolinux.cfg").write_text("DEFAULT {{ kernels[0].name }}\n")
        changed = tmp_path / "changed"
        changed.write_bytes(KERNEL[::-1])

        images = [
            build_iso([kernel], initramfs, cache, ignore),
            build_iso([other], initramfs, cache, ignore),
            build_iso([IsoKernel("sysfs", changed, "6.12.1")], initramfs, cache, ignore),
            build_iso([kernel, other], initramfs, cache, ignore),
            build_iso([other, kernel], initramfs, cache, ignore),
            build_iso([kernel], initramfs, cache, ignore, templates),
        ]
        assert len({image.key for image in images}) == len(images)


class TestContents:
    def test_add_up_to_the_file(
        self, kernel: IsoKernel, other: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        image = build_iso([kernel, other], initramfs, cache, ignore)

        parts = iso_contents(image)
        assert sum(part.packed for part in parts) == image.file(IMAGE).stat().st_size
        assert all(part.packed > 0 for part in parts)

    def test_are_the_same_from_the_cache_in_the_same_order(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        made = iso_contents(build_iso([kernel], initramfs, cache, ignore))

        assert iso_contents(build_iso([kernel], initramfs, cache, ignore)) == made

    def test_name_every_kernel_part_and_boot_file(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        names = [
            (part.group, part.name)
            for part in iso_contents(build_iso([kernel], initramfs, cache, ignore))
        ]

        assert names == [
            ("kernel", "sysfs (6.12.1)"),
            ("initramfs", "init"),
            ("initramfs", "rest"),
            ("boot loader", "isolinux.bin"),
            ("boot loader", "isolinux.cfg"),
            ("boot loader", "ldlinux.c32"),
            ("iso", "ISO 9660 folders and padding"),
        ]


class TestRefused:
    def test_no_kernel(self, initramfs: Artefact, cache: Cache) -> None:
        with pytest.raises(UsageError, match="without a kernel"):
            build_iso([], initramfs, cache, ignore)

    @pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "a/b", "-dash"])
    def test_a_name_that_a_menu_cannot_show(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache, name: str
    ) -> None:
        with pytest.raises(UsageError, match="boot menu"):
            build_iso([IsoKernel(name, kernel.bzimage, "6")], initramfs, cache, ignore)

    def test_two_kernels_of_one_name(
        self, kernel: IsoKernel, initramfs: Artefact, cache: Cache
    ) -> None:
        with pytest.raises(UsageError, match="name of its own: sysfs, sysfs"):
            build_iso([kernel, kernel], initramfs, cache, ignore)

    def test_a_missing_boot_loader_names_its_package(
        self,
        kernel: IsoKernel,
        initramfs: Artefact,
        cache: Cache,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(iso._PLACES, "syslinux-common", tmp_path)

        with pytest.raises(LabError, match=r"ldlinux\.c32 .* syslinux-common.*`invoke setup`"):
            build_iso([kernel], initramfs, cache, ignore)

    def test_a_missing_program_names_its_package(
        self,
        kernel: IsoKernel,
        initramfs: Artefact,
        cache: Cache,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pack_initramfs(initramfs, cache, ignore)
        monkeypatch.setattr("linklab.host.run._SYSTEM_FOLDERS", "/nowhere")
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(LabError, match=r"zstd is not .* package zstd"):
            build_iso([kernel], initramfs, cache, ignore)
