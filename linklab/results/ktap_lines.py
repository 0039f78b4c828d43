"""The lines of KTAP, each by itself: what kind one is and what it says.

The grammar is the kernel's Documentation/dev-tools/ktap.rst, and TAP 13 and
14 where they differ: an optional dash before the description, `# Subtest:`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_VERSION = re.compile(r"K?TAP version \d+\s*$")
_PLAN = re.compile(r"1\.\.(\d{1,9})\s*(?:#\s*(.*))?$")
_RESULT = re.compile(r"(not )?ok\b(?:\s+(\d{1,9})\b)?(?:\s+-(?=\s|$))?(?:\s+(.*))?$")
_BAIL_OUT = re.compile(r"Bail out!\s*(.*)$")
_SUBTEST = re.compile(r"# Subtest: (.+)$")
# Skipping and expected failures are spelt in any case (TAP 13); a remark may begin with "error".
_DIRECTIVE = re.compile(r"((?i:SKIP|TODO|XFAIL)\w*|XPASS|TIMEOUT|ERROR)\b:?\s*(.*)$")
RUNNERS_PREFIX = "# "
"""What kselftest's runner puts before each line of a test (kselftest/prefix.pl)."""


class Result(StrEnum):
    """What came of one test. The worst first, in the order in which they outweigh others.

    `MISSING`: announced and never reported, or cut short. `XFAIL`: it failed
    as expected.
    """

    FAIL = "fail"
    MISSING = "missing"
    PASS = "pass"
    XFAIL = "xfail"
    SKIP = "skip"


@dataclass(frozen=True)
class Version:
    """The first line of a document."""


@dataclass(frozen=True)
class Plan:
    """How many tests there are; `skipped` says why there are none."""

    count: int
    skipped: str | None = None


@dataclass(frozen=True)
class ResultLine:
    """What came of one test; `message` is what stands behind the hash sign and the directive."""

    result: Result
    number: int | None
    name: str
    message: str


@dataclass(frozen=True)
class BailOut:
    """The tests were given up."""

    reason: str


@dataclass(frozen=True)
class Subtest:
    """The name of the test whose subtests follow (TAP 14), or go on (KUnit)."""

    name: str


Line = Version | Plan | ResultLine | BailOut | Subtest


def read_line(text: str) -> Line | None:
    """Return what a line says, its nesting taken off; None where it is no line of KTAP."""
    if _VERSION.match(text):
        return Version()
    if found := _PLAN.match(text):
        return _plan(int(found[1]), found[2] or "")
    if found := _BAIL_OUT.match(text):
        return BailOut(found[1].strip())
    if found := _SUBTEST.match(text):
        return Subtest(found[1].strip())
    if found := _RESULT.match(text):
        name, remark = _split(found[3] or "")
        result, message = _judged(found[1] is None, remark)
        number = int(found[2]) if found[2] else None
        return ResultLine(result, number, name or message, message)
    return None


def nesting_of(text: str) -> str:
    """Return what stands before the text of a line that begins a deeper level, or nothing.

    Behind the runner's prefix only a version counts: "# ok 1" is what anybody
    may remark.
    """
    if text.startswith(RUNNERS_PREFIX):
        inner = read_line(text[len(RUNNERS_PREFIX) :])
        return RUNNERS_PREFIX if isinstance(inner, Version) else ""
    bare = text.lstrip(" \t")
    if bare == text:
        return ""
    line = read_line(bare)
    begins = line is not None and not isinstance(line, BailOut)
    if isinstance(line, ResultLine):
        begins = line.number == 1
    return text[: -len(bare)] if begins else ""


def _plan(count: int, remark: str) -> Plan:
    if count:
        return Plan(count)
    found = _DIRECTIVE.match(remark)
    return Plan(0, found[2] if found else remark)


def _split(text: str) -> tuple[str, str]:
    """Return a result's description and what stands behind the hash sign."""
    if text.startswith("#"):
        return "", text[1:].strip()
    name, _, remark = text.partition(" #")
    return name.strip(), remark.strip()


def _judged(ok: bool, remark: str) -> tuple[Result, str]:
    """Return the result of a line, by its first word and its directive, and its message."""
    found = _DIRECTIVE.match(remark)
    if found is None:
        return (Result.PASS if ok else Result.FAIL), remark
    word, message = found[1].upper(), found[2].strip()
    if word.startswith("SKIP"):
        return Result.SKIP, message
    if word.startswith("XFAIL"):  # kselftest.h prints `ok` before it, others `not ok`
        return Result.XFAIL, message
    if word.startswith("TODO"):
        return (Result.PASS if ok else Result.XFAIL), message
    if word == "XPASS" and ok:  # kselftest.h; ktap.rst does not know it: then the first word counts
        return Result.PASS, remark
    # A timeout or an error is no pass, whatever stands before it.
    return Result.FAIL, remark
