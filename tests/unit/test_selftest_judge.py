"""What a self-test's end and its output say together, and what is no pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.host.accel import Accel
from linklab.results.ktap import Result
from linklab.results.outcomes import Outcome, Status
from linklab.selftests.judge import End, judge
from linklab.selftests.limits import DEFAULT, TCG_FACTOR, UNLIMITED, limit_of
from linklab.selftests.needs import needs_of
from linklab.selftests.printed import printed_tests

KTAP = "TAP version 13\n1..2\nok 1 one\n{} 2 two\n"
DONE = End(0, 1.5, 45.0)


def ended(code: int, **how: bool) -> End:
    return End(code, 1.5, 45.0, **how)


# --- by exit status -------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (ended(0), Status.PASS, ""),
        (ended(4), Status.SKIP, ""),
        (ended(1), Status.FAIL, "exit status 1"),
        (ended(2), Status.FAIL, "exit status 2"),
        (ended(127), Status.FAIL, "exit status 127"),
        (ended(-11), Status.FAIL, "killed by SIGSEGV"),
        (ended(-60), Status.FAIL, "killed by signal 60"),
        (ended(-15, overrun=True), Status.FAIL, "not done within its limit of 45 s"),
        (ended(0, overrun=True), Status.FAIL, "not done within its limit of 45 s"),
        (ended(-9, flooded=True), Status.FAIL, "it printed without an end"),
    ],
)
def test_the_exit_status_counts_as_kselftest_has_it(end: End, status: Status, message: str) -> None:
    said = judge("", end)
    assert (said.status, said.message) == (status, message)


# --- by what is printed ---------------------------------------------------------------


def test_ktap_that_passes_is_a_pass() -> None:
    said = judge(KTAP.format("ok"), DONE)
    assert said.status is Status.PASS
    assert [(each.name, each.status) for each in said.subtests] == [
        ("one", Status.PASS),
        ("two", Status.PASS),
    ]


def test_an_exit_status_of_0_does_not_outweigh_a_failed_subtest() -> None:
    said = judge(KTAP.format("not ok"), DONE)
    assert said.status is Status.FAIL
    assert said.message == "failed, whatever its exit status: two"


def test_a_skip_does_not_outweigh_a_failed_subtest() -> None:
    assert judge(KTAP.format("not ok"), ended(4)).status is Status.FAIL
    said = judge("PASS: one\nFAIL: two\n", ended(4))
    assert said.status is Status.FAIL
    assert said.message == "exit status 4 (skip), but these failed: two"


def test_one_cut_short_is_no_pass() -> None:
    said = judge("TAP version 13\n1..9\nok 1 one\n", DONE)
    assert said.status is Status.FAIL
    assert said.message == "cut short: tests 2 to 9"
    assert said.subtests[-1].status is Status.MISSING
    assert judge("TAP version 13\n", DONE).message == (
        "cut short: it announced tests and reported none"
    )


def test_one_that_bails_out_fails_and_says_why() -> None:
    said = judge("TAP version 13\n1..2\nBail out! no memory\n", DONE)
    assert (said.status, said.message) == (Status.FAIL, "bailed out: no memory")


def test_a_plan_of_none_is_a_skip_with_its_reason() -> None:
    said = judge("TAP version 13\n1..0 # SKIP no sctp\n", DONE)
    assert (said.status, said.message) == (Status.SKIP, "no sctp")


def test_where_every_subtest_was_skipped_so_was_the_test() -> None:
    said = judge("1..1\nok 1 one # SKIP no tool\n", DONE)
    assert (said.status, said.message) == (Status.SKIP, "no tool")


def test_an_expected_failure_is_a_pass_that_says_so() -> None:
    said = judge("1..2\nok 1 a\nok 2 b # XFAIL known\n", DONE)
    assert said.status is Status.PASS
    assert said.subtests[1] == Outcome(
        "b", Status.PASS, message="failed as expected: known", output=""
    )


def test_a_failed_subtest_comes_with_the_lines_before_it() -> None:
    said = judge("1..1\n# expected 3, got 4\nnot ok 1 a\n", ended(1))
    assert said.subtests[0].output == "# expected 3, got 4"


def test_a_script_that_skips_says_why_in_its_last_word() -> None:
    said = judge("SKIP: Need root privileges\n", ended(4))
    assert (said.status, said.message) == (Status.SKIP, "Need root privileges")


def test_a_script_that_fails_names_what_failed() -> None:
    said = judge("".join(f"FAIL: t{n}\n" for n in range(5)), ended(1))
    assert said.message == "exit status 1: t0, t1, t2 and 2 more"


def test_a_script_that_passes_over_a_fail_line_passes_and_says_so() -> None:
    said = judge("FAIL: as it should\nPASS: all\n", DONE)
    assert (said.status, said.message) == (
        Status.PASS,
        "exit status 0, though its own lines say FAIL",
    )


@given(st.text(), st.integers(-64, 255))
def test_only_an_exit_status_of_0_passes_and_any_output_can_be_judged(
    output: str, code: int
) -> None:
    status = judge(output, ended(code)).status
    assert status is not Status.PASS or code == 0


# --- scripts without KTAP ----------------------------------------------------------------


def test_lines_of_scripts_are_subtests() -> None:
    text = """
PASS: policy routing
    TEST: rule6 check: iif redirect to table                      [ OK ]
TEST: ping                                                         [XFAIL]
\x1b[31m  udp gro ... [FAIL]\x1b[0m
running it
		[PASS]
Error: "proto" is garbage.
FAIL: address proto IPv4
SKIP: no tool
[   12.0] eth0: link up
"""
    assert [(test.name, test.result) for test in printed_tests(text)] == [
        ("policy routing", Result.PASS),
        ("rule6 check: iif redirect to table", Result.PASS),
        ("ping", Result.XFAIL),
        ("udp gro", Result.FAIL),
        ("running it", Result.PASS),
        ("address proto IPv4", Result.FAIL),
        ("no tool", Result.SKIP),
    ]
    assert printed_tests(text)[5].diagnostics == ('Error: "proto" is garbage.',)


@given(st.text())
def test_any_text_of_a_script_can_be_read(text: str) -> None:
    printed_tests(text)


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "accel", "asked", "seconds"),
    [
        (None, Accel.KVM, None, DEFAULT),
        (None, Accel.TCG, None, DEFAULT * TCG_FACTOR),
        ("timeout=1800\n", Accel.KVM, None, 1800),
        ("# why\ntimeout=1800\n", Accel.TCG, None, 1800 * TCG_FACTOR),
        ("timeout=0\n", Accel.TCG, None, UNLIMITED),
        ("timeout=soon\n", Accel.KVM, None, DEFAULT),
        ("timeout=1800\n", Accel.TCG, 7.0, 7.0),
    ],
)
def test_a_limit_is_the_collections_own_unless_a_person_says_another(
    settings: str | None, accel: Accel, asked: float | None, seconds: float
) -> None:
    assert limit_of(settings, accel, asked) == seconds


# --- what a test asks for ------------------------------------------------------------------------


SCRIPTS = {
    "a.sh": "#!/bin/bash\n# nft is not asked for\nsource lib.sh\n./nettest -q\nip link\n"
    'if ! which sock; then echo "those which are gone"; fi',
    "lib.sh": 'command -v jq >/dev/null || exit 4\nif ! [ -x "$(command -v mausezahn)" ]; then\n',
    "b.py": "#!/usr/bin/env python3\nimport lib\n",
}


def test_needs_follow_what_scripts_read() -> None:
    tools = ("bash", "ip", "jq", "nft", "tc", "python3")
    needs = needs_of("a.sh", SCRIPTS.get, ("nettest", "tls"), tools)
    assert needs.programs == {"nettest"}
    assert needs.tools == {"bash", "ip", "jq"}
    assert needs.unknown == {"mausezahn", "sock"}
    assert needs_of("b.py", SCRIPTS.get, (), tools).tools == {"python3"}


def test_a_program_needs_itself() -> None:
    assert needs_of("tls", SCRIPTS.get, ("nettest", "tls"), ()).programs == {"tls"}


def test_scripts_that_read_each_other_come_to_an_end() -> None:
    scripts = {"a": "source b", "b": "source a\nip"}
    assert needs_of("a", scripts.get, (), ("ip",)).tools == {"ip"}
