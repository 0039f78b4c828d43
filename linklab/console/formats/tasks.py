"""Reports on how tasks, locks and CPUs behave."""

from __future__ import annotations

import re

from linklab.console import helpers
from linklab.console.faults import Fault
from linklab.console.formats.pattern import Pattern, pattern
from linklab.console.frames import FUNCTION

# Where the innermost lock was taken that is still held.
_TAKEN_AT = re.compile(rf"^ #0: .* at: {FUNCTION}")


def _lockdep(start: str, title: str, details: re.Pattern[str] | None = None) -> Pattern:
    return Pattern(
        Fault.LOCKDEP, re.compile(start), title, helpers.LOCKS, details, after_backtrace=True
    )


def _still(fault: Fault, start: str, title: str) -> Pattern:
    return Pattern(fault, re.compile(start), title, helpers.STANDSTILL, stands_still=True)


# kernel/sched/core.c, lib/smp_processor_id.c, kernel/workqueue.c
ATOMIC = (
    pattern(
        Fault.ATOMIC,
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {function}",
        helpers.SLEEPING,
    ),
    pattern(
        Fault.ATOMIC,
        r"BUG: scheduling (?:while atomic|in a non-blocking section)",
        "BUG: scheduling while atomic in {function}",
        helpers.STANDSTILL,
    ),
    pattern(
        Fault.ATOMIC,
        r"BUG: using (?P<what>\w+)\(?\)? in preemptible",
        "BUG: using {what} in preemptible code in {function}",
        helpers.SLEEPING,
    ),
    pattern(
        Fault.ATOMIC,
        r"BUG: (?P<what>assuming \w+(?: \w+)? context) at",
        "BUG: {what} in {function}",
        helpers.SLEEPING,
    ),
    pattern(
        Fault.ATOMIC,
        r"BUG: workqueue leaked (?:atomic|lock)",
        "BUG: workqueue leaked atomic, lock or RCU",
    ),
)

# kernel/locking/lockdep.c and spinlock_debug.c
LOCKS = (
    _lockdep(
        r"WARNING: possible (?:circular|recursive) locking", "possible deadlock in {function}"
    ),
    _lockdep(
        r"WARNING: (?:possible irq lock inversion|\S+-safe -> \S+-unsafe lock order)",
        "possible deadlock in {function}",
    ),
    _lockdep(r"WARNING: inconsistent lock state", "inconsistent lock state in {function}"),
    _lockdep(
        r"WARNING: (?P<what>bad unlock balance|bad contention|held lock freed|chain_key collision)",
        "WARNING: {what} in {function}",
    ),
    _lockdep(
        r"WARNING: Nested lock was not taken", "WARNING: nested lock was not taken in {function}"
    ),
    _lockdep(
        r"WARNING: .* still has locks held",
        "WARNING: still has locks held in {function}",
        _TAKEN_AT,
    ),
    _lockdep(
        r"WARNING: lock held when returning to user space",
        "WARNING: lock held when returning to user space in {function}",
        _TAKEN_AT,
    ),
    _lockdep(r"\[ BUG: Invalid wait context \]", "BUG: invalid wait context in {function}"),
    _lockdep(
        r"INFO: trying to register non-static key",
        "INFO: trying to register non-static key in {function}",
    ),
    _lockdep(r"BUG: (?P<what>MAX_\w+) too low", "BUG: {what} too low"),
    _lockdep(
        r"BUG: (?P<what>spinlock|rwlock) (?P<how>[\w ]+?) on CPU",
        "BUG: {what} {how} in {function}",
    ),
    Pattern(
        Fault.RCU,
        re.compile(r"WARNING: suspicious RCU usage"),
        "WARNING: suspicious RCU usage in {function}",
        helpers.RCU,
        after_backtrace=True,
    ),
)

# kernel/watchdog.c, kernel/rcu/{tree_stall,tree_exp,tasks}.h, kernel/hung_task.c, workqueue.c
STANDING = (
    _still(Fault.SOFT_LOCKUP, r"(?:watchdog: )?BUG: soft lockup", "BUG: soft lockup in {function}"),
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
)
