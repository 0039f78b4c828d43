"""Flavours that take modules: built so where modules are asked for, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tree import make_tree

from linklab.events import ignore
from linklab.host.cache import Cache
from linklab.kernel.extmodule import PACKED, SYMBOLS, PackedBuild, open_build
from linklab.kernel.kernel import BuildOptions, KernelSpec, build_kernel, resolve_kernel


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "linux")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_a_kernel_that_takes_modules_keeps_its_own_and_what_others_are_built_against(
    tree: Path, cache: Cache
) -> None:
    kernel = resolve_kernel("sysfs", BuildOptions(tree, modular=True), cache, ignore)
    assert kernel.modules is not None
    assert [module.name for module in kernel.modules.in_order(["veth"])] == ["veth"]
    assert kernel.modules.has("ipv6")
    assert isinstance(kernel.build, PackedBuild)
    folder = open_build(kernel.build, cache, ignore)
    assert (folder / SYMBOLS).read_text() == "symbols\n"
    assert (folder / "Makefile").read_text() == (tree / "Makefile").read_text()
    assert "CONFIG_MODULES=y" in (folder / ".config").read_text()


def test_a_flavour_as_it_comes_is_another_kernel_and_takes_none(tree: Path, cache: Cache) -> None:
    modular = build_kernel(KernelSpec("sysfs", BuildOptions(tree, modular=True)), cache, ignore)
    stock = build_kernel(KernelSpec("sysfs", BuildOptions(tree)), cache, ignore)
    assert stock.key != modular.key
    assert PACKED not in stock.hashes
    kernel = resolve_kernel("sysfs", BuildOptions(tree), cache, ignore)
    assert kernel.build is None
    assert "CONFIG_MODULES=y" not in stock.file("config").read_text()
