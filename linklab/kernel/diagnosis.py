"""What a build that failed says: whose fault it is, and which lines prove it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from linklab.errors import BuildSkipped, LabError

STEP_LINE = re.compile(r"^  ([A-Z][A-Z0-9_]*) +(\S.*)$")
"""How kbuild says what it does: `  CC      net/core/dev.o`."""

_ERROR_LINE = re.compile(
    r"(?:\berror|\bError|ERROR: modpost|undefined reference to|multiple definition of|\*\*\*)[: `]"
    r"|fatal error"
)
_CONTEXT_LINE = re.compile(r"^In file included from |^ +from |: In function |: warning: |[:,]$")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_KILLED = re.compile(
    r"signal terminated program|\] (?:Killed|Terminated)$|Cannot allocate memory|"
    r"virtual memory exhausted|out of memory allocating"
)
_NO_PROGRAM = re.compile(r"(?:^|[\s/:])([\w.+-]+): (?:command )?not found$")
_NO_HEADER = re.compile(r"fatal error: ((?:gelf|libelf|openssl/\w+)\.h): No such file")
_EVIDENCE_LINES = 12
_CONTEXT_LINES = 4


class ToolMissing(LabError):
    """The build needs a program or a header that this machine lacks."""


def failure_of(
    what: str, status: int, lines: Sequence[str], log: Path, made: str = "the kernel"
) -> LabError | BuildSkipped:
    """Return the error for a make that failed, from what it printed.

    `BuildSkipped` where the source of what was `made` is at fault, `LabError`
    where this machine is.
    """
    evidence = first_errors(lines)
    where = f"the whole log: {log}"
    if any(_NO_SPACE.search(line) for line in lines):
        return LabError(f"the disk is full: {what} could not go on ({where})", evidence)
    if status < 0 or any(_KILLED.search(line) for line in lines):
        return LabError(
            f"{what} was killed, perhaps for want of memory: that says nothing of the kernel "
            f"({where})",
            evidence,
        )
    if missing := _missing(lines):
        return ToolMissing(
            f"{missing} is missing, which {what} needs: `invoke setup` installs what the lab's "
            f"own kernels need ({where})",
            evidence,
        )
    return BuildSkipped(f"{made} does not build: {what} failed ({where})", evidence)


def _missing(lines: Sequence[str]) -> str | None:
    """Return the header, or the program, that the build did not find."""
    for line in lines:
        if match := _NO_HEADER.search(line):
            return match[1]
    if any("Error 127" in line for line in lines):  # a shell's status for "not found"
        for line in lines:
            if match := _NO_PROGRAM.search(line):
                return match[1]
    return None


def first_errors(lines: Sequence[str]) -> str:
    """Return where the first error stands in a build's output, with what leads up to it.

    Other compilers go on for a while after the first error, so the end of the
    output seldom shows it.
    """
    for number, line in enumerate(lines):
        if _ERROR_LINE.search(line) and not STEP_LINE.match(line):
            begin = number
            while (
                begin > max(0, number - _CONTEXT_LINES)
                and _CONTEXT_LINE.search(lines[begin - 1])
                and not STEP_LINE.match(lines[begin - 1])
            ):
                begin -= 1
            block = lines[begin : begin + _EVIDENCE_LINES]
            return "\n".join(entry for entry in block if not STEP_LINE.match(entry))
    return "\n".join(deque(lines, maxlen=_EVIDENCE_LINES))
