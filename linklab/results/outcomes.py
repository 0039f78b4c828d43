"""What was tested and what came of it, in the form that other tools' formats take.

A suite is everything that was asked of one kernel; its outcomes are a tree of
named tests. Exporters (`linklab/exports/`) know suites and nothing of runs,
series or self-tests: whoever stores results makes suites of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from linklab.errors import Verdict

BUILD = "build"
"""The name of a suite's outcome that says how its kernel's build went.

A kernel that does not build, or a patch that does not apply, is `FAIL` here: a
reader of the file alone must not take it for well.
"""


class Status(StrEnum):
    """What came of one test, the worst first.

    `MISSING` was meant to be done and was not, for no fault of the kernel's;
    `SKIP` does not apply here, or found no kernel to test; `ERROR` is the
    lab's own fault.
    """

    CRASH = "crash"
    HANG = "hang"
    FAIL = "fail"
    ERROR = "error"
    MISSING = "missing"
    SKIP = "skip"
    PASS = "pass"

    @property
    def blames_kernel(self) -> bool:
        """Whether it says that the kernel under test is at fault."""
        return self in (Status.CRASH, Status.HANG, Status.FAIL)


_UNLIKE = {Verdict.USAGE: Status.ERROR, Verdict.INTERRUPTED: Status.MISSING}


def status_of(verdict: Verdict) -> Status:
    """Return the status of a test that ended with a verdict."""
    return _UNLIKE.get(verdict) or Status(verdict.value)


def worst(statuses: Iterable[Status]) -> Status:
    """Return what several tests say together; nothing says `SKIP`.

    One that passed among others that do not apply is a pass.
    """
    found = set(statuses) - {Status.SKIP}
    return next((status for status in Status if status in found), Status.SKIP)


@dataclass(frozen=True)
class Quantity:
    """A number that a test gave, such as the median of its trials."""

    value: float
    unit: str = "s"


@dataclass(frozen=True)
class Outcome:
    """A named test and what came of it.

    `seconds` is how long the tested work took (in the guest, where it was
    timed there); `message` is one line, `output` the text that proves it.
    """

    name: str
    status: Status
    seconds: float | None = None
    message: str = ""
    output: str = ""
    figure: Quantity | None = None
    children: tuple[Outcome, ...] = ()

    def leaves(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Outcome]]:
        """Yield each test without children, with the names on the way to it."""
        here = (*path, self.name)
        if not self.children:
            yield here, self
        for child in self.children:
            yield from child.leaves(here)


def family(name: str, children: Sequence[Outcome]) -> Outcome:
    """Return a test made of others: its status is the worst of theirs, of none a skip."""
    return Outcome(name, worst(child.status for child in children), children=tuple(children))


@dataclass(frozen=True)
class KernelFacts:
    """A kernel that was tested. What is not known is empty.

    `tree` names the content of the source as git does, `commit` the commit
    that it was, `patches` the SHA-256 of each patch that was applied to it.
    """

    name: str
    release: str = ""
    sha256: str = ""
    arch: str = "x86_64"
    tree: str = ""
    commit: str = ""
    patches: tuple[str, ...] = ()
    compiler: str = ""
    config: str = ""


@dataclass(frozen=True)
class Suite:
    """Everything that was asked of one kernel. `start` and `end` are ISO 8601.

    `properties` say under which circumstances: accelerator, boot, machine.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    kernel: KernelFacts | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    end: str = ""

    @property
    def title(self) -> str:
        """Its name with its kernel's."""
        return f"{self.name}.{self.kernel.name}" if self.kernel else self.name

    @property
    def status(self) -> Status:
        """What its tests say together."""
        return worst(outcome.status for outcome in self.outcomes)

    def leaves(self) -> Iterator[tuple[tuple[str, ...], Outcome]]:
        """Yield each test without children, with the names on the way to it."""
        for outcome in self.outcomes:
            yield from outcome.leaves()
