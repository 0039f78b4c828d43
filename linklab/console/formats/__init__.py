"""How each report begins, and how its title is made.

The formats are those of Linux 6.1 to 6.18, by the file that prints them. A
pattern is matched right behind printk's prefix: "Spectre V2 : WARNING: ..." is
advice. Titles have the words that syzbot uses, so that what is known of a
fault can be searched for.
"""

from __future__ import annotations

import re

from linklab.console.faults import Fault
from linklab.console.formats import checks, ends, tasks
from linklab.console.formats.pattern import Pattern, without_addresses

__all__ = ["Pattern", "continues", "is_consequence", "pattern_for", "without_addresses"]

_PATTERNS = (
    *ends.PANICS,
    *checks.SANITIZERS,
    *ends.TRAPS,
    *tasks.ATOMIC,
    *tasks.LOCKS,
    *tasks.STANDING,
    *checks.MEMORY,
    *checks.LEAKS,
    *checks.WARNINGS,
)

# What begins like a report and is advice: to who configured it, to who unwinds.
_ADVICE = re.compile(
    r"WARNING: (?:'bootconfig' found|kernel stack (?:regs|frame pointer) at|stack recursion"
    r"|bad lookup (?:idx|value)|Bad or missing|Corrupt \.orc|can't (?:access|dereference)"
    r"|BIOS bug|polling idle|kernel not compiled|Flushing system-wide)"
)

_SECOND_TITLES = frozenset(
    {
        Fault.WARNING,
        Fault.BUG,
        Fault.OOPS,
        Fault.PAGE_FAULT,
        Fault.PROTECTION,
        Fault.INVALID_OPCODE,
        Fault.DIVIDE,
        Fault.DOUBLE_FAULT,
        Fault.STACK,
        Fault.REFCOUNT,
        Fault.BOUNDS,
    }
)

# A panic that only carries out what a report before it asked for.
_CONSEQUENCE = re.compile(
    r"Kernel panic - not syncing: (?:Fatal |.*panic_on_\w+ set|softlockup: |hung_task: |"
    r"Hard LOCKUP|RCU Stall|kasan\.fault=|Oops)"
)


def pattern_for(text: str) -> Pattern | None:
    """Return the kind of report that a line of the kernel's begins, if it begins one."""
    if _ADVICE.match(text):
        return None
    return next((pattern for pattern in _PATTERNS if pattern.start.match(text)), None)


def continues(pattern: Pattern, before: Pattern) -> bool:
    """Whether a title below another one, without a stack between, is of the same report.

    A refcount ends in a WARNING, a BUG in an invalid opcode, a page fault in
    an Oops, a device that is waited for in who holds it; CPUs that stand still
    say so one after the other.
    """
    if pattern is before:
        return pattern.stands_still
    return pattern.fault in _SECOND_TITLES or pattern.fault is before.fault


def is_consequence(text: str) -> bool:
    """Whether a line is the panic that an earlier report led to."""
    return _CONSEQUENCE.match(text) is not None
