"""The userland: manifests, host programs, and the libraries that they need."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import image_box
import pytest

from linklab.errors import LabError
from linklab.events import ignore
from linklab.host import run
from linklab.host.cache import Cache, Remembered
from linklab.host.run import find_program
from linklab.image.programs import stand_ins
from linklab.image.userland import (
    Device,
    Directory,
    File,
    Link,
    Manifest,
    applets_of,
    libraries_of,
    program_entries,
    read_manifest,
    tree_of,
    version_of,
)


@pytest.fixture
def answers(tmp_path: Path) -> Remembered:
    return Remembered(Cache(tmp_path / "cache"))


def compiled(folder: Path, name: str, source: str, *options: str) -> Path:
    """Compile C into a program or library of the host."""
    run.run(["gcc", "-o", name, "-x", "c", "-", *options], cwd=folder, stdin=source.encode())
    return folder / name


class TestFindProgram:
    def test_finds_what_only_root_has_in_its_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")

        assert find_program("ip", "iproute2").name == "ip"

    def test_prefers_a_persons_own_program(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = tmp_path / "ip"
        own.write_text("#!/bin/sh\n")
        own.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")

        assert find_program("ip", "iproute2") == own

    def test_a_missing_one_names_its_package_and_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr(run, "_SYSTEM_FOLDERS", "/nowhere")

        with pytest.raises(LabError, match=r"busybox is not .* package busybox.*`invoke setup`"):
            find_program("busybox", "busybox")


class TestLibraries:
    def test_names_the_loader_and_every_library_down_the_line(self) -> None:
        found = libraries_of(find_program("ip", "iproute2"))

        names = {Path(path).name for path in found}
        assert {"ld-linux-x86-64.so.2", "libc.so.6", "libelf.so.1", "libz.so.1"} <= names
        assert all(Path(path).is_file() for path in found)

    def test_takes_no_variant_for_the_cpu_of_this_host(self) -> None:
        assert not [path for path in libraries_of(find_program("ip", "-")) if "hwcaps" in path]

    def test_a_static_program_needs_none(self, agent_program: Path) -> None:
        assert libraries_of(agent_program) == ()

    def test_the_users_library_settings_do_not_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = Path("/bin/cat")
        (libc,) = (path for path in libraries_of(program) if path.endswith("libc.so.6"))
        shutil.copy(libc, tmp_path)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

        assert libc in libraries_of(program)

    def test_a_library_that_the_loader_does_not_find_is_named(self, tmp_path: Path) -> None:
        compiled(tmp_path, "liblost.so", "int lost(void) { return 0; }", "-shared", "-fPIC")
        main = "int lost(void); int main(void) { return lost(); }"
        program = compiled(tmp_path, "program", main, "-L.", "-llost")

        with pytest.raises(LabError, match=r"program needs liblost\.so, which"):
            libraries_of(program)

    def test_a_script_is_no_program_for_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "script").write_text("#!/bin/sh\n" * 20)

        with pytest.raises(LabError, match="program for x86-64 expected"):
            libraries_of(tmp_path / "script")


class TestStandIns:
    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        """A program that uses one of the two functions of a large library."""
        source = "int used(void) { return 1; } int other(void) { return 2; }"
        compiled(tmp_path, "libbig.so", source, "-shared", "-fPIC")
        main = "int used(void); int main(void) { return used(); }"
        where = f"-Wl,-rpath,{tmp_path},--enable-new-dtags"  # looked at last, as the system's are
        return compiled(tmp_path, "program", main, "-L.", "-lbig", where)

    def stand_in(self, folder: Path, function: str) -> Path:
        folder.mkdir()
        compiled(folder, "libbig.so", f"int {function}(void) {{ return 0; }}", "-shared", "-fPIC")
        return folder

    def test_takes_the_place_of_a_library_whose_symbols_it_has(
        self, program: Path, tmp_path: Path
    ) -> None:
        folder = self.stand_in(tmp_path / "small", "used")
        assert str(folder / "libbig.so") in libraries_of(program, [folder])

    def test_that_lacks_a_symbol_is_not_taken(self, program: Path, tmp_path: Path) -> None:
        folder = self.stand_in(tmp_path / "small", "unused")
        assert libraries_of(program, [folder]) == libraries_of(program)

    def test_lies_in_the_image_where_the_loader_looks(
        self, program: Path, answers: Remembered, tmp_path: Path
    ) -> None:
        folder = self.stand_in(tmp_path / "small", "used")
        entries, _ = program_entries(Manifest(), answers, [program], [folder])
        (libc,) = (entry.path for entry in entries if entry.path.endswith("/libc.so.6"))
        (taken,) = (e for e in entries if isinstance(e, File) and e.part == "libbig.so")
        assert taken.path == str(Path(libc).with_name("libbig.so"))
        assert taken.content == folder / "libbig.so"

    def test_of_the_image_are_there_as_libraries_with_the_names_that_are_asked_for(
        self, tmp_path: Path
    ) -> None:
        for folder in stand_ins(Cache(tmp_path / "cache"), ignore):
            (library,) = folder.glob("*.so*")
            said = run.run(["readelf", "-d", library]).text
            assert f"Library soname: [{library.name}]" in said
            assert "(NEEDED)" not in said


class TestPrograms:
    def test_a_program_takes_the_place_of_the_applet_of_its_name(self, answers: Remembered) -> None:
        entries, replaced = program_entries(read_manifest(), answers)

        busybox = find_program("busybox", "busybox")
        links = {entry.path for entry in entries if isinstance(entry, Link)}
        assert replaced == {"ip": "/bin/ip"}
        applets = {f"/bin/{name}" for name in applets_of(busybox)}  # a static one names itself, too
        assert links - {"/sbin/ip"} == applets - {"/bin/ip", "/bin/busybox"}

    def test_libraries_lie_where_the_loader_found_them(self, answers: Remembered) -> None:
        entries, _ = program_entries(read_manifest(), answers)

        libraries = [e for e in entries if isinstance(e, File) and ".so" in e.path]
        assert libraries
        assert all(e.content == Path(e.path) and e.part == Path(e.path).name for e in libraries)

    def test_remembered_they_are_the_same(self, answers: Remembered, tmp_path: Path) -> None:
        asked = program_entries(read_manifest(), answers)

        assert program_entries(read_manifest(), Remembered(Cache(tmp_path / "cache"))) == asked

    def test_a_version_is_what_the_program_says(self, answers: Remembered) -> None:
        assert re.match(r"bsdtar \d", version_of(find_program("bsdtar", "-"), answers))


class TestManifest:
    def test_every_entry_of_a_manifest_is_read(self, tmp_path: Path) -> None:
        manifest = read_manifest(image_box.small_image(tmp_path / "image"))

        assert set(manifest.fixed) == {
            Directory("/tmp", 0o1777),
            Device("/dev/null", 0o666, 1, 3),
            File("/etc/a file", 0o644, b"of the image\n"),
        }
        assert (manifest.programs, manifest.agent) == ((), "/bin/linklab-agent")

    @pytest.mark.parametrize(
        ("broken", "why"),
        [
            ("[agent]\npath", "lacks 'agent'|cannot be used"),
            ('"0666"', "cannot be used"),
            ('"a file"', "cannot be used.*missing"),
        ],
    )
    def test_a_broken_one_is_named(self, tmp_path: Path, broken: str, why: str) -> None:
        image = image_box.small_image(tmp_path / "image")
        manifest = image / "manifest.toml"
        replacement = {'"0666"': '"rw-"', '"a file"': '"missing"'}.get(broken, "")
        manifest.write_text(manifest.read_text().replace(broken, replacement))

        with pytest.raises(LabError, match=f"manifest {re.escape(str(manifest))} .*({why})"):
            read_manifest(image)

    def test_one_that_lacks_a_table_says_which(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.toml").write_text("programs = []\n")

        with pytest.raises(LabError, match="lacks 'templates'"):
            read_manifest(tmp_path)


class TestTree:
    def test_folders_on_the_way_are_added_once(self) -> None:
        tree = tree_of([Link("/a/b/c", "x"), Directory("/a", 0o700), Link("/a/b/d", "y")])

        assert tree == (
            Directory("/a", 0o700),
            Directory("/a/b"),
            Link("/a/b/c", "x"),
            Link("/a/b/d", "y"),
        )
