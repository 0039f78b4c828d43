"""Reading ELF files: what asks for what, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.host.elf import is_elf, read_elf

MENU = Path("/usr/lib/syslinux/modules/bios/menu.c32")


def test_a_64_bit_program_names_its_loader_and_libraries() -> None:
    elf = read_elf(Path("/bin/cat"))

    assert elf.interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert "libc.so.6" in elf.needed


def test_a_32_bit_module_names_the_modules_it_loads() -> None:
    elf = read_elf(MENU)

    assert (elf.interpreter, elf.needed) == (None, ("libutil.c32",))


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x02" + bytes(100)]
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(ValueError, match="no little-endian ELF file"):
        read_elf(tmp_path / "file")


@given(length=st.integers(min_value=64, max_value=20_000))
def test_one_cut_short_is_never_misread(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    data = MENU.read_bytes()
    file = tmp_path_factory.getbasetemp() / "cut"
    file.write_bytes(data[:length])

    with pytest.raises(ValueError, match="cut short or damaged"):
        read_elf(file)


def test_the_first_four_bytes_tell() -> None:
    assert is_elf(MENU.read_bytes())
    assert not is_elf(b"\x7fEL")
