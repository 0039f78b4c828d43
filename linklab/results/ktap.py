"""KTAP: what the kernel's self-tests say of themselves, read into a tree.

Reads KTAP version 1 and TAP 13 as tests really print them: subtests indented,
or behind the `# ` that kselftest's runner puts before the output of a test;
plans before the results, after them or nowhere; messages of the kernel and of
the shell in between.  What was announced and never reported is `MISSING`,
which is never a pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from linklab.results.ktap_lines import (
    BailOut,
    Line,
    Plan,
    Result,
    ResultLine,
    Subtest,
    Version,
    nesting_of,
    read_line,
)

__all__ = ["Report", "Result", "Test", "parse", "worst"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Test:
    """A test and what came of it.

    `message` is what its line says behind the `#`, the directive left out;
    `diagnostics` are the lines before it that no subtest claims.
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
    """Everything that one output says.

    `announced` tells whether it claims to be (K)TAP at all: a version, a plan
    or a bail-out stands in it. `skipped` and `bailed_out` are reasons. `faults`
    says in words what is wrong with the output itself.
    """

    tests: tuple[Test, ...] = ()
    announced: bool = False
    skipped: str | None = None
    bailed_out: str | None = None
    faults: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()

    @property
    def result(self) -> Result | None:
        """What all of it says together, None for an output without any test."""
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
    """Return what several tests, one at least, say together; a pass outweighs what was skipped."""
    found = set(results)
    return next(result for result in Result if result in found)


def parse(text: str) -> Report:
    """Return what an output says. Takes any text; what is no KTAP is kept as diagnostics.

    A last line without its newline was cut short, so it gives no pass.
    """
    reader = _Reader()
    *lines, rest = _COLOUR.sub("", text).replace("\0", "").split("\n")
    for line in lines:
        reader.take(line.rstrip("\r"))
    if rest:
        reader.take(rest, whole=False)
    return reader.finish()


@dataclass
class _Level:
    """One depth of nesting; `prefix` is what each of its lines begins with.

    `start` is where the tests of the present document begin: an output may
    hold several, one after another. `child` are subtests whose parent has not
    reported yet, `child_name` is its name where that was said.
    """

    prefix: str
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

        Where nothing says that this is KTAP, or tests have numbers and this
        has none, "ok" is a word that any program may print; so it is alone.
        """
        if not isinstance(line, ResultLine):
            return line is not None
        if line.number is None:
            named = bool(line.name) or line.result is not Result.PASS
            return named and self.announced and not self.numbered
        return self.announced or line.number == self.expected


@dataclass
class _Reader:
    """The levels that are open, the outermost first."""

    levels: list[_Level] = field(default_factory=lambda: [_Level("")])
    faults: list[str] = field(default_factory=list)

    def take(self, text: str, *, whole: bool = True) -> None:
        """Take one line: of the deepest level that it can belong to."""
        for depth in range(len(self.levels) - 1, -1, -1):
            level = self.levels[depth]
            if not text.startswith(level.prefix):
                continue
            rest = text[len(level.prefix) :]
            line, nesting = read_line(rest), ""
            if not level.takes(line):
                nesting = nesting_of(rest)
                line = read_line(rest[len(nesting) :]) if nesting else None
            if line is not None:
                self._close_below(depth)
                self._read(self._open(level, nesting) if nesting else level, line, whole)
                return
        self.levels[-1].lines.append(text.removeprefix(self.levels[-1].prefix))

    def finish(self) -> Report:
        """Return the report: the output has ended."""
        self._close_below(0)
        (top,) = self.levels
        return replace(self._report(top), faults=tuple(self.faults))

    def _read(self, level: _Level, line: Line, whole: bool) -> None:
        match line:
            case Version():
                if not level.fresh:
                    self._end_document(level)
                level.announced = True
            case Plan(count, skipped):
                if level.plan is not None:
                    self._end_document(level)
                level.announced, level.plan, level.skipped = True, count, skipped
            case BailOut(reason):
                level.announced, level.bailed_out = True, reason
            case Subtest(name):
                self._read_name(level, name)
            case ResultLine():
                self._read_result(level, line, whole)

    def _read_name(self, level: _Level, name: str) -> None:
        if level.fresh and level.prefix and not level.name:
            level.name = name  # KUnit: the first of the subtest's own lines
        else:
            self._cut_short(level)
            level.child_name = name  # TAP 14: the line before them

    def _read_result(self, level: _Level, line: ResultLine, whole: bool) -> None:
        number = level.expected if line.number is None else line.number
        level.numbered = level.numbered or line.number is not None
        if number != level.expected:
            place = f"where test {level.expected} was expected"
            self.faults.append(f"test {number} ({line.name}) stands {place}")
        result = line.result
        if not whole:
            self.faults.append(f"the output ends in the middle of test {number}'s line")
            result = Result.FAIL if result is Result.FAIL else Result.MISSING
        child, level.child = level.child, None
        test = Test(line.name, result, number, line.message)
        level.tests.append(self._with_subtests(level, test, child))

    def _with_subtests(self, level: _Level, test: Test, child: Report | None) -> Test:
        """Return the test with the subtests that came before its line; their failures are its."""
        lines, level.lines, level.child_name = tuple(level.lines), [], ""
        if child is None:
            return replace(test, diagnostics=lines)
        result = test.result
        excused = (Result.FAIL, Result.XFAIL) if child.result is Result.FAIL else (Result.FAIL,)
        if child.result in (Result.FAIL, Result.MISSING) and result not in excused:
            if result is not Result.MISSING:
                self.faults.append(f"{test.name} says `{result}`, its subtests do not")
            result = child.result
        said = (test.message, child.skipped, child.bailed_out and f"bailed out: {child.bailed_out}")
        return replace(
            test,
            result=result,
            message="; ".join(filter(None, said)),
            diagnostics=(*lines, *child.diagnostics),
            subtests=child.tests,
        )

    def _open(self, parent: _Level, nesting: str) -> _Level:
        self._cut_short(parent)
        self.levels.append(_Level(parent.prefix + nesting, parent.child_name))
        return self.levels[-1]

    def _close_below(self, depth: int) -> None:
        while len(self.levels) > depth + 1:
            level = self.levels.pop()
            parent = self.levels[-1]
            parent.child, parent.child_name = self._report(level), level.name

    def _report(self, level: _Level) -> Report:
        self._end_document(level)
        return Report(
            tests=tuple(level.tests),
            announced=level.announced,
            skipped=level.skipped,
            bailed_out=level.bailed_out,
            diagnostics=tuple(level.lines),
        )

    def _cut_short(self, level: _Level) -> None:
        """End subtests whose parent never reported: whatever they say, it did not pass."""
        if level.child is None:
            return
        child, level.child = level.child, None
        name = level.child_name or "a test without a name"
        self.faults.append(f"{name} began and never reported")
        cut = Test(name, Result.MISSING, level.expected, "began and never reported")
        level.tests.append(self._with_subtests(level, cut, child))

    def _end_document(self, level: _Level) -> None:
        """Compare what was reported with the plan; a gap stands for what is missing."""
        self._cut_short(level)
        tests = level.tests[level.start :]
        seen = [test.number for test in tests if test.number is not None]
        for first, last in _gaps(level.plan or 0, set(seen)):
            name = f"test {first}" if first == last else f"tests {first} to {last}"
            level.tests.append(Test(name, Result.MISSING, message="planned and never reported"))
        if level.plan is not None and len(tests) > level.plan:
            self.faults.append(f"{len(tests)} tests were reported, {level.plan} were planned")
        if twice := sorted(number for number, times in Counter(seen).items() if times > 1):
            self.faults.append(f"reported twice: test {', '.join(map(str, twice))}")
        level.start, level.plan, level.numbered = len(level.tests), None, False


def _gaps(plan: int, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of each run of tests that were planned and not seen."""
    first = 1
    for number in sorted(n for n in seen if 1 <= n <= plan):
        if number > first:
            yield first, number - 1
        first = number + 1
    if first <= plan:
        yield first, plan
