"""Subtests of scripts that print no KTAP, out of what their lines have in common.

Most of net's scripts came before KTAP. They print `PASS: name`, or
`TEST: name   [ OK ]`; their exit status counts, these lines say what failed.
"""

from __future__ import annotations

import re

from linklab.results.ktap import Result, Test

_RESULTS = {
    "OK": Result.PASS,
    "PASS": Result.PASS,
    "FAIL": Result.FAIL,
    "SKIP": Result.SKIP,
    "XFAIL": Result.XFAIL,
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_AHEAD = re.compile(r"(PASS|FAIL|SKIP|XFAIL):\s*(\S.*)$")
_BEHIND = re.compile(r"(?:TEST:\s*)?(.*?)\s*\[ *(OK|PASS|FAIL|SKIP|XFAIL) *\]$")
_FULL_STOPS = " .\t:"


def printed_tests(text: str) -> tuple[Test, ...]:
    """Return the tests that lines of a script report, each with the lines before it."""
    tests: list[Test] = []
    since: list[str] = []
    for raw in _COLOUR.sub("", text).splitlines():
        line = raw.strip()
        found = _test_in(line, since)
        if found is None:
            if line:
                since.append(raw)
            continue
        tests.append(Test(*found, number=len(tests) + 1, diagnostics=tuple(since)))
        since = []
    return tuple(tests)


def _test_in(line: str, before: list[str]) -> tuple[str, Result] | None:
    if ahead := _AHEAD.match(line):
        return ahead[2], _RESULTS[ahead[1]]
    if behind := _BEHIND.match(line):
        name = behind[1].rstrip(_FULL_STOPS) or (before[-1].strip() if before else "")
        return name, _RESULTS[behind[2]]
    return None
