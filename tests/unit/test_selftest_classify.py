"""What the end of a self-test and its output say together."""

from __future__ import annotations

import signal

import pytest

from linklab.results.outcomes import Status
from linklab.selftests.classify import SKIPPED, End, classify

PASS, FAIL, SKIP = Status.PASS, Status.FAIL, Status.SKIP
KTAP = "KTAP version 1\n"


def end(code: int = 0, *, overrun: bool = False, flooded: bool = False) -> End:
    return End(code, 1.0, 45.0, overrun, flooded)


@pytest.mark.parametrize(
    ("output", "ended", "status", "words"),
    [
        ("", end(0), PASS, ""),
        ("", end(SKIPPED), SKIP, ""),
        ("", end(1), FAIL, "exit status 1"),
        ("", end(-signal.SIGSEGV), FAIL, "killed by SIGSEGV"),
        ("", end(-64), FAIL, "killed by SIGRTMAX"),
        ("", end(-99), FAIL, "killed by signal 99"),
        ("", end(-signal.SIGKILL, overrun=True), FAIL, "not done within its limit of 45 s"),
        ("", end(-signal.SIGKILL, flooded=True), FAIL, "it printed without an end"),
        # KTAP outweighs an exit status that blames nobody.
        (f"{KTAP}1..2\nok 1 a\nnot ok 2 b\n", end(0), FAIL, "whatever its exit status: b"),
        (f"{KTAP}1..2\nok 1 a\nnot ok 2 b\n", end(SKIPPED), FAIL, "whatever its exit status: b"),
        (f"{KTAP}1..2\nok 1 a\n", end(0), FAIL, "cut short: test 2"),
        (f"{KTAP}1..0 # SKIP no veth\n", end(0), SKIP, "no veth"),
        (f"{KTAP}1..1\nok 1 a # SKIP no tun\n", end(0), SKIP, "no tun"),
        (f"{KTAP}1..1\nok 1 a\nBail out! no root\n", end(0), FAIL, "bailed out: no root"),
        (f"{KTAP}1..1\nok 1 a\n", end(SKIPPED), SKIP, ""),
        (f"{KTAP}1..5\n" + "".join(f"not ok {n} t{n}\n" for n in range(1, 6)), end(1), FAIL,
         "exit status 1: t1, t2, t3 and 2 more"),
        # Without KTAP the exit status counts, and lines say what failed.
        ("PASS: a\nTEST: b   [FAIL]\n", end(1), FAIL, "exit status 1: b"),
        ("PASS: a\nFAIL: b\n", end(SKIPPED), FAIL, "but these failed: b"),
        ("PASS: a\nSKIP: b\n", end(SKIPPED), SKIP, "b"),
        ("FAIL: a\n", end(0), PASS, "though its own lines say FAIL"),
    ],
)  # fmt: skip
def test_a_test_is_classified_by_its_end_and_its_output(
    output: str, ended: End, status: Status, words: str
) -> None:
    found = classify(output, ended)
    assert found.status is status
    assert words in found.message if words else not found.message


def test_a_subtest_that_failed_keeps_the_lines_before_it_and_one_that_should_fail_passes() -> None:
    text = f"{KTAP}1..2\n# why\nnot ok 1 a\nnot ok 2 b # XFAIL known\n"
    failed, expected = classify(text, end(1)).subtests
    assert (failed.status, failed.output) == (FAIL, "# why")
    assert (expected.status, expected.message) == (PASS, "failed as expected: known")


def test_a_result_without_a_name_is_called_after_the_line_before_it() -> None:
    (found,) = classify("ping over vxlan\n  [ OK ]\n", end(0)).subtests
    assert (found.name, found.status) == ("ping over vxlan", PASS)
