"""Warnings read from a build's output, remembered by the objects, compared between states."""

from __future__ import annotations

from pathlib import Path

import pytest

from linklab.kernel.compilerwarnings import (
    CompilerWarning,
    new_warnings,
    parse_warnings,
    remember,
)

OUTPUT = """make[1]: Entering directory '/cache/obj'
  CC      net/core/dev.o
/cache/tree/net/core/dev.c: In function 'f':
/cache/tree/net/core/dev.c:12:7: warning: unused variable 'x' [-Wunused-variable]
   12 |   int x;
      |       ^
/cache/tree/net/core/dev.c: At top level:
/cache/tree/net/core/dev.c:40:13: warning: 'g' defined but not used [-Wunused-function]
  CC      net/core/sock.o
  LD      vmlinux.o
vmlinux.o: warning: objtool: f+0x12: unreachable instruction
make[2]: warning:  Clock skew detected.
/cache/tree/net/core/a.c:9:1: error: no warning: this
"""
TREE = Path("/cache/tree")


def warning(text: str, line: int = 1, function: str = "f", file: str = "a.c") -> CompilerWarning:
    return CompilerWarning(file, line, text, function)


def test_warnings_are_read_with_the_object_and_the_function_they_belong_to() -> None:
    found = parse_warnings(OUTPUT.splitlines(), TREE)
    assert list(found) == ["net/core/dev.o", "net/core/sock.o", "vmlinux.o"]
    first, second = found["net/core/dev.o"]
    assert str(first) == "net/core/dev.c:12: unused variable 'x' [-Wunused-variable]"
    assert (first.function, second.function) == ("f", "")
    assert found["net/core/sock.o"] == []
    assert [str(w) for w in found["vmlinux.o"]] == [
        "vmlinux.o: objtool: f+0x12: unreachable instruction"
    ]
    assert CompilerWarning.from_json(first.to_json()) == first


def test_what_moved_or_changed_its_size_is_not_new() -> None:
    before = [warning("the frame size of 1040 bytes is larger than 1024 bytes", 10)]
    after = [warning("the frame size of 1056 bytes is larger than 1024 bytes", 99)]
    assert new_warnings(before, after) == []


@pytest.mark.parametrize(
    "other",
    [warning("unused variable 'y'"), warning("unused variable 'x'", function="g"),
     warning("unused variable 'x'", file="b.c")],
)  # fmt: skip
def test_other_words_functions_and_files_are_new(other: CompilerWarning) -> None:
    assert new_warnings([warning("unused variable 'x'")], [other]) == [other]


def test_a_second_one_of_a_kind_is_new_and_a_mended_one_is_not() -> None:
    one, two = warning("unused variable 'x'", 1), warning("unused variable 'x'", 2)
    assert new_warnings([one], [one, two]) == [two]
    assert new_warnings([one, two], [one]) == []


def test_objects_that_are_not_compiled_again_keep_what_was_said_of_them(tmp_path: Path) -> None:
    for name in ("a.o", "b.o"):
        (tmp_path / name).touch()
    said = ["  CC      a.o", "a.c:1:1: warning: A", "  CC      b.o", "b.c:1:1: warning: B"]
    assert [w.text for w in remember(tmp_path, said, TREE)] == ["A", "B"]
    assert [w.text for w in remember(tmp_path, ["  CC      a.o"], TREE)] == ["B"]
    (tmp_path / "b.o").unlink()
    assert remember(tmp_path, [], TREE) == []


def test_a_headers_warning_counts_once_however_many_objects_include_it(tmp_path: Path) -> None:
    said = []
    for name in ("a.o", "b.o"):
        (tmp_path / name).touch()
        said += [f"  CC      {name}", f"{TREE}/x.h:3:1: warning: H"]
    assert [str(w) for w in remember(tmp_path, said, TREE)] == ["x.h:3: H"]
