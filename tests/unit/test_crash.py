"""What the kernel's console says of a crash, and what only looks like it.

The texts are those of Linux 6.1 to 6.12, by the function that prints them.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.agent.crash import TAIL_LINES, CrashWatch, report_in
from linklab.errors import Verdict

CRASH, HANG = Verdict.CRASH, Verdict.HANG

REPORTS = [
    # kernel/panic.c
    ("panic", CRASH, "Kernel panic - not syncing: Fatal exception in interrupt"),
    ("panic", CRASH, "Kernel panic - not syncing: VFS: Unable to mount root fs on (0,0)"),
    ("panic", CRASH, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
    ("WARNING", CRASH, "WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009 free_netdev+0x1a3/0x1f0"),
    ("WARNING", CRASH, "WARNING: CPU: 1 PID: 51 at unregister_netdevice_many_notify+0x65/0x8c0"),
    # 6.18 and later name the place first
    ("WARNING", CRASH, "WARNING: net/core/dev.c:11009 at free_netdev+0x1a3/0x1f0, CPU#0: ip/51"),
    # arch/x86/mm/fault.c, lib/bug.c, mm/kasan/report.c, kernel/sched/core.c
    ("BUG", CRASH, "BUG: kernel NULL pointer dereference, address: 0000000000000010"),
    ("BUG", CRASH, "BUG: unable to handle page fault for address: ffffc90000a00000"),
    ("BUG", CRASH, "kernel BUG at net/core/rtnetlink.c:2345!"),
    ("BUG", CRASH, "Kernel BUG at do_setlink+0x12/0x1230 [verbose debug info unavailable]"),
    ("BUG", CRASH, "BUG: KASAN: slab-use-after-free in rtnl_fill_ifinfo+0x1e4/0x2640"),
    ("BUG", CRASH, "BUG: sleeping function called from invalid context at mm/slab.h:330"),
    ("BUG", CRASH, "BUG: scheduling while atomic: ip/51/0x00000002"),
    # arch/x86/kernel/dumpstack.c: 6.12 says "Oops: " in front of each kind, 6.1 did not
    ("oops", CRASH, "Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI"),
    ("oops", CRASH, "Oops: 0002 [#1] PREEMPT SMP NOPTI"),
    ("oops", CRASH, "Oops: invalid opcode: 0000 [#1] SMP"),
    ("oops", CRASH, "Oops: general protection fault, probably for non-canonical address 0xdead: 0"),
    ("oops", CRASH, "general protection fault, probably for non-canonical address 0xdead: 0000"),
    ("oops", CRASH, "invalid opcode: 0000 [#1] PREEMPT SMP"),
    ("oops", CRASH, "divide error: 0000 [#1] SMP"),
    ("oops", CRASH, "traps: PANIC: double fault, error_code: 0x0"),
    # kernel/watchdog.c, kernel/workqueue.c; 6.1 had the NMI in front
    ("hang", HANG, "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:51]"),
    ("hang", HANG, "watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("hang", HANG, "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("hang", HANG, "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),
    ("hang", HANG, "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!"),
    # kernel/hung_task.c
    ("hang", HANG, "INFO: task ip:51 blocked for more than 120 seconds."),
    # kernel/rcu/tree_stall.h, tree_exp.h, tasks.h (which has no prefix of its own)
    ("hang", HANG, "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    ("hang", HANG, "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
    ("hang", HANG, "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-...D } 21"),
    ("hang", HANG, "INFO: rcu_tasks detected stalls on tasks:"),
    # net/core/dev.c, lib/refcount.c
    ("leak", CRASH, "unregister_netdevice: waiting for dummy7 to become free. Usage count = 2"),
    ("refcount", CRASH, "refcount_t: underflow; use-after-free."),
    ("refcount", CRASH, "refcount_t: addition on 0; use-after-free."),
    # kernel/locking/lockdep.c
    ("WARNING", CRASH, "WARNING: possible circular locking dependency detected"),
]

STAMPS = [
    "[    1.234567] ",
    "[12345.678901] ",
    "[123456.678901] ",
    "<4>[    1.234567] ",
    "[    1.234567][    T1] ",
    "[    1.234567][   C0] ",
]

LOOK_ALIKES = [
    # Not the kernel: no time stamp in front.
    "Kernel panic - not syncing: Fatal exception",
    "WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009",
    "BUG: soft lockup",
    " [    1.234567] WARNING: CPU: 0",
    "# dmesg: [    1.234567] WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009",
    "/ # echo '[    1.234567] Kernel panic - not syncing: x'",
    "[1.5] WARNING: no stamp of the kernel's",
    "[    1.234567]WARNING: no blank",
    "[    x.234567] WARNING: no number",
    # The kernel, but no crash.
    "[    0.000000] Linux version 6.12.0 (gcc) #1 SMP",
    "[    0.000000] Command line: console=ttyS0 panic=-1 oops=panic",
    "[    0.031414] Spectre V2 : WARNING: Unprivileged eBPF is enabled",
    "[    1.234567] printk: WARNING: a driver said so",
    "[    1.234567] traps: ip[51] general protection fault ip:7f10 sp:7ffc error:0 in libc.so",
    "[    1.234567] traps: ip[51] trap invalid opcode ip:7f10 sp:7ffc error:0 in libc.so",
    "[    1.234567] ip[51]: segfault at 0 ip 0000 sp 0000 error 4 in ip[400000+1000]",
    "[    1.234567] dummy0: BUG: says the name of a thing",
    "[    1.234567] rcu: Hierarchical RCU implementation.",
    "[    1.234567] rcu: INFO: nothing of the kind",
    "[    1.234567] watchdog: Delayed init of the lockup detector failed: -19",
    "[    1.234567] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    "[    1.234567] INFO: task scheduling is fine",
    "[    1.234567] ACPI BIOS Error (bug): Could not resolve symbol",
    "[    1.234567] debug: unregister_netdevice: waiting for godot",
]


def watched(*pieces: bytes) -> CrashWatch:
    watch = CrashWatch()
    for piece in pieces:
        watch.feed(piece)
    return watch


@pytest.mark.parametrize(("kind", "verdict", "text"), REPORTS, ids=lambda x: str(x)[:40])
class TestAReport:
    def test_is_seen_behind_every_stamp(self, kind: str, verdict: Verdict, text: str) -> None:
        for stamp, end in product(STAMPS, ("\n", "\r\n", "\r\r\n")):
            report = watched(f"[    1.0] boring{end}{stamp}{text}{end}".encode()).report
            assert report is not None, f"{stamp}{text}{end!r}"
            assert (report.kind, report.verdict, report.title) == (kind, verdict, text)

    def test_is_seen_wherever_it_is_torn_between_two_reads(
        self, kind: str, verdict: Verdict, text: str
    ) -> None:
        said = f"[    1.234566] fine\r\n[    1.234567] {text}\r\n[    1.234568] more\r\n".encode()
        for at in range(len(said) + 1):
            report = watched(said[:at], said[at:]).report
            assert report is not None and report.title == text, f"torn at {at}"

    def test_is_seen_byte_by_byte(self, kind: str, verdict: Verdict, text: str) -> None:
        said = f"[    1.234567] {text}\n".encode()
        assert watched(*(said[at : at + 1] for at in range(len(said)))).report is not None

    def test_is_seen_without_an_end_once_the_machine_is_gone(
        self, kind: str, verdict: Verdict, text: str
    ) -> None:
        watch = watched(f"[    1.234567] {text}".encode())
        watch.finish()
        assert watch.report is not None
        assert watch.report.verdict is verdict

    def test_without_a_time_stamp_is_not_the_kernels(
        self, kind: str, verdict: Verdict, text: str
    ) -> None:
        assert watched(f"{text}\n".encode()).report is None

    def test_in_the_middle_of_a_line_is_not_the_kernels(
        self, kind: str, verdict: Verdict, text: str
    ) -> None:
        assert watched(f"# grep x: [    1.234567] {text}\n".encode()).report is None


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_is_no_report(text: str) -> None:
    watch = watched(f"{text}\r\n".encode())
    watch.finish()
    assert watch.report is None


def test_the_first_report_is_the_one_that_counts() -> None:
    watch = watched(
        b"[    2.000000] ------------[ cut here ]------------\r\n"
        b"[    2.000001] refcount_t: underflow; use-after-free.\r\n"
        b"[    2.000002] WARNING: CPU: 0 PID: 51 at lib/refcount.c:28\r\n"
        b"[    2.000003] Kernel panic - not syncing: kernel: panic_on_warn set ...\r\n"
    )
    assert watch.report is not None
    assert watch.report.title == "refcount_t: underflow; use-after-free."


def test_a_report_stays_whatever_follows() -> None:
    watch = watched(b"[    2.000000] WARNING: here\n")
    watch.feed(b"[    2.000000] quiet\n" * 1000)
    assert watch.report is not None
    assert watch.report.title == "WARNING: here"


class TestALineWithoutAnEnd:
    REPORT = b"[    1.234567] WARNING: not at the start of a line\n"

    @pytest.mark.parametrize("size", [100, 4000, 4096, 4097, 8191, 8192, 100_000])
    @pytest.mark.parametrize("piece", [1000, 4097, 1_000_000])
    def test_hides_what_stands_in_its_middle(self, size: int, piece: int) -> None:
        said = b"x" * size + self.REPORT
        watch = watched(*(said[at : at + piece] for at in range(0, len(said), piece)))
        assert watch.report is None

    @pytest.mark.parametrize("size", [100, 4097, 100_000])
    def test_does_not_hide_what_follows_it(self, size: int) -> None:
        watch = watched(b"x" * size, b"\n", self.REPORT)
        assert watch.report is not None

    def test_is_not_kept_for_ever(self) -> None:
        watch = watched(*([b"x" * 10_000] * 1000))
        assert len(watch.tail) < 1_000_000

    def test_a_report_with_a_very_long_line_is_seen(self) -> None:
        watch = watched(b"[    1.234567] BUG: " + b"x" * 5000, b"y" * 5000 + b"\n")
        assert watch.report is not None


class TestTail:
    def test_holds_the_last_lines(self) -> None:
        watch = watched(*(b"line %d\r\n" % number for number in range(100)), b"and a half")
        lines = watch.tail.split("\n")
        assert lines[0] == f"line {100 - TAIL_LINES}"
        assert lines[-2:] == ["line 99", "and a half"]

    def test_is_text_whatever_the_bytes(self) -> None:
        assert watched(b"\xff\xfe\n").tail == "\ufffd\ufffd"

    def test_of_an_empty_console_is_empty(self) -> None:
        watch = CrashWatch()
        watch.finish()
        assert (watch.tail, watch.report) == ("", None)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_how_the_bytes_are_cut_changes_nothing(pieces: list[bytes]) -> None:
    said = b"".join(pieces) + b"\n[    1.234567] BUG: at the end\r\n"
    in_pieces, at_once = watched(*pieces, said[sum(map(len, pieces)) :]), watched(said)
    assert in_pieces.report == at_once.report
    assert in_pieces.tail == at_once.tail


@given(st.binary())
def test_any_line_can_be_asked_about(line: bytes) -> None:
    found = report_in(line)
    assert found is None or line.lstrip(b"<0123456789>").startswith(b"[")
