"""Why a hunk has no place, in words and lines that a person can act on."""

from __future__ import annotations

from linklab.kernel.diff import parse_diff
from linklab.port.outcome import Conflict, Fault
from linklab.port.place import Text, explain

OLD = ["int f(void)\n", "{\n", "\tprepare();\n", "\twork(1);\n", "\tfinish();\n", "}\n"]


def why(old: list[str], new: list[str], there: list[str], heading: str = "") -> Conflict:
    """Explain a hunk that takes one list of lines to another, in a file of a third."""
    same = 0
    while old[same] == new[same]:
        same += 1
    body = [f" {line}" for line in old[:same]]
    body += [f"-{old[same]}", f"+{new[same]}", *(f" {line}" for line in old[same + 1 :])]
    head = f"--- a/x\n+++ b/x\n@@ -1,{len(old)} +1,{len(new)} @@ {heading}\n"
    (diff,) = parse_diff((head + "".join(body)).encode())
    return explain("x", Text("".join(there).encode()), diff.hunks[0], 1, 1, 0)


NEW = [*OLD[:3], "\twork(2);\n", *OLD[4:]]


def test_a_line_that_reads_otherwise_is_shown_beside_the_one_that_was_expected() -> None:
    found = why(OLD, NEW, ["// first\n", *OLD[:3], "\twork(0);\n", *OLD[4:]])
    assert (found.line, found.expected, found.found) == (5, ("\twork(1);",), ("\twork(0);",))
    assert found.why == "the lines that it changes are other ones"


def test_lines_in_between_are_shown_as_there() -> None:
    found = why(OLD, NEW, [*OLD[:4], "\tmore();\n", *OLD[4:]])
    assert (found.line, found.expected, found.found) == (5, (), ("\tmore();",))
    assert found.why == "the lines around its change are other ones"


def test_another_end_and_another_beginning_are_found() -> None:
    found = why(OLD, NEW, [*OLD[:4], "\tend();\n", "}\n"])
    assert (found.line, found.expected, found.found) == (5, ("\tfinish();",), ("\tend();",))
    found = why(OLD, NEW, ["long f(void)\n", *OLD[1:]])
    assert (found.line, found.expected, found.found) == (1, ("int f(void)",), ("long f(void)",))


def test_white_space_alone_is_called_that_even_where_no_line_is_the_same() -> None:
    there = [line.replace("\t", "    ").replace("{", " {").replace("}", " }") for line in OLD]
    found = why(OLD, NEW, [line.replace("f(void)", "f( void )") for line in there])
    assert found.why == "it differs in white space only"
    assert found.line == 1


def test_a_file_with_none_of_its_lines_shows_what_was_to_be_changed() -> None:
    found = why(OLD, NEW, ["nothing\n"] * 3)
    assert (found.why, found.expected) == ("none of its lines is in the file", ("\twork(1);",))
    assert found.line == 1


def test_a_place_that_another_hunk_has_taken_is_named() -> None:
    found = why(OLD, NEW, OLD)
    assert found.fault is Fault.UNSURE
    assert "it fits at lines 1" in found.why


def test_a_function_that_is_elsewhere_is_named() -> None:
    found = why(OLD[2:5], NEW[2:5], ["int g(void)\n", "{\n", *OLD[2:]], "int f(void)")
    assert found.fault is Fault.ELSEWHERE
    assert found.why == "it fits only under `int g(void)`, and is meant for `int f(void)`"
    assert found.line == 3
    found = why(OLD[2:5], NEW[2:5], OLD[2:], "int f(void)")
    assert "under `the beginning of the file`" in found.why


def test_a_hunk_without_context_says_that_it_has_none() -> None:
    (diff,) = parse_diff(b"--- a/x\n+++ b/x\n@@ -3,0 +4 @@\n+added\n")
    found = explain("x", Text(b"".join([b"a\n"] * 9)), diff.hunks[0], 1, 1, 3)
    assert found.why == "it has no context that says where it belongs"
