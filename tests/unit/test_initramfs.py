"""The initramfs: what is in it, that it is always the same, and what it says it weighs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import image_box
import pytest

from linklab import paths
from linklab.errors import LabError
from linklab.events import Event, StepStarted, ignore
from linklab.host import run
from linklab.host.cache import Artefact, Cache
from linklab.image.initramfs import (
    ARCHIVE,
    PACKED,
    build_initramfs,
    pack_initramfs,
    rendered_scripts,
)
from linklab.image.programs import PROGRAM, build_agent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def live(cache: Cache) -> Artefact:
    return build_initramfs(cache, ignore)


@pytest.fixture(scope="module")
def members(live: Artefact) -> dict[str, image_box.Member]:
    return image_box.read_cpio(live.file(ARCHIVE).read_bytes())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_box.small_image(tmp_path / "image")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    shutil.copy(paths.TEMPLATES / "initramfs.mtree", folder)
    (folder / "hello").write_text("#!/bin/sh\necho {{ agent.path }} on {{ init.port }}\n")
    return folder


@pytest.fixture
def forget(cache: Cache) -> Iterator[None]:
    """Have the next build make the archive again, whatever was made before."""
    shutil.rmtree(cache.root / "initramfs", ignore_errors=True)
    yield


class TestLiveImage:
    def test_holds_the_real_ip_at_both_its_places(
        self, members: dict[str, image_box.Member]
    ) -> None:
        ip = members["/bin/ip"]

        assert ip.content.startswith(b"\x7fELF")
        assert b"BusyBox" not in ip.content
        assert (stat.S_ISLNK(members["/sbin/ip"].mode), members["/sbin/ip"].content) == (
            True,
            b"/bin/ip",
        )

    def test_links_every_other_applet_to_busybox(
        self, members: dict[str, image_box.Member]
    ) -> None:
        for applet in ("sh", "mount", "init", "poweroff", "["):
            assert members[f"/bin/{applet}"].content == b"/bin/busybox", applet

    def test_holds_every_library_that_its_programs_ask_for(
        self, members: dict[str, image_box.Member]
    ) -> None:
        libraries = {Path(path).name for path in members if ".so" in path}

        assert {"libc.so.6", "ld-linux-x86-64.so.2", "libmnl.so.0", "libelf.so.1"} <= libraries

    def test_holds_the_agent_that_was_built(
        self, members: dict[str, image_box.Member], cache: Cache
    ) -> None:
        agent = build_agent(cache, ignore).file(PROGRAM).read_bytes()

        assert members["/bin/linklab-agent"].content == agent
        assert stat.S_IMODE(members["/bin/linklab-agent"].mode) == 0o755

    def test_has_device_nodes_that_nobody_needed_root_for(
        self, members: dict[str, image_box.Member]
    ) -> None:
        assert stat.S_ISCHR(members["/dev/console"].mode)
        assert members["/dev/console"].node == (5, 1)
        assert members["/dev/ttyS1"].node == (4, 65)
        assert stat.S_IMODE(members["/dev/null"].mode) == 0o666

    def test_its_init_may_run(self, members: dict[str, image_box.Member]) -> None:
        assert members["/init"].content.startswith(b"#!/bin/sh\n")
        assert stat.S_IMODE(members["/init"].mode) == 0o755

    def test_puts_each_folder_before_what_is_in_it(
        self, members: dict[str, image_box.Member]
    ) -> None:
        seen = {"/"}
        for path in members:
            assert str(Path(path).parent) in seen, path
            seen.add(path)

    def test_belongs_to_root_and_has_no_age(self, members: dict[str, image_box.Member]) -> None:
        assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, 0)}

    def test_tells_nothing_of_the_host_that_made_it(
        self, members: dict[str, image_box.Member]
    ) -> None:
        # libarchive counts the tar archives that it reads: this is its first.
        assert {member.device for member in members.values()} == {(0, 1)}
        assert [m.inode for m in members.values()] == list(range(1, len(members) + 1))

    def test_has_no_hard_links(self, members: dict[str, image_box.Member]) -> None:
        assert max(member.links for member in members.values()) <= 1

    def test_a_terminal_gets_the_real_ip_even_from_a_shell_that_prefers_its_own(
        self, members: dict[str, image_box.Member]
    ) -> None:
        assert b'ip() {\n\t/bin/ip "$@"\n}' in members["/etc/shrc"].content

    def test_its_scripts_pass_for_shell(self, cache: Cache, tmp_path: Path) -> None:
        scripts = rendered_scripts(cache, ignore)

        assert set(scripts) == {"/init", "/etc/profile", "/etc/shrc"}
        for path, content in scripts.items():
            script = tmp_path / Path(path).name
            script.write_bytes(content)
            run.run(["busybox", "sh", "-n", script])


class TestSameInputsSameBytes:
    def test_made_again_it_has_the_same_bytes(
        self, live: Artefact, cache: Cache, forget: None
    ) -> None:
        again = build_initramfs(cache, ignore)

        assert again.hashes == live.hashes

    def test_neither_place_nor_age_of_a_program_matters(
        self, live: Artefact, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copies = tmp_path / "bin"
        copies.mkdir()
        for name in ("ip", "busybox"):
            found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
            assert found
            os.utime(shutil.copy(found, copies), (1, 1))
        monkeypatch.setenv("PATH", f"{copies}:{os.environ['PATH']}")

        assert build_initramfs(cache, ignore).key == live.key

    def test_a_second_build_makes_nothing(self, live: Artefact, cache: Cache) -> None:
        events: list[Event] = []

        assert build_initramfs(cache, events.append).key == live.key
        assert not [event for event in events if isinstance(event, StepStarted)]


class TestOwnImage:
    def test_templates_know_the_manifest(self, cache: Cache, image: Path, templates: Path) -> None:
        made = build_initramfs(cache, ignore, image=image, templates=templates)
        members = image_box.read_cpio(made.file(ARCHIVE).read_bytes())

        assert members["/init"].content == b"#!/bin/sh\necho /bin/linklab-agent on ttyS1\n"

    def test_a_path_may_hold_a_space(self, cache: Cache, image: Path, templates: Path) -> None:
        made = build_initramfs(cache, ignore, image=image, templates=templates)
        members = image_box.read_cpio(made.file(ARCHIVE).read_bytes())

        assert members["/etc/a file"].content == b"of the image\n"

    @pytest.mark.parametrize("changed", ["image/a file", "templates/hello", "image/manifest.toml"])
    def test_whatever_changes_makes_another_one(
        self, cache: Cache, image: Path, templates: Path, tmp_path: Path, changed: str
    ) -> None:
        before = build_initramfs(cache, ignore, image=image, templates=templates)
        file = tmp_path / changed
        file.write_text(file.read_text().replace("echo", "exec").replace("0666", "0600") + "# new")
        after = build_initramfs(cache, ignore, image=image, templates=templates)

        assert after.key != before.key
        assert after.hashes != before.hashes or changed.endswith("toml")

    def test_extra_files_are_added_and_programs_among_them_may_run(
        self, cache: Cache, image: Path, templates: Path
    ) -> None:
        extra = {"/etc/extra": b"text", "/opt/run": b"#!/bin/sh\n", "/opt/elf": b"\x7fELF"}
        made = build_initramfs(cache, ignore, extra, image, templates)
        members = image_box.read_cpio(made.file(ARCHIVE).read_bytes())

        modes = {path: oct(stat.S_IMODE(members[path].mode)) for path in extra}
        assert modes == {"/etc/extra": "0o644", "/opt/run": "0o755", "/opt/elf": "0o755"}
        assert members["/opt/elf"].content == b"\x7fELF"

    def test_two_files_for_one_path_are_refused(
        self, cache: Cache, image: Path, templates: Path
    ) -> None:
        with pytest.raises(LabError, match="/init is twice"):
            build_initramfs(cache, ignore, {"/init": b"mine"}, image, templates)

    @pytest.mark.parametrize("path", ["etc/relative", "/etc/../up", "/etc//twice", "/end/"])
    def test_a_path_that_is_none_is_refused(
        self, cache: Cache, image: Path, templates: Path, path: str
    ) -> None:
        with pytest.raises(LabError, match="no path for an image"):
            build_initramfs(cache, ignore, {path: b""}, image, templates)


class TestPacked:
    @pytest.fixture(scope="class")
    @staticmethod
    def packed(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
        folder = tmp_path_factory.mktemp("packed")
        (folder / "templates").mkdir()
        shutil.copy(paths.TEMPLATES / "initramfs.mtree", folder / "templates")
        (folder / "templates/hello").write_text("#!/bin/sh\n")
        made = build_initramfs(
            cache,
            ignore,
            image=image_box.small_image(folder / "image"),
            templates=folder / "templates",
        )
        (folder / "made").write_bytes(made.file(ARCHIVE).read_bytes())
        packed = pack_initramfs(made, cache, ignore)
        assert (
            run.run(["zstd", "-dc", packed.file(PACKED)]).stdout == (folder / "made").read_bytes()
        )
        return packed

    def test_the_shares_add_up_to_the_file(self, packed: Artefact) -> None:
        shares = [share for _, _, share in packed.about["parts"]]

        assert sum(shares) == packed.file(PACKED).stat().st_size
        assert min(shares) > 0

    def test_the_rest_stands_last_after_the_parts_with_a_name(self, packed: Artefact) -> None:
        assert [name for name, _, _ in packed.about["parts"]] == ["agent", "links, devices, /etc"]
