"""KTAP: the results that the kernel's self-tests print, read into a tree.

Reads KTAP version 1 and TAP 13 as tests really print them: subtests indented,
or behind the `# ` that kselftest's runner puts before the output of a test;
plans before the results, after them or nowhere; messages of the kernel and of
the shell in between.  What was announced and never reported is `MISSING`,
which is never a pass.  The grammar of a line is that of the kernel's
Documentation/dev-tools/ktap.rst, and of TAP 13 and 14 where they differ: an
optional dash before the description, `# Subtest:`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

_VERSION = re.compile(r"K?TAP version \d+\s*$")
_PLAN = re.compile(r"1\.\.(\d{1,9})\s*(?:#\s*(.*))?$")
_RESULT = re.compile(r"(not )?ok\b(?:\s+(\d{1,9})\b)?(?:\s+-(?=\s|$))?(?:\s+(.*))?$")
_BAIL_OUT = re.compile(r"Bail out!\s*(.*)$")
_SUBTEST = re.compile(r"# Subtest: (.+)$")
# Skipping and expected failures are spelt in any case (TAP 13); a remark may begin with "error".
_DIRECTIVE = re.compile(r"((?i:SKIP|TODO|XFAIL)\w*|XPASS|TIMEOUT|ERROR)\b:?\s*(.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RUNNERS_PREFIX = "# "  # kselftest's runner puts it before each line of a test (prefix.pl)


class Result(StrEnum):
    """The result of one test. The worst first: an earlier one outweighs a later one.

    `MISSING`: announced and never reported, or cut short. `XFAIL`: it failed
    as expected.
    """

    FAIL = "fail"
    MISSING = "missing"
    PASS = "pass"
    XFAIL = "xfail"
    SKIP = "skip"


class VersionLine(NamedTuple):
    """The first line of a document."""


class PlanLine(NamedTuple):
    """How many tests there are; `skipped` says why there are none."""

    tests: int
    skipped: str | None = None


class ResultLine(NamedTuple):
    """The result of one test; `message` is the text behind the hash sign and the directive."""

    result: Result
    number: int | None
    name: str
    message: str


class BailOut(NamedTuple):
    """The tests were given up."""

    reason: str


class Subtest(NamedTuple):
    """The name of the test whose subtests follow (TAP 14), or go on (KUnit)."""

    name: str


Line = VersionLine | PlanLine | ResultLine | BailOut | Subtest


def read_line(text: str) -> Line | None:
    """Return a line of KTAP, its nesting already removed; None where it is none."""
    if _VERSION.match(text):
        return VersionLine()
    if found := _PLAN.match(text):
        count, remark = int(found[1]), found[2] or ""
        directive = _DIRECTIVE.match(remark)
        return PlanLine(count, None if count else directive[2] if directive else remark)
    if found := _BAIL_OUT.match(text):
        return BailOut(found[1].strip())
    if found := _SUBTEST.match(text):
        return Subtest(found[1].strip())
    if found := _RESULT.match(text):
        name, _, remark = f" {found[3] or ''}".partition(" #")
        result, message = _result(found[1] is None, remark.strip())
        number = int(found[2]) if found[2] else None
        return ResultLine(result, number, name.strip() or message, message)
    return None


def _nesting_of(text: str) -> str:
    """Return the prefix of a line that begins a deeper level; empty for another line.

    Behind the runner's prefix only a version counts: any program may print "# ok 1".
    """
    if text.startswith(_RUNNERS_PREFIX):
        inner = read_line(text[len(_RUNNERS_PREFIX) :])
        return _RUNNERS_PREFIX if isinstance(inner, VersionLine) else ""
    bare = text.lstrip(" \t")
    if bare == text:
        return ""
    line = read_line(bare)
    begins = line is not None and not isinstance(line, BailOut)
    is_later = isinstance(line, ResultLine) and line.number != 1
    return text[: -len(bare)] if begins and not is_later else ""


def _result(ok: bool, remark: str) -> tuple[Result, str]:
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


@dataclass(frozen=True)
class Test:
    """A test and its result.

    `message` is the text of its line behind the `#`, without the directive;
    `diagnostics` are the lines before it that belong to no subtest.
    """

    __test__ = False  # pytest need not look into it

    name: str
    result: Result
    number: int | None = None
    message: str = ""
    diagnostics: tuple[str, ...] = ()
    subtests: tuple[Test, ...] = ()

    def leaves(self) -> Iterator[Test]:
        """Yield each test without subtests."""
        if not self.subtests:
            yield self
        for test in self.subtests:
            yield from test.leaves()


@dataclass(frozen=True)
class Report:
    """The results in one output.

    `announced` says whether it claims to be (K)TAP at all: it has a version, a
    plan or a bail-out. `skipped` and `bailed_out` are reasons. `faults` says in
    words what is wrong with the output itself.
    """

    tests: tuple[Test, ...] = ()
    announced: bool = False
    skipped: str | None = None
    bailed_out: str | None = None
    faults: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()

    @property
    def result(self) -> Result | None:
        """The result of all tests together, None for an output without any test."""
        if self.bailed_out is not None:
            return Result.FAIL
        if self.tests:
            return worst(test.result for test in self.tests)
        if self.skipped is not None:
            return Result.SKIP
        return Result.MISSING if self.announced else None

    def leaves(self) -> Iterator[Test]:
        """Yield each test without subtests."""
        for test in self.tests:
            yield from test.leaves()


def worst(results: Iterable[Result]) -> Result:
    """Return the result of one test or more together; a pass outweighs what was skipped."""
    found = set(results)
    return next(result for result in Result if result in found)


def parse(text: str) -> Report:
    """Return the results in any text; lines that are no KTAP are kept as diagnostics.

    A last line without its newline was cut short, so it gives no pass.
    """
    reader = _Reader()
    *lines, rest = without_colour(text).replace("\0", "").split("\n")
    for line in lines:
        reader.take(line.rstrip("\r"))
    if rest:
        reader.take(rest, whole=False)
    return reader.finish()


def without_colour(text: str) -> str:
    """Return text without the sequences that colour it on a terminal."""
    return _COLOUR.sub("", text)


@dataclass
class _Level:
    """One depth of nesting; each of its lines begins with `prefix`.

    `start` is where the tests of the present document begin: an output may
    hold several, one after another. `child` are subtests whose parent has not
    reported yet, `child_name` is its name where that is known. `faults` are
    those of the whole output.
    """

    prefix: str
    faults: list[str]
    name: str = ""
    tests: list[Test] = field(default_factory=list)
    start: int = 0
    numbered: bool = False
    plan: int | None = None
    announced: bool = False
    skipped: str | None = None
    bailed_out: str | None = None
    lines: list[str] = field(default_factory=list)
    child_name: str = ""
    child: Report | None = None

    @property
    def fresh(self) -> bool:
        return len(self.tests) == self.start and self.plan is None and self.child is None

    @property
    def expected(self) -> int:
        return len(self.tests) - self.start + 1

    def takes(self, line: Line | None) -> bool:
        """Tell whether a line is one of this level's.

        Where nothing says that this is KTAP, or tests have numbers and this one
        has none, any program may have printed "ok"; likewise "ok" alone.
        """
        if not isinstance(line, ResultLine):
            return line is not None
        if line.number is None:
            named = bool(line.name) or line.result is not Result.PASS
            return named and self.announced and not self.numbered
        return self.announced or line.number == self.expected

    def read(self, line: Line, whole: bool) -> None:
        match line:
            case VersionLine():
                if not self.fresh:
                    self.end_document()
                self.announced = True
            case PlanLine(count, skipped):
                if self.plan is not None:
                    self.end_document()
                self.announced, self.plan, self.skipped = True, count, skipped
            case BailOut(reason):
                self.announced, self.bailed_out = True, reason
            case Subtest(name):
                if self.fresh and self.prefix and not self.name:
                    self.name = name  # KUnit: the first of the subtest's own lines
                else:
                    self.cut_short()
                    self.child_name = name  # TAP 14: the line before them
            case ResultLine():
                self._read_result(line, whole)

    def _read_result(self, line: ResultLine, whole: bool) -> None:
        result, number = line.result, self.expected if line.number is None else line.number
        self.numbered = self.numbered or line.number is not None
        if number != self.expected:
            place = f"where test {self.expected} was expected"
            self.faults.append(f"test {number} ({line.name}) stands {place}")
        if not whole:
            self.faults.append(f"the output ends in the middle of test {number}'s line")
            result = Result.FAIL if result is Result.FAIL else Result.MISSING
        self._add(Test(line.name, result, number, line.message))

    def _add(self, test: Test) -> None:
        """Add a test with the subtests that came before its line; their failures are its."""
        lines, child, result = tuple(self.lines), self.child, test.result
        self.lines, self.child, self.child_name = [], None, ""
        if child is None:
            self.tests.append(replace(test, diagnostics=lines))
            return
        excused = (Result.FAIL, Result.XFAIL) if child.result is Result.FAIL else (Result.FAIL,)
        if child.result in (Result.FAIL, Result.MISSING) and result not in excused:
            if result is not Result.MISSING:
                self.faults.append(f"{test.name} says `{result}`, its subtests do not")
            result = child.result
        bailed_out = child.bailed_out and f"bailed out: {child.bailed_out}"
        message = "; ".join(filter(None, (test.message, child.skipped, bailed_out)))
        lines += child.diagnostics
        self.tests.append(Test(test.name, result, test.number, message, lines, child.tests))

    def cut_short(self) -> None:
        """End subtests whose parent never reported: whatever they report, it did not pass."""
        if self.child is not None:
            name = self.child_name or "a test without a name"
            self.faults.append(f"{name} began and never reported")
            self._add(Test(name, Result.MISSING, self.expected, "began and never reported"))

    def end_document(self) -> None:
        """Compare what was reported with the plan; a gap stands for what is missing."""
        self.cut_short()
        tests = self.tests[self.start :]
        seen = [test.number for test in tests if test.number is not None]
        for first, last in _gaps(self.plan or 0, set(seen)):
            name = f"test {first}" if first == last else f"tests {first} to {last}"
            self.tests.append(Test(name, Result.MISSING, message="planned and never reported"))
        if self.plan is not None and len(tests) > self.plan:
            self.faults.append(f"{len(tests)} tests were reported, {self.plan} were planned")
        if twice := sorted(number for number, times in Counter(seen).items() if times > 1):
            self.faults.append(f"reported twice: test {', '.join(map(str, twice))}")
        self.start, self.plan, self.numbered = len(self.tests), None, False

    def report(self) -> Report:
        """Return its results: it has ended."""
        self.end_document()
        return Report(
            tests=tuple(self.tests),
            announced=self.announced,
            skipped=self.skipped,
            bailed_out=self.bailed_out,
            diagnostics=tuple(self.lines),
        )


class _Reader:
    """The levels that are open, the outermost first."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._levels = [_Level("", self._faults)]

    def take(self, text: str, *, whole: bool = True) -> None:
        """Take one line for the deepest level that it can belong to."""
        for depth, level in reversed(list(enumerate(self._levels))):
            if not text.startswith(level.prefix):
                continue
            rest = text[len(level.prefix) :]
            line, nesting = read_line(rest), ""
            if not level.takes(line):
                nesting = _nesting_of(rest)
                line = read_line(rest[len(nesting) :]) if nesting else None
            if line is not None:
                self._close_below(depth)
                if nesting:
                    level.cut_short()
                    prefix = level.prefix + nesting
                    self._levels.append(_Level(prefix, self._faults, level.child_name))
                self._levels[-1].read(line, whole)
                return
        self._levels[-1].lines.append(text.removeprefix(self._levels[-1].prefix))

    def finish(self) -> Report:
        """Return the report: the output has ended."""
        self._close_below(0)
        return replace(self._levels[0].report(), faults=tuple(self._faults))

    def _close_below(self, depth: int) -> None:
        while len(self._levels) > depth + 1:
            level = self._levels.pop()
            self._levels[-1].child, self._levels[-1].child_name = level.report(), level.name


def _gaps(plan: int, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of each run of tests that were planned and not seen."""
    first = 1
    for number in sorted(n for n in seen if 1 <= n <= plan):
        if number > first:
            yield first, number - 1
        first = number + 1
    if first <= plan:
        yield first, plan
