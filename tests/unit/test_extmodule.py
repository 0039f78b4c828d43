"""Out-of-tree modules: compiled in a copy, kept by content, loaded among the kernel's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import image_box
import pytest
from fake_apt import FakeApt, deb
from fake_modules import RELEASE, module, modules_folder, tree_in

from linklab import paths
from linklab.errors import BuildSkipped, LabError, UsageError
from linklab.events import Event, Note, StepStarted, ignore
from linklab.host.cache import Cache
from linklab.image.initramfs import MODULES, build_initramfs
from linklab.image.userland import Entry
from linklab.kernel.extmodule import (
    SYMBOLS,
    Against,
    InstalledBuild,
    PackagedBuild,
    PackedBuild,
    build_modules,
    open_build,
    pack_build,
    source_hashes,
)
from linklab.kernel.kernel import Kernel
from linklab.machine.spec import Boot
from linklab.trials import subjects
from linklab.trials.subjects import Requirements, guest_image, module_words

# What a kernel's Makefile does for `make M=`, in miniature.
MAKEFILE = """
include $(M)/Kbuild
modules: $(obj-m:%.o=$(M)/%.ko)
	@echo "$(KBUILD_EXTRA_SYMBOLS)" >$(M)/Module.symvers
$(M)/%.ko: $(M)/%.c
	@echo "  CC [M]  $@"
	@$(CC) -Wall -c -o $@ $<
"""
SOURCE = """
const char said[] __attribute__((section(".modinfo"), used)) =
	"depends={depends}\\0vermagic={release}";
int init_module(void)
{{
	return 0;
}}
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def against(tmp_path: Path) -> Against:
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / SYMBOLS).write_text("0x0 printk vmlinux EXPORT_SYMBOL\n")
    return Against(RELEASE, InstalledBuild(folder), "gcc 12")


def source(folder: Path, name: str = "hello", depends: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "Kbuild").write_text(f"obj-m := {name}.o\n")
    (folder / f"{name}.c").write_text(SOURCE.format(depends=depends, release=RELEASE))
    return folder


# Compiling


def test_a_module_is_compiled_in_a_copy_and_the_folder_stays_as_it_is(
    tmp_path: Path, cache: Cache, against: Against
) -> None:
    folder = source(tmp_path / "hello")
    made = build_modules([folder], against, cache, ignore)
    assert list(made) == ["hello"]
    assert made["hello"].startswith(b"\x7fELF")
    assert sorted(path.name for path in folder.iterdir()) == ["Kbuild", "hello.c"]
    assert list((cache.root / "tmp").iterdir()) == []


def test_it_is_compiled_again_when_its_source_or_its_kernel_is_another(
    tmp_path: Path, cache: Cache, against: Against
) -> None:
    folder = source(tmp_path / "hello")
    steps: list[Event] = []

    def compiled() -> int:
        steps.clear()
        build_modules([folder], against, cache, steps.append)
        return sum(isinstance(event, StepStarted) for event in steps)

    assert compiled() == 1
    (folder / "hello.o").write_text("left by a build of the person's own")
    (folder / ".hello.o.cmd").touch()
    assert compiled() == 0
    (folder / "hello.h").write_text("// more\n")
    assert compiled() == 1
    assert isinstance(against.build, InstalledBuild)
    (against.build.folder / SYMBOLS).write_text("another kernel\n")
    assert compiled() == 1


def test_a_folder_may_use_what_those_before_it_export(
    tmp_path: Path, cache: Cache, against: Against
) -> None:
    folders = [source(tmp_path / "base", "base"), source(tmp_path / "user", "user", "base")]
    assert list(build_modules(folders, against, cache, ignore)) == ["base", "user"]
    told = [path.read_text() for path in (cache.root / "module").glob(f"*/{SYMBOLS}")]
    assert sorted(SYMBOLS in text for text in told) == [False, True]


def test_what_does_not_compile_is_shown_by_the_persons_own_paths(
    tmp_path: Path, cache: Cache, against: Against
) -> None:
    folder = source(tmp_path / "hello")
    (folder / "hello.c").write_text("int init_module(void)\n{\n\treturn missing;\n}\n")
    with pytest.raises(BuildSkipped) as caught:
        build_modules([folder], against, cache, ignore)
    assert f"the module in {folder} does not build" in caught.value.message
    assert f"{folder}/hello.c:3:16: error: 'missing' undeclared" in caught.value.evidence
    assert "make" not in caught.value.evidence
    (log,) = (cache.root / "logs").glob("module-hello-*.log")
    assert str(log) in caught.value.message
    assert "CC [M]" in log.read_text()


def test_what_the_compiler_warns_of_is_told(tmp_path: Path, cache: Cache, against: Against) -> None:
    folder = source(tmp_path / "hello")
    (folder / "hello.c").write_text("void f(void)\n{\n\tint unused;\n}\n")
    events: list[Event] = []
    build_modules([folder], against, cache, events.append)
    (note,) = (event.text for event in events if isinstance(event, Note))
    assert note.startswith(f"{folder}/hello.c:3:13: warning: unused variable")


def test_a_kbuild_file_that_makes_no_module_is_told(
    tmp_path: Path, cache: Cache, against: Against
) -> None:
    folder = source(tmp_path / "hello")
    (folder / "Kbuild").write_text("obj-y := hello.o\n")
    with pytest.raises(BuildSkipped, match="names none in obj-m"):
        build_modules([folder], against, cache, ignore)


def test_all_of_a_source_counts_but_what_builds_leave(tmp_path: Path) -> None:
    folder = source(tmp_path / "hello")
    (folder / "sub").mkdir()
    (folder / "sub/x.h").touch()
    for name in ("hello.ko", "hello.mod.c", SYMBOLS, ".hello.ko.cmd"):
        (folder / name).touch()
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").touch()
    assert set(source_hashes(folder)) == {"Kbuild", "hello.c", "sub/x.h"}


# Words


def test_a_word_is_a_folder_or_a_modules_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source(tmp_path / "veth")
    words = module_words([str(folder), "vxlan"])
    assert (words.folders, words.names) == ((folder,), ("vxlan",))
    monkeypatch.chdir(tmp_path)
    assert module_words(["veth"]).folders == (Path("veth"),), "a folder goes before a name"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nowhere/hello", "there is no such folder"),
        ("hello.ko", "or the name of a module that the kernel has"),
        (".", "no Kbuild and no Makefile in it"),
    ],
)
def test_other_words_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        module_words([word])


# What modules are built against


def test_a_folder_without_symbols_is_none_to_build_against(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(LabError, match=r"there is no Module\.symvers in it"):
        open_build(InstalledBuild(tmp_path), cache, ignore)


def test_a_kernels_build_is_packed_and_unpacked_as_one_folder(tmp_path: Path, cache: Cache) -> None:
    tree, objects = tmp_path / "tree", tmp_path / "obj"
    files = {
        tree: ("Makefile", "include/linux/a.h", "arch/x86/include/asm/b.h", "arch/x86/Makefile",
               "scripts/Makefile.build", "net/core/dev.c", "arch/x86/kernel/c.c"),
        objects: (".config", SYMBOLS, "include/generated/autoconf.h", "scripts/mod/modpost",
                  "scripts/mod/modpost.o", "include/config/auto.conf", "Makefile", "net/dev.o",
                  "arch/x86/include/generated/d.h", "tools/objtool/objtool"),
    }  # fmt: skip
    for root, names in files.items():
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(root.name)
    packed = tmp_path / "build.tar.zst"
    pack_build(tree, objects, packed)
    folder = open_build(PackedBuild(packed, "key"), cache, ignore)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {
        *(".config", SYMBOLS, "Makefile", "include/linux/a.h", "include/generated/autoconf.h"),
        *("include/config/auto.conf", "arch/x86/include/asm/b.h", "arch/x86/Makefile"),
        *("arch/x86/include/generated/d.h", "scripts/Makefile.build", "scripts/mod/modpost"),
        "tools/objtool/objtool",
    }
    assert (folder / "Makefile").read_text() == "tree"
    packed.unlink()
    assert open_build(PackedBuild(packed, "key"), cache, ignore) == folder, "unpacked once"


def test_debians_headers_are_fetched_and_find_their_common_part(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = FakeApt(tmp_path, monkeypatch)
    own, common = "usr/src/linux-headers-6.1-x", "usr/src/linux-headers-6.1-common"
    needs = "linux-headers-6.1-common, linux-kbuild-6.1, linux-compiler-gcc-12-x86"
    makefile = f"include /{common}/Makefile\n".encode()
    apt.add("linux-headers-6.1-x", "1", needs, deb(tmp_path, {f"{own}/Makefile": makefile}))
    files = {
        f"{common}/Makefile": b"",
        f"{common}/arch/arm/a.h": b"",
        f"{common}/arch/x86/a.h": b"",
    }
    apt.add("linux-headers-6.1-common", "1", "", deb(tmp_path, files))
    apt.add("linux-kbuild-6.1", "1", "", deb(tmp_path, {"usr/lib/linux-kbuild-6.1/x": b""}))
    apt.tell_system()
    folder = open_build(PackagedBuild("6.1-x"), cache, ignore)
    (word,) = (folder / "Makefile").read_text().split()[1:]
    assert Path(word).is_file()
    assert Path(word).is_relative_to(cache.root)
    assert (folder.parent / "linux-headers-6.1-common/arch/x86/a.h").exists()
    assert not (folder.parent / "linux-headers-6.1-common/arch/arm").exists()
    assert (folder.parents[1] / "lib/linux-kbuild-6.1/x").exists()


# Among the kernel's own


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requirements:
    """A purpose without needs, and with a small image."""
    image = image_box.small_image(tmp_path / "image")
    templates = tmp_path / "templates"
    templates.mkdir()
    shutil.copy(paths.TEMPLATES / "initramfs.mtree", templates)
    (templates / "hello").write_text("#!/bin/sh\n")

    def build(cache: Cache, listener: object, image: Path, more: Sequence[Entry]) -> object:
        return build_initramfs(cache, ignore, image=image, templates=templates, more=more)

    monkeypatch.setattr(subjects, "build_initramfs", build)
    return Requirements(Boot.DIRECT, image=image)


def kernel(folder: Path, against: Against | None, **modules: bytes) -> Kernel:
    tree = tree_in(modules_folder(folder / "modules", ["net/ipv6"], **modules)) if modules else None
    build = against.build if against else None
    return Kernel("mine", RELEASE, folder, None, None, "0", False, modules=tree, build=build)


def listed(kernel: Kernel, purpose: Requirements, words: list[str], cache: Cache) -> list[str]:
    made = guest_image(kernel, purpose, words, cache, ignore)
    assert made is not None
    members = image_box.read_cpio(made.file(MODULES).read_bytes())
    return members[f"/lib/modules/{RELEASE}/linklab.load"].content.decode().split()


def test_a_module_is_loaded_behind_what_it_depends_on(
    tmp_path: Path, cache: Cache, against: Against, small: Requirements
) -> None:
    mine = kernel(tmp_path, against, net_vxlan=module("tunnel,ipv6"), net_tunnel=module())
    words = [str(source(tmp_path / "hello", depends="vxlan")), "tunnel"]
    assert listed(mine, small, words, cache) == ["tunnel.ko", "vxlan.ko", "external/hello.ko"]


@pytest.mark.parametrize("name", ["veth", "ipv6"])
def test_a_module_goes_before_the_kernels_own_of_its_name(
    tmp_path: Path, cache: Cache, against: Against, small: Requirements, name: str
) -> None:
    mine = kernel(tmp_path, against, net_veth=module())
    words = [str(source(tmp_path / "new", name))]
    assert listed(mine, small, words, cache) == [f"external/{name}.ko"]


def test_a_kernel_that_came_alone_takes_a_module_that_needs_no_other(
    tmp_path: Path, cache: Cache, against: Against, small: Requirements
) -> None:
    words = [str(source(tmp_path / "hello"))]
    assert listed(kernel(tmp_path, against), small, words, cache) == ["external/hello.ko"]


def test_without_headers_or_modules_it_is_told_what_is_lacking(
    tmp_path: Path, cache: Cache, small: Requirements
) -> None:
    mine = kernel(tmp_path, None)
    with pytest.raises(UsageError, match="its headers are not here"):
        guest_image(mine, small, [str(source(tmp_path / "hello"))], cache, ignore)
    with pytest.raises(UsageError, match="came without its modules, so veth cannot be loaded"):
        guest_image(mine, small, ["veth"], cache, ignore)


def test_make_gets_nothing_of_the_persons_environment(
    tmp_path: Path, cache: Cache, against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "MAKEFLAGS", "--frob")
    monkeypatch.setitem(os.environ, "KCFLAGS", "-DX")
    assert build_modules([source(tmp_path / "hello")], against, cache, ignore)
