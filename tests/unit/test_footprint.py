"""What a kernel's config costs in guest memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.commands.kernels import KernelOptions
from linklab.kernel.kernel import BuildOptions
from linklab.kernel.requirements import ConfigSize, config_size_for, config_size_of

PLAIN = ConfigSize()
LOCKDEP = config_size_of({"CONFIG_PROVE_LOCKING": "y"})
KASAN = config_size_of({"CONFIG_KASAN": "y"})
BOTH = config_size_of({"CONFIG_KASAN": "y", "CONFIG_PROVE_LOCKING": "y"})


def test_a_plain_kernel_needs_what_its_work_needs() -> None:
    assert config_size_of({"CONFIG_KASAN": "n"}) == PLAIN
    assert PLAIN.needed(1234) == PLAIN.left(1234) == 1234


def test_what_finds_bugs_needs_more_and_together_most() -> None:
    needed = [size.needed(100) for size in (PLAIN, LOCKDEP, KASAN, BOTH)]
    assert needed == sorted(set(needed))


def test_kasans_shadow_grows_with_the_memory() -> None:
    assert KASAN.needed(2000) - KASAN.needed(1000) > 1000 * 9 / 8


@pytest.mark.parametrize("size", [PLAIN, LOCKDEP, KASAN, BOTH])
@given(work=st.integers(0, 1 << 20))
def test_what_is_needed_is_enough_and_not_more(size: ConfigSize, work: int) -> None:
    needed = size.needed(work)
    assert size.left(needed) >= work
    assert size.left(needed - 4) <= work


def test_too_little_memory_leaves_nothing() -> None:
    assert KASAN.left(1) == 0


def test_flavours_cost_what_their_fragments_ask_for(tmp_path: Path) -> None:
    costs = {name: config_size_for(name, BuildOptions()) for name in ("nosysfs", "debug")}
    assert costs == {"nosysfs": PLAIN, "debug": BOTH}
    assert config_size_for("debug-nosysfs", BuildOptions()) == LOCKDEP
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_KASAN=y\n")
    assert config_size_for("sysfs", BuildOptions(configs=(fragment,))) == KASAN


def test_a_tree_costs_what_its_config_says_and_anything_else_nothing(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("CONFIG_KASAN=y\n")
    assert config_size_for(str(tmp_path), BuildOptions()) == KASAN
    assert config_size_for(str(tmp_path / "bzImage"), BuildOptions()) == PLAIN


def test_of_several_kernels_the_hungriest_counts() -> None:
    options = KernelOptions("nosysfs,debug")
    assert options.memory(100) == BOTH.needed(100)
    assert options.memory_left(1000) == BOTH.left(1000)
