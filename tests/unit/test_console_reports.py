"""What the kernel's reports are taken for: class, title, guilty function, text.

The reports are in `reports/`, one a file, in the formats of Linux 6.1 to 6.18.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path

import pytest

from linklab.console.formats import Fault
from linklab.console.lines import read_line
from linklab.console.report import Report
from linklab.console.watch import MAX_LINES, MAX_REPORTS, ConsoleWatch, reports_in
from linklab.errors import Verdict

REPORTS = Path(__file__).parent / "reports"

EXPECTED: dict[str, tuple[Fault, str]] = {
    "bad_page": (Fault.BAD_PAGE, "BUG: Bad page state in skb_release_data"),
    "bug_on": (Fault.BUG, "kernel BUG in free_netdev"),
    "deadlock": (Fault.LOCKDEP, "possible deadlock in dev_set_mtu"),
    "device_leak": (
        Fault.DEVICE_LEAK,
        "unregister_netdevice: waiting for a device to become free",
    ),
    "divide": (Fault.DIVIDE, "divide error in tbf_change"),
    "double_fault": (Fault.DOUBLE_FAULT, "PANIC: double fault in fib_table_lookup"),
    "fortify": (Fault.BOUNDS, "WARNING: buffer overflow in dev_set_alias"),
    "hard_lockup": (Fault.HARD_LOCKUP, "BUG: hard lockup in dev_watchdog_loop"),
    "hung_task": (Fault.HUNG_TASK, "INFO: task hung in rtnl_dumpit"),
    "init_killed": (Fault.INIT_KILLED, "kernel panic: Attempted to kill init!"),
    "invalid_opcode": (Fault.INVALID_OPCODE, "invalid opcode in dummy_setup"),
    "kasan": (Fault.KASAN, "KASAN: slab-use-after-free Read in dummy_xmit"),
    "kasan_double_free": (Fault.KASAN, "KASAN: double-free in free_netdev"),
    "kasan_memcpy": (Fault.KASAN, "KASAN: slab-out-of-bounds Write in nla_put_ifalias"),
    "kcsan": (Fault.KCSAN, "KCSAN: data-race in dev_change_flags / dev_get_flags"),
    "kcsan_unknown": (Fault.KCSAN, "KCSAN: data-race in dev_get_flags"),
    "kfence": (Fault.KFENCE, "KFENCE: use-after-free read in neigh_dump_info"),
    "kmemleak": (Fault.LEAK, "memory leak in dummy_newlink"),
    "kmsan": (Fault.KMSAN, "KMSAN: uninit-value in inet6_fill_ifinfo"),
    "list_corruption": (Fault.LIST, "BUG: corrupted list in dev_close_many"),
    "lock_held": (
        Fault.LOCKDEP,
        "WARNING: lock held when returning to user space in dummy_lock_up",
    ),
    "lock_state": (Fault.LOCKDEP, "inconsistent lock state in dummy_poll"),
    "null_call": (
        Fault.PAGE_FAULT,
        "BUG: unable to handle kernel NULL pointer dereference in dev_set_mtu_ext",
    ),
    "null_pointer": (
        Fault.PAGE_FAULT,
        "BUG: unable to handle kernel NULL pointer dereference in rtnl_setlink",
    ),
    "odebug": (Fault.WARNING, "WARNING: ODEBUG bug in neigh_destroy"),
    "oom": (Fault.OUT_OF_MEMORY, "out of memory: killed linklab-agent"),
    "page_fault": (
        Fault.PAGE_FAULT,
        "BUG: unable to handle kernel paging request in nla_put",
    ),
    "page_pool": (Fault.LEAK, "memory leak: stalled page pool"),
    "panic_root": (
        Fault.PANIC,
        "kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)",
    ),
    "preemptible": (
        Fault.ATOMIC,
        "BUG: using smp_processor_id in preemptible code in dev_queue_stats",
    ),
    "protection": (Fault.PROTECTION, "general protection fault in unlist_netdevice"),
    "rcu": (Fault.RCU, "WARNING: suspicious RCU usage in dev_get_by_index_rcu"),
    "rcu_stall": (Fault.RCU_STALL, "INFO: rcu detected stall in rtnl_group_changelink"),
    "rcu_stall_others": (Fault.RCU_STALL, "INFO: rcu detected stall in taprio_dequeue"),
    "refcount": (Fault.REFCOUNT, "WARNING: refcount bug in macvlan_dellink"),
    "scheduling": (Fault.ATOMIC, "BUG: scheduling while atomic in dummy_xmit"),
    "slab": (Fault.SLAB, "slab corruption: Poison overwritten in inet_rtm_newaddr"),
    "sleeping": (
        Fault.ATOMIC,
        "BUG: sleeping function called from invalid context in __mutex_lock",
    ),
    "soft_lockup": (Fault.SOFT_LOCKUP, "BUG: soft lockup in neigh_forced_gc"),
    "spinlock": (Fault.LOCKDEP, "BUG: spinlock bad magic in dummy_dev_init"),
    "stack_end": (Fault.STACK, "kernel panic: corrupted stack end in unix_stream_read_generic"),
    "stack_guard": (Fault.STACK, "BUG: stack guard page was hit in dev_get_iflink"),
    "stack_protector": (Fault.STACK, "kernel panic: stack is corrupted in do_setlink"),
    "sysrq_panic": (Fault.PANIC, "kernel panic: sysrq triggered crash"),
    "ubsan": (Fault.UBSAN, "UBSAN: array-index-out-of-bounds in fq_codel_enqueue"),
    "usercopy": (Fault.BOUNDS, "BUG: bad usercopy in simple_copy_to_iter"),
    "wait_context": (Fault.LOCKDEP, "BUG: invalid wait context in dummy_change_carrier"),
    "warning": (Fault.WARNING, "WARNING in rtnl_group_changelink"),
    "warning_6_18": (Fault.WARNING, "WARNING in free_netdev"),
    "warning_on_warn": (Fault.WARNING, "WARNING in unregister_netdevice_many_notify"),
    "workqueue": (Fault.WORKQUEUE, "BUG: workqueue lockup"),
}
LEAKS = {Fault.DEVICE_LEAK, Fault.LEAK}
HANGS = {
    Fault.SOFT_LOCKUP,
    Fault.HARD_LOCKUP,
    Fault.RCU_STALL,
    Fault.HUNG_TASK,
    Fault.WORKQUEUE,
    Fault.SILENCE,
}


def text_of(name: str) -> str:
    return (REPORTS / f"{name}.log").read_text()


def one(text: str) -> Report:
    (report,) = reports_in(text)
    return report


def stamped(lines: list[str], start: float = 100.0, caller: str = "") -> str:
    """Return lines with printk's prefix, a millisecond apart."""
    return "".join(f"[{start + i / 1000:12.6f}]{caller} {line}\n" for i, line in enumerate(lines))


def test_every_report_on_file_is_expected_to_be_something() -> None:
    assert {path.stem for path in REPORTS.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
class TestAReport:
    def test_has_its_class_and_title(self, name: str) -> None:
        report = one(text_of(name))
        assert (report.fault, report.title) == EXPECTED[name]

    def test_has_a_verdict(self, name: str) -> None:
        fault, _ = EXPECTED[name]
        expected = Verdict.FAIL if fault in LEAKS else Verdict.CRASH
        assert one(text_of(name)).verdict is (Verdict.HANG if fault in HANGS else expected)

    def test_is_the_same_whatever_happened_to_the_bytes(self, name: str) -> None:
        text = text_of(name)
        said = text.replace("\n", "\r\n").encode()
        for size in (1, 7, 4096):
            watch = ConsoleWatch()
            for at in range(0, len(said), size):
                watch.feed(said[at : at + size])
            watch.finish()
            assert watch.reports == reports_in(text)

    def test_holds_all_that_belongs_to_it_and_nothing_else(self, name: str) -> None:
        before = stamped(["dummy0: entered promiscuous mode"], 1.0)
        after = stamped(["dummy0: left promiscuous mode"], 500.0)
        report = one(before + text_of(name) + after)
        assert report.fault is EXPECTED[name][0]
        assert "promiscuous" not in report.text
        lines = [read_line(raw) for raw in text_of(name).splitlines()]
        said = [line.shown for line in lines if line.text]
        missing = set(said) - set(report.text.splitlines())
        assert len(missing) <= 1, "a line before the first or behind the last at most"

    def test_has_a_fingerprint_that_addresses_and_numbers_do_not_change(self, name: str) -> None:
        text = text_of(name)
        other = (
            text.replace("+0x1", "+0x3")
            .replace("CPU: 0", "CPU: 3")
            .replace("PID: 51", "PID: 4711")
            .replace("ip:51", "ip:4711")
            .replace("ffff8880", "ffff8881")
        )
        assert one(other).fingerprint == one(text).fingerprint

    def test_keeps_its_title_with_other_prefixes(self, name: str) -> None:
        text = text_of(name)
        leveled = "".join(f"<4>{line}\n" for line in text.splitlines() if line.startswith("["))
        if leveled:
            assert one(leveled).title == one(text).title


def test_what_the_unwinder_guesses_does_not_change_the_fingerprint() -> None:
    guessed = re.sub(r"\]  (?=\w+\+)", "]  ? ", text_of("warning"))
    other = guessed.replace("? rtnetlink_rcv_msg+", "? set_close_on_exec+")
    assert guessed.count("? ") == 7 and other != guessed
    assert one(guessed).title == one(text_of("warning")).title
    assert one(guessed).fingerprint == one(other).fingerprint


def test_fingerprints_of_different_faults_differ() -> None:
    found = [one(text_of(name)).fingerprint for name in EXPECTED]
    assert len(set(found)) == len(found)


class TestTheGuiltyFunction:
    def test_goes_by_the_name_in_the_source(self) -> None:
        text = text_of("kasan").replace("dummy_xmit+", "dummy_xmit.constprop.0.isra.0+")
        assert one(text).function == "dummy_xmit"

    def test_is_not_one_that_the_unwinder_doubts(self) -> None:
        trace = ["Call Trace:", " <TASK>", " ? dev_doubtful+0x1/0x20", " dev_sure+0x2/0x20"]
        assert one(stamped(["BUG: Bad page state in process ip", *trace])).function == "dev_sure"

    def test_is_not_who_allocated(self) -> None:
        assert "__alloc_skb" not in [frame.name for frame in one(text_of("kasan")).frames]

    def test_can_be_in_a_module(self) -> None:
        frame = one(text_of("divide")).frames[0]
        assert (frame.module, frame.name, frame.offset) == ("sch_tbf", "tbf_change", 0x1F2)

    def test_is_a_helper_where_there_is_nothing_else(self) -> None:
        report = one(stamped(["BUG: KASAN: double-free in kfree+0x10/0x20"]))
        assert report.title == "KASAN: double-free in kfree"

    def test_is_left_out_where_nobody_is_named(self) -> None:
        report = one(stamped(["BUG: soft lockup - CPU#0 stuck for 26s! [ip:51]"]))
        assert (report.title, report.function) == ("BUG: soft lockup", None)


class TestReportsInARow:
    def test_are_told_apart(self) -> None:
        text = text_of("warning") + text_of("kasan") + text_of("hung_task")
        faults = [report.fault for report in reports_in(text)]
        assert faults == [Fault.WARNING, Fault.KASAN, Fault.HUNG_TASK]

    def test_are_told_apart_although_the_first_has_no_stack(self) -> None:
        later = text_of("sleeping").replace("[   41.", "[   14.")
        faults = [report.fault for report in reports_in(text_of("lock_held") + later)]
        assert faults == [Fault.LOCKDEP, Fault.ATOMIC]

    def test_of_two_speakers_at_the_same_time_are_told_apart(self) -> None:
        warning, ubsan = (text_of(name).splitlines() for name in ("warning", "ubsan"))
        mixed = []
        for i, (one_line, other) in enumerate(zip_longest(warning, ubsan, fillvalue="[] ")):
            mixed.append(f"[   80.{i:06}][   T51] {one_line.partition('] ')[2]}")
            mixed.append(f"[   80.{i:06}][    C1] {other.partition('] ')[2]}")
        found = reports_in("\n".join(mixed))
        assert [report.fault for report in found] == [Fault.WARNING, Fault.UBSAN]
        assert "C1" not in found[0].text
        assert "T51" not in found[1].text

    def test_that_are_the_same_count_once(self) -> None:
        watch = ConsoleWatch()
        watch.feed((text_of("warning") * 3).encode())
        assert len(watch.reports) == 1
        assert watch.more == 2

    def test_are_bounded(self) -> None:
        watch = ConsoleWatch()
        for i in range(MAX_REPORTS + 5):
            function = "dev_" + "x" * (i + 1)
            watch.feed(text_of("warning").replace("rtnl_group_changelink", function).encode())
        assert len(watch.reports) == MAX_REPORTS
        assert watch.more == 5

    def test_a_later_panic_of_its_own_is_another_report(self) -> None:
        found = reports_in(text_of("warning") + text_of("init_killed"))
        assert [report.fault for report in found] == [Fault.WARNING, Fault.INIT_KILLED]

    def test_a_panic_long_after_does_not_belong_to_what_was_before(self) -> None:
        later = stamped(["Kernel panic - not syncing: Fatal exception"], 900.0)
        found = reports_in(text_of("warning") + later)
        assert [report.fault for report in found] == [Fault.WARNING, Fault.PANIC]


def test_a_report_without_end_is_bounded() -> None:
    lines = ["BUG: Bad page state in process ip", *(f"noise {i}" for i in range(5000))]
    assert one(stamped(lines)).text.count("\n") == MAX_LINES - 1


def test_cut_here_alone_is_no_report() -> None:
    lines = ["------------[ cut here ]------------", *(f"driver says {i}" for i in range(30))]
    assert reports_in(stamped(lines)) == ()


def test_a_text_without_time_stamps_can_be_read_too() -> None:
    plain = "\n".join(line.partition("] ")[2] for line in text_of("kmemleak").splitlines())
    assert one(plain.replace("kmemleak: ", "")).title == "memory leak in dummy_newlink"


class TestAReboot:
    BANNER = "Linux version 6.12.117 (linklab@linklab) (gcc 12.2.0) #1 SMP"

    def test_is_a_second_banner(self) -> None:
        text = stamped([self.BANNER], 0.0) + stamped(["fine"], 5.0) + stamped([self.BANNER], 0.0)
        watch = ConsoleWatch()
        watch.feed(text.encode())
        (report,) = watch.reports
        assert (report.fault, report.title) == (Fault.REBOOT, "unexpected kernel reboot")

    def test_is_a_banner_after_other_words_of_a_kernel(self) -> None:
        watch = ConsoleWatch()
        watch.feed((stamped(["fine"], 5.0) + stamped([self.BANNER], 0.0)).encode())
        assert [report.fault for report in watch.reports] == [Fault.REBOOT]

    def test_is_not_the_first_banner(self) -> None:
        watch = ConsoleWatch()
        watch.feed((stamped([self.BANNER], 0.0) + stamped(["fine"], 5.0)).encode())
        assert watch.reports == ()

    def test_comes_behind_the_report_that_caused_it(self) -> None:
        watch = ConsoleWatch()
        watch.feed((text_of("null_pointer") + stamped([self.BANNER], 0.0)).encode())
        assert [report.fault for report in watch.reports] == [Fault.PAGE_FAULT, Fault.REBOOT]


class TestAProgramThroughKmsg:
    """`devkmsg_write` in kernel/printk/printk.c: facility 0 is the kernel's alone."""

    def test_makes_no_report(self) -> None:
        for priority in (8, 12, 28, 191):
            text = f"<{priority}>[    2.000000] Kernel panic - not syncing: fooled you\n"
            assert reports_in(text) == ()

    def test_does_not_get_into_the_kernels_report(self) -> None:
        lines = [f"<4>{line}" for line in text_of("warning").splitlines()]
        lines.insert(5, "<12>[   21.000004] BUG: mine")
        assert "mine" not in one("\n".join(lines)).text
