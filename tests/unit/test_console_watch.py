"""What the kernel's console says of a crash, and what only looks like it.

The texts are those of Linux 6.1 to 6.12, by the function that prints them.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.console.formats import Fault
from linklab.console.lines import MAX_LINE, read_line, without_control
from linklab.console.report import Report
from linklab.console.watch import TAIL_LINES, ConsoleWatch, reports_in

# Right behind the prefix; the class is what counts here, the title is another test's matter.
REPORTS = [
    # kernel/panic.c
    (Fault.PANIC, "Kernel panic - not syncing: Fatal exception in interrupt"),
    (Fault.PANIC, "Kernel panic - not syncing: VFS: Unable to mount root fs on (0,0)"),
    (Fault.INIT_KILLED, "Kernel panic - not syncing: Attempted to kill init! exitcode=0xb"),
    (Fault.OUT_OF_MEMORY, "Kernel panic - not syncing: System is deadlocked on memory"),
    (Fault.WARNING, "WARNING: CPU: 0 PID: 51 at net/core/dev.c:11009 free_netdev+0x1a3/0x1f0"),
    (Fault.WARNING, "WARNING: CPU: 1 PID: 51 at unregister_netdevice_many_notify+0x65/0x8c0"),
    # 6.18 and later name the place first
    (Fault.WARNING, "WARNING: net/core/dev.c:11009 at free_netdev+0x1a3/0x1f0, CPU#0: ip/51"),
    (
        Fault.WARNING,
        "WARNING: [a[1] < 2] net/core/dev.c:11 at free_netdev+0x1a3/0x1f0, CPU#0: ip/51",
    ),
    (Fault.WARNING, "WARNING: net/core/dev.c:11009 at 0x0, CPU#0: ip/51"),
    (Fault.WARNING, "ODEBUG: free active (active state 0) object: ffff type: timer_list hint: 0x0"),
    # arch/x86/mm/fault.c, lib/bug.c, mm/kasan/report.c, kernel/sched/core.c
    (Fault.PAGE_FAULT, "BUG: kernel NULL pointer dereference, address: 0000000000000010"),
    (Fault.PAGE_FAULT, "BUG: unable to handle page fault for address: ffffc90000a00000"),
    (Fault.PAGE_FAULT, "Unable to handle kernel paging request at dfff800000000001"),
    (Fault.BUG, "kernel BUG at net/core/rtnetlink.c:2345!"),
    (Fault.BUG, "Kernel BUG at do_setlink+0x12/0x1230 [verbose debug info unavailable]"),
    (Fault.BUG, "BUG: something that nobody has seen yet"),
    (Fault.KASAN, "BUG: KASAN: slab-use-after-free in rtnl_fill_ifinfo+0x1e4/0x2640"),
    (Fault.KASAN, "BUG: KASAN: null-ptr-deref in rtnl_fill_ifinfo+0x1e4/0x2640 [mod]"),
    (Fault.KCSAN, "BUG: KCSAN: assert: race in dev_get_flags / dev_change_flags"),
    (Fault.ATOMIC, "BUG: sleeping function called from invalid context at mm/slab.h:330"),
    (Fault.ATOMIC, "BUG: scheduling while atomic: ip/51/0x00000002"),
    (Fault.ATOMIC, "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]"),
    # arch/x86/kernel/dumpstack.c: 6.12 says "Oops: " in front of each kind, 6.1 did not
    (Fault.OOPS, "Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI"),
    (Fault.OOPS, "Oops: 0002 [#1] PREEMPT SMP NOPTI"),
    (Fault.INVALID_OPCODE, "Oops: invalid opcode: 0000 [#1] SMP"),
    (Fault.INVALID_OPCODE, "invalid opcode: 0000 [#1] PREEMPT SMP"),
    (Fault.PROTECTION, "Oops: general protection fault, probably for non-canonical address 0xdead"),
    (Fault.PROTECTION, "general protection fault, probably for non-canonical address 0xdead: 00"),
    (Fault.DIVIDE, "divide error: 0000 [#1] SMP"),
    (Fault.DOUBLE_FAULT, "traps: PANIC: double fault, error_code: 0x0"),
    (Fault.STACK, "Oops: stack segment: 0000 [#1] SMP"),
    # kernel/watchdog.c, kernel/workqueue.c; 6.1 had the NMI in front
    (Fault.SOFT_LOCKUP, "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:51]"),
    (Fault.HARD_LOCKUP, "watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    (Fault.HARD_LOCKUP, "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    (Fault.HARD_LOCKUP, "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),
    (Fault.WORKQUEUE, "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!"),
    # kernel/hung_task.c
    (Fault.HUNG_TASK, "INFO: task ip:51 blocked for more than 120 seconds."),
    # kernel/rcu/tree_stall.h, tree_exp.h, tasks.h (which has no prefix of its own)
    (Fault.RCU_STALL, "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    (Fault.RCU_STALL, "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
    (Fault.RCU_STALL, "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0- } 21"),
    (Fault.RCU_STALL, "INFO: rcu_tasks detected stalls on tasks:"),
    # net/core/dev.c, net/sched/sch_generic.c, lib/refcount.c
    (Fault.DEVICE_LEAK, "unregister_netdevice: waiting for dummy7 to become free. Usage count = 2"),
    (Fault.WARNING, "dummy0 (dummy): NETDEV WATCHDOG: CPU: 0: transmit queue 0 timed out 5000 ms"),
    (Fault.REFCOUNT, "refcount_t: underflow; use-after-free."),
    (Fault.REFCOUNT, "refcount_t: addition on 0; use-after-free."),
    # kernel/locking/lockdep.c
    (Fault.LOCKDEP, "WARNING: possible circular locking dependency detected"),
    (
        Fault.LOCKDEP,
        "WARNING: CPU: 0 PID: 51 at kernel/locking/lockdep.c:232 hlock_class+0x5e/0x90",
    ),
    (Fault.LOCKDEP, "WARNING: possible recursive locking detected"),
    (Fault.LOCKDEP, "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
    (Fault.LOCKDEP, "WARNING: ip/51 still has locks held!"),
    (Fault.LOCKDEP, "WARNING: bad unlock balance detected!"),
    (Fault.LOCKDEP, "WARNING: held lock freed!"),
    (Fault.LOCKDEP, "WARNING: lock held when returning to user space!"),
    (Fault.LOCKDEP, "INFO: trying to register non-static key."),
    (Fault.LOCKDEP, "BUG: MAX_LOCKDEP_ENTRIES too low!"),
    (Fault.LOCKDEP, "BUG: rwlock bad magic on CPU#1, ip/51, 00000000ab"),
    (Fault.RCU, "WARNING: suspicious RCU usage"),
    # mm
    (Fault.OUT_OF_MEMORY, "Out of memory: Killed process 44 (ip) total-vm:1kB, anon-rss:1kB"),
    (Fault.BAD_PAGE, "BUG: Bad page map in process ip  pte:8000000004a51867 pmd:03b2a067"),
    (Fault.BAD_PAGE, "BUG: Bad rss-counter state mm:00000000ab type:MM_ANONPAGES val:1"),
    (Fault.LEAK, "kmemleak: 3 new suspicious memory leaks (see /sys/kernel/debug/kmemleak)"),
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
    # The kernel's advice to who configured it, or unwinds.
    "[    0.000000] WARNING: 'bootconfig' found on the kernel command line but CONFIG_BOOT_CONFIG",
    "[    1.234567] WARNING: kernel stack frame pointer at 00000000ab in ip:51 has bad value 0",
    "[    1.234567] WARNING: Flushing system-wide workqueues will be prohibited in near future.",
    "[    1.234567] WARNING: The mand mount option has been deprecated and",
    "[    1.234567] WARNING: MC bus without interrupt support",
    "[    1.234567] ODEBUG: selftest passed",
    "[    1.234567] object 0xffff is on stack",
    # A program, through /dev/kmsg.
    "<12>[    1.234567] Kernel panic - not syncing: x",
    "<28>[    1.234567][   T51] BUG: mine",
    "[    1.234567] debug: unregister_netdevice: waiting for godot",
]


def watched(*pieces: bytes) -> ConsoleWatch:
    watch = ConsoleWatch()
    for piece in pieces:
        watch.feed(piece)
    return watch


def first(*pieces: bytes) -> Report | None:
    return next(iter(watched(*pieces).reports), None)


@pytest.mark.parametrize(("fault", "text"), REPORTS, ids=lambda x: str(x)[:40])
class TestAReport:
    def test_is_seen_behind_every_stamp(self, fault: Fault, text: str) -> None:
        for stamp, end in product(STAMPS, ("\n", "\r\n", "\r\r\n")):
            report = first(f"[    1.0] boring{end}{stamp}{text}{end}".encode())
            assert report is not None, f"{stamp}{text}{end!r}"
            assert report.fault is fault
            assert report.text == f"{stamp}{text}".removeprefix("<4>")

    def test_is_seen_wherever_it_is_torn_between_two_reads(self, fault: Fault, text: str) -> None:
        said = f"[    1.234566] fine\r\n[    1.234567] {text}\r\n[    1.234568] more\r\n".encode()
        whole = first(said)
        for at in range(len(said) + 1):
            assert first(said[:at], said[at:]) == whole, f"torn at {at}"

    def test_is_seen_byte_by_byte(self, fault: Fault, text: str) -> None:
        said = f"[    1.234567] {text}\n".encode()
        assert first(*(said[at : at + 1] for at in range(len(said)))) is not None

    def test_is_seen_without_an_end_once_the_machine_is_gone(self, fault: Fault, text: str) -> None:
        watch = watched(f"[    1.234567] {text}".encode())
        assert not len(watch.reports)
        watch.finish()
        assert [report.fault for report in watch.reports] == [fault]

    def test_without_a_time_stamp_is_not_the_kernels(self, fault: Fault, text: str) -> None:
        assert first(f"{text}\n".encode()) is None

    def test_in_the_middle_of_a_line_is_not_the_kernels(self, fault: Fault, text: str) -> None:
        assert first(f"# grep x: [    1.234567] {text}\n".encode()) is None


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_is_no_report(text: str) -> None:
    watch = watched(f"{text}\r\n".encode())
    watch.finish()
    assert watch.reports == ()


def test_a_refcount_stays_one_although_a_warning_and_a_panic_follow() -> None:
    reports = watched(
        b"[    2.000000] ------------[ cut here ]------------\r\n"
        b"[    2.000001] refcount_t: underflow; use-after-free.\r\n"
        b"[    2.000002] WARNING: CPU: 0 PID: 51 at lib/refcount.c:28\r\n"
        b"[    2.000003] Kernel panic - not syncing: kernel: panic_on_warn set ...\r\n"
    ).reports
    assert [report.fault for report in reports] == [Fault.REFCOUNT]
    assert reports[0].text.count("\n") == 3


def test_a_report_stays_whatever_follows() -> None:
    watch = watched(b"[    2.000000] BUG: here\n")
    watch.feed(b"[    9.000000] quiet\n" * 1000)
    assert [report.title for report in watch.reports] == ["BUG: here"]


class TestAReportBeingTold:
    SAID = b"[    2.000000] BUG: Bad page state in process ip\n[    2.000001] Call Trace:\n"

    def test_is_there_before_its_end(self) -> None:
        watch = watched(self.SAID)
        assert watch.is_in_report
        assert [report.complete for report in watch.reports] == [False]

    def test_is_over_when_the_console_has_been_quiet(self) -> None:
        watch = watched(self.SAID)
        watch.settle()
        assert not watch.is_in_report
        assert len(watch.reports) == 1

    def test_is_over_with_its_last_line(self) -> None:
        watch = watched(self.SAID, b"[    2.000002] ---[ end trace 0000000000000000 ]---\n")
        assert not watch.is_in_report
        assert [report.complete for report in watch.reports] == [True]


class TestALineWithoutAnEnd:
    REPORT = b"[    1.234567] BUG: not at the start of a line\n"

    @pytest.mark.parametrize("size", [100, 4000, MAX_LINE, MAX_LINE + 1, 8191, 8192, 100_000])
    @pytest.mark.parametrize("piece", [1000, 4097, 1_000_000])
    def test_hides_what_stands_in_its_middle(self, size: int, piece: int) -> None:
        said = b"x" * size + self.REPORT
        assert first(*(said[at : at + piece] for at in range(0, len(said), piece))) is None

    @pytest.mark.parametrize("size", [100, 4097, 100_000])
    def test_does_not_hide_what_follows_it(self, size: int) -> None:
        assert first(b"x" * size, b"\n", self.REPORT) is not None

    def test_is_not_kept_for_ever(self) -> None:
        watch = watched(*([b"x" * 10_000] * 1000))
        assert len(watch.tail) < 1_000_000

    def test_a_report_with_a_very_long_line_is_seen(self) -> None:
        assert first(b"[    1.234567] BUG: " + b"x" * 5000, b"y" * 5000 + b"\n") is not None


class TestTail:
    def test_holds_the_last_lines(self) -> None:
        watch = watched(*(b"line %d\r\n" % number for number in range(100)), b"and a half")
        lines = watch.tail.split("\n")
        assert lines[0] == f"line {100 - TAIL_LINES}"
        assert lines[-2:] == ["line 99", "and a half"]

    def test_is_text_whatever_the_bytes(self) -> None:
        assert watched(b"\xff\xfe\n").tail == "\ufffd\ufffd"

    def test_of_an_empty_console_is_empty(self) -> None:
        watch = ConsoleWatch()
        watch.finish()
        assert (watch.tail, watch.reports) == ("", ())


class TestWhatStandsInFront:
    """The kernel does not wait for the end of a line that somebody else writes."""

    PANIC = "[   12.345678] Kernel panic - not syncing: mine"

    @pytest.mark.parametrize(
        "front",
        [
            "debian login: ",
            "Password: ",
            "(initramfs) ",
            "> ",
            "~ # ",
            "[root@linklab /]# ",
            "user@host:~$ ",
            "** 12 printk messages dropped ** ",
            "\x1b[6n",
            "\x1b[1;31m",
            "\x1b]0;root@box\x07",
            "\x1b(B",
            "\x9b0m",
            "\x1b",
            "\0",
            "\0debian login: \0<0>",
        ],
    )
    def test_does_not_hide_it(self, front: str) -> None:
        report = first(f"{front}{self.PANIC}\r\n".encode())
        assert report is not None and report.headline == self.PANIC[15:]

    @pytest.mark.parametrize(
        "front", ["x", "# echo ", "login:", "login: x ", f"{'x' * 90} login: "]
    )
    def test_hides_it_where_it_is_no_prompt(self, front: str) -> None:
        assert first(f"{front}{self.PANIC}\n".encode()) is None

    def test_does_not_cut_the_kernels_own_line(self) -> None:
        line = read_line("[    1.000000] driver # [    2.000000] says")
        assert (line.seconds, line.text) == (1.0, "driver # [    2.000000] says")


def test_control_characters_in_a_line_do_not_change_a_report() -> None:
    said = "[    2.000000] BUG: KASAN: double-free in dummy_free+0x1/0x9\n"
    for at in range(len(said)):
        for noise in (
            "\0",
            "\x1b[0m",
            "\x1b[?25l",
            "\x07",
            "\r",
            "\x1b]0;x\x1b\\",
            "\x1b(B",
            "\x9b1m",
        ):
            report = first(f"{said[:at]}{noise}{said[at:]}".encode())
            assert report == first(said.encode()), (at, noise)


class TestThePrefix:
    def test_is_taken_apart(self) -> None:
        line = read_line("<6>[   12.345678][   T51] dummy0: up")
        assert (line.seconds, line.caller, line.priority) == (12.345678, "T51", 6)
        assert (line.text, line.is_kernels) == ("dummy0: up", True)

    def test_of_an_empty_line_counts(self) -> None:
        assert read_line("[    1.000000]").is_kernels
        assert read_line("[    1.000000] ").text == ""

    def test_tells_the_kernel_from_a_program(self) -> None:
        assert read_line("<7>[    1.000000] x").is_kernels
        assert not read_line("<8>[    1.000000] x").is_kernels


# What reports are made of, and what can come between.
WORDS = (
    b"\0|\x1b|\x1b[|\x1b[0m|\r\n|\n|<4>|[    1.0|[    1.234567] |][   T51] | login: |? | at: "
    b"|** 3 printk messages dropped ** |BUG: KASAN: x in |WARNING: |Call Trace:\n|RIP: 0010:"
    b"| dummy_poll+0x1/0x9| d (a.c:1)| [inline]|[<ff>] |------------[ cut here ]------------\n"
    b"|unreferenced object 0x"
).split(b"|")
PIECES = st.lists(st.binary(max_size=50) | st.sampled_from(WORDS), max_size=40)


@given(PIECES)
def test_how_the_bytes_are_cut_changes_nothing(pieces: list[bytes]) -> None:
    said = b"".join(pieces) + b"\n[    1.234567] BUG: at the end\r\n"
    in_pieces, at_once = watched(*pieces, said[sum(map(len, pieces)) :]), watched(said)
    assert in_pieces.reports == at_once.reports
    assert in_pieces.tail == at_once.tail


@given(st.text())
def test_any_line_can_be_asked_about(raw: str) -> None:
    line = read_line(raw)
    assert line.raw == raw
    assert not line.is_kernels or "[" in raw
    assert line.seconds is None or line.text in without_control(raw)


@given(PIECES)
def test_any_text_can_be_read(pieces: list[bytes]) -> None:
    text = b"".join(pieces).decode(errors="replace")
    for report in reports_in(text):
        assert report.title
        assert len(report.fingerprint) == 16
