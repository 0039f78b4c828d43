"""KTAP version 1, as the kernel's own tests print it.

Written to Documentation/dev-tools/ktap.rst: nested subtests, a plan before
the results, diagnostics before the result line that they belong to. A test
that did not end in time is `# TIMEOUT`, one that the lab did not do `# ERROR`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from linklab.results.outcomes import Outcome, Status, Suite, family

VERSION_LINE = "KTAP version 1"
_INDENT = "  "
_GOOD = (Status.PASS, Status.SKIP)
_DIRECTIVE = {
    Status.SKIP: "SKIP",
    Status.HANG: "TIMEOUT",
    Status.ERROR: "ERROR",
    Status.MISSING: "ERROR",
}


def ktap(suites: Sequence[Suite]) -> str:
    """Return suites as one KTAP document, each suite a test with subtests."""
    tests = [family(suite.title, suite.outcomes) for suite in suites]
    lines = [VERSION_LINE, *_facts(suites), *_results(tests)]
    return "\n".join(lines) + "\n"


def _facts(suites: Sequence[Suite]) -> Iterator[str]:
    """Yield which kernels were tested: the file has it nowhere else."""
    for suite in suites:
        kernel = suite.kernel
        if kernel is not None:
            known = {"release": kernel.release, "arch": kernel.arch, **suite.properties}
            for name, value in known.items():
                yield from _diagnostics(f"{suite.title}: {name}: {value}")


def _results(tests: Sequence[Outcome]) -> Iterator[str]:
    yield f"1..{len(tests)}"
    for number, test in enumerate(tests, 1):
        if test.children:
            inside = [VERSION_LINE, f"# Subtest: {_name(test.name)}", *_results(test.children)]
            yield from (_INDENT + line for line in inside)
        yield from _comments_on(test)
        yield _result(number, test)


def _comments_on(test: Outcome) -> Iterator[str]:
    if test.figure is not None:
        yield from _diagnostics(f"{test.figure.value:.9g} {test.figure.unit}")
    if test.message and not _directive(test):
        yield from _diagnostics(test.message)
    yield from _diagnostics(test.output)


def _result(number: int, test: Outcome) -> str:
    word = "ok" if test.status in _GOOD else "not ok"
    return f"{word} {number} {_name(test.name)}{_directive(test)}"


def _directive(test: Outcome) -> str:
    directive = _DIRECTIVE.get(test.status)
    if directive is None or (test.children and test.status is not Status.SKIP):
        return ""
    first = test.message.partition("\n")[0]
    return f" # {directive} {first}".rstrip()


def _diagnostics(text: str) -> Iterator[str]:
    """Yield text as comments, so that result lines in a guest's output are none here."""
    for line in text.splitlines():
        yield f"# {line}".rstrip()


def _name(text: str) -> str:
    """Return a name as a result line takes it: a `#` would begin a directive."""
    return " ".join(text.replace("#", "_").split()) or "unnamed"
