"""From function and offset to file and line, with a small vmlinux of our own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from linklab.console.frames import Frame
from linklab.host.run import CommandFailed, run
from linklab.lab.symbols import decoded, places_of

SOURCE = Path(__file__).parent / "small_kernel"


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with debug information, its sources in folders such as the kernel's."""
    out = tmp_path_factory.mktemp("built") / "vmlinux"
    files = [str(path) for path in sorted(SOURCE.rglob("*.c"))]
    flags = ["-g", "-O1", "-nostdlib", "-static", "-fno-pie", "-no-pie"]
    subprocess.run(["gcc", *flags, "-o", out, *files], check=True)
    return out


def size_of(vmlinux: Path, function: str) -> int:
    listed = run(["nm", "-S", vmlinux]).text
    found = re.search(rf"^\S+ (\S+) [tT] {function}$", listed, re.MULTILINE)
    assert found is not None
    return int(found[1], 16)


def call_in(vmlinux: Path, function: str, callee: str) -> int:
    """Return the offset behind the call of `callee` in a function: a return address."""
    code = run(["objdump", "-d", f"--disassemble={function}", vmlinux]).text
    lines = [line for line in code.splitlines() if re.match(r"\s+[0-9a-f]+:\t", line)]
    start, at = (int(lines[i].split(":")[0], 16) for i in (0, -1))
    for i, line in enumerate(lines[:-1]):
        if f"<{callee}>" in line:
            at = int(lines[i + 1].split(":")[0], 16)
    return at - start


def line_of(file: str, text: str) -> int:
    lines = (SOURCE / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_function_is_found_in_its_file(vmlinux: Path) -> None:
    frame = Frame("panic", 0, size_of(vmlinux, "panic"), is_pointer=True)
    (place,) = places_of([frame], vmlinux)[frame]
    assert (place.function, place.file) == ("panic", "kernel/panic.c")


def test_a_return_address_is_the_line_of_the_call_and_what_was_inlined_comes_first(
    vmlinux: Path,
) -> None:
    size = size_of(vmlinux, "dev_close")
    frame = Frame("dev_close", call_in(vmlinux, "dev_close", "panic"), size)
    inner, outer = places_of([frame], vmlinux)[frame]
    assert (inner.function, inner.inlined) == ("check", True)
    assert str(inner) == f"net/core/dev.c:{line_of('net/core/dev.c', 'panic();')}"
    assert (outer.function, outer.inlined) == ("dev_close", False)
    assert str(outer) == f"net/core/dev.c:{line_of('net/core/dev.c', 'check(x + 1);')}"


def test_what_kallsyms_takes_for_a_functions_size_may_be_more(vmlinux: Path) -> None:
    size = size_of(vmlinux, "shared") + 15  # up to the next symbol, padding included
    frame = Frame("shared", 0, size, is_pointer=True)
    assert places_of([frame], vmlinux)[frame][-1].file == "kernel/panic.c"


@pytest.mark.parametrize(
    "frame",
    [
        Frame("nowhere", 0, 16),
        Frame("panic", 0, 16, module="dummy"),
        Frame("panic", 99, 16),
    ],
)
def test_what_is_not_in_it_is_left_out(vmlinux: Path, frame: Frame) -> None:
    assert places_of([frame], vmlinux) == {}


def test_a_report_gets_its_lines_and_keeps_its_words(vmlinux: Path) -> None:
    size = size_of(vmlinux, "dev_close")
    offset = call_in(vmlinux, "dev_close", "panic")
    report = (
        "[    2.000000] WARNING: CPU: 0 PID: 51 at net/core/dev.c:7 free+0x1/0x2\n"
        "[    2.000001] Call Trace:\n"
        f"[    2.000002]  ? dev_close+{offset:#x}/{size:#x}\n"
        f"[    2.000003]  dev_close+{offset:#x}/{size:#x}\n"
        "[    2.000004]  gone+0x1/0x2 [module]"
    )
    lines = decoded(report, vmlinux).splitlines()
    outer = line_of("net/core/dev.c", "check(x + 1);")
    inner = line_of("net/core/dev.c", "panic();")
    before = report.splitlines()
    assert lines == [
        before[0],
        before[1],
        f"{before[2]} net/core/dev.c:{outer}",
        f"[    2.000003]  check net/core/dev.c:{inner} [inline]",
        f"{before[3]} net/core/dev.c:{outer}",
        before[4],
    ]


def test_a_file_that_is_no_program_is_said(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("no ELF")
    with pytest.raises(CommandFailed, match="nm"):
        decoded("[    2.0] panic+0x1/0x10", tmp_path / "vmlinux")
