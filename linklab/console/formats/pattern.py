"""A kind of report, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from linklab.console.faults import Fault
from linklab.console.frames import FUNCTION
from linklab.console.helpers import MEMORY, Helpers

IN_FUNCTION = rf"(?: in (?:{FUNCTION}|\S+)(?: \[.*\])?)?"
_ADDRESS = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{12,16})\b")


@dataclass(frozen=True)
class Pattern:
    """A kind of report: how it begins, and how its title is made.

    `title` may name groups of `start` and of `details`, which are searched in
    the report's body; ` in {function}` is dropped where nobody is found
    guilty. A group `function` in `start` is taken unless it is a helper.
    `stands_still`: the guilty one is where the CPU is, not who noticed.
    `after_backtrace`: its stack stands behind those words, older ones before.
    `whole`: one line is all of it.
    """

    fault: Fault
    start: re.Pattern[str]
    title: str
    helpers: Helpers = MEMORY
    details: re.Pattern[str] | None = None
    stands_still: bool = False
    after_backtrace: bool = False
    whole: bool = False


def pattern(
    fault: Fault,
    start: str,
    title: str,
    skip: Helpers = MEMORY,
    *,
    details: str | None = None,
    whole: bool = False,
) -> Pattern:
    """Return a pattern from the texts that describe it."""
    found = re.compile(details) if details else None
    return Pattern(fault, re.compile(start), title, skip, found, whole=whole)


def without_addresses(text: str) -> str:
    """Return a text with each address replaced by the word ADDR."""
    return _ADDRESS.sub("ADDR", text)
