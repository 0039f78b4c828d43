"""What the kernel's self-tests say of themselves, and what only looks like it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linklab.results.ktap import Report, Result, ResultLine, Test, parse, read_line, worst

PASS, FAIL, SKIP = Result.PASS, Result.FAIL, Result.SKIP
XFAIL, MISSING = Result.XFAIL, Result.MISSING


def lines(*text: str) -> str:
    return "".join(f"{line}\n" for line in text)


def leaves(report: Report) -> list[tuple[str, Result]]:
    return [(test.name, test.result) for test in report.leaves()]


# --- one line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "result", "number", "name", "message"),
    [
        ("ok 1 test_case_name", PASS, 1, "test_case_name", ""),
        ("not ok 1 test_case_name", FAIL, 1, "test_case_name", ""),
        ("ok 1 - with a dash", PASS, 1, "with a dash", ""),
        ("ok 12", PASS, 12, "", ""),
        ("not ok", FAIL, None, "", ""),
        ("ok 5 check return code # rcode=0", PASS, 5, "check return code", "rcode=0"),
        ("not ok 1 selftests: net: tls # exit=1", FAIL, 1, "selftests: net: tls", "exit=1"),
        ("ok 1 test # SKIP no tool", SKIP, 1, "test", "no tool"),
        ("not ok 1 test # SKIP no tool", SKIP, 1, "test", "no tool"),
        ("ok 1 test # skipped: no tool", SKIP, 1, "test", "no tool"),
        ("ok 2 # SKIP sctp", SKIP, 2, "sctp", "sctp"),
        ("ok 1 a # XFAIL known", XFAIL, 1, "a", "known"),
        ("not ok 1 a # XFAIL known", XFAIL, 1, "a", "known"),
        ("not ok 1 a # TODO later", XFAIL, 1, "a", "later"),
        ("ok 1 a # TODO later", PASS, 1, "a", "later"),
        ("ok 1 a # XPASS unknown", PASS, 1, "a", "XPASS unknown"),
        ("not ok 1 a # XPASS", FAIL, 1, "a", "XPASS"),
        ("ok 1 a # TIMEOUT 45 seconds", FAIL, 1, "a", "TIMEOUT 45 seconds"),
        ("not ok 3 a # ERROR no memory", FAIL, 3, "a", "ERROR no memory"),
        ("ok 3 a # errors are handled", PASS, 3, "a", "errors are handled"),
        ("ok 3 issue#7 fixed", PASS, 3, "issue#7 fixed", ""),
    ],
)
def test_a_result_line_says_what_came_of_a_test(
    line: str, result: Result, number: int | None, name: str, message: str
) -> None:
    assert read_line(line) == ResultLine(result, number, name or message, message)


@pytest.mark.parametrize(
    "line",
    [
        "okay 1 x",
        "ok-ish",
        "Not ok 1 x",
        " ok 1 x",
        "2..3",
        "1..x",
        "# ok 1 x",
        "",
        "KTAP",
        "nok 1",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert read_line(line) is None


# --- the documents of the specifications ----------------------------------------

KTAP_EXAMPLE = lines(  # Documentation/dev-tools/ktap.rst, "Example KTAP output"
    "KTAP version 1",
    "1..1",
    "  KTAP version 1",
    "  1..3",
    "    KTAP version 1",
    "    1..1",
    "    # test_1: initializing test_1",
    "    ok 1 test_1",
    "  ok 1 example_test_1",
    "    KTAP version 1",
    "    1..2",
    "    ok 1 test_1 # SKIP test_1 skipped",
    "    ok 2 test_2",
    "  ok 2 example_test_2",
    "    KTAP version 1",
    "    1..3",
    "    ok 1 test_1",
    "    # test_2: FAIL",
    "    not ok 2 test_2",
    "    ok 3 test_3 # SKIP test_3 skipped",
    "  not ok 3 example_test_3",
    "not ok 1 main_test",
)


def test_the_example_of_the_specification_is_read_as_it_says() -> None:
    report = parse(KTAP_EXAMPLE)
    (main,) = report.tests
    assert (main.name, main.result, report.result) == ("main_test", FAIL, FAIL)
    assert [(test.name, test.result) for test in main.subtests] == [
        ("example_test_1", PASS),
        ("example_test_2", PASS),
        ("example_test_3", FAIL),
    ]
    first, second, third = (test.subtests for test in main.subtests)
    assert first[0].diagnostics == ("# test_1: initializing test_1",)
    assert [test.result for test in second] == [SKIP, PASS]
    assert second[0].message == "test_1 skipped"
    assert [test.result for test in third] == [PASS, FAIL, SKIP]
    assert third[1].diagnostics == ("# test_2: FAIL",)
    assert report.faults == ()


def test_the_output_of_the_kselftest_runner_is_a_tree() -> None:
    report = parse(
        lines(
            "TAP version 13",
            "1..3",
            "# timeout set to 45",
            "# selftests: net: tls",
            "# TAP version 13",
            "# 1..3",
            "# # Starting 3 tests from 2 test cases.",
            "# #  RUN           global.no_pad ...",
            "# #            OK  global.no_pad",
            "# ok 1 global.no_pad",
            "# ok 2 # SKIP no kTLS",
            "# not ok 3 tls.send",
            "# # FAILED: 1 / 3 tests passed.",
            "not ok 1 selftests: net: tls # exit=1",
            "# timeout set to 45",
            "# selftests: net: rtnetlink.sh",
            "# PASS: policy routing",
            "# ok 1 is what a script may remark",
            "ok 2 selftests: net: rtnetlink.sh",
            "ok 3 selftests: net: veth.sh # SKIP",
        )
    )
    tls, rtnetlink, veth = report.tests
    assert [test.name for test in tls.subtests] == ["global.no_pad", "no kTLS", "tls.send"]
    assert [test.result for test in tls.subtests] == [PASS, SKIP, FAIL]
    assert tls.message == "exit=1"
    assert rtnetlink.result is PASS
    assert rtnetlink.subtests == ()
    assert "# PASS: policy routing" in rtnetlink.diagnostics
    assert veth.result is SKIP
    assert report.faults == ()


def test_kunit_names_its_suite_inside_of_it_and_tap_14_before_it() -> None:
    kunit = lines("KTAP version 1", "1..1", "    # Subtest: suite", "    1..1", "    ok 1 case")
    tap14 = lines("TAP version 14", "1..1", "# Subtest: suite", "    1..1", "    ok 1 case")
    for text in (kunit, tap14):
        (cut,) = parse(text).tests
        assert (cut.name, cut.result, cut.subtests[0].name) == ("suite", MISSING, "case")
        (whole,) = parse(text + "ok 1 suite\n").tests
        assert (whole.name, whole.result) == ("suite", PASS)


def test_indented_results_without_a_header_are_subtests() -> None:
    report = parse(lines("1..1", "    ok 1 a", "    ok 2 b", "ok 1 both"))
    assert leaves(report) == [("a", PASS), ("b", PASS)]


def test_siblings_of_different_depth_belong_to_the_same_parent_level() -> None:
    report = parse(
        lines("1..2", "      1..1", "      ok 1 deep", "ok 1 first", "  1..1", "  ok 1 b", "ok 2 c")
    )
    assert [test.name for test in report.tests] == ["first", "c"]
    assert report.result is PASS


# --- plans ----------------------------------------------------------------------


def test_a_plan_may_stand_at_the_end_or_nowhere() -> None:
    for text in (lines("ok 1 a", "ok 2 b", "1..2"), lines("ok 1 a", "ok 2 b")):
        report = parse(text)
        assert leaves(report) == [("a", PASS), ("b", PASS)]
        assert report.faults == ()


def test_planned_tests_that_never_reported_are_missing() -> None:
    report = parse(lines("1..6", "ok 1 a", "ok 3 c"))
    assert report.result is MISSING
    assert leaves(report)[2:] == [("test 2", MISSING), ("tests 4 to 6", MISSING)]


def test_a_huge_plan_is_one_gap() -> None:
    assert len(parse(lines("1..999999999", "ok 1 a")).tests) == 2


def test_a_plan_of_none_is_a_skip_with_its_reason() -> None:
    report = parse(lines("TAP version 13", "1..0 # SKIP no ip tool"))
    assert (report.result, report.skipped) == (SKIP, "no ip tool")
    (parent,) = parse(lines("1..1", "# TAP version 13", "# 1..0 # SKIP no ip", "ok 1 x")).tests
    assert parent.message == "no ip"


def test_a_version_alone_is_no_pass() -> None:
    assert parse(lines("KTAP version 1")).result is MISSING


def test_more_tests_than_planned_is_a_fault() -> None:
    report = parse(lines("1..1", "ok 1 a", "ok 2 b"))
    assert report.faults == ("2 tests were reported, 1 were planned",)


def test_documents_one_after_another_are_all_read() -> None:
    one = lines("TAP version 13", "1..2", "ok 1 a", "ok 2 b")
    report = parse(one + one + lines("1..1", "not ok 1 c"))
    assert [test.name for test in report.tests] == ["a", "b", "a", "b", "c"]
    assert report.faults == ()
    assert parse(one + lines("TAP version 13", "1..2", "ok 1 a")).result is MISSING


# --- numbers ----------------------------------------------------------------------


def test_numbers_out_of_order_are_a_fault_and_no_result_is_lost() -> None:
    report = parse(lines("1..3", "ok 1 a", "not ok 3 c", "ok 2 b"))
    assert leaves(report) == [("a", PASS), ("c", FAIL), ("b", PASS)]
    assert report.faults[0] == "test 3 (c) stands where test 2 was expected"


def test_a_number_twice_does_not_stand_for_the_one_that_is_missing() -> None:
    report = parse(lines("1..2", "ok 1 a", "ok 1 a"))
    assert report.result is MISSING
    assert report.faults[-1] == "reported twice: test 1"


def test_tap_without_numbers_is_counted() -> None:
    report = parse(lines("TAP version 13", "1..2", "ok a", "not ok b"))
    assert [(test.number, test.name) for test in report.tests] == [(1, "a"), (2, "b")]


def test_a_bare_ok_among_numbered_tests_is_anybodys_word() -> None:
    report = parse(lines("TAP version 13", "1..3", "ok 1 a", "ok", "ok 3 c"))
    assert report.result is MISSING
    assert [test.name for test in report.tests] == ["a", "c", "test 2"]


# --- what is cut short or given up ---------------------------------------------------


def test_subtests_whose_parent_never_reported_did_not_pass() -> None:
    report = parse(lines("1..1", "# Subtest: suite", "  1..1", "  ok 1 a"))
    assert [(test.name, test.result) for test in report.tests] == [("suite", MISSING)]
    assert report.result is MISSING
    assert "suite began and never reported" in report.faults


def test_the_next_subtests_do_not_stand_for_the_ones_before() -> None:
    report = parse(
        lines("1..2", "# Subtest: one", "  1..1", "  ok 1 a", "# Subtest: two")
        + lines("  1..1", "  ok 1 b", "ok 2 two")
    )
    assert [(test.name, test.result) for test in report.tests] == [("one", MISSING), ("two", PASS)]


def test_a_last_line_without_its_newline_is_no_pass() -> None:
    report = parse("1..1\nok 1 a")
    assert report.result is MISSING
    assert parse("1..1\nnot ok 1 a").result is FAIL


def test_a_bail_out_fails_and_says_why() -> None:
    report = parse(lines("1..3", "ok 1 a", "Bail out! no memory"))
    assert (report.result, report.bailed_out) == (FAIL, "no memory")
    assert leaves(report)[-1] == ("tests 2 to 3", MISSING)


def test_a_bail_out_of_subtests_fails_their_parent_alone() -> None:
    report = parse(
        lines("1..2", "# TAP version 13", "# 1..2", "# Bail out! no root", "ok 1 a", "ok 2 b")
    )
    assert [test.result for test in report.tests] == [FAIL, PASS]
    assert "no root" in report.tests[0].message


def test_a_parent_that_passes_over_failed_subtests_fails() -> None:
    report = parse(lines("1..1", "  1..1", "  not ok 1 a", "ok 1 parent"))
    assert report.result is FAIL
    assert report.faults == ("parent says `pass`, its subtests do not",)


def test_a_parent_expected_to_fail_is_excused_with_its_subtests() -> None:
    report = parse(lines("1..1", "  1..1", "  not ok 1 a", "not ok 1 parent # XFAIL known"))
    assert report.result is XFAIL
    cut = parse(lines("1..1", "  1..2", "  not ok 1 a", "not ok 1 parent # XFAIL known"))
    assert cut.tests[0].subtests[1].result is MISSING


# --- garbage -----------------------------------------------------------------------------


def test_what_is_no_ktap_has_no_result() -> None:
    for text in ("", lines("PASS: policy routing", "not okay", "ok", "ok then")):
        report = parse(text)
        assert report.result is None
        assert not report.announced


def test_colours_nul_bytes_and_carriage_returns_change_nothing() -> None:
    assert leaves(parse("1..1\r\n\x1b[32mok\x1b[0m 1\0 a\r\n")) == [("a", PASS)]


GARBAGE = st.sampled_from(
    [
        "[   12.345678] dummy0: entered promiscuous mode",
        "[    1.000000] ok 1 what the kernel prints",
        "# a remark",
        "#",
        "",
        "ok",
        "sh: ip: not found",
        "    TEST: rule6 check                     [ OK ]",
        "\x1b[31mred\x1b[0m",
        "okay",
    ]
)


@dataclass(frozen=True)
class Node:
    result: Result
    children: tuple[Node, ...] = ()


def _parent(children: list[Node]) -> Node:
    results = {child.result for child in children}
    return Node(FAIL if FAIL in results else PASS, tuple(children))


LEAF = st.sampled_from([PASS, FAIL, SKIP, XFAIL]).map(Node)
TREE = st.lists(
    st.recursive(LEAF, lambda inner: st.lists(inner, min_size=1, max_size=4).map(_parent)),
    min_size=1,
    max_size=5,
)
WORDS = {PASS: "ok {}", FAIL: "not ok {}", SKIP: "ok {} # SKIP why", XFAIL: "not ok {} # XFAIL why"}


def written(nodes: list[Node] | tuple[Node, ...], nesting: str, prefix: str = "") -> list[str]:
    """Return the document as a test would print it."""
    out = [f"{prefix}TAP version 13", f"{prefix}1..{len(nodes)}"]
    for number, node in enumerate(nodes, 1):
        if node.children:
            out += written(node.children, nesting, prefix + nesting)
        out.append(prefix + WORDS[node.result].format(f"{number} t{number}"))
    return out


def shape(tests: tuple[Test, ...]) -> list[Node]:
    return [Node(test.result, tuple(shape(test.subtests))) for test in tests]


@settings(max_examples=40)
@given(TREE, st.sampled_from(["  ", "    ", "\t", "# "]))
def test_any_tree_is_read_back_as_it_was_written(tree: list[Node], nesting: str) -> None:
    report = parse(lines(*written(tree, nesting)))
    assert shape(report.tests) == tree
    assert report.faults == ()


@settings(max_examples=40)
@given(TREE, st.sampled_from(["  ", "# "]), st.data())
def test_lines_in_between_change_no_result(
    tree: list[Node], nesting: str, data: st.DataObject
) -> None:
    mixed = []
    for line in written(tree, nesting):
        mixed += [line, *data.draw(st.lists(GARBAGE, max_size=2))]
    assert shape(parse(lines(*mixed)).tests) == tree


@settings(max_examples=40)
@given(TREE, st.sampled_from(["  ", "# "]), st.data())
def test_an_output_cut_anywhere_is_never_a_pass(
    tree: list[Node], nesting: str, data: st.DataObject
) -> None:
    text = lines(*written(tree, nesting))
    begun = len("TAP version 13\n")
    cut = data.draw(st.integers(begun, len(text) - 1))
    assert parse(text[:cut]).result in (FAIL, MISSING)


@settings(max_examples=40)
@given(TREE, st.data())
def test_a_result_that_is_lost_is_never_a_pass(tree: list[Node], data: st.DataObject) -> None:
    text = written(tree, "  ")
    places = [at for at, line in enumerate(text) if "ok " in line]
    del text[data.draw(st.sampled_from(places))]
    assert parse(lines(*text)).result in (FAIL, MISSING)


@given(st.text().filter(lambda text: not {"\x1b", "\0"} & set(text)))
def test_any_text_can_be_read_and_what_is_no_ktap_is_kept(text: str) -> None:
    report = parse(text)
    if report.result is None:
        *whole, rest = text.split("\n")
        kept = [line.rstrip("\r") for line in whole] + ([rest] if rest else [])
        assert list(report.diagnostics) == kept


@given(
    st.lists(
        st.sampled_from(
            ["ok 1 a", "not ok 2", "ok", "1..2", "1..0", "TAP version 13", "# Subtest: s", "x"]
        ).flatmap(lambda line: st.sampled_from(["", "  ", "    ", "# ", "# # "]).map(
            lambda prefix: prefix + line
        ))
    )
)  # fmt: skip
def test_any_order_of_its_lines_can_be_read_and_no_failure_is_lost(text: list[str]) -> None:
    report = parse(lines(*text))
    if "not ok 2" in text and report.announced and report.tests:
        assert report.result in (FAIL, MISSING)


@given(st.lists(st.sampled_from(list(Result)), min_size=1))
def test_a_failure_outweighs_and_a_pass_outweighs_what_was_skipped(results: list[Result]) -> None:
    found = worst(results)
    assert (found is FAIL) == (FAIL in results)
    assert (found is SKIP) == (set(results) == {SKIP})
