"""JUnit XML, as Jenkins, GitLab and GitHub's report actions read it.

There is no standard; what is written here is valid against the schema of
Jenkins' xunit plugin (junit-10.xsd), the strictest in use: `time` without an
exponent, no `skipped` on the root. A test that was not done is an error, not
a skip: otherwise a run that the lab lost would look like a good one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from linklab.results.outcomes import Outcome, Status, Suite

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
_DECIMALS = 9  # the guest's clock counts nanoseconds
# XML 1.0, 2.2: what a document cannot hold, not even escaped. Consoles do.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(suites: Sequence[Suite]) -> str:
    """Return suites as a JUnit document."""
    document = JUnitXml("linklab")
    for suite in suites:
        document.append(_suite(suite))  # add_testsuite would merge two of one name
    document.update_statistics()
    root = ElementTree.fromstring(document.tostring())
    root.attrib.pop("skipped", None)
    for element in root.iter():
        if "time" in element.attrib:
            element.set("time", _seconds(float(element.attrib["time"])))
    return _DECLARATION + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(suite: Suite) -> TestSuite:
    element = TestSuite(_clean(suite.title))
    for name, value in _facts(suite).items():
        element.add_property(_clean(name), _clean(value))
    for path, outcome in suite.leaves():
        element.add_testcase(_case(suite, path, outcome))
    element.update_statistics()
    if suite.start:
        element.timestamp = suite.start
    return element


def _facts(suite: Suite) -> dict[str, str]:
    """Return a suite's kernel and circumstances as properties."""
    kernel = suite.kernel
    if kernel is None:
        return dict(suite.properties)
    known = {"kernel": kernel.name, "release": kernel.release, "kernel_sha256": kernel.sha256}
    known |= {"arch": kernel.arch, "tree": kernel.tree, "commit": kernel.commit}
    known |= {"patches": " ".join(kernel.patches), "compiler": kernel.compiler}
    return {name: value for name, value in known.items() if value} | dict(suite.properties)


def _case(suite: Suite, path: tuple[str, ...], outcome: Outcome) -> TestCase:
    case = TestCase(_clean("/".join(path)), _clean(suite.title))
    case.time = outcome.seconds or 0.0
    message, output = _clean(outcome.message), _clean(outcome.output)
    match outcome.status:
        case Status.PASS:
            if said := "\n".join(filter(None, (message, output))):
                case.system_out = said
        case Status.SKIP:
            case.result = [Skipped(message or "skipped", outcome.status.value)]
        case status:
            kind = Failure if status.blames_kernel else Error
            case.result = [kind(message, status.value)]
            case.result[0].text = output
    return case


def _seconds(value: float) -> str:
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".") or "0"


def _clean(text: str) -> str:
    """Return text without what XML cannot hold; each such character becomes U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)
