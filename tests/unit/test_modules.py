"""A kernel's modules: what each says of itself, and which to load in which order."""

from __future__ import annotations

import gzip
import lzma
import subprocess
import zipfile
from pathlib import Path

import pytest
from fake_modules import elf_with, module, modules_folder, tree_in

from linklab.errors import UsageError
from linklab.host.compression import unpacked
from linklab.kernel.modules import ModuleTree, ZipStore, module_name, read_modinfo


def loaded(tree: ModuleTree, *wanted: str) -> list[str]:
    """Return the names in the order to load, `-` before those that may refuse."""
    return [f"{'-' * m.optional}{m.name}" for m in tree.in_order(wanted)]


# What a module says


def test_a_module_tells_what_it_needs_and_what_it_answers_to() -> None:
    info = read_modinfo(
        module("a-b,c", soft=["pre: x y post: z", "w"], aliases=["rtnl-link-q"], more="modversions")
    )
    assert info.depends == ("a_b", "c")
    assert (info.before, info.after) == (("x", "y", "w"), ("z",))
    assert info.aliases == ("rtnl-link-q",)
    assert info.in_tree
    assert info.vermagic == "6.12.0-test SMP mod_unload modversions"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x7fELF\1\1" + b"\0" * 90, module()[:0x50], elf_with(".text", b"x")],
)
def test_what_is_no_module_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF file|no module"):
        read_modinfo(content)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/net/nf-nat.ko", "nf_nat"),
        ("a/b.ko.xz", "b"),
        ("b.ko.zst", "b"),
        ("b.ko.gz", "b"),
        ("modules.dep", None),
        ("b.o", None),
    ],
)
def test_a_file_is_a_modules_by_its_name(path: str, name: str | None) -> None:
    assert module_name(path) == name


def test_modules_are_unpacked_whatever_they_are_packed_with() -> None:
    plain = module()
    zstd = subprocess.run(["zstd", "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout
    for packed in (plain, gzip.compress(plain), lzma.compress(plain), zstd):
        assert unpacked(packed) == plain


@pytest.mark.parametrize("cut", [gzip.compress(module()), lzma.compress(module())])
def test_a_damaged_package_of_a_module_is_told(cut: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        unpacked(cut[:20])


# Which to load, and in which order


def test_what_a_module_depends_on_is_loaded_before_it(tmp_path: Path) -> None:
    tree = tree_in(
        modules_folder(
            tmp_path,
            ["net/ipv6/ipv6"],
            net_vxlan=module("udp_tunnel,ip6-udp-tunnel,ipv6"),
            net_udp_tunnel=b"",
            net_veth=module(),
        )
    )
    (tmp_path / "kernel/net/udp").rename(tmp_path / "kernel/net/ipv4")
    (tmp_path / "kernel/net/ipv4/tunnel.ko").unlink()
    (tmp_path / "kernel/net/udp_tunnel.ko").write_bytes(module())
    (tmp_path / "kernel/net/ip6_udp_tunnel.ko.xz").write_bytes(lzma.compress(module("udp_tunnel")))
    assert loaded(tree, "vxlan", "veth", "vxlan") == [
        "udp_tunnel",
        "ip6_udp_tunnel",
        "vxlan",
        "veth",
    ]


def test_what_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    tree = tree_in(modules_folder(tmp_path, ["drivers/net/dummy"]))
    assert loaded(tree, "dummy") == []
    assert tree.has("dummy")


def test_soft_dependencies_are_loaded_around_it_and_may_refuse(tmp_path: Path) -> None:
    tree = tree_in(
        modules_folder(
            tmp_path,
            lib_a=module("c", soft=["pre: b nowhere post: d", "pre: c"]),
            lib_b=module("e"),
            lib_c=module(),
            lib_d=module(),
            lib_e=module(),
        )
    )
    assert loaded(tree, "a") == ["-e", "-b", "c", "a", "-d"]


def test_modules_that_need_each_other_come_to_an_end(tmp_path: Path) -> None:
    tree = tree_in(modules_folder(tmp_path, a=module("b"), b=module("a")))
    assert loaded(tree, "a") == ["b", "a"]


def test_an_alias_stands_for_the_modules_that_answer_to_it(tmp_path: Path) -> None:
    tree = tree_in(
        modules_folder(
            tmp_path,
            net_veth=module(aliases=["rtnl-link-veth"]),
            crypto_fast=module(aliases=["crypto-crc32c"]),
            crypto_plain=module(aliases=["crypto-crc*"]),
        )
    )
    assert loaded(tree, "rtnl-link-veth") == ["veth"]
    assert loaded(tree, "crypto-crc32c") == ["-fast", "-plain"], "one of them is enough"
    assert tree.has("crypto-crc32c")


def test_an_alias_of_what_is_built_in_needs_nothing(tmp_path: Path) -> None:
    folder = modules_folder(tmp_path, ["net/dummy"])
    (folder / "modules.builtin.modinfo").write_bytes(
        b"dummy.license=GPL\0dummy.alias=rtnl-link-dummy\0garbage\0"
    )
    assert loaded(tree_in(folder), "rtnl-link-dummy") == []


def test_the_lists_of_an_installed_kernel_are_believed(tmp_path: Path) -> None:
    folder = modules_folder(tmp_path, net_veth=module())
    (folder / "updates/dkms").mkdir(parents=True)
    (folder / "updates/dkms/veth.ko").write_bytes(module(more="newer"))
    (folder / "modules.dep").write_text("updates/dkms/veth.ko:\nkernel/net/veth.ko: other.ko\n")
    (folder / "modules.alias").write_text("# by depmod\nalias rtnl-link-ve* veth\n")
    tree = tree_in(folder)
    (veth,) = tree.in_order(["rtnl-link-veth"])
    assert b"newer" in veth.content


@pytest.mark.parametrize("suffix", ["o", "ko"])
def test_a_built_tree_lists_its_modules(tmp_path: Path, suffix: str) -> None:
    folder = modules_folder(tmp_path)
    (folder / "Makefile").touch()
    (folder / "modules.order").write_text(f"net/veth.{suffix}\n")
    (folder / "net").mkdir()
    (folder / "net/veth.ko").write_bytes(module())
    assert loaded(tree_in(folder), "veth") == ["veth"]


def test_modules_in_an_archive_are_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "modules.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("modules.builtin", "kernel/net/ipv6.ko\n")
        archive.writestr("kernel/net/veth.ko", module("ipv6"))
    tree = ModuleTree("6.1", ZipStore(path), "package linux-image-6.1")
    assert loaded(tree, "veth", "ipv6") == ["veth"]


def test_a_module_that_is_nowhere_is_named_with_who_wants_it(tmp_path: Path) -> None:
    tree = tree_in(modules_folder(tmp_path, a=module("b"), b=module("gone")))
    with pytest.raises(UsageError, match=r"6\.12\.0-test has no dummy: it is neither built in"):
        tree.in_order(["dummy"])
    with pytest.raises(UsageError, match="has no gone, which b depends on"):
        tree.in_order(["a"])
    assert not tree.has("dummy")


@pytest.mark.parametrize("content", [b"no module", lzma.compress(module())[:30]])
def test_a_module_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    tree = tree_in(modules_folder(tmp_path, net_veth=content))
    with pytest.raises(UsageError, match=r"kernel/net/veth\.ko in .* cannot be used"):
        tree.in_order(["veth"])
