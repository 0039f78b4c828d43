"""Reports of a kernel, or a task of it, that comes to an end."""

from __future__ import annotations

from linklab.console import helpers
from linklab.console.faults import Fault
from linklab.console.formats.pattern import pattern
from linklab.console.frames import FUNCTION

_PANIC = "Kernel panic - not syncing: "

# kernel/panic.c, kernel/exit.c, kernel/sched/core.c, mm/oom_kill.c
PANICS = (
    pattern(
        Fault.INIT_KILLED,
        rf"{_PANIC}Attempted to kill init!",
        "kernel panic: Attempted to kill init!",
    ),
    pattern(
        Fault.STACK,
        rf"{_PANIC}stack-protector: Kernel stack is corrupted in: {FUNCTION}",
        "kernel panic: stack is corrupted in {function}",
        helpers.GENERAL,
    ),
    pattern(
        Fault.STACK,
        rf"{_PANIC}corrupted stack end detected inside scheduler",
        "kernel panic: corrupted stack end in {function}",
        helpers.STANDSTILL,
    ),
    pattern(
        Fault.OUT_OF_MEMORY,
        rf"{_PANIC}(?:Out of memory|System is deadlocked on memory)",
        "kernel panic: out of memory",
    ),
    pattern(Fault.PANIC, rf"{_PANIC}(?P<why>.*)", "kernel panic: {why}"),
)

# arch/x86/mm/fault.c, arch/x86/kernel/traps.c and dumpstack.c, lib/bug.c
TRAPS = (
    pattern(
        Fault.PAGE_FAULT,
        r"(?:BUG: )?(?:[uU]nable to handle )?kernel NULL pointer dereference",
        "BUG: unable to handle kernel NULL pointer dereference in {function}",
    ),
    pattern(
        Fault.PAGE_FAULT,
        r"(?:BUG: )?[uU]nable to handle (?:page fault|kernel)",
        "BUG: unable to handle kernel paging request in {function}",
    ),
    pattern(
        Fault.PROTECTION,
        r"(?:Oops: )?(?:segment-related )?general protection fault",
        "general protection fault in {function}",
    ),
    pattern(
        Fault.DOUBLE_FAULT,
        r"(?:traps: )?PANIC: double fault",
        "PANIC: double fault in {function}",
    ),
    pattern(Fault.INVALID_OPCODE, r"(?:Oops: )?invalid opcode: ", "invalid opcode in {function}"),
    pattern(Fault.DIVIDE, r"(?:Oops: )?divide error: ", "divide error in {function}"),
    pattern(
        Fault.STACK,
        r"BUG: .* stack guard page was hit",
        "BUG: stack guard page was hit in {function}",
    ),
    pattern(Fault.STACK, r"(?:Oops: )?stack segment: ", "stack segment fault in {function}"),
    pattern(Fault.STACK, r"Thread overran stack", "BUG: stack overflow in {function}"),
    pattern(Fault.BUG, rf"[kK]ernel BUG at (?:{FUNCTION}|\S+:\d+!)", "kernel BUG in {function}"),
    pattern(Fault.OOPS, r"Oops(?:: | - )", "Oops in {function}"),
)
