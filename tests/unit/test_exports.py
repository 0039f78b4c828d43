"""Suites as JUnit XML, KTAP and KCIDB reports: valid, whole, and honest."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from junitparser import Error, Failure, JUnitXml, Skipped
from kcidb_io.schema import LATEST
from suites import HANGS, NOT_BUILT, SUITE, any_suite

from linklab.errors import LabError, UsageError
from linklab.exports import kcidb as kcidb_module
from linklab.exports.junit import junit
from linklab.exports.kcidb import check_origin, kcidb, validate
from linklab.exports.ktap import ktap
from linklab.paths import ROOT
from linklab.results.ktap import Result, parse
from linklab.results.outcomes import Outcome, Status, Suite

_SLOW = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@cache
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(ROOT / "tests" / "data" / "junit-10.xsd")


def cases(*suites: Suite) -> dict[str, Any]:
    document = JUnitXml.fromstring(junit(suites).encode())
    return {case.name: case for suite in document for case in suite}


# JUnit


def test_a_junit_document_is_valid_and_has_every_test_once() -> None:
    text = junit([SUITE, HANGS, NOT_BUILT])
    schema().validate(text)
    document = JUnitXml.fromstring(text.encode())
    assert (document.tests, document.failures, document.errors) == (7, 3, 1)
    assert [suite.name for suite in document] == [
        "grouping.sysfs",
        "grouping.sysfs",
        "series.sysfs",
    ]
    assert "mtu/group/256" in cases(SUITE)


def test_a_fault_of_the_kernel_is_a_failure_and_what_was_not_done_is_an_error() -> None:
    found = cases(SUITE)
    (crash,) = found["mtu/group/256"].result
    assert isinstance(crash, Failure)
    assert (crash.type, crash.message) == ("crash", "BUG: at #1")
    assert "not ok 9 mine" in str(crash.text)
    assert isinstance(found["mtu/group/512"].result[0], Error)
    assert isinstance(found["mtu/process/512"].result[0], Skipped)
    assert found["mtu/group/128"].is_passed


def test_times_of_microseconds_are_written_without_an_exponent() -> None:
    assert 'time="0.0000125"' in junit([SUITE])


def test_junit_names_the_kernel_and_the_circumstances() -> None:
    (suite,) = JUnitXml.fromstring(junit([SUITE]).encode())
    found = {each.name: each.value for each in suite.properties()}
    assert (found["release"], found["accel"]) == ("6.12.117", "tcg")


@_SLOW
@given(any_suite)
def test_whatever_a_console_says_the_junit_document_is_valid(suite: Suite) -> None:
    text = junit([suite])
    schema().validate(text)
    assert JUnitXml.fromstring(text.encode()).tests == len(list(suite.leaves()))


# KTAP


def test_ktap_nests_subtests_and_says_what_came_of_each() -> None:
    lines = ktap([SUITE]).splitlines()
    assert lines[0] == "KTAP version 1"
    assert lines[-1] == "not ok 1 grouping.sysfs"
    said = [line.strip() for line in lines]
    for expected in (
        "# Subtest: group",
        "ok 1 128",
        "not ok 2 256",
        "not ok 3 512 # ERROR the kernel failed before it",
        "ok 1 512 # SKIP no sysfs here",
        "# 1.25e-05 s",
    ):
        assert expected in said
    assert "      1..3" in lines


def test_ktap_says_that_a_hanging_test_ran_out_of_time() -> None:
    assert "  not ok 1 boot # TIMEOUT no answer" in ktap([HANGS]).splitlines()


@given(any_suite)
def test_nothing_that_a_console_says_can_pass_for_a_result(suite: Suite) -> None:
    lines = ktap([suite]).split("\n")
    results = [line for line in lines if re.match(r" *(not )?ok\b", line)]

    def count(tests: tuple[Outcome, ...]) -> int:
        return sum(1 + count(test.children) for test in tests)

    assert len(results) == 1 + count(suite.outcomes)
    for line in lines:
        assert not line or re.match(r" *(#|KTAP version 1$|1\.\.\d+$|(not )?ok \d+ [^#\s])", line)


def test_ktap_is_read_back_as_what_was_written() -> None:
    report = parse(ktap([SUITE, HANGS]))
    assert report.faults == ()
    assert [str(test.result) for test in report.tests] == ["fail", "fail"]
    found = {test.name: str(test.result) for test in report.tests[0].subtests[1].leaves()}
    assert found["256"] == "fail"
    assert [test.message for test in report.leaves() if test.name == "512"] == [
        "ERROR the kernel failed before it",
        "no sysfs here",
    ]


@given(any_suite)
def test_ktap_reads_back_whole_whatever_a_console_says(suite: Suite) -> None:
    report = parse(ktap([suite]))
    assert len(list(report.leaves())) == max(1, len(list(suite.leaves())))
    last = ktap([suite]).splitlines()[-1]
    assert (report.result is Result.FAIL) == last.startswith("not ok")


# KCIDB


def test_a_kcidb_report_is_valid_and_complete() -> None:
    report = kcidb([SUITE, HANGS, NOT_BUILT])
    LATEST.validate(report)
    assert len(report["checkouts"]) == 2
    assert [build["status"] for build in report["builds"]] == ["PASS", "FAIL"]
    assert report["builds"][1]["log_excerpt"] == "a.c:1: error: no"
    statuses = {test["path"]: test["status"] for test in report["tests"]}
    assert statuses == {
        "linklab.grouping.boot.128": "PASS",
        "linklab.grouping.mtu.group.128": "PASS",
        "linklab.grouping.mtu.group.256": "FAIL",
        "linklab.grouping.mtu.group.512": "MISS",
        "linklab.grouping.mtu.process.512": "SKIP",
        "linklab.grouping.boot": "FAIL",
    }


def test_every_object_of_a_report_hangs_together_and_has_an_id_of_its_own() -> None:
    report = kcidb([SUITE, NOT_BUILT], "mylab")
    for kind in ("checkouts", "builds", "tests"):
        ids = [each["id"] for each in report[kind]]
        assert len(set(ids)) == len(ids)
        assert all(each.startswith("mylab:") for each in ids)
    builds = {each["id"]: each["checkout_id"] for each in report["builds"]}
    assert set(builds.values()) == {each["id"] for each in report["checkouts"]}
    assert {each["build_id"] for each in report["tests"]} <= set(builds)


def test_the_patches_hash_is_the_one_that_kcidb_prescribes() -> None:
    # printf 'ef%.0s' $(seq 32) | sed 's/$/\n/' | sha256sum
    (checkout,) = kcidb([SUITE])["checkouts"]
    known = "d317508c742af5758eec569da0dfb4083feabc5fbf2e097abcc15300ee5a04c6"
    assert checkout["patchset_hash"] == known


def test_an_export_done_twice_is_the_same_report() -> None:
    assert kcidb([SUITE]) == kcidb([SUITE])


def test_two_tests_of_one_name_stay_two_tests() -> None:
    twice = Suite("s", (Outcome("a b", Status.PASS), Outcome("a_b", Status.FAIL)))
    assert len({test["id"] for test in kcidb([twice])["tests"]}) == 2


def test_a_long_output_keeps_its_end() -> None:
    suite = Suite("s", (Outcome("t", Status.FAIL, output="x" * 20000 + "the end"),))
    report = kcidb([suite])
    LATEST.validate(report)
    excerpt = report["tests"][0]["log_excerpt"]
    assert len(excerpt) == 16384
    assert excerpt.startswith("[...]\n")
    assert excerpt.endswith("the end")


@_SLOW
@given(any_suite)
def test_whatever_a_console_says_the_kcidb_report_is_valid(suite: Suite) -> None:
    assert validate(kcidb([suite]))


def test_a_report_that_is_not_valid_is_not_written_in_silence() -> None:
    assert validate(kcidb([SUITE]))
    with pytest.raises(LabError, match="not valid"):
        validate({"version": {"major": 5}, "tests": [{}]})


def test_without_the_schema_a_report_goes_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kcidb_io.schema", None)
    assert not kcidb_module.validate({})


def test_an_origin_that_kcidb_would_refuse_is_refused() -> None:
    assert check_origin("my_lab2") == "my_lab2"
    with pytest.raises(UsageError, match="lower-case"):
        check_origin("My-Lab")
