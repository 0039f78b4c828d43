"""Reports of the kernel's checks: sanitizers, counters, lists, memory, warnings."""

from __future__ import annotations

from linklab.console import helpers
from linklab.console.faults import Fault
from linklab.console.formats.pattern import IN_FUNCTION, pattern
from linklab.console.frames import FUNCTION

# mm/kasan/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, mm/kfence/report.c, lib/ubsan.c
SANITIZERS = (
    pattern(
        Fault.KASAN,
        rf"BUG: KASAN: (?P<kind>[\w-]+(?: [\w-]+)*?){IN_FUNCTION}$",
        "KASAN: {kind} {access} in {function}",
        details=r"^(?P<access>Read|Write) (?:of size|at addr)",
    ),
    pattern(
        Fault.KMSAN, rf"BUG: KMSAN: (?P<kind>[\w-]+){IN_FUNCTION}$", "KMSAN: {kind} in {function}"
    ),
    pattern(
        Fault.KCSAN,
        r"BUG: KCSAN: (?P<kind>[\w-]+) in (?P<both>[\w.]+ / [\w.]+)$",
        "KCSAN: {kind} in {both}",
    ),
    pattern(
        Fault.KCSAN, rf"BUG: KCSAN: (?P<kind>[\w-]+){IN_FUNCTION}$", "KCSAN: {kind} in {function}"
    ),
    pattern(
        Fault.KFENCE,
        rf"BUG: KFENCE: (?P<kind>[\w-]+(?: [\w-]+)*?){IN_FUNCTION}$",
        "KFENCE: {kind} in {function}",
    ),
    pattern(
        Fault.UBSAN,
        r"UBSAN: (?P<kind>[\w /-]+) in \S+:\d+",
        "UBSAN: {kind} in {function}",
        helpers.ACCESS,
    ),
)

# lib/refcount.c, lib/list_debug.c, mm/slub.c, mm/usercopy.c, lib/string_helpers.c,
# mm/page_alloc.c, mm/memory.c, kernel/fork.c
MEMORY = (
    pattern(Fault.REFCOUNT, r"refcount_t: ", "WARNING: refcount bug in {function}", helpers.COUNTS),
    pattern(
        Fault.LIST,
        r"list_(?:add|del)[ .](?:corruption|double add)",
        "BUG: corrupted list in {function}",
    ),
    pattern(
        Fault.SLAB,
        r"BUG [\w:.,-]+ \(.*?\): (?P<what>[\w ,'-]+)",
        "slab corruption: {what} in {function}",
        helpers.SLABS,
    ),
    pattern(
        Fault.BOUNDS, r"usercopy: Kernel memory \w+ attempt", "BUG: bad usercopy in {function}"
    ),
    pattern(
        Fault.BOUNDS,
        r"\w+: detected (?P<what>buffer overflow|field-spanning write)",
        "WARNING: {what} in {function}",
    ),
    pattern(
        Fault.BAD_PAGE,
        r"BUG: (?P<what>Bad page \w+|Bad rss-counter state|non-zero pgtables_bytes)",
        "BUG: {what} in {function}",
    ),
    # mm/oom_kill.c
    pattern(
        Fault.OUT_OF_MEMORY,
        r".{0,64}(?: invoked oom-killer: |[oO]ut of memory.*: Killed process )",
        "out of memory: killed {task}",
        details=r"[oO]ut of memory.*: Killed process \d+ \((?P<task>.*?)\)",
    ),
)

# net/core/dev.c, lib/ref_tracker.c, mm/kmemleak.c, net/core/page_pool.c
LEAKS = (
    pattern(
        Fault.DEVICE_LEAK,
        r"unregister_netdevice: waiting for ",
        "unregister_netdevice: waiting for a device to become free",
    ),
    pattern(
        Fault.DEVICE_LEAK,
        r"ref_tracker: .* has \d+/\d+ users at",
        "reference leak in {function}",
        helpers.LEAKS,
    ),
    pattern(
        Fault.LEAK,
        r"(?:kmemleak: )?unreferenced object 0x",
        "memory leak in {function}",
        helpers.LEAKS,
    ),
    pattern(Fault.LEAK, r"kmemleak: \d+ new suspicious memory leaks", "memory leak", whole=True),
    pattern(
        Fault.LEAK,
        r"page_pool_release_retry\(\) stalled pool shutdown",
        "memory leak: stalled page pool",
        whole=True,
    ),
)

# kernel/panic.c; since 6.18 the place comes first
WARNINGS = (
    pattern(
        Fault.WARNING,
        rf"WARNING: (?:CPU: \d+ PID: \d+ at )?(?:\S+:\d+ )?(?:at )?{FUNCTION}",
        "WARNING in {function}",
        helpers.COUNTS,
    ),
    pattern(Fault.WARNING, r"WARNING: (?:CPU: \d+ PID: \d+ at |\S+:\d+ at )", "WARNING"),
    pattern(Fault.WARNING, r"ODEBUG: ", "WARNING: ODEBUG bug in {function}"),
    pattern(
        Fault.WARNING,
        r".{0,80}NETDEV WATCHDOG: .*transmit queue \d+ timed out",
        "NETDEV WATCHDOG: transmit queue timed out",
        whole=True,
    ),
    pattern(Fault.WARNING, r"WARNING: (?P<why>.*)", "WARNING: {why}"),
    pattern(Fault.BUG, r"BUG: (?P<why>.*)", "BUG: {why}"),
)
