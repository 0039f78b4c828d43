"""What the kernel's reports are taken for: class, title, guilty function, text.

The reports are in `reports/`, one a file, in the formats of Linux 6.1 to 6.18.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path

import pytest

from linklab.console.formats import Fault
from linklab.console.lines import Line, read_line
from linklab.console.report import Report
from linklab.console.watch import MAX_LINES, MAX_REPORTS, ConsoleWatch, reports_in
from linklab.errors import Verdict

REPORTS = Path(__file__).parent / "reports"
CASES = Path(__file__).parent / "cases" / "console"

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
        "BUG: sleeping function called from invalid context in dummy_get_stats64",
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
    "warning_on_warn": (Fault.WARNING, "WARNING in rtnl_dellink"),
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


def kernel_lines(name: str) -> list[Line]:
    lines = [read_line(raw) for raw in text_of(name).splitlines()]
    return [line for line in lines if line.seconds is not None]


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


def case(name: str) -> tuple[dict[str, str], tuple[Report, ...]]:
    """Return what is expected of a case, and the reports in it."""
    lines = (CASES / f"{name}.expect").read_text().splitlines()
    expected = dict(line.split(": ", 1) for line in lines)
    return expected, reports_in((CASES / f"{name}.log").read_text())


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.log")))
def test_a_case_is_what_is_expected_of_it(name: str) -> None:
    expected, reports = case(name)
    if expected.get("reports") == "0":
        assert reports == ()
        return
    first = reports[0]
    assert first.fault.value in expected["class"].split("|")
    assert first.function in expected["function"].split("|")
    assert first.title == expected["title"]
    assert len(reports) == 1 + int(expected.get("more", 0))
    if other := expected.get("same_fingerprint_as"):
        assert first.fingerprint == case(other)[1][0].fingerprint


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

    def test_is_the_outermost_helper_where_there_are_no_others(self) -> None:
        trace = [
            "RIP: 0010:kfree+0x1/0x9",
            "Call Trace:",
            " kfree_skb+0x1/0x9",
            " entry_SYSCALL_64+0x1/0x9",
        ]
        report = one(stamped(["BUG: Bad page state in process ip", *trace]))
        assert report.function == "kfree_skb"
        assert report.stack_key[0] == "kfree_skb"

    def test_is_told_apart_by_its_helpers_where_there_is_nothing_else(self) -> None:
        hung = [
            "INFO: task ip:51 blocked for more than 20 seconds.",
            "Call Trace:",
            " schedule+0x1/0x9",
        ]
        one_way, other = (
            one(stamped([*hung, f" {helper}+0x1/0x9"])) for helper in ("__mutex_lock", "down_read")
        )
        assert one_way.title == other.title == "INFO: task hung"
        assert one_way.fingerprint != other.fingerprint

    def test_is_behind_a_warning_that_names_none(self) -> None:
        headline = "WARNING: net/core/dev.c:12 at 0x0, CPU#0: ip/51"
        trace = ["RIP: 0010:__WARN_trap+0x1/0x9", "Call Trace:", " dummy_poll+0x1/0x9"]
        assert one(stamped([headline, *trace])).title == "WARNING in dummy_poll"

    def test_of_leaked_work_is_the_work(self) -> None:
        headline = "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]"
        lines = [
            headline,
            "     preempt=0x00000000 lock=0->1 RCU=0->0 workfn=dummy_work",
            "Call Trace:",
        ]
        assert one(stamped([*lines, " process_one_work+0x1/0x9"])).function == "dummy_work"

    @pytest.mark.parametrize("prefix", ["__x64_", "__ia32_", "__se_", "__do_"])
    def test_can_be_a_system_calls_body(self, prefix: str) -> None:
        fault = "BUG: kernel NULL pointer dereference, address: 0000000000000010"
        trace = [f"RIP: 0010:{prefix}sys_bind+0x1/0x9", "Call Trace:", " do_syscall_64+0x1/0x9"]
        assert one(stamped([fault, *trace])).function == "sys_bind"

    def test_of_a_bad_page_is_who_allocated_it_where_that_is_known(self) -> None:
        lines = [
            "BUG: Bad page state in process ip  pfn:11c5a",
            "page_owner tracks the page as allocated",
            "page last allocated via order 0, migratetype Unmovable, gfp_mask 0x140dca, pid 51",
            " post_alloc_hook+0x1/0x9",
            " alloc_pages_noprof+0x1/0x9",
            " dummy_map_ring+0x1/0x9",
            "page last free pid 50 tgid 50 stack trace:",
            " free_unref_page+0x1/0x9",
            " dummy_free_ring+0x1/0x9",
            "Call Trace:",
            " bad_page+0x1/0x9",
            " dummy_unmap+0x1/0x9",
        ]
        assert one(stamped(lines)).title == "BUG: Bad page state in dummy_map_ring"

    def test_of_an_unsafe_lock_order_is_who_takes_the_lock_in_the_interrupt(self) -> None:
        lines = [
            "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
            "ip/51 [HC0[0]:SC0[2]:HE1:SE0] is trying to acquire:",
            "ffff888003a541f0 (&b->lock){+.+.}-{2:2}, at: dummy_connects_them+0x1/0x9",
            "but this new dependency connects a SOFTIRQ-irq-safe lock:",
            " (&a->lock){+.-.}-{2:2}",
            "... which became SOFTIRQ-irq-safe at:",
            "  lock_acquire+0x1/0x9",
            "  _raw_spin_lock+0x1/0x9",
            "  dummy_poll+0x1/0x9",
            "to a SOFTIRQ-irq-unsafe lock:",
            "... which became SOFTIRQ-irq-unsafe at:",
            "...  lock_acquire+0x1/0x9",
            "  dummy_open+0x1/0x9",
            "stack backtrace:",
            "Call Trace:",
            " dummy_connects_them+0x1/0x9",
        ]
        assert one(stamped(lines)).function == "dummy_poll"

    def test_of_a_deadlock_holds_one_lock_where_a_helper_asks_for_the_other(self) -> None:
        text = text_of("deadlock").replace("at: dev_set_mtu+", "at: __flush_work+")
        assert one(text).function == "rtnetlink_rcv_msg"

    @pytest.mark.parametrize(
        "helper",
        [
            "nla_strscpy", "nla_memcpy", "proc_dostring", "platform_device_unregister",
            "unregister_netdevice_queue", "tun_get_user", "kthread_flush_work", "netdev_err",
            "krealloc_noprof", "rhashtable_lookup", "xas_find", "hlist_del_init_rcu",
        ],
    )  # fmt: skip
    def test_is_whoever_called_a_helper(self, helper: str) -> None:
        trace = ["Call Trace:", f" {helper}+0x1/0x9", " dummy_caller+0x1/0x9"]
        headline = f"BUG: KASAN: slab-use-after-free in {helper}+0x1/0x9"
        assert one(stamped([headline, *trace])).function == "dummy_caller"

    @pytest.mark.parametrize(
        "worker",
        [
            "idr_for_each", "radix_tree_next_chunk", "mas_next_slot", "xas_store", "consume_skb",
            "iov_iter_revert", "get_device", "mod_delayed_work_on", "skb_clone", "sk_reset_timer",
            "hrtimer_start_range_ns", "remove_proc_entry", "percpu_ref_get_many", "vfree",
            "csum_partial", "find_lock_task_mm", "atomic_notifier_call_chain", "seq_printf",
            "netlink_realloc_groups", "skb_realloc_headroom", "p9_client_read_once",
            "trace_event_raw_event_sys_enter", "do_user_addr_fault", "futex2_setup_timeout",
        ],
    )  # fmt: skip
    def test_is_what_only_resembles_a_helper(self, worker: str) -> None:
        trace = ["Call Trace:", f" {worker}+0x1/0x9", " dummy_caller+0x1/0x9"]
        headline = f"BUG: KASAN: slab-use-after-free in {worker}+0x1/0x9"
        assert one(stamped([headline, *trace])).function == worker

    @pytest.mark.parametrize("lock", ["rtnl_lock", "lock_sock_nested", "hrtimer_start_range_ns"])
    def test_of_a_deadlock_is_who_takes_the_lock_for_others(self, lock: str) -> None:
        text = text_of("deadlock").replace("at: dev_set_mtu+", f"at: {lock}+")
        assert one(text).title == f"possible deadlock in {lock}"

    @pytest.mark.parametrize("free", ["kfree_sensitive", "vfree", "kvfree_rcu_bulk"])
    def test_of_a_wrong_free_is_who_frees(self, free: str) -> None:
        trace = ["Call Trace:", f" {free}+0x1/0x9", " dummy_close+0x1/0x9"]
        report = one(stamped([f"BUG: KASAN: double-free in {free}+0x1/0x9", *trace]))
        assert report.title == "KASAN: double-free in dummy_close"

    def test_of_a_bug_in_skb_put_is_its_caller(self) -> None:
        trace = [
            "RIP: 0010:skb_panic+0x1/0x9",
            "Call Trace:",
            " skb_put+0x1/0x9",
            " dummy_xmit+0x1/0x9",
        ]
        report = one(stamped(["kernel BUG at net/core/skbuff.c:206!", *trace]))
        assert report.title == "kernel BUG in dummy_xmit"

    def test_of_a_name_in_proc_that_is_there_is_who_registers_it(self) -> None:
        lines = [
            "WARNING: CPU: 0 PID: 51 at fs/proc/generic.c:377 proc_register+0x1/0x9",
            "Call Trace:",
            " proc_create_net_data+0x1/0x9",
            " dummy_net_init+0x1/0x9",
        ]
        report = one(stamped(lines))
        assert report.title == "WARNING: proc registration bug in dummy_net_init"

    @pytest.mark.parametrize("allocates", ["sk_prot_alloc", "idr_get_free", "do_mmap"])
    def test_of_a_leak_allocates_nothing(self, allocates: str) -> None:
        lines = ["BUG: memory leak", "  backtrace:", f"    {allocates}+0x1/0x9"]
        assert one(stamped([*lines, "    dummy_open+0x1/0x9"])).title == "memory leak in dummy_open"


class TestADecodedReport:
    """By scripts/decode_stacktrace.sh, by syzbot, by the lab."""

    @pytest.mark.parametrize(
        "place",
        [
            "dummy_xmit+0x1c5/0x2a0 drivers/net/dummy.c:52",
            "dummy_xmit+0x1c5/0x2a0 [dummy]",
            "dummy_xmit (drivers/net/dummy.c:52)",
            "dummy_xmit (include/linux/skbuff.h:9 drivers/net/dummy.c:52 (discriminator 1)) dummy",
        ],
    )
    @pytest.mark.parametrize("behind", ["", "Call Trace:"])
    def test_is_read_like_any_other(self, place: str, behind: str) -> None:
        lines = [
            f"BUG: KASAN: slab-use-after-free in {place}",
            "Read of size 4 at addr ffff888",
            behind,
        ]
        report = one(stamped([*lines, f" {place}", " dev_queue_xmit (net/core/dev.c:12)"]))
        assert report.title == "KASAN: slab-use-after-free Read in dummy_xmit"
        assert report.stack_key == ("dummy_xmit", "dev_queue_xmit")

    def test_names_inlined_functions_first(self) -> None:
        kasan = "BUG: KASAN: use-after-free in"
        lines = [
            f"{kasan} list_empty include/linux/list.h:37 [inline]",
            f"{kasan} dummy_poll+0x1/0x9 d.c:2",
        ]
        assert one(stamped(lines)).title == "KASAN: use-after-free in dummy_poll"

    def test_can_be_of_a_race_in_modules(self) -> None:
        headline = "BUG: KCSAN: data-race in dummy_poll [dummy] / dummy_xmit [dummy]"
        assert one(stamped([headline])).title == "KCSAN: data-race in dummy_poll / dummy_xmit"

    def test_has_its_instruction_pointer(self) -> None:
        lines = ["Oops: general protection fault, probably for", "RIP: 0010:dummy_xmit (d.c:52)"]
        assert one(stamped(lines)).title == "general protection fault in dummy_xmit"


class TestAnOldKernels:
    """What 4.9 to 4.12 said otherwise."""

    @pytest.mark.parametrize(
        ("headline", "fault", "title"),
        [
            (
                "[ INFO: possible circular locking dependency detected ]",
                Fault.LOCKDEP,
                "possible deadlock in dummy_poll",
            ),
            (
                "[ INFO: inconsistent lock state ]",
                Fault.LOCKDEP,
                "inconsistent lock state in dummy_poll",
            ),
            (
                "[ BUG: ip/51 still has locks held! ]",
                Fault.LOCKDEP,
                "WARNING: still has locks held in dummy_poll",
            ),
            ("[ BUG: held lock freed! ]", Fault.LOCKDEP, "WARNING: held lock freed in dummy_poll"),
            (
                "[ INFO: suspicious RCU usage. ]",
                Fault.RCU,
                "WARNING: suspicious RCU usage in dummy_poll",
            ),
            (
                "[ ERR: suspicious RCU usage.  ]",
                Fault.RCU,
                "WARNING: suspicious RCU usage in dummy_poll",
            ),
        ],
    )
    def test_lockdep_puts_it_in_brackets(self, headline: str, fault: Fault, title: str) -> None:
        trace = ["stack backtrace:", "Call Trace:", " [<ffffffff81390889>] dump_stack+0x85/0xc2"]
        trace.append(" [<ffffffff816dea24>] dummy_poll+0xe4/0x140")
        report = one(stamped(["=" * 30, headline, *trace]))
        assert (report.fault, report.title) == (fault, title)

    def test_kasan_shows_the_slab_in_between(self) -> None:
        lines = [
            "=" * 66,
            "BUG: KASAN: use-after-free in kfree_skb+0x2b/0x90 at addr ffff8800694fc440",
            "Read of size 4 by task ip/51",
            "=" * 77,
            "BUG kmalloc-1024 (Not tainted): kasan: bad access detected",
            "-" * 77,
            "INFO: Allocated in dummy_open+0x1/0x9 age=3 cpu=0 pid=51",
            "\t___slab_alloc+0x1/0x9",
            "\tdummy_init+0x1/0x9",
            "INFO: Freed in dummy_close+0x1/0x9 age=1 cpu=0 pid=51",
            "\tkfree+0x1/0x9",
            "CPU: 0 PID: 51 Comm: ip Tainted: G    B           4.9.0 #1",
            "Call Trace:",
            " [<ffffffff81390889>] dump_stack+0x85/0xc2",
            " [<     inline     >] atomic_read ./arch/x86/include/asm/atomic.h:26",
            " [<ffffffff816dea24>] kfree_skb+0x2b/0x90",
            " [<ffffffff816dea25>] ? dummy_doubted+0x2b/0x90",
            " [<ffffffff816dea26>] dummy_poll+0xe4/0x140",
            "Memory state around the buggy address:",
            "=" * 66,
        ]
        assert one(stamped(lines)).title == "KASAN: use-after-free Read in dummy_poll"

    @pytest.mark.parametrize(
        "pointer",
        [
            "IP: [<ffffffffa009e8fa>] dummy_poll+0x8aa/0x1210 [dummy]",
            "IP: dummy_poll+0x8aa/0x1210",
            "EIP: dummy_poll+0x8aa/0x1210",
            "PC is at dummy_poll+0xa8/0x148",
        ],
    )
    def test_the_instruction_pointer_had_other_names(self, pointer: str) -> None:
        headline = "BUG: unable to handle kernel NULL pointer dereference at           (null)"
        trace = ["Call Trace:", " [<ffffffff816dea24>] ? dummy_irq+0x1/0x9"]
        oops = ["Oops: 0000 [#1] SMP", pointer][:: -1 if "IP:" in pointer else 1]
        assert one(stamped([headline, *oops, *trace])).function == "dummy_poll"


class TestReportsInARow:
    def test_are_told_apart(self) -> None:
        text = text_of("warning") + text_of("kasan") + text_of("hung_task")
        faults = [report.fault for report in reports_in(text)]
        assert faults == [Fault.WARNING, Fault.KASAN, Fault.HUNG_TASK]

    def test_are_told_apart_although_the_first_has_no_stack(self) -> None:
        later = text_of("sleeping").replace("[   41.", "[   14.")
        faults = [report.fault for report in reports_in(text_of("lock_held") + later)]
        assert faults == [Fault.LOCKDEP, Fault.ATOMIC]

    @pytest.mark.parametrize("name", EXPECTED)
    @pytest.mark.parametrize("other", ["warning", "bug_on", "hung_task", "rcu_stall"])
    def test_of_two_speakers_at_the_same_time_are_told_apart(self, name: str, other: str) -> None:
        said = [[line.text for line in kernel_lines(each)] for each in (name, other)]
        if name == other or not said[0]:
            return
        for callers in (("   T51", "    C1"), ("    C1", "   T51")):
            mixed = []
            for i, (one_line, another) in enumerate(zip_longest(*said)):
                for caller, text in zip(callers, (one_line, another), strict=True):
                    mixed += [f"[   80.{i:06}][{caller}] {text}"] if text is not None else []
            found = reports_in("\n".join(mixed))
            assert {report.title for report in found} == {EXPECTED[name][1], EXPECTED[other][1]}
            for report in found:
                assert len({read_line(line).caller for line in report.text.splitlines()}) == 1

    def test_of_which_one_stands_still_has_the_stacks_of_other_cpus(self) -> None:
        stall = stamped(["rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"], 9.0, "[    C0]")
        told = ["NMI backtrace for cpu 1", "RIP: 0010:dummy_poll+0x1/0x9", "Call Trace:"]
        other = stamped(["dummy0: up"], 9.002, "[   T51]")
        text = stall + stamped(told, 9.001, "[    C1]") + other
        assert one(text).title == "INFO: rcu detected stall in dummy_poll"
        assert "dummy0" not in one(text).text

    def test_of_which_each_ends_in_a_panic_are_told_apart(self) -> None:
        bug, kmsan = ([line.text for line in kernel_lines(name)] for name in ("bug_on", "kmsan"))
        at = next(i for i, text in enumerate(bug) if text.startswith("Kernel panic"))
        text = stamped(bug[:at], 80.0, "[   T51]") + stamped(kmsan, 80.1, "[    C1]")
        found = reports_in(text + stamped(bug[at:], 80.2, "[   T51]"))
        assert [report.title for report in found] == [EXPECTED["bug_on"][1], EXPECTED["kmsan"][1]]

    @pytest.mark.parametrize("name", EXPECTED)
    def test_of_which_the_first_is_advice_are_the_others(self, name: str) -> None:
        said = [line.text for line in kernel_lines(name)]
        advice = "WARNING: workqueue cpumask: online intersect > possible intersect"
        if said:
            assert one(stamped([advice, *said])).title == EXPECTED[name][1]

    def test_of_which_one_is_advice_are_not_torn_apart(self) -> None:
        lines = text_of("warning").splitlines()
        at = lines[-1].partition("]")[0]
        lines.insert(-2, f"{at}] WARNING: fbcon: Driver 'dummydrmfb' missed to adjust")
        assert one("\n".join(lines)).title == EXPECTED["warning"][1]

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


def test_leaks_that_a_program_shows_count_instead_of_their_sum() -> None:
    leak = "\n".join(line.partition("] ")[2] for line in text_of("kmemleak").splitlines())
    said = stamped(
        ["kmemleak: 1 new suspicious memory leaks (see /sys/kernel/debug/kmemleak)"], 9.0
    )
    shown = f"executed programs: 5\nBUG: memory leak\n{leak.replace('kmemleak: ', '')}\n"
    assert [report.title for report in reports_in(said)] == ["memory leak"]
    assert one(said + shown + stamped(["fine"], 10.0)).title == EXPECTED["kmemleak"][1]


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
