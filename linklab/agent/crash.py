"""A watch over the kernel's console: does it say that it crashed?

Only lines that begin as the kernel's own do, with a time stamp, count; the
lab boots every kernel with `printk.time=1`. Lines are put together from
whatever pieces arrive, so a marker that is torn between two reads is found.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from linklab.errors import Verdict

TAIL_LINES = 40
_MAX_LINE = 4096

_KERNEL_LINE = rb"^(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? "

# What a report begins with in Linux 6.x, right behind the time stamp: "Spectre
# V2 : WARNING: ..." is advice.  The first line that matches gives the report
# its title.  HANG is for a kernel that says itself that something stands still.
_REPORTS: tuple[tuple[str, Verdict, bytes], ...] = (
    ("panic", Verdict.CRASH, rb"Kernel panic - not syncing"),
    ("hang", Verdict.HANG, rb"watchdog: (?:CPU\d+: )?BUG: soft lockup|BUG: workqueue lockup"),
    ("hang", Verdict.HANG, rb"(?:(?:NMI )?watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP"),
    ("hang", Verdict.HANG, rb"INFO: task .* blocked (?:in I/O wait )?for more than"),
    ("hang", Verdict.HANG, rb"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stall"),
    ("BUG", Verdict.CRASH, rb"[kK]ernel BUG at |BUG: "),
    ("oops", Verdict.CRASH, rb"Oops: |Oops - |general protection fault|Unable to handle kernel"),
    ("oops", Verdict.CRASH, rb"invalid opcode: |divide error: |traps: .*double fault|PANIC: "),
    ("WARNING", Verdict.CRASH, rb"WARNING: "),
    ("leak", Verdict.CRASH, rb"unregister_netdevice: waiting for "),
    ("refcount", Verdict.CRASH, rb"refcount_t: "),
)
_COMPILED = tuple(
    (kind, verdict, re.compile(_KERNEL_LINE + rb"(?P<title>(?:" + text + rb").*)"))
    for kind, verdict, text in _REPORTS
)


@dataclass(frozen=True)
class KernelReport:
    """What the kernel said of its own trouble: the first line that counts."""

    kind: str
    verdict: Verdict
    title: str


class CrashWatch:
    """Reads the console's bytes as they come and remembers the first report."""

    def __init__(self) -> None:
        self._partial = b""
        self._mid_line = False
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self.report: KernelReport | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the console."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r"))
            self._mid_line = False
        if len(self._partial) > _MAX_LINE:
            self._take(self._partial)
            self._partial = b""
            self._mid_line = True

    def finish(self) -> None:
        """Take what is left without a newline: the machine is gone."""
        if self._partial:
            self._take(self._partial)
            self._partial = b""

    def _take(self, line: bytes) -> None:
        self._tail.append(line)
        if self.report is None and not self._mid_line:
            self.report = report_in(line)

    @property
    def tail(self) -> str:
        """The last lines of the console."""
        lines = [*self._tail, self._partial] if self._partial else list(self._tail)
        return b"\n".join(lines).decode(errors="replace")


def report_in(line: bytes) -> KernelReport | None:
    """Return what a line of the console reports, if it reports anything."""
    for kind, verdict, pattern in _COMPILED:
        if found := pattern.match(line):
            return KernelReport(kind, verdict, found["title"].decode(errors="replace").strip())
    return None
