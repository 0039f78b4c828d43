"""What can go wrong, and whose fault it is.

The type of an exception decides the verdict and the exit status, so the line
between "the kernel failed" and "the lab failed" is drawn where something is
raised, not where it is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, ClassVar


class Verdict(StrEnum):
    """What a run says of the kernel or, from `ERROR` on, of itself."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    HANG = "hang"
    ERROR = "error"
    SKIP = "skip"
    USAGE = "usage"
    INTERRUPTED = "interrupted"

    @property
    def status(self) -> int:
        """The exit status that scripts, and `git bisect run`, rely on."""
        return _STATUS[self]


_STATUS = {
    Verdict.PASS: 0,
    Verdict.FAIL: 1,
    Verdict.CRASH: 1,
    Verdict.HANG: 1,
    Verdict.USAGE: 2,
    Verdict.ERROR: 3,
    Verdict.SKIP: 125,
    Verdict.INTERRUPTED: 130,
}


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 but for tab and newline, DEL, C1


def printable(text: str) -> str:
    r"""Return a text that a terminal only shows: what it would act on as `\x1b`, as in kmsg.

    Whatever a guest, or a program, may have said goes through this on its way
    to a person's terminal or into a file that is read there.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class LinklabError(Exception):
    """An end that has a verdict. Shown to the user without a traceback.

    `message` says what happened and what to do; `evidence` is the text that
    proves it (a console's last lines, a compiler's error), shown below it.
    Both are printable, whoever said what is in them.
    """

    verdict: ClassVar[Verdict]

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"message", "evidence"}:
            value = printable(value)
        super().__setattr__(name, value)

    def __str__(self) -> str:
        return self.message


class UsageError(LinklabError):
    """A wrong option or file. Nothing was started."""

    verdict = Verdict.USAGE


class LabError(LinklabError):
    """The lab or its host is at fault: says nothing of the kernel under test."""

    verdict = Verdict.ERROR


class MachineLost(LabError):
    """The machine went away under us: QEMU was killed, or could not go on."""


class ProtocolError(LabError):
    """The agent and the lab do not understand each other."""


class GuestIncomplete(LabError):
    """The image lacks a program or a file that the work needs."""


class Interrupted(LinklabError):
    """The user, or a signal, ended the run."""

    verdict = Verdict.INTERRUPTED


class BuildSkipped(LinklabError):
    """There is no kernel to test: it does not build, or a patch does not apply."""

    verdict = Verdict.SKIP


class KernelFault(LinklabError):
    """The kernel under test is at fault.

    `reports` is what it said of it on its console, first what the verdict goes
    by; `filed` the same, on file; `guest` the host that it happened in.
    """

    verdict = Verdict.FAIL

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message, evidence)
        self.guest = ""  # the host of the topology that it happened in
        # Reports, and those on file, are types of those who make them, above this ground floor.
        self.reports: tuple[Any, ...] = ()
        self.filed: tuple[Any, ...] = ()


class WrongState(KernelFault):
    """An operation reported success and did not do what it says."""

    verdict = Verdict.FAIL


class RequestRefused(KernelFault):
    """The kernel answered a request that is valid with an error."""

    verdict = Verdict.FAIL


class Leaked(KernelFault):
    """The kernel keeps what it should have given back."""

    verdict = Verdict.FAIL


class ModuleRefused(KernelFault):
    """A module under test did not load, or the kernel did not take it."""

    verdict = Verdict.FAIL


class KernelCrashed(KernelFault):
    """A panic, an oops, a BUG or a WARNING, or a reboot that nobody asked for."""

    verdict = Verdict.CRASH


class GuestHung(KernelFault):
    """The machine runs, and the guest does not answer within its deadline."""

    verdict = Verdict.HANG


@contextmanager
def os_errors_as(kind: type[LinklabError], what: str, after: str = "") -> Iterator[None]:
    """Turn what the file system says into an error of a kind: `what`, the reason, `after`."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}{after}") from error
