"""Functions that are never to blame for a report: it only passes through them.

They are data: names of functions as regular expressions, matched against the
whole name in the source, by the part of the kernel that they belong to. What
is common stands in every set; a kind of report adds what only it passes.
A function is a helper where its caller chose what went wrong: the pointer that
was read, the lock that was taken, the time at which it slept. Where one could
argue, it counts as it does for syzbot (syzkaller's pkg/report/linux.go), so that
what is known of a fault is found by its title: who adds to a list or frees a
packet is skipped, who walks an IDR, a maple tree or an iterator is not.
"""

from __future__ import annotations

import re
from functools import cache

# Dumping, trapping, warning, and the ways into the kernel: kernel/panic.c, arch/x86/entry,
# arch/x86/kernel/traps.c, arch/arm64/kernel/entry-common.c, kernel/softirq.c, tracing.
# A user's page fault is work of its own, and can deadlock: do_user_addr_fault is none of these.
_MACHINERY = r"""
    (__)?(dump|show)_(stack|trace|regs|backtrace)\w* | walk_stack\w*
    | (arch_)?stack_(trace|walk)\w* | \w*panic\w* | __warn\w* | __WARN\w*
    | warn_(slowpath|alloc|bogus)\w* | report_bug | handle_bug | \w*assfail | assertfail
    | get_taint | print_tainted\w* | add_taint | (asm_|instr_)?(exc|sysvec)_\w+
    | \w*(apic|irq_work|reschedule)\w*_interrupt | asm_\w+ | error_(entry|return|exit)
    | paranoid_\w+ | page_fault(_oops)? | async_page_fault | no_context | (__)?bad_area\w*
    | do_kern_addr_fault | (__)?do_kernel_fault | spurious_\w*fault | \w*_trap
    | do_(error_)?trap\w* | (do_|handle_)?invalid_op | (do_)?general_protection
    | (__)?die(_addr|_body|_header)? | oops_\w+ | kernelmode_fixup\w*
    | fixup_(exception|bug|umip\w*) | math_error
    | (default_do_|do_|exc_)?nmi(_\w+)? | end_repeat_nmi | common_interrupt | do_IRQ | ret_from_\w+
    | irqentry_\w+ | retint_\w+ | restore_regs\w* | (__)?irq_(enter|exit)\w* | (__)?do_softirq\w*
    | handle_softirqs | invoke_softirq | call_on_(irq)?stack | entry_(SYSCALL|SYSENTER|INT80)\w*
    | (__)?do_(fast_)?syscall_\w+ | do_int80\w* | sysenter_\w+ | (x64|ia32|x32)_sys_call
    | invoke_syscall | system_call\w* | el[01]\w*_\w+
    | do_(translation|page|mem|tag_check|alignment)_(fault|abort) | die_kernel_fault
    | do_sp_pc_abort | program_check_\w+ | __stack_chk_fail | __virt_addr_valid | __phys_addr\w*
    | __x86_(indirect|return)_\w+ | \w*_indirect_thunk\w* | srso_\w+ | retbleed_\w+ | __cfi_\w+
    | ftrace_(graph_|regs_)?(call|caller|stub)\w* | ftrace_ops_\w+func | perf_trace\w*
    | (trace|lockdep)_(hard|soft)irqs?\w* | should_fail\w* | __should_fail\w* | fail_dump
"""

# What a sanitizer puts between the report and the access; single words of memory.
_SANITIZERS = r"""
    \w*(k[acm]san|hwasan|kfence|ubsan|fortify)\w* | __(asan|msan|tsan|hwasan|sanitizer)_\w+
    | print_(report|address_description|error_description|memory_metadata)\w* | end_report
    | __schedule_bug | check_memory_region\w* | check_region_inline | memory_is_\w+
    | addr_has_metadata | check_canary\w* | instrument_\w+ | write_comp_data | handle_overflow
    | usercopy_\w+ | __?check_(heap_)?object\w* | check_copy_size | __copy_overflow
    | \w*(read|write)_once_\w*nocheck | __(read|write)_once_size\w* | read_word_at_a_time
    | \w*atomic(64)?_(long_)?(dec|inc|read|set|x?or|and|add|sub|fetch|(cmp)?xchg|try)\w*
    | \w*(test|set|clear|change)_bit\w* | generic_test_and_\w+_bit\w*
    | \w*(read|write)[bwlq](_relaxed)? | (in|out)[bwl] | logic_(in|out)\w*
"""

# Strings and copies of any subsystem: whoever called them gave the wrong pointer.
_COPIES = r"""
    \w*mem(cpy|set|move|cmp|chr|dup|zero)\w* | \w*string\w*
    | \w*str(n?cmp|[lns]?cpy|n?len|n?str|n?dup|chr)\w* | match_string
    | \w*copy_(to|from)_(user|iter|sockptr)\w* | rep_movs\w* | copy(in|out)
    | (simple_)?copy_\w*(page|folio)\w*_(to|from)_iter\w* | simple_copy_to_iter | (__|_)?clear_user
    | \w*(get|put)_user\w* | extract_(user|iter)_to_sg | (__)?crc(\d+|_\w+)\w*
    | hex_dump_to_buffer
"""

# lib/vsprintf.c, kernel/printk, drivers/base/core.c: they stand for who prints.
_PRINTING = r"""
    \w*printk\w* | \w*(sn|scn|kas)printf\w* | \w*pointer\w* | va_format | number
    | (print_)?hex_dump\w* | print_hex_dump\w* | ptr_to_(id|hashval)
    | \w*dev_(emerg|alert|crit|err|warn|notice|info)\w*
    | _?(dev|netdev|netif|net)_(emerg|alert|crit|err|warn|notice|info|dbg)\w*
"""

# Lists, trees and arrays: somebody put the wrong thing in, or frees too early.
_CONTAINERS = r"""
    \w*list_(add|del|replace|move|splice|entry_valid)\w* | klist_\w+ | (__)?rb_\w+
    | xas_(start|load|find)\w* | ida_free | \w*rhashtable_lookup\w*
"""

# Reference counts of all sorts of objects, and what checks their lives (lib/debugobjects.c).
_COUNTS = r"""
    (__)?refcount_\w+ | kref_\w+ | \w*ref_tracker\w* | debug_print_object | \w*debug_object\w*
    | __debug_\w+ | debug_check_no_obj_freed | (timer|work)_is_static_object
    | sock_(hold|put) | ((in|net)_?)?dev_(hold|put) | iput(_final)? | ihold | (fast_)?dput\w*
    | \w*drop_nlink | put_device
"""

# drivers/base, lib/kobject.c, fs/sysfs, net/core/dev.c, USB's requests: on behalf of a driver.
_OBJECTS = r"""
    \w*kobject_\w+ | add_uevent_var | get_device_parent
    | \w*device_(add|del|unregister|destroy|release)\w* | device_(for_each_child|remove_file)\w*
    | devres_release_all | \w*sysfs_remove\w* | hwrng_unregister | i2c_del_adapter
    | __unregister_client | tty_unregister_device | rollback_registered\w*
    | \w*unregister_netdev\w* | usb_(kill|submit|start_wait|hcd_submit)_urb
    | usb_kill_anchored_urbs | usb_(control|bulk|interrupt)_msg\w* | dummy_urb_enqueue
"""

# mm: allocators, also the page cache's, and what checks them; who frees a packet.
_MEMORY = r"""
    kv?free | __?k?v?free_\w*bulk | __kfree | \w*kmem_cache\w* | (_*|do_|memcg_)slab_\w+
    | (___)?cache_free | \w*kmemleak\w* | free_to_partial_list
    | (__)?free_(pages?|slab|unref|large|frozen)\w* | object_err
    | check_(object|bytes_and_report|slab)\w*
    | (alloc|free)_(consistency_checks|debug_processing)\w* | get_partial\w* | new_slab
    | allocate_slab | on_freelist | process_slab | discard_slab
    | (post_alloc_hook|prep_new_page|free_pages_prepare|bad_page|get_page_from_freelist)\w*
    | \w*alloc_(frozen_)?pages?\w* | \w*folio_alloc\w* | rmqueue\w* | put_page
    | __put_(single_)?page | free_(page_is_bad|pcp\w+) | check_(new|free)_pages?\w*
    | (__)?folio_(put|unlock)\w* | \w*[mzc]alloc\w* | (\w*_)?k[vm]?realloc\w*
    | (__)?alloc_percpu\w* | __get_free_pages? | get_zeroed_page\w*
    | __filemap_get_folio\w* | filemap_alloc_folio\w*
    | (find_or_create|pagecache_get|read_cache)_page\w* | do_read_cache_folio | grab_cache_page\w*
    | find_lock_entries | truncate_inode_pages_range | mark_buffer_dirty\w* | (un)?lock_page\w*
    | \w*kfree_skb\w* | skb_(over_|under_)?panic
"""

# kernel/time/timer.c, workqueue.c, kernel/sched/completion.c and wait.c
_DEFERRED = r"""
    \w*del_timer\w* | (__|try_to_)*timer_(delete|shutdown)\w* | __mod_timer | lock_timer_base
    | sk_stop_timer_sync | \w*flush_work\w* | (__)?(flush|drain|destroy)_workqueue
    | insert_w\w+ | __cancel_work(_timer|_sync)? | \w*cancel_work_sync | try_to_grab_pending
    | work_grab_pending | \w*queue_work\w* | __queue_delayed_work | queue_delayed_work_on
    | \w*wait_for_completion\w* | (__|do_)wait_for_common | complete | finish_wait | __wake_up\w*
    | \w*kthread_stop\w* | cleanup_srcu_struct
"""

# kernel/locking, RCU's readers, and who checks that one may sleep.
_LOCKS = r"""
    \w*lock_(acquire|release)\w* | lock_is_held\w* | \w*lockdep\w* | \w*lock_class\w* | hlock_\w+
    | (__|do_)?raw_(spin|read|write)_\w+ | _raw_\w+ | raw_spin_rq\w*
    | (native_)?queued_\w+_slowpath | __pv_\w+ | pv_wait\w* | (__)?spin_\w+ | rwlock_bug
    | \w*(spin|read|write)_(try|un)?lock\w* | (__|ww_)?mutex_\w+ | __ww_mutex\w*
    | (__)?rt_(mutex|spin)_\w+ | rtlock_\w+
    | (__)?(down|up) | \w*(down|up)_(read|write)\w* | (__)?down_(killable|interruptible|timeout)
    | \w*down_trylock\w* | ___?down_common | rwsem_\w+ | percpu_(down|up)\w*
    | __percpu_(down|up|rwsem)\w* | \w*osq_(un)?lock | owner_on_cpu
    | _*might_(sleep|fault|lock|resched|alloc)\w* | _*cant_(sleep|migrate)
    | check_(prev_add|prevs_add|noncircular|deadlock|irq_usage|flags|wait_context)\w*
    | validate_chain | (reacquire|mark)_held_locks\w* | mark_(lock|usage)\w* | valid_state\w*
    | save_trace | graph_lock | \w*_imbalance_bug\w*
    | print_(\w*bug|unlock\w*|\w*deadlock\w*|usage\w*|lock\w*|irq\w*|bad_irq\w*)(_\w+)?
    | find_usage_\w+ | find_lock_(class|in_list)\w* | seqcount_\w+ | seqprop_assert
    | do_write_seqcount_begin\w* | local_lock\w* | assign_lock_key | \w*bh_(en|dis)able\w*
    | __?bh_lock\w* | debug_(check|show)_(no|all)_locks\w*
"""

_COMMON = (
    _MACHINERY, _SANITIZERS, _COPIES, _PRINTING, _CONTAINERS, _COUNTS, _OBJECTS, _MEMORY,
    _DEFERRED, _LOCKS,
)  # fmt: skip

_SCHEDULER = r"""
    (__)?schedule\w* | context_switch | preempt_schedule\w* | io_schedule\w* | __cond_resched\w*
    | (__)?wait_\w* | do_wait\w* | bit_wait\w* | __switch_to\w* | prepare_to_wait\w* | msleep\w*
    | usleep\w* | (do_)?nanosleep | (clock|hrtimer)_nanosleep\w* | __wait_rcu_gp
    | synchronize_(rcu|net|srcu|sched)\w* | __synchronize_srcu\w* | rcu_barrier\w* | __flush_\w+
    | (__)?kthread_\w+ | __schedule_loop
"""

_WATCHDOGS = r"""
    watchdog_\w+ | softlockup_\w+ | hardlockup_\w+ | is_hardlockup\w* | perf_event_\w+
    | __?hrtimer_(run|interrupt)\w* | hrtimer_interrupt | __run_hrtimer | tick_\w+
    | update_process_times | scheduler_tick | sched_tick | rcu_(sched|pending|check|note|dump)\w*
    | print_(cpu|other_cpu)_stall\w* | check_cpu_stall | sched_show_task | trigger_\w+backtrace\w*
    | arch_trigger\w+ | __sysvec_\w+ | local_apic_timer\w* | run_(timer|local)\w*
    | smp_call_function\w* | generic_exec_single | csd_lock\w* | cpu_relax
    | native_(safe_halt|halt|apic_\w+) | pv_native\w* | delay_(tsc|loop|halt\w*)
    | __?(const_)?u?delay | __(const_)?udelay | on_each_cpu\w* | stop_\w+
"""

# Reading a clock is what a CPU happens to be at, not where it loops.
_CLOCKS = r"""
    \w*pvclock_\w+ | kvm_(sched_)?clock_\w+ | (__)?ktime_get\w* | timekeeping_\w+ | read_(tsc|hpet)
    | (native_|local_|paravirt_)*sched_clock\w* | local_clock\w* | rdtsc\w* | acpi_pm_read\w*
"""

_SOCKET_LOCKS = r"(__)?lock_sock\w* | release_sock | (__)?rtnl_(net_)?(un|try)?lock\w* | print_\w+"


@cache
def _compiled(group: str) -> re.Pattern[str]:
    return re.compile(group, re.VERBOSE)


class SkippedFrames:
    """Names of functions: what a name is asked for with `in`.

    Compiled when the first name is asked for: most guests report nothing, and
    all of these take 50 ms.
    """

    def __init__(self, *groups: str) -> None:
        self._groups = groups

    def __contains__(self, name: str) -> bool:
        return any(_compiled(group).fullmatch(name) for group in self._groups)


MACHINERY = SkippedFrames(_MACHINERY)
COMMON = SkippedFrames(*_COMMON)
# They check what their caller made of the packet.
BUGS = SkippedFrames(*_COMMON, r"(__)?skb_\w+")
FREES = SkippedFrames(*_COMMON, r"\w*(slab_|kfree|vunmap|vfree)\w*")
PROC = SkippedFrames(*_COMMON, r"\w*proc_\w*")
KMSAN = SkippedFrames(
    *_COMMON,
    r"\w*alloc_skb\w* | netlink_(ack|rcv_skb)\w* | \w+_encrypt | (crypto|cipher|drbg|rng)_\w+",
)
UBSAN = SkippedFrames(*_COMMON, r"\w*overflow\w*")
LIVES = SkippedFrames(
    *_COMMON,
    r"\w*((debug|hrtimer|timer|work|percpu)_|rcu|vfree|vunmap|__free_)\w*",
)
PAGES = SkippedFrames(
    *_COMMON,
    r"\w*(free|put|get|update|release)_page\w* | (__)?folio\w* | truncate_inode_pages\w*"
    r"| page_frag_free | \w*alloc\w* | \w*vmap\w* | \w*page_owner\w* | \w*free_unref\w*",
)
# Who takes a lock for its caller is named: "possible deadlock in lock_sock_nested".
DEADLOCKS = SkippedFrames(*_COMMON, r"process_one_work")
LOCKDEP = SkippedFrames(*_COMMON, r"lock_sock\w* | release_sock")
SPINLOCKS = SkippedFrames(*_COMMON, r"\w*(spin_|_lock|_unlock)\w*")
KEYS = SkippedFrames(*_COMMON, r"\w*(stack|lock|IRQ)\w*")
# `_rcu` in a name says that the caller must be a reader.
RCU = SkippedFrames(*_COMMON, r"\w*rcu\w*")
LEAKS = SkippedFrames(
    *_COMMON,
    r"\w*(alloc|mmap|kmem|slab|create_object|idr_get|list_lru_init|pcpu_create)\w*",
)
STANDSTILL = SkippedFrames(*_COMMON, _SCHEDULER, _SOCKET_LOCKS, _WATCHDOGS, _CLOCKS)
ATOMIC = SkippedFrames(
    *_COMMON, r"\w*preempt\w* | debug_\w+ | \w*processor_id | \w*this_cpu\w* | (__)?schedule\w*"
)
