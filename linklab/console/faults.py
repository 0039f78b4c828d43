"""What a kernel can report of its own trouble, as a closed set."""

from __future__ import annotations

from enum import StrEnum

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
        return Verdict.HANG if self in _STANDS_STILL else Verdict.CRASH


_STANDS_STILL = frozenset(
    {
        Fault.SOFT_LOCKUP,
        Fault.HARD_LOCKUP,
        Fault.RCU_STALL,
        Fault.HUNG_TASK,
        Fault.WORKQUEUE,
        Fault.SILENCE,
    }
)
