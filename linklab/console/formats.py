"""What the kernel can report of itself: the faults, how each report begins, and its title.

The formats are those of Linux 4.9 to 6.19, by the file that prints them. A
pattern is matched right behind printk's prefix: "Spectre V2 : WARNING: ..." is
advice. Titles have the words that syzbot uses, so that what is known of a
fault can be searched for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from linklab.console import skipped_frames as skip
from linklab.console.frames import BARE_FUNCTION, FUNCTION
from linklab.console.skipped_frames import SkippedFrames
from linklab.errors import Verdict


class Fault(StrEnum):
    """The class of a report. Its value is what `run.json` says."""

    # The kernel, or a task of it, came to an end.
    PANIC = "panic"
    INIT_KILLED = "killed init"
    OOPS = "oops"
    PAGE_FAULT = "page fault"
    PROTECTION = "general protection fault"
    DOUBLE_FAULT = "double fault"
    INVALID_OPCODE = "invalid opcode"
    DIVIDE = "divide error"
    STACK = "stack corruption"
    BUG = "BUG"
    REBOOT = "reboot"
    # It found something wrong and went on.
    WARNING = "WARNING"
    REFCOUNT = "refcount"
    LIST = "list corruption"
    SLAB = "slab corruption"
    BOUNDS = "buffer overflow"
    BAD_PAGE = "bad page"
    ATOMIC = "sleeping in atomic context"
    LOCKDEP = "lockdep"
    RCU = "suspicious RCU use"
    OUT_OF_MEMORY = "out of memory"
    DEVICE_LEAK = "reference leak of a device"
    LEAK = "memory leak"
    TAINT = "taint"
    # A sanitizer did.
    KASAN = "KASAN"
    KMSAN = "KMSAN"
    KCSAN = "KCSAN"
    KFENCE = "KFENCE"
    UBSAN = "UBSAN"
    # It stands still.
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    RCU_STALL = "RCU stall"
    HUNG_TASK = "hung task"
    WORKQUEUE = "workqueue stall"
    SILENCE = "silence"

    @property
    def verdict(self) -> Verdict:
        """What a run says of a kernel with such a report."""
        if self in _STANDS_STILL:
            return Verdict.HANG
        return Verdict.FAIL if self in (Fault.DEVICE_LEAK, Fault.LEAK) else Verdict.CRASH


_STANDS_STILL = {
    Fault.SOFT_LOCKUP, Fault.HARD_LOCKUP, Fault.RCU_STALL, Fault.HUNG_TASK, Fault.WORKQUEUE,
    Fault.SILENCE,
}  # fmt: skip


@dataclass(frozen=True)
class Pattern:
    """A kind of report: how it begins, and how its title is made.

    `title` may name groups of `start` and of `details`, which are searched in
    the report's body; ` in {function}` is dropped where no function is to blame.
    A group `function` in either is taken unless it is one of `skipped`.
    `behind`: the words that its stack follows, where others can precede it.
    `stands_still`: the function to blame is where the CPU is, not what noticed.
    `whole`: the report is one line. `aside`: another CPU says it at any time, so
    it does not end a report that goes on. `advises`: it is one only with a stack.
    """

    fault: Fault
    start: re.Pattern[str]
    title: str
    skipped: SkippedFrames
    details: re.Pattern[str] | None = None
    behind: re.Pattern[str] | None = None
    stands_still: bool = False
    whole: bool = False
    aside: bool = False
    advises: bool = False


# Before 4.13: [ INFO: ... ], [ BUG: ... ]; suspicious RCU usage was an [ ERR: ... ] in between.
_HEAD = r"(?:WARNING: |\[ (?:INFO|BUG|ERR|WARNING): )"
_BACKTRACE = r"stack backtrace:"


def _pattern(
    fault: Fault,
    start: str,
    title: str,
    skipped: SkippedFrames = skip.COMMON,
    details: str | None = None,
    behind: str | None = None,
    **flags: bool,
) -> Pattern:
    search, after = (re.compile(each) if each else None for each in (details, behind))
    return Pattern(fault, re.compile(start), title, skipped, search, after, **flags)


def _lockdep(
    start: str, title: str, details: str | None = None, behind: str = _BACKTRACE
) -> Pattern:
    return _pattern(Fault.LOCKDEP, f"{_HEAD}{start}", title, skip.DEADLOCKS, details, behind)


def _still(fault: Fault, start: str, title: str) -> Pattern:
    return _pattern(fault, start, title, skip.STANDSTILL, stands_still=True)


# Behind the function can be its module, its source's place, and, before 4.10, the address.
_IN_FUNCTION = rf"(?: (?:in (?:{FUNCTION}|{BARE_FUNCTION}(?= \()|\S+)|on address)(?: .*)?)?"
_AT = rf" at: (?:\[<[0-9a-f]+>\] )?{FUNCTION}"
_LOCK_TAKEN_AT = rf"^ #0: .*{_AT}"  # the innermost one that is still held
_LOCK_RELEASED_AT = rf"^\[<[0-9a-f]+>\] {FUNCTION}"
_WARNING = r"WARNING: (?:\[.*\] )?(?:CPU: \d+ PID: \d+ at )?"
_PANIC = "Kernel panic - not syncing: "
LEAKS_FOUND = "memory leak"  # in sum, without a place

_PATTERNS = (
    # kernel/panic.c, kernel/exit.c, kernel/sched/core.c, mm/oom_kill.c
    _pattern(
        Fault.INIT_KILLED,
        rf"{_PANIC}Attempted to kill init!",
        "kernel panic: Attempted to kill init!",
    ),
    _pattern(
        Fault.STACK,
        rf"{_PANIC}stack-protector: Kernel stack is corrupted in: (?:{FUNCTION}|\S)",
        "kernel panic: stack is corrupted in {function}",
        skip.MACHINERY,
    ),
    _pattern(
        Fault.STACK,
        rf"{_PANIC}corrupted stack end detected inside scheduler",
        "kernel panic: corrupted stack end in {function}",
        skip.STANDSTILL,
    ),
    _pattern(
        Fault.OUT_OF_MEMORY,
        rf"{_PANIC}(?:Out of memory|System is deadlocked on memory)",
        "kernel panic: out of memory",
    ),
    _pattern(Fault.PANIC, rf"{_PANIC}(?P<why>.*)", "kernel panic: {why}"),
    # mm/kasan/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, mm/kfence/report.c, lib/ubsan.c
    _pattern(
        Fault.KASAN,
        rf"BUG: KASAN: (?P<kind>(?:double-free or )?(?:double|invalid)-free){_IN_FUNCTION}$",
        "KASAN: {kind} in {function}",
        skip.FREES,
    ),
    _pattern(
        Fault.KASAN,
        rf"BUG: KAS(?:AN|an): (?P<kind>[\w-]+(?: [\w-]+)*?){_IN_FUNCTION}$",
        "KASAN: {kind} {access} in {function}",
        details=r"^(?P<access>Read|Write) (?:of size|at addr)",
    ),
    _pattern(
        Fault.KMSAN,
        rf"BUG: KMSAN: (?P<kind>[\w-]+){_IN_FUNCTION}$",
        "KMSAN: {kind} in {function}",
        skip.KMSAN,
    ),
    _pattern(
        Fault.KCSAN,
        r"BUG: KCSAN: (?P<kind>(?:assert: )?[\w-]+) in "
        r"(?P<one>[\w.]+)(?: \[\S+\])? / (?P<other>[\w.]+)(?: \[\S+\])?$",
        "KCSAN: {kind} in {one} / {other}",
    ),
    _pattern(
        Fault.KCSAN,
        rf"BUG: KCSAN: (?P<kind>(?:assert: )?[\w-]+){_IN_FUNCTION}$",
        "KCSAN: {kind} in {function}",
    ),
    _pattern(
        Fault.KFENCE,
        rf"BUG: KFENCE: (?P<kind>[\w-]+(?: [\w-]+)*?){_IN_FUNCTION}$",
        "KFENCE: {kind} in {function}",
    ),
    _pattern(
        Fault.UBSAN,
        r"UBSAN: (?P<kind>[\w /-]+) in \S+:\d+",
        "UBSAN: {kind} in {function}",
        skip.UBSAN,
    ),
    # arch/x86/mm/fault.c, arch/x86/kernel/traps.c and dumpstack.c, lib/bug.c
    _pattern(
        Fault.PAGE_FAULT,
        r"(?:BUG: )?(?:[uU]nable to handle )?kernel NULL pointer dereference",
        "BUG: unable to handle kernel NULL pointer dereference in {function}",
    ),
    _pattern(
        Fault.PAGE_FAULT,
        r"(?:BUG: )?[uU]nable to handle (?:page fault|kernel)",
        "BUG: unable to handle kernel paging request in {function}",
    ),
    _pattern(
        Fault.PROTECTION,
        r"(?:Oops: )?(?:segment-related )?general protection fault",
        "general protection fault in {function}",
    ),
    _pattern(
        Fault.DOUBLE_FAULT, r"(?:traps: )?PANIC: double fault", "PANIC: double fault in {function}"
    ),
    _pattern(Fault.INVALID_OPCODE, r"(?:Oops: )?invalid opcode: ", "invalid opcode in {function}"),
    _pattern(Fault.DIVIDE, r"(?:Oops: )?divide[ _]error: ", "divide error in {function}"),
    _pattern(Fault.OOPS, r"(?:Oops: )?int3: ", "int3 in {function}"),
    _pattern(
        Fault.STACK,
        r"BUG: (?:.* )?stack guard page was hit",
        "BUG: stack guard page was hit in {function}",
    ),
    _pattern(Fault.STACK, r"(?:Oops: )?stack segment: ", "stack segment fault in {function}"),
    _pattern(Fault.STACK, r"Thread overran stack", "BUG: stack overflow in {function}"),
    _pattern(
        Fault.BUG,
        rf"[kK]ernel BUG at (?:{FUNCTION}|\S+:\d+!)",
        "kernel BUG in {function}",
        skip.BUGS,
    ),
    _pattern(Fault.OOPS, r"Oops(?:: | - )", "Oops in {function}"),
    # kernel/sched/core.c, lib/smp_processor_id.c, kernel/workqueue.c
    _pattern(
        Fault.ATOMIC,
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {function}",
    ),
    _pattern(
        Fault.ATOMIC,
        r"BUG: scheduling (?:while atomic|in a non-blocking section)",
        "BUG: scheduling while atomic in {function}",
        skip.STANDSTILL,
    ),
    _pattern(
        Fault.ATOMIC,
        r"BUG: using (?P<what>\w+)\(?\)? in preemptible",
        "BUG: using {what} in preemptible code in {function}",
        skip.ATOMIC,
    ),
    _pattern(
        Fault.ATOMIC,
        r"BUG: (?P<what>assuming \w+(?: \w+)? context) at",
        "BUG: {what} in {function}",
        skip.ATOMIC,
    ),
    _pattern(
        Fault.ATOMIC,
        r"BUG: workqueue leaked (?:atomic|lock)",
        "BUG: workqueue leaked atomic, lock or RCU in {function}",
        details=r"(?:last function: |workfn=)(?P<function>\w+)",
    ),
    # kernel/locking/lockdep.c and spinlock_debug.c
    _lockdep(
        r"possible (?:circular|recursive) locking", "possible deadlock in {function}", details=_AT
    ),
    _lockdep(r"possible irq lock inversion", "possible deadlock in {function}", details=_AT),
    # Which path connects the two locks differs; which lock interrupts take does not.
    _lockdep(
        r"\S+-safe -> \S+-unsafe lock order",
        "possible deadlock in {function}",
        behind=r"which became \S+-safe at:",
    ),
    _lockdep(r"inconsistent lock state", "inconsistent lock state in {function}"),
    _lockdep(r"bad unlock balance", "WARNING: bad unlock balance in {function}", _LOCK_RELEASED_AT),
    _lockdep(r"held lock freed", "WARNING: held lock freed in {function}", _AT),
    _lockdep(r"(?P<what>bad contention|chain_key collision)", "WARNING: {what} in {function}"),
    _lockdep(r"Nested lock was not taken", "WARNING: nested lock was not taken in {function}"),
    _lockdep(
        r".* still has locks held", "WARNING: still has locks held in {function}", _LOCK_TAKEN_AT
    ),
    _lockdep(
        r"lock held when returning to user space",
        "WARNING: lock held when returning to user space in {function}",
        _LOCK_TAKEN_AT,
    ),
    _lockdep(r"Invalid wait context", "BUG: invalid wait context in {function}"),
    _pattern(
        Fault.LOCKDEP,
        r"WARNING: .*kernel/locking/lockdep\.c:\d+ ",
        "WARNING: locking bug in {function}",
        skip.LOCKDEP,
    ),
    _pattern(
        Fault.LOCKDEP,
        r"INFO: trying to register non-static key",
        "INFO: trying to register non-static key in {function}",
        skip.KEYS,
    ),
    _pattern(Fault.LOCKDEP, r"BUG: (?P<what>MAX_\w+) too low", "BUG: {what} too low"),
    _pattern(
        Fault.LOCKDEP,
        r"BUG: (?P<what>spinlock|rwlock) (?P<how>[\w ]+?) on CPU",
        "BUG: {what} {how} in {function}",
        skip.SPINLOCKS,
    ),
    _pattern(
        Fault.RCU,
        rf"{_HEAD}suspicious RCU usage",
        "WARNING: suspicious RCU usage in {function}",
        skip.RCU,
        behind=_BACKTRACE,
    ),
    # kernel/watchdog.c, kernel/rcu/{tree_stall,tree_exp,tasks}.h, kernel/hung_task.c, workqueue.c
    _still(
        Fault.SOFT_LOCKUP,
        r"(?:(?:NMI )?watchdog: )?BUG: soft lockup",
        "BUG: soft lockup in {function}",
    ),
    _still(
        Fault.HARD_LOCKUP,
        r"(?:(?:NMI )?watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP",
        "BUG: hard lockup in {function}",
    ),
    _still(
        Fault.RCU_STALL,
        r"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stall",
        "INFO: rcu detected stall in {function}",
    ),
    _still(
        Fault.HUNG_TASK,
        r"INFO: task .* blocked (?:in I/O wait )?for more than",
        "INFO: task hung in {function}",
    ),
    _still(
        Fault.WORKQUEUE,
        r"(?:workqueue: )?BUG: workqueue lockup",
        "BUG: workqueue lockup in {function}",
    ),
    # lib/refcount.c, lib/list_debug.c, mm/slub.c, mm/usercopy.c, lib/string_helpers.c,
    # mm/page_alloc.c, mm/memory.c, kernel/fork.c
    _pattern(Fault.REFCOUNT, r"refcount_t: ", "WARNING: refcount bug in {function}"),
    _pattern(
        Fault.LIST,
        r"list_(?:add|del)[ .](?:corruption|double add)",
        "BUG: corrupted list in {function}",
    ),
    _pattern(
        Fault.SLAB,
        r"BUG [\w:.,-]+ \(.*?\): (?!kasan: )(?P<what>[\w ,'-]+)",
        "slab corruption: {what} in {function}",
    ),
    _pattern(
        Fault.BOUNDS, r"usercopy: Kernel memory \w+ attempt", "BUG: bad usercopy in {function}"
    ),
    _pattern(
        Fault.BOUNDS,
        r"\w+: detected (?P<what>buffer overflow|field-spanning write)",
        "WARNING: {what} in {function}",
    ),
    _pattern(
        Fault.BAD_PAGE,
        r"BUG: (?P<what>Bad page \w+|Bad rss-counter state|non-zero pgtables_bytes)",
        "BUG: {what} in {function}",
        skip.PAGES,
        behind=r"page last allocated",
    ),
    # mm/oom_kill.c
    _pattern(
        Fault.OUT_OF_MEMORY,
        r".{0,64}(?: invoked oom-killer: |[oO]ut of memory.*: Killed process )",
        "out of memory: killed {task}",
        details=r"[oO]ut of memory.*: Killed process \d+ \((?P<task>.*?)\)",
    ),
    # net/core/dev.c, lib/ref_tracker.c, mm/kmemleak.c, net/core/page_pool.c
    _pattern(
        Fault.DEVICE_LEAK,
        r"unregister_netdevice: waiting for ",
        "unregister_netdevice: waiting for a device to become free",
        aside=True,
    ),
    _pattern(
        Fault.DEVICE_LEAK,
        r"ref_tracker: .* has \d+/\d+ users at",
        "reference leak in {function}",
        skip.LEAKS,
    ),
    _pattern(
        Fault.LEAK,
        r"(?:kmemleak: )?unreferenced object 0x",
        "memory leak in {function}",
        skip.LEAKS,
    ),
    _pattern(Fault.LEAK, r"BUG: memory leak$", "memory leak in {function}", skip.LEAKS),
    _pattern(
        Fault.LEAK,
        r"kmemleak: \d+ new suspicious memory leaks",
        LEAKS_FOUND,
        whole=True,
        aside=True,
    ),
    _pattern(
        Fault.LEAK,
        r"page_pool_release_retry\(\) stalled pool shutdown",
        "memory leak: stalled page pool",
        whole=True,
        aside=True,
    ),
    # kernel/panic.c; since 6.18 the place comes first, and the condition, where it is known
    _pattern(
        Fault.WARNING,
        rf"{_WARNING}fs/proc/generic\.c:\d+ (?:at )?(?P<function>proc_register)\b",
        "WARNING: proc registration bug in {function}",
        skip.PROC,
    ),
    _pattern(
        Fault.WARNING,
        rf"WARNING: (?:\[.*\] )?(?:CPU: \d+ PID: \d+ at )?(?:\S+:\d+ )?(?:at )?{FUNCTION}",
        "WARNING in {function}",
    ),
    _pattern(
        Fault.WARNING,
        r"WARNING: (?:\[.*\] )?(?:CPU: \d+ PID: \d+ at |\S+:\d+ at )",
        "WARNING in {function}",
    ),
    _pattern(
        Fault.WARNING,
        r"ODEBUG: .*\(active state \d+\)",
        "WARNING: ODEBUG bug in {function}",
        skip.LIVES,
    ),
    _pattern(
        Fault.WARNING,
        r".{0,80}NETDEV WATCHDOG: .*transmit queue \d+ timed out",
        "NETDEV WATCHDOG: transmit queue timed out",
        whole=True,
        aside=True,
    ),
    _pattern(Fault.WARNING, r"WARNING: (?P<why>.*)", "WARNING: {why}", advises=True),
    _pattern(Fault.BUG, r"BUG: (?P<why>.*)", "BUG: {why}"),
)

# No fault although a stack can follow: the unwinder's, of its own work, and of what is deprecated.
_ADVICE = re.compile(
    r"WARNING: (?:kernel stack (?:regs|frame pointer) at|stack (?:recursion|going in)"
    r"|bad lookup (?:idx|value)|Bad or missing|Corrupt \.orc|can't (?:access|dereference)"
    r"|Flushing system-wide)"
)

_SECOND_TITLES = {
    Fault.WARNING, Fault.BUG, Fault.OOPS, Fault.PAGE_FAULT, Fault.PROTECTION,
    Fault.INVALID_OPCODE, Fault.DIVIDE, Fault.DOUBLE_FAULT, Fault.STACK, Fault.REFCOUNT,
    Fault.BOUNDS,
}  # fmt: skip

# A panic that an earlier report asked for.
_CONSEQUENCE = re.compile(
    r"Kernel panic - not syncing: (?:Fatal |.*panic_on_\w+ set|softlockup: |hung_task: |"
    r"Hard LOCKUP|RCU Stall|kasan\.fault=|Oops)"
)


@cache
def _any_start() -> re.Pattern[str]:
    """Return all starts in one: nearly every line of a console is none."""
    return re.compile("|".join(re.sub(r"\?P<\w+>", "?:", each.start.pattern) for each in _PATTERNS))


def pattern_for(text: str) -> Pattern | None:
    """Return the kind of report that a kernel's line begins, None where it begins none."""
    if not _any_start().match(text) or _ADVICE.match(text):
        return None
    return next((pattern for pattern in _PATTERNS if pattern.start.match(text)), None)


def continues(pattern: Pattern, before: Pattern) -> bool:
    """Whether a title below another one, without a stack between, is of the same report.

    A refcount error ends in a WARNING, a BUG in an invalid opcode, a page fault
    in an Oops, a wait for a device in the list of its users; CPUs that stand
    still are reported one after the other.
    """
    if pattern is before:
        return pattern.stands_still
    return pattern.fault in _SECOND_TITLES or pattern.fault is before.fault


def is_consequence(text: str) -> bool:
    """Whether a line is the panic that an earlier report led to."""
    return _CONSEQUENCE.match(text) is not None
